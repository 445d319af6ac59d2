"""Six types of error of a detector, and how much AP each costs (Bolya et al., TIDE, ECCV 2020).

A detection that finds no object is explained by the first of these that holds, IoU by boxes or masks, t_f
(0.5) what finds an object, t_b (0.1) what touches one: localisation, IoU with an object of its class in
[t_b, t_f]; classification, at least t_f with one of another class; duplicate, at least t_f with an object of
its class that a better detection found; background, at most t_b with all objects; both, what is left. An
object is missed if nothing finds it and no localisation or classification error could be mended to do so.
The cost of a type, dAP, is what AP at IoU t_f gains when its errors are mended: the best localisation or
classification error at a free object finds it, all others of the type go, missed objects are not asked for.

All detections of an image count; the reference (`tidecv` 1.0.1) takes the best 100 (`Rule.most`). As there,
and unlike COCO's AP50: a class that is only detected has AP 0, one of which all objects were missed leaves
the mean once they are mended, and of equal scores the wrong ones come first once something was mended.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import pandas as pd

from analysis.numbers.regions import object_rows
from svit.core import finding
from svit.core.coverage import Truth
from svit.core.statistics import Drawn, resampled_images
from svit.core.types import Detections, ImageId

TYPES = ("classification", "localisation", "both", "duplicate", "background", "missed")
RIGHT = "right"
_RECALLS = np.arange(101) / 100  # as the reference; COCO's differ in the last bit
_CELLS = 1 << 22  # detections times draws at once: 32 MB a table

Scored = tuple[ImageId, Truth, Detections]


@dataclass(frozen=True)
class Rule:
    """What decides between the types.

    Attributes:
        found: least IoU that finds an object, t_f.
        touched: most IoU with the background, t_b.
        kind: "box" or "mask".
        score: detections below are left out.
        most: detections of an image that count, of all classes together, the best ones; None for all: the
            detector has its own limit.
    """

    found: float = 0.5
    touched: float = 0.1
    kind: str = "box"
    score: float = 0.0
    most: int | None = None


BOXES = Rule()


class Chosen(NamedTuple):
    """Some of the errors of a run: bool, a row of `Errors.detections` and of `Errors.objects`."""

    detections: np.ndarray
    objects: np.ndarray


@dataclass(frozen=True, eq=False)
class Errors:
    """The errors of a run.

    Attributes:
        image_ids: the order of the weights of images.
        detections: one row a detection that counts, image by image by falling score: image (its place),
            image_id, detection (index), label, score, `error` (one of `TYPES` or `RIGHT`), `ignored` (in a
            crowd: counts neither way as it is), `object` (index of the one that it found, or that explains
            it; the nearest one for "both"; -1 for background), iou (with that object), `mended`: its label
            once mended, or -1 if it goes.
        objects: one row an object (no crowds): image, image_id, object (index), label, class, area, size,
            `found`, `missed`; some are neither, their error is a detection's.
    """

    image_ids: tuple[ImageId, ...]
    detections: pd.DataFrame
    objects: pd.DataFrame

    def counts(self) -> pd.Series:
        """Number of errors of each type; detections in crowds are none."""
        wrong = self.detections.loc[~self.detections["ignored"], "error"].value_counts()
        counts = wrong.reindex(TYPES, fill_value=0)
        counts["missed"] = self.objects["missed"].sum()
        return counts

    @cached_property
    def as_it_is(self) -> Ranked:
        """The ranking with all errors."""
        rows = self.detections[~self.detections["ignored"]]
        right = rows["error"] == RIGHT
        return self._ranked(rows, rows["label"].to_numpy(), right.to_numpy(), self.objects)

    def mended(self, error: str, chosen: Chosen | None = None) -> Ranked:
        """The ranking without the errors of a type.

        Args:
            chosen: only these are mended; None for all.

        Raises:
            ValueError: another type.
        """
        if error not in TYPES:
            raise ValueError(f"error: expected one of {', '.join(TYPES)}, found {error!r}")
        rows, objects = self.detections, self.objects
        chosen = chosen or Chosen(np.ones(len(rows), bool), np.ones(len(objects), bool))
        right = (rows["error"] == RIGHT).to_numpy()
        mend = (rows["error"] == error).to_numpy() & chosen.detections
        if error == "missed":
            objects = objects[~(objects["missed"].to_numpy() & chosen.objects)]
        labels = np.where(mend, rows["mended"], rows["label"])
        stays = np.where(mend, labels >= 0, ~rows["ignored"])
        order = np.argsort(right, kind="stable")  # the right ones last
        order = order[stays[order]]
        return self._ranked(rows.iloc[order], labels[order], (right | mend)[order], objects)

    def _ranked(
        self, rows: pd.DataFrame, labels: np.ndarray, hits: np.ndarray, objects: pd.DataFrame
    ) -> Ranked:
        order = np.argsort(-rows["score"].to_numpy(), kind="stable")
        image, labels, hits = rows["image"].to_numpy()[order], labels[order], hits[order]
        classes = []
        for label in np.union1d(labels, self.objects["label"].unique()):
            own = labels == label
            asked = objects.loc[objects["label"] == label, "image"]
            count = np.bincount(asked.astype(int), minlength=len(self.image_ids))
            classes.append((image[own], np.flatnonzero(hits[own]), count))
        return Ranked(tuple(classes))

    def costs(
        self,
        draws: int = 1000,
        seed: int = 0,
        chosen: Chosen | None = None,
        limit: np.ndarray | None = None,
    ) -> dict[str, Drawn]:
        """dAP of each type, in points, on the images and on draws of them; those of other runs on the same
        images are paired.

        Args:
            chosen: as of `mended`.
            limit: bool (images,), the images that are meant and drawn from; None for all.

        Raises:
            ValueError: there are none.
        """
        base = self.ap(draws, seed, limit)
        found = {}
        for error in TYPES:
            gain = self._drawn(self.mended(error, chosen), draws, seed, limit) - base
            # a loss comes from bins of recall
            found[error] = Drawn(max(gain.value, 0.0), np.maximum(gain.draws, 0), gain.key)
        return found

    def ap(self, draws: int = 1000, seed: int = 0, limit: np.ndarray | None = None) -> Drawn:
        """AP at IoU t_f in percent with all errors; arguments as of `costs`."""
        return self._drawn(self.as_it_is, draws, seed, limit)

    def _drawn(self, ranked: Ranked, draws: int, seed: int, limit: np.ndarray | None) -> Drawn:
        return resampled_images(ranked.ap, self.image_ids, draws, seed, limit, together=True)


@dataclass(frozen=True, eq=False)
class Ranked:
    """Detections of each class by falling score: the place of each one's image, int (detections,); the ranks
    of those that are right; the objects of each image, int (images,)."""

    classes: tuple[tuple[np.ndarray, np.ndarray, np.ndarray], ...]

    def ap(self, weights: np.ndarray) -> np.ndarray:
        """AP in percent, float64 (draws,), when image i counts `weights[:, i]` times; NaN where nothing is
        left.

        Args:
            weights: int64 (draws, images), or (images,) for one draw.
        """
        weights = np.atleast_2d(weights)
        longest = max((len(image) for image, _, _ in self.classes), default=0)
        parts = np.array_split(weights, 1 + len(weights) * longest // _CELLS)
        return np.concatenate([self._ap(part) for part in parts])

    def _ap(self, weights: np.ndarray) -> np.ndarray:
        values = np.full((len(weights), len(self.classes)), np.nan)
        for place, one in enumerate(self.classes):
            values[:, place] = _class_ap(*one, weights)
        known = [row[~np.isnan(row)] for row in values]
        return np.array([100 * row.mean() if len(row) else np.nan for row in known])


def _class_ap(
    image: np.ndarray, hits: np.ndarray, objects: np.ndarray, weights: np.ndarray
) -> np.ndarray:
    """AP of a class on each draw: as COCO's `accumulate` the highest precision at each recall or further on,
    0 at recalls that are never reached; NaN where it has neither detections nor objects."""
    asked, share = weights @ objects, weights[:, image]
    found = np.cumsum(share[:, hits], axis=1)
    precision = found / (np.cumsum(share, axis=1)[:, hits] + np.spacing(1))
    envelope = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    envelope = np.pad(envelope, ((0, 0), (0, 1)))
    reached = found / np.maximum(asked, 1)[:, None]
    places = np.array([np.searchsorted(row, _RECALLS) for row in reached])
    means = np.take_along_axis(envelope, places, axis=1).mean(axis=1)
    return np.where(asked > 0, means, np.where(share.any(axis=1), 0.0, np.nan))


def errors_of(
    samples: Iterable[Scored], class_names: Sequence[str] = (), rule: Rule = BOXES
) -> Errors:
    """Explains every wrong detection and missed object.

    Args:
        samples: id, ground truth and detections of each image.

    Raises:
        ValueError: masks asked for and not given.
    """
    ids, detections, objects = [], [], []
    for place, (image_id, target, found) in enumerate(samples):
        ids.append(image_id)
        columns, taken, mendable = _explained(found, target, rule)
        detections.append({"image": np.full(len(columns["label"]), place), **columns})
        for index, row in object_rows(image_id, target, class_names):
            missed = not (taken[index] or mendable[index])
            objects.append({"image": place, **row, "found": bool(taken[index]), "missed": missed})
    table = pd.DataFrame(objects, columns=_OBJECT).astype({"found": bool, "missed": bool})
    return Errors(tuple(ids), _joined(ids, detections), table)


def _joined(ids: Sequence[ImageId], columns: Sequence[dict[str, np.ndarray]]) -> pd.DataFrame:
    """The detections of all images below each other."""
    nothing = {name: np.zeros(0, kind) for name, kind in _DETECTION.items()}
    table = {name: np.concatenate([one[name] for one in columns or [nothing]]) for name in nothing}
    rows = pd.DataFrame(table)
    known = pd.Series(list(ids), dtype=object).reindex(rows["image"]).infer_objects()
    rows.insert(1, "image_id", known.to_numpy())
    return rows


_DETECTION = {
    **{"image": int, "detection": int, "label": int, "score": np.float32, "error": object},
    **{"ignored": bool, "object": int, "iou": float, "mended": int},
}
_OBJECT = (
    *("image", "image_id", "object", "label", "class", "area", "size"),
    *("found", "missed"),
)


def _explained(
    found: Detections, target: Truth, rule: Rule
) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]:
    """Columns of the detections of an image; bool (objects,), which are found, which an error could find."""
    seen = np.argsort(-found.scores, kind="stable")
    seen = seen[found.scores[seen] >= rule.score][: rule.most]
    overlap = finding.overlaps(found, seen, target, np.arange(len(target)), rule.kind)
    same = found.labels[seen][:, None] == target.labels
    real = np.flatnonzero(~target.crowd)
    own = np.where(same, overlap, 0)[:, real]
    # of equal overlaps the first object
    backwards = finding.greedy(own[:, ::-1], np.zeros(len(real), bool), rule.found)
    chosen = np.where(backwards >= 0, len(real) - 1 - backwards, -1)
    taken = np.zeros(len(real), bool)
    taken[chosen[chosen >= 0]] = True
    crowded = (np.where(same, overlap, 0)[:, target.crowd] > rule.found).any(axis=1)
    error, place, iou = _types(overlap[:, real], same[:, real], chosen, taken, rule)
    first, mendable = _first_at_free(error, place, taken)
    labels = target.labels[real][place] if len(real) else found.labels[seen]
    columns = {
        "detection": seen,
        "label": found.labels[seen],
        "score": found.scores[seen],
        "error": error,
        "ignored": crowded & (chosen < 0),
        "object": np.where(place >= 0, real[place], -1) if len(real) else place,
        "iou": iou,
        "mended": np.where(first, labels, -1),
    }
    everywhere = np.zeros((2, len(target)), bool)
    everywhere[:, real] = taken, mendable
    return columns, *everywhere


def _types(
    overlap: np.ndarray, same: np.ndarray, chosen: np.ndarray, taken: np.ndarray, rule: Rule
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Name, place of the object concerned or -1, and IoU with it, of each detection."""
    count = len(overlap)
    if not len(taken):
        return np.full(count, "background", object), np.full(count, -1), np.zeros(count)
    maps = [overlap * same, overlap * ~same, overlap * same * taken, overlap]
    own, other, again, any_ = (one.max(axis=1) for one in maps)
    tests: Mapping[str, np.ndarray] = {
        RIGHT: chosen >= 0,
        "localisation": (rule.touched <= own) & (own <= rule.found),
        "classification": other >= rule.found,
        "duplicate": again >= rule.found,
        "background": any_ <= rule.touched,
    }
    nearest = [one.argmax(axis=1) for one in maps]
    places = [chosen, *nearest[:3], np.full(count, -1)]
    names = [np.full(count, name, object) for name in tests]
    error = np.select(list(tests.values()), names, np.full(count, "both", object))
    place = np.select(list(tests.values()), places, nearest[3])
    return error, place, np.where(place >= 0, overlap[np.arange(count), place], 0)


def _first_at_free(
    error: np.ndarray, place: np.ndarray, taken: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """bool: the detections that find an object once mended, the best at each free one; those objects."""
    able = np.flatnonzero(np.isin(error, ("localisation", "classification")))
    able = able[~taken[place[able]]]
    objects, first = np.unique(place[able], return_index=True)
    chosen, mendable = np.zeros(len(error), bool), np.zeros(len(taken), bool)
    chosen[able[first]], mendable[objects] = True, True
    return chosen, mendable
