"""What every token of an image shows: how much of each object, and simple properties of its pixels.

Tokens are rectangles in a picture of any resolution (source masks, stored thumbnails); border tokens
are cut at the image's edge, and pixels cut by a token's side count by the area inside it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from svit.core.rle import CodedMasks
from svit.core.types import CodedTarget, Detections, Target, TokenGrid

FOREGROUND = 0.25  # a token shows an object if objects cover more than this share of it
CONTOUR = 0.02  # an outline passes a token that an object covers by more, and leaves more of
SIZES = {"small": 32.0**2, "medium": 96.0**2, "large": np.inf}  # COCO: annotated area up to, pixels

LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601

Truth = Target | CodedTarget  # the former of one image, the latter from `Run.iter_targets`


@dataclass(frozen=True)
class Regions:
    """The valid tokens of an image by what they show; bool (valid rows, valid columns).

    `contour`, `inside`, `background` and `left_out` are disjoint and fill the image.

    Attributes:
        contour: the outline of an object passes (`CONTOUR`).
        inside: no outline passes and objects cover more than half.
        background: neither, and no crowd annotation touches it.
        left_out: touched by a crowd annotation and by no object: what it shows is unknown.
        foreground: objects cover more than `FOREGROUND` of it, outlines included.
    """

    contour: np.ndarray
    inside: np.ndarray
    background: np.ndarray
    left_out: np.ndarray
    foreground: np.ndarray


@lru_cache(maxsize=64)
def token_weights(grid: TokenGrid, picture_hw: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Matrices R (valid rows, height) and C (valid columns, width): R @ values @ C.T is the mean of
    a picture's values over each valid token. Every row sums to one; float32, not to be changed."""
    sides = zip(grid.valid_hw, grid.resized_hw, picture_hw)
    rows, columns = (_overlaps(count, grid.patch / side, size) for count, side, size in sides)
    return rows, columns


def _overlaps(count: int, step: float, size: int) -> np.ndarray:
    """(count, size): share of token i, `step` of the whole side long, that pixel j fills."""
    edges = np.minimum(np.arange(count + 1) * step, 1) * size
    pixels = np.arange(size)
    starts = np.maximum(edges[:-1, None], pixels)
    shared = np.clip(np.minimum(edges[1:, None], pixels + 1) - starts, 0, None)
    return (shared / shared.sum(axis=1, keepdims=True)).astype(np.float32)


def token_means(values: np.ndarray, grid: TokenGrid) -> np.ndarray:
    """Means over each valid token of maps (height, width, ...) that span the image.

    Returns: float32 (valid rows, valid columns, ...).
    """
    rows, columns = token_weights(grid, values.shape[:2])
    down = np.tensordot(rows, values.astype(np.float32), axes=1)
    return np.tensordot(columns, down, axes=([1], [1])).swapaxes(0, 1)


def token_cover(masks: np.ndarray | CodedMasks, grid: TokenGrid) -> np.ndarray:
    """Share of each valid token that each mask covers: pixels of both / pixels of the token.

    Returns: float32 (masks, valid rows, valid columns) in [0, 1].
    """
    coded = masks if isinstance(masks, CodedMasks) else CodedMasks.of(masks)
    above, columns = _above(grid, coded.image_hw), token_weights(grid, coded.image_hw)[1]
    cover = np.empty((len(coded), above.shape[1], len(columns)), np.float32)
    masks, column, top, bottom = coded.segments()
    down, across = above[bottom] - above[top], columns.T[column]
    ends = np.searchsorted(masks, np.arange(len(coded) + 1))
    for index, (start, end) in enumerate(zip(ends[:-1], ends[1:])):
        cover[index] = down[start:end].T @ across[start:end]
    return np.clip(cover, 0, 1, out=cover)


@lru_cache(maxsize=64)
def _above(grid: TokenGrid, picture_hw: tuple[int, int]) -> np.ndarray:
    """(height + 1, valid rows): share of each row of tokens that lies above a pixel's upper edge."""
    rows = token_weights(grid, picture_hw)[0]
    above = np.zeros((picture_hw[0] + 1, len(rows)), np.float32)
    np.cumsum(rows.T, axis=0, out=above[1:])
    return above


