"""What lies in some folders: recorded runs, evaluations, benchmarks, trainings, each once; and how a
figure says which of them it is drawn from.

    found = collect([Path("runs"), Path("results")])
    for subject in RUN.subjects(found):
        draw(subject.given)
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Generic, TypeVar

import pandas as pd

from analysis.numbers.object_counts import ObjectCounts, count_objects
from analysis.numbers.run_counts import Census, census
from analysis.sources import labels
from analysis.sources.benchmarks import BENCHMARK, Speed, SpeedError, read_speeds
from analysis.sources.classifiers import ACCURACY, Classified, read_accuracy
from analysis.sources.evaluations import (
    PLAN,
    SUMMARY,
    Evaluation,
    EvaluationError,
    Facts,
    facts_of,
    read_evaluation,
)
from analysis.sources.slices import PER_IMAGE
from analysis.sources.trainings import JOURNAL, Training, read_training
from svit.core.matches import MATCHES
from svit.runs.run import Run, RunError, open_run
from svit.system.text import in_order

HEAD = "run.json"

Source = Run | Evaluation | Speed | Training
Given = TypeVar("Given")
Read = TypeVar("Read")


class CollectionError(ValueError):
    """A folder holds nothing that is read here; the message names it."""


@dataclass(frozen=True)
class Recording:
    """A recorded run and what it is of; it is counted once, when first asked."""

    run: Run

    @cached_property
    def facts(self) -> Facts:
        """What its provenance says, as an evaluation's would."""
        return facts_of(self.run.provenance, len(self.run))

    @cached_property
    def counted(self) -> Census:
        """The census of the run, taken when first asked for."""
        return census(self.run)

    @cached_property
    def reactivation(self) -> pd.DataFrame:
        """`Census.reactivation`, counted when first asked for."""
        return self.counted.reactivation()

    @cached_property
    def on_objects(self) -> ObjectCounts:
        """`object_counts.count_objects`, counted when first asked for."""
        return count_objects(self.run)


@dataclass(frozen=True)
class Collection:
    """What was found, each once.

    Attributes:
        runs: recordings of `svit record` or `svit evaluate --record`.
        results: of `svit evaluate`.
        speeds: variants timed by `svit benchmark`.
        trainings: folders of `svit train`.
        problems: a sentence for each file that was left out.
        accuracies: of `svit.evaluation.classify`.
    """

    runs: Sequence[Run] = ()
    results: Sequence[Evaluation] = ()
    speeds: Sequence[Speed] = ()
    trainings: Sequence[Training] = ()
    problems: Sequence[str] = ()
    accuracies: Sequence[Classified] = ()

    @cached_property
    def recordings(self) -> list[Recording]:
        """The runs that hold images, for the ledger."""
        return [Recording(run) for run in self.runs if len(run)]

    def of_results(self, results: Sequence[Evaluation]) -> Collection:
        """Some of the results with all that was timed."""
        return Collection(results=results, speeds=self.speeds)


@dataclass(frozen=True)
class Subject(Generic[Given]):
    """What one drawing is of.

    Attributes:
        given: what the drawing function gets.
        sources: what title and provenance tell of.
        name: of its folder where there may be several.
    """

    given: Given
    sources: Sequence[Source]
    name: str = ""


@dataclass(frozen=True)
class Kind(Generic[Given]):
    """What figures may be drawn from.

    Attributes:
        needed: what a collection lacks that has no such subject.
        reads: in words.
        arguments: of the command.
        subjects: collection -> what is drawn, one call each.
    """

    needed: str
    reads: str
    arguments: str
    subjects: Callable[[Collection], Iterator[Subject[Given]]] = field(repr=False)


def _each(found: Collection) -> Iterator[Subject[Run]]:
    for run, name in zip(found.runs, labels.folder_names(found.runs), strict=True):
        yield Subject(run, [run], name)


def _together(found: Collection) -> Iterator[Subject[Sequence[Run]]]:
    if found.runs:
        yield Subject(found.runs, found.runs)


def pairs(found: Collection) -> Iterator[Subject[Sequence[Run]]]:
    """The first run with each of the others."""
    first, *names = labels.folder_names(found.runs) or [""]
    for run, name in zip(found.runs[1:], names, strict=True):
        both = [found.runs[0], run]
        yield Subject(both, both, f"{first}-and-{name}")


def _pairs_or_one(found: Collection) -> Iterator[Subject[Sequence[Run]]]:
    return _together(found) if len(found.runs) == 1 else pairs(found)


def _results(found: Collection) -> Iterator[Subject[Collection]]:
    if found.results:
        yield Subject(found, found.results)


