"""The figure `tradeoff` on screen: its marks as charts with tooltips."""

from __future__ import annotations

from collections.abc import Sequence

import altair as alt
import pandas as pd

from analysis.figures.canvas import screen as shared
from analysis.figures.canvas.placing import apart
from analysis.figures.palette import SOFT, of_family
from analysis.figures.rates.points import Points

PIXELS = 420  # height
ROW = 14  # pixels of a kind at least: its name in one line
LETTERS = alt.ExprRef(f"{shared.ROOM} < {shared.NARROW} ? 9 : 12")  # size of names beside points
SHARES = ("base_ratio", "keep_ratio")  # costs that are read in percent
RING = {"filled": False, "size": 90, "strokeWidth": 2, "color": SOFT}  # printed in the paper


def screen(points: Points, title: str) -> alt.LayerChart:
    """AP over one cost; curves are named beside their last point, everything by a tooltip.

    Args:
        title: of the x axis.
    """
    named = points.curves if points.shared is not None else points.means["series"].unique()
    full = points.pruned["series"].isin(named)
    inside, below = points.within(points.pruned), points.pruned[~points.within(points.pruned)]
    x = shared.numbers(
        "cost", _reached_costs(points), title, shares=points.cost in SHARES, room=0.42
    )
    y = alt.Y("ap:Q", title=f"{points.kind} AP", scale=_reached(points))
    ink, tips = _ink(points.pruned["family"]), _tips(points.cost, title)
    chart = _dense(points)
    joined = points.means[points.means["series"].isin(named) & points.within(points.means)]
    lines = alt.Chart(joined)
    dashes = {name: list(dash) or [1, 0] for name, dash in points.dashes.items()}
    dash = alt.StrokeDash(
        "series:N", scale=alt.Scale(domain=list(dashes), range=list(dashes.values())), legend=None
    )
    encoded = lines.encode(x=x, y=y, color=ink, detail="series:N")
    results = alt.Chart(points.pruned[inside & full]).encode(x=x, color=ink, tooltip=tips)
    chart += results.mark_rule(opacity=0.5).encode(y="low:Q", y2="high:Q")
    if "slow" in points.rows:
        chart += results.mark_rule(opacity=0.5).encode(x="slow:Q", x2="fast:Q", y="ap:Q")
    chart += encoded.mark_line(strokeWidth=2).encode(strokeDash=dash)
    dots = alt.Chart(points.pruned[inside]).encode(x=x, y=y, color=ink, tooltip=tips)
    chart += dots.mark_circle(size=36, opacity=0.5)
    chart += encoded.mark_circle(size=80, opacity=1)
    feet = alt.Chart(below.assign(foot=points.reach[0])).encode(x=x, color=ink, tooltip=tips)
    chart += feet.mark_point(shape="triangle-down", filled=True, size=60).encode(y="foot:Q")
    chart += _printed(points).encode(x=x)
    chart += _screen_names(points, named).encode(x=x, color=ink)
    about = f"{title} of every model against what it keeps or costs"
    return chart.properties(height=PIXELS, padding=shared.PADDING, description=about)


def _reached_costs(points: Points) -> pd.Series:
    """Of the x axis on screen: a dense model has no base keep ratio."""
    rows = points.pruned if points.cost == "base_ratio" and len(points.pruned) else points.rows
    return rows["cost"]


def _ink(families: pd.Series) -> alt.Color:
    """Their colours; names beside the marks stand for a legend."""
    ink = shared.colours({name: of_family(name) for name in families.unique()}, "family")
    ink.legend = None
    return ink


def _dense(points: Points) -> alt.LayerChart:
    """The dense models' lines, bands and, but for the keep ratio, the dots of their cost."""
    rows = points.rows[points.rows["dense"]]
    means = {name: rows["ap"].mean() for name, rows in points.dense}
    words = [f"{name} {ap:.1f}" for name, ap in means.items()]
    levels = pd.DataFrame({"ap": means.values(), "words": words})
    band = alt.Chart(rows).mark_rect(color=SOFT, opacity=0.12).encode(y="low:Q", y2="high:Q")
    line = alt.Chart(levels).mark_rule(color=SOFT, strokeWidth=1.5).encode(y="ap:Q")
    names = alt.Chart(levels).mark_text(align="left", dx=6, dy=-8, color=SOFT, fontSize=12)
    chart = band + line + names.encode(x=alt.value(0), y="ap:Q", text="words:N")
    if points.cost == "base_ratio":
        return chart
    dots = alt.Chart(rows).mark_circle(color=SOFT, size=80, opacity=1)
    return chart + dots.encode(x="cost:Q", y="ap:Q", tooltip=_tips(points.cost, "cost"))


