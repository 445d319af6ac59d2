"""What detectron2's own tools need beside the model: its resize, a model from one line, counts of operators.

    augmentations = [ResizeAsCv2(800, 1333)]
    mapper = DatasetMapper(is_train=False, augmentations=augmentations, image_format="RGB")

detectron2's `ResizeShortestEdge` resizes by PIL, which antialiases: masks and detections of weights that
were trained with mmdet's pictures change. `docs/detectron2.md` shows every tool.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from detectron2.config import get_cfg
from detectron2.data import transforms
from fvcore.nn.flop_count import _DEFAULT_SUPPORTED_OPS
from fvcore.nn.jit_handles import get_shape, matmul_flop_jit
from fvcore.transforms.transform import Transform

from svit.core.macs import BILINEAR
from svit.core.presets import load_config
from svit.data.images import resize_hw, resize_image
from svit.detectors.detectron2_rcnn import SViTRCNN, add_svit_config


class ResizeAsCv2(transforms.Augmentation):
    """To fit (long_side, short_side) with the aspect kept, in mmdet's sizes and cv2's pixels.

    Args:
        short_sides: pixels; of several one is drawn for every picture.
        long_side: pixels, an upper bound.
    """

    def __init__(self, short_sides: int | Sequence[int] = 800, long_side: int = 1333) -> None:
        super().__init__()
        self.short_sides = [short_sides] if isinstance(short_sides, int) else list(short_sides)
        self.long_side = long_side

    def get_transform(self, image: np.ndarray) -> Transform:
        """For an image (height, width, channels); one of several short sides is drawn by `numpy.random`."""
        short_side = int(np.random.choice(self.short_sides))
        size = (int(image.shape[0]), int(image.shape[1]))
        return _ResizeAsCv2(*size, *resize_hw(size, short_side, self.long_side))


class _ResizeAsCv2(transforms.ResizeTransform):
    """detectron2's for coordinates and masks; pictures of 8 bits by `resize_image`."""

    def apply_image(self, img: np.ndarray, interp: int | None = None) -> np.ndarray:
        if interp is None and img.dtype == np.uint8 and img.ndim == 3:
            return resize_image(img, (self.new_h, self.new_w))
        return super().apply_image(img, interp)


def build_rcnn(preset: str, overrides: Sequence[str] = (), device: str = "cpu") -> SViTRCNN:
    """A model for lazy configurations: `model = LazyCall(build_rcnn)(preset="svit-adapter-t")`.

    Args:
        preset: name or YAML file of one of our configurations.
        overrides: `section.key=value` of ours, such as `detector.classes=3`.

    Raises:
        ConfigError: see `svit.core.presets.load_config`.
    """
    cfg: Any = get_cfg()
    add_svit_config(cfg, load_config(preset, list(overrides)))
    cfg.MODEL.DEVICE = device
    return SViTRCNN(cfg).to(device)


def count_as_the_ledger() -> None:
    """Teaches fvcore's `FlopCountAnalysis` the operators of `FLOP_HANDLES`, for tools that make their own.

    Its counts (multiply-accumulates) are then those of `svit.core.macs.ledger`. A block that happens to keep
    every token does not use its gate, and the trace leaves that gate out.
    """
    _DEFAULT_SUPPORTED_OPS.update(FLOP_HANDLES)


def _attention(inputs: list[Any], outputs: list[Any]) -> int:
    """Fused attention: queries by keys, weights by values."""
    query, key, value = (get_shape(one) for one in inputs[:3])
    return math.prod(query[:-1]) * key[-2] * (query[-1] + value[-1])


def _corners(inputs: list[Any], outputs: list[Any]) -> float:
    """Deformable sampling on a CPU: a bag holds one corner of every point, four bags a point."""
    return math.prod(get_shape(inputs[1])) * get_shape(inputs[0])[-1] * BILINEAR / 4


def _points(inputs: list[Any], outputs: list[Any]) -> int:
    """Deformable sampling elsewhere."""
    return BILINEAR * math.prod(get_shape(outputs[0]))


def _matrices(inputs: list[Any], outputs: list[Any]) -> float:
    """Products; those from the left by a matrix that is no parameter resize a map, which does not count."""
    left = inputs[0]
    resizes = len(get_shape(left)) == 2 and left.node().kind() != "prim::Param"
    return 0 if resizes else matmul_flop_jit(inputs, outputs)


def _nothing(inputs: list[Any], outputs: list[Any]) -> int:
    """Normalising and resizing."""
    return 0


FLOP_HANDLES: dict[str, Callable[[list[Any], list[Any]], float]] = {
    "aten::scaled_dot_product_attention": _attention,
    "aten::embedding_bag": _corners,
    "aten::grid_sampler": _points,
    "aten::matmul": _matrices,
    "aten::batch_norm": _nothing,
    "aten::layer_norm": _nothing,
    "aten::upsample_nearest2d": _nothing,
    "aten::upsample_bilinear2d": _nothing,
}
