"""Where tokens are used: inside objects, on their contours, on the background; usage as objectness.

Only valid tokens count; those that show crowd annotations alone are left out. The baselines beside
usage need no network: a gate that does no better than local contrast or the nearness to the image's
middle has learned little about objects. Regions, sizes and their limits: `svit.core.coverage`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import pandas as pd

from analysis.numbers.agreement import paired_interval
from analysis.numbers.usage import usage, valid_keep
from svit.core.coverage import (
    Regions,
    Truth,
    centre_nearness,
    coded_masks,
    colour_distance,
    local_contrast,
    object_areas,
    regions,
    size_names,
    token_cover,
)
from svit.core.types import ImageId, TokenTrace

REGIONS = ("contour", "inside", "background")
GOALS = ("foreground", "contour")

# pooled AUCs count values in bins: levels a unit; usage is whole and exact, the others lose < .001
_RESOLUTION = {"usage": 1, "centre": 4096, "contrast": 16, "colour": 8}


def region_frame(samples: Iterable[tuple[TokenTrace, Truth]]) -> pd.DataFrame:
    """Use of every region per layer, pooled over images.

    Columns: region, layer, block; `used` and `tokens` of the region; `share` = used / tokens, NaN
    for a region without tokens. No samples give an empty frame.

    Raises:
        ValueError: traces differ in their number of layers.
    """
    used, tokens = None, np.zeros(len(REGIONS), int)
    for trace, target in samples:
        counts, members = region_counts(trace, regions(target, trace.grid))
        if used is not None and used.shape != counts.shape:
            raise ValueError(f"expected {used.shape[1]} layers, found {trace.layers}")
        used = counts if used is None else used + counts
        tokens += members
    layers = 0 if used is None else used.shape[1]
    frame = pd.DataFrame(
        {"region": np.repeat(REGIONS, layers), "layer": np.tile(np.arange(layers), len(REGIONS))}
    )
    frame["block"] = frame["layer"] + 1
    frame["used"] = np.zeros(0, int) if used is None else used.ravel()
    frame["tokens"] = np.repeat(tokens, layers)
    frame["share"] = frame["used"] / frame["tokens"].where(frame["tokens"] > 0)
    return frame


def region_counts(trace: TokenTrace, found: Regions) -> tuple[np.ndarray, np.ndarray]:
    """Of one image: int64 (`REGIONS`, layers) used tokens of every region, and (`REGIONS`,) its tokens."""
    members = np.stack([getattr(found, name).ravel() for name in REGIONS])
    keep = valid_keep(trace).reshape(trace.layers, -1)
    counts = (members.astype(np.float32) @ keep.T.astype(np.float32)).astype(int)
    return counts, members.sum(axis=1)


def region_summary(frame: pd.DataFrame) -> pd.DataFrame:
    """Layers that use a token of each region, on average, from `region_frame`.

    Columns: region; tokens; area = tokens of the region / tokens of all regions; usage = used tokens
    summed over layers / tokens, NaN for a region without tokens; spent = used tokens of the region
    / used tokens of all regions.
    """
    groups = frame.groupby("region", sort=False)
    table = pd.DataFrame({"tokens": groups["tokens"].first(), "used": groups["used"].sum()})
    table["area"] = table["tokens"] / max(table["tokens"].sum(), 1)
    table["usage"] = table["used"] / table["tokens"].where(table["tokens"] > 0)
    table["spent"] = table["used"] / max(table["used"].sum(), 1)
    return table.reset_index()[["region", "tokens", "area", "usage", "spent"]]


def object_frame(
    samples: Iterable[tuple[TokenTrace, Truth]], class_names: Sequence[str] = ()
) -> pd.DataFrame:
    """One row an annotated object (no crowds) that shows in at least one token.

    Columns: image_id, object (its index in the image), label, class, area (source pixels), size
    (COCO's), tokens = summed cover; usage = sum of cover · usage / sum of cover: layers that use the
    object's tokens, each weighted by the share of it that the object covers; excess = usage - mean
    usage of the image's valid tokens.
    """
    rows = []
    for trace, target in samples:
        cover = token_cover(coded_masks(target), trace.grid)
        rows += object_usage(trace, target, cover, class_names)
    return framed(rows)


def object_usage(
    trace: TokenTrace, target: Truth, cover: np.ndarray, class_names: Sequence[str]
) -> Iterator[dict[str, object]]:
    """The rows of `object_frame` of one image.

    Args:
        cover: `token_cover` of the target's masks.
    """
    plane = usage(trace)
    weight, overall = cover.sum(axis=(1, 2)), float(plane.mean())
    for index, row in object_rows(trace.image_id, target, class_names):
        if weight[index] > 0:
            mean = float((cover[index] * plane).sum() / weight[index])
            tokens = {"tokens": float(weight[index]), "usage": mean, "excess": mean - overall}
            yield row | tokens


def framed(rows: Sequence[dict[str, object]]) -> pd.DataFrame:
    """The frame of rows of `object_usage`."""
    names = ["image_id", "object", "label", "class", "area", "size", "tokens", "usage", "excess"]
    return pd.DataFrame(rows, columns=names).astype({"usage": float, "excess": float})


def object_rows(
    image_id: ImageId, target: Truth, class_names: Sequence[str]
) -> Iterator[tuple[int, dict[str, object]]]:
    """Of each annotated object (no crowds): its index, and what a frame of objects says first: image_id,
    object (the index), label, class (its name), area (source pixels), size (COCO's name of the area)."""
    areas = object_areas(target)
    sizes = size_names(areas)
    for index in np.flatnonzero(~target.crowd).tolist():
        label = int(target.labels[index])
        yield (
            index,
            {
                "image_id": image_id,
                "object": index,
                "label": label,
                "class": class_names[label] if label < len(class_names) else f"class {label}",
                "area": float(areas[index]),
                "size": str(sizes[index]),
            },
        )


def group_frame(objects: pd.DataFrame, by: str) -> pd.DataFrame:
    """Usage of objects in groups ("size" or "class") of `object_frame`, every object one vote.

    Columns: the group's name; objects; mean, low, high = mean, 5 % and 95 % quantile of `usage`;
    excess = mean of `excess`. Most objects first; an empty frame stays empty.
    """
    groups = objects.groupby(by, sort=True)
    frame = pd.DataFrame(
        {
            "objects": groups.size(),
            "mean": groups["usage"].mean(),
            "low": groups["usage"].quantile(0.05),
            "high": groups["usage"].quantile(0.95),
            "excess": groups["excess"].mean(),
        }
    )
    return frame.sort_values("objects", ascending=False, kind="stable").reset_index()


def auc(scores: np.ndarray, positive: np.ndarray) -> float:
    """Area under the ROC curve: P(a positive scores higher than a negative) + P(equal) / 2.

    The denominator is all pairs of a positive and a negative; NaN where one of the two is missing.
    """
    _, place = np.unique(np.asarray(scores).ravel(), return_inverse=True)
    return auc_of_ranks(place, np.asarray(positive, bool).ravel())


def auc_of_ranks(place: np.ndarray, positive: np.ndarray) -> float:
    """`auc` from the rank of each score among the different ones, from 0."""
    bins = int(place.max(initial=-1)) + 1
    return auc_of_counts(
        np.bincount(place[positive], minlength=bins), np.bincount(place[~positive], minlength=bins)
    )


def auc_of_counts(positive: np.ndarray, negative: np.ndarray) -> float:
    """`auc` from how many positives and negatives have each score, scores ascending."""
    pairs = float(positive.sum()) * float(negative.sum())
    if not pairs:
        return float("nan")
    below = np.cumsum(negative) - negative
    return float((positive * (below + negative / 2)).sum() / pairs)


def objectness_frame(
    samples: Iterable[tuple[TokenTrace, Truth, np.ndarray | None]],
) -> pd.DataFrame:
    """How well usage, and three maps without a network, tell object tokens from the others.

    Args:
        samples: trace, ground truth and picture of each image; without a picture contrast and colour
            are missing for that image.

    Returns:
        Columns: image_id (None in rows over all tokens of all images), map (usage, centre, contrast,
        colour), goal (`GOALS`), `auc` of the map against "shows an object" or "an outline passes" (see `auc`;
        NaN in an image without both kinds of tokens), tokens, positive. Pooled rows count values in
        bins of 1/16 grey level, 1/8 RGB level and 1/4096 of nearness.
    """
    rows: list[dict] = []
    pooled: dict[tuple[str, str], np.ndarray] = {}
    for trace, target, picture in samples:
        found = regions(target, trace.grid)
        counted = ~found.left_out
        for name, plane in _maps(trace, picture).items():
            values = plane[counted]
            _, place = np.unique(values, return_inverse=True)  # ranks serve all goals
            for goal in GOALS:
                positive = getattr(found, goal)[counted]
                rows.append(
                    _row(trace.image_id, name, goal, auc_of_ranks(place, positive), positive)
                )
                _count(pooled, (name, goal), values, positive)
    for (name, goal), counts in pooled.items():
        totals = counts.sum(axis=1)
        entry = {"image_id": None, "map": name, "goal": goal, "auc": auc_of_counts(*counts)}
        rows.append({**entry, "tokens": int(totals.sum()), "positive": int(totals[0])})
    names = ["image_id", "map", "goal", "auc", "tokens", "positive"]
    return pd.DataFrame(rows, columns=names).astype({"auc": float})


def focus(samples: Sequence[tuple[TokenTrace, Truth]]) -> dict[str, float]:
    """Where a model spends its tokens, in five numbers.

    Returns:
        object_auc and contour_auc: of its usage, all tokens pooled (see `objectness_frame`); contour, inside
        and background: layers that use a token of the region on average (see `region_summary`).
    """
    frame = objectness_frame((trace, target, None) for trace, target in samples)
    table = objectness_table(frame)
    auc = table[table["map"] == "usage"].set_index("goal")["pooled"]
    layers = region_summary(region_frame(samples)).set_index("region")["usage"]
    return {"object_auc": auc["foreground"], "contour_auc": auc["contour"], **layers}


def _maps(trace: TokenTrace, picture: np.ndarray | None) -> dict[str, np.ndarray]:
    maps = {"usage": usage(trace), "centre": centre_nearness(trace.grid)}
    if picture is not None:
        maps["contrast"] = local_contrast(picture, trace.grid)
        maps["colour"] = colour_distance(picture, trace.grid)
    return maps


def _row(image_id: ImageId, name: str, goal: str, value: float, positive: np.ndarray) -> dict:
    counts = {"tokens": positive.size, "positive": int(positive.sum())}
    return {"image_id": image_id, "map": name, "goal": goal, "auc": value, **counts}


def _count(
    pooled: dict[tuple[str, str], np.ndarray],
    key: tuple[str, str],
    values: np.ndarray,
    positive: np.ndarray,
) -> None:
    """Adds values to the counts (positive and negative, bins) of a map and goal."""
    bins = np.rint(values * _RESOLUTION[key[0]]).astype(int)
    old = pooled.get(key, np.zeros((2, 0), int))
    size = max(int(bins.max(initial=-1)) + 1, old.shape[1])
    counts = np.stack([np.bincount(bins[side], minlength=size) for side in (positive, ~positive)])
    counts[:, : old.shape[1]] += old
    pooled[key] = counts


def objectness_table(frame: pd.DataFrame) -> pd.DataFrame:
    """From `objectness_frame`: map, goal, `pooled` AUC over all tokens, `mean` of the AUCs of single
    images, `low` and `high` their 5 % and 95 % quantile, images = how many have one; `gap` = mean of
    usage's AUC minus the map's over single images, `gap_low` and `gap_high` its 95 % bootstrap interval
    over images (NaN in usage's own rows)."""
    single = frame[frame["image_id"].notna()]
    groups = single.groupby(["map", "goal"], sort=False)["auc"]
    table = pd.DataFrame(
        {
            "mean": groups.mean(),
            "low": groups.quantile(0.05),
            "high": groups.quantile(0.95),
            "images": groups.count(),
        }
    )
    pooled = frame[frame["image_id"].isna()].set_index(["map", "goal"])["auc"]
    table.insert(0, "pooled", pooled.reindex(table.index))
    own = single[single["map"] == "usage"].set_index(["goal", "image_id"])["auc"]
    for (name, goal), part in single[single["map"] != "usage"].groupby(["map", "goal"]):
        interval = paired_interval(own[goal] - part.set_index("image_id")["auc"])
        table.loc[(name, goal), ["gap", "gap_low", "gap_high"]] = (
            interval.value,
            interval.low,
            interval.high,
        )
    return table.reset_index()


def objectness_by(frame: pd.DataFrame, slices: pd.DataFrame) -> pd.DataFrame:
    """`objectness_table` of all images, and of those of each text of each slice.

    Args:
        slices: image_id and a column a slice (`Run.slices`).

    Returns: its columns behind `slice` and `of`, both "all" for all images. Only there are tokens pooled.
    """
    tables = [objectness_table(frame).assign(slice="all", of="all")]
    for name in slices.columns.drop("image_id"):
        for text, part in slices.groupby(name):
            some = frame[frame["image_id"].isin(part["image_id"])]
            tables.append(objectness_table(some).assign(slice=name, of=text))
    whole = pd.concat(tables, ignore_index=True)
    return whole[["slice", "of", *whole.columns.drop(["slice", "of"])]]
