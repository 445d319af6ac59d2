"""Arrays as the model's input: resizing and normalising as the released weights expect it.

The official test pipeline (mmdet 2.28 `Resize`, `Normalize`; `configs/mask_rcnn/*` of
github.com/uzh-rpg/svit) resizes with cv2's bilinear filter in 8 bits and without antialiasing. One grey
level beside it, as torch's `interpolate` is, changes masks; PIL's and detectron2's resizers are further
off. So cv2's arithmetic stands here: no second OpenCV wheel to clash with, the same pixels on every
processor. Padding is `svit.data.samples.pad_batch`; files are read by `svit.data.reading`, whose names
also stand here.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

from svit.core.config import DataConfig
from svit.core.types import ImageId, Target, clip_boxes
from svit.data.reading import ImageError, image_size, read_image
from svit.data.samples import Sample

__all__ = [
    "ImageError",
    "image_size",
    "normalise",
    "prepare",
    "read_image",
    "resize_hw",
    "resize_image",
    "resize_masks",
    "resize_target",
]


def resize_hw(image_hw: tuple[int, int], short_side: int, long_side: int) -> tuple[int, int]:
    """Size that fits into (long_side, short_side) with the aspect kept, in pixels.

    s = min(long_side / max(h, w), short_side / min(h, w)); each side becomes int(side * s + 0.5), at least 1
    (mmcv `rescale_size`, reference of the released weights).
    """
    height, width = image_hw
    scale = min(long_side / max(height, width), short_side / min(height, width))
    return max(1, int(height * scale + 0.5)), max(1, int(width * scale + 0.5))


def resize_image(
    image: UInt8[np.ndarray, "height width channels"], new_hw: tuple[int, int]
) -> UInt8[np.ndarray, "new_height new_width channels"]:
    """Bilinear without antialiasing: bit for bit cv2's INTER_LINEAR of 8-bit pictures.

    11-bit weights, columns before rows, sums cut between; an exact half is the mean of four pixels
    (OpenCV 4 and 5, modules/imgproc/src/resize.cpp: `HResizeLinear`, `VResizeLinear`, `ResizeAreaFast`).
    """
    (height, width), (new_height, new_width) = image.shape[:2], new_hw
    if (height, width) == (new_height, new_width):
        return image
    if (height, width) == (2 * new_height, 2 * new_width):
        fours = image.reshape(new_height, 2, new_width, 2, -1).sum(axis=(1, 3), dtype=np.uint16)
        return (fours + 2 >> 2).astype(np.uint8)
    (left, right), (to_left, to_right) = _linear(width, new_width)
    (top, bottom), (to_top, to_bottom) = _linear(height, new_height)
    rows = image.take(left, axis=1) * to_left[:, None]
    rows += image.take(right, axis=1) * to_right[:, None]
    rows >>= 4
    pixels = rows.take(top, axis=0) * to_top[:, None, None] >> 16
    pixels += rows.take(bottom, axis=0) * to_bottom[:, None, None] >> 16
    return (pixels + 2 >> 2).astype(np.uint8)


def _linear(old: int, new: int) -> tuple[Int[np.ndarray, "2 new"], Int[np.ndarray, "2 new"]]:
    """Of every new place of a side the two old places it lies between, and their weights in 1/2048."""
    places = ((np.arange(new) + 0.5) * (1 / (new / old)) - 0.5).astype(np.float32)
    low = np.floor(places)
    part = places - low
    between = np.clip(np.stack([low, low + 1]), 0, old - 1).astype(np.intp)
    return between, np.rint(np.stack([1 - part, part]) * np.float32(2048)).astype(np.int32)


def resize_masks(
    masks: Bool[np.ndarray, "objects height width"], new_hw: tuple[int, int]
) -> Bool[np.ndarray, "objects new_height new_width"]:
    """Nearest neighbour as mmdet's `BitmapMasks.resize`: bit for bit cv2's INTER_NEAREST.

    Source index floor(i * (1 / (new / old))); the order of the divisions decides ties.
    """
    if masks.shape[1:] == tuple(new_hw):
        return masks
    rows, columns = (
        np.minimum(np.arange(new) * (1 / (new / old)), old - 1).astype(np.intp)
        for old, new in zip(masks.shape[1:], new_hw)
    )
    return masks.take(rows, axis=1).take(columns, axis=2)


def resize_target(target: Target, new_hw: tuple[int, int]) -> Target:
    """The ground truth of a resized picture: boxes scaled a side and clipped to it, masks as bitmaps.

    Areas stay those of the source.
    """
    old_hw = target.masks.shape[1:]
    if old_hw == tuple(new_hw):
        return target
    scale_y, scale_x = new_hw[0] / old_hw[0], new_hw[1] / old_hw[1]
    boxes = clip_boxes(target.boxes_xyxy * np.float32([scale_x, scale_y] * 2), new_hw)
    return replace(target, boxes_xyxy=boxes, masks=resize_masks(target.masks, new_hw))


def normalise(
    image: UInt8[np.ndarray, "height width 3"], config: DataConfig
) -> Float[Tensor, "3 height width"]:
    """(value - mean) / std of every RGB channel, float32, contiguous; values 0..255 go in."""
    # always a new array, so that it may be written and `image` may be read-only
    normalised = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1), np.float32))
    mean = normalised.new_tensor(config.mean_rgb).view(3, 1, 1)
    std = normalised.new_tensor(config.std_rgb).view(3, 1, 1)
    return normalised.sub_(mean).div_(std)


def prepare(
    image: UInt8[np.ndarray, "height width 3"],
    config: DataConfig,
    image_id: ImageId,
    target: Target | None = None,
) -> Sample:
    """The test pipeline: resize to fit (long_side, short_side) and normalise. `pad_batch` pads.

    Args:
        target: ground truth in the frame of `image`; it is resized along.
    """
    image_hw = (int(image.shape[0]), int(image.shape[1]))
    new_hw = resize_hw(image_hw, config.short_side, config.long_side)
    pixels = normalise(resize_image(image, new_hw), config)
    resized = None if target is None else resize_target(target, new_hw)
    return Sample(image_id, pixels, image_hw, resized)
