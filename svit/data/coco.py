"""COCO data sets and picture folders as samples, and the order in which training sees them.

A data set keeps its annotations packed in one array (118,000 images stay well below a GiB, and worker
processes share it) and decodes masks when asked. Every json passes `svit.data.validate` first.
Conventions of mmdet 2.28's `CocoDataset` (reference of the released weights) are named where they count.
"""

from __future__ import annotations

import os
import pickle
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from svit.core.config import DataConfig
from svit.core.slices import frame_of, slices_of
from svit.core.types import ImageId, Target
from svit.data.classes import check_map, match_classes
from svit.data.folder import ImageFiles
from svit.data.images import ImageError, normalise, prepare, read_image
from svit.data.order import batches
from svit.data.samples import Sample
from svit.data.segments import target_of
from svit.data.transforms import augment
from svit.data.validate import CocoError, checked

__all__ = [
    "CocoDataset",
    "CocoError",
    "CocoFiles",
    "ImageError",
    "ImageFiles",
    "batches",
    "find_coco",
    "prepare",
    "read_image",
]

ENVIRONMENT = "DETECTRON2_DATASETS"
DEFAULT_ROOTS = ("datasets", "data")  # detectron2's and OpenMMLab's habit


class CocoDataset:
    """Pictures with objects from a COCO json.

    Labels are those of the model that `class_names` belong to, found by name; without it they are the
    positions of the categories in the order of their ids (gaps are fine).

    Args:
        json: the file, or what it holds.
        image_root: folder that `file_name` is relative to.
        config: how pictures reach the model.
        train: crowds, objects to ignore and those without area are left out, as are pictures without an
            object; samples with a seed are augmented.
        exif: as in `read_image`.
        repair: False refuses a json that needs repairs.
        check_files: also looks for the pictures and compares the sizes in their headers.
        keep_empty: pictures without an object stay in a training set.
        class_names: of a model's labels; see `svit.data.classes`.
        class_map: name of a class in the json -> its name elsewhere, for those that differ.

    Attributes:
        report: what the check of the json found and repaired.
        image_ids: one an image, in the order of the json.
        category_ids: of each label; None where the json has no such class.
        class_names: of each label.
        class_notes: what there is to tell of the classes.
        foreign_names: of each class of the json, its name elsewhere (by `class_map`).
        left_out: pictures without an object that are left out of a training set.
        aspect_groups: int64 (images,), 1 where width > height, else 0.
        slices: field -> its text in each image, see `svit.core.slices`.
        frames: of each image, by its `video_id` and `frame_id`; None where they are missing or no ids, and
            empty where no image has them.

    Raises:
        CocoError: the json is unreadable or wrong, or `train` finds no picture with an object.
        ClassError: the classes are not those of `class_names`.
    """

    def __init__(
        self,
        json: Path | str | Mapping[str, Any],
        image_root: Path | str,
        config: DataConfig,
        train: bool = False,
        *,
        exif: str = "auto",
        repair: bool = True,
        check_files: bool = False,
        keep_empty: bool = False,
        class_names: Sequence[str] = (),
        class_map: Mapping[str, str] | None = None,
    ) -> None:
        root = image_root if check_files else None
        data, self.report = checked(json, repair=repair, image_root=root, exif=exif, strict=train)
        self.image_root = Path(image_root)
        self.config, self.train, self.exif = config, train, exif
        self.class_map = dict(class_map or {})
        self._name_labels(data, class_names)
        images, objects = _by_image(data, train, keep_empty)
        if train and not any(objects):
            raise CocoError(f"{self.report.source}: no picture has an object to learn from")
        self.left_out = len(data["images"]) - len(images)
        self._objects = _Packed(objects)
        self.image_ids: list[ImageId] = [image["id"] for image in images]
        self._file_names = [image["file_name"] for image in images]
        self.slices = slices_of(images)
        frames = list(map(frame_of, images))
        self.frames = frames if any(frames) else []
        sizes = [(int(image["height"]), int(image["width"])) for image in images]
        self._image_hw = np.array(sizes, dtype=np.int32).reshape(-1, 2)

    def _name_labels(self, data: Mapping[str, Any], class_names: Sequence[str]) -> None:
        ordered = sorted(data["categories"], key=lambda category: category["id"])
        self._categories = [{"id": int(one["id"]), "name": str(one["name"])} for one in ordered]
        own = [one["name"] for one in self._categories]
        self.foreign_names = [self.class_map.get(name, name) for name in own]
        self.class_names = list(class_names) or own
        counts = Counter(one["category_id"] for one in data["annotations"])
        objects = [counts[one["id"]] for one in self._categories]
        if not class_names:
            check_map(self.class_map, own)
        renamed = self.class_map if class_names else {}
        match = match_classes(own, self.class_names, objects=objects, renamed=renamed)
        self.class_notes = match.notes
        self.category_ids: list[int | None] = [None] * len(self.class_names)
        for one, label in zip(self._categories, match.labels, strict=True):
            if label is not None:
                self.category_ids[label] = one["id"]
        self._labels = {number: label for label, number in enumerate(self.category_ids)}

    def __len__(self) -> int:
        return len(self.image_ids)

    @property
    def aspect_groups(self) -> np.ndarray:
        """int64 (images,), 1 where width > height as annotated, else 0."""
        return (self._image_hw[:, 1] > self._image_hw[:, 0]).astype(np.int64)

    def file_name(self, index: int) -> str:
        """The name of a picture's file below the image root."""
        return self._file_names[index]

    def path(self, index: int) -> Path:
        """The file of a picture."""
        return self.image_root / self._file_names[index]

    def image_hw(self, index: int) -> tuple[int, int]:
        """Height and width of a picture in source pixels, as the json says."""
        height, width = self._image_hw[index]
        return int(height), int(width)

    def image(self, index: int) -> UInt8[np.ndarray, "height width 3"]:
        """A picture in source pixels, RGB.

        Raises:
            ImageError: its file cannot be read, or has another size than the json says.
        """
        return read_image(self.path(index), exif=self.exif, expected_hw=self.image_hw(index))

    def target(self, index: int) -> Target:
        """The objects of a picture in source pixels; crowds only where `train` is False.

        An object without a mask gets that of its box, and says so in `has_mask`.
        """
        return target_of(self._objects[index], self._labels, self.image_hw(index))

    def sample(self, index: int, seed: int | None = None) -> Sample:
        """A picture ready for the model.

        Args:
            seed: draws the augmentations of a training set; without it, and outside training, the
                picture goes through the test pipeline.

        Returns: the sample; its target is None outside training (see `target`).

        Raises:
            ImageError: as `image`.
        """
        image, image_id = self.image(index), self.image_ids[index]
        if not self.train:
            return prepare(image, self.config, image_id)
        target = self.target(index)
        if seed is None:
            return prepare(image, self.config, image_id, target)
        variant, moved = augment(image, target, self.config, seed)
        return Sample(image_id, normalise(variant, self.config), image.shape[:2], moved)

    def coco(self, indices: Sequence[int] | None = None) -> dict[str, Any]:
        """The checked and repaired ground truth as a COCO dictionary, for pycocotools.

        Args:
            indices: the pictures to contain; all without it.
        """
        chosen = range(len(self)) if indices is None else indices
        images = [self._entry(i) for i in chosen]
        annotations = [item for i in chosen for item in self._objects[i]]
        return {
            "info": {},
            "images": images,
            "annotations": annotations,
            "categories": self._categories,
        }

    def _entry(self, index: int) -> dict[str, Any]:
        """Of an image in a COCO json."""
        height, width = self.image_hw(index)
        entry = {"id": self.image_ids[index], "file_name": self._file_names[index]}
        entry |= {"height": height, "width": width}
        frame = self.frames[index] if self.frames else None
        return (
            entry if frame is None else entry | {"video_id": frame.video, "frame_id": frame.number}
        )