def _printed(points: Points) -> alt.Chart:
    marks = alt.Chart(points.printed).mark_point(**RING)
    tips = ["model:N", alt.Tooltip("paper:Q", title="AP printed in the paper")]
    return marks.encode(y="paper:Q", tooltip=tips)


def _screen_names(points: Points, named: Sequence[str]) -> alt.Chart:
    """Names beside the last points, apart from each other."""
    last = points.ends(named)
    low, high = points.reach
    places = apart(last["ap"].tolist(), (high - low) * 17 / PIXELS, low, high)
    last = last.assign(place=places)
    return (
        alt.Chart(last)
        .mark_text(align="left", dx=9, fontSize=LETTERS)
        .encode(y="place:Q", text="name:N")
    )


def _reached(points: Points) -> alt.Scale:
    return alt.Scale(domain=list(points.reach), zero=False, nice=False)


def _tips(cost: str, title: str) -> list[alt.Tooltip]:
    shown = ".1%" if cost in SHARES else ".3g"
    numbers = {"ap": "AP", "low": "from (95 %)", "high": "to (95 %)"}
    return [
        alt.Tooltip("series:N", title="kind"),
        alt.Tooltip("cost:Q", title=title, format=shown),
        *(alt.Tooltip(f"{name}:Q", title=words, format=".1f") for name, words in numbers.items()),
        alt.Tooltip("preset:N", title="model"),
        alt.Tooltip("images:Q"),
        alt.Tooltip("path:N", title="folder"),
    ]


def screen_ranked(points: Points) -> alt.LayerChart:
    """Every kind at the shared ratio, a row each."""
    ranked = points.ranked
    own = points.pruned[points.pruned["base_ratio"] == points.shared]
    own = own.merge(ranked[["series", "ap"]].rename(columns={"ap": "mean"}), on="series")
    inside, below = points.within(own.assign(ap=own["mean"])), ranked[~points.within(ranked)]
    axis = alt.Axis(labelLimit=220, labelOverlap=False, ticks=False, domain=False)
    y = alt.Y("name:N", sort=ranked["name"].tolist(), title=None, axis=axis)
    title = f"{points.kind} AP at base keep ratio {points.shared:g}"
    x = alt.X("ap:Q", title=title, scale=_reached(points))
    ink, tips = _ink(ranked["family"]), _tips(points.cost, "cost")
    del tips[1]  # the cost
    results = alt.Chart(own[inside]).encode(y=y, color=ink, tooltip=tips)
    levels = pd.DataFrame({"ap": [rows["ap"].mean() for _, rows in points.dense]})
    chart = alt.Chart(levels).mark_rule(color=SOFT).encode(x="ap:Q")
    chart += results.mark_rule(opacity=0.5, strokeWidth=2).encode(x="low:Q", x2="high:Q")
    chart += results.mark_circle(size=30, opacity=0.5).encode(x=x)
    means = alt.Chart(ranked[points.within(ranked)]).encode(y=y, x=x, color=ink)
    chart += means.mark_circle(size=80, opacity=1)
    far = alt.Chart(below).encode(y=y, color=ink)
    chart += far.mark_point(shape="triangle-left", filled=True, size=60).encode(x=alt.value(0))
    told = alt.Text("ap:Q", format=".1f")
    words = far.mark_text(align="left", dx=8).encode(x=alt.value(0), text=told)
    marks = alt.Chart(points.printed_at_shared).mark_point(**RING)
    chart += words + marks.encode(y=y, x="paper:Q")
    return chart.properties(
        height=alt.Step(max(ROW, PIXELS / max(len(ranked) + 2, 12))),
        padding=shared.PADDING,
        description="The models in the order of their AP",
    )
