"""What the use of tokens follows: texture, contours, objects or the middle, each beside the rest.

Partial rank correlations. Within an image every measure and every block's mask is ranked over tokens (ties
average, ranks in shares of the image's tokens, centred); products of ranks are summed over images; the
partial correlation of use and a measure given all others follows from the inverse of the summed matrix, P:
-P_0j / sqrt(P_00 P_jj). Images are never compared with each other. The same masks shuffled over the valid
tokens of an image, one permutation for all blocks, are the control: what they correlate is noise.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from analysis.numbers.usage import valid_keep
from svit.core.coverage import (
    LUMA,
    Truth,
    centre_nearness,
    coded_masks,
    local_contrast,
    object_areas,
    object_cover,
    regions,
    token_means,
)
from svit.core.types import TokenGrid, TokenTrace

EVERY, OBJECTS = "all tokens", "tokens of objects"
MEASURES = {  # where they are known: of all valid tokens, or of those that an object covers most of
    EVERY: ("contrast", "gradient", "contour", "object", "middle"),
    OBJECTS: ("contrast", "gradient", "contour", "size", "overlap", "middle"),
}
OWN, SHUFFLED = "own", "shuffled"

Pictured = tuple[TokenTrace, Truth, np.ndarray]


@dataclass(frozen=True, eq=False)
class Moments:
    """Sums of products of centred ranks of an image's tokens.

    Attributes:
        measures: float64 (measures, measures).
        use: float64 (masks, layers + 1), of each layer, and of their sum, with itself.
        both: float64 (masks, layers + 1, measures); masks: own, shuffled.
    """

    measures: np.ndarray
    use: np.ndarray
    both: np.ndarray


def token_measures(picture: np.ndarray, target: Truth, grid: TokenGrid) -> pd.DataFrame:
    """One row a valid token in raster order.

    Columns: contrast (`coverage.local_contrast`); gradient = mean norm of the grey's central differences, in
    the pixels of the picture; contour = minus the distance, in tokens, to the nearest token that an outline
    passes; object = share that objects cover; middle (`coverage.centre_nearness`); of the object that covers
    the token most, NaN where objects cover at most `coverage.FOREGROUND`: size = its area in source pixels,
    overlap = share of its box that other objects cover. Crowds are no objects. Without objects contour is
    NaN.

    Args:
        picture: uint8 RGB of any resolution.
    """
    covered = object_cover(target, grid)
    where, cover = regions(target, grid, covered), covered[0]
    own = np.flatnonzero(~target.crowd)
    first = cover[own].argmax(axis=0) if len(own) else np.zeros(grid.valid_hw, int)
    shown = where.foreground.ravel()
    grey = picture.astype(np.float32) @ LUMA
    values = {
        "contrast": local_contrast(picture, grid),
        "gradient": token_means(_change(grey), grid),
        "contour": -_distance(where.contour),
        "object": np.clip(cover[own].sum(axis=0), 0, 1),
        "middle": centre_nearness(grid),
    }
    table = pd.DataFrame({name: np.ravel(plane).astype(float) for name, plane in values.items()})
    for name, known in (("size", object_areas(target)), ("overlap", overlaps(target))):
        each = known[own][first.ravel()] if len(own) else np.full(first.size, np.nan)
        table[name] = np.where(shown, each, np.nan)
    return table


def overlaps(target: Truth) -> np.ndarray:
    """Share of each object's box that other objects (no crowds) cover, float64 (objects,): how much of it may
    be hidden, or hides others."""
    masks = coded_masks(target).decoded()
    found = np.zeros(len(target))
    for index, box in enumerate(np.round(target.boxes_xyxy).astype(int)):
        left, top, right, bottom = box
        others = ~target.crowd & (np.arange(len(target)) != index)
        inside = masks[others, max(top, 0) : bottom, max(left, 0) : right].any(axis=0)
        found[index] = inside.mean() if inside.size else 0.0
    return found


def _change(grey: np.ndarray) -> np.ndarray:
    """Norm of central differences; 0 in a picture that is one pixel high or wide."""
    return np.hypot(*np.gradient(grey)) if min(grey.shape) > 1 else np.zeros_like(grey)


def _distance(marked: np.ndarray) -> np.ndarray:
    """Of every token to the nearest marked one, in tokens; NaN without any."""
    places = np.argwhere(marked)
    if not len(places):
        return np.full(marked.shape, np.nan)
    rows, columns = (np.arange(side) for side in marked.shape)
    nearest = np.full(marked.shape, np.inf)
    for row, column in places:
        np.minimum(nearest, np.hypot(rows[:, None] - row, columns - column), out=nearest)
    return nearest


def moments_of(trace: TokenTrace, table: pd.DataFrame, names: tuple[str, ...]) -> Moments | None:
    """Of the tokens that have all measures; None for fewer than there are measures and two more.

    Args:
        table: of `token_measures`.
    """
    known = table[list(names)].notna().all(axis=1).to_numpy()
    if known.sum() < len(names) + 2:
        return None
    keep = valid_keep(trace).reshape(trace.layers, -1)
    keep = np.vstack([keep, keep.sum(axis=0)])
    turned = np.random.default_rng(zlib.crc32(str(trace.image_id).encode())).permutation(
        keep.shape[1]
    )
    measures = _ranks(table.loc[known, list(names)].to_numpy().T)
    masks = np.stack([_ranks(one[:, known]) for one in (keep, keep[:, turned])])
    return Moments(measures @ measures.T, (masks**2).sum(axis=-1), masks @ measures.T)


def _ranks(rows: np.ndarray) -> np.ndarray:
    """Average ranks along each row in shares of its length, centred."""
    ranks = pd.DataFrame(rows.T).rank().to_numpy().T / rows.shape[1]
    varies = np.ptp(ranks, axis=1, keepdims=True) > 0
    return np.where(varies, ranks - ranks.mean(axis=1, keepdims=True), 0)


def follow_frame(samples: Iterable[Pictured], draws: int = 1000, seed: int = 0) -> pd.DataFrame:
    """Correlations of use and each measure, block by block, with intervals over images.

    Args:
        samples: trace, ground truth and picture of each image.

    Returns:
        Columns: tokens (`EVERY` or `OBJECTS`); masks (own, shuffled); block, 0 for the number of blocks that
        use a token; measure; `rank` correlation and `partial`, given the other measures of the tokens, each
        with low and high of its 95 % percentile interval over images (rank_low, ..., NaN where nothing
        varies, and of a single image); images that count.
    """
    kept: dict[str, list[Moments]] = {over: [] for over in MEASURES}
    for trace, target, picture in samples:
        table = token_measures(picture, target, trace.grid)
        for over, names in MEASURES.items():
            moments = moments_of(trace, table, names)
            if moments is not None:
                kept[over].append(moments)
    parts = [_frame(over, moments, draws, seed) for over, moments in kept.items() if moments]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=COLUMNS)


COLUMNS = (
    *("tokens", "masks", "block", "measure", "rank", "rank_low", "rank_high"),
    *("partial", "partial_low", "partial_high", "images"),
)


def _frame(over: str, moments: list[Moments], draws: int, seed: int) -> pd.DataFrame:
    count = len(moments)
    random = np.random.default_rng(seed)
    drawn = random.multinomial(count, np.full(count, 1 / count), size=draws)
    weights = np.vstack([np.ones(count, int), drawn])
    sums = [
        np.tensordot(weights, np.stack([getattr(one, name) for one in moments]), axes=1)
        for name in ("measures", "use", "both")
    ]
    rows = []
    layers = sums[1].shape[-1] - 1
    for mask, name in enumerate((OWN, SHUFFLED)):
        for layer in range(layers + 1):
            use, both = sums[1][:, mask, layer], sums[2][:, mask, layer]
            values = {"rank": raw_of(sums[0], use, both), "partial": partial_of(sums[0], use, both)}
            for place, measure in enumerate(MEASURES[over]):
                row = {"tokens": over, "masks": name, "block": (layer + 1) % (layers + 1)}
                row |= {"measure": measure, "images": count}
                for kind, found in values.items():
                    low, high = ends_of(found[1:, place], count)
                    row |= {kind: found[0, place], f"{kind}_low": low, f"{kind}_high": high}
                rows.append(row)
    return pd.DataFrame(rows)[list(COLUMNS)]


def ends_of(drawn: np.ndarray, images: int) -> tuple[float, float]:
    """95 % percentiles of the draws; NaN of a single image, which tells nothing of others."""
    low, high = np.percentile(drawn, [2.5, 97.5]) if images > 1 else (np.nan, np.nan)
    return float(low), float(high)


def raw_of(measures: np.ndarray, use: np.ndarray, both: np.ndarray) -> np.ndarray:
    """Correlations (draws, measures) from sums of products (draws, ...); NaN where nothing varies."""
    scale = np.sqrt(use[:, None] * np.diagonal(measures, axis1=1, axis2=2))
    return np.where(scale > 0, both / np.where(scale > 0, scale, 1), np.nan)


def partial_of(measures: np.ndarray, use: np.ndarray, both: np.ndarray) -> np.ndarray:
    """Partial correlations of use and each measure given the others, (draws, measures); NaN where nothing
    varies or a measure follows from the others."""
    whole = np.concatenate([use[:, None, None], both[:, None]], axis=2)
    whole = np.concatenate([whole, np.concatenate([both[:, :, None], measures], axis=2)], axis=1)
    scale = np.sqrt(np.diagonal(whole, axis1=1, axis2=2))
    varies = scale > 0
    scale = np.where(varies, scale, 1)
    unit = whole / scale[:, :, None] / scale[:, None]
    # what does not vary explains nothing
    unit = np.where(np.eye(unit.shape[1], dtype=bool) & ~varies[:, :, None], 1.0, unit)
    good = np.linalg.cond(unit) < 1e10
    inverse = np.linalg.inv(np.where(good[:, None, None], unit, np.eye(unit.shape[1])))
    size = np.sqrt(np.diagonal(inverse, axis1=1, axis2=2))
    found = -inverse[:, 0, 1:] / size[:, :1] / size[:, 1:]
    return np.where(good[:, None] & varies[:, :1] & varies[:, 1:], found, np.nan)
