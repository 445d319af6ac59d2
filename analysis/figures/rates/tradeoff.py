"""AP against base keep ratio and compute, from evaluations (paper Fig. 7).

Base keep ratio: target share of kept tokens in the first stage that prunes (the paper calls it
pruning rate; the later stages are its square and cube). Compute: backbone MACs by the ledger, mean
over images. Colours are families of methods. A line joins the means of one kind of model over its
training seeds, of trainings from the same weights and of the same length ("from" and the start of their
hash, where there are several); every result is a light dot with its 95 % percentile interval over images,
as stated in its summary. Dense models are horizontal lines, their intervals bands. The last panel has every
kind that was measured at the base keep ratio most of them share. Kinds far below all others do not
stretch the axis: a mark at its foot tells their AP. Open marks are what the paper prints, for results on
COCO val2017 only. All results are of the same images and of models with their own masks;
`controls` has the others, `tradeoff-speed` sets AP against measured speed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis.figures.canvas.axes import Named, names_beside
from analysis.figures.canvas.sizes import WIDTH
from analysis.figures.output import DrawOptions, Entry, Product, RenderError
from analysis.figures.palette import DENSE, SOFT, of_family
from analysis.figures.rates.points import Points
from analysis.figures.rates.tradeoff_screen import screen
from analysis.sources import evaluations, rates
from analysis.sources.collection import RESULTS, Collection
from analysis.sources.evaluations import Evaluation

HEIGHT, FOOT = 2.7, 0.22  # inches: the panels; what the marks mean
COSTS = {  # column -> x axis
    "base_ratio": "base keep ratio",
    "keep_ratio": "kept tokens, mean over gated blocks",
    "gmacs_backbone": "GMACs of the backbone",
    "gmacs": "GMACs of the network",
}
PANEL = 1.9  # inches: width of a panel
FEW = 4  # names that have room among the points
ROW, AROUND = 0.135, 0.55  # inches: a kind in the last panel; its axis
HOLLOW = {"ls": "", "marker": "o", "markersize": 5, "markerfacecolor": "white", "zorder": 5}


def frame(results: Sequence[Evaluation]) -> pd.DataFrame:
    """A row a result of models with their own masks (`rates.rate_frame`).

    Raises:
        RenderError: there is none.
        EvaluationError: they are of different images.
    """
    own = evaluations.own_masks(results)
    if not own:
        raise RenderError(
            "no result is of a model with its own masks; evaluate without --intervene"
        )
    evaluations.same_data(own)
    return rates.rate_frame(own)


def draw(found: Collection, options: DrawOptions) -> Iterator[Product]:
    """Box and mask AP, as far as the data have both, each over both costs and at the shared ratio."""
    table = frame(found.results)
    for kind in measured(table):
        yield Product(f"tradeoff-{kind}", compose(table, kind), table)


def measured(table: pd.DataFrame) -> list[str]:
    """The kinds of AP, of box and mask, that some row of `evaluations.frame` has."""
    return [kind for kind in ("box", "mask") if table[f"{kind}_ap"].notna().any()]


def compose(
    table: pd.DataFrame, kind: str, costs: Sequence[str] = ("base_ratio", "gmacs_backbone")
) -> Figure:
    """The panels of one kind of AP over some of `COSTS`: those that there is something for."""
    first = Points(table, kind)
    points = {cost: Points(table, kind, cost) for cost in costs if table[cost].notna().any()}
    shown = [cost for cost in points if cost != "base_ratio" or first.curves] or list(points)
    ranked = first.shared is not None
    rows = len(first.ranked) if ranked else first.means["series"].nunique()
    height = max(HEIGHT, ROW * rows + AROUND)
    figure = Figure(figsize=(WIDTH, height + FOOT))
    body, foot = figure.subfigures(2, 1, height_ratios=[height, FOOT])
    axes = body.subplots(1, len(shown) + ranked, squeeze=False)[0]
    for ax, cost in zip(axes, shown, strict=False):
        named = _named(points[cost], cost, shown, ranked)
        print(points[cost], ax, named=named, light=ranked, size=(PANEL, height - AROUND))
        ax.set_xlabel(COSTS[cost])
        ax.set_ylabel("" if ax is not axes[0] else f"{kind} AP")
    if ranked:
        print_ranked(first, axes[-1])
    foot.legend(handles=_marks(first), loc="center", ncols=5)
    return figure


def _named(points: Points, cost: str, shown: Sequence[str], ranked: bool) -> list[str]:
    """Series named at the right of a panel: curves at the first that has them, and where no panel names
    the kinds of one ratio, all at the last."""
    if cost == shown[0] and points.curves and (ranked or len(shown) > 1):
        return points.curves
    alone = not ranked and cost == shown[-1]
    return [one for one in points.means["series"].unique() if alone]


def print(
    points: Points,
    ax: Axes,
    *,
    named: Sequence[str] = (),
    light: bool = False,
    size: tuple[float, float] = (PANEL, HEIGHT - AROUND),
) -> Axes:
    """AP over one cost on paper.

    Args:
        named: series that are named in their colour: a few curves where there is room, else right of the
            points.
        light: kinds of one ratio are small, without intervals, since `print_ranked` stands beside.
        size: width and height of the Axes, about, in inches.
    """
    _level(points, ax)
    for series in points.means["series"].unique():
        _series(points, series, ax, full=not light or series in points.curves)
    for row in points.printed.itertuples():
        ax.plot([row.cost], [row.paper], color=of_family(row.family), **HOLLOW)
    ax.set_ylim(points.reach)
    ax.grid(True)
    ax.margins(x=0.06)
    if points.cost == "base_ratio":
        ax.set_xticks(sorted(points.means["base_ratio"].unique()))
    if len(named) > FEW or not set(named) <= set(points.curves):
        names_beside(_names(points, named), ax, *size)
    elif len(named):
        look = {"loc": "lower right", "labelcolor": "linecolor", "handlelength": 2.6}
        ax.legend(handles=_keys(points, named), **look)  # fewer tokens are no better
    return ax


def _series(points: Points, series: str, ax: Axes, *, full: bool) -> None:
    """The means of a kind; where `full`, with their line and the intervals of its results."""
    rows = points.means[points.means["series"] == series]
    ink, drawn = of_family(rows["family"].iloc[0]), rows[points.within(rows)]
    if full:
        style = {"dashes": points.dashes[series], "lw": 1.3, "zorder": 3}
        ax.plot(drawn["cost"], drawn["ap"], color=ink, **style)
        _results(points, series, ink, ax)
    look = {"markersize": 4 if full else 3, "mew": 0, "ls": "", "zorder": 4 if full else 2}
    ax.plot(drawn["cost"], drawn["ap"], marker="o", color=ink, alpha=1 if full else 0.7, **look)
    for cost in rows.loc[~points.within(rows), "cost"]:
        ax.plot([cost], [points.reach[0]], marker="v", color=ink, **look, clip_on=False)


def _results(points: Points, series: str, ink: str, ax: Axes) -> None:
    """Intervals of the results of a kind, beside each other, and a dot where there are several."""
    own = points.pruned[points.pruned["series"] == series]
    own = own[points.within(own)]
    span = np.ptp(points.rows["cost"]) or 1.0
    places, thin = own["cost"] + 0.012 * span * own["place"], {"lw": 0.7, "alpha": 0.55}
    ax.vlines(places, own["low"], own["high"], color=ink, **thin)
    _dots(places[own["several"]], own.loc[own["several"], "ap"], ink, ax)
    if "slow" in own:  # a speed has quartiles
        ax.hlines(own["ap"], own["slow"], own["fast"], color=ink, **thin)


def _dots(x: pd.Series, y: pd.Series, ink: str, ax: Axes) -> None:
    """Light dots of seeds."""
    style = {"marker": "o", "markersize": 2.6, "mew": 0, "alpha": 0.45, "ls": "", "zorder": 3}
    ax.plot(x, y, color=ink, **style)


def _level(points: Points, ax: Axes) -> None:
    """Dense models: a line at the mean of a kind, its intervals as a band, its cost as a dot."""
    for name, rows in points.dense:
        for row in rows.itertuples():
            ax.axhspan(row.low, row.high, color=DENSE, alpha=0.05, lw=0, zorder=0)
        level = rows["ap"].mean()
        ax.axhline(level, color=DENSE, lw=0.8, zorder=1)
        if points.cost != "base_ratio":
            ax.plot([rows["cost"].mean()], [level], marker="o", color=DENSE, markersize=4)
            if "slow" in rows:
                ax.hlines(rows["ap"], rows["slow"], rows["fast"], color=DENSE, lw=0.7, alpha=0.55)
        place = {"xycoords": ("axes fraction", "data"), "textcoords": "offset points"}
        ax.annotate(f"{name} {level:.1f}", (0.02, level), (0, 2), **place, fontsize="small")


def _names(points: Points, named: Sequence[str]) -> list[Named]:
    """Series by their last points on the axis."""
    last = points.ends(named)
    return [Named(row.cost, row.ap, row.name, of_family(row.family)) for row in last.itertuples()]


def _keys(points: Points, named: Sequence[str]) -> list[Line2D]:
    """A line of each series as it is drawn, the one that ends highest first."""
    known = points.means.drop_duplicates("series", keep="last").sort_values("ap", ascending=False)
    return [
        Line2D(
            [],
            [],
            color=of_family(row.family),
            dashes=points.dashes[row.series],
            lw=1.3,
            label=row.name,
        )
        for row in known[known["series"].isin(named)].itertuples()
    ]


def print_ranked(points: Points, ax: Axes) -> Axes:
    """Every kind at the shared ratio on paper, a row each, with the intervals of its results."""
    ranked, (least, most) = points.ranked, points.reach
    for _, rows in points.dense:
        for row in rows.itertuples():
            ax.axvspan(row.low, row.high, color=DENSE, alpha=0.05, lw=0, zorder=0)
        ax.axvline(rows["ap"].mean(), color=DENSE, lw=0.8, zorder=1)
    for row in ranked.itertuples():
        ink = of_family(row.family)
        own = points.pruned
        own = own[(own["series"] == row.series) & (own["base_ratio"] == points.shared)]
        if row.ap < least:
            ax.plot([least], [row.place], "<", color=ink, markersize=4, mew=0, clip_on=False)
            place = {"textcoords": "offset points", "va": "center", "color": ink}
            ax.annotate(f"{row.ap:.1f}", (least, row.place), (5, 0), fontsize="small", **place)
            continue
        places = row.place + 0.3 * own["place"]
        ax.hlines(places, own["low"], own["high"], color=ink, lw=0.8, alpha=0.6)
        _dots(own.loc[own["several"], "ap"], places[own["several"]], ink, ax)
        ax.plot([row.ap], [row.place], "o", color=ink, markersize=4, mew=0, zorder=4)
    for row in points.printed_at_shared.itertuples():
        ax.plot([row.paper], [row.place], color=of_family(row.family), **HOLLOW)
    ax.set_yticks(ranked["place"], ranked["name"])
    for tick, family in zip(ax.get_yticklabels(), ranked["family"], strict=True):
        tick.set_color(of_family(family))
    ax.set(xlabel=f"{points.kind} AP at base keep ratio {points.shared:g}")
    ax.set(xlim=(least, most), ylim=(ranked["place"].max() + 0.7, -0.7))
    ax.grid(axis="x")
    return ax


def _marks(points: Points) -> list[Line2D]:
    """What the marks mean, for the legend."""
    grey = {"color": SOFT, "ls": "", "mew": 0}
    marks = [Line2D([], [], marker="o", markersize=4, **grey, label="mean over training seeds")]
    marks += [Line2D([], [], color=SOFT, lw=0.8, label="95 % interval over images")]
    if points.pruned["several"].any():
        marks += [Line2D([], [], marker="o", markersize=2.6, **grey, alpha=0.5, label="one seed")]
    if not points.within(points.pruned).all():
        marks += [Line2D([], [], marker="v", markersize=4, **grey, label="below the axis")]
    if len(points.printed):
        marks += [Line2D([], [], color=SOFT, **HOLLOW, label="printed in the paper")]
    return marks


ENTRY = Entry(
    "AP against keep ratio and compute",
    draw,
    RESULTS,
    __doc__,
    screen=lambda found: screen(Points(frame(found.results), "box"), COSTS["base_ratio"]),
)
