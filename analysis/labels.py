"""Names of runs in figures and tables that hold several: never without what sets them apart."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from analysis.evaluations import facts_of
from svit.store import Run


def label(run: Run) -> str:
    """Folder, preset and way of deciding."""
    facts = facts_of(run.provenance, len(run))
    return f"{run.path.resolve().name}: {facts.label}"


def labelled(runs: Sequence[Run], frames: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """The frames below each other; of several runs the first column says whose they are."""
    if len(runs) == 1:
        return frames[0]
    named = [frame.assign(run=label(run)) for run, frame in zip(runs, frames, strict=True)]
    table = pd.concat(named, ignore_index=True)
    return table[["run", *table.columns.drop("run")]]
