"""All images of a data set as validation images once: a folder in COCO's layout for each fold. No torch.

    OUT/folds.json                              whose the folder is
    OUT/fold-1/train/, OUT/fold-1/val/          pictures, as hard links where the disk has them
    OUT/fold-1/annotations/instances_val.json   a K-th of all images; the rest is instances_train.json

A dense start must be trained in each fold anew: one that saw all training images knows those of other folds.
"""

from __future__ import annotations

import filecmp
import json
import os
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from svit.data.validate import CocoError
from svit.data.writing.annotated import Annotated, Split, dealt, digests, facts_of, read_split
from svit.data.writing.coco_folder import annotations
from svit.system.claims import claim
from svit.system.files import prepare_folder, write_text, write_whole

SPLITS = ("train", "val")


def write_folds(source: Path, out: Path, folds: int) -> list[Path]:
    """Writes the folds of a data set, or goes on with them. Returns: their folders.

    Images are dealt out in turn within each slice (`svit.core.slices`, as a kind), in the order of a hash of
    their names, so every fold has its share of each; which fold an image is in depends on the other images.
    Frames of a video (`video_id`) stay together, as do pictures whose files are the same. Ids are numbered
    anew.

    Args:
        source: folder in COCO's layout with train and val.
        folds: how many, at least 2.

    Raises:
        CocoError: a split is missing or wrong, the two have other classes or licences, or a file name or a
            video in common, or there are fewer images (videos) than folds.
        ImageError: a picture cannot be read.
        FileError: `out` holds something else or folds of the source before it was changed, or cannot be
            written.
    """
    images, categories, beside = _all_images(source)
    bytes_of = digests(one.picture for one in images)
    dealt_out = _together(images, bytes_of)
    if not 2 <= folds <= len(dealt_out):
        what = "images" if len(dealt_out) == len(images) else "videos and single images"
        raise CocoError(
            f"{source}: expected 2 to {len(dealt_out)} folds of {len(dealt_out)} {what}, found {folds}"
        )
    prepare_folder(out)
    facts = {"folds": folds, **facts_of(images, categories, bytes_of)}
    claim(out / "folds.json", facts, what="set of folds")
    written = []
    for fold in range(folds):
        folder = out / f"fold-{fold + 1}"
        held_out = [one for group in dealt_out[fold::folds] for one in group]
        others = set(images).difference(held_out)
        parts = {"train": [one for one in images if one in others], "val": held_out}
        for split, part in parts.items():
            _write_split(folder, split, part, {**beside, "categories": categories})
        written.append(folder)
    return written


def _all_images(source: Path) -> Split:
    """Both splits as one, in the order in which images are dealt out."""
    (train, classes, beside), (val, others, more) = (read_split(source, split) for split in SPLITS)
    images = train + val
    names = Counter(one.entry["file_name"] for one in images)
    twice = [name for name, count in names.items() if count > 1]
    if twice:
        raise CocoError(
            f"{source}: {twice[0]} is a picture of both splits; give each a name of its own"
        )
    both = {_video(one) for one in train} & {_video(one) for one in val} - {None}
    if both:
        raise CocoError(
            f"{source}: video {min(map(str, both))} is in both splits; give each video an id of its own"
        )
    if classes != others:
        raise CocoError(f"{source}: train and val have other classes; their folds would mix them")
    return Split([one for _, one in dealt(images)], classes, _joined(source, beside, more))


def _joined(
    source: Path, train: Mapping[str, list[Any]], val: Mapping[str, list[Any]]
) -> dict[str, list[Any]]:
    """The lists of both splits, what stands in both once.

    Raises:
        CocoError: an id stands for two entries.
    """
    joined = {}
    for name in {**train, **val}:
        first = train.get(name, [])
        joined[name] = [*first, *(one for one in val.get(name, []) if one not in first)]
        ids = Counter(one.get("id") for one in joined[name] if isinstance(one, Mapping))
        if twice := [number for number, count in ids.items() if count > 1]:
            raise CocoError(
                f"{source}: id {twice[0]} of {name} is another in train than in val; give each its own"
            )
    return joined


def _together(images: Sequence[Annotated], bytes_of: Sequence[bytes]) -> list[list[Annotated]]:
    """The frames of each video and the copies of each picture, at the place of the first: neighbours of a
    frame that is held out would all but show it in training, copies do."""
    groups: dict[Any, list[Annotated]] = {}
    for one, digest in zip(images, bytes_of, strict=True):
        video = _video(one)
        groups.setdefault(digest if video is None else ("video", video), []).append(one)
    return [sorted(group, key=_frame) for group in groups.values()]


def _video(one: Annotated) -> int | str | None:
    video = one.entry.get("video_id")
    return video if type(video) in (int, str) else None


def _frame(one: Annotated) -> int:
    number = one.entry.get("frame_id")
    return number if type(number) is int else 0


def _write_split(
    folder: Path, split: str, images: Sequence[Annotated], lists: Mapping[str, list[Any]]
) -> None:
    """Pictures first, the json last. `lists` stand in it beside images and annotations."""
    for one in images:
        _place(one.picture, folder / split / one.entry["file_name"])
    objects = [
        {**found, "image_id": number}
        for number, one in enumerate(images, 1)
        for found in one.objects
    ]
    whole = {
        "images": [{**one.entry, "id": number} for number, one in enumerate(images, 1)],
        "annotations": [{**found, "id": number} for number, found in enumerate(objects, 1)],
        **lists,
    }
    prepare_folder(folder / "annotations")
    write_text(annotations(folder, split), json.dumps(whole, separators=(",", ":")))


def _place(source: Path, target: Path) -> None:
    """A link to the picture, or a copy where the disk has no hard links; another file there gives way."""
    if target.exists() and filecmp.cmp(source, target, shallow=False):
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)
    try:
        os.link(source.resolve(), target)
    except OSError:
        with source.open("rb") as picture:
            write_whole(target, partial(shutil.copyfileobj, picture))