class _Packed:
    """A list of picklable items as one array of bytes.

    Worker processes share its pages; a list of objects would be copied with its reference counts.
    """

    def __init__(self, items: Sequence[Any]) -> None:
        pieces = [pickle.dumps(item, protocol=pickle.HIGHEST_PROTOCOL) for item in items]
        self._ends = np.cumsum([0] + [len(piece) for piece in pieces])
        self._bytes = np.frombuffer(b"".join(pieces), dtype=np.uint8)

    def __getitem__(self, index: int) -> Any:
        index = range(len(self._ends) - 1)[index]
        return pickle.loads(self._bytes[self._ends[index] : self._ends[index + 1]])


def _by_image(
    data: Mapping[str, Any], train: bool, keep_empty: bool
) -> tuple[list[dict[str, Any]], list[list[dict[str, Any]]]]:
    """The pictures to show and, in the same order, the annotations of each."""
    objects: dict[ImageId, list[dict[str, Any]]] = {image["id"]: [] for image in data["images"]}
    hw = {image["id"]: (image["height"], image["width"]) for image in data["images"]}
    for annotation in data["annotations"]:
        image_id = annotation["image_id"]
        if not train or _is_learnt(annotation, hw[image_id]):
            objects[image_id].append(annotation)
    images = [image for image in data["images"] if objects[image["id"]] or keep_empty or not train]
    return images, [objects[image["id"]] for image in images]


def _is_learnt(annotation: Mapping[str, Any], image_hw: tuple[int, int]) -> bool:
    """mmdet's rule: no crowd, not to be ignored, at least one pixel wide and high, some of it inside."""
    left, top, width, height = annotation["bbox"]
    inside = left < image_hw[1] and top < image_hw[0] and left + width > 0 and top + height > 0
    large = width >= 1 and height >= 1 and annotation["area"] > 0
    return inside and large and not (annotation["iscrowd"] or annotation.get("ignore"))


@dataclass(frozen=True)
class CocoFiles:
    """Where a split lies on disk."""

    json: Path
    image_root: Path


def find_coco(split: str, data_root: Path | str | None = None) -> CocoFiles:
    """The files of a split in COCO's layout: `annotations/instances_SPLIT.json` beside `SPLIT/`.

    A root is `data_root` where given, else the environment's DETECTRON2_DATASETS, else `./datasets` and
    `./data`. The layout may lie in a root itself or in its folder `coco`. A split `train` also finds
    `train2017`.

    Raises:
        CocoError: nothing found; every place tried is listed.
    """
    tried = []
    names = (split,) if split.endswith("2017") else (split, f"{split}2017")
    for folder in _coco_folders(data_root):
        for name in names:
            files = CocoFiles(folder / "annotations" / f"instances_{name}.json", folder / name)
            if files.json.is_file() and files.image_root.is_dir():
                return files
            tried.append(f"{files.json} with {files.image_root}{os.sep}")
    places = "\n  ".join(tried)
    raise CocoError(
        f"no COCO split {split!r}; name its root by {ENVIRONMENT}, or in the command's options. "
        f"Tried:\n  {places}"
    )


def _coco_folders(data_root: Path | str | None) -> list[Path]:
    named = data_root or os.environ.get(ENVIRONMENT)
    roots = [named] if named else DEFAULT_ROOTS
    return [folder for root in map(Path, roots) for folder in (root / "coco", root)]
