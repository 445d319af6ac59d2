"""Objects of a recorded run explained, each kept beside the run as soon as its picture is done.

asked = Asked(run, session, options)
for image_id, numbers in found_objects(run, 100).items():
    asked.explain(image_id, "annotation", numbers)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from svit.core.attribution import Explanation, Thing
from svit.core.config import Config, ConfigError, from_dict
from svit.core.types import ImageId, Target, TokenTrace
from svit.data.images import resize_target
from svit.data.reading import ImageError, image_size, read_image
from svit.live import originals
from svit.live.pictures import Picture, recorded
from svit.live.session import Session
from svit.probing.attribution.explain import as_target as as_target
from svit.probing.attribution.explain import planned
from svit.probing.attribution.explain import things_of as things_of
from svit.probing.attribution.options import AttributionError, Options
from svit.probing.attribution.trials import Tell
from svit.runs.attributions import Attributions, Decided, read_explanation
from svit.runs.head import known
from svit.runs.run import Run
from svit.system.text import counted


def weights_of(run: Run, candidates: Sequence[Path]) -> Path:
    """The checkpoint that a run was recorded with, by its name.

    Raises:
        AttributionError: the run tells of none, or none of the candidates has its name.
    """
    name = Path(str(known(run.provenance, "weights") or "")).name
    if known(run.provenance, "method") is None or "config" not in run.provenance:
        raise AttributionError(
            f"{run.path} was not recorded by a detector of this workbench, so there are no weights here to "
            "run again with other masks; record its pictures with `svit record --weights FILE`"
        )
    found = [path for path in candidates if name and path.name == name]
    if not found:
        raise AttributionError(
            f"{run.path} was recorded with {name or 'weights without a name'}, which is not among the "
            f"checkpoints here; give them as --weights FILE"
        )
    return found[0]


def session_of(run: Run, weights: Path, device: str = "cpu") -> Session:
    """The model that a run was recorded with, deciding as it did then: with the run's settings, which are
    others than those in the weights where `--model` or `--set` said so.

    Raises:
        AttributionError: other weights, settings that are none here, another number type, a method with state
            over frames, or a run with changed masks.
        CheckpointError: the file cannot be read, or does not fit the settings.
    """
    session = Session.load(weights, device, _config_of(run))
    wanted = known(run.provenance, "weights_sha256")
    found = session.weights_sha256
    if wanted != found:
        raise AttributionError(
            f"{weights} holds other weights ({found[:10]}) than {run.path} was recorded with "
            f"({str(wanted)[:10]}): give those, or record anew"
        )
    changed = run.provenance.get("intervention") or "learned"
    if changed != "learned" or run.provenance.get("masks_from"):
        raise AttributionError(
            f"{run.path} was recorded with changed masks ({changed}), and explanations begin with the "
            "model's own: take a run of `svit record`"
        )
    if (dtype := run.provenance.get("dtype", "float32")) != "float32":
        raise AttributionError(
            f"{run.path} was recorded in {dtype}, and explanations compute in float32, where other tokens "
            "may be kept: record it again without --dtype"
        )
    if session.detector.backbone.method.traits.streams:
        raise AttributionError(
            f"{run.path} was recorded by a method that carries state over the frames of a video, of which an "
            "explanation sees one: explain a run of the same weights with pruning.method=dense"
        )
    session.seed = int(run.provenance.get("seed") or 0)
    if mode := run.provenance.get("inference"):
        session.detector.backbone.method.set_inference(mode)
    return session


def _config_of(run: Run) -> Config:
    try:
        return from_dict(run.provenance["config"])
    except ConfigError as error:
        raise AttributionError(
            f"{run.path} was recorded with settings that are none here ({error}): record anew"
        ) from error


class Asked:
    """A run, the model it was recorded with, and what is asked of both.

    Args:
        image_root: folder of the original pictures; None for what `svit.live.pictures.recorded` finds.

    Attributes:
        kept: where the answers lie.
    """

    def __init__(
        self, run: Run, session: Session, options: Options, image_root: Path | None = None
    ) -> None:
        self.run, self.session, self.options, self._root = run, session, options, image_root
        pictures = "found" if image_root is None else "original"
        self.kept = Attributions(run.path, settings_of(run, options, pictures))

    def missing(self, image_id: ImageId, source: str, numbers: Sequence[int]) -> list[int]:
        """Those that are not answered yet."""
        paths = {number: self.kept.path(image_id, source, number) for number in numbers}
        return [number for number, path in paths.items() if not path.exists()]

    def explain(
        self,
        image_id: ImageId,
        source: str,
        numbers: Sequence[int],
        tell: Tell = lambda forwards: None,
    ) -> list[Explanation]:
        """Answers what is not answered yet of one picture, and keeps it.

        Raises:
            AttributionError, ImageError: there is no such image, object or picture.
            FileError: the run's folder cannot be written.
        """
        self.kept.claim()
        if missing := self.missing(image_id, source, numbers):
            picture = self.picture(image_id)
            things = self.things(picture, source, missing)
            plain = self.session.run(picture).trace
            agreement = self._agreement(plain)
            for one in self.session.explain(picture, things, self.options, tell):
                self.kept.write(one, Decided(agreement, _original(picture)))
        paths = [self.kept.path(image_id, source, number) for number in numbers]
        return [read_explanation(path) for path in paths]

    def _agreement(self, plain: TokenTrace) -> float:
        """The share of the recorded decisions that are made again."""
        there = self.run.trace(plain.image_id)
        if plain.keep.shape != there.keep.shape:
            seen, recorded_as = plain.grid.valid_hw, there.grid.valid_hw
            raise AttributionError(
                f"the picture of image {plain.image_id!r} makes {seen[0]} x {seen[1]} tokens, and was "
                f"recorded as {recorded_as[0]} x {recorded_as[1]}: name the originals by --image-root"
            )
        return float((plain.keep == there.keep).mean())

    def picture(self, image_id: ImageId) -> Picture:
        """The picture with its ground truth.

        Raises:
            AttributionError: the run has no such image.
            ImageError: its picture cannot be read.
        """
        if image_id not in self.run.image_ids:
            some = ", ".join(str(one) for one in self.run.image_ids[:5])
            raise AttributionError(
                f"{self.run.path} has no image {image_id!r}; its {counted(len(self.run), 'images')} begin "
                f"with {some}"
            )
        if self._root is None:
            return recorded(self.run, image_id)
        names = dict(zip(self.run.images["image_id"], self.run.images["file_name"], strict=True))
        path = self._root / names[image_id]
        if not path.is_file():
            raise ImageError(
                f"{path} is not there: --image-root is the folder that `svit record` read from; without it "
                "the pictures that the run stores are used"
            )
        pixels, target = self._original(path, image_id), self.run.target(image_id)
        return Picture(pixels, image_id, str(path), target, tuple(self.run.class_names))

    def _original(self, path: Path, image_id: ImageId) -> np.ndarray:
        """The picture in a file, turned as the run turned it; uint8 (height, width, 3).

        Raises:
            ImageError: it cannot be read, or is not the recorded one.
        """
        shape, exif = self.run.trace(image_id).grid.image_hw, self.run.exif
        try:
            pixels = read_image(path, exif=exif, expected_hw=shape)
        except ImageError as error:
            height, width = image_size(path, exif=exif)
            raise ImageError(
                f"{path} has {height} x {width} pixels, the recorded one {shape[0]} x {shape[1]}: it is "
                f"another picture, or damaged ({error})"
            ) from error
        stored = self.run.picture(image_id)
        other = stored is not None and not originals.alike(pixels, stored)
        if other or originals.changed(self.run, image_id, path):
            raise ImageError(
                f"{path} is not the picture that {self.run.path} holds as image {image_id!r}, or was changed "
                "since; without --image-root the pictures that the run stores are used"
            )
        return pixels

    def things(self, picture: Picture, source: str, numbers: Sequence[int]) -> list[Thing]:
        """What is asked about on a picture of the run.

        Raises:
            AttributionError: one of the numbers is not there.
        """
        known_ones = things_of(picture.target, self._detected(picture))
        by_number = {one.number: one for one in known_ones if one.source == source}
        if lacking := [number for number in numbers if number not in by_number]:
            there = f"has {counted(len(by_number), source + 's')} of its own"
            numbered = ", numbered from 1" + " by falling score" * (source == "detection")
            crowds = " (crowds have a number and cannot be explained)" * (source == "annotation")
            raise AttributionError(
                f"image {picture.image_id!r} of {self.run.path} {there}{numbered}; there is no {source} "
                f"{lacking[0]}{crowds}"
            )
        return [by_number[number] for number in numbers]

    def _detected(self, picture: Picture) -> Target | None:
        """What was found, in pixels of the picture."""
        found, sides = self.run.detections(picture.image_id, masks=True), picture.pixels.shape[:2]
        if found is None or found.coded is not None:
            return None if found is None else resize_target(as_target(found), sides)
        height, width = self.run.trace(picture.image_id).grid.image_hw
        scale = np.float32([sides[1] / width, sides[0] / height] * 2)
        return as_target(replace(found, boxes_xyxy=found.boxes_xyxy * scale))


def _original(picture: Picture) -> bool:
    return picture.record is None or picture.record.exact


def settings_of(run: Run, options: Options, pictures: str) -> dict[str, Any]:
    """What answers follow from, beside the object.

    Args:
        pictures: "original" ones of a folder, or "found" (`svit.live.pictures.recorded`).
    """
    asked = {name: value for name, value in asdict(options).items() if name != "batch"}
    weights = known(run.provenance, "weights_sha256")
    return {**asked, "weights_sha256": weights, "pictures": pictures}


def explained(
    session: Session,
    picture: Picture,
    thing: Thing,
    run: Run | None = None,
    tell: Tell = lambda forwards: None,
) -> tuple[Explanation, Path | None]:
    """An object of a picture that somebody looks at, with the options that `Options` has.

    Args:
        run: that the picture is of.

    Returns: the answer, and its file in the run. There is one where the run was recorded with these weights
    and the picture gives its masks again, token by token; it is read where it was asked for before.

    Raises:
        AttributionError, FileError: as `Asked.explain`.
    """
    options, kept = Options(), None
    if run is not None and _same(run, session, picture):
        kept = Attributions(run.path, settings_of(run, options, "found"))
        path = kept.path(picture.image_id, thing.source, thing.number)
        if path.exists():
            return read_explanation(path), path
    (found,) = session.explain(picture, [thing], options, tell)
    if kept is None:
        return found, None
    kept.claim()
    return found, kept.write(found, Decided(1.0, _original(picture)))


def pace(session: Session, picture: Picture) -> tuple[int, float]:
    """How many forwards `explained` takes at most, and seconds for them here and now."""
    options = Options()
    forwards = planned(session.detector, options)
    return forwards, forwards * session.pace(picture, options)


def _same(run: Run, session: Session, picture: Picture) -> bool:
    """Whether the picture gives the masks again that the run holds of it."""
    same = known(run.provenance, "weights_sha256") == session.weights_sha256
    if not same or picture.image_id not in run.image_ids or session.other_settings(picture):
        return False
    recorded_trace, now = run.trace(picture.image_id), session.run(picture).trace
    same = recorded_trace.grid == now.grid and np.array_equal(recorded_trace.keep, now.keep)
    return same and (run.provenance.get("intervention") or "learned") == "learned"


def found_objects(
    run: Run, count: int, least: float = 0.5, missed: bool = False, each: int | None = None
) -> dict[ImageId, list[int]]:
    """The first annotated objects of a run, crowds left out, that it finds with at least a score (or, if
    `missed`, does not), at most `each` of an image: image -> their numbers.

    Raises:
        AttributionError: there are none, or the run has no annotations or detections.
    """
    numbers: dict[ImageId, list[int]] = {}
    left = count
    for image_id in run.image_ids:
        target, found = run.target(image_id), run.detections(image_id, masks=True)
        things = [] if target is None or found is None else things_of(target)
        wanted = [one for one in things if (one.hit(found).score < least) == missed][:each][:left]
        if wanted:
            numbers[image_id] = [one.number for one in wanted]
        left -= len(wanted)
        if not left:
            break
    if not numbers:
        what = "misses" if missed else "finds"
        raise AttributionError(
            f"{run.path} holds no annotated object that it {what} at a score of {least:g}; record a COCO "
            "data set with `svit record --coco JSON --image-root DIR`"
        )
    return numbers
