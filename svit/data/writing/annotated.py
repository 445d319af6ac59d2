"""Annotated pictures of a folder in COCO's layout, from which other folders are written. No torch."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from svit.core.slices import slices_of
from svit.data.validate import CocoError, checked
from svit.data.writing.coco_folder import annotations


@dataclass(frozen=True, eq=False)
class Annotated:
    """An entry of COCO's json with its annotations, and where its picture lies."""

    entry: Mapping[str, Any]
    objects: Sequence[Mapping[str, Any]]
    picture: Path


def read_split(source: Path, split: str) -> tuple[list[Annotated], list[dict[str, Any]]]:
    """The pictures of a split in the order of its json, and its categories by id.

    Args:
        source: folder in COCO's layout.
        split: as `train`, which the folder may call `train2017`.

    Raises:
        CocoError: it is missing, or its json has errors.
    """
    name = _named(source, split)
    data, _ = checked(annotations(source, name), image_root=source / name)
    objects: dict[Any, list[dict[str, Any]]] = {one["id"]: [] for one in data["images"]}
    for one in data["annotations"]:
        objects[one["image_id"]].append(one)
    images = [
        Annotated(one, objects[one["id"]], source / name / one["file_name"])
        for one in data["images"]
    ]
    return images, sorted(data["categories"], key=lambda one: one["id"])


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


def _named(source: Path, split: str) -> str:
    """A split as the folder has it: `train` or `train2017`."""
    names = (split, f"{split}2017")
    for name in names:
        if annotations(source, name).is_file():
            return name
    raise CocoError(
        f"{source}: expected annotations/instances_{' or instances_'.join(names)}.json in it, found neither"
    )
