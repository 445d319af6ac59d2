"""Which detections are right, image by image: what AP and its intervals over images follow from. No torch.

COCO matches detections to objects image by image; only the ranking by score joins images. So matches are
computed once (`svit.evaluation.average_precision`) and AP follows for any multiplicities of the images. A
file of a few bytes a detection holds them beside every `summary.json`; docs/evaluation.md specifies it.
"""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from svit.core.statistics import Drawn, resampled_images
from svit.core.types import ImageId

MATCHES = "matches.npz"
IOUS = np.linspace(0.5, 0.95, 10)  # COCO's thresholds; bit t of `hits` and `ignored` is the t-th
RECALLS = np.linspace(0, 1, 101)
_BITS = 1 << np.arange(len(IOUS), dtype=np.uint16)


class MatchesError(ValueError):
    """A file of matches is missing or damaged; the message names it and the fix."""


@dataclass(frozen=True, eq=False)
class Ranking:
    """All detections of one class, by falling score; equal ones in the order of images. Scores themselves do
    not matter any more.

    Attributes:
        category: COCO's id of the class.
        image: int32 (n,) position of the image of each detection.
        hits: uint16 (n,), a bit an IoU threshold of `IOUS`: whether it found an object.
        ignored: uint16 (n,), likewise: whether it counts neither way (crowds); others are false positives.
        objects: int32 (images,) objects to find.
    """

    category: int
    image: np.ndarray
    hits: np.ndarray
    ignored: np.ndarray
    objects: np.ndarray

    def precisions(self, weights: np.ndarray) -> np.ndarray | None:
        """Interpolated precision (IoU thresholds, recalls) as COCO's `accumulate`, when image i counts
        `weights[i]` times; None without objects."""
        objects = int(self.objects @ weights)
        if objects == 0:
            return None
        hits, ignored, before = self._places
        share = np.append(weights[self.image], 0)  # the last is what fills rows up
        found = np.cumsum(share[hits], axis=1)
        counted = np.cumsum(share)[hits]
        if ignored.size:
            skipped = np.pad(np.cumsum(share[ignored], axis=1), ((0, 0), (1, 0)))
            counted -= np.take_along_axis(skipped, before, axis=1)
        return _at_recalls(found, counted, objects)

    @cached_property
    def _places(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """A row for each threshold, filled up to one length: the ranks of hits, those of what is ignored, and
        how many of these come before each hit. What fills up hits comes last and adds no hit: precision
        there is below that of the last hit and no recall is first reached there, so it changes nothing."""
        hits = [np.flatnonzero(self.hits & ~self.ignored & bit) for bit in _BITS]
        ignored = [np.flatnonzero(self.ignored & bit) for bit in _BITS]
        before = [np.searchsorted(*pair) for pair in zip(ignored, hits, strict=True)]
        last = len(self.image)
        return _filled(hits, last), _filled(ignored, last), _filled(before, 0)


def _filled(rows: Sequence[np.ndarray], value: int) -> np.ndarray:
    longest = max(map(len, rows))
    return np.stack([np.append(row, np.full(longest - len(row), value, int)) for row in rows])


def _at_recalls(found: np.ndarray, counted: np.ndarray, objects: int) -> np.ndarray:
    """Precision at `RECALLS`, as COCO's `accumulate`: the highest one there or further on, 0 at recalls that
    are never reached. All rows at once.

    Args:
        found: hits so far at each hit, int (rows, hits).
        counted: hits and false positives so far.
        objects: to find.

    Returns: float64 (rows, recalls).
    """
    rows, hits = found.shape
    precision = np.zeros((rows, hits + 1))  # the last is where what is never reached looks
    precision[:, :-1] = found / (counted + np.spacing(1))
    envelope = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    needed = np.searchsorted(np.arange(objects + 1) / objects, RECALLS)  # hits for each recall
    # one search in all rows, which are made to follow each other
    apart = np.arange(rows)[:, None] * (max(objects, found.max(initial=0)) + 1)
    place = np.searchsorted((found + apart).ravel(), (needed + apart).ravel())
    place = place.reshape(rows, -1) - np.arange(rows)[:, None] * hits
    return np.take_along_axis(envelope, place, axis=1)


@dataclass(frozen=True, eq=False)
class Matches:
    """Box or mask AP of one result list under any multiplicities of the images, without re-matching.

    A draw that holds image i w_i times is the same ranking in which every detection and object of image i
    counts w_i times: true and false positives are cumulative sums of w. Copies of a detection would stand
    next to each other. After the last copy of a true positive precision is higher than between them, and
    COCO's envelope takes the highest value to the right, so the weighted curve gives exactly the AP of the
    images written out w_i times (but for equal scores within an image, whose copies would interleave).

    Attributes:
        image_ids: sorted; the order of the weights.
        classes: those with detections or objects.
    """

    image_ids: tuple[ImageId, ...]
    classes: tuple[Ranking, ...]

    def ap(self, weights: np.ndarray | None = None) -> float:
        """AP in percent when image i counts `weights[i]` times (int64); -1 if no object is left."""
        if weights is None:
            weights = np.ones(len(self.image_ids), np.int64)
        curves = [ranking.precisions(weights) for ranking in self.classes]
        counted = [curve for curve in curves if curve is not None]
        return 100 * float(np.mean(counted)) if counted else -1.0

    def drawn(
        self,
        draws: int,
        seed: int = 0,
        members: np.ndarray | None = None,
        videos: Mapping[ImageId, ImageId] | None = None,
    ) -> Drawn:
        """AP on the images and on draws of them; those of other matches of the same images are paired.

        Args:
            members: bool (images,), the images that are meant and drawn from; None for all.
            videos: image id -> its video, of frames that are drawn with their video; None draws images.

        Returns: NaN on draws without an object, and on all where one image alone has any: it tells nothing of
            others. Where none has any, all are -1.

        Raises:
            ValueError: there are none.
        """
        units = None
        if videos is not None:
            number = {video: place for place, video in enumerate(dict.fromkeys(videos.values()))}
            units = np.array([number[videos[image_id]] for image_id in self.image_ids])
        drawn = resampled_images(self.ap, self.image_ids, draws, seed, members, videos=units)
        if drawn.value >= 0 and self._with_objects(members, units) < 2:
            return replace(drawn, draws=np.full(draws, np.nan))
        return _known(drawn)

    def _with_objects(self, members: np.ndarray | None, units: np.ndarray | None) -> int:
        """Number of images (of their units, where these are drawn) with an object, among the members."""
        shown = np.any([ranking.objects > 0 for ranking in self.classes], axis=0)
        shown = shown if members is None else shown & members
        return len(np.unique(np.flatnonzero(shown) if units is None else units[shown]))


def _known(drawn: Drawn) -> Drawn:
    """AP without COCO's -1 of draws that hold no object; of images without any it stays."""
    if drawn.value < 0:
        return drawn
    return replace(drawn, draws=np.where(drawn.draws < 0, np.nan, drawn.draws))


def packed(matches: Mapping[str, Matches], drawn: Mapping[str, Drawn]) -> bytes:
    """A file of the matches of "box" and "mask" and their AP on draws; equal content gives equal bytes."""
    first = next(iter(matches.values()))
    arrays = {"images": np.array(json.dumps(first.image_ids))}
    for kind, one in matches.items():
        arrays |= {f"{kind}_{name}": array for name, array in _arrays(one).items()}
        arrays[f"{kind}_ap"] = np.array(drawn[kind].value)
        arrays[f"{kind}_draws"] = drawn[kind].draws.astype(np.float32)
        arrays[f"{kind}_key"] = np.array(drawn[kind].key)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:  # numpy's own would write down the time
        for name, array in arrays.items():
            entry = zipfile.ZipInfo(f"{name}.npy")
            entry.compress_type = zipfile.ZIP_DEFLATED
            with file.open(entry, "w") as part:
                np.lib.format.write_array(part, array, allow_pickle=False)
    return buffer.getvalue()


_COLUMNS = {"image": np.int32, "hits": np.uint16, "ignored": np.uint16}


def _arrays(matches: Matches) -> dict[str, np.ndarray]:
    classes, size = matches.classes, (len(matches.classes), len(matches.image_ids))
    joined = {
        name: np.concatenate([np.zeros(0, kind), *(getattr(one, name) for one in classes)])
        for name, kind in _COLUMNS.items()
    }
    return {
        **joined,
        "categories": np.array([one.category for one in classes], np.int64),
        "ends": np.cumsum([len(one.image) for one in classes], dtype=np.int64),
        "objects": np.array([one.objects for one in classes], np.int32).reshape(size),
    }


@dataclass(frozen=True)
class MatchesFile:
    """The matches beside a summary; each part is read when it is asked for.

    Args:
        path: `matches.npz` in the folder of an evaluation.
        sha256: what it must hash to, as the summary says; "" takes any.

    Raises:
        MatchesError: by its methods: there is none, or it is damaged or of another evaluation.
    """

    path: Path
    sha256: str = ""

    def drawn(self, kind: str) -> Drawn:
        """AP of "box" or "mask" on the images and on the draws of the evaluation."""
        parts = self._read(kind, ("ap", "draws", "key"))
        return _known(Drawn(float(parts["ap"]), parts["draws"].astype(float), str(parts["key"])))

    def matches(self, kind: str) -> Matches:
        """The matches of "box" or "mask", for draws of one's own."""
        parts = self._read(kind, (*_COLUMNS, "categories", "ends", "objects"), "images")
        cut = [np.split(parts[name], parts["ends"][:-1]) for name in _COLUMNS]
        rankings = zip(parts["categories"].tolist(), *cut, parts["objects"])
        return Matches(
            tuple(json.loads(str(parts["images"]))), tuple(Ranking(*one) for one in rankings)
        )

    def _read(self, kind: str, names: Sequence[str], *shared: str) -> dict[str, np.ndarray]:
        try:
            content = self.path.read_bytes()
            if self.sha256 not in ("", hashlib.sha256(content).hexdigest()):
                raise ValueError("not the one its summary names")
            with np.load(io.BytesIO(content), allow_pickle=False) as file:
                found = {name: file[f"{kind}_{name}"] for name in names}
                return found | {name: file[name] for name in shared}
        except (OSError, ValueError, KeyError, zipfile.BadZipFile, EOFError) as error:
            raise MatchesError(
                f"{self.path}: no matches of {kind} to read ({error}); evaluate again into another folder"
            ) from error
