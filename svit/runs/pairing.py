"""Whether two runs may be set side by side: the same images, as many layers, labels that mean the same.

Runs with other images, grids or layers are refused: a difference would mix causes. Two data sets may give
their images the same ids, so ids alone prove nothing. What cannot be seen: other pixels of one size under the
ids, file names and annotations of the same data; pictures of one size that were neither stored nor annotated;
a few changed ones among many, for `LOOKED_AT` are looked at.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image

from svit.core.finding import overlaps
from svit.core.types import Detections, ImageId
from svit.runs.head import known
from svit.runs.run import Run

LOOKED_AT = 8  # images, evenly spread
CELLS = 8  # a side of the pictures that are compared
# Correlation of the cells of two pictures below which they show something else: a picture stored small and
# large stays well above it, other pictures below.
SAME = 0.8
FLAT = 1.0  # of 255, standard deviation: a picture that varies less tells nothing
ALIKE = 0.9  # IoU of two boxes that are one annotation
LEAST = 3  # objects on both sides that prove other pictures if none is alike


class MismatchError(ValueError):
    """The two runs cannot be compared; the message says why."""


def check_pair(first: Run, second: Run) -> None:
    """Refuses two runs that did not see the same images with as many layers.

    Raises:
        MismatchError: they did not, or recorded nothing.
    """
    names = f"{first.path} and {second.path}"
    if not len(first) or not len(second):
        raise MismatchError(f"{names}: a run without images cannot be compared; record it first")
    if first.layers != second.layers:
        raise MismatchError(
            f"{names} have {first.layers} and {second.layers} layers; compare models of equal depth"
        )
    here, there = set(first.image_ids), set(second.image_ids)
    if here != there:
        raise MismatchError(
            f"{names} saw other images: {len(here & there)} of both, {len(here - there)} only in "
            f"the first, {len(there - here)} only in the second; record both on the same images"
        )
    check_pictures(first, second)


def check_classes(first: Run, second: Run) -> None:
    """Refuses runs whose labels mean other things; a run that names no classes is trusted.

    Raises:
        MismatchError: both name their classes, and differ.
    """
    here, there = first.class_names, second.class_names
    if here and there and here != there:
        alike = sorted(here) == sorted(there)
        at = next((i for i, pair in enumerate(zip(here, there)) if pair[0] != pair[1]), None)
        differ = (
            f"{len(here)} and {len(there)}" if at is None else f"{here[at]!r} and {there[at]!r}"
        )
        what = "the same categories in another order" if alike else "other categories"
        raise MismatchError(
            f"{first.path} and {second.path} have {what} ({differ}): what one finds is not what the other "
            "looks for; compare models of one list of classes"
        )


def check_pictures(first: Run, second: Run) -> None:
    """Refuses runs whose images of the same ids are other pictures.

    All that both hold must be of one size. Unless both say that their data are the same (a part of a data set
    has another `data_sha256` than the whole), some are looked at: the stored pictures and, where there are
    none, whether any object is annotated alike.

    Raises:
        MismatchError: they are other pictures.
    """
    held = set(second.image_ids)
    ids = [one for one in first.image_ids if one in held]
    if first.path == second.path or not ids:
        return
    sizes = [run.images.set_index("image_id")[["image_h", "image_w"]] for run in (first, second)]
    here, there = (one.loc[ids].to_numpy() for one in sizes)
    if len(other := np.flatnonzero((here != there).any(axis=1))):
        at = other[0]
        size, size2 = (f"{width} x {height}" for height, width in (here[at], there[at]))
        raise _others(first, second, f"{ids[at]!r} has {size} and {size2} pixels")
    if (data := _data(first)) is None or data != _data(second):
        _look(first, second, ids[:: -(-len(ids) // LOOKED_AT)])


def _others(first: Run, second: Run, why: str) -> MismatchError:
    return MismatchError(
        f"{first.path} and {second.path} hold other pictures under the same ids: image {why}; record both "
        "on the same data"
    )


def _data(run: Run) -> tuple[str, str] | None:
    """What says which data a run saw: their hash, and how files were turned."""
    digest = known(run.provenance, "data_sha256")
    return digest and (str(digest), run.exif)


def _look(first: Run, second: Run, ids: Sequence[ImageId]) -> None:
    stored = False
    for image_id in ids:
        pictures = [run.picture(image_id) for run in (first, second)]
        if any(one is None for one in pictures):
            continue
        stored = True
        if not _same_picture(*pictures):
            raise _others(first, second, f"{image_id!r} shows something else")
    if stored or not first.class_names or first.class_names != second.class_names:
        return
    counts = np.sum([_alike(first, second, image_id) for image_id in ids], axis=0)
    if counts[:2].min() >= LEAST and not counts[2]:
        why = f"{ids[0]!r} and {len(ids) - 1} more have no object annotated alike"
        raise _others(first, second, why)


def _same_picture(one: np.ndarray, other: np.ndarray) -> bool:
    sides = [min(CELLS, *pair) for pair in zip(one.shape[1::-1], other.shape[1::-1])]
    small = [
        np.asarray(Image.fromarray(picture).resize(sides, Image.Resampling.BOX), float)
        for picture in (one, other)
    ]
    a, b = (cells - cells.mean(axis=(0, 1)) for cells in small)
    spread = np.sqrt((a**2).mean() * (b**2).mean())
    return bool(spread < FLAT**2 or (a * b).mean() >= SAME * spread)


def _alike(first: Run, second: Run, image_id: ImageId) -> tuple[int, int, int]:
    """Objects annotated in the image of each run, none where one has no annotations, and how many of the
    first lie where one of the second does."""
    one, other = first.target(image_id), second.target(image_id)
    if one is None or other is None:
        return 0, 0, 0
    boxes = Detections(one.boxes_xyxy, np.ones(len(one)), one.labels)
    iou = overlaps(boxes, np.arange(len(one)), other, np.arange(len(other)), "box")
    return len(one), len(other), int((iou >= ALIKE).any(axis=1).sum())
