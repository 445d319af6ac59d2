"""Where the time of a call goes, stage by stage, and how much of it the machine itself demands.

Each bar is one variant of a `svit benchmark`, its median time divided as the profile of one call
was. The full colour is the least time of the stage's operators: the longer of their arithmetic at
the rate of a 2048 x 2048 product and their bytes at the rate of a 256 MB copy, both measured just
before; the pale rest is what better code, or none of the overhead, could save. A sheet for each
benchmark, a panel for each part, size and batch.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from analysis.figures import palette
from analysis.figures.canvas.placing import short_names
from analysis.figures.canvas.sizes import WIDTH
from analysis.figures.output import DrawOptions, Entry, Product, RenderError
from analysis.sources import labels
from analysis.sources.benchmarks import Speed, conditions, names
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
LETTERS = 84  # of a title's line
ROW, AROUND, FOOT = 0.2, 0.55, 0.42  # inches: a bar; what stands around a panel's; the legend


def frame(speeds: Sequence[Speed]) -> pd.DataFrame:
    """A row a variant and stage: milliseconds, share of the call, share of the machine's ceiling."""
    called = names(speeds)
    return pd.DataFrame(
        {
            "benchmark": called[one.path],
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


def draw(speeds: Sequence[Speed], options: DrawOptions) -> Iterator[Product]:
    """A sheet for each benchmark that holds a profile; a single one is called as the figure."""
    timed = profiled(speeds)
    if not timed:
        raise RenderError("no benchmark holds stages: svit benchmark --out DIR makes one")
    paths = list(dict.fromkeys(one.path for one in timed))
    for path in paths:
        own = [one for one in timed if one.path == path]
        repeated = [other for other in paths if other.name == path.name].index(path)
        name = labels.file_name(path.name) + (f"-{repeated + 1}" if repeated else "")
        yield Product("stages" if len(paths) == 1 else f"stages-{name}", compose(own), frame(own))


def profiled(speeds: Sequence[Speed]) -> list[Speed]:
    """Those whose benchmark holds a profile; runs with the recorder are left out."""
    return [one for one in speeds if one.stages and not one.recorded]


def panels(timed: Sequence[Speed]) -> dict[str, list[Speed]]:
    """What may stand in one panel: name of the benchmark and condition -> its variants."""
    groups, called = conditions(timed).items(), names(timed)
    return {f"{called[Path(path)]}: {condition}": group for (path, condition), group in groups}


def compose(timed: Sequence[Speed]) -> Figure:
    """The panels of one benchmark over their legend."""
    groups = panels(timed)
    heights = [ROW * len(group) + AROUND for group in groups.values()]
    figure = Figure(figsize=(WIDTH, sum(heights) + FOOT))
    body, foot = figure.subfigures(2, 1, height_ratios=[sum(heights), FOOT])
    axes = body.subplots(len(groups), 1, squeeze=False, height_ratios=heights)[:, 0]
    titles = short_names(list(groups), 2 * LETTERS)
    for ax, (title, group) in zip(axes, groups.items(), strict=True):
        print(group, ax)
        ax.set_title(textwrap.fill(titles[title], LETTERS))
    foot.legend(handles=_keys(timed), loc="center", ncols=7)
    return figure


def print(group: Sequence[Speed], ax: Axes, *, keys: bool = False) -> Axes:
    """A stacked bar of milliseconds for each variant on paper, the first one on top.

    Args:
        group: of one condition.
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
    short = short_names([one.variant for one in group], 40)
    ax.set_yticks(range(len(group)), [short[one.variant] for one in group])
    ax.set_ylim(len(group) - 0.5, -0.5)
    ax.set_xlabel("milliseconds a call")
    ax.grid(axis="x")
    if keys:
        place = {"loc": "upper left", "bbox_to_anchor": (0, -0.35)}
        ax.legend(handles=_keys(group), ncols=4, **place)
    return ax


def _keys(timed: Sequence[Speed]) -> list[Patch]:
    known = {part.name for one in timed for part in one.stages}
    return [Patch(color=colour, label=name) for name, colour in STAGES.items() if name in known]


ENTRY = Entry("where the time goes, beside what the machine demands", draw, SPEEDS, __doc__)
