"""AP, realised keep ratios and compute of a detector on a COCO data set.

    summary = evaluate(detector, dataset, Path("results"), PassOptions(intervention="shuffle"))

Everything comes from one pass over the images, which may record its masks on the way and can then
be interrupted and gone on with. Several inference modes, interventions and seeds make one table
(`svit.evaluation.evaluation_table`), with the paired bootstrap interval of each difference to the
learned masks.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch.distributed as dist

from svit.core.slices import crowding
from svit.core.types import ImageId
from svit.data.classes import ClassError, side_by_side
from svit.data.coco import CocoDataset
from svit.detectors.base import Detector
from svit.evaluation import provenance
from svit.evaluation.average_precision import COUNTED, check_evaluator
from svit.evaluation.passes import (
    ALONE,
    ImageResult,
    PassOptions,
    Unreadable,
    check_masks,
    inference_mode,
    planned,
    run_detector,
)
from svit.evaluation.record import recording, run_provenance
from svit.evaluation.summary import (
    Model,
    Outcome,
    Summary,
    outcome_of,
    refuse_other_summary,
    summarise,
)
from svit.probing.interventions import gated_layers
from svit.runs.run import open_run
from svit.system.files import prepare_folder
from svit.system.processes import Ranks
from svit.weights.loading import check_objects


@dataclass(frozen=True)
class Scoring:
    """What is made of the detections.

    Attributes:
        evaluator: one of `svit.evaluation.average_precision.EVALUATORS`.
        draws: of the bootstrap.
        record: also records a run there, with pictures and scores; an interrupted one is gone on with.
        crowding: also compares images by `svit.core.slices.crowding`.
        boundary: also scores masks by their boundaries (`svit.evaluation.boundary`).
        counted: detections an image and class that AP counts.
    """

    evaluator: str = "pycocotools"
    draws: int = 1000
    record: Path | None = None
    crowding: bool = False
    boundary: bool = False
    counted: int = COUNTED


def evaluate(
    detector: Detector,
    dataset: CocoDataset,
    output: Path,
    options: PassOptions = PassOptions(),
    scoring: Scoring = Scoring(),
    *,
    ranks: Ranks = ALONE,
    **facts: Any,
) -> Summary | None:
    """Predicts, scores and writes `coco_instances_results.json`, `summary.json` and `images.csv`.

    Args:
        output: folder to write.
        options: how the detector is run; scores of gates are kept only in a recorded run.
        ranks: this process among those that share the images; all of them have to call.
        facts: more provenance, such as the name of the weights.

    Returns: the summary on the first rank, None on the others.

    Raises:
        ValueError: other classes than the model's, an option that does not exist, or blocks
            where no gate decides.
        FileError: `output` cannot be written, or holds another evaluation; told before the first image
            is looked at.
        RunError: `scoring.record` holds another run or cannot be written.
    """
    check_evaluator(scoring.evaluator, scoring.boundary, scoring.counted)
    _check(detector, dataset, options.limit)
    check_masks(detector, options)
    output, record = Path(output), scoring.record
    if ranks.is_first:
        prepare_folder(output)
    options = replace(options, scores=record is not None)
    with inference_mode(detector, options.inference, options.seed):
        source = run_provenance(detector, dataset, options, **facts)
        described = {**source, "limit": options.limit, "evaluator": scoring.evaluator}
        if scoring.counted != COUNTED:
            described["counted"] = scoring.counted
        if ranks.is_first:
            refuse_other_summary(output, described, scoring.boundary)
        batches = planned(detector, dataset, options, ranks)
        if record is None:
            results = run_detector(detector, dataset, batches, options)
        else:
            results = recording(detector, dataset, record, source, options, ranks=ranks)
        found = [_outcome(dataset, result) for result in results]
    if record is not None:
        chosen = set(itertools.chain(*batches)).intersection(range(len(dataset))[: options.limit])
        found += _read_back(record, dataset, chosen, found)
    outcomes = _gather(found, ranks)
    if not ranks.is_first:
        return None
    described |= {**provenance.of_command(), "data_images": len(dataset)}
    truth = dataset.coco(range(len(dataset))[: options.limit])
    settings = {"evaluator": scoring.evaluator, "draws": scoring.draws}
    settings |= {"boundary": scoring.boundary, "counted": scoring.counted}
    slices = _slices(dataset, truth, options.limit, scoring.crowding)
    model = model_of(detector, options.masks_from)
    summary = summarise(model, truth, outcomes, described, slices=slices, **settings)
    summary.write(output)
    return summary


def _slices(
    dataset: CocoDataset, truth: dict[str, Any], limit: int | None, crowded: bool
) -> dict[str, dict[ImageId, str]]:
    """Field -> image id -> what the image is of it: texts of the json's images, and crowding where asked."""
    slices = {
        field: dict(zip(dataset.image_ids[:limit], texts, strict=False))
        for field, texts in dataset.slices.items()
    }
    if crowded:
        counts = Counter(one["image_id"] for one in truth["annotations"] if not one["iscrowd"])
        slices["crowding"] = crowding({one["id"]: counts[one["id"]] for one in truth["images"]})
    return slices


def _check(detector: Detector, dataset: CocoDataset, limit: int | None) -> None:
    names = detector.class_names
    if names and list(names) != list(dataset.class_names):
        raise ClassError(
            "the data set was opened with other classes than the model's; open it with "
            f"class_names=detector.class_names\n{side_by_side(dataset.class_names, names)}"
        )
    found, expected = len(dataset.category_ids), detector.config.detector.classes
    if found != expected:
        raise ValueError(
            f"the data set has {found} classes and the model {detector.config.name!r} {expected}; "
            "take the data it was trained for"
        )
    check_objects(dataset, limit)


def model_of(detector: Detector, chooser: Detector | None = None) -> Model:
    """What of a detector a summary needs.

    Args:
        chooser: the model that decides the masks; None for the detector itself.
    """
    method = (chooser or detector).backbone.method
    return Model(detector.config, method.target_ratios(), gated_layers(method))


def _outcome(dataset: CocoDataset, result: ImageResult | Unreadable) -> Outcome:
    if isinstance(result, Unreadable):
        return Outcome(dataset.image_ids[result.index], [], error=result.message)
    return outcome_of(result.trace, result.detections, dataset.category_ids)


def _read_back(
    record: Path, dataset: CocoDataset, chosen: Collection[int], found: Sequence[Outcome]
) -> Iterator[Outcome]:
    """Of the chosen images that were not looked at now, because the run holds them from before."""
    left = {dataset.image_ids[index] for index in chosen} - {one.image_id for one in found}
    run = open_run(record) if left else None
    for image_id in left:
        detections = run.detections(image_id, masks=True)
        yield outcome_of(run.trace(image_id), detections, dataset.category_ids)


def _gather(outcomes: list[Outcome], ranks: Ranks) -> list[Outcome]:
    """All outcomes on the first rank, each image once; what comes back elsewhere means nothing."""
    parts = [outcomes]
    if ranks.world > 1:
        parts = [[] for _ in range(ranks.world)]
        dist.gather_object(outcomes, parts if ranks.is_first else None)
    unique = {outcome.image_id: outcome for part in parts for outcome in part}
    return list(unique.values())
