"""Pictures of tokens that lie over an image on screen, and the pixels around one token."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence

import matplotlib as mpl
import numpy as np
from matplotlib.colors import LinearSegmentedColormap, Normalize, to_rgb
from PIL import Image, ImageDraw

from analysis.figures import palette
from analysis.figures.canvas.pictures import brightened, reach_behind
from svit.core.types import TokenGrid

VEIL = "#1c232d"  # over what a mode leaves out
STATE_COLOURS = {
    "never": palette.PRUNED,
    "later": palette.LATER,
    "next": palette.NEXT,
    "carried": palette.CARRIED,
}
SCORE_COLOURS = (palette.BELOW, "#f4f4f4", palette.ABOVE)  # below, on and above the limit
SCORES = LinearSegmentedColormap.from_list("score", SCORE_COLOURS)
BEYOND = "#808080"  # beside the image in a crop
ALPHA = 0.75  # opacity of a usage map over a small picture, as of those on paper
COVER = 0.72  # opacity of what covers pruned tokens in a crop
SIDE = 8  # pixels a token
CONTEXT = 3  # tokens shown on each side of the one cut out


def states(codes: np.ndarray, opacity: float) -> np.ndarray:
    """Pruned tokens in the colour of what becomes of them, carried ones in theirs, used ones clear.

    Args:
        codes: `comparison.lives` of one layer.

    Returns: uint8 RGBA (rows, columns, 4), as all maps here.
    """
    return painted(codes, (None, *STATE_COLOURS.values()), opacity)


def painted(codes: np.ndarray, colours: Sequence[str | None], opacity: float) -> np.ndarray:
    """Every code in its colour; None is clear."""
    palette = np.zeros((len(colours), 4))
    for code, colour in enumerate(colours):
        if colour is not None:
            palette[code] = (*to_rgb(colour), opacity)
    return _bytes(palette[codes])


def only(shown: np.ndarray, opacity: float) -> np.ndarray:
    """The tokens of a bool map clear, a veil over the others."""
    cover = np.zeros((*shown.shape, 4))
    cover[~shown] = (*to_rgb(VEIL), opacity)
    return _bytes(cover)


def scores(values: np.ndarray, reach: float, opacity: float) -> np.ndarray:
    """Scores or margins in `SCORES` from -reach to reach; clear where not a number."""
    colours = SCORES(np.nan_to_num(values / reach) / 2 + 0.5)
    colours[..., 3] = np.where(np.isfinite(values), opacity, 0)
    return _bytes(colours)


def amounts(values: np.ndarray, norm: Normalize, opacity: float) -> np.ndarray:
    """Amounts on the scale of `norm` in the style's colour map; clear where not a number."""
    known = np.isfinite(values)
    colours = mpl.colormaps["inferno"](norm(np.ma.masked_array(values, ~known)).filled(0))
    colours[..., 3] = np.where(known, opacity, 0)
    return _bytes(colours)


def usage(counts: np.ndarray, limits: tuple[int, int], opacity: float) -> np.ndarray:
    """Counts of layers in the steps of the style's colour map, as `pictures.usage_heatmap`."""
    low, high = limits
    colours = mpl.colormaps["inferno"].resampled(high - low + 1)(counts - low)
    colours[..., 3] = opacity
    return _bytes(colours)


def usage_thumbnail(
    picture: np.ndarray | None,
    grid: TokenGrid,
    counts: np.ndarray,
    limits: tuple[int, int],
    side: int,
) -> np.ndarray:
    """A small usage map over its greyed picture, as `pictures.usage_heatmap` draws a large one.

    Args:
        picture: uint8 RGB of any size that spans the image; without one the map is opaque.
        counts, limits: as `usage` takes them.
        side: pixels of the longer side.

    Returns: uint8 (h, w, 3).
    """
    height, width = (max(round(side * one / max(grid.image_hw)), 1) for one in grid.image_hw)
    colours = Image.fromarray(cut(usage(counts, limits, 1), grid)).convert("RGB")
    shown = np.asarray(colours.resize((width, height), Image.Resampling.NEAREST)) / 255
    if picture is not None:
        ground = np.asarray(Image.fromarray(picture).resize((width, height)))
        reach = reach_behind(ALPHA, limits[1] - limits[0] + 1)
        shown = ALPHA * shown + (1 - ALPHA) * brightened(ground, reach)
    return _bytes(shown)


def group_colours(carrier: np.ndarray, means: np.ndarray) -> np.ndarray:
    """The mean colour of each group's tokens, clear where a token is pruned.

    Args:
        carrier: `usage.carriers`.
        means: of the picture under each token, (rows, columns, 3) in 0..255.

    Returns: RGBA (rows, columns, 4) in 0..1.
    """
    _, group = np.unique(carrier, return_inverse=True)
    group = group.ravel()
    sums = np.stack([np.bincount(group, plane.ravel()) for plane in np.moveaxis(means, -1, 0)])
    shown = (sums / np.bincount(group))[:, group].T.reshape(means.shape) / 255
    return np.concatenate([shown.clip(0, 1), (carrier >= 0)[..., None]], axis=-1)


