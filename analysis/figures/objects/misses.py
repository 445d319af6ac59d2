"""The figure of missed objects: what became of their tokens, beside a second run.

An entry's docstring is the definition that the sheet prints; frames come from `analysis.numbers.matching`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.figures.canvas.axes import legend_above, percent_axis, spread
from analysis.figures.canvas.sizes import WIDTH
from analysis.figures.output import DrawOptions, Entry, Product, RenderError, detected
from analysis.figures.pairs.two_runs import explained, two
from analysis.figures.palette import FOUND, INK, LATER, MISSED, NEVER, SOFT, USED
from analysis.numbers import agreement, matching, per_image
from analysis.sources import labels
from analysis.sources.collection import PAIR_OR_RUN
from svit.core.coverage import SIZES
from svit.core.types import Detections
from svit.runs.run import Run

FATE_NAMES = {
    "kept": "tokens never under half",
    "rescued": "under half, back later",
    "lost": "under half to the end",
}
FATE_COLOURS = {"kept": USED, "rescued": LATER, "lost": NEVER}


def misses(runs: Sequence[Run], options: DrawOptions) -> Iterator[Product]:
    """Were the tokens of missed objects pruned? An association, not a cause: compare within a size.

    Above: the mean share of an object's tokens that each block uses (each token weighs as much as the
    object covers of it), of found and missed objects by COCO size; bands are two standard errors of
    the mean. Below: missed objects / all objects, by what became of their tokens: never under half,
    under half and back in a later block, under half to the end; missed / all stands over the bars.
    With a second run, best a dense one, dark marks show how many of the same objects that one misses.
    Objects are matched as COCO does, at IoU 0.5, with detections from `--score` on; crowds are left
    out.
    """
    first, other = _with_reference(runs)
    dense = None if other is None else _same_detections(first, other)
    rule = {"score": options.score}
    frame = matching.error_frame(detected(first), first.class_names, dense, **rule)
    if frame.empty:
        raise RenderError(f"{first.path}: the ground truth holds no objects")
    figure = Figure(figsize=(WIDTH, 4.4))
    upper, lower = figure.subfigures(2, 1)
    shares, sizes = matching.share_frame(frame), _sizes(frame)
    axes = upper.subplots(1, len(sizes), sharey=True, squeeze=False)[0]
    for size, ax in zip(sizes, axes, strict=True):
        missed_lines(shares, ax, size=size)
    axes[0].set_ylabel("share of the object's tokens used")
    order = pd.Categorical(frame["size"], sizes)
    fates = matching.fate_frame(frame.assign(size=order).sort_values("size"))
    ax = lower.subplots()
    fate_bars(fates, ax, other="" if other is None else labels.folder(other))
    ax.set_xlabel(f"IoU at least 0.5, score at least {options.score:g}")
    yield Product("misses", figure, frame)


def missed_lines(frame: pd.DataFrame, ax: Axes, *, size: str) -> Axes:
    """Mean share of an object's tokens used per block, found and missed objects of a size
    (`matching.share_frame`); bands are two standard errors."""
    for found, colour in ((True, FOUND), (False, MISSED)):
        rows = frame[(frame["size"] == size) & (frame["found"] == found)]
        if not len(rows):
            continue
        error = 2 * rows["error"].fillna(0)
        label = f"{'found' if found else 'missed'} ({rows['objects'].iloc[0]})"
        ax.plot(rows["block"], rows["mean"], color=colour, label=label)
        low, high = (rows["mean"] - error).clip(0), (rows["mean"] + error).clip(upper=1)
        ax.fill_between(rows["block"], low, high, color=colour, alpha=0.18, lw=0)
    ax.axhline(0.5, color=SOFT, lw=0.6, ls=":")
    ax.set(title=size, xlabel="block", ylim=(0, 1.03))
    percent_axis(ax)
    ax.legend(loc="lower left")
    return ax


def fate_bars(frame: pd.DataFrame, ax: Axes, *, by: str = "size", other: str = "dense run") -> Axes:
    """Miss rate of objects by what became of their tokens (`matching.fate_frame`).

    Over each bar stands missed / objects. With a second run, called `other`, a dark mark shows the
    rate at which it misses the same objects.
    """
    groups = list(dict.fromkeys(frame[by]))
    fates = list(dict.fromkeys(frame["fate"]))
    width = 0.8 / max(len(fates), 1)
    for shift, fate in zip(spread(len(fates), 0.8), fates, strict=True):
        rows = frame[frame["fate"] == fate].set_index(by).reindex(groups)
        places = np.arange(len(groups)) + shift
        style = {"color": FATE_COLOURS[fate], "label": FATE_NAMES[fate]}
        ax.bar(places, rows["miss_rate"].fillna(0), width=0.92 * width, **style)
        missed = pd.to_numeric(rows["dense_missed"], errors="coerce")
        levels = missed / rows["objects"].where(rows["objects"] > 0)
        for x, level, (_, row) in zip(places, levels, rows.iterrows()):
            if pd.notna(level):
                ax.hlines(level, x - 0.43 * width, x + 0.43 * width, color=INK, lw=1.4)
            _count_over(ax, x, np.nanmax([row["miss_rate"], level, 0]), row)
    ax.set_xticks(np.arange(len(groups)), groups)
    ax.set(ylabel="missed objects", ylim=(0, 1.1))
    percent_axis(ax)
    if frame["dense_missed"].notna().any():
        ax.plot([], [], color=INK, lw=1.4, label=f"same objects, {other}")
    legend_above(ax, columns=4)
    return ax


def _count_over(ax: Axes, x: float, top: float, row: pd.Series) -> None:
    """Missed / objects over a bar and its mark; nothing where there are no objects."""
    if row["objects"]:
        text = f"{row['missed']:.0f}/{row['objects']:.0f}"
        small = {"textcoords": "offset points", "ha": "center", "fontsize": "small"}
        ax.annotate(text, (x, top), (0, 2), **small)


def _same_detections(first: Run, dense: Run) -> Iterator[Detections]:
    """Detections of the other run for the images `output.detected` yields, in that order."""
    with explained():
        agreement.check_pair(first, dense)
        agreement.check_classes(first, dense)
    ids = per_image.scored_ids(first)
    for image_id, (found,) in zip(ids, dense.samples("detections", ids=ids), strict=True):
        if found is None:
            raise RenderError(f"{dense.path} holds no detections of image {image_id!r}")
        yield found


def _with_reference(runs: Sequence[Run]) -> tuple[Run, Run | None]:
    """A run and the one to compare with: the dense one of two, else the second."""
    if len(runs) == 1:
        return runs[0], None
    first, second = two(runs)
    if first.provenance.get("method") == "dense" != second.provenance.get("method"):
        return second, first
    return first, second


def _sizes(errors: pd.DataFrame) -> list[str]:
    present = set(errors["size"])
    return [size for size in SIZES if size in present]


FIGURES: dict[str, Entry] = {
    "misses": Entry("missed objects and their tokens; a second, dense run", misses, PAIR_OR_RUN),
}
