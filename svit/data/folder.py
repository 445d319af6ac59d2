"""Folders and files of pictures without annotations as samples."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from svit.core.config import DataConfig
from svit.core.types import FrameId, ImageId
from svit.data.images import ImageError, image_size, prepare, read_image
from svit.data.samples import Sample

# as Pillow names the kinds that are read here, and phones those that are not: they are told, not left out
_READ = "jpg jpeg jpe jfif mpo png apng webp bmp dib gif tif tiff ppm pgm pbm pnm pfm jp2 j2k jpf jpx jpc j2c"
SUFFIXES = tuple(f".{name}" for name in f"{_READ} heic heif avif".split())


class ImageFiles:
    """Pictures without annotations, read like a `CocoDataset`; the image id is the file's name.

    Args:
        paths: files, and folders whose pictures are taken in the order of their names, at any depth and
            behind links to folders; what is named like a picture is one, so that a dangling link is not left
            out but cannot be read.
        config: how pictures reach the model.
        exif: as in `read_image`.

    Attributes:
        image_ids: name of each file, below its folder where a folder was given.

    Raises:
        ImageError: a path does not exist, a folder cannot be read or has no picture, or two files have the
            same name.
    """

    train = False
    category_ids: Sequence[int] = ()
    class_names: Sequence[str] = ()
    slices: Mapping[str, Sequence[str]] = {}
    frames: Sequence[FrameId | None] = ()
    class_map: Mapping[str, str] = {}

    def __init__(
        self, paths: Sequence[Path | str], config: DataConfig, *, exif: str = "auto"
    ) -> None:
        self.config, self.exif = config, exif
        self._files: dict[str, Path] = {}
        for path in map(Path, paths):
            for name, file in _pictures(path):
                if name in self._files:
                    raise ImageError(
                        f"{file}: has the same name as {self._files[name]}; give each picture its own"
                    )
                self._files[name] = file
        if not self._files:
            raise ImageError("expected at least one picture file or folder, found none")
        self.image_ids: list[ImageId] = list(self._files)

    def __len__(self) -> int:
        return len(self.image_ids)

    @property
    def aspect_groups(self) -> np.ndarray:
        """int64 (images,), 1 where width > height, else 0; reads the header of every file."""
        sizes = [self.image_hw(index) for index in range(len(self))]
        return np.array([width > height for height, width in sizes], np.int64)

    def path(self, index: int) -> Path:
        """The file of a picture, as found."""
        return self._files[str(self.image_ids[index])]

    def file_name(self, index: int) -> str:
        """The name of a picture's file below the folder it was found in."""
        return str(self.image_ids[index])

    def image_hw(self, index: int) -> tuple[int, int]:
        """Height and width of a picture in source pixels, from its header."""
        return image_size(self.path(index), exif=self.exif)

    def image(self, index: int) -> UInt8[np.ndarray, "height width 3"]:
        """A picture in source pixels, RGB.

        Raises:
            ImageError: its file cannot be read.
        """
        return read_image(self.path(index), exif=self.exif)

    def target(self, index: int) -> None:
        """Plain pictures have no ground truth."""
        return None

    def coco(self, indices: Sequence[int] | None = None) -> None:
        """Plain pictures have no annotations."""
        return None

    def sample(self, index: int, seed: int | None = None) -> Sample:
        """A picture after the test pipeline; there is nothing random for `seed` to draw."""
        return prepare(self.image(index), self.config, self.image_ids[index])


def is_named_as_picture(file: Path | str) -> bool:
    """Whether a file has the ending of a picture and is not hidden, as macOS leaves some beside others."""
    return Path(file).suffix.lower() in SUFFIXES and not Path(file).name.startswith(".")


def _pictures(path: Path) -> list[tuple[str, Path]]:
    """Names and paths of the pictures a file or folder stands for."""
    if path.is_file():
        return [(path.name, path)]
    if not path.is_dir():
        raise ImageError(f"{path}: no such file or folder")
    found = [
        (file.relative_to(path).as_posix(), file)
        for file in sorted(_below(path))
        if is_named_as_picture(file)
    ]
    if not found:
        raise ImageError(f"{path}: no picture in this folder; looked for {' '.join(SUFFIXES)}")
    return found


def _below(folder: Path, above: tuple[Path, ...] = ()) -> Iterator[Path]:
    """All files and folders at any depth; a link back to a folder that leads here is not followed."""
    real = folder.resolve()
    if real in above:
        return
    try:
        entries = list(folder.iterdir())
    except OSError as error:
        raise ImageError(f"{folder}: cannot be read ({error.strerror})") from error
    for entry in entries:
        yield entry
        if entry.is_dir():
            yield from _below(entry, (*above, real))
