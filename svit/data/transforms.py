"""Training pictures: random flips, scales, crops and colours of an image and its objects together.

Three recipes (`DataConfig.augment`): "detr" is the paper's (`configs/mask_rcnn/*` of
github.com/uzh-rpg/svit: mmdet 2.28 `RandomFlip`, `AutoAugment` of two policies, `RandomCrop`), "flips" keeps
the size of a picture and serves the synthetic shapes, "zoom" adds a scale and a window for small sets of
photographs. Each step maps (image, target) to (image, target);
objects are bitmaps throughout, as mmdet's `LoadAnnotations` makes them, and are resized by nearest neighbour.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from jaxtyping import UInt8

from svit.core.config import DataConfig
from svit.core.types import Target, clip_boxes
from svit.data.images import resize_hw, resize_image, resize_target

Picture = tuple[UInt8[np.ndarray, "height width 3"], Target]

# the paper's numbers in pixels; they belong to a short side of 800 and scale with `DataConfig.short_side`
PAPER_SHORT_SIDE = 800
SHORT_SIDES = tuple(range(480, 801, 32))
SHORT_SIDES_BEFORE_CROP = (400, 500, 600)
CROP_RANGE = (384, 600)
LAST_CROP = 1024
ZOOMS = (0.7, 1.5)  # of `zoom`, relative to the usual size


def augment(image: np.ndarray, target: Target, config: DataConfig, seed: int) -> Picture:
    """A random variant of a picture, the same for the same seed; not normalised yet.

    Args:
        image: uint8 (height, width, 3).
        target: ground truth in the frame of `image`.

    Returns: image and target in the frame of the variant. The target may be empty after a crop.
    """
    return AUGMENTATIONS[config.augment](image, target, config, np.random.default_rng(seed))


def detr(
    image: np.ndarray, target: Target, config: DataConfig, rng: np.random.Generator
) -> Picture:
    """The paper's recipe: flip; scale, or scale, crop and scale again; at most 1024 pixels a side."""
    factor = config.short_side / PAPER_SHORT_SIDE
    if rng.random() < 0.5:
        image, target = flip(image, target)
    if rng.random() < 0.5:
        image, target = _random_scale(image, target, SHORT_SIDES_BEFORE_CROP, config, rng)
        image, target = _random_crop(image, target, _scaled(CROP_RANGE, factor), rng)
    image, target = _random_scale(image, target, SHORT_SIDES, config, rng)
    return _random_crop(image, target, _scaled((LAST_CROP, LAST_CROP), factor), rng)


def zoom(
    image: np.ndarray, target: Target, config: DataConfig, rng: np.random.Generator
) -> Picture:
    """A symmetry, a random order of colours, a scale from ZOOMS (log-uniform), a window of the usual size.

    For few photographs of things without an upright position: objects come in sizes and neighbourhoods
    that the pictures do not hold.
    """
    image, target = flips(image, target, config, rng)
    factor = float(np.exp(rng.uniform(*np.log(ZOOMS))))
    size = image.shape[:2]
    image, target = resize(image, target, tuple(max(1, round(side * factor)) for side in size))
    height, width = (min(side, new) for side, new in zip(size, image.shape[:2]))
    corner = [int(rng.integers(new - side + 1)) for new, side in zip(image.shape, (height, width))]
    return crop(image, target, (corner[0], corner[1]), (height, width))


def flips(
    image: np.ndarray, target: Target, config: DataConfig, rng: np.random.Generator
) -> Picture:
    """One of the eight symmetries of a square (four of a rectangle) and a random order of colours."""
    height, width = image.shape[:2]
    if rng.random() < 0.5:
        image, target = flip(image, target)
    turns = int(rng.integers(4)) if height == width else 2 * int(rng.integers(2))
    image, target = rotate(image, target, turns)
    image = image[:, :, rng.permutation(3)]
    new_hw = resize_hw((height, width), config.short_side, config.long_side)
    return resize(image, target, new_hw)


AUGMENTATIONS: dict[str, Callable[..., Picture]] = {"detr": detr, "flips": flips, "zoom": zoom}


def flip(image: np.ndarray, target: Target) -> Picture:
    """Left and right exchanged."""
    width = image.shape[1]
    left, top, right, bottom = target.boxes_xyxy.T
    boxes = np.stack([width - right, top, width - left, bottom], axis=1)
    return image[:, ::-1], _moved(target, boxes, target.masks[:, :, ::-1])


def rotate(image: np.ndarray, target: Target, quarter_turns: int) -> Picture:
    """Turned counter-clockwise by 90 degrees as often as told."""
    boxes, (height, width) = target.boxes_xyxy, image.shape[:2]
    for _ in range(quarter_turns % 4):
        left, top, right, bottom = boxes.T
        boxes = np.stack([top, width - right, bottom, width - left], axis=1)
        height, width = width, height
    masks = np.rot90(target.masks, quarter_turns, axes=(1, 2))
    return np.rot90(image, quarter_turns), _moved(target, boxes, masks)


def resize(image: np.ndarray, target: Target, new_hw: tuple[int, int]) -> Picture:
    """Image bilinear, masks nearest, boxes scaled and clipped."""
    return resize_image(image, new_hw), resize_target(target, new_hw)


def crop(
    image: np.ndarray, target: Target, corner_yx: tuple[int, int], size_hw: tuple[int, int]
) -> Picture:
    """The window of a picture; objects whose clipped box has no area leave.

    As in mmdet boxes are clipped, not recomputed from the masks: a box may be wider than what is left
    of its mask.
    """
    (top, left), (height, width) = corner_yx, size_hw
    window = (slice(top, top + height), slice(left, left + width))
    boxes = clip_boxes(target.boxes_xyxy - np.float32([left, top, left, top]), size_hw)
    stay = (boxes[:, 2:] > boxes[:, :2]).all(axis=1)
    masks = target.masks[:, window[0], window[1]]
    return image[window], _moved(target, boxes, masks)[stay]


def _moved(target: Target, boxes_xyxy: np.ndarray, masks: np.ndarray) -> Target:
    return replace(target, boxes_xyxy=boxes_xyxy, masks=masks)


def _scaled(sides: tuple[int, ...], factor: float) -> tuple[int, ...]:
    return tuple(max(1, round(side * factor)) for side in sides)


def _random_scale(
    image: np.ndarray,
    target: Target,
    short_sides: tuple[int, ...],
    config: DataConfig,
    rng: np.random.Generator,
) -> Picture:
    """Short side drawn from the list, the long side at most `config.long_side`, aspect kept."""
    short = int(rng.choice(_scaled(short_sides, config.short_side / PAPER_SHORT_SIDE)))
    return resize(image, target, resize_hw(image.shape[:2], short, config.long_side))


def _random_crop(
    image: np.ndarray, target: Target, side_range: tuple[int, ...], rng: np.random.Generator
) -> Picture:
    """A window whose sides are uniform in [min(low, side), min(high, side)], at a uniform place."""
    image_hw = image.shape[:2]
    low, high = side_range
    size = [int(rng.integers(min(side, low), min(side, high) + 1)) for side in image_hw]
    corner = [int(rng.integers(side - part + 1)) for side, part in zip(image_hw, size)]
    return crop(image, target, (corner[0], corner[1]), (size[0], size[1]))
