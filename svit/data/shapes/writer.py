"""Data sets of scenes in COCO's layout, written so that any interruption can be gone on from."""

from __future__ import annotations

import json
import multiprocessing
import shutil
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from svit.core.rle import CodedMasks
from svit.data.reading import read_image
from svit.data.segments import decode_masks
from svit.data.shapes.outlines import CLASSES
from svit.data.shapes.scenes import Scene, scene
from svit.data.validate import checked
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

VAL_SEEDS = 10**9  # validation seeds begin here, training seeds end here
VERSION = 1  # of the drawing: a change of any scene makes another data set

_PART = 50  # images in one unit of work
_QUALITY = 92
_MARKER = "shapes.json"


class ShapesError(FileError):
    """A data set cannot be written into this folder, or read from it; the message names the fix."""


@dataclass(frozen=True)
class _Part:
    """One unit of work: images `seeds`, written whole before their annotations are."""

    out: Path
    split: str
    seeds: range
    size: int
    centre_bias: bool

    @property
    def file(self) -> Path:
        return self.out / "parts" / f"{self.split}-{self.seeds.start:012d}.json"


def write_dataset(
    out: Path | str,
    train: int,
    val: int,
    seed: int,
    size: int = 256,
    centre_bias: bool = True,
    workers: int = 2,
    progress: bool = True,
) -> None:
    """Writes `{train,val}2017/` and `annotations/instances_{train,val}2017.json` as COCO has them.

    Training images have the seeds `seed`, `seed + 1`, ...; validation images the same plus
    `VAL_SEEDS`: whatever the seeds, no validation image is in a training set. The bytes depend on
    the arguments alone, not on `workers`. A call that was interrupted goes on when it is repeated;
    a finished data set is left as it is.

    Args:
        out: folder to write; new, empty, or begun by the same call.
        train: number of training images.
        val: number of validation images.
        seed: of the first training image; `seed + max(train, val)` must not pass `VAL_SEEDS`.
        size: side of the pictures in pixels.
        centre_bias: see `scene`.
        workers: processes; with 1 everything happens in this one.
        progress: shows a bar.

    Raises:
        ValueError: an argument is out of range.
        ShapesError: the folder holds something else, or cannot be written.
    """
    out = Path(out)
    if min(train, val, seed) < 0 or seed + max(train, val) > VAL_SEEDS or size < 64 or workers < 1:
        raise ValueError(
            f"expected train, val, seed >= 0, seed + images <= {VAL_SEEDS}, size >= 64, "
            f"workers >= 1; found {train=}, {val=}, {seed=}, {size=}, {workers=}"
        )
    recipe = {"train": train, "val": val, "seed": seed, "size": size, "centre_bias": centre_bias}
    splits = {
        "train2017": range(seed, seed + train),
        "val2017": range(VAL_SEEDS + seed, VAL_SEEDS + seed + val),
    }
    with explained(out, ShapesError, "What is finished stays: repeat the command to go on"):
        prepare_folder(out)
        with Lock(out / ".lock"):
            facts = {"generator": "svit shapes", "version": VERSION, **recipe}
            claim(out / _MARKER, facts, what="shapes data set")
            missing = {name: seeds for name, seeds in splits.items() if not _done(out, name, seeds)}
            _write_splits(out, missing, recipe, workers, progress)


def _write_splits(
    out: Path, splits: dict[str, range], recipe: dict[str, Any], workers: int, progress: bool
) -> None:
    for folder in ("annotations", "parts", *splits) if splits else ():
        prepare_folder(out / folder)
    parts = [
        _Part(out, split, seeds[start : start + _PART], recipe["size"], recipe["centre_bias"])
        for split, seeds in splits.items()
        for start in range(0, len(seeds), _PART)
    ]
    _write_parts([part for part in parts if not part.file.exists()], workers, progress)
    for split in splits:
        _join(out, split, [part.file for part in parts if part.split == split], recipe)
    shutil.rmtree(out / "parts", ignore_errors=True)


def _done(out: Path, split: str, seeds: range) -> bool:
    if not _annotations(out, split).exists():
        return False
    return {_file_name(seed) for seed in seeds} <= {
        path.name for path in (out / split).glob("*.jpg")
    }


