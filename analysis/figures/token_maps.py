"""Pictures of tokens that lie over an image on screen, and the pixels around one token."""

from __future__ import annotations

import io
from collections.abc import Sequence

import matplotlib as mpl
import numpy as np
from matplotlib.colors import LinearSegmentedColormap, to_rgb
from PIL import Image, ImageDraw

from analysis.figures import palette
from analysis.figures.insight_figures import DIVERGING
from svit.core.types import TokenGrid

VEIL = "#1c232d"  # over what a mode leaves out
STATE_COLOURS = {"never": palette.PRUNED, "later": palette.LATER, "next": palette.NEXT}
SCORE_COLOURS = (palette.BELOW, "#f4f4f4", palette.ABOVE)  # below, on and above the limit
SCORES = LinearSegmentedColormap.from_list("score", SCORE_COLOURS)
CONTEXT = 3  # tokens shown on each side of the one cut out


def states(codes: np.ndarray, opacity: float) -> np.ndarray:
    """Pruned tokens in the colour of what becomes of them, used ones clear.

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


def usage(counts: np.ndarray, limits: tuple[int, int], opacity: float) -> np.ndarray:
    """Counts of layers in the steps of the style's colour map, as `figures.usage_heatmap`."""
    low, high = limits
    colours = mpl.colormaps["inferno"].resampled(high - low + 1)(counts - low)
    colours[..., 3] = opacity
    return _bytes(colours)


def differences(values: np.ndarray, limit: int, opacity: float) -> np.ndarray:
    """Differences from -limit to limit in the colours of `insight_figures.difference_map`."""
    colours = mpl.colormaps[DIVERGING](values / (2 * limit) + 0.5)
    colours[..., 3] = opacity
    return _bytes(colours)


def cut(pixels: np.ndarray, grid: TokenGrid, side: int = 8) -> np.ndarray:
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
    tall, wide = picture.shape[:2]
    units = np.array([tall, wide]) / np.array(grid.resized_hw) * grid.patch  # pixels a token
    start = (np.array(token) - CONTEXT) * units
    end = (np.array(token) + CONTEXT + 1) * units
    box = (start[1], start[0], end[1], end[0])
    field = Image.new("RGBA", (side, side))
    inside = np.clip(box, 0, (wide, tall, wide, tall))
    scale = side / np.array([end[1] - start[1], end[0] - start[0]] * 2)
    corner = np.array([start[1], start[0]] * 2)
    left, top, right, bottom = np.rint((inside - corner) * scale).astype(int).tolist()
    part = Image.fromarray(picture).resize(
        (right - left, bottom - top), Image.Resampling.BICUBIC, box=tuple(inside)
    )
    field.paste(part, (left, top))
    ring = np.array([CONTEXT, CONTEXT, CONTEXT + 1, CONTEXT + 1]) * side / (2 * CONTEXT + 1)
    ImageDraw.Draw(field).rectangle(np.rint(ring).tolist(), outline=palette.HERE, width=3)
    return encoded(np.asarray(field))
