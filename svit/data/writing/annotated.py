"""Annotated pictures of a folder in COCO's layout, from which other folders are written. No torch."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from svit.core.slices import slices_of
from svit.data.reading import ImageError
from svit.data.validate import CocoError, checked
from svit.data.writing.coco_folder import annotations

logger = logging.getLogger(__name__)
BESIDE = ("licenses", "videos")  # lists of a json that its images speak of by id


@dataclass(frozen=True, eq=False)
class Annotated:
    """An entry of COCO's json with its annotations, and where its picture lies."""

    entry: Mapping[str, Any]
    objects: Sequence[Mapping[str, Any]]
    picture: Path


class Split(NamedTuple):
    """The pictures of a split in the order of its json, its categories by id, and `BESIDE` as it has them."""

    images: list[Annotated]
    categories: list[dict[str, Any]]
    beside: dict[str, list[Any]]


def read_split(source: Path, split: str) -> Split:
    """A split of a folder, checked and repaired; what there is to tell of that is logged.

    Args:
        source: folder in COCO's layout.
        split: as `train`, which the folder may call `train2017`.

    Raises:
        CocoError: it is missing, or its json has errors.
    """
    name = _named(source, split)
    data, report = checked(annotations(source, name), image_root=source / name)
    if report.says:
        logger.warning("%s", "\n".join(report.lines()))
    objects: dict[Any, list[dict[str, Any]]] = {one["id"]: [] for one in data["images"]}
    for one in data["annotations"]:
        objects[one["image_id"]].append(one)
    images = [
        Annotated(one, objects[one["id"]], source / name / one["file_name"])
        for one in data["images"]
    ]
    beside = {name: data[name] for name in BESIDE if isinstance(data.get(name), list)}
    return Split(images, sorted(data["categories"], key=lambda one: one["id"]), beside)


def dealt(images: Sequence[Annotated]) -> list[tuple[tuple[str, ...], Annotated]]:
    """The pictures with their texts of each slice (`svit.core.slices`, as a kind), those of one slice after
    those of another, within it in the order of a hash of their names: as good as shuffled, and always so."""
    slices = slices_of([one.entry for one in images])
    texts = list(zip(*slices.values(), strict=True)) or [()] * len(images)
    keys = [(text, hashed(one.entry["file_name"])) for text, one in zip(texts, images, strict=True)]
    order = sorted(range(len(images)), key=keys.__getitem__)
    return [(texts[place], images[place]) for place in order]


def hashed(value: Any) -> str:
    """SHA-256 of a JSON value, whatever the order of its keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def facts_of(
    images: Sequence[Annotated], categories: Sequence[Mapping[str, Any]], bytes_of: Iterable[bytes]
) -> dict[str, dict[str, str]]:
    """What a folder that is written from annotated pictures claims of them: `source`, with a SHA-256 of their
    entries, objects and classes and of the bytes of their files, so that a refusal names what is other.

    Args:
        bytes_of: `digests` of the pictures.
    """
    return {
        "source": {
            "images": hashed([one.entry for one in images]),
            "objects": hashed([list(one.objects) for one in images]),
            "classes": hashed(list(categories)),
            "pictures": joined(bytes_of),
        }
    }


def digests(files: Iterable[Path]) -> list[bytes]:
    """SHA-256 of the bytes of each file.

    Not of size and time: a copy has another time, and a mask that was corrected may have the same size.

    Raises:
        ImageError: one cannot be read.
    """
    found = []
    for file in files:
        try:
            found.append(hashlib.sha256(file.read_bytes()).digest())
        except OSError as error:
            raise ImageError(f"{file}: cannot be read ({error.strerror})") from error
    return found


def joined(found: Iterable[bytes]) -> str:
    """SHA-256 of digests in their order."""
    return hashlib.sha256(b"".join(found)).hexdigest()


def _named(source: Path, split: str) -> str:
    """A split as the folder has it: `train` or `train2017`."""
    names = (split, f"{split}2017")
    for name in names:
        if annotations(source, name).is_file():
            return name
    raise CocoError(
        f"{source}: expected annotations/instances_{' or instances_'.join(names)}.json in it, found neither"
    )