def _speeds(found: Collection) -> Iterator[Subject[Sequence[Speed]]]:
    if found.speeds:
        yield Subject(found.speeds, found.speeds)


def _trainings(found: Collection) -> Iterator[Subject[Sequence[Training]]]:
    if found.trainings:
        yield Subject(found.trainings, found.trainings)


_PAIR = "two recorded runs of the same images"
RUN = Kind("a recorded run", "each recorded run", "RUN", _each)
RUNS = Kind("a recorded run", "one recorded run or several, beside each other", "RUN...", _together)
PAIR = Kind(_PAIR, _PAIR, "FIRST SECOND", pairs)
PAIR_OR_RUN = Kind(_PAIR, f"one run, or {_PAIR}", "FIRST SECOND", _pairs_or_one)
RESULTS = Kind(
    "results of `svit evaluate`",
    "results of `svit evaluate`, with those of `svit benchmark`",
    "RESULTS...",
    _results,
)
SPEEDS = Kind("results of `svit benchmark`", "results of `svit benchmark`", "BENCHMARK...", _speeds)
TRAININGS = Kind(
    "training folders of `svit train`", "folders of `svit train`", "TRAINING...", _trainings
)


def collect(folders: Sequence[Path], skip_corrupt: bool = False) -> Collection:
    """Everything in some folders and below them.

    Args:
        skip_corrupt: as `open_run`.

    Raises:
        CollectionError: a folder holds nothing of it.
        RunError: a run is damaged.
        EvaluationError, SpeedError, TrainingError: a file cannot be read.
    """
    for folder in folders:
        if not any(files([folder], name) for name in (HEAD, SUMMARY, BENCHMARK, JOURNAL, ACCURACY)):
            raise CollectionError(
                f"{folder} is not a recorded run and holds neither runs (run.json) nor results of "
                "`svit evaluate` (summary.json), `svit benchmark` (benchmark.json), `svit train` "
                "(metrics.json) or of classifiers (accuracy.json)"
            )
    return Collection(
        [open_run(path.parent, skip_corrupt=skip_corrupt) for path in files(folders, HEAD)],
        [read_evaluation(path) for path in files(folders, SUMMARY)],
        [one for path in files(folders, BENCHMARK) for one in read_speeds(path)],
        [read_training(path) for path in files(folders, JOURNAL)],
        accuracies=[read_accuracy(path) for path in files(folders, ACCURACY)],
    )


def collect_readable(folders: Sequence[Path], runs: Iterable[Path] = ()) -> Collection:
    """Evaluations and benchmarks below the folders, and these runs. What cannot be read is left out, and
    `problems` say so; links that lead out are not followed."""
    problems: list[str] = []

    def read(how: Callable[[Path], Read], paths: Iterable[Path]) -> Iterator[Read]:
        for path in paths:
            try:
                yield how(path)
            except (EvaluationError, SpeedError, RunError) as error:
                problems.append(str(error))

    results = list(read(read_evaluation, files(folders, SUMMARY, inside=True)))
    timed = read(read_speeds, files(folders, BENCHMARK, inside=True))
    speeds = [one for benchmark in timed for one in benchmark]
    accuracies = list(read(read_accuracy, files(folders, ACCURACY, inside=True)))
    recorded = list(read(_proven, runs))
    return Collection(recorded, results, speeds, problems=problems, accuracies=accuracies)


def stamp(folders: Sequence[Path], runs: Iterable[Path]) -> tuple[tuple[str, int], ...]:
    """Changes whenever `collect_readable` would find another result, benchmark or run, or another file beside
    a result from which numbers follow: its plan, matches, table of images."""
    found = {name: files(folders, name, inside=True) for name in (SUMMARY, BENCHMARK, ACCURACY)}
    known = {path for paths in found.values() for path in paths}
    for path in found[SUMMARY]:
        beside = (path.parent.parent / PLAN, *map(path.with_name, (MATCHES, PER_IMAGE)))
        known |= {one for one in beside if one.is_file()}
    known |= {path for run in runs for path in run.glob("*.json")}
    return tuple(sorted((str(path), path.stat().st_mtime_ns) for path in known))


def _proven(folder: Path) -> Run:
    """A run of which every shard was read once."""
    run = open_run(folder)
    run.images, run.keep_counts()  # noqa: B018
    return run


def files(folders: Iterable[Path], name: str, inside: bool = False) -> list[Path]:
    """Files of a name in the folders and below them, each once.

    Args:
        inside: leaves out links that lead out of their folder.
    """
    found = {
        path.resolve(): path
        for folder in folders
        for path in sorted(folder.rglob(name), key=in_order)
        if not inside or path.resolve().is_relative_to(folder.resolve())
    }
    return list(found.values())
