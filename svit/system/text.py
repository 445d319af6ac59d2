"""Markdown tables, as commands print them and documents hold them."""

from __future__ import annotations

import re
from collections.abc import Sequence

import pandas as pd

_TABLE = re.compile(r"^\|.*\|\n\|(?: *:?-+:? *\|)+(?:\n\|.*\|)*", re.MULTILINE)


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of texts; every row has as many cells as the head."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def frames(text: str) -> list[pd.DataFrame]:
    """The tables of a document in their order, all cells as text: `table` read back."""
    return [_frame(found[0].splitlines()) for found in _TABLE.finditer(text)]


def _frame(lines: Sequence[str]) -> pd.DataFrame:
    head, _, *rows = ([cell.strip() for cell in line[1:-1].split("|")] for line in lines)
    return pd.DataFrame(rows, columns=head)
