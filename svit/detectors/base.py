"""One interface for a Mask R-CNN whatever framework runs it.

The base class does what both frameworks share: padding, the backbone, seeds of random masks,
precision, and weights under one set of names (detectron2's). A framework adds the way from feature
maps to losses or detections. Inference follows mmdet 2.28; where its training differs from detectron2's
(matching and sampling, reference.md 8), both frameworks do as detectron2.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from svit.core.config import Config
from svit.core.coverage import token_cover
from svit.core.types import Detections, ImageId, Target
from svit.data.samples import Sample, pad_batch, padded_hw
from svit.models.backbone import Backbone
from svit.pruning.streams import looks_back

Maps = dict[str, Tensor]
Near = Sequence[Tensor] | None  # boxes (n, 4) of each image, in pixels as the model sees it
Proposals = Any  # of one image, as a framework holds them; a mask picks some
NEAR = 0.4  # least IoU with a box of `near` for which a detection is computed to its end
ASPECT_RATIOS = (0.5, 1.0, 2.0)  # height / width of the anchors
BOX_WEIGHTS = (10.0, 10.0, 5.0, 5.0)  # mmdet's stds .1 .1 .2 .2
LEVELS = {"p2": 4, "p3": 8, "p4": 16, "p5": 32, "p6": 64}  # FPN maps and their strides
POOLED_LEVELS = ("p2", "p3", "p4", "p5")  # p6 serves proposals only
BOX_CELLS, MASK_CELLS = 7, 14  # sides of pooled regions; masks come out at twice the side


class NumbersError(ValueError):
    """A model gave numbers that are not finite."""


class Detector(nn.Module):
    """Samples in, losses or detections out.

    The backbone runs in the caller's precision (autocast), everything behind it in float32; in bfloat16,
    whose range is float32's, the heads follow at inference, but for boxes, scores and pooling.

    Attributes:
        config: everything it was built from, with `framework` resolved.
        backbone: the ViT backbone below the FPN (not the FPN).
        framework: "torchvision" or "detectron2".
        names: prefix of a parameter's name here -> prefix of its canonical (detectron2) name.
        seed: of the random masks in the inference mode `sample`; every image has its own.
        class_names: of the labels, as the weights name them; empty where they do not.
        guesses: what there is to tell of settings that the weights do not hold; empty where they do.
    """

    framework: ClassVar[str]
    names: Mapping[str, str]

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.seed = 0
        self.class_names: tuple[str, ...] = ()
        self.guesses: tuple[str, ...] = ()

    @property
    def backbone(self) -> Backbone:
        """The backbone with its method; the frameworks keep it at different places."""
        raise NotImplementedError

    def losses(self, samples: Sequence[Sample]) -> dict[str, Tensor]:
        """Training losses, each weighted: detectron2's names, and `ratio_loss` from gated methods.

        Raises:
            RuntimeError: the detector is not in training mode.
            ValueError: a sample has no target.
        """
        self._expect_mode(training=True)
        targets = [training_target(sample) for sample in samples]
        if self.backbone.method.taught:
            padded = padded_hw(samples, self.config.data.pad_multiple)
            cover = object_cover(samples, targets, padded, self.config.backbone.patch)
            self.backbone.show_objects(cover.to(samples[0].image.device))
        images, maps = self._maps(samples)
        with torch.autocast(images.device.type, enabled=False):
            losses = self._losses(images, maps, samples, targets)
        return {**losses, **self.backbone.take_losses()}

    @torch.no_grad()
    def predict(
        self, samples: Sequence[Sample], near: Sequence[np.ndarray] | None = None
    ) -> list[Detections]:
        """Detections in source pixels with boolean masks, one a sample.

        All samples are padded to one size, and padding takes part in every decision: samples of one
        `padded_hw` come out as they do alone, others do not, so
        `svit.evaluation.passes.run_detector` splits them.

        Args:
            near: float (boxes, 4) a sample, in source pixels: proposals that touch none of them are left out,
                and with them most of the heads' work. Detections with an IoU of at least `NEAR` with a box
                come out as without, unless the limit of detections an image cut them there; others may.

        Raises:
            RuntimeError: the detector is not in `eval()` mode.
            NumbersError: its feature maps are not finite.
        """
        self._expect_mode(training=False)
        seeds, frames = image_seeds(samples, self.seed), [sample.frame for sample in samples]
        backbone = self.backbone
        backbone.seed_images(seeds)
        backbone.show_frames(frames)
        images, maps = self._maps(samples)
        expect_finite([sample.image_id for sample in samples], maps)
        device = images.device.type
        half = torch.is_autocast_enabled(device)
        half = half and torch.get_autocast_dtype(device) == torch.bfloat16
        with torch.autocast(device, torch.bfloat16, enabled=half):
            found = self._detections(images, maps, samples, _resized(near, samples))
        if frames[0] is not None:
            self._look_back(found, samples)
        return found

    def _look_back(self, found: Sequence[Detections], samples: Sequence[Sample]) -> None:
        """Tells a method that wants to know what was found in a frame."""
        method = self.backbone.method
        if looks_back(method):
            padded = padded_hw(samples, self.config.data.pad_multiple)
            method.notice(found[0], samples[0].grid(padded, self.config.backbone.patch))

    def forward(self, samples: Sequence[Sample]) -> dict[str, Tensor] | list[Detections]:
        """`losses` in training mode and `predict` otherwise: what DistributedDataParallel calls."""
        return self.losses(samples) if self.training else self.predict(samples)

    def _losses(
        self,
        images: Float[Tensor, "batch 3 height width"],
        maps: Maps,
        samples: Sequence[Sample],
        targets: Sequence[Target],
    ) -> dict[str, Tensor]:
        """Losses of proposals, boxes and masks from the float32 maps c2..c5."""
        raise NotImplementedError

    def _detections(
        self,
        images: Float[Tensor, "batch 3 height width"],
        maps: Maps,
        samples: Sequence[Sample],
        near: Near = None,
    ) -> list[Detections]:
        """Detections in source pixels from the float32 maps c2..c5, of proposals that touch a box of `near`
        (None for all); autocast may be on to bfloat16."""
        raise NotImplementedError

    def _maps(self, samples: Sequence[Sample]) -> tuple[Tensor, Maps]:
        """The padded batch, and its feature maps in float32."""
        images = pad_batch(samples, self.config.data.pad_multiple)
        return images, {name: values.float() for name, values in self.backbone(images).items()}

    def _expect_mode(self, training: bool) -> None:
        if self.training != training:
            wanted, method = ("train", "losses") if training else ("eval", "predict")
            raise RuntimeError(f"{method}() needs {wanted} mode; call detector.{wanted}() first")

    def canonical_state_dict(self) -> dict[str, Tensor]:
        """Parameters and buffers under detectron2's names, whatever framework holds them."""
        return {renamed(name, self.names): value for name, value in self.state_dict().items()}

    def load_canonical(self, state: Mapping[str, Tensor]) -> None:
        """Loads what `canonical_state_dict` of any framework returned; strict.

        Raises:
            ValueError: a tensor is missing, unknown or of another shape; nothing is loaded then.
        """
        here = {renamed(name, self.names): name for name in self.state_dict()}
        problem = mismatch(self.canonical_state_dict(), state)
        if problem:
            raise ValueError(f"these weights do not fit {self.config.name!r}: {problem}")
        self.load_state_dict({here[name]: value for name, value in state.items()})


