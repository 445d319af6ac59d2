"""Which tokens every layer uses on a set of images, and what is found, in a run folder.

    record_run(detector, images, Path("runs/mine"))

An interrupted recording goes on where it stopped and ends with the same content.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from svit.core.slices import marked, marked_frame
from svit.core.types import ImageId
from svit.data.samples import Images, fingerprint, reading
from svit.detectors.base import Detector
from svit.evaluation import provenance
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
from svit.probing.interventions import draws_once
from svit.runs.run import Run, RunError, RunWriter, open_run
from svit.system.files import file_hash
from svit.system.processes import Ranks
from svit.weights import checkpoint


def record_run(
    detector: Detector,
    images: Images,
    path: Path,
    options: PassOptions = PassOptions(),
    *,
    picture_side: int = 640,
    ranks: Ranks = ALONE,
    **facts: Any,
) -> int:
    """Records images into a run folder, or goes on with it. Returns: how many could not be read; the
    run's error table names them.

    Args:
        options: how the detector is run; a recording is gone on with under the same ones alone.
        picture_side: longer side of the stored pictures in pixels; 0 stores none.
        ranks: this process among those that record together.
        facts: more provenance, such as the name of the weights.

    Raises:
        RunError: the folder holds another run or cannot be written, or its pictures were changed since.
        ValueError: see `inference_mode` and `check_masks`.
    """
    with inference_mode(detector, options.inference, options.seed):
        check_masks(detector, options)
        source = run_provenance(detector, images, options, **facts)
        results = recording(
            detector, images, path, source, options, picture_side=picture_side, ranks=ranks
        )
        return sum(isinstance(result, Unreadable) for result in results)


def recording(
    detector: Detector,
    images: Images,
    path: Path,
    source: dict[str, Any],
    options: PassOptions,
    *,
    picture_side: int = 640,
    ranks: Ranks = ALONE,
) -> Iterator[ImageResult | Unreadable]:
    """Hands out every image that it enters into the run of this provenance; see `record_run`.

    The caller has set the detector's mode and seed; see `inference_mode`.
    """
    batches = planned(detector, images, options, ranks)
    writer = RunWriter(path, source, rank=ranks.rank, world=ranks.world, picture_side=picture_side)
    with writer:
        if done := writer.done:
            check_resumed(path, images, batches, done)
        for result in run_detector(
            detector, images, batches, options, done=done, pictures=picture_side > 0
        ):
            enter(writer, images, result)
            yield result


def run_provenance(
    detector: Detector,
    images: Images,
    options: PassOptions,
    class_names: Sequence[str] = (),
    **facts: Any,
) -> dict[str, Any]:
    """Provenance of a run of the detector as it is set now: see `inference_mode`.

    Args:
        class_names: of the model's labels, for images that come without.
    """
    lender = options.masks_from
    choices = {
        "batch": options.batch,
        "scores": options.scores,
        "intervention": options.intervention,
        "layers": None if options.layers is None else list(options.layers),
        "masks_from": ""
        if lender is None
        else checkpoint.fingerprint(lender.canonical_state_dict()),
    }
    if lender is not None:  # its weights alone do not tell how it decides
        method = lender.backbone.method
        how = {"inference": method.inference, "targets": method.target_ratios()}
        choices["masks_from_settings"] = how
    if draws_once(options.intervention, lender or detector, detector):
        choices["one_draw"] = True  # results without a word about it drew every layer anew
    if options.dtype != "float32":  # runs without a word about it are of float32
        choices["dtype"] = options.dtype
    choices |= reading(images)
    names = images.class_names or class_names
    return provenance.of_run(detector, fingerprint(images), names, **choices, **facts)


def check_resumed(
    path: Path, images: Images, batches: Sequence[list[int]], done: Collection[ImageId]
) -> None:
    """`refuse_changed` of the images of the batches that a run holds already. Raises as it does."""
    if places := [i for i in itertools.chain(*batches) if images.image_ids[i] in done]:
        refuse_changed(open_run(path), images, places)


def refuse_changed(run: Run, images: Images, places: Iterable[int]) -> None:
    """Refuses pictures that were changed since they were recorded; of files that are gone nothing is known.

    Args:
        places: indices of the images that are looked at.

    Raises:
        RunError: the file of one has other bytes than it had then.
    """
    changed = []
    for place in places:
        then = run.file_hashes.get(images.image_ids[place])
        now = then and file_hash(images.path(place))
        if now and now != then:
            changed.append(f"{images.path(place)} (SHA-256 {now[:10]}, then {then[:10]})")
    if changed:
        more = f", nor are {len(changed) - 1} more" * (len(changed) > 1)
        raise RunError(
            f"{changed[0]} is not the file that {run.path} was recorded from{more}: put the recorded "
            "pictures back, or record these into a new folder"
        )


def enter(writer: RunWriter, images: Images, result: ImageResult | Unreadable) -> None:
    """Enters an image with its ground truth, or its failure, into a run."""
    file_name, path = images.file_name(result.index), images.path(result.index)
    if isinstance(result, Unreadable):
        writer.add_error(images.image_ids[result.index], result.message, file_name)
        return
    target = images.target(result.index)
    counted = {} if result.macs is None else {"macs": result.macs}
    if images.frames:
        counted |= marked_frame(images.frames[result.index])
    if images.slices:
        counted |= marked({field: texts[result.index] for field, texts in images.slices.items()})
    writer.add(
        result.trace,
        result.detections,
        target,
        result.image,
        file_name,
        {"seconds": result.seconds, **counted},
        file_hash(path),
    )
