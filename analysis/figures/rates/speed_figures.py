"""Figures of measured speed: what pruning gains by number of tokens, and where the time goes.

Numbers come from `analysis.sources.benchmarks`; only variants of one benchmark, timed in turn, are
ever divided.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import NullLocator

from analysis.figures import palette
from analysis.figures.canvas.sizes import WIDTH
from analysis.figures.output import DrawOptions, Entry, Product, RenderError
from analysis.figures.rates.averages import MARKERS
from analysis.sources.benchmarks import Speed, conditions, speedups
from analysis.sources.collection import SPEEDS

STAGES = {  # in the order of the network: the adapter warm, blocks and choosing blue, heads grey
    "embedding": "#b5c7d9",
    "spatial prior": "#d99a00",
    "injectors": "#ffb000",
    "blocks": palette.BLOCKS,
    "gates": "#00c8e0",
    "selection": "#3f7fd0",
    "gather and scatter": "#54d6ff",
    "extractors": "#fe6100",
    "fusion": "#ff8f5a",
    "fpn": "#b7bdc7",
    "rpn": "#98a1ae",
    "roi heads": "#737e8e",
    "post-processing": "#505b6b",
    "other": "#dfe3e9",
}
ROW, AROUND = 0.27, 0.52  # inches: a bar, and what stands above and below a panel's bars


def speed(speeds: Sequence[Speed], options: DrawOptions) -> Iterator[Product]:
    """Speed-up by pruning against the number of tokens, from `svit benchmark`.

    Speed-up: seconds of the same model with all tokens kept / seconds with pruning, the same kernels,
    round by round in one process; median with quartiles over rounds. Dashes: the same ratio of
    multiply-accumulates, which arithmetic allows. Where the line crosses 1, pruning begins to pay. A
    panel for each part, machine and setting; lines of different benchmarks are never joined.
    """
    frame = speedups(speeds)
    if not len(frame):
        raise RenderError(
            "no benchmark timed a model both with all tokens and pruned: "
            "svit benchmark --keep dense,paper --sizes 224x224,640x640,800x1333 --out DIR"
        )
    groups = list(frame.groupby("condition", sort=False))
    columns = min(len(groups), 2)
    rows = math.ceil(len(groups) / columns)
    figure = Figure(figsize=(WIDTH, 3.0 * rows))
    axes = list(figure.subplots(rows, columns, squeeze=False).flat)
    for ax, (condition, part) in zip(axes, groups, strict=False):
        speedup_lines(part, ax)
        ax.set_title(textwrap.fill(condition, 120 // columns))
    for empty in axes[len(groups) :]:
        empty.set_axis_off()
    yield Product("speed", figure, frame)


def speedup_lines(frame: pd.DataFrame, ax: Axes) -> Axes:
    """Lines of `speedups`, a benchmark and variant each, over their MAC limits."""
    several, ink = frame["benchmark"].nunique() > 1, mpl.rcParams["text.color"]
    lines = frame.groupby(["benchmark", "variant"], sort=False)
    for index, ((benchmark, variant), rows) in enumerate(lines):
        rows = rows.sort_values("tokens")
        colour = palette.LINES[index % len(palette.LINES)]
        ends = rows["speedup"] - rows["low"], rows["high"] - rows["speedup"]
        ax.errorbar(
            rows["tokens"],
            rows["speedup"],
            ends,
            color=colour,
            marker=MARKERS[index % len(MARKERS)],
            markersize=3.5,
            elinewidth=0.8,
            label=f"{benchmark}: {variant}" if several else variant,
        )
        ax.plot(rows["tokens"], rows["limit"], "--_", color=colour, lw=0.8)
    ax.plot([], [], "--_", color=ink, lw=0.8, label="limit by MACs")
    ax.axhline(1, color=ink, lw=0.6)
    ax.set_xscale("log")
    ticks = sorted(frame["tokens"].unique())
    apart = [tick for at, tick in enumerate(ticks) if not at or tick > 1.15 * ticks[at - 1]]
    ax.set_xticks(apart, [str(tick) for tick in apart])
    ax.xaxis.set_minor_locator(NullLocator())
    ax.set(xlabel="tokens of the image", ylabel="times as fast as with all tokens")
    ax.grid(axis="y")
    ax.legend(loc="upper left", bbox_to_anchor=(0, -0.2), ncols=1 + (not several))
    return ax


def stages(speeds: Sequence[Speed], options: DrawOptions) -> Iterator[Product]:
    """Where the time of a call goes, stage by stage, and how much of it the machine itself demands.

    Each bar is one variant of a `svit benchmark`, its median time divided as the profile of one call
    was. The full colour is the least time of the stage's operators: the longer of their arithmetic at
    the rate of a 2048 x 2048 product and their bytes at the rate of a 256 MB copy, both measured just
    before; the pale rest is what better code, or none of the overhead, could save. A panel for each
    benchmark, part and size.
    """
    timed = [one for one in speeds if one.stages and not one.recorded]
    if not timed:
        raise RenderError("no benchmark holds stages: svit benchmark --out DIR makes one")
    groups = panels(timed)
    heights = [ROW * len(group) + AROUND for group in groups.values()]
    figure = Figure(figsize=(WIDTH, sum(heights) + 0.45))
    body, foot = figure.subfigures(2, 1, height_ratios=[sum(heights), 0.45])
    axes = body.subplots(len(groups), 1, squeeze=False, height_ratios=heights)[:, 0]
    for ax, (title, group) in zip(axes, groups.items(), strict=True):
        stage_bars(group, ax)
        ax.set_title(title)
    foot.legend(handles=_keys(timed), loc="center", ncols=7)
    yield Product("stages", figure, stage_frame(timed))


def panels(timed: Sequence[Speed]) -> dict[str, list[Speed]]:
    """What may stand in one panel of stages: name of the benchmark and condition -> its variants."""
    groups = conditions(timed).items()
    return {f"{Path(path).name}: {condition}": group for (path, condition), group in groups}


def _keys(timed: Sequence[Speed]) -> list[Patch]:
    known = {part.name for one in timed for part in one.stages}
    return [Patch(color=colour, label=name) for name, colour in STAGES.items() if name in known]


def stage_bars(group: Sequence[Speed], ax: Axes, keys: bool = False) -> Axes:
    """A stacked bar of milliseconds for each variant, the first one on top.

    Args:
        keys: a legend below.
    """
    for row, one in enumerate(group):
        order = sorted(one.stages, key=lambda part: list(STAGES).index(part.name))
        left = 0.0
        for part in order:
            whole = 1000 * part.share * float(np.median(one.seconds))
            least = whole * min(part.of_ceiling, 1.0)
            place = {"left": left, "height": 0.72, "color": STAGES[part.name]}
            ax.barh(row, whole, alpha=0.45, **place, linewidth=0)
            ax.barh(row, least, **place, linewidth=0)
            left += whole
    ax.set_yticks(range(len(group)), [one.variant for one in group])
    ax.set_ylim(len(group) - 0.5, -0.5)
    ax.set_xlabel("milliseconds a call")
    ax.grid(axis="x")
    if keys:
        place = {"loc": "upper left", "bbox_to_anchor": (0, -0.35)}
        ax.legend(handles=_keys(group), ncols=4, **place)
    return ax


def stage_frame(speeds: Sequence[Speed]) -> pd.DataFrame:
    """A row a variant and stage: milliseconds, share of the call, share of the machine's ceiling."""
    return pd.DataFrame(
        {
            "benchmark": one.path.name,
            "part": one.part,
            "size": one.size,
            "variant": one.variant,
            "stage": part.name,
            "milliseconds": 1000 * part.share * float(np.median(one.seconds)),
            "share": part.share,
            "of_ceiling": part.of_ceiling,
        }
        for one in speeds
        for part in one.stages
    )


FIGURES: dict[str, Entry] = {
    "speed": Entry("speed-up by pruning against the number of tokens", speed, SPEEDS),
    "stages": Entry("where the time goes, beside what the machine demands", stages, SPEEDS),
}
