"""An evaluation by slices of its images, as kinds of photographs: AP, keep ratio, what masks are worth.

AP of a slice is COCO's AP of its images alone: all others count no time.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from svit.core.statistics import Drawn
from svit.evaluation.summary import Summary, mean_and_spread
from svit.evaluation.summary_tables import difference_cells, difference_head, kinds_in, labels
from svit.system import text

HEAD = ("inference", "masks", "seed", "slice", "images", "objects")
DIFFERENCE = ("inference", "learned minus", "seed", "slice")


def slices_in(summary: Summary) -> list[tuple[str, str]]:
    """Field and text of every slice of the images, as ("kind", "histology")."""
    return [
        (field, name)
        for field, texts in summary.slices.items()
        for name in sorted(set(texts.values()))
    ]


def slice_ap(summary: Summary, field: str, name: str, kind: str) -> Drawn | None:
    """AP of the images of a slice, and on draws of them; None without an object. Those of two evaluations
    are paired.

    Args:
        kind: of `Summary.scores`.
    """
    members = _members(summary, field, name, kind)
    draws, own = len(summary.drawn[kind].draws), summary.matches[kind]
    found = own.drawn(draws, members=members, videos=summary.videos)
    return None if found.value < 0 else found


def _members(summary: Summary, field: str, name: str, kind: str) -> np.ndarray:
    """bool (images,) in the order of the matches' weights."""
    texts = summary.slices[field]
    return np.array([texts[image_id] == name for image_id in summary.matches[kind].image_ids])


def slice_table(summaries: Sequence[Summary]) -> str:
    """Markdown: a line an evaluation and slice. Keep is the mean over gated layers and valid tokens of
    the images that could be read; objects are theirs, too."""
    kinds = kinds_in(summaries)
    rows = [
        [*labels(summary), name, *_cells(summary, field, name, kinds)]
        for summary in summaries
        for field, name in slices_in(summary)
    ]
    return text.table([*HEAD, *(f"{kind} AP" for kind in kinds), "keep"], rows)


def _cells(summary: Summary, field: str, name: str, kinds: Sequence[str]) -> list[str]:
    texts = summary.slices[field]
    seen = summary.images[summary.images["image_id"].map(texts) == name]
    keep = mean_and_spread(seen["keep_ratio"])["mean"]
    return [
        str(_members(summary, field, name, "box").sum()),
        str(seen["objects"].sum()),
        *(_shown(slice_ap(summary, field, name, kind)) for kind in kinds),
        "–" if keep is None else f"{keep:.3f}",
    ]


def slice_difference_table(pairs: Sequence[tuple[Summary, Summary]]) -> str:
    """Markdown: first minus second of each pair in every slice, as `summary_tables.difference_table`.

    Raises:
        ValueError: the images differ.
    """
    kinds = kinds_in([one for pair in pairs for one in pair])
    rows = [
        [*labels(other), name, *_differences(learned, other, field, name, kinds)]
        for learned, other in pairs
        for field, name in slices_in(learned)
    ]
    return text.table([*DIFFERENCE, *difference_head(kinds)], rows)


def _differences(a: Summary, b: Summary, field: str, name: str, kinds: Sequence[str]) -> list[str]:
    cells = []
    for kind in kinds:
        first, second = (slice_ap(one, field, name, kind) for one in (a, b))
        cells += difference_cells(None if first is None else first - second)
    return cells


def _shown(drawn: Drawn | None) -> str:
    return "–" if drawn is None else str(drawn.interval())
