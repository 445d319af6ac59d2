"""Large annotated fields of small annotated pictures: each K x K of them side by side. No torch.

Slides and aerial fields have thousands of pixels a side, where blocks take nearly all of the time and
pruning has most to gain; data sets of them are rare. A field of K x K pictures, each at the size that a model
was trained for, holds annotated objects at that size.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from svit.core.rle import CodedMasks
from svit.core.slices import slices_of
from svit.data.reading import read_image
from svit.data.segments import box_polygon, decode_masks
from svit.data.validate import CocoError
from svit.data.writing.annotated import Annotated, dealt, digests, facts_of, hashed, read_split
from svit.data.writing.coco_folder import (
    Entry,
    Recipe,
    objects_of,
    write_folder,
    write_png,
)
from svit.system.files import FileError

VERSION = 2  # of the making: other bytes from the same folder are another data set


class MosaicError(FileError):
    """The data set cannot be written; the message names the folder."""


@dataclass(frozen=True)
class Field:
    """The pictures of one field, by rows from the top left."""

    number: int
    pictures: tuple[Annotated, ...]


def write_mosaic(
    source: Path,
    out: Path,
    split: str,
    across: int,
    tile: int,
    workers: int = 2,
    progress: bool = True,
) -> int:
    """Writes fields of `across` x `across` pictures of a split, each fitted into `tile` x `tile` pixels.

    Pictures keep their shape; what is left of a tile has the picture's median colour. A field holds pictures
    of one slice (as a kind) alone and says so; what is left over of a slice makes no field. It has the
    licence of its pictures where they have one in common; those of the source are listed. Objects without a
    pixel at the new size are left out; the json tells how many under `info.told`.

    Args:
        source: folder in COCO's layout.
        out: folder to write; an interrupted call is gone on with, unless the source was changed since.
        workers, progress: as in `write_folder`.

    Returns: how many pictures made no field.

    Raises:
        CocoError: the split is missing or wrong, or has too few pictures for a field.
        ImageError: a picture cannot be read.
        MosaicError: `out` holds something else, or cannot be written.
    """
    images, categories, beside = read_split(source, split)
    licences = beside.get("licenses", [])
    fields = _fields(images, across**2)
    if not fields:
        raise CocoError(
            f"{source}: a field of {across} x {across} takes {across**2} pictures of one slice, and no slice "
            f"of {split} has as many; found {len(images)} pictures in all"
        )
    facts = {"generator": "svit mosaic", "version": VERSION, "across": across, "tile": tile}
    facts |= {
        "split": split,
        **facts_of(images, categories, digests(one.picture for one in images)),
    }
    facts["source"]["licences"] = hashed(licences)
    make = partial(
        _make, across=across, tile=tile, slices=tuple(slices_of([one.entry for one in images]))
    )
    info = partial(_info, about=f"{across} x {across} pictures of {tile} pixels a field")
    recipe = Recipe("mosaic", facts, {split: fields}, _file_name, make, info, categories, licences)
    write_folder(out, recipe, workers, progress, MosaicError)
    return len(images) - len(fields) * across**2


def _fields(images: Sequence[Annotated], size: int) -> list[Field]:
    chosen: list[tuple[Annotated, ...]] = []
    for _, group in groupby(dealt(images), key=itemgetter(0)):
        alike = [one for _, one in group]
        whole = len(alike) // size * size
        chosen += [tuple(alike[start : start + size]) for start in range(0, whole, size)]
    return [Field(number, pictures) for number, pictures in enumerate(chosen, 1)]


def _file_name(field: Field) -> str:
    return f"{field.number:012d}.png"


def _make(field: Field, folder: Path, *, across: int, tile: int, slices: Sequence[str]) -> Entry:
    side = across * tile
    pixels = np.zeros((side, side, 3), np.uint8)
    # one for all masks of the field, in the order that run lengths are made in: thousands of pixels a side
    # cost more to write anew than to encode
    whole = np.zeros((side, side, 1), np.uint8, order="F")
    found: list[dict[str, Any]] = []
    for place, picture in enumerate(field.pictures):
        top, left = (tile * part for part in divmod(place, across))
        scaled, masks = _fitted(picture, tile)
        pixels[top : top + tile, left : left + tile] = scaled
        for one, mask in zip(picture.objects, masks, strict=True):
            if mask.any():
                whole[top : top + tile, left : left + tile, 0] = mask
                found.append(_placed(one, CodedMasks.of(whole.transpose(2, 0, 1))))
        whole[top : top + tile, left : left + tile] = 0
    write_png(folder / _file_name(field), pixels)
    image = {
        "id": field.number,
        "file_name": _file_name(field),
        "height": side,
        "width": side,
        **_common_licence(field),
        "pictures": [one.entry["file_name"] for one in field.pictures],
        **{name: field.pictures[0].entry[name] for name in slices},
    }
    lost = sum(len(one.objects) for one in field.pictures) - len(found)
    return {"image": image, "objects": found, "lost": lost}


def _common_licence(field: Field) -> dict[str, Any]:
    first, *others = (one.entry.get("license") for one in field.pictures)
    return {} if first is None or any(one != first for one in others) else {"license": first}


def _placed(one: Mapping[str, Any], mask: CodedMasks) -> dict[str, Any]:
    """The annotation of an object at its place in the field; one by a box alone stays so."""
    (placed,) = objects_of(mask, [one["category_id"]])
    if not one.get("segmentation"):
        del placed["segmentation"]
    told = {"ignore": one["ignore"]} if one.get("ignore") else {}
    return placed | {"iscrowd": one.get("iscrowd", 0), **told}


def _fitted(picture: Annotated, tile: int) -> tuple[np.ndarray, np.ndarray]:
    """A picture and its masks at the size of a tile: uint8 (tile, tile, 3), bool (objects, tile, tile)."""
    hw = picture.entry["height"], picture.entry["width"]
    pixels = read_image(picture.picture, expected_hw=hw)
    height, width = (max(1, round(one * tile / max(hw))) for one in hw)
    scaled = np.empty((tile, tile, 3), np.uint8)
    scaled[:] = np.median(pixels, axis=(0, 1)).astype(np.uint8)
    whole = Image.fromarray(pixels).resize((width, height), Image.Resampling.BILINEAR)
    scaled[:height, :width] = np.asarray(whole)
    outlines = [one.get("segmentation") or box_polygon(one["bbox"]) for one in picture.objects]
    masks = decode_masks(outlines, hw)
    # the pixel of the original under the middle of each new one
    rows, columns = (
        ((np.arange(n) + 0.5) * old / n).astype(int) for n, old in zip((height, width), hw)
    )
    placed = np.zeros((len(masks), tile, tile), bool)
    placed[:, :height, :width] = masks[:, rows[:, None], columns]
    return scaled, placed


def _info(split: str, entries: Sequence[Entry], *, about: str) -> dict[str, Any]:
    lost = sum(entry["lost"] for entry in entries)
    told = [f"objects without a pixel at this size: {lost}, left out"] if lost else []
    return {
        "description": f"{split}: {about}; by svit dataset mosaic",
        "version": str(VERSION),
        "told": told,
    }
