"""Drawings on paper as pictures for a page."""

from __future__ import annotations

import io

from matplotlib.style import context

from analysis.figures import palette
from analysis.figures.output import Product
from analysis.pages.parts import shell


def picture(product: Product) -> bytes:
    """A PNG of a drawing on paper."""
    buffer = io.BytesIO()
    with shell.drawing(), context(palette.STYLE):
        product.figure.savefig(buffer, format="png", dpi=200)
    return buffer.getvalue()
