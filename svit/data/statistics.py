"""What is in a COCO data set: how many objects, how large, where, of which classes; no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from svit.core.slices import slices_of
from svit.system.text import counted, table

SMALL, LARGE = (
    32**2,
    96**2,
)  # COCO's bounds: small below the first, large from the second, in pixels
QUANTILES = (0, 0.1, 0.5, 0.9, 1)


def object_table(data: Mapping[str, Any]) -> pd.DataFrame:
    """One row an object that is no crowd, of checked COCO instances (`svit.data.validate.checked`).

    Returns:
        image_id, category (its name), area (pixels), size (small, medium or large as COCO counts),
        covered (area over that of the image), from_middle (distance of the box's middle from the
        image's, over half the image's diagonal: 0 the middle, 1 a corner).
    """
    hw = {image["id"]: (image["height"], image["width"]) for image in data["images"]}
    names = {category["id"]: category["name"] for category in data["categories"]}
    rows = []
    for found in data["annotations"]:
        if found["iscrowd"]:
            continue
        height, width = hw[found["image_id"]]
        left, top, wide, high = found["bbox"]
        away = np.hypot(left + wide / 2 - width / 2, top + high / 2 - height / 2)
        rows.append(
            {
                "image_id": found["image_id"],
                "category": names[found["category_id"]],
                "area": found["area"],
                "size": _size(found["area"]),
                "covered": found["area"] / (height * width),
                "from_middle": away / (np.hypot(height, width) / 2),
            }
        )
    columns = ["image_id", "category", "area", "size", "covered", "from_middle"]
    return pd.DataFrame(rows, columns=columns)


def _size(area: float) -> str:
    return "small" if area < SMALL else "medium" if area < LARGE else "large"


def describe(data: Mapping[str, Any]) -> str:
    """The statistics of checked COCO instances as Markdown tables, a third where images come in slices."""
    objects = object_table(data)
    by_image = objects.groupby("image_id")
    ids = [image["id"] for image in data["images"]]
    head = ["over", "mean", "least", "10 %", "median", "90 %", "most"]
    spreads = [
        ["objects an image", *_spread(by_image.size().reindex(ids, fill_value=0), 1)],
        ["share of the image they cover", *_spread(_total(by_image["covered"], ids), 3)],
        ["area of an object, pixels", *_spread(objects["area"], 0)],
        ["middle of an object from the image's", *_spread(objects["from_middle"], 2)],
    ]
    names = list(dict.fromkeys(one["name"] for one in data["categories"]))  # two may share one
    counts = [
        *_shares("size", objects["size"], ["small", "medium", "large"]),
        *_shares("class", objects["category"], names),
    ]
    totals = f"{counted(len(ids), 'images')}, {counted(len(objects), 'objects')}"
    parts = [totals, table(head, spreads), table(["of the objects", "number", "share"], counts)]
    kinds = [
        row
        for field, texts in slices_of(data["images"]).items()
        for row in _shares(field, pd.Series(texts), sorted(set(texts)))
    ]
    if kinds:
        parts.append(table(["of the images", "number", "share"], kinds))
    return "\n\n".join(parts)


def _total(groups: Any, ids: Sequence[Any]) -> pd.Series:
    return groups.sum().reindex(ids, fill_value=0.0)


def _spread(values: pd.Series, digits: int) -> list[str]:
    """Mean and quantiles; dashes without values."""
    if values.empty:
        return ["–"] * (1 + len(QUANTILES))
    return [f"{value:.{digits}f}" for value in (values.mean(), *values.quantile(QUANTILES))]


def _shares(kind: str, values: pd.Series, names: Sequence[str]) -> list[list[str]]:
    counts = values.value_counts()
    total = max(1, len(values))
    return [
        [f"{kind} {name}", str(counts.get(name, 0)), f"{counts.get(name, 0) / total:.3f}"]
        for name in names
    ]
