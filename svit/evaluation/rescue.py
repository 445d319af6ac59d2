"""Do missed objects come back when their tokens are kept? Asked of a recorded run by running its model again.

    rescue(detector, dataset, Path("runs/mine"), Question(draws=8))

Every annotated object that the run does not find (`svit.core.finding`, at least the score) is asked about
once: the tokens that its box touches are kept in some blocks, and beside it as many tokens at random, several
times. One draw proves nothing: a model that gets more tokens finds more, wherever they lie. An answer is kept
beside the run (`svit.runs.rescue`) and an interrupted one gone on with.
"""

from __future__ import annotations

import itertools
import logging
import time
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from svit.core.config import Config, from_dict
from svit.core.coverage import Truth
from svit.core.finding import match
from svit.core.ranges import COUNT
from svit.core.types import Detections, ImageId
from svit.data.samples import Images, Sample, to_device
from svit.detectors.base import Detector
from svit.evaluation.passes import (
    ALONE,
    PassOptions,
    Reader,
    Unreadable,
    computing,
    inference_mode,
)
from svit.evaluation.record import refuse_changed, run_provenance
from svit.probing.apply_edits import applied
from svit.probing.forced import GiveBack
from svit.probing.interventions import intervened_layers, intervention
from svit.runs.rescue import Rescue, read_part, read_rescue, rescue_path, write_part
from svit.runs.run import Run, RunError, open_run
from svit.system.claims import differences, refuse_others
from svit.system.files import plain_json
from svit.system.processes import Ranks
from svit.weights.loading import other_settings

SAVE_S = 30.0  # seconds between writes
# what of a provenance detections follow from
_MASKS = ("weights_sha256", "inference", "seed", "intervention", "layers", "masks_from")
_MASKS += ("dtype", "exif")

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Question:
    """What is asked about each missed object.

    Attributes:
        draws: of as many other tokens.
        layers: zero-based blocks in which tokens are kept; None for the gated ones.
        score: least score of a detection that finds an object.
        iou, kind: of `svit.core.finding.match`.
        seed: of the draws.
    """

    draws: int = 8
    layers: tuple[int, ...] | None = None
    score: float = 0.5
    iou: float = 0.5
    kind: str = "box"
    seed: int = 0

    def __post_init__(self) -> None:
        if self.draws not in COUNT:
            raise ValueError(f"draws: expected {COUNT}, found {self.draws!r}")


@dataclass(frozen=True, eq=False)
class Missed:
    """An object that is not found, and the picture it is in."""

    sample: Sample
    target: Truth
    place: int
    before: float

    @property
    def box(self) -> tuple[float, ...]:
        """In source pixels."""
        return tuple(self.target.boxes_xyxy[self.place].tolist())

    def seeds(self, question: Question) -> list[int]:
        """Of random tokens, one a row; they depend on the object alone."""
        name = f"{question.seed}:{self.sample.image_id}:{self.place}"
        return [zlib.crc32(f"{name}:{draw}".encode()) for draw in range(1 + question.draws)]


def rescue(
    detector: Detector,
    images: Images,
    path: Path,
    question: Question = Question(),
    options: PassOptions = PassOptions(),
    *,
    ranks: Ranks = ALONE,
) -> Rescue:
    """Asks about every missed object of a run that was not asked about yet, and keeps the answers beside it.

    Args:
        images: those of the run, with annotations; pictures are read from their files.
        options: as of the recording; `batch` counts rows of a forward, of which an object has 1 + draws.
        ranks: this process among those that share the images; all of them have to call.

    Returns: all answers that are there, of this process those it has just written.

    Raises:
        EditError: the model prunes nothing, or no gate decides in one of the blocks.
        RunError: no run, or one of another model, other masks or other images, or files changed since.
        FileError: answers to another question about these blocks lie there.
    """
    run = open_run(path)
    layers = asked_layers(options.masks_from or detector, question)
    facts = _facts(run, question, layers)
    own = rescue_path(path, facts["blocks"], ranks.rank)
    rows = _there(own, facts)
    known = read_rescue(path, facts["blocks"])
    done = set() if known is None else {*zip(known.frame["image_id"], known.frame["object"])}
    with inference_mode(detector, options.inference, options.seed):
        _refuse_other_masks(run, run_provenance(detector, images, options), detector.config)
        missed = _missed(detector, images, run, question, options, done, ranks)
        texts = any(isinstance(image_id, str) for image_id in run.image_ids)
        saved = time.monotonic()
        try:
            for part in _forwards(missed, question, options, detector.config.data.pad_multiple):
                rows += _asked(detector, part, layers, question, options)
                if time.monotonic() - saved > SAVE_S:
                    write_part(own, facts, rows, texts)
                    saved = time.monotonic()
        finally:
            write_part(own, facts, rows, texts)
    return read_rescue(path, facts["blocks"])


def asked_layers(chooser: Detector, question: Question) -> tuple[int, ...]:
    """The zero-based blocks that a question is about.

    Args:
        chooser: the model whose masks a run was recorded with.

    Raises:
        RunError: the model prunes nothing, or carries state from frame to frame.
        EditError: no gate decides in one of the blocks.
    """
    if min(chooser.backbone.method.target_ratios()) >= 1:
        raise RunError(f"{chooser.config.name!r} prunes nothing, so no tokens can be given back")
    if chooser.backbone.method.traits.streams:
        raise RunError(
            f"{chooser.config.name!r} reuses what earlier frames left, so no picture can be asked about alone"
        )
    return intervened_layers(chooser, question.layers)


