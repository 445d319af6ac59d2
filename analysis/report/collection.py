"""What lies in the folders of a command line: recorded runs, evaluations, benchmarks, trainings."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from analysis.figures.output import Entry, RenderError, file_name
from analysis.paper.measurements import Recording, Sources
from analysis.sources import benchmarks as speeds
from analysis.sources import evaluations
from analysis.sources import trainings as curves
from analysis.sources.benchmarks import Speed
from analysis.sources.evaluations import Evaluation
from analysis.sources.trainings import Training
from svit.runs.run import Run, open_run

NEEDED = {  # what an entry takes -> what the folders lack when there is none
    "run": "a recorded run",
    "runs": "a recorded run",
    "pair": "two recorded runs of the same images",
    "results": "results of `svit evaluate`",
    "speeds": "results of `svit benchmark`",
    "trainings": "training folders of `svit train`",
}


@dataclass(frozen=True)
class Given:
    """What was found, each once.

    Attributes:
        runs: recordings of `svit record` or `svit evaluate --record`.
        results: of `svit evaluate`.
        speeds: variants timed by `svit benchmark`.
        trainings: folders of `svit train`.
    """

    runs: list[Run]
    results: list[Evaluation]
    speeds: list[Speed]
    trainings: list[Training]

    def subjects(self, entry: Entry) -> Iterator[tuple[Any, str]]:
        """What an entry draws, one call each, with a name for each where there may be several."""
        if entry.takes == "run":
            yield from zip(self.runs, names(self.runs), strict=True)
        elif entry.takes == "pair":
            yield from self.pairs()
            if entry.alone and len(self.runs) == 1:
                yield self.runs, ""
        elif entry.takes == "runs" and self.runs:
            yield self.runs, ""
        elif entry.takes == "results" and self.results:
            yield self.sources, ""
        elif entry.takes == "speeds" and self.speeds:
            yield self.speeds, ""
        elif entry.takes == "trainings" and self.trainings:
            yield self.trainings, ""

    def pairs(self) -> Iterator[tuple[list[Run], str]]:
        """The first run with each of the others, and their names."""
        if self.runs:
            first, *others = zip(self.runs, names(self.runs), strict=True)
            for run, name in others:
                yield [first[0], run], f"{first[1]}-and-{name}"

    @cached_property
    def sources(self) -> Sources:
        """For Fig. 7 and the ledger; runs are counted once, when first needed."""
        return Sources(self.results, [Recording(run) for run in self.runs], self.speeds)


def gather(folders: Sequence[Path], skip_corrupt: bool = False) -> Given:
    """Everything in some folders and below them.

    Raises:
        RenderError: a folder holds nothing of it.
        RunError: a run is damaged.
        EvaluationError, SpeedError, TrainingError: a file cannot be read.
    """
    runs: dict[Path, Run] = {}
    results: dict[Path, Evaluation] = {}
    timed: dict[tuple[Path, str, str, str], Speed] = {}
    trainings: dict[Path, Training] = {}
    for folder in folders:
        heads = sorted(folder.rglob("run.json"))
        found = (
            evaluations.find_evaluations(folder),
            speeds.find_speeds(folder),
            curves.find_trainings(folder),
        )
        if not heads and not any(found):
            raise RenderError(
                f"{folder} is not a recorded run and holds neither runs (run.json) nor results of "
                "`svit evaluate` (summary.json), `svit benchmark` (benchmark.json) or `svit train` "
                "(metrics.json)"
            )
        for head in heads:
            runs[head.parent.resolve()] = open_run(head.parent, skip_corrupt=skip_corrupt)
        results |= {one.path.resolve(): one for one in found[0]}
        timed |= {(one.path.resolve(), one.part, one.size, one.variant): one for one in found[1]}
        trainings |= {one.path.resolve(): one for one in found[2]}
    return Given(*(list(part.values()) for part in (runs, results, timed, trainings)))


def names(runs: Sequence[Run]) -> list[str]:
    """Folder names of runs, numbered where they repeat."""
    plain = [file_name(run.path.resolve().name) for run in runs]
    repeated = {name for name in plain if plain.count(name) > 1}
    return [f"{name}-{i + 1}" if name in repeated else name for i, name in enumerate(plain)]
