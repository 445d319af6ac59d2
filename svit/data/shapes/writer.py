"""Data sets of scenes in COCO's layout, written so that any interruption can be gone on from."""

from __future__ import annotations

import io
from collections.abc import Sequence
from functools import lru_cache, partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from svit.core.rle import CodedMasks
from svit.data.reading import read_image
from svit.data.segments import decode_masks
from svit.data.shapes.moving import Frame, film
from svit.data.shapes.outlines import CLASSES
from svit.data.shapes.scenes import Scene, scene
from svit.data.validate import checked
from svit.data.writing.coco_folder import (
    LICENCE,
    Entry,
    Recipe,
    annotations,
    objects_of,
    write_folder,
)
from svit.system.files import FileError, write_whole

VAL_SEEDS = 10**9  # validation seeds begin here, training seeds end here
VERSION = 1  # of the drawing: a change of any scene makes another data set
NAME = "shapes"

FRAMES = 100  # of a video at most: an image id is that many times the seed, and the frame

_QUALITY = 92

Item = int | tuple[int, int]  # the seed of a still scene, or that of a moving one and the frame


class ShapesError(FileError):
    """A data set cannot be written into this folder, or read from it; the message names the fix."""


def write_dataset(
    out: Path | str,
    train: int,
    val: int,
    seed: int,
    size: int = 256,
    centre_bias: bool = True,
    workers: int = 2,
    progress: bool = True,
    frames: int = 1,
) -> None:
    """Writes `{train,val}2017/` and `annotations/instances_{train,val}2017.json` as COCO has them.

    Training images have the seeds `seed`, `seed + 1`, ...; validation images the same plus
    `VAL_SEEDS`: whatever the seeds, no validation image is in a training set. The bytes depend on
    the arguments alone, not on `workers`. A call that was interrupted goes on when it is repeated;
    a finished data set is left as it is.

    With `frames` every scene is a video (`svit.data.shapes.moving`): its `video_id` is the seed, `frame_id`
    counts from 0, and the image id is `FRAMES` times the seed and the frame. Objects keep an `instance_id`
    over the frames; one of which too little shows is a crowd region.

    Args:
        out: folder to write; new, empty, or begun by the same call.
        train: number of training scenes.
        val: number of validation scenes.
        seed: of the first training scene; `seed + max(train, val)` must not pass `VAL_SEEDS`.
        size: side of the pictures in pixels.
        centre_bias: see `scene`.
        workers: processes; with 1 everything happens in this one.
        progress: shows a bar.
        frames: of each scene; 1 writes still pictures.

    Raises:
        ValueError: an argument is out of range.
        ShapesError: the folder holds something else, or cannot be written.
    """
    out = Path(out)
    _check(train, val, seed, size, workers, frames)
    facts = {"train": train, "val": val, "seed": seed, "size": size, "centre_bias": centre_bias}
    seeds = {
        "train2017": range(seed, seed + train),
        "val2017": range(VAL_SEEDS + seed, VAL_SEEDS + seed + val),
    }
    make = partial(_make, size=size, centre_bias=centre_bias)
    splits: dict[str, Sequence[Item]] = dict(seeds)
    if frames > 1:
        facts |= {"frames": frames}
        make = partial(_make_frame, frames=frames, size=size, centre_bias=centre_bias)
        splits = {name: list(product(own, range(frames))) for name, own in seeds.items()}
    recipe = Recipe(
        NAME,
        {"generator": "svit shapes", "version": VERSION, **facts},
        splits,
        file_name,
        make,
        partial(_info, facts=facts),
        [{"id": n, "name": name, "supercategory": "shape"} for n, name in enumerate(CLASSES, 1)],
    )
    write_folder(out, recipe, workers, progress, ShapesError)


def _check(train: int, val: int, seed: int, size: int, workers: int, frames: int) -> None:
    """Raises ValueError for arguments of `write_dataset` that are out of range."""
    if not 1 <= frames <= FRAMES:
        raise ValueError(f"frames: expected a whole number from 1 to {FRAMES}, found {frames!r}")
    if min(train, val, seed) < 0 or seed + max(train, val) > VAL_SEEDS or size < 64 or workers < 1:
        raise ValueError(
            f"expected train, val, seed >= 0, seed + images <= {VAL_SEEDS}, size >= 64, "
            f"workers >= 1; found {train=}, {val=}, {seed=}, {size=}, {workers=}"
        )


def file_name(item: Item) -> str:
    """Of a still scene, as COCO names pictures by their ids; of a frame by seed and number."""
    if isinstance(item, tuple):
        return f"{item[0]:012d}_{item[1]:02d}.jpg"
    return f"{item:012d}.jpg"


def _make(seed: int, folder: Path, *, size: int, centre_bias: bool) -> Entry:
    return _written(scene(seed, size, centre_bias), seed, seed, folder)


def _make_frame(
    item: tuple[int, int], folder: Path, *, frames: int, size: int, centre_bias: bool
) -> Entry:
    seed, number = item
    shown = _frames(seed, frames, size, centre_bias)[number]
    entry = _written(shown.scene, FRAMES * seed + number, item, folder)
    entry["image"] |= {"video_id": seed, "frame_id": number}
    more = zip(entry["objects"], shown.instances.tolist(), shown.hidden.tolist(), strict=True)
    for one, instance, hidden in more:
        one |= {"instance_id": instance + 1, "iscrowd": int(hidden)}
    return entry


@lru_cache(maxsize=1)  # frames of a scene are written one after the other
def _frames(seed: int, frames: int, size: int, centre_bias: bool) -> list[Frame]:
    return list(film(seed, frames, size, centre_bias))


def _written(drawn: Scene, image_id: int, item: Item, folder: Path) -> Entry:
    """The entry of a scene whose picture is written into the folder."""
    name, size = file_name(item), len(drawn.image)
    write_whole(folder / name, lambda file: file.write(jpeg(drawn.image)))
    image = {"id": image_id, "file_name": name, "height": size, "width": size, "license": LICENCE}
    categories = (drawn.labels + 1).tolist()
    return {"image": image, "objects": objects_of(CodedMasks.of(drawn.masks), categories)}


def _info(split: str, entries: Sequence[Entry], *, facts: dict[str, Any]) -> dict[str, Any]:
    return {"description": f"SViT workbench shapes, {split}", "version": str(VERSION), **facts}


def jpeg(image: np.ndarray) -> bytes:
    """A scene's file. JPEG without colour subsampling: edges between colours stay crisp."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=_QUALITY, subsampling=0)
    return buffer.getvalue()


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
    if not (folder / f"{NAME}.json").is_file() or not annotations(folder, split).is_file():
        raise ShapesError(
            f"{folder} holds no finished split {split!r} of a shapes data set; write one with "
            f"`svit dataset shapes --out {folder}`"
        )
    data, _ = checked(annotations(folder, split))
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
