"""Markdown: tables as commands print them, and text from data made harmless."""

from __future__ import annotations

import re
from collections.abc import Sequence


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of texts; every row has as many cells as the head."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def escaped(text: str) -> str:
    """Text from data with Markdown's signs, and those of HTML in it, made harmless."""
    return re.sub(r"([\\`*_{}\[\]()<>#+.!|~:$^-])", r"\\\1", text)
