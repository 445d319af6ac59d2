"""From a data set to the samples of each step: seeds, fingerprint, reading ahead."""

from __future__ import annotations

import hashlib
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from svit.data.coco import CocoDataset, ImageError, batches
from svit.data.samples import Sample, fingerprint
from svit.system.signals import follow_parent
from svit.system.text import counted

FINGERPRINTED = 200  # images; the annotations of all 117,000 of COCO would take half a minute


class DataMismatch(ValueError):
    """The data set does not fit the model."""


def check_data(train_set: CocoDataset, classes: int, batch: int, world: int) -> None:
    """Refuses data that cannot be trained on with these settings, before anything is written.

    Raises:
        DataMismatch: the model has another number of classes, or two classes have one name.
        CocoError, ValueError: as `batches`: too few images, or a batch the processes cannot share.
    """
    found = len(train_set.class_names)
    if found != classes:
        raise DataMismatch(
            f"the data set has {counted(found, 'classes')}, the model {classes}; add detector.classes={found}"
        )
    twice = [name for name, count in Counter(train_set.class_names).items() if count > 1]
    if twice:  # the weights could tell them by position only
        raise DataMismatch(
            f"{', '.join(map(repr, twice))} names more than one class of the data set; give each its own name"
        )
    batches(train_set, batch, seed=0, world=world)


def told(train_set: CocoDataset) -> list[str]:
    """What the check of the json does not say: pictures that nothing is learnt from."""
    if not train_set.left_out:
        return []
    pictures = train_set.left_out + len(train_set)
    return [
        f"{train_set.left_out} of {pictures} pictures have no object and are left out; --keep-empty "
        "trains on them too"
    ]


def training_hash(train_set: CocoDataset) -> str:
    """A hash of what is trained on: all images and classes, the annotations of about 200 images.

    The class map is no part: it tells how initial weights are read, and a resumed training reads none.

    Returns: 16 hexadecimal digits, and how pictures are turned where not by "auto".
    """
    count, exif = len(train_set), train_set.exif
    found = fingerprint(train_set, range(0, count, max(1, count // FINGERPRINTED)))[:16]
    return found if exif == "auto" else f"{found}, exif {exif}"


def annotations_hash(train_set: CocoDataset) -> str:
    """SHA-256 of all objects, image by image: boxes, areas, classes, masks. COCO's 860,000 take seconds.

    Numbers go in as float64, so a json that was only written anew has the same.
    """
    whole = hashlib.sha256()
    for index in range(len(train_set)):
        objects = train_set.coco([index])["annotations"]
        whole.update(len(objects).to_bytes(8, "big"))
        for one in objects:
            fields = (*one["bbox"], one["area"], one["category_id"], one["iscrowd"])
            whole.update(np.array(fields, np.float64).tobytes())
            whole.update(_mask_bytes(one["segmentation"]))
    return whole.hexdigest()


def _mask_bytes(segmentation: Any) -> bytes:
    if isinstance(segmentation, Mapping):
        return repr(segmentation["counts"]).encode()
    parts = [np.array(polygon, np.float64).tobytes() for polygon in segmentation]
    return b"".join(len(part).to_bytes(8, "big") + part for part in parts)


def derived_seed(*parts: int) -> int:
    """A 32-bit seed that follows from numbers such as (seed, step, rank)."""
    return zlib.crc32(":".join(map(str, parts)).encode())


class _Views(Dataset["Sample | ImageError"]):
    """Augmented images by (epoch, index): the same pair gives the same picture in any process.

    An error is handed over, because torch adds the worker's traceback to one that is raised.
    """

    def __init__(self, train_set: CocoDataset, seed: int) -> None:
        self._train_set, self._seed = train_set, seed

    def __getitem__(self, place: tuple[int, int]) -> Sample | ImageError:
        epoch, index = place
        try:
            return self._train_set.sample(index, seed=derived_seed(self._seed, epoch, index))
        except ImageError as error:
            return error


def _readable(batches: Iterator[list[Sample | ImageError]]) -> Iterator[list[Sample]]:
    for batch in batches:
        for one in batch:
            if isinstance(one, ImageError):
                raise one
        yield batch


def feed(
    train_set: CocoDataset,
    *,
    batch: int,
    seed: int,
    start_step: int,
    rank: int = 0,
    world: int = 1,
    workers: int = 0,
) -> Iterator[list[Sample]]:
    """The samples of this process for each step from `start_step` on, without end.

    What comes out depends on neither `workers` nor timing.

    Raises:
        ImageError: in the step whose picture cannot be read.
    """
    order = batches(train_set, batch, seed, start_step=start_step, rank=rank, world=world)
    loader = DataLoader(
        _Views(train_set, seed),
        batch_sampler=_Places(order),
        num_workers=workers,
        collate_fn=list,
        worker_init_fn=follow_parent,
        generator=torch.Generator(),  # the global one must not move when a loader starts
    )
    return _readable(iter(loader))


class _Places:
    """The (epoch, index) pairs of each step, in the form DataLoader calls a batch sampler."""

    def __init__(self, order: Iterable[tuple[int, int, list[int]]]) -> None:
        self._order = order

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        for _, epoch, indices in self._order:
            yield [(epoch, index) for index in indices]
