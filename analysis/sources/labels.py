"""Names of runs in figures and tables that hold several: never without what sets them apart."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from analysis.sources.evaluations import facts_of
from svit.runs.run import Run


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


def row_names(runs: Sequence[Run]) -> list[str]:
    """Short names where runs are rows: the row of the comparison a run belongs to, or else method and
    variant, and the seed of its masks; runs that still look alike add the seed of their training, how masks
    were decided, or their folder."""
    facts = [facts_of(run.provenance, len(run)) for run in runs]
    plain = [str(run.provenance.get("row") or one.model) for run, one in zip(runs, facts)]
    seeds = [f"{name}\nseed {one.seed}" if one.seed else name for name, one in zip(plain, facts)]
    trained = [f"{name}\ntrained with seed {one.training_seed}" for name, one in zip(seeds, facts)]
    modes = [[word for word in one.source[1:] if word not in ("", "learned")] for one in facts]
    sources = ["\n".join([name, *words]) for name, words in zip(seeds, modes)]
    folders = [f"{name}\n{run.path.resolve().name}" for name, run in zip(seeds, runs)]
    names = seeds
    for longer in (trained, sources, folders):
        told = [long if names.count(name) > 1 else name for name, long in zip(names, longer)]
        names = told if len(set(told)) > len(set(names)) else names
    return names
