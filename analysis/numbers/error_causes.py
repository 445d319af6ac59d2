"""Errors of a detector (`error_types`) beside what became of the tokens they are about.

An error is about the object that it has, a background detection about its own box. A block holds the object
while it uses at least half of its tokens (`matching.HALF`, each weighs as much as it is covered). That
tokens were pruned and an error was made is no cause: small objects lose more tokens and are harder. Columns
that say what an intervention found can be joined by `row` and `error`, slices of `Run.images` by `image_id`.
An intervention there is: the tokens of an object that was not found were kept, and the model ran again
(`svit.runs.rescue`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from analysis.numbers.error_types import (
    BOXES,
    RIGHT,
    TYPES,
    Chosen,
    Errors,
    Rule,
    Scored,
    errors_of,
)
from analysis.numbers.matching import HALF, Sample, box_shares, fates, object_shares
from svit.core.coverage import size_names
from svit.core.statistics import Drawn, resampled_images
from svit.core.types import ImageId, to_xywh
from svit.runs.frames import drawn_together
from svit.runs.rescue import Rescue

COLUMNS = (
    *("row", "image_id", "error", "object", "label", "class", "area", "size", "score", "iou"),
    *("fate", "dropped", "back", "last", "found_there"),
    *("score_before", "score_after", "rescued", "chance"),
)
AP50 = "AP50"  # beside the types in `difference_frame`
_RESCUE = {"score_before": float, "score_after": float, "rescued": "boolean", "chance": float}


@dataclass(frozen=True, eq=False)
class Causes:
    """The errors of a run and their tokens.

    Attributes:
        errors: what AP follows from.
        frame: one row an error, those in crowds left out: `row` in `errors.detections`, or in
            `errors.objects` if missed; image_id, error; `object` (-1 for background) with its label, class,
            area and size, or the detection's; score, iou (NaN if missed); `fate`, `dropped` and `back` of
            `matching.fates`; `last` block that holds it, 0 if none does; `found_there`: whether the other run
            finds the object (missing for background, and without another run); of objects that were not found
            and were asked about (otherwise missing): `score_before` and `score_after` of the detection that
            finds it at all, as recorded and with its tokens kept (NaN: none), `rescued`: whether it is
            found then, `chance`: the share of random draws of as many tokens in which it is.
        unfound: one row an object that nothing finds: columns of `errors.objects`, last, found_there, those
            from score_before to chance of the frame, and `error`: of the detection that could
            be mended to find it, or "missed".
    """

    errors: Errors
    frame: pd.DataFrame
    unfound: pd.DataFrame

    def chosen(self, rows: pd.DataFrame) -> Chosen:
        """Some rows of `frame`, for `Errors.costs`."""
        missed = rows["error"] == "missed"
        found = Chosen(*(np.zeros(len(one), bool) for one in self._tables))
        for flags, own in zip(found, (rows[~missed], rows[missed]), strict=True):
            flags[own["row"].to_numpy(int)] = True
        return found

    @property
    def _tables(self) -> tuple[pd.DataFrame, pd.DataFrame]:
        return self.errors.detections, self.errors.objects


def causes_of(
    samples: Iterable[Sample],
    class_names: Sequence[str] = (),
    rule: Rule = BOXES,
    other: Errors | None = None,
    rescue: Rescue | None = None,
) -> Causes:
    """Explains the errors of a run and follows the tokens they are about.

    Args:
        other: errors of another run, best a dense one, on the same images.
        rescue: what keeping tokens did in this run (`svit.runs.rescue.read_rescue`).

    Raises:
        ValueError: masks asked for and not given, the other run is of other images or objects, or the rescue
            was asked by another rule.
    """
    shares: tuple[list[np.ndarray], list[np.ndarray]] = ([], [])
    areas: list[np.ndarray] = []

    def seen() -> Iterator[Scored]:
        for trace, target, found in samples:
            shares[0].append(object_shares(trace, target)[~target.crowd])
            shares[1].append(box_shares(trace, found.boxes_xyxy))
            areas.append(to_xywh(found.boxes_xyxy)[:, 2:].prod(axis=1))
            yield trace.image_id, target, found

    errors = errors_of(seen(), class_names, rule)
    if other is not None and other.image_ids != errors.image_ids:
        raise ValueError(
            "expected the errors of two runs on the same images in the same order, found other images"
        )
    if other is not None and not _same_objects(errors.objects, other.objects):
        raise ValueError("expected the errors of two runs at the same objects, found others")
    if not errors.image_ids:
        nothing = pd.DataFrame(columns=list(COLUMNS))
        told = ["last", "found_there", *_RESCUE, "error"]
        return Causes(errors, nothing, errors.objects.reindex(columns=[*errors.objects, *told]))
    objects = errors.objects.join(_fates(np.concatenate(shares[0])))
    objects["found_there"] = pd.array(
        [pd.NA] * len(objects) if other is None else other.objects["found"], dtype="boolean"
    )
    objects = _with_rescue(objects, rescue, rule)
    missed = objects[objects["missed"]].assign(error="missed")
    frame = pd.concat(
        [
            _of_detections(errors, objects, shares[1], areas, class_names),
            missed.assign(row=missed.index),
        ]
    )
    return Causes(
        errors, frame.reindex(columns=COLUMNS).reset_index(drop=True), unfound(errors, objects)
    )


def _same_objects(one: pd.DataFrame, other: pd.DataFrame) -> bool:
    """Whether rows are of the same objects: they are laid beside each other row by row."""
    columns = ["image", "object", "label"]
    return np.array_equal(one[columns].to_numpy(), other[columns].to_numpy())


def _of_detections(
    errors: Errors,
    objects: pd.DataFrame,
    shares: Sequence[np.ndarray],
    areas: Sequence[np.ndarray],
    class_names: Sequence[str],
) -> pd.DataFrame:
    """Wrong detections with what is known of their object, or of their box."""
    rows = errors.detections.assign(row=np.arange(len(errors.detections)))
    rows = rows[~rows["ignored"] & (rows["error"] != RIGHT)]
    about = objects.drop(columns=["image_id", "found", "missed"])
    known = rows[rows["object"] >= 0].drop(columns="label").merge(about, on=["image", "object"])
    alone = rows[rows["object"] < 0]
    places = list(zip(alone["image"], alone["detection"], strict=True))
    layers = shares[0].shape[1]
    own = _fates(np.array([shares[i][n] for i, n in places]).reshape(-1, layers))
    area = np.array([areas[i][n] for i, n in places], float)
    names = dict(enumerate(class_names))
    told = {
        "class": [names.get(label, f"class {label}") for label in alone["label"]],
        "area": area,
        "size": size_names(area),
    }
    alone = alone.reset_index(drop=True).assign(**told).join(own)
    both = [one for one in (known, alone) if len(one)]
    return pd.concat(both).sort_values("row") if both else known


def _fates(shares: np.ndarray) -> pd.DataFrame:
    """`matching.fates` of shares (things, layers), and `last`; missing where nothing is covered."""
    blocks = np.arange(1, shares.shape[1] + 1)
    last = ((shares >= HALF) * blocks).max(axis=1, initial=0).astype(float)
    return fates(shares).assign(last=np.where(np.isnan(shares).any(axis=1), np.nan, last))


def _with_rescue(objects: pd.DataFrame, rescue: Rescue | None, rule: Rule) -> pd.DataFrame:
    """Objects, and what keeping their tokens did."""
    if rescue is None:
        return objects.assign(**{name: pd.Series(dtype=kind) for name, kind in _RESCUE.items()})
    asked = (rescue.facts["iou"], rescue.facts["kind"])
    if asked != (rule.found, rule.kind):
        raise ValueError(
            f"expected a rescue by the rule of these errors, IoU {rule.found:g} of {rule.kind}, found "
            f"IoU {asked[0]:g} of {asked[1]}"
        )
    answers = rescue.found(rule.score).rename(
        columns={"before": "score_before", "after": "score_after"}
    )
    names = ["image_id", "object", *_RESCUE]
    joined = objects.merge(answers[names].astype(_RESCUE), on=["image_id", "object"], how="left")
    joined.loc[joined["found"].to_numpy(), list(_RESCUE)] = pd.NA
    return joined


def unfound(errors: Errors, objects: pd.DataFrame) -> pd.DataFrame:
    """The objects that nothing finds, with `error`: of the detection that could be mended to find it, or
    "missed".

    Args:
        objects: `errors.objects`, with more columns where they are wanted.
    """
    able = errors.detections[errors.detections["error"].isin(("localisation", "classification"))]
    able = able[able["mended"] >= 0][["image", "object", "error"]]
    left = objects[~objects["found"]].merge(able, on=["image", "object"], how="left")
    return left.assign(error=left["error"].fillna("missed"))


def count_frame(frame: pd.DataFrame, by: str = "last") -> pd.DataFrame:
    """Errors of each type in groups of `Causes.frame` (or `unfound`).

    Columns: error, the group (`by`, such as last, size, class, a slice), errors, found_there (of them, NaN
    without another run); asked: about how many of them `svit.runs.rescue` asked; of these rescued, and
    chance: how many come back on average with as many tokens at random (NaN where none was asked about).
    """
    groups = frame.groupby(["error", by], sort=True)
    sums = {
        name: groups[name].sum(min_count=1).astype(float)
        for name in ("found_there", "rescued", "chance")
    }
    there = {"errors": groups.size(), "found_there": sums.pop("found_there")}
    return pd.DataFrame({**there, "asked": groups["rescued"].count(), **sums}).reset_index()


def rescue_frame(
    frame: pd.DataFrame,
    images: Sequence[ImageId],
    by: str | None = None,
    draws: int = 1000,
    videos: Mapping[ImageId, ImageId] | None = None,
) -> pd.DataFrame:
    """Of the errors that were asked about: how many objects come back with their tokens, beside chance.

    Args:
        images: all that were looked at, those without errors too.
        by: a column of `Causes.frame` (or `unfound`); None for one row.
        videos: of each image, where all are frames (`svit.runs.frames.videos_of`): they are drawn whole.

    Columns: the group (`by`), asked, rescued, chance, difference (rescued - chance), low and high of its
    95 % interval over images, or over videos.
    """
    units = drawn_together(videos, images)
    asked = frame[frame["rescued"].notna()].astype({"rescued": float})
    rows = []
    for name, group in [(None, asked)] if by is None else asked.groupby(by, sort=True):
        apart = (group["rescued"] - group["chance"]).groupby(group["image_id"]).sum()
        values = apart.reindex(list(images), fill_value=0).to_numpy(float)
        drawn = resampled_images(
            lambda weights, own=values: float(weights @ own), list(images), draws, 0, videos=units
        )
        interval = drawn.interval()
        row = {by: name, "asked": len(group), "rescued": group["rescued"].sum()}
        row |= {"chance": group["chance"].sum(), "difference": interval.value}
        rows.append(row | {"low": interval.low, "high": interval.high})
    names = ["asked", "rescued", "chance", "difference", "low", "high"]
    return pd.DataFrame(rows, columns=[*([by] if by else []), *names])


def cost_frame(causes: Causes, by: str | None = None, draws: int = 1000) -> pd.DataFrame:
    """dAP of each type, or of its errors in each group: what AP on all images gains when these are mended.

    Args:
        by: a column of `Causes.frame`; groups do not add up to the whole.

    Columns: the group (`by`), error, errors, cost in points, low and high of its 95 % interval over images.
    """
    groups = [(None, causes.frame)] if by is None else causes.frame.groupby(by, sort=True)
    rows = []
    for name, group in groups:
        costs = causes.errors.costs(draws, chosen=causes.chosen(group))
        counts = group["error"].value_counts()
        for error in TYPES:
            row = {by: name, "error": error, "errors": int(counts.get(error, 0))}
            rows.append(row | _ends(costs[error]))
    names = [*([by] if by else []), "error", "errors", "cost", "low", "high"]
    return pd.DataFrame(rows, columns=names)


def _ends(drawn: Drawn) -> dict[str, float]:
    interval = drawn.interval()
    return {"cost": interval.value, "low": interval.low, "high": interval.high}


def difference_frame(first: Errors, second: Errors, draws: int = 1000) -> pd.DataFrame:
    """AP at IoU 0.5 (a row "AP50") and dAP of each type in two runs on the same images, and first minus
    second with its paired interval.

    Columns: error, first, second, cost (the difference, points), low, high, above (share of the draws in
    which the type costs the first more).

    Raises:
        ValueError: the runs are of different images.
    """
    sides = [{AP50: one.ap(draws), **one.costs(draws)} for one in (first, second)]
    rows = []
    for error in (AP50, *TYPES):
        one, other = (side[error] for side in sides)
        apart = one - other
        row = {"error": error, "first": one.value, "second": other.value}
        rows.append(row | _ends(apart) | {"above": apart.above})
    return pd.DataFrame(rows)
