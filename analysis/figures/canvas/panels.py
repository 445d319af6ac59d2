"""Panels of one height, two in a row, a title of words each, over what they share."""

from __future__ import annotations

import math
import textwrap
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure

from analysis.figures.canvas.axes import blank
from analysis.figures.canvas.sizes import WIDTH

LETTERS = 116  # of titles in the text width
BESIDE = 0.6  # inches: the numbers and the name of a panel's y axis


@dataclass(frozen=True)
class Panels:
    """A figure of panels.

    Attributes:
        axes: of the panels, row by row.
        foot: below all of them; without one the figure.
        columns: panels in a row.
    """

    figure: Figure
    axes: list[Axes]
    foot: Figure | SubFigure
    columns: int

    @property
    def width(self) -> float:
        """Of a panel's Axes, about, in inches."""
        return WIDTH / self.columns - BESIDE

    @property
    def letters(self) -> int:
        """Of a line of a title."""
        return LETTERS // self.columns

    def wrapped(self, title: str) -> str:
        """A title in lines as wide as its panel."""
        return textwrap.fill(title, self.letters)


def panels(count: int, height: float, foot: float = 0.0) -> Panels:
    """So many panels.

    Args:
        height: of a row, in inches.
        foot: height of what stands below all, in inches.
    """
    columns = min(count, 2)
    rows = math.ceil(count / columns)
    figure = Figure(figsize=(WIDTH, height * rows + foot))
    body, below = figure, figure
    if foot:
        body, below = figure.subfigures(2, 1, height_ratios=[height * rows, foot])
    axes = list(body.subplots(rows, columns, squeeze=False).flat)
    blank(axes[count:])
    return Panels(figure, axes[:count], below, columns)
