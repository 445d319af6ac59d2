"""Tables of evaluations: results, paired differences, layers, and what a reader has to know. No torch."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from svit.core.statistics import Drawn, probability
from svit.evaluation.average_precision import BOUNDARY, COUNTED, KINDS
from svit.evaluation.summary import Summary, mean_and_spread
from svit.system import text

FITTED_HERE = "calibrated_on_evaluated"  # in a provenance: of how many images, where any
TRAINED_HERE = "trained_on_evaluated"


def result_table(summaries: Sequence[Summary]) -> str:
    """Markdown: a line an evaluation. Keep is the mean over gated layers and valid tokens."""
    kinds = kinds_in(summaries)
    numbers = [f"{kind} {name}" for kind in kinds for name in ("AP", "AP50")]
    rows = []
    for summary in summaries:
        keep = mean_and_spread(summary.images["keep_ratio"])
        cells = [*labels(summary)]
        for kind in kinds:
            ap = (str(summary.intervals[kind]), f"{summary.scores[kind]['AP50']:.1f}")
            cells += [_undefined(summary, kind) or number for number in ap]
        cells += [_number(keep["mean"], 3), _number(keep["spread"], 3)]
        cells += [_number(_giga(summary.images[name]), 3) for name in ("macs_backbone", "macs")]
        rows.append(cells)
    head = ["inference", "masks", "seed", *numbers, "keep", "± images"]
    return text.table([*head, "GMACs backbone", "GMACs all"], rows)


def difference_table(pairs: Sequence[tuple[Summary, Summary]]) -> str:
    """Markdown: first minus second of each pair in AP points with its paired percentile interval, and how
    often the first is better on images drawn anew.

    Raises:
        ValueError: the two are of other images or other draws.
    """
    kinds = kinds_in([one for pair in pairs for one in pair])
    rows = [
        [*labels(other), *(cell for kind in kinds for cell in _difference(learned, other, kind))]
        for learned, other in pairs
    ]
    return text.table(["inference", "learned minus", "seed", *difference_head(kinds)], rows)


def kinds_in(summaries: Sequence[Summary]) -> list[str]:
    """The kinds of AP that all of the evaluations have."""
    return [kind for kind in (*KINDS, BOUNDARY) if all(kind in one.scores for one in summaries)]


def difference_head(kinds: Sequence[str]) -> list[str]:
    """Columns of a table of differences."""
    return [name for kind in kinds for name in (f"{kind} AP", f"P {kind}")]


def _difference(a: Summary, b: Summary, kind: str) -> list[str]:
    return difference_cells(None if _undefined(a, kind) else a.drawn[kind] - b.drawn[kind])


def difference_cells(apart: Drawn | None) -> list[str]:
    """A difference with its interval, and how often it is above zero."""
    if apart is None:
        return ["–", "–"]
    return [str(apart.interval()), probability(apart.above, len(apart.draws))]


def _undefined(summary: Summary, kind: str) -> str:
    """A dash where AP has no meaning: nothing of this kind was to be found. Empty otherwise."""
    return "–" if summary.scores[kind]["AP"] < 0 else ""


def notes(summary: Summary) -> list[str]:
    """What a reader of the table has to know, a sentence or list each."""
    told, images = [], len(summary.images) + len(summary.errors)
    whole = summary.provenance.get("data_images", images)
    if images < whole:
        of = text.counted(whole, "images")
        told.append(f"Of the first {images:,} of {of} alone (--limit).")
    if lent := summary.provenance.get("masks_from"):
        told.append(
            f"Masks start from those that another model decides (--masks-from, weights {lent[:10]})."
        )
    if seen := summary.provenance.get(FITTED_HERE):
        told.append(fitted_here_told(seen, images))
    if seen := summary.provenance.get(TRAINED_HERE):
        told.append(trained_here_told(seen, images))
    if summary.unmasked:
        have = "has" if summary.unmasked == 1 else "have"
        told.append(
            f"{text.counted(summary.unmasked, 'objects')} {have} no mask: box AP counts them, "
            "mask AP leaves them out."
        )
    if summary.counted != COUNTED:
        told.append(f"AP counts {summary.counted} detections an image and class; COCO's {COUNTED}.")
    if summary.overfull:
        told.append(overfull_told(summary.overfull, summary.counted))
    if summary.errors:
        of = text.counted(images, "images")
        head = f"{len(summary.errors)} of {of} could not be read and count as empty:"
        told.append(
            "\n".join(
                [head, "", *(text.one_line(f"- {i}: {m}") for i, m in summary.errors.items())]
            )
        )
    return told


def fitted_here_told(seen: int, images: int) -> str:
    """That so many of the images evaluated are of those that thresholds were fitted on."""
    return (
        f"Thresholds (or levels) were fitted on {seen:,} of the {text.counted(images, 'images')} evaluated: "
        "keep ratios meet their targets there because they were fitted there, and AP is not that of unseen "
        "images. Fit on training images."
    )


def trained_here_told(seen: int, images: int) -> str:
    """That so many of the images evaluated are of those that were trained on."""
    return (
        f"{seen:,} of the {text.counted(images, 'images')} evaluated were trained on, and rates fitted on: "
        "AP is not that of unseen images."
    )


def overfull_told(images: int, counted: int) -> str:
    """That AP cannot reach 100 on so many images (`average_precision.overfull`), and what to do."""
    have = "has" if images == 1 else "have"
    return (
        f"{text.counted(images, 'images')} {have} more objects of a class than AP counts detections: "
        f"{counted} detections an image and class. --max-detections counts more."
    )


def layer_table(summary: Summary) -> str:
    """Markdown: target and realised keep ratio of each gated layer, blocks counted from 1."""
    names = ("target", "keep", "keep_spread", "keep_valid", "keep_valid_spread")
    rows = [
        [str(row["layer"] + 1), *(_number(row[name], 3) for name in names)]
        for row in summary.layers[summary.layers["gated"]].to_dict("records")
    ]
    head = ["block", "target", "keep", "± images", "keep, valid tokens", "± images"]
    return text.table(head, rows)


def labels(summary: Summary) -> list[str]:
    """The first cells of a table's line: inference, masks, seed."""
    facts = summary.provenance
    masks = text.intervened(facts["intervention"], facts.get("layers"))
    return [facts["inference"] or "–", masks, str(facts["seed"])]


def _giga(values: pd.Series) -> float | None:
    mean = mean_and_spread(values)["mean"]
    return None if mean is None else mean / 1e9


def _number(value: float | None, digits: int) -> str:
    return "–" if value is None else f"{value:.{digits}f}"
