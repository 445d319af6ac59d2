"""Classifiers on folders of pictures, one subfolder a class: top-1, and which tokens every block used.

Pictures reach the model as DeiT's evaluation has them (`classification/datasets.py` of
github.com/uzh-rpg/svit): the short side resized to 256/224 of the size by Pillow's bicubic filter, the
middle cut out, ImageNet's normalisation (or another of `COLOURS`).
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from timm.data.constants import (
    IMAGENET_DEFAULT_MEAN,
    IMAGENET_DEFAULT_STD,
    IMAGENET_INCEPTION_MEAN,
    IMAGENET_INCEPTION_STD,
)
from torch import Tensor
from torchvision import transforms
from torchvision.datasets import ImageFolder

from svit.core.catalogue import near
from svit.data.folder import is_named_as_picture
from svit.data.reading import read_image
from svit.data.samples import Sample, hash_of
from svit.evaluation import provenance
from svit.evaluation.summary import NO_FACTS
from svit.models.classifier import ViTClassifier
from svit.probing.edits import nests
from svit.probing.recorder import Tape, edit, record
from svit.pruning.sampling import permuted, uniform
from svit.runs.run import RunWriter
from svit.system.claims import refuse_others
from svit.system.files import prepare_folder, read_json, write_json
from svit.weights import checkpoint

ACCURACY = "accuracy.json"
SALT = 7_777  # of moved masks, apart from that of sampled ones
COLOURS = {  # mean and deviation of red, green and blue in 0..1, as weights were trained with
    "imagenet": (IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD),
    "half": (IMAGENET_INCEPTION_MEAN, IMAGENET_INCEPTION_STD),
}
MOVES = ("learned", "shuffle", "random")


class FolderError(ValueError):
    """A folder of classes cannot be read, or does not fit the model."""


@dataclass(frozen=True)
class Accuracy:
    """How a classifier did on a folder.

    Attributes:
        images: how many.
        top1, top5: per cent of them whose class has the largest logit, or one of the five largest.
        keep: of each block, mean share of tokens that it used.
        hits: a letter an image, in the folder's order: 1 where its class has the largest logit, 5 where it
            has one of the five largest, 0 elsewhere. Two with equal images are paired by them.
        usage: rows of the grid, mean over images of the number of blocks that used the token of each place,
            as the authors draw it on 14 x 14 from 5 to 10 (`classification/plot_distribution.py`); blocks
            without a gate count.
        provenance: what it follows from.
    """

    images: int
    top1: float
    top5: float
    hits: str
    keep: list[float]
    usage: list[list[float]]
    provenance: dict[str, Any]


def class_folder(folder: str | Path, size: int = 224, colours: str = "imagenet") -> ImageFolder:
    """The pictures of a folder with their classes, prepared for a model of this size.

    Args:
        colours: of `COLOURS`; a file of weights does not say which. DeiT's are "imagenet", timm's `augreg`
            "half".

    Raises:
        ValueError: unknown colours.
        FolderError: no subfolders with pictures, or numbers that stand in another order as texts.
    """
    if colours not in COLOURS:
        raise ValueError(f"unknown colours {colours!r}; {near(colours, COLOURS)}")
    steps = [
        transforms.Resize(round(size * 256 / 224), transforms.InterpolationMode.BICUBIC),
        transforms.CenterCrop(size),
        transforms.ToTensor(),
        transforms.Normalize(*COLOURS[colours]),
    ]
    try:
        found = ImageFolder(
            str(folder),
            transforms.Compose(steps),
            loader=lambda path: Image.fromarray(read_image(path)),
            is_valid_file=is_named_as_picture,
        )
    except FileNotFoundError as error:
        raise FolderError(
            f"{folder}: expected a subfolder of pictures for each class ({error})"
        ) from error
    if all(map(str.isdecimal, found.classes)) and found.classes != sorted(found.classes, key=int):
        raise FolderError(
            f"{folder}: its subfolders are numbers, and as texts they stand in another order (10 before 2), "
            "so classes would be mixed up: name them with zeros before (002, 010)"
        )
    return found


@torch.no_grad()
def classify(
    model: ViTClassifier,
    pictures: ImageFolder,
    *,
    masks: str = "learned",
    batch: int = 32,
    limit: int | None = None,
    seed: int = 0,
    run: Path | None = None,
) -> Accuracy:
    """Accuracy and tokens of a classifier.

    Args:
        model: in evaluation mode; its classes in the order of the folder's names.
        pictures: of `class_folder`.
        masks: "learned", or as many tokens in each picture and block at other places: "shuffle" moves them by
            one permutation a picture, "random" draws anew in every block. Where the method never calls a
            token back both are one permutation of the masks that the model decides by itself, so that no
            token that is gone is used again; else later gates answer to what the blocks before them saw.
        limit: only so many pictures, evenly spaced.
        seed: of sampled and moved masks; every picture has numbers of its own.
        run: folder to record the masks into, for figures and app, or to go on with; the picture is what the
            model was shown.

    Raises:
        FolderError: another number of classes than the model has.
        ValueError: unknown masks.
        RunError: the folder of the run holds another one.
    """
    if masks not in MOVES:
        raise ValueError(f"unknown masks {masks!r}; {near(masks, MOVES)}")
    if len(pictures.classes) != model.head.out_features:
        raise FolderError(
            f"{pictures.root}: has {len(pictures.classes)} subfolders, the model {model.head.out_features} "
            "classes; give the folder whose subfolders, in the order of their names, are those classes"
        )
    places = _places(pictures, limit)
    tally = _Tally(model.config.depth)
    source = _provenance(model, pictures, places, masks, seed)
    opened = nullcontext() if run is None else RunWriter(run, source)
    with opened as writer:
        for start in range(0, len(places), batch):
            some = places[start : start + batch]
            items = [pictures[place] for place in some]
            labels = torch.tensor([label for _, label in items])
            logits, tape = _run(model, torch.stack([one for one, _ in items]), some, masks, seed)
            tally.add(logits, labels, tape)
            if writer is not None:
                _write(writer, pictures, some, items, logits, tape)
    return tally.accuracy(source)


def _places(pictures: ImageFolder, limit: int | None) -> list[int]:
    """Of the pictures that are looked at, evenly spaced."""
    count = len(pictures) if limit is None else min(limit, len(pictures))
    return np.linspace(0, len(pictures) - 1, count).round().astype(int).tolist()


def refuse_other_accuracy(
    folder: Path,
    model: ViTClassifier,
    pictures: ImageFolder,
    *,
    masks: str,
    limit: int | None,
    seed: int,
    **facts: Any,
) -> None:
    """Keeps what `classify` will find from replacing the `ACCURACY` of another model, of other pictures or
    choices; arguments as there, facts as of `write_accuracy`.

    Raises:
        FileError: the folder holds one; what differs.
    """
    path = folder / ACCURACY
    if not path.exists():
        return
    there = read_json(path, "delete it or choose another folder").get("provenance")
    there = there if isinstance(there, dict) else {}
    now = {**_provenance(model, pictures, _places(pictures, limit), masks, seed), **facts}
    sides = (
        {name: value for name, value in source.items() if name not in NO_FACTS}
        for source in (there, now)
    )
    refuse_others(folder, *sides, what="evaluation")


def write_accuracy(folder: Path, found: Accuracy, **facts: Any) -> None:
    """Writes `ACCURACY` into a folder, which is made, with more facts in its provenance.

    Args:
        facts: as `trained`: what two models must share to be compared, such as seed, steps and batch.

    Raises:
        FileError: it cannot be written.
    """
    prepare_folder(folder)
    about = {**found.provenance, **facts, **provenance.of_command()}
    write_json(folder / ACCURACY, asdict(replace(found, provenance=about)), indent=1, sealed=True)


def _run(
    model: ViTClassifier, images: Tensor, places: Sequence[int], masks: str, seed: int
) -> tuple[Tensor, Tape]:
    seeds = [1_000_003 * seed + place for place in places]
    device = next(model.parameters()).device
    decided: dict[int, Tensor] = {}
    if masks != "learned" and nests(model.method):
        model.seed_images(seeds)
        with record(model, scores=False) as own:
            model(images.to(device))
        decided = dict(own.masks)

    def moved(layer: int, keep: Tensor) -> Tensor:
        anew = (1 + layer * (not decided)) * (masks == "random")
        draws = uniform(keep.float(), seeds, SALT + anew)
        return permuted(decided.get(layer, keep), torch.ones_like(keep), draws)

    model.seed_images(seeds)
    changed = nullcontext() if masks == "learned" else edit(model, masks=moved)
    with changed, record(model) as tape:
        return model(images.to(device)).float().cpu(), tape


class _Tally:
    def __init__(self, layers: int) -> None:
        self.hits = ""
        self.keep = torch.zeros(layers, dtype=torch.float64)
        self.usage: Tensor | float = 0.0
        self.images = 0

    def add(self, logits: Tensor, labels: Tensor, tape: Tape) -> None:
        """A batch."""
        best = logits.topk(min(5, logits.shape[1]), dim=1).indices == labels[:, None]
        self.hits += "".join("1" if row[0] else "5" if any(row) else "0" for row in best.tolist())
        used = torch.from_numpy(tape.keep()).double()  # (B, layers, rows, columns)
        self.keep += used.mean(dim=(2, 3)).sum(dim=0)
        self.usage = self.usage + used.sum(dim=(0, 1))
        self.images += len(labels)

    def accuracy(self, source: dict[str, Any]) -> Accuracy:
        """Means over all that was added."""
        first, missed = self.hits.count("1"), self.hits.count("0")
        return Accuracy(
            self.images,
            100 * first / self.images,
            100 * (self.images - missed) / self.images,
            self.hits,
            (self.keep / self.images).tolist(),
            (self.usage / self.images).tolist(),
            source,
        )


def _provenance(
    model: ViTClassifier, pictures: ImageFolder, places: Sequence[int], masks: str, seed: int
) -> dict[str, Any]:
    method = model.method
    names = [_name(pictures, place) for place in places]
    colours = _colours(pictures)
    return {
        **({} if colours == "imagenet" else {"colours": colours}),
        "framework": "classifier",
        "classifier": {"backbone": asdict(model.config), "pruning": asdict(method.settings)},
        "method": method.settings.method,
        "inference": method.inference,
        "targets": method.target_ratios(),
        "cost": "unknown",
        "class_names": list(pictures.classes),
        "weights_sha256": checkpoint.fingerprint(model.state_dict()),
        "data": Path(pictures.root).name,
        "data_sha256": hash_of(names, names),
        "intervention": masks,
        "seed": seed,
        "versions": provenance.versions(),
        "commit": provenance.commit(),
    }


def _colours(pictures: ImageFolder) -> str:
    """Of `COLOURS`, that the pictures are normalised by."""
    used = pictures.transform.transforms[-1]
    return next(name for name, both in COLOURS.items() if both == (used.mean, used.std))


def _name(pictures: ImageFolder, place: int) -> str:
    """Of a picture, below the folder."""
    return Path(pictures.samples[place][0]).relative_to(pictures.root).as_posix()


def _write(
    writer: RunWriter,
    pictures: ImageFolder,
    places: Sequence[int],
    items: Sequence[tuple[Tensor, int]],
    logits: Tensor,
    tape: Tape,
) -> None:
    names = [_name(pictures, place) for place in places]
    samples = [
        Sample(name, image, tuple(image.shape[1:]))
        for name, (image, _) in zip(names, items, strict=True)
    ]
    rows = zip(tape.traces(samples), samples, items, logits.argmax(dim=1).tolist(), strict=True)
    colours = _colours(pictures)
    done = writer.done  # by a call before this one
    for trace, sample, (_, label), found in rows:
        if sample.image_id in done:
            continue
        extra = {"label": float(label), "predicted": float(found)}
        writer.add(
            trace, image=_shown(sample.image, colours), file_name=str(sample.image_id), extra=extra
        )


def _shown(image: Tensor, colours: str) -> np.ndarray:
    """What the model was shown, uint8 RGB."""
    mean, std = (torch.tensor(one).view(3, 1, 1) for one in COLOURS[colours])
    return (image * std + mean).mul(255).round().clamp(0, 255).byte().permute(1, 2, 0).numpy()
