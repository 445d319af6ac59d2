"""Were the tokens of missed objects pruned? An association, not a cause: compare within a size.

Above: the mean share of an object's tokens that each block uses (each token weighs as much as the
object covers of it), of found and missed objects by COCO size; bands are two standard errors of
the mean. Below: missed objects / all objects, by what became of their tokens: never under half,
under half and back in a later block, under half to the end; missed / all stands over the bars.
With a second run, best a dense one, dark marks show how many of the same objects that one misses.
Objects are matched as COCO does, at IoU 0.5, with detections from `--score` on; crowds are left
out.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import altair as alt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.figures.canvas import screen as shared
from analysis.figures.canvas.axes import heading, legend_above, over, percent_axis, spread
from analysis.figures.canvas.sizes import WIDTH
from analysis.figures.output import DrawOptions, Entry, Product, RenderError, detected
from analysis.figures.pairs.two_runs import explained, two
from analysis.figures.palette import FOUND, INK, LATER, MISSED, NEVER, SOFT, USED
from analysis.numbers import matching, per_image
from analysis.sources import labels
from analysis.sources.collection import PAIR_OR_RUN
from svit.core.coverage import SIZES
from svit.core.types import Detections
from svit.runs import pairing
from svit.runs.run import Run

NAMES = {
    "kept": "tokens never under half",
    "rescued": "under half, back later",
    "lost": "under half to the end",
}
COUNT = 0.09  # height of the words over a bar, as a share of the axis
SHORT = {"kept": "half kept", "rescued": "back later", "lost": "lost for good"}
COLOURS = {"kept": USED, "rescued": LATER, "lost": NEVER}


def frame(first: Run, other: Run | None = None, options: DrawOptions | None = None) -> pd.DataFrame:
    """A row an object of the first run, and whether the other finds it (`matching.error_frame`).

    Raises:
        RenderError: a run lacks what is matched, or there are no objects.
    """
    dense = None if other is None else _same_detections(first, other)
    score = (options or DrawOptions()).score
    table = matching.error_frame(detected(first), first.class_names, dense, score=score)
    if table.empty:
        raise RenderError(f"{first.path}: the ground truth holds no objects")
    return table


def draw(runs: Sequence[Run], options: DrawOptions) -> Iterator[Product]:
    """Shares of found and missed objects over miss rates by fate."""
    first, other = _with_reference(runs)
    table = frame(first, other, options)
    figure = Figure(figsize=(WIDTH, 4.4))
    upper, lower = figure.subfigures(2, 1)
    shares, sizes = matching.share_frame(table), _sizes(table)
    axes = upper.subplots(1, len(sizes), sharey=True, squeeze=False)[0]
    for size, ax in zip(sizes, axes, strict=True):
        print_shares(shares, ax, size=size)
    axes[0].set_ylabel("share of the object's tokens used")
    order = pd.Categorical(table["size"], sizes)
    fates = matching.fate_frame(table.assign(size=order).sort_values("size"))
    ax = lower.subplots()
    print(fates, ax, other="" if other is None else labels.folder(other))
    ax.set_xlabel(f"IoU at least 0.5, score at least {options.score:g}")
    if other is None:
        over(first, figure)
    else:
        heading(figure, f"{labels.titled(first)}; beside it {labels.folder(other)}")
    yield Product("misses", figure, table)


def print_shares(frame: pd.DataFrame, ax: Axes, *, size: str) -> Axes:
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
    ax.legend(loc="best")  # where the lines are not
    return ax


def print(frame: pd.DataFrame, ax: Axes, *, by: str = "size", other: str = "dense run") -> Axes:
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
        style = {"color": COLOURS[fate], "label": NAMES[fate]}
        ax.bar(places, rows["miss_rate"].fillna(0), width=0.92 * width, **style)
        missed = pd.to_numeric(rows["dense_missed"], errors="coerce")
        levels = missed / rows["objects"].where(rows["objects"] > 0)
        for x, level, (_, row) in zip(places, levels, rows.iterrows()):
            if pd.notna(level):
                ax.hlines(level, x - 0.43 * width, x + 0.43 * width, color=INK, lw=1.4)
            bar = np.nan_to_num(row["miss_rate"])
            _count_over(ax, x, level if bar < level < bar + COUNT else bar, row)
    ax.set_xticks(np.arange(len(groups)), groups)
    ax.set(ylabel="missed objects", ylim=(0, 1.1))
    percent_axis(ax)
    if frame["dense_missed"].notna().any():
        ax.plot([], [], color=INK, lw=1.4, label=f"same objects, {other}")
    legend_above(ax, columns=4)
    return ax


def _count_over(ax: Axes, x: float, top: float, row: pd.Series) -> None:
    """Missed / objects over a bar, or over a mark in its place; nothing where there are no objects."""
    if row["objects"]:
        text = f"{row['missed']:.0f}/{row['objects']:.0f}"
        small = {"textcoords": "offset points", "ha": "center", "fontsize": "small"}
        ax.annotate(text, (x, top), (0, 2), **small)


def _same_detections(first: Run, dense: Run) -> Iterator[Detections]:
    """Detections of the other run for the images `output.detected` yields, in that order."""
    with explained():
        pairing.check_pair(first, dense)
        pairing.check_classes(first, dense)
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


def screen(fates: pd.DataFrame, other: str) -> alt.LayerChart:
    """Miss rate by size and by what became of the objects' tokens (`per_image.reference_rates`); ticks are
    those of the run called `other` on the same objects."""
    frame = fates.assign(what=fates["fate"].map(SHORT))
    names = list(SHORT.values())
    scale = alt.Scale(domain=names, range=[COLOURS[name] for name in SHORT])
    pick = shared.picked("size", "fate")
    x = alt.X("size:N", title=None, sort=["small", "medium", "large"], axis=alt.Axis(labelAngle=0))
    base = alt.Chart(frame).encode(x=x, xOffset=alt.XOffset("what:N", sort=names))
    tips = ["size", alt.Tooltip("what", title="tokens"), "objects", "missed"]
    tips += [alt.Tooltip("dense_missed", title=f"missed by {other}"), alt.Tooltip("only_here")]
    bars = (
        base.mark_bar(cursor="pointer")
        .encode(
            y=alt.Y(
                "miss_rate:Q",
                title="missed objects",
                axis=shared.SHARES,
                scale=alt.Scale(domain=[0, 1]),
            ),
            color=alt.Color("what:N", scale=scale, legend=shared.legend_above(names, 14)),
            opacity=alt.condition(pick, alt.value(1), alt.value(shared.FADED)),
            tooltip=tips if other else tips[:4],
        )
        .add_params(pick)
    )
    counts = base.mark_text(dy=-7, fontSize=11, color=SOFT).encode(
        y="miss_rate:Q", text=alt.Text("label:N")
    )
    labelled = (bars + counts).transform_calculate(label="datum.missed + '/' + datum.objects")
    ticks = base.transform_filter("isValid(datum.dense_rate)").mark_tick(
        thickness=3, color=SOFT, width=alt.RelativeBandSize(0.95)
    )
    return (labelled + ticks.encode(y="dense_rate:Q")).properties(
        height=300,
        padding=shared.PADDING,
        description="Share of objects missed, by size and by what became of their tokens",
    )


def screen_shares(shares: pd.DataFrame) -> alt.LayerChart:
    """Mean share of an object's tokens used per block, found and missed (`per_image.share_bands`)."""
    outcomes = ["found", "missed"]
    scale = alt.Scale(domain=outcomes, range=[FOUND, MISSED])
    base = alt.Chart(shares).encode(
        x=shared.blocks(),
        color=alt.Color(
            "outcome:N",
            scale=scale,
            legend=shared.legend_above(outcomes, symbolType="stroke", symbolStrokeWidth=3),
        ),
    )
    y = alt.Y(
        "mean:Q",
        title="tokens of the object used",
        axis=shared.SHARES,
        scale=alt.Scale(domain=[0, 1]),
    )
    line = base.mark_line(point=True).encode(
        y=y, tooltip=["size", "outcome", "block", "objects", alt.Tooltip("mean", format=".1%")]
    )
    band = base.mark_area(opacity=0.15).encode(y="low:Q", y2="high:Q")
    about = "Share of the tokens of found and of missed objects that each block uses"
    return (band + line).properties(height=300, padding=shared.PADDING, description=about)


ENTRY = Entry("missed objects and their tokens; a second, dense run", draw, PAIR_OR_RUN, __doc__)
