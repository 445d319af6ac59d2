"""The picture that a recorded image was made from: found again, and proved to be the one.

A run stores small JPEGs, on which a model finds a little else than on the file that was recorded.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

import numpy as np
from PIL import Image

from svit.core.types import ImageId
from svit.data.reading import ImageError, read_image
from svit.data.shapes import film, scene, writer
from svit.runs import shards
from svit.runs.run import Run
from svit.system.files import file_hash
from svit.system.home import home

KEPT = "picture.png"  # in the folder of a run that was kept of one picture: its pixels, losslessly
ALIKE = 1.0  # grey levels on average; none but where another Pillow stored it
LARGEST = 4_000_000  # pixels; of larger ones a mask for each detection takes gigabytes


def find(
    run: Run, image_id: ImageId, stored: np.ndarray | None, folders: Sequence[Path] = ()
) -> tuple[np.ndarray, str] | None:
    """The picture as it was recorded and where it comes from; None where it is not here.

    Args:
        stored: what the run stores of it, which the picture must look like.
        folders: where its file may lie, under the name that the run tells; `demo/pictures` is looked into
            as well, where the photographs of the shipped recordings are.
    """
    row = run.images[run.images["image_id"] == image_id].iloc[0]
    image_hw = int(row["image_h"]), int(row["image_w"])
    if np.prod(image_hw) > LARGEST:
        return None
    folders = (*folders, home() / "demo" / "pictures")
    for data, origin in _candidates(run.path, image_id, str(row["file_name"]), image_hw, folders):
        if isinstance(data, Path) and changed(run, image_id, data):
            continue
        try:
            pixels = read_image(data, exif=run.exif, expected_hw=image_hw)
        except ImageError:
            continue
        if stored is None or alike(pixels, stored):
            return pixels, origin
    return None


def _candidates(
    run: Path, image_id: ImageId, name: str, image_hw: tuple[int, int], folders: Sequence[Path]
) -> Iterator[tuple[Path | bytes, str]]:
    """Files and what to say of them, the likeliest first."""
    if (run / KEPT).is_file():
        yield run / KEPT, "as it was kept"
    for folder in folders:
        path = folder / name
        if name and path.is_file() and path.resolve().is_relative_to(folder.resolve()):
            yield path, f"from its file {name}"
    drawn = isinstance(image_id, int) and image_id >= 0 and image_hw[0] == image_hw[1] >= 64
    if drawn and name == writer.file_name(image_id):
        yield writer.jpeg(scene(image_id, image_hw[0]).image), "drawn again from its seed"
    if drawn and name == writer.file_name(divmod(image_id, writer.FRAMES)):
        seed, number = divmod(image_id, writer.FRAMES)
        frame = next(islice(film(seed, number + 1, image_hw[0]), number, None))
        yield writer.jpeg(frame.scene.image), "drawn again from its seed"


def changed(run: Run, image_id: ImageId, path: Path) -> bool:
    """Whether a file has other bytes than the one that was recorded, as far as the run tells."""
    then = run.file_hashes.get(image_id)
    return then is not None and file_hash(path) != then


def alike(pixels: np.ndarray, stored: np.ndarray) -> bool:
    """Whether a picture, stored as the run's was, becomes what the run holds."""
    with Image.open(io.BytesIO(shards.jpeg(pixels, max(stored.shape[:2])))) as again:
        same = np.asarray(again.convert("RGB"), float)
    return same.shape == stored.shape and bool(np.abs(same - stored).mean() <= ALIKE)


def kept(pixels: np.ndarray) -> bytes:
    """The file `KEPT` of a picture."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()