def _resized(near: Sequence[np.ndarray] | None, samples: Sequence[Sample]) -> Near:
    """Boxes of source pixels in those of the images as the model sees them."""
    if near is None:
        return None
    boxes = []
    for own, sample in zip(near, samples, strict=True):
        scale = [there / here for there, here in zip(sample.resized_hw, sample.image_hw)]
        boxes.append(sample.image.new_tensor(np.asarray(own, np.float32) * (scale[::-1] * 2)))
    return boxes


def touching(
    proposals: Sequence[Proposals],
    near: Sequence[Tensor],
    boxes: Callable[[Proposals], Tensor],
) -> Sequence[Proposals]:
    """Of the proposals of each image those that share an area with a box of `near`.

    Args:
        boxes: those (n, 4) of an image's proposals.
    """
    kept = []
    for own, others in zip(proposals, near, strict=True):
        first, second = boxes(own)[:, None], others[None]
        starts = torch.maximum(first[..., :2], second[..., :2])
        ends = torch.minimum(first[..., 2:], second[..., 2:])
        kept.append(own[(ends > starts).all(dim=-1).any(dim=1)])
    return kept


def expect_finite(image_ids: Sequence[ImageId], maps: Maps) -> None:
    """Values that are not finite vanish in comparisons: an image would come out as one without objects.

    Raises:
        NumbersError: a map of an image holds such a value.
    """
    for name, values in maps.items():
        for image_id, own in zip(image_ids, values, strict=True):
            if not torch.isfinite(own).all():
                raise NumbersError(
                    f"image {image_id!r}: the model's feature map {name} is not finite; its weights "
                    "are damaged, or --dtype is too narrow for it (try float32)"
                )


