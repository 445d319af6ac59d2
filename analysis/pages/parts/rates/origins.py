"""What the tables of the Rates page say of where numbers come from: commit and weights, and folders as they
are called in the chosen ones, never where these lie on the machine that serves them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path, PurePath

import pandas as pd

from analysis.sources.evaluations import Evaluation

TOLD = ("commit", "weights_sha256")


def sourced(
    table: pd.DataFrame, results: Iterable[Evaluation], folders: Sequence[Path]
) -> pd.DataFrame:
    """A table with a `path` an evaluation: with commit and weights of each as columns, and `placed`."""
    known = {one.path.as_posix(): one.summary["provenance"] for one in results}
    told = {name: [str(known[path].get(name) or "") for path in table["path"]] for name in TOLD}
    return placed(table.assign(**told), "path", folders)


def placed(table: pd.DataFrame, column: str, folders: Sequence[Path]) -> pd.DataFrame:
    """A table whose folders, several joined by ", ", begin with the name of the chosen one they lie in."""
    if column not in table:
        return table
    short = [
        ", ".join(_within(PurePath(path), folders) for path in text.split(", "))
        if isinstance(text, str)
        else text
        for text in table[column]
    ]
    return table.assign(**{column: short})


def _within(path: PurePath, folders: Sequence[Path]) -> str:
    for folder in folders:
        if path.is_relative_to(folder):
            return (PurePath(folder.resolve().name) / path.relative_to(folder)).as_posix()
    return path.name
