"""Folders in COCO's layout, written so that any interruption can be gone on from. No torch.

    OUT/NAME.json                        whose the folder is: the facts its bytes follow from
    OUT/train2017/, OUT/val2017/         pictures
    OUT/annotations/instances_SPLIT.json

Pictures are made in parts by several processes; a part's annotations are written once its pictures are.
"""

from __future__ import annotations

import json
import multiprocessing
import shutil
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from svit.core.rle import CodedMasks
from svit.core.slices import videos_of
from svit.system.claims import claim
from svit.system.files import (
    FileError,
    Lock,
    explained,
    prepare_folder,
    read_json,
    write_text,
    write_whole,
)

PART = 50  # images in one unit of work
LICENCE = 1  # id in the json of what is in the public domain
CC0 = {
    "id": LICENCE,
    "name": "CC0 1.0",
    "url": "https://creativecommons.org/publicdomain/zero/1.0/",
}

# of an image: `image`, its entry in COCO's json; `objects`, its annotations without ids
Entry = dict[str, Any]


@dataclass(frozen=True)
class Recipe:
    """What a data set is made of.

    Attributes:
        name: of what it holds, as "shapes".
        facts: plain JSON values; the bytes of the data set follow from them.
        splits: name of a split -> its items, in the order of the json.
        file_name: of the picture of an item.
        make: writes the picture of an item into a folder and returns its entry; it is pickled.
        info: split and entries -> what the json says about itself.
        classes: the json's categories.
        licences: those that images speak of by id.
    """

    name: str
    facts: Mapping[str, Any]
    splits: Mapping[str, Sequence[Any]]
    file_name: Callable[[Any], str]
    make: Callable[[Any, Path], Entry]
    info: Callable[[str, Sequence[Entry]], dict[str, Any]]
    classes: Sequence[dict[str, Any]]
    licences: Sequence[Any] = (CC0,)


@dataclass(frozen=True)
class _Part:
    """One unit of work: pictures of `items`, written whole before their annotations are."""

    out: Path
    split: str
    number: int
    items: Sequence[Any]
    make: Callable[[Any, Path], Entry]

    @property
    def file(self) -> Path:
        return self.out / "parts" / f"{self.split}-{self.number:06d}.json"


def write_folder(
    out: Path, recipe: Recipe, workers: int, progress: bool, kind: type[FileError]
) -> None:
    """Writes a data set; a finished one is left as it is, a lost picture is made again.

    Args:
        out: folder to write; new, empty, or begun by the same recipe.
        workers: processes; with 1 everything happens in this one. The bytes do not depend on it.
        progress: shows a bar.
        kind: of the error where the folder holds something else, or cannot be written.
    """
    with explained(out, kind, "What is finished stays: repeat the command to go on"):
        prepare_folder(out)
        with Lock(out / ".lock"):
            claim(out / f"{recipe.name}.json", dict(recipe.facts), what=f"{recipe.name} data set")
            missing = [split for split in recipe.splits if not _done(out, split, recipe)]
            _write_splits(out, missing, recipe, workers, progress)


def annotations(out: Path, split: str) -> Path:
    """The json of a split."""
    return out / "annotations" / f"instances_{split}.json"


def objects_of(masks: CodedMasks, category_ids: Sequence[int]) -> list[dict[str, Any]]:
    """COCO annotations of the masks of an image, still without ids."""
    boxes, areas = masks.boxes_xywh().tolist(), masks.areas().tolist()
    return [
        {
            "category_id": category_id,
            "bbox": box,
            "area": area,
            "iscrowd": 0,
            "segmentation": mask,
        }
        for category_id, box, area, mask in zip(
            category_ids, boxes, areas, masks.json(), strict=True
        )
    ]


def write_png(path: Path, pixels: np.ndarray) -> None:
    """Writes a picture, uint8 (height, width, 3), grey where its three channels agree."""
    grey = not np.ptp(pixels, axis=2).any()
    picture = Image.fromarray(pixels[..., 0] if grey else pixels)
    write_whole(path, lambda file: picture.save(file, "PNG"))


def _done(out: Path, split: str, recipe: Recipe) -> bool:
    if not annotations(out, split).exists():
        return False
    there = {path.name for path in (out / split).glob("*")}
    return set(map(recipe.file_name, recipe.splits[split])) <= there


def _write_splits(
    out: Path, splits: Sequence[str], recipe: Recipe, workers: int, progress: bool
) -> None:
    for folder in ("annotations", "parts", *splits) if splits else ():
        prepare_folder(out / folder)
    parts = [
        _Part(out, split, start, recipe.splits[split][start : start + PART], recipe.make)
        for split in splits
        for start in range(0, len(recipe.splits[split]), PART)
    ]
    _write_parts([part for part in parts if not part.file.exists()], workers, progress)
    for split in splits:
        _join(out, split, [part.file for part in parts if part.split == split], recipe)
    shutil.rmtree(out / "parts", ignore_errors=True)


def _write_parts(parts: list[_Part], workers: int, progress: bool) -> None:
    from tqdm import tqdm  # only a data set that is written needs it, not one that is read

    total = sum(len(part.items) for part in parts)
    with tqdm(total=total, unit="image", disable=None if progress else True) as bar:
        for done in _spread(parts, min(workers, len(parts))):
            bar.update(done)


def _spread(parts: list[_Part], workers: int) -> Iterator[int]:
    """Images written, part by part. Leaving early, by Ctrl-C too, stops the processes."""
    if workers <= 1:
        yield from map(_write_part, parts)
        return
    # not fork: a copy of a process in which torch has threads may hang
    context = multiprocessing.get_context("spawn")
    with context.Pool(workers, signal.signal, (signal.SIGINT, signal.SIG_IGN)) as pool:
        yield from pool.imap_unordered(_write_part, parts)


def _write_part(part: _Part) -> int:
    entries = [part.make(item, part.out / part.split) for item in part.items]
    _write_json(part.file, {"images": entries})
    return len(part.items)


def _join(out: Path, split: str, parts: list[Path], recipe: Recipe) -> None:
    """Makes one COCO file of the parts, with annotations numbered from 1."""
    remedy = "delete it and repeat the command"
    entries = [entry for part in parts for entry in read_json(part, remedy)["images"]]
    objects = [
        {"image_id": entry["image"]["id"], **found}
        for entry in entries
        for found in entry["objects"]
    ]
    whole = {
        "info": recipe.info(split, entries),
        "licenses": list(recipe.licences),
        **videos_of([entry["image"] for entry in entries]),
        "images": [entry["image"] for entry in entries],
        "annotations": [{"id": number, **found} for number, found in enumerate(objects, 1)],
        "categories": list(recipe.classes),
    }
    _write_json(annotations(out, split), whole)


def _write_json(path: Path, content: Any) -> None:
    write_text(path, json.dumps(content, separators=(",", ":")))