def renamed(name: str, prefixes: Mapping[str, str]) -> str:
    """The name with its first matching prefix replaced; names that match none stay."""
    for old, new in prefixes.items():
        if name.startswith(old):
            return new + name[len(old) :]
    return name


def mismatch(expected: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> str:
    """What keeps `found` from being loaded where `expected` is; an empty string if nothing does."""
    shapes = [
        f"{name} {tuple(found[name].shape)} instead of {tuple(expected[name].shape)}"
        for name in sorted(expected.keys() & found.keys())
        if found[name].shape != expected[name].shape
    ]
    kinds = {
        "missing": sorted(expected.keys() - found.keys()),
        "unexpected": sorted(found.keys() - expected.keys()),
        "of another shape": shapes,
    }
    return "; ".join(
        f"{len(names)} {kind} ({_some(names)})" for kind, names in kinds.items() if names
    )


def _some(names: Sequence[str], limit: int = 5) -> str:
    return ", ".join(names[:limit]) + (", ..." if len(names) > limit else "")


def training_target(sample: Sample) -> Target:
    """The objects a detector learns from: no crowds, no boxes without area (as in mmdet).

    Raises:
        ValueError: the sample has no target.
    """
    target = sample.target
    if target is None:
        raise ValueError(f"image {sample.image_id!r}: training needs a target, found none")
    sides = target.boxes_xyxy[:, 2:] - target.boxes_xyxy[:, :2]
    keep = ~target.crowd & (sides > 0).all(axis=1)
    return target if keep.all() else target[keep]


def object_cover(
    samples: Sequence[Sample], targets: Sequence[Target], padded: tuple[int, int], patch: int
) -> Float[Tensor, "batch tokens"]:
    """Share of each token that objects cover in a batch of the padded size; 0 in the padding."""
    maps = []
    for sample, target in zip(samples, targets, strict=True):
        grid = sample.grid(padded, patch)
        cover = np.zeros(grid.grid_hw, np.float32)
        rows, columns = grid.valid_hw
        cover[:rows, :columns] = token_cover(target.masks.any(axis=0, keepdims=True), grid)[0]
        maps.append(torch.from_numpy(cover.ravel()))
    return torch.stack(maps)


def image_seed(image_id: ImageId, seed: int) -> int:
    """A random seed that depends on the image's id alone, not on its place in the run."""
    return zlib.crc32(f"{seed}:{image_id}".encode())


def image_seeds(samples: Sequence[Sample], seed: int) -> list[int]:
    """One random seed an image; see `image_seed`."""
    return [image_seed(sample.image_id, seed) for sample in samples]
