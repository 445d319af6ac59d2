"""Figures as the command draws them, laid out but not written."""

from __future__ import annotations

import warnings

from matplotlib.figure import Figure
from matplotlib.style import context

from analysis.figures import palette
from analysis.figures.output import DrawOptions, RenderError
from analysis.render import FIGURES
from analysis.sources.collection import Collection

DPI = 40


def drawn_figures(name: str, found: Collection) -> list[Figure]:
    """What an entry draws, laid out; none where the runs hold nothing for it."""
    entry, drawn = FIGURES[name], []
    with context(palette.STYLE), warnings.catch_warnings():
        warnings.simplefilter(
            "error", UserWarning
        )  # axes that collapse are only a warning of matplotlib's
        for subject in entry.takes.subjects(found):
            try:
                products = list(entry.draw(subject.given, DrawOptions(limit=1)))
            except RenderError:
                continue
            for product in products:
                product.figure.set_dpi(DPI)
                product.figure.draw_without_rendering()
                drawn.append(product.figure)
    return drawn
