"""One prepared image, the sets of images it comes from, and how several become a padded batch."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from svit.core.config import DataConfig
from svit.core.types import FrameId, ImageId, Target, TokenGrid
from svit.system.files import file_hash

DIGITS = 16  # of a hash, in hexadecimal: two of a million files share none


@dataclass(frozen=True)
class Sample:
    """An image that is resized and normalised but not yet padded.

    Attributes:
        image_id: as the data set names it.
        image: float32 (3, height, width), RGB, normalised.
        image_hw: height and width of the source image in pixels (after any EXIF rotation).
        target: ground truth in the frame of `image`; None at inference.
        frame: which frame of a video it is; None of a picture alone.
    """

    image_id: ImageId
    image: Float[Tensor, "3 height width"]
    image_hw: tuple[int, int]
    target: Target | None = None
    frame: FrameId | None = None

    @property
    def resized_hw(self) -> tuple[int, int]:
        """Height and width of `image` in resized pixels."""
        return int(self.image.shape[1]), int(self.image.shape[2])

    def padded_hw(self, multiple: int = 32) -> tuple[int, int]:
        """Size of the picture alone after `pad_batch`; pictures that share it do not change each other."""
        height, width = self.resized_hw
        return -(-height // multiple) * multiple, -(-width // multiple) * multiple

    def grid(self, padded_hw: tuple[int, int], patch: int) -> TokenGrid:
        """The token geometry once the image lies in a batch of the padded size."""
        grid_hw = (padded_hw[0] // patch, padded_hw[1] // patch)
        return TokenGrid(self.image_hw, self.resized_hw, grid_hw, patch)


def pad_batch(
    samples: Sequence[Sample], multiple: int = 32
) -> Float[Tensor, "batch 3 height width"]:
    """Images zero-padded right and below to one size that `multiple` divides (zeros are the mean colour).

    This is the only place where pictures are padded (reference.md 6: pad after normalisation).
    """
    batch = samples[0].image.new_zeros(len(samples), 3, *padded_hw(samples, multiple))
    for row, sample in zip(batch, samples):
        row[:, : sample.image.shape[1], : sample.image.shape[2]] = sample.image
    return batch


def padded_hw(samples: Sequence[Sample], multiple: int = 32) -> tuple[int, int]:
    """Height and width of the batch that `pad_batch` makes, in resized pixels."""
    height, width = (max(sample.resized_hw[side] for sample in samples) for side in (0, 1))
    return -(-height // multiple) * multiple, -(-width // multiple) * multiple


def valid_tokens(grids: Sequence[TokenGrid], device: torch.device) -> Bool[Tensor, "batch tokens"]:
    """Tokens of a padded batch that show image pixels, in raster order; one grid an image."""
    masks = [torch.from_numpy(grid.valid_mask().ravel()) for grid in grids]
    return torch.stack(masks).to(device)


def to_device(sample: Sample, device: torch.device | str) -> Sample:
    """The sample with its image on the device."""
    image = sample.image.to(device, non_blocking=True)
    return replace(sample, image=image)


class Images(Protocol):
    """A set of pictures by index: `svit.data.coco.CocoDataset` and `svit.data.folder.ImageFiles`.

    Attributes:
        config: how pictures reach the model.
        image_ids: one a picture.
        class_names: of the labels of targets; empty without ground truth.
        aspect_groups: int64 (images,), 1 where width > height, else 0.
        slices: field -> its text in each picture, see `svit.core.slices`; often empty.
        frames: which frame of a video each picture is, None where it is none; empty where none is.
        exif: how files are read, as in `svit.data.reading.read_image`.
        class_map: name of a class in the files -> its name elsewhere, for those that differ.
    """

    config: DataConfig
    image_ids: Sequence[ImageId]
    class_names: Sequence[str]
    slices: Mapping[str, Sequence[str]]
    frames: Sequence[FrameId | None]
    exif: str
    class_map: Mapping[str, str]

    @property
    def aspect_groups(self) -> np.ndarray:
        """As above; batches of one group pad less."""

    def __len__(self) -> int: ...

    def file_name(self, index: int) -> str:
        """Of a picture, below the set's folder."""

    def path(self, index: int) -> Path:
        """The file of a picture."""

    def image(self, index: int) -> np.ndarray:
        """uint8 (height, width, 3), RGB, in source pixels.

        Raises:
            ImageError: the picture cannot be read.
        """

    def target(self, index: int) -> Target | None:
        """Ground truth in source pixels; None where nothing is known."""

    def sample(self, index: int, seed: int | None = None) -> Sample:
        """The picture as a model's input; a seed draws its augmentation, None leaves it as it is.

        Raises:
            ImageError: the picture cannot be read.
        """

    def coco(self, indices: Sequence[int] | None = None) -> dict[str, Any] | None:
        """The ground truth of some pictures (all without indices) in COCO's format; None without any."""


def fingerprint(images: Images, annotated: Sequence[int] | None = None) -> str:
    """SHA-256 that identifies a set of pictures; see `hash_of`.

    Args:
        annotated: pictures whose annotations count, where the set has any; all without it.
    """
    names = list(map(images.file_name, range(len(images))))
    return hash_of(images.image_ids, names, images.coco(annotated))


def reading(images: Images) -> dict[str, Any]:
    """What a set shows beside what `fingerprint` says: how its files are read, where not as usual.

    Returns: `exif` unless it is "auto", `class_map` unless it is empty; so folders without a word about them
        are of the usual.
    """
    chosen = {"exif": images.exif, "class_map": dict(images.class_map)}
    return {name: value for name, value in chosen.items() if value not in ("auto", {})}


def hash_of(
    image_ids: Sequence[ImageId], file_names: Sequence[str], truth: dict[str, Any] | None = None
) -> str:
    """SHA-256 over ids and file names in order and, where known, a COCO dictionary of annotations."""
    parts = [list(image_ids), list(file_names), *([] if truth is None else [truth])]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def marks_of(images: Images, places: Iterable[int]) -> list[str]:
    """A mark for each picture whose file can be read: how many bytes it has, and how their hash begins. Equal
    ones are one picture, wherever the files lie and whatever their names."""
    found = (_mark(images.path(place)) for place in places)
    return [mark for mark in found if mark]


def count_marked(images: Images, places: Iterable[int], marks: Collection[str]) -> int:
    """How many pictures have one of the marks; only files of a size that occurs among them are read."""
    known, sizes = set(marks), {mark.partition("-")[0] for mark in marks}
    paths = (images.path(place) for place in places)
    return sum(_size(path) in sizes and _mark(path) in known for path in paths)


def count_shared(
    images: Images, places: Sequence[int], others: Images, other_places: Iterable[int]
) -> int:
    """How many pictures of the first set are in the other one, too; only files of equal sizes are read."""
    sizes = {_size(images.path(place)) for place in places}
    alike = (place for place in other_places if _size(others.path(place)) in sizes)
    return count_marked(images, places, marks_of(others, alike))


def _size(path: Path) -> str:
    try:
        return str(path.stat().st_size)
    except OSError:
        return ""


def _mark(path: Path) -> str:
    found = file_hash(path)
    return f"{_size(path)}-{found[:DIGITS]}" if found else ""
