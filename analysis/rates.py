"""Accuracy against cost: everything evaluated below some folders, and what the paper prints.

    found = collect([Path("runs"), Path("results")])
    frame = rate_frame(found.results, found.runs)

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

from analysis import claims, evaluations, paper
from analysis.evaluations import Evaluation, EvaluationError
from svit.store import Run, RunError, open_run

# what must agree before the times of a recording are the times of an evaluation
SAME = (
    *("weights_sha256", "data_sha256", "config", "framework", "inference", "seed", "batch"),
    *("intervention", "layers", "masks_from", "device"),
)
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
        runs: recorded runs.
        problems: a sentence for each file that was left out.
    """

    results: list[Evaluation]
    runs: list[Run]
    problems: list[str]


def collect(folders: Iterable[Path], runs: Iterable[Path] = ()) -> Collected:
    """Evaluations below the folders, and these runs; links that lead out are not followed."""
    problems: list[str] = []
    summaries = {
        path.resolve(): path.parent
        for folder in folders
        for path in sorted(folder.rglob(evaluations.SUMMARY))
        if path.resolve().is_relative_to(folder.resolve())
    }
    results = [one for path in summaries.values() for one in _read(_evaluation, path, problems)]
    opened = [one for path in runs for one in _read(_run, path, problems)]
    return Collected(results, opened, problems)


def _read(open_one: Callable[[Path], Any], path: Path, problems: list[str]) -> list[Any]:
    try:
        return [open_one(path)]
    except (EvaluationError, RunError) as error:
        problems.append(str(error))
        return []


def _evaluation(folder: Path) -> Evaluation:
    """The evaluation of this very folder."""
    return next(one for one in evaluations.find_evaluations(folder) if one.path == folder)


def _run(folder: Path) -> Run:
    """A run of which every shard was read once."""
    run = open_run(folder)
    run.images, run.keep_counts()  # noqa: B018
    return run


def rate_frame(results: Sequence[Evaluation], runs: Sequence[Run] = ()) -> pd.DataFrame:
    """`evaluations.frame` with three columns more, a row an evaluation.

    series: model kind, size and way of deciding, as `paper.tradeoff` joins them; dense: prunes
    nothing; images_per_second = 1 / median over images of the model's seconds in a recording of the
    same weights, data and choices (batch included), NaN without; machine: that recording's device.
    Runs that others worked beside are slow: compare only what was recorded on an idle machine.
    """
    frame = evaluations.frame(results)
    if not len(frame):
        return frame
    frame["series"] = paper.series(results)
    frame["dense"] = [one.facts.method == "dense" for one in results]
    speeds = [_speed(one, runs) for one in results]
    return frame.assign(
        images_per_second=[speed for speed, _ in speeds], machine=[name for _, name in speeds]
    )


def _speed(one: Evaluation, runs: Sequence[Run]) -> tuple[float, str]:
    wanted = _identity(one.summary["provenance"])
    for run in runs:
        if _identity(run.provenance) == wanted and len(run) and "seconds" in run.images:
            return 1 / float(run.images["seconds"].median()), str(run.provenance.get("device", ""))
    return float("nan"), ""


def _identity(provenance: dict[str, Any]) -> list[Any]:
    return [provenance.get(name) for name in SAME]


def data_groups(results: Sequence[Evaluation]) -> dict[str, list[Evaluation]]:
    """Evaluations by what they saw; AP is comparable within a group only. Largest group first."""
    groups: dict[tuple[str, int], list[Evaluation]] = {}
    for one in results:
        groups.setdefault((one.facts.data_sha256, one.images), []).append(one)
    named = {}
    for (digest, images), members in sorted(groups.items(), key=lambda item: -len(item[1])):
        named[f"{members[0].facts.data}, {images} images ({digest[:6] or 'unknown'})"] = members
    return named


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
