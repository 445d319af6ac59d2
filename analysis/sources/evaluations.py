"""Result folders of `svit evaluate`, read back: what was measured, of which model, on which data.

results = find_evaluations("runs/demo")
frame(results)
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from svit.core.catalogue import METHODS
from svit.core.matches import MATCHES, MatchesError, MatchesFile
from svit.core.statistics import Drawn
from svit.runs.head import UNKNOWN, known
from svit.system import text
from svit.system.files import FileError, read_json

SUMMARY, PLAN = "summary.json", "plan.json"
KINDS = ("box", "mask", "boundary")  # of AP; the last where it was asked for
COCO_VAL_IMAGES, IMAGENET_VAL_IMAGES = 5000, 50_000
CLASSIFIER, CLASSES = "classifier", "classification"  # a framework, and the world of its numbers
WORLDS = (
    "COCO",
    "shapes",
    "nuclei",
)  # what numbers are of; none of one is ever pooled with one of another
# width, depth, heads and patch of the paper's two models and of ours for drawn shapes
SIZES = {(192, 12, 3, 16): "tiny", (384, 12, 6, 16): "small"}
SIZES |= {(96, 12, 3, 16): "nano", (96, 12, 3, 8): "fine"}
ANYHOW = ("seed", "checkpoint_period")  # settings of a training that say nothing of its recipe
PAPER_TARGETS = (*[1.0] * 3, *[0.7] * 3, *[0.49] * 3, *[0.343] * 3)


class EvaluationError(ValueError):
    """A result folder cannot be used; the message names the file and says why."""


@dataclass(frozen=True)
class Facts:
    """Of what a number is: read from the provenance that recordings and evaluations carry.

    Attributes:
        preset: name of the configuration, else of the model where it is not ours, else of the method.
        method: pruning method.
        variant: its options that the paper compares: "preserve" or "remove" (EViT, ATS,
            DynamicViT), for SViT "", "fixed", "inherit", "fixed+inherit" or "gate GATE", for random "" or
            "inherit".
        size: tiny or small as in the paper, nano, fine (nano with patches of 8 pixels), else "WIDTHxDEPTH";
            "unknown" of a model that is not ours.
        neck: adapter (the paper's) or pyramid.
        data: "COCO val2017" (80 classes of COCO, all images), "COCO, other images", "shapes", "nuclei" or
            "other"; of classifiers "ImageNet" (1,000 classes, all images), "single shapes" or "other". Where
            AP counts another number than COCO's 100 it follows, as "nuclei, 300 detections".
        targets: target keep ratio of each layer.
        source: what else must agree in one figure: framework, inference mode, masks (`masks_of`).
        seed: of sampled masks.
        data_sha256: of annotations and file names, and of how many detections AP counts where these are not
            COCO's 100.
        training_seed: 0 where the provenance does not tell.
        masks_from: the model that decided instead of this one; empty where it decided itself.
        trained_ratio: base keep ratio that the settings of the weights name; that of `targets` where they
            name none.
    """

    preset: str
    method: str
    variant: str
    size: str
    neck: str
    data: str
    targets: tuple[float, ...]
    source: tuple[str, str, str]
    seed: int
    data_sha256: str
    training_seed: int
    masks_from: str
    trained_ratio: float

    @property
    def model(self) -> str:
        """Method and variant, as `claims.csv` names them."""
        return f"{self.method} {self.variant}".strip()

    @property
    def base_ratio(self) -> float:
        """Target of the first stage that prunes, the paper's "pruning rate"; 1 for a dense model."""
        return _first_below_one(self.targets)

    @property
    def decides(self) -> bool:
        """Whether the masks are the model's own: no intervention, no masks of another model."""
        return self.source[2] == "learned" and not self.masks_from

    @property
    def dial(self) -> bool:
        """Whether its rate was set to another keep ratio than the one it was trained for."""
        return abs(self.base_ratio - self.trained_ratio) > 1e-6

    @property
    def world(self) -> str:
        """One of `WORLDS`, or `CLASSES` of a classifier, or "other"."""
        if self.source[0] == CLASSIFIER:
            return CLASSES
        return next((name for name in WORLDS if self.data.startswith(name)), "other")


def _first_below_one(ratios: Iterable[float]) -> float:
    return next((float(ratio) for ratio in ratios if ratio < 1), 1.0)


def facts_of(provenance: dict[str, Any], images: int) -> Facts:
    """Facts from the provenance of a run or an evaluation of so many images."""
    config = provenance.get("config") or {}
    backbone, pruning = config.get("backbone") or {}, config.get("pruning") or {}
    train = config.get("train") or {}
    method = str(provenance.get("method") or pruning.get("method") or "unknown")
    sides = (
        *(backbone.get(name, 0) for name in ("embed_dim", "depth", "heads")),
        backbone.get("patch", 16),
    )
    inference = str(provenance.get("inference") or "")
    options = pruning.get("options") or {}
    targets = tuple(float(target) for target in known(provenance, "targets") or ())
    counted = f"{provenance['counted']} detections" if "counted" in provenance else ""
    trained = options.get("keep_ratios") or [options.get("keep_ratio")]
    return Facts(
        preset=str(config.get("name") or provenance.get("model") or method),
        method=method,
        variant=METHODS[method].variant(options) if method in METHODS else "",
        size=SIZES.get(sides, f"{sides[0]}x{sides[1]}") if any(sides[:3]) else UNKNOWN,
        neck=str(backbone.get("neck") or "unknown"),
        data=", ".join(filter(None, [_data(provenance, images), counted])),
        targets=targets,
        source=(str(provenance.get("framework") or "unknown"), inference, masks_of(provenance)),
        seed=int(provenance.get("seed") or 0),
        data_sha256=" ".join(filter(None, [str(provenance.get("data_sha256") or ""), counted])),
        training_seed=int(train.get("seed") or 0),
        masks_from=str(provenance.get("masks_from") or ""),
        trained_ratio=_first_below_one(targets if None in trained else trained),
    )


def masks_of(provenance: dict[str, Any]) -> str:
    """Which masks: "learned", or an intervention and its blocks where it did not act in all gated ones.
    Whose they are, `Facts.masks_from` tells."""
    name = str(provenance.get("intervention") or "learned")
    plain = name == "learned" and not provenance.get("masks_from")
    return name if plain else text.intervened(name, provenance.get("layers"))


def _data(provenance: dict[str, Any], images: int) -> str:
    names = list(provenance.get("class_names") or [])
    if provenance.get("framework") == CLASSIFIER:
        if (len(names), images) == (1000, IMAGENET_VAL_IMAGES):
            return "ImageNet"
        return "single shapes" if {"circle", "star", "heart"} <= set(names) else "other"
    if len(names) == 80 and names[0] == "person" and names[-1] == "toothbrush":
        whole = images == COCO_VAL_IMAGES and provenance.get("limit") is None
        return "COCO val2017" if whole else "COCO, other images"
    if names == ["nucleus"]:
        return "nuclei"
    return "shapes" if {"circle", "star", "heart"} <= set(names) else "other"


@dataclass(frozen=True)
class Origin:
    """How weights came about: what two models must share, beside the data, to be compared.

    Attributes:
        start: hash of the weights that the training began with.
        views: pictures trained on, each time one was seen.
        pictures: hash of the training images.

    Empty or 0 is not known: only `svit compare` writes it down.
    """

    start: str = ""
    views: int = 0
    pictures: str = ""

    @property
    def known(self) -> bool:
        """Whether anything is."""
        return self != Origin()


@dataclass(frozen=True)
class Evaluation:
    """One result folder.

    Attributes:
        path: the folder.
        summary: content of its `summary.json` (`svit.evaluation.summary.Summary.to_json`).
    """

    path: Path
    summary: dict[str, Any]

    @cached_property
    def facts(self) -> Facts:
        """What the summary's provenance says."""
        return facts_of(self.summary["provenance"], self.images)

    @cached_property
    def origin(self) -> Origin:
        """What `svit compare` wrote of the training, in the plan beside the line or in the summary."""
        source = self.summary["provenance"]
        plan = self.path.parent / PLAN
        if source.get("row") and plan.is_file():
            told = read_json(plan, "compare again")
            return Origin(told["init_sha256"], int(told["views"]), told["train_sha256"])
        batch = ((source.get("config") or {}).get("train") or {}).get("batch") or 0
        return Origin(views=int(source.get("trained_steps") or 0) * int(batch))

    @cached_property
    def recipe(self) -> dict[str, Any]:
        """Settings of the training, without those of `ANYHOW`."""
        train = (self.summary["provenance"].get("config") or {}).get("train") or {}
        return {name: value for name, value in train.items() if name not in ANYHOW}

    @property
    def precision(self) -> str:
        """Number type that the network computed in, as "float32"."""
        return str(self.summary["provenance"].get("dtype") or "float32")

    @property
    def reading(self) -> str:
        """How the files of the data were read: "exif auto", and which classes were renamed, as "exif auto,
        classes car=automobile" (`svit.data.samples.reading`)."""
        provenance = self.summary["provenance"]
        renamed = sorted((provenance.get("class_map") or {}).items())
        classes = ", classes " + " ".join(f"{name}={other}" for name, other in renamed)
        return f"exif {provenance.get('exif') or 'auto'}{classes if renamed else ''}"

    @property
    def resizing(self) -> dict[str, Any]:
        """The settings by which pictures reach the model (`svit.core.config.DataConfig`), as far as told."""
        return (self.summary["provenance"].get("config") or {}).get("data") or {}

    @property
    def sides(self) -> str:
        """What pictures are resized to, as "800 to 1333 px"; empty where the settings do not tell."""
        ends = [self.resizing.get(name) for name in ("short_side", "long_side")]
        return "" if None in ends else "{} to {} px".format(*ends)

    @property
    def images(self) -> int:
        """How many were evaluated."""
        return int(self.summary["images"])

    @property
    def kinds(self) -> list[str]:
        """The kinds of AP that were measured, of `KINDS`; COCO's -1 of data without such masks is none."""
        return [kind for kind in KINDS if kind in self.summary and self.ap(kind) >= 0]

    def ap(self, kind: str) -> float:
        """COCO AP in percent of one of `kinds`."""
        return float(self.summary[kind]["AP"])

    def drawn(self, kind: str) -> Drawn | None:
        """AP with its draws of the images, to be paired with those of others (`svit.core.statistics`); None
        where no matches lie beside the summary, or the kind was not measured.

        Raises:
            EvaluationError: they are damaged, or of another evaluation.
        """
        path, seal = self.path / MATCHES, self.summary.get("matches_sha256")
        if not seal or kind not in self.kinds or not path.is_file():
            return None
        try:
            return MatchesFile(path, seal).drawn(kind)
        except MatchesError as error:
            raise EvaluationError(str(error)) from error

    def interval(self, kind: str) -> tuple[float, float]:
        """The 95 % percentile bootstrap interval of an AP over images, in percent; NaN of a single image."""
        low, high = self.summary[kind]["AP_interval"]
        return (math.nan, math.nan) if low is None else (float(low), float(high))

    def half_width(self, kind: str) -> float:
        """Half the width of `interval`, in points."""
        low, high = self.interval(kind)
        return (high - low) / 2

    def mean(self, name: str) -> float:
        """Mean over images of keep_ratio, macs_backbone or macs; NaN where not known."""
        value = self.summary[name]["mean"]
        return float("nan") if value is None else float(value)


def find_evaluations(folder: str | Path) -> list[Evaluation]:
    """All evaluations in a folder and below it, by path; empty when there is none.

    Raises:
        EvaluationError: a summary cannot be read.
    """
    return [
        read_evaluation(path) for path in sorted(Path(folder).rglob(SUMMARY), key=text.in_order)
    ]


def read_evaluation(path: Path) -> Evaluation:
    """One `summary.json`.

    Raises:
        EvaluationError: it cannot be read.
    """
    try:
        summary = read_json(path, "evaluate again")
        evaluation = Evaluation(path.parent, summary)
        evaluation.facts, evaluation.origin, evaluation.ap("box"), evaluation.half_width("mask")  # noqa: B018
    except (FileError, KeyError, TypeError, ValueError) as error:
        raise EvaluationError(
            f"{path} is not a summary of `svit evaluate` ({type(error).__name__}: {error}); "
            "evaluate again with --out, or leave the folder out"
        ) from error
    return evaluation


def frame(evaluations: Iterable[Evaluation]) -> pd.DataFrame:
    """One row an evaluation: what it is of, base_ratio, APs with their intervals (mask AP is NaN where data
    have no masks), keep, MACs, path."""
    rows = [
        {
            "preset": one.facts.preset,
            "model": one.facts.model,
            "size": one.facts.size,
            "neck": one.facts.neck,
            "data": one.facts.data,
            "framework": one.facts.source[0],
            "inference": one.facts.source[1],
            "intervention": masks_told(one.facts) or "learned",
            "seed": one.facts.seed,
            "training_seed": one.facts.training_seed,
            "images": one.images,
            "base_ratio": one.facts.base_ratio,
            **dict.fromkeys(("box_ap", "mask_ap"), math.nan),
            **{f"{kind}_ap": one.ap(kind) for kind in one.kinds},
            **dict.fromkeys(("box_low", "box_high", "mask_low", "mask_high"), math.nan),
            **_ends(one),
            "keep_ratio": one.mean("keep_ratio"),
            "gmacs_backbone": one.mean("macs_backbone") / 1e9,
            "gmacs": one.mean("macs") / 1e9,
            "path": one.path.as_posix(),
        }
        for one in evaluations
    ]
    return pd.DataFrame(rows)


def _ends(one: Evaluation) -> dict[str, float]:
    """Both ends of the intervals of AP, as columns."""
    ends = {kind: zip(("low", "high"), one.interval(kind)) for kind in one.kinds}
    return {f"{kind}_{end}": value for kind, pair in ends.items() for end, value in pair}


def masks_told(facts: Facts) -> str:
    """Which masks, for a legend: nothing where a model decides itself, else the intervention, and the start
    of the hash of the model that decided."""
    name = "" if facts.source[2] == "learned" else facts.source[2]
    lent = f"masks of {facts.masks_from[:8]}" if facts.masks_from else ""
    return ", ".join(filter(None, [name, lent]))


def own_masks(results: Iterable[Evaluation]) -> list[Evaluation]:
    """Those of models with the masks that they decide themselves: no intervention, no masks of others."""
    return [one for one in results if one.facts.decides]


def data_groups(results: Iterable[Evaluation], bodies: bool = False) -> dict[str, list[Evaluation]]:
    """Evaluations by what they saw; AP is comparable within a group only. Largest group first.

    Args:
        bodies: models of another size or neck apart as well.

    Returns:
        "shapes, 300 images" or "nano, pyramid neck, shapes, 300 images" -> its evaluations; the start of
        the data's hash tells equal names apart.
    """
    groups: dict[tuple[str, str], list[Evaluation]] = {}
    for one in results:
        facts = one.facts
        body = f"{facts.size}, {facts.neck} neck, " if bodies else ""
        name = f"{body}{facts.data}, {one.images} images"
        groups.setdefault((name, facts.data_sha256), []).append(one)
    ordered = sorted(groups.items(), key=lambda item: -len(item[1]))
    names = [name for (name, _), _ in ordered]
    return {
        f"{name} ({digest[:6] or 'unknown'})" if names.count(name) > 1 else name: members
        for (name, digest), members in ordered
    }


def same_data(evaluations: Iterable[Evaluation]) -> None:
    """Refuses evaluations that cannot share an axis of AP.

    Raises:
        EvaluationError: two of them saw other images or annotations.
    """
    known: dict[tuple[str, int], Path] = {}
    for one in evaluations:
        known.setdefault((one.facts.data_sha256, one.images), one.path)
    if len(known) > 1:
        first, second = list(known.values())[:2]
        raise EvaluationError(
            f"{first} and {second} are of different images; AP is comparable on the same only. "
            "Give the folders of one data set at a time"
        )
