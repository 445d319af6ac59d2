"""AP, realised keep ratios and compute of a detector on a COCO data set.

    summary = evaluate(detector, dataset, Path("results"), intervene="shuffle")

Everything comes from one pass over the images, which may record its masks on the way and can then
be interrupted and gone on with. Several inference modes, interventions and seeds make one table
(`svit.evaluation.evaluation_table`), with the paired bootstrap interval of each difference to the
learned masks.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch.distributed as dist

from svit.data.coco import CocoDataset
from svit.detectors.base import Detector
from svit.evaluation import provenance
from svit.evaluation.average_precision import EVALUATORS
from svit.evaluation.passes import (
    ALONE,
    How,
    Seen,
    Unreadable,
    batches_of,
    deciding,
    look,
)
from svit.evaluation.record import missing, run_provenance, write
from svit.evaluation.summary import (
    Model,
    Outcome,
    Summary,
    outcome_of,
    refuse_other_summary,
    summarise,
)
from svit.probing.edits import EditError
from svit.probing.interventions import gated_layers, intervention
from svit.runs.run import RunWriter, open_run
from svit.system.files import prepare_folder
from svit.system.processes import Ranks
from svit.weights.loading import check_objects


def evaluate(
    detector: Detector,
    dataset: CocoDataset,
    output: Path,
    *,
    batch: int = 1,
    workers: int = 0,
    inference: str | None = None,
    seed: int = 0,
    intervene: str | None = None,
    layers: Sequence[int] | None = None,
    masks_from: Detector | None = None,
    record: Path | None = None,
    limit: int | None = None,
    dtype: str = "float32",
    evaluator: str = "pycocotools",
    draws: int = 1000,
    ranks: Ranks = ALONE,
    progress: bool = True,
    **facts: Any,
) -> Summary | None:
    """Predicts, scores and writes `coco_instances_results.json`, `summary.json` and `images.csv`.

    Args:
        output: folder to write.
        batch: images a forward; padding to one size changes masks, so 1 is what is usually reported.
        workers: processes that read images ahead.
        inference: mode of the gates; None leaves the method's own.
        intervene: one of `svit.probing.interventions.INTERVENTIONS`; None is "learned".
        layers: zero-based gated blocks the intervention changes; None is all of them.
        masks_from: another model that decides the masks.
        record: also records a run there; an interrupted one is gone on with.
        limit: only the first images.
        dtype: number type of the backbone, one of `svit.evaluation.passes.DTYPES`.
        evaluator: one of `svit.evaluation.average_precision.EVALUATORS`.
        draws: of the bootstrap.
        ranks: this process among those that share the images; all of them have to call.
        facts: more provenance, such as the name of the weights.

    Returns: the summary on the first rank, None on the others.

    Raises:
        ValueError: no images, other classes than the model's, an option that does not exist, or blocks
            where no gate decides.
        FileError: `output` cannot be written, or holds another evaluation; told before the first image
            is looked at.
        RunError: `record` holds another run or cannot be written.
    """
    _check(detector, dataset, evaluator, limit)
    how = How(
        batch,
        scores=record is not None,
        pictures=record is not None,
        workers=workers,
        intervention=intervene or "learned",
        layers=None if layers is None else tuple(layers),
        masks_from=masks_from,
        dtype=dtype,
    )
    _check_masks(how, detector)
    output = Path(output)
    if ranks.is_first:
        prepare_folder(output)
    indices = range(len(dataset) if limit is None else min(limit, len(dataset)))
    with deciding(detector, inference, seed):
        source = run_provenance(detector, dataset, how, **facts)
        described = {**source, "limit": limit, "evaluator": evaluator}
        if ranks.is_first:
            refuse_other_summary(output, described)
        work = _Work(detector, dataset, how, limit, ranks, progress and ranks.is_first)
        outcomes = _gather(list(work.outcomes(record, source)), ranks)
    if not ranks.is_first:
        return None
    described |= provenance.of_command()
    truth = dataset.coco(indices)
    summary = summarise(
        _model(detector), truth, outcomes, described, evaluator=evaluator, draws=draws
    )
    summary.write(output)
    return summary


def _check(detector: Detector, dataset: CocoDataset, evaluator: str, limit: int | None) -> None:
    found, expected = len(dataset.category_ids), detector.config.detector.classes
    if found != expected:
        raise ValueError(
            f"the data set has {found} classes and the model {detector.config.name!r} {expected}; "
            "take the data it was trained for"
        )
    if evaluator not in EVALUATORS:
        raise ValueError(f"evaluator: expected one of {', '.join(EVALUATORS)}, found {evaluator!r}")
    if not len(dataset) or (limit is not None and limit < 1):
        raise ValueError("expected at least one image to evaluate on, found none")
    check_objects(dataset, limit)


def _check_masks(how: How, detector: Detector) -> None:
    """Raises EditError for masks that cannot be, and for blocks in which nothing changes them."""
    if how.intervention == "learned" and how.masks_from is None and how.layers is not None:
        raise EditError(
            "blocks are of an intervention or of masks from another model, found neither"
        )
    intervention(how.intervention, how.masks_from or detector, how.layers)


def _model(detector: Detector) -> Model:
    method = detector.backbone.method
    return Model(detector.config, method.target_ratios(), gated_layers(method))


@dataclass(frozen=True)
class _Work:
    """The images of this rank and how they are looked at."""

    detector: Detector
    dataset: CocoDataset
    how: How
    limit: int | None
    ranks: Ranks
    progress: bool

    @property
    def batches(self) -> list[list[int]]:
        return batches_of(len(self.dataset), self.how.batch, self.ranks, self.limit)

    def outcomes(self, record: Path | None, source: dict[str, Any]) -> Iterator[Outcome]:
        """Of every image: those a run already holds are read from there, the others seen anew."""
        if record is None:
            yield from map(self._outcome, self._look(lambda index: index < self._end))
            return
        with RunWriter(record, source, rank=self.ranks.rank, world=self.ranks.world) as writer:
            ready = writer.done
            for item in self._look(missing(self.dataset, writer, self.limit)):
                write(writer, self.dataset, item)
                yield self._outcome(item)
        yield from self._read_back(record, ready)

    @property
    def _end(self) -> int:
        return len(self.dataset) if self.limit is None else self.limit

    def _look(self, wanted: Callable[[int], bool]) -> Iterator[Seen | Unreadable]:
        return look(
            self.detector,
            self.dataset,
            self.batches,
            self.how,
            wanted=wanted,
            progress=self.progress,
        )

    def _outcome(self, item: Seen | Unreadable) -> Outcome:
        if isinstance(item, Unreadable):
            return Outcome(self.dataset.image_ids[item.index], [], error=item.message)
        return outcome_of(item.trace, item.detections, self.dataset.category_ids)

    def _read_back(self, record: Path, ready: frozenset) -> Iterator[Outcome]:
        if not ready:
            return
        run = open_run(record)
        for index in itertools.chain(*self.batches):
            image_id = self.dataset.image_ids[index]
            if index < self._end and image_id in ready:
                found = run.detections(image_id, masks=True)
                yield outcome_of(run.trace(image_id), found, self.dataset.category_ids)


def _gather(outcomes: list[Outcome], ranks: Ranks) -> list[Outcome]:
    """All outcomes on the first rank, each image once; what comes back elsewhere means nothing."""
    parts = [outcomes]
    if ranks.world > 1:
        parts = [[] for _ in range(ranks.world)]
        dist.gather_object(outcomes, parts if ranks.is_first else None)
    unique = {outcome.image_id: outcome for part in parts for outcome in part}
    return list(unique.values())