def _refuse_other_masks(run: Run, now: dict[str, Any], config: Config) -> None:
    there, here = ({name: one.get(name) for name in _MASKS} for one in (run.provenance, now))
    lines = differences(there, plain_json(here))
    if settings := run.provenance.get("config"):
        lines += other_settings(from_dict(settings), config).values()
    if lines:
        raise RunError(
            f"{run.path} is of another model or other masks; ask with those it was recorded with. "
            "Differences:\n  " + "\n  ".join(lines)
        )


def _facts(run: Run, question: Question, layers: Sequence[int]) -> dict[str, Any]:
    own = {name: getattr(question, name) for name in ("draws", "score", "iou", "kind", "seed")}
    return {"blocks": [layer + 1 for layer in layers], **own, "created": run.created}


def _there(path: Path, facts: dict[str, Any]) -> list[dict[str, Any]]:
    """Answers that this process gave before."""
    if not path.exists():
        return []
    part = read_part(path)
    refuse_others(path, part.facts, facts, what="question")
    return part.frame.to_dict("records")


def _missed(
    detector: Detector,
    images: Images,
    run: Run,
    question: Question,
    options: PassOptions,
    done: set[tuple[ImageId, int]],
    ranks: Ranks,
) -> Iterator[Missed]:
    """The objects of this process's images that are to be asked about; says which cannot be read."""
    indices = {image_id: index for index, image_id in enumerate(images.image_ids)}
    strangers = [image_id for image_id in run.image_ids if image_id not in indices]
    if strangers:
        raise RunError(f"{run.path} holds images that the data set lacks, as {strangers[0]!r}")
    mine = run.image_ids[ranks.rank :: ranks.world]
    masks = question.kind == "mask"
    parts = run.samples("detections", "target", ids=mine, masks=masks)
    device = next(detector.parameters()).device
    reader = Reader(images, False, options.intervention == "oracle")
    bar = tqdm(zip(mine, parts, strict=True), total=len(mine), disable=not options.progress)
    for image_id, (found, target) in bar:
        if found is None or target is None:
            continue
        places = _unfound(found, target, question)
        places = [one for one in places.items() if (image_id, one[0]) not in done]
        if not places:
            continue
        _refuse_other_objects(run, image_id, target, images.target(indices[image_id]))
        refuse_changed(run, images, [indices[image_id]])
        read = reader[indices[image_id]]
        if isinstance(read, Unreadable):
            log.warning(read.message)
            continue
        sample = to_device(read.sample, device)
        yield from (Missed(sample, target, place, before) for place, before in places)


def _refuse_other_objects(run: Run, image_id: ImageId, there: Truth, now: Truth | None) -> None:
    if now is None or not np.array_equal(there.boxes_xyxy, now.boxes_xyxy):
        raise RunError(
            f"{run.path} holds other annotations of image {image_id!r} than the data set: ask with the data "
            "that it was recorded from"
        )


def _unfound(found: Detections, target: Truth, question: Question) -> dict[int, float]:
    """Objects (no crowds) that no detection with enough score finds -> the score of one with less, or NaN."""
    scores = _scores(found, target, question)
    wanted = np.flatnonzero(~target.crowd & ~(scores >= question.score))
    return {int(place): float(scores[place]) for place in wanted}


def _scores(found: Detections, target: Truth, question: Question) -> np.ndarray:
    """Score of the detection that finds each object, float (objects,), NaN where none does."""
    hits = match(found, target, iou=question.iou, kind=question.kind).detection
    if not len(found):
        return np.full(len(target), np.nan)
    return np.where(hits >= 0, found.scores[hits], np.nan)


def _forwards(
    missed: Iterator[Missed], question: Question, options: PassOptions, multiple: int
) -> Iterator[list[Missed]]:
    """Objects that go together: neighbours whose pictures pad to one size."""
    most = max(1, options.batch // (1 + question.draws))
    for _, alike in itertools.groupby(missed, key=lambda one: one.sample.padded_hw(multiple)):
        while part := list(itertools.islice(alike, most)):
            yield part


def _asked(
    detector: Detector,
    missed: Sequence[Missed],
    layers: tuple[int, ...],
    question: Question,
    options: PassOptions,
) -> list[dict[str, Any]]:
    """The answers of one forward."""
    each = 1 + question.draws
    samples = [one.sample for one in missed for _ in range(each)]
    seeds = [seed for one in missed for seed in one.seeds(question)]
    back = GiveBack([one.box for one in missed], layers, question.draws, seeds)
    edits = (
        ()
        if options.learned
        else intervention(options.intervention, options.masks_from or detector, options.layers)
    )
    with (
        computing(samples[0].image.device, options.dtype),
        applied(detector, samples, (*edits, back), lender=options.masks_from),
    ):
        found = detector.predict(samples)
    added = np.stack([one.cpu().numpy() for one in back.added.values()]).sum(axis=0)
    rows = []
    for place, one in enumerate(missed):
        mine = slice(place * each, (place + 1) * each)
        scores = [_scores(seen, one.target, question)[one.place] for seen in found[mine]]
        rows.append(
            {
                "image_id": one.sample.image_id,
                "object": one.place,
                "before": one.before,
                "after": float(scores[0]),
                "added": int(added[mine][0]),
                "random": [float(score) for score in scores[1:]],
                "random_added": added[mine][1:].tolist(),
            }
        )
    return rows
