"""What an evaluation amounts to: AP, realised keep ratios and compute. No torch."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from svit.core import macs
from svit.core.catalogue import METHODS
from svit.core.coco_rows import Row, result_rows
from svit.core.config import Config
from svit.core.matches import MATCHES, Matches, packed
from svit.core.statistics import Drawn, Interval
from svit.core.types import Detections, ImageId, TokenTrace
from svit.evaluation.average_precision import (
    BOUNDARY,
    COUNTED,
    KINDS,
    load_truth,
    measured,
    overfull,
    truth_of,
    unmasked,
)
from svit.system.claims import refuse_others
from svit.system.files import (
    FileError,
    explained,
    plain_json,
    read_json,
    write_json,
    write_text,
    write_whole,
)

RESULTS, SUMMARY, PER_IMAGE = "coco_instances_results.json", "summary.json", "images.csv"
# what a summary says of itself beside what its numbers follow from; the same may be measured anew
NO_FACTS = ("command", "threads", "commit", "versions", "scores", "data_images")
_AGAIN = "With --record RUN the same command reads the images that are already in RUN from there"
IMAGE_COLUMNS = ("image_id", "objects", "area", "keep_ratio", "detections", "macs_backbone", "macs")


class NothingMeasured(ValueError):
    """No image could be read, so there is no number to give."""


@dataclass(frozen=True)
class Outcome:
    """What counts of one image.

    Attributes:
        rows: its COCO result objects.
        grid_hw: padded token grid; (0, 0) if the image could not be read.
        valid: tokens that show image pixels.
        kept: tokens used a layer, padding included.
        kept_valid: likewise of the valid ones.
        error: why the image could not be read, or empty.
        foreign: detections of classes that the data do not have; they cost compute and count nowhere else.
    """

    image_id: ImageId
    rows: list[Row]
    grid_hw: tuple[int, int] = (0, 0)
    valid: int = 0
    kept: tuple[int, ...] = ()
    kept_valid: tuple[int, ...] = ()
    error: str = ""
    foreign: int = 0


def outcome_of(trace: TokenTrace, detections: Detections, category_ids: Sequence[int]) -> Outcome:
    """The outcome of an image that was seen."""
    valid = trace.grid.valid_mask()
    rows = result_rows(trace.image_id, detections, category_ids)
    return Outcome(
        trace.image_id,
        rows,
        trace.grid.grid_hw,
        int(valid.sum()),
        tuple(trace.keep.sum(axis=(1, 2)).tolist()),
        tuple(trace.keep[:, valid].sum(axis=1).tolist()),
        foreign=len(detections) - len(rows),
    )


@dataclass(frozen=True)
class Model:
    """What of a model the numbers depend on.

    Attributes:
        targets: target keep ratio of each layer.
        gated: zero-based blocks that prune, or may.
    """

    config: Config
    targets: list[float]
    gated: list[int]


@dataclass(frozen=True)
class Summary:
    """The result of an evaluation.

    Attributes:
        scores: "box" and "mask", and "boundary" where it was asked for -> the 12 COCO numbers in percent, by
            their names.
        layers: one row a layer: target, gated; keep and keep_valid, the mean over images of the share
            of all and of valid tokens used; their standard deviations over images as *_spread.
        images: one row an image: objects, area (share of the image that objects cover, summed),
            keep_ratio (mean over gated layers, valid tokens), detections, macs_backbone, macs.
        correlation: Pearson's of keep_ratio with objects and with area; None where one is constant or
            fewer than three images were seen.
        rows: all COCO result objects.
        errors: image id -> why it could not be read; such an image counts as one without detections.
        matches: the same kinds -> which detections are right, of each image.
        drawn: likewise AP on the images and on bootstrap draws of them.
        provenance: as in a recorded run, with the command.
        unmasked: objects annotated by a box alone; mask AP leaves them out, as it does crowd regions.
        slices: field -> image id -> its text there, of all images (`svit.core.slices`).
        videos: image id -> its video, of frames, which are drawn video by video; None of pictures alone.
        counted: detections an image and class that AP counts.
        overfull: images with more objects of a class than that, which no detector can find all of.
    """

    scores: dict[str, dict[str, float]]
    layers: pd.DataFrame
    images: pd.DataFrame
    correlation: dict[str, float | None]
    rows: list[Row]
    errors: dict[ImageId, str]
    matches: dict[str, Matches]
    drawn: dict[str, Drawn]
    provenance: dict[str, Any]
    unmasked: int = 0
    slices: Mapping[str, Mapping[ImageId, str]] = field(default_factory=dict)
    videos: Mapping[ImageId, ImageId] | None = None
    counted: int = COUNTED
    overfull: int = 0

    @cached_property
    def intervals(self) -> dict[str, Interval]:
        """Kind -> AP with its 95 % percentile interval over images, or over videos."""
        return {kind: one.interval() for kind, one in self.drawn.items()}

    @cached_property
    def packed(self) -> bytes:
        """The content of `matches.npz`, from which anyone can draw the images anew."""
        return packed(self.matches, self.drawn)

    def numbers(self) -> dict[str, float]:
        """The few that a training curve or a table shows."""
        named = {
            f"{kind}_{name}": self.scores[kind][name] for kind in self.scores for name in _HEADLINE
        }
        named |= {name: float(self.images[name].mean()) for name in _MEANS}
        return {name: value for name, value in named.items() if not np.isnan(value)}

    def to_json(self) -> dict[str, Any]:
        """Plain values for `summary.json`."""
        ap = {
            kind: {**self.scores[kind], "AP_interval": _known(self.intervals[kind].bounds)}
            for kind in self.scores
        }
        return {
            **ap,
            **{name: mean_and_spread(self.images[name]) for name in _MEANS},
            "correlation_with_keep_ratio": self.correlation,
            "layers": self.layers.to_dict("records"),
            "images": len(self.images) + len(self.errors),
            "errors": {str(image_id): message for image_id, message in self.errors.items()},
            **({"objects_without_mask": self.unmasked} if self.unmasked else {}),
            **({"overfull_images": self.overfull} if self.overfull else {}),
            "matches_sha256": hashlib.sha256(self.packed).hexdigest(),
            "provenance": self.provenance,
        }

    def write(self, output: Path) -> None:
        """Writes results, matches, the table of images and the summary; each file appears whole or not at
        all, the summary last.

        Raises:
            FileError: the folder cannot be written.
        """
        with explained(output, otherwise=_AGAIN):
            output.mkdir(parents=True, exist_ok=True)
            write_text(output / RESULTS, json.dumps(self.rows))
            write_whole(output / MATCHES, lambda file: file.write(self.packed))
            write_text(output / PER_IMAGE, self.images.to_csv(index=False))
            write_json(output / SUMMARY, plain_json(self.to_json()), indent=1, sealed=True)


_HEADLINE = ("AP", "AP50", "AP75", "APs", "APm", "APl")
_MEANS = ("keep_ratio", "macs_backbone", "macs")


def refuse_other_summary(output: Path, provenance: dict[str, Any], boundary: bool = False) -> None:
    """Keeps an evaluation from replacing one of another model, of other data or choices, of more images, or
    one that also has the AP of boundaries.

    Args:
        boundary: whether the new one has it.

    Raises:
        FileError: `output` holds one; what differs.
    """
    path = output / SUMMARY
    if path.exists():
        summary = read_json(path, "delete it or choose another folder")
        there = summary.get("provenance")
        there = there if isinstance(there, dict) else {}
        if (there.get("limit") or np.inf) < (provenance["limit"] or np.inf):
            there["limit"] = provenance["limit"]  # it goes on from there
        facts = [
            {name: value for name, value in source.items() if name not in NO_FACTS}
            for source in (there, provenance)
        ]
        refuse_others(output, *facts, what="evaluation")
        if BOUNDARY in summary and not boundary:
            raise FileError(
                f"{path} has the AP of boundaries, which would be lost: add --boundary, or choose another "
                "folder"
            )


def summarise(
    model: Model,
    truth: dict[str, Any],
    outcomes: Sequence[Outcome],
    provenance: dict[str, Any],
    *,
    evaluator: str = "pycocotools",
    draws: int = 1000,
    slices: Mapping[str, Mapping[ImageId, str]] = {},
    boundary: bool = False,
    counted: int = COUNTED,
) -> Summary:
    """The summary of the outcomes of all images of a COCO dictionary, given in any order.

    Args:
        slices: field -> image id -> its text there; a column each in the table of images.
        boundary: also scores the boundaries of masks.
        counted: detections an image and class that AP counts.

    Raises:
        NothingMeasured: none of the images could be read.
    """
    if all(outcome.error for outcome in outcomes):
        raise NothingMeasured(
            f"none of the {len(outcomes)} images could be read, so nothing was measured; the first: "
            f"{outcomes[0].error}"
        )
    place = {image["id"]: number for number, image in enumerate(truth["images"])}
    outcomes = sorted(outcomes, key=lambda outcome: place[outcome.image_id])
    rows = [row for outcome in outcomes for row in outcome.rows]
    seen = [outcome for outcome in outcomes if not outcome.error]
    kinds = (*KINDS, BOUNDARY) if boundary else tuple(KINDS)
    indices = {kind: load_truth(truth_of(truth, kind)) for kind in kinds}
    found = {kind: measured(indices[kind], rows, kind, evaluator, counted) for kind in kinds}
    matches = {kind: one for kind, (_, one) in found.items()}
    images, videos = _per_image(model, truth, seen), _videos(truth)
    for name, texts in slices.items():
        images[f"{name}_slice" if name in images else name] = images["image_id"].map(texts)
    return Summary(
        scores={kind: numbers for kind, (numbers, _) in found.items()},
        layers=_per_layer(model, seen),
        images=images,
        correlation={name: _correlation(images, name) for name in ("objects", "area")},
        rows=rows,
        errors={outcome.image_id: outcome.error for outcome in outcomes if outcome.error},
        matches=matches,
        drawn={kind: one.drawn(draws, videos=videos) for kind, one in matches.items()},
        provenance=provenance,
        unmasked=unmasked(truth),
        slices=slices,
        videos=videos,
        counted=counted,
        overfull=overfull(truth, counted),
    )


def _known(bounds: tuple[float, float]) -> list[float | None]:
    """Ends of an interval for a json file, which has no NaN."""
    return [None if np.isnan(end) else end for end in bounds]


def _videos(truth: dict[str, Any]) -> dict[ImageId, ImageId] | None:
    """The video of each image; None unless all are frames."""
    found = {image["id"]: image.get("video_id") for image in truth["images"]}
    return None if None in found.values() else found


def _per_layer(model: Model, outcomes: Sequence[Outcome]) -> pd.DataFrame:
    """Realised keep ratios of each layer over images."""
    layers = range(len(model.targets))
    frame = pd.DataFrame({"layer": layers, "target": model.targets})
    frame["gated"] = [layer in model.gated for layer in layers]
    shares = {
        "keep": [np.divide(o.kept, o.grid_hw[0] * o.grid_hw[1]) for o in outcomes],
        "keep_valid": [np.divide(o.kept_valid, o.valid) for o in outcomes],
    }
    for name, values in shares.items():
        frame[name] = np.mean(values, axis=0) if values else None
        frame[f"{name}_spread"] = np.std(values, axis=0) if len(values) > 1 else None
    return frame


def _per_image(model: Model, truth: dict[str, Any], outcomes: Sequence[Outcome]) -> pd.DataFrame:
    objects = _objects(truth)
    rows = [
        {
            "image_id": outcome.image_id,
            **objects[outcome.image_id],
            "keep_ratio": np.divide(outcome.kept_valid, outcome.valid)[model.gated].mean(),
            "detections": len(outcome.rows),
            **_macs(model.config, outcome),
        }
        for outcome in outcomes
    ]
    return pd.DataFrame(rows, columns=list(IMAGE_COLUMNS))


def _objects(truth: dict[str, Any]) -> dict[ImageId, dict[str, float]]:
    """Number of objects and the share of the image they cover together, crowds left out."""
    pixels = {image["id"]: image["height"] * image["width"] for image in truth["images"]}
    found = {image_id: {"objects": 0, "area": 0.0} for image_id in pixels}
    for annotation in truth["annotations"]:
        if not annotation["iscrowd"]:
            image_id = annotation["image_id"]
            found[image_id]["objects"] += 1
            found[image_id]["area"] += annotation["area"] / pixels[image_id]
    return found


def _macs(config: Config, outcome: Outcome) -> dict[str, float]:
    """Of the backbone and of the whole network with as many proposals as configured; NaN for a
    method without a cost formula."""
    if config.pruning.method not in METHODS:
        return {"macs_backbone": np.nan, "macs": np.nan}
    parts = macs.ledger(
        config.backbone,
        config.detector,
        config.pruning,
        outcome.grid_hw,
        outcome.kept,
        detections=len(outcome.rows) + outcome.foreign,
    )
    return {"macs_backbone": parts.drop([*macs.HEAD_PARTS]).sum(), "macs": parts.sum()}


def _correlation(images: pd.DataFrame, name: str) -> float | None:
    ratios, values = images["keep_ratio"].to_numpy(float), images[name].to_numpy(float)
    if len(images) < 3 or not np.ptp(ratios) or not np.ptp(values):
        return None
    return float(np.corrcoef(ratios, values)[0, 1])


def mean_and_spread(values: pd.Series) -> dict[str, float | None]:
    """Mean and standard deviation over images; None without numbers, and the deviation of a single one."""
    known = values.dropna().to_numpy(float)
    if not len(known):
        return {"mean": None, "spread": None}
    return {"mean": float(known.mean()), "spread": float(known.std()) if len(known) > 1 else None}
