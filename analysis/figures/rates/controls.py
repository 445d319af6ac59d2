"""The figure of what masks are worth: a row a model, its own masks beside others of the same number.

Numbers come from `analysis.sources.control_gain`; data in, drawn on the given Axes.
"""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.figures import palette
from analysis.figures.canvas.sizes import WIDTH
from analysis.figures.output import DrawOptions, Entry, Product, RenderError
from analysis.sources import control_gain, evaluations
from analysis.sources.collection import RESULTS, Collection

ROW, AROUND, FOOT = 0.2, 0.45, 0.3  # inches: a model; axis and title; the legend
LOOKS = {  # a control -> how its point is drawn
    "on": {"marker": "|", "color": palette.CONTROLS["on"]},
    "oracle": {"marker": "D", "color": palette.CONTROLS["oracle"], "markerfacecolor": "white"},
    "centre": {"marker": ">", "color": palette.CONTROLS["centre"], "markerfacecolor": "white"},
    "centre-square": {
        "marker": "<",
        "color": palette.CONTROLS["centre-square"],
        "markerfacecolor": "white",
    },
    "shuffle": {"marker": "v", "color": palette.CONTROLS["shuffle"], "markerfacecolor": "white"},
    "random": {"marker": "^", "color": palette.CONTROLS["random"], "markerfacecolor": "white"},
    "invert": {"marker": "s", "color": palette.CONTROLS["invert"], "markerfacecolor": "white"},
    "off": {"marker": "x", "color": palette.CONTROLS["off"]},
}


def controls(found: Collection, options: DrawOptions) -> Iterator[Product]:
    """AP of every model with its own masks, and with masks that know less: what the choice is worth.

    A row is a model, best first; several training seeds are beside each other in it. The dot is its AP
    with its own masks, with a 95 % bootstrap interval over images. Objects (masks from ground truth, what
    they cover first), the tokens around the middle of the picture, shuffled (its own masks at other places)
    and random masks keep the same number of tokens in every layer and image; "no token" skips the pruned
    blocks. Where random masks reach the dot,
    the choice of tokens is worth nothing, however good the AP. Dotted: the dense model.
    """
    evaluations.same_data(found.results)
    table = control_gain.with_controls(control_gain.frame(found.results))
    if not len(table):
        raise RenderError(
            "no model was evaluated with its own masks and others: "
            "svit evaluate --weights FILE --intervene learned,shuffle,random,centre,off --out DIR"
        )
    names = list(dict.fromkeys(table["name"]))
    figure = Figure(figsize=(WIDTH, ROW * len(names) + AROUND + FOOT))
    body, foot = figure.subfigures(2, 1, height_ratios=[ROW * len(names) + AROUND, FOOT])
    axes = body.subplots(1, 2, sharey=True)
    for ax, kind in zip(axes, control_gain.KINDS, strict=True):
        control_points(table, ax, kind)
    handles, labels = axes[0].get_legend_handles_labels()
    known = dict(zip(labels, handles, strict=True))
    foot.legend(known.values(), known.keys(), loc="center", ncols=len(known))
    yield Product("controls", figure, table.drop(columns=["weights", "data_sha256"]))


def control_points(found: pd.DataFrame, ax: Axes, kind: str) -> Axes:
    """The points of `worth.frame`, a row of the axis for each name, in its order.

    Args:
        kind: "box" or "mask".
    """
    names = list(dict.fromkeys(found["name"]))
    for place, name in enumerate(names):
        rows = found[found["name"] == name].sort_values("seed")
        for turn, (_, row) in enumerate(rows.iterrows()):
            _row(row, ax, kind, place + 0.3 * (turn - (len(rows) - 1) / 2))
    for level in found.loc[found["model"] == "dense", f"{kind}_ap"].head(1):
        ax.axvline(level, color=palette.DENSE, lw=0.6, ls=":", zorder=0)
    ax.set_yticks(range(len(names)), names)
    ax.set(ylim=(len(names) - 0.4, -0.6), xlabel=f"{kind} AP")
    ax.grid(axis="x")
    return ax


def _row(row: pd.Series, ax: Axes, kind: str, y: float) -> None:
    own = row[f"{kind}_ap"]
    points = {name: row[f"{kind}_{name}"] for name in LOOKS if pd.notna(row[f"{kind}_{name}"])}
    ends = [own, *points.values()]
    ax.plot([min(ends), max(ends)], [y, y], color=palette.RULE, lw=2, zorder=1)
    for name, value in points.items():
        words = control_gain.CONTROLS[name]
        ax.plot([value], [y], ls="", markersize=4, mew=0.9, label=words, **LOOKS[name])
    bar = {"fmt": "o", "color": palette.OWN, "markersize": 4, "elinewidth": 0.8, "zorder": 4}
    ax.errorbar([own], [y], xerr=[row[f"{kind}_half"]], label="its own masks", **bar)


FIGURES: dict[str, Entry] = {
    "controls": Entry("AP of every model with its masks and with controls", controls, RESULTS)
}