def groups(carrier: np.ndarray, means: np.ndarray, opacity: float) -> np.ndarray:
    """`group_colours` as a map."""
    return _bytes(group_colours(carrier, means) * (1, 1, 1, opacity))


def differences(values: np.ndarray, limit: int, opacity: float) -> np.ndarray:
    """Differences from -limit to limit in the colours of `pairs.difference_map`."""
    colours = mpl.colormaps[palette.DIVERGING](values / (2 * limit) + 0.5)
    colours[..., 3] = opacity
    return _bytes(colours)


def cut(pixels: np.ndarray, grid: TokenGrid, side: int = SIDE) -> np.ndarray:
    """A map at `side` pixels a token, without the parts of the last tokens beyond the image."""
    places = []
    for length, scale, tokens in zip(grid.image_hw, grid.scale_yx, pixels.shape, strict=False):
        across = max(round(side * length * scale / grid.patch), 1)
        places.append(np.minimum(np.arange(across) // side, tokens - 1))
    return pixels[np.ix_(*places)]


def _bytes(colours: np.ndarray) -> np.ndarray:
    return np.rint(colours * 255).astype(np.uint8)


def encoded(pixels: np.ndarray) -> bytes:
    """A PNG of uint8 pixels."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def closeup(picture: np.ndarray, grid: TokenGrid, token: tuple[int, int], side: int = 240) -> bytes:
    """A PNG, `side` pixels square: a token, ringed, amid `CONTEXT` tokens on each side.

    Args:
        picture: uint8 RGB of any resolution; beyond its border the square is clear.
    """
    units = np.array(picture.shape[:2]) / np.array(grid.resized_hw) * grid.patch  # pixels a token
    (top, left), (bottom, right) = (
        (np.array(token) + reach) * units for reach in (-CONTEXT, CONTEXT + 1)
    )
    field = Image.new("RGBA", (side, side))
    _fill(field, Image.fromarray(picture), (left, top, right, bottom))
    ring = np.array([CONTEXT, CONTEXT, CONTEXT + 1, CONTEXT + 1]) * side / (2 * CONTEXT + 1)
    ImageDraw.Draw(field).rectangle(np.rint(ring).tolist(), outline=palette.HERE, width=3)
    return encoded(np.asarray(field))


def crop(
    picture: np.ndarray,
    grid: TokenGrid,
    box_xyxy: np.ndarray,
    keep: np.ndarray | None = None,
    later: np.ndarray | None = None,
    side: int = 128,
) -> np.ndarray:
    """A square cut of a picture around a box, with a rim of a third of the box on each side.

    Args:
        picture: uint8 RGB of any size that spans the image.
        box_xyxy: in source pixels.
        keep, later: bool (valid rows, valid columns): pruned tokens are covered white, those of them a
            later layer uses cyan, as in `pictures.layer_tokens`.
        side: of the result in pixels.

    Returns: uint8 (side, side, 3), a line at the box's outline, grey beyond the image.
    """
    box = np.asarray(box_xyxy, float)
    low, high = box[:2], box[2:]
    reach = max(*(high - low), 1.0) * (0.5 + 1 / 3)
    start, end = (low + high) / 2 - reach, (low + high) / 2 + reach
    image_wh = np.array(grid.image_hw[::-1], float)
    field = Image.new("RGB", (side, side), BEYOND)
    for layer in [Image.fromarray(picture), *_covers(grid, keep, later)]:
        scale = layer.size / image_wh
        _fill(field, layer, (*(start * scale), *(end * scale)))
    corners = np.rint((np.array([low, high]) - start) * side / (2 * reach)).ravel()
    ImageDraw.Draw(field).rectangle(corners.tolist(), outline=palette.HOVER, width=2)
    return np.asarray(field)


def _covers(
    grid: TokenGrid, keep: np.ndarray | None, later: np.ndarray | None
) -> Iterator[Image.Image]:
    """What lies over pruned tokens: a picture as large as the image."""
    if keep is not None:
        codes = np.where(keep, 0, 1) if later is None else np.where(keep, 0, 1 + later)
        colours = painted(codes, (None, palette.PRUNED, palette.LATER), COVER)
        yield Image.fromarray(cut(colours, grid, SIDE))


def _fill(field: Image.Image, layer: Image.Image, window: Sequence[float]) -> None:
    """Lays a window of a picture over a square field; beyond the picture the field stays.

    Args:
        window: left, top, right, bottom in the picture's pixels.
    """
    wide, tall = layer.size
    inside = np.clip(window, 0, (wide, tall, wide, tall))
    scale = np.array(field.size * 2) / (np.array(window[2:] * 2) - np.array(window[:2] * 2))
    left, top, right, bottom = np.rint((inside - window[:2] * 2) * scale).astype(int).tolist()
    if right > left and bottom > top:
        size, covers = (right - left, bottom - top), layer.mode == "RGBA"
        how = Image.Resampling.NEAREST if covers else Image.Resampling.BICUBIC
        part = layer.resize(size, how, box=tuple(inside))
        field.paste(part, (left, top), part if covers else None)
