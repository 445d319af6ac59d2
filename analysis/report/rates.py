"""Accuracy against cost: everything evaluated below some folders, and what the paper prints.

    found = collect([Path("runs"), Path("results")])
    frame = evaluations.rate_frame(found.results)

Measured rows and printed ones are frames of their own and stay apart. `collect` leaves out what
cannot be read and says so, where `analysis.render` would stop.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from analysis.paper import claims
from analysis.paper.measurements import Recording, Sources
from analysis.sources import benchmarks as speeds
from analysis.sources import evaluations
from analysis.sources.benchmarks import Speed, SpeedError
from analysis.sources.evaluations import Evaluation, EvaluationError
from svit.runs.run import Run, RunError, open_run

PRINTED = {  # quantity in Table 5 -> column
    "box AP": "box_ap",
    "mask AP": "mask_ap",
    "FPS whole": "fps",
    "FPS backbone": "fps_backbone",
}


@dataclass(frozen=True)
class Collected:
    """What lies below some folders.

    Attributes:
        results: evaluations, each once.
        speeds: variants timed by `svit benchmark`, each once.
        runs: recorded runs.
        problems: a sentence for each file that was left out.
    """

    results: list[Evaluation]
    speeds: list[Speed]
    runs: list[Run]
    problems: list[str]

    @property
    def sources(self) -> Sources:
        """For the claim ledger."""
        recordings = [Recording(run) for run in self.runs if len(run)]
        return Sources(self.results, recordings, self.speeds)


def collect(folders: Sequence[Path], runs: Iterable[Path] = ()) -> Collected:
    """Evaluations and benchmarks below the folders, and these runs; links that lead out are not
    followed."""
    problems: list[str] = []
    results = _below(folders, evaluations.SUMMARY, evaluations.find_evaluations, problems)
    timed = _below(folders, speeds.BENCHMARK, speeds.find_speeds, problems)
    opened = [one for path in runs for one in _read(_run, path, problems)]
    return Collected(results, timed, opened, problems)


def files(folders: Iterable[Path], name: str) -> list[Path]:
    """Files of a name below the folders, each once; links that lead out are not followed."""
    found = {
        path.resolve(): path
        for folder in folders
        for path in sorted(folder.rglob(name))
        if path.resolve().is_relative_to(folder.resolve())
    }
    return list(found.values())


def _below(
    folders: Sequence[Path], name: str, find: Callable[[Path], list], problems: list[str]
) -> list[Any]:
    """What `find` reads of every file by itself, so that a damaged one hides no other."""

    def of(folder: Path) -> list[Any]:
        return [one for one in find(folder) if one.path == folder]

    return [one for path in files(folders, name) for one in _read(of, path.parent, problems)]


def _read(read: Callable[[Path], list], path: Path, problems: list[str]) -> list[Any]:
    try:
        return read(path)
    except (EvaluationError, SpeedError, RunError) as error:
        problems.append(str(error))
        return []


def _run(folder: Path) -> list[Run]:
    """A run of which every shard was read once."""
    run = open_run(folder)
    run.images, run.keep_counts()  # noqa: B018
    return [run]


def printed_frame() -> pd.DataFrame:
    """The paper's Table 5: model, name, size, base_ratio (1 for DeiT, else 0.7, a keep ratio), box_ap,
    mask_ap, fps (whole network) and fps_backbone, images a second at batch 1 on an A100; NaN where
    the paper prints a word."""
    rows: dict[tuple[str, str], dict[str, Any]] = {}
    for claim in claims.load_claims():
        if claim.where == "Table 5" and claim.quantity in PRINTED:
            row = rows.setdefault((claim.model, claim.size), _printed_row(claim))
            row[PRINTED[claim.quantity]] = claim.number
    return pd.DataFrame(rows.values())


def _printed_row(claim: claims.Claim) -> dict[str, Any]:
    ratio = 1.0 if claim.model == "dense" else evaluations.PAPER_TARGETS[3]
    name = f"{claim.statement.split(':')[0]} {claim.size}"
    values = dict.fromkeys(PRINTED.values(), np.nan)
    return {"model": claim.model, "name": name, "size": claim.size, "base_ratio": ratio} | values
