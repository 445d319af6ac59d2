"""Which tokens every layer uses on a set of images, and what is found, in a run folder.

    record_run(detector, dataset, Path("runs/mine"))

An interrupted recording goes on where it stopped and ends with the same content.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from svit.detectors.base import Detector
from svit.evaluation import provenance
from svit.evaluation.passes import (
    ALONE,
    How,
    Images,
    Seen,
    Unreadable,
    batches_of,
    deciding,
    look,
)
from svit.runs.run import RunWriter
from svit.system.processes import Ranks
from svit.weights import checkpoint


def record_run(
    detector: Detector,
    dataset: Images,
    path: Path,
    *,
    inference: str | None = None,
    seed: int = 0,
    limit: int | None = None,
    how: How | None = None,
    picture_side: int = 640,
    ranks: Ranks = ALONE,
    progress: bool = True,
    **facts: Any,
) -> int:
    """Records images into a run folder, or goes on with it. Returns: images in its error table.

    Args:
        inference: see `svit.pruning.svit`; None leaves the method's own.
        limit: only the first images.
        picture_side: longer side of the stored pictures in pixels; 0 stores none.
        ranks: this process among those that record together.
        facts: more provenance, such as the name of the weights.

    Raises:
        RunError: the folder holds another run or cannot be written.
        ValueError: see `deciding`.
    """
    how = how or How(pictures=picture_side > 0)
    with deciding(detector, inference, seed):
        source = run_provenance(detector, dataset, how, **facts)
        writer = RunWriter(
            path, source, rank=ranks.rank, world=ranks.world, picture_side=picture_side
        )
        with writer:
            batches = batches_of(len(dataset), how.batch, ranks, limit)
            wanted = missing(dataset, writer, limit)
            for item in look(detector, dataset, batches, how, wanted=wanted, progress=progress):
                write(writer, dataset, item)
            return writer.failed


def run_provenance(detector: Detector, dataset: Images, how: How, **facts: Any) -> dict[str, Any]:
    """Provenance of a run of the detector as it is set now."""
    lender = how.masks_from
    choices = {
        "batch": how.batch,
        "scores": how.scores,
        "intervention": how.intervention,
        "layers": None if how.layers is None else list(how.layers),
        "masks_from": ""
        if lender is None
        else checkpoint.fingerprint(lender.canonical_state_dict()),
    }
    if how.dtype != "float32":  # runs without a word about it are of float32
        choices["dtype"] = how.dtype
    return provenance.of_run(detector, dataset, **choices, **facts)


def missing(dataset: Images, writer: RunWriter, limit: int | None) -> Callable[[int], bool]:
    """index -> whether the run does not hold the image yet; false from the limit on."""
    done, end = writer.done, len(dataset) if limit is None else limit
    return lambda index: index < end and dataset.image_ids[index] not in done


def write(writer: RunWriter, dataset: Images, item: Seen | Unreadable) -> None:
    """Enters an image with its ground truth, or its failure, into a run."""
    file_name = dataset.file_name(item.index)
    if isinstance(item, Unreadable):
        writer.add_error(dataset.image_ids[item.index], item.message, file_name)
        return
    writer.add(
        item.trace,
        item.detections,
        dataset.target(item.index),
        item.image,
        file_name,
        {"seconds": item.seconds},
    )
