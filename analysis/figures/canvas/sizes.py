"""How large figures and the pictures in them are, in inches."""

from __future__ import annotations

import textwrap

from svit.core.types import TokenGrid

WIDTH = 7.2  # inches: the text width of a two-column paper
TITLE, LEGEND, SCALE = 0.17, 0.26, 0.45  # inches: above a picture, below all, beside all
LEGEND_ROW = 0.14  # inches: what a second row of a legend adds
TITLE_WIDTH, LEGEND_WIDTH, SCALE_HEIGHT = 1.05, 5.2, 1.5  # inches that their words take
SIGNS = 15  # of a heading that an inch holds
LONGEST = 5  # sides of a drawn picture: a longer one would be a line in which no token shows


def drawn_ratio(image_hw: tuple[float, float]) -> float:
    """Height / width at which a picture is drawn: its own, or 1:5 and 5:1 where it is longer."""
    height, width = image_hw
    return min(max(height / width, 1 / LONGEST), LONGEST)


def stretch_note(image_hw: tuple[int, int]) -> str:
    """Words that a picture is not drawn in its own shape, or ""."""
    height, width = image_hw
    sides = "wider" if height > width else "taller"
    return "" if drawn_ratio(image_hw) == height / width else f" · drawn {sides} than it is"


def told(grid: TokenGrid) -> str:
    """A picture's own size, that at which the model was given it, its tokens, and a stretch in drawings."""
    (tall, wide), (height, width), (rows, columns) = grid.image_hw, grid.resized_hw, grid.valid_hw
    given = (
        f" · given to the model at {width} × {height}" if (height, width) != (tall, wide) else ""
    )
    tokens = f"{columns} × {rows} tokens of {grid.patch} pixels"
    return f"{wide} × {tall} pixels{given} · {tokens}{stretch_note(grid.image_hw)}"


def figsize(
    image_hw: tuple[int, int],
    columns: int,
    rows: int = 1,
    *,
    extra: float = 0,
    above: float = 0,
    below: float = 0,
) -> tuple[float, float]:
    """Inches for columns x rows of pictures within the text width, none higher than a square.

    Titles, a legend and a scale have the room they need, however narrow or low the pictures are.

    Args:
        image_hw: height and width of a picture, of which the ratio counts.
        extra: width beside the pictures.
        above: height for the title of each.
        below: height for a legend under all.
    """
    ratio = drawn_ratio(image_hw)
    side = (WIDTH - extra) / columns
    cell = min(side, side / ratio)
    least = max(columns * TITLE_WIDTH * (above > 0), LEGEND_WIDTH * (below > 0), WIDTH / 2)
    figure_width = min(max(columns * cell + extra, least), WIDTH)
    figure_height = rows * (cell * ratio + above) + below
    return figure_width, max(figure_height, SCALE_HEIGHT * (extra > 0))


def wrapped(text: str, inches: float = WIDTH) -> str:
    """A heading in as many lines as its words need, however long names are."""
    lines = (textwrap.fill(line, round(SIGNS * inches)) for line in text.split("\n"))
    return "\n".join(lines)


def short(text: str, signs: int = 14) -> str:
    """A name that stands over a small picture: of a long one its end, which tells files apart."""
    return text if len(text) <= signs else f"…{text[1 - signs :]}"