def _annotations(out: Path, split: str) -> Path:
    return out / "annotations" / f"instances_{split}.json"


def _file_name(seed: int) -> str:
    return f"{seed:012d}.jpg"


def _write_parts(parts: list[_Part], workers: int, progress: bool) -> None:
    from tqdm import tqdm  # only a data set that is written needs it, not a scene

    total = sum(len(part.seeds) for part in parts)
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
    records = []
    for seed in part.seeds:
        drawn = scene(seed, part.size, part.centre_bias)
        _write_jpeg(part.out / part.split / _file_name(seed), drawn.image)
        records.append({"image": _image_record(seed, part.size), "objects": _objects(drawn)})
    _write_json(part.file, {"images": records})
    return len(part.seeds)


def _image_record(seed: int, size: int) -> dict[str, Any]:
    name = _file_name(seed)
    return {"id": seed, "file_name": name, "height": size, "width": size, "license": 1}


def _objects(drawn: Scene) -> list[dict[str, Any]]:
    """COCO annotations of a scene, still without ids."""
    masks = CodedMasks.of(drawn.masks)
    boxes, areas = masks.boxes_xywh().tolist(), masks.areas().tolist()
    return [
        {
            "category_id": int(label) + 1,
            "bbox": box,
            "area": area,
            "iscrowd": 0,
            "segmentation": mask,
        }
        for label, box, area, mask in zip(drawn.labels, boxes, areas, masks.json(), strict=True)
    ]


def _join(out: Path, split: str, parts: list[Path], recipe: dict[str, Any]) -> None:
    """Makes one COCO file of the parts, with annotations numbered from 1."""
    remedy = "delete it and repeat the command"
    records = [record for part in parts for record in read_json(part, remedy)["images"]]
    objects = [
        {"image_id": record["image"]["id"], **found}
        for record in records
        for found in record["objects"]
    ]
    licence = "https://creativecommons.org/publicdomain/zero/1.0/"
    about = {"description": f"SViT workbench shapes, {split}", "version": str(VERSION), **recipe}
    whole = {
        "info": about,
        "licenses": [{"id": 1, "name": "CC0 1.0", "url": licence}],
        "images": [record["image"] for record in records],
        "annotations": [{"id": number, **found} for number, found in enumerate(objects, 1)],
        "categories": [
            {"id": number, "name": name, "supercategory": "shape"}
            for number, name in enumerate(CLASSES, 1)
        ],
    }
    _write_json(_annotations(out, split), whole)


def _write_jpeg(path: Path, image: np.ndarray) -> None:
    """JPEG without colour subsampling: edges between colours stay crisp."""
    picture = Image.fromarray(image)
    write_whole(path, lambda file: picture.save(file, "JPEG", quality=_QUALITY, subsampling=0))


def _write_json(path: Path, content: Any) -> None:
    write_text(path, json.dumps(content, separators=(",", ":")))


def read_scenes(folder: Path | str, split: str, count: int) -> list[Scene]:
    """The first scenes of a data set as its files hold them: JPEG pixels, and the masks of the json.

    Args:
        folder: as `write_dataset` left it.
        split: train2017 or val2017.
        count: at most so many.

    Raises:
        ShapesError: the folder holds no finished data set of shapes, or the split has no image.
        CocoError, ImageError: its files were changed since.
    """
    folder = Path(folder)
    if not (folder / _MARKER).is_file() or not _annotations(folder, split).is_file():
        raise ShapesError(
            f"{folder} holds no finished split {split!r} of a shapes data set; write one with "
            f"`svit dataset shapes --out {folder}`"
        )
    data, _ = checked(_annotations(folder, split))
    objects: dict[int, list[dict[str, Any]]] = {image["id"]: [] for image in data["images"]}
    for annotation in data["annotations"]:
        objects[annotation["image_id"]].append(annotation)
    return [
        _stored(folder / split, image, objects[image["id"]]) for image in data["images"][:count]
    ]


def _stored(root: Path, image: dict[str, Any], objects: list[dict[str, Any]]) -> Scene:
    image_hw = (image["height"], image["width"])
    return Scene(
        read_image(root / image["file_name"], expected_hw=image_hw),
        np.array([found["category_id"] - 1 for found in objects], np.int64),
        decode_masks([found["segmentation"] for found in objects], image_hw),
    )
