"""An evaluation by slices of its images, as kinds of photographs: AP, keep ratio, what masks are worth.

AP of a slice is COCO's AP of its images alone: all others count no time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from svit.core.statistics import Interval, bootstrap
from svit.evaluation.average_precision import KINDS
from svit.evaluation.summary import Summary, labels, mean_and_spread
from svit.system import text

HEAD = ("inference", "masks", "seed", "slice", "images", "objects", "box AP", "mask AP", "keep")
DIFFERENCE = ("inference", "learned minus", "seed", "slice", "box AP", "mask AP")


def slices_in(summary: Summary) -> list[tuple[str, str]]:
    """Field and text of every slice of the images, as ("kind", "histology")."""
    return [
        (field, name)
        for field, texts in summary.slices.items()
        for name in sorted(set(texts.values()))
    ]


def slice_ap(summary: Summary, field: str, name: str, kind: str, draws: int) -> Interval | None:
    """AP of the images of a slice with its 95 % bootstrap interval over them; None without an object.

    Args:
        kind: "box" or "mask".
    """
    members = _members(summary, field, name, kind)
    found = _resampled(summary.resamplers[kind].ap, members, draws)
    return None if found.value < 0 else found


def slice_difference(
    a: Summary, b: Summary, field: str, name: str, kind: str, draws: int
) -> Interval | None:
    """AP of a minus AP of b on the images of a slice, paired; None without an object.

    Raises:
        ValueError: the images differ.
    """
    first, second = a.resamplers[kind], b.resamplers[kind]
    if first.image_ids != second.image_ids:
        raise ValueError("a paired difference needs the same images in both evaluations")
    members = _members(a, field, name, kind)
    if first.ap(members.astype(np.int64)) < 0:
        return None
    return _resampled(lambda weights: first.ap(weights) - second.ap(weights), members, draws)


def _members(summary: Summary, field: str, name: str, kind: str) -> np.ndarray:
    """bool (images,) in the order of the resampler's weights."""
    texts = summary.slices[field]
    return np.array([texts[image_id] == name for image_id in summary.resamplers[kind].image_ids])


def _resampled(
    statistic: Callable[[np.ndarray], float], members: np.ndarray, draws: int
) -> Interval:
    """The interval of a statistic of image weights when only the members are drawn."""

    def of_members(weights: np.ndarray) -> float:
        whole = np.zeros(len(members), np.int64)
        whole[members] = weights
        return statistic(whole)

    return bootstrap(of_members, int(members.sum()), draws)


def slice_table(summaries: Sequence[Summary], draws: int) -> str:
    """Markdown: a line an evaluation and slice. Keep is the mean over gated layers and valid tokens of
    the images that could be read; objects are theirs, too."""
    rows = [
        [*labels(summary), name, *_cells(summary, field, name, draws)]
        for summary in summaries
        for field, name in slices_in(summary)
    ]
    return text.table(HEAD, rows)


def _cells(summary: Summary, field: str, name: str, draws: int) -> list[str]:
    texts = summary.slices[field]
    seen = summary.images[summary.images["image_id"].map(texts) == name]
    keep = mean_and_spread(seen["keep_ratio"])["mean"]
    return [
        str(_members(summary, field, name, "box").sum()),
        str(seen["objects"].sum()),
        *(_shown(slice_ap(summary, field, name, kind, draws)) for kind in KINDS),
        "–" if keep is None else f"{keep:.3f}",
    ]


def slice_difference_table(pairs: Sequence[tuple[Summary, Summary]], draws: int) -> str:
    """Markdown: first minus second of each pair in every slice, in AP points."""
    rows = [
        [
            *labels(other),
            name,
            *(_shown(slice_difference(learned, other, field, name, kind, draws)) for kind in KINDS),
        ]
        for learned, other in pairs
        for field, name in slices_in(learned)
    ]
    return text.table(DIFFERENCE, rows)


def _shown(interval: Interval | None) -> str:
    return "–" if interval is None else str(interval)