def object_cover(target: Truth, grid: TokenGrid) -> tuple[np.ndarray, np.ndarray]:
    """`token_cover` of each of the target's masks, crowds too, and of all objects together, without crowds.

    Returns: float32 (masks, valid rows, valid columns) and (valid rows, valid columns) in [0, 1].
    """
    masks = coded_masks(target)
    union = masks[~target.crowd].union()
    cover = token_cover(CodedMasks(masks.codes + union.codes, masks.image_hw), grid)
    return cover[:-1], cover[-1]


def regions(
    target: Truth, grid: TokenGrid, covered: tuple[np.ndarray, np.ndarray] | None = None
) -> Regions:
    """Which region each valid token belongs to; without objects all is background.

    Args:
        covered: `object_cover`, where it is known already.
    """
    cover, together = object_cover(target, grid) if covered is None else covered
    objects = cover[~target.crowd]
    contour = ((objects > CONTOUR) & (objects < 1 - CONTOUR)).any(axis=0)
    inside = (together > 0.5) & ~contour
    crowd = (cover[target.crowd] > CONTOUR).any(axis=0) & ~contour & ~inside
    return Regions(contour, inside, ~(contour | inside | crowd), crowd, together > FOREGROUND)


def coded_masks(boxes: Truth | Detections) -> CodedMasks | None:
    """The masks of objects or detections as codes, from which cover and areas are read quickly; None of
    detections without masks."""
    if isinstance(boxes, Detections):
        return boxes.coded
    known = isinstance(boxes.masks, CodedMasks)
    return boxes.masks if known else CodedMasks.of(boxes.masks)


def size_names(areas: np.ndarray) -> np.ndarray:
    """COCO's name of each annotated area in source pixels; an area on a limit is the smaller one."""
    limits = list(SIZES.values())[:-1]
    return np.array(list(SIZES))[np.searchsorted(limits, areas)]


def object_areas(target: Truth) -> np.ndarray:
    """Annotated areas in source pixels; those of the masks where the annotation has none."""
    if (target.areas > 0).all():
        return target.areas
    return np.where(target.areas > 0, target.areas, coded_masks(target).areas())


def covered_share(target: Truth) -> float:
    """Pixels that at least one object covers, crowds left out / pixels of the image."""
    masks = coded_masks(target)
    return float(masks[~target.crowd].union().areas()[0] / np.prod(masks.image_hw))


def local_contrast(picture: np.ndarray, grid: TokenGrid) -> np.ndarray:
    """Standard deviation of grey in each valid token: sqrt(mean(g²) - mean(g)²), 0 to 127.5.

    Args:
        picture: uint8 RGB of any resolution.
    """
    grey = picture.astype(np.float32) @ LUMA
    grey -= grey.mean()  # float32 squares of small numbers lose less
    mean, square = token_means(grey, grid), token_means(grey**2, grid)
    return np.sqrt(np.clip(square - mean**2, 0, None))


def colour_distance(picture: np.ndarray, grid: TokenGrid) -> np.ndarray:
    """Euclidean distance, in RGB levels, of each valid token's mean colour from the image's."""
    overall = picture.astype(np.float32).mean(axis=0).mean(axis=0)
    return np.linalg.norm(token_means(picture, grid) - overall, axis=-1)


def centre_nearness(grid: TokenGrid) -> np.ndarray:
    """1 in the middle of the image to 0 in its corners: 1 - distance from the middle / half diagonal,
    both sides of the valid tokens taken as equally long.

    Photographers put objects in the middle: a map may tell objects from ground by place alone.
    """
    down, across = (2 * (np.arange(side) + 0.5) / side - 1 for side in grid.valid_hw)
    return 1 - np.hypot(down[:, None], across) / np.sqrt(2)


def edge_density(picture: np.ndarray, threshold: float = 16.0) -> float:
    """Pixels whose grey changes by more than `threshold` levels a pixel / pixels of the picture.

    The change is the norm of central differences, on the picture as stored (small photographs have
    denser edges: compare runs with equal picture sides).
    """
    if min(picture.shape[:2]) < 2:
        return 0.0
    down, across = np.gradient(picture @ LUMA)
    return float((np.hypot(down, across) > threshold).mean())
