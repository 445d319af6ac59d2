"""Charts and tables of the Rates page: frames in, Altair charts and styled frames out."""

from __future__ import annotations

from dataclasses import dataclass

import altair as alt
import pandas as pd
import streamlit as st

from analysis import claims

HEIGHT = 420
INK = "#7b8794"  # readable on light and dark
COLOURS = ["#00a0b8", "#d1417f", "#e08a00", "#5b7fdb", "#3f9b57", "#9a68c9"]


@dataclass(frozen=True)
class Cost:
    """One choice of the x axis."""

    label: str
    column: str
    title: str
    shares: bool = False


COSTS = {
    "base": Cost(
        "base keep ratio", "base_ratio", "base keep ratio (target of the first stage)", True
    ),
    "kept": Cost(
        "kept tokens", "keep_ratio", "kept tokens, mean over gated blocks and images", True
    ),
    "backbone": Cost("backbone MACs", "gmacs_backbone", "GMACs of the backbone, mean over images"),
    "macs": Cost("network MACs", "gmacs", "GMACs of the whole network, mean over images"),
    "speed": Cost("speed", "images_per_second", "images a second, median over rounds"),
}
PRINTED = {"base": "base_ratio", "speed": "fps"}  # costs that the paper prints
COLUMNS = {
    "preset": "model",
    "series": "kind",
    "box_ap": "box AP",
    "mask_ap": "mask AP",
    "base_ratio": "base ratio",
    "keep_ratio": "kept",
    "gmacs_backbone": "backbone GMACs",
    "gmacs": "network GMACs",
    "images": "images",
    "intervention": "masks",
    "seed": "seed",
    "path": "folder",
}
FORMATS = {
    **{name: st.column_config.NumberColumn(format="%.1f") for name in ("box AP", "mask AP")},
    **{name: st.column_config.NumberColumn(format="%.3f") for name in ("base ratio", "kept")},
    **{
        name: st.column_config.NumberColumn(format="%.2f")
        for name in ("backbone GMACs", "network GMACs")
    },
}
VERDICTS = {  # verdict -> ink
    claims.CONFIRMED: "#2f9e6a",
    claims.CONTRADICTED: "#d1417f",
    claims.NOT_TESTED: INK,
}


def measured(frame: pd.DataFrame, kind: str, cost: str) -> alt.LayerChart:
    """AP with its interval against a cost, a line a series; the dense model is a star."""
    chosen, half = COSTS[cost], f"{kind}_half"
    rows = frame.assign(ap=frame[f"{kind}_ap"], cost=frame[chosen.column])
    rows = rows.assign(low=rows["ap"] - rows[half], high=rows["ap"] + rows[half])
    names = sorted(rows["series"].unique())
    colour = alt.Color(
        "series:N",
        scale=alt.Scale(domain=names, range=[COLOURS[i % len(COLOURS)] for i in range(len(names))]),
        legend=alt.Legend(
            title=None, orient="bottom", columns=1, labelLimit=560, symbolType="circle"
        ),
    )
    base = alt.Chart(rows)
    x = _x(chosen)
    y = alt.Y("ap:Q", title=f"{kind} AP", scale=alt.Scale(zero=False, padding=18))
    means = (
        base.transform_filter("!datum.dense")
        .mark_line(strokeWidth=2)
        .encode(x=alt.X("cost:Q"), y=alt.Y("mean(ap):Q"), color=colour)
    )
    spread = base.mark_rule(strokeWidth=1.5, opacity=0.75).encode(
        x=x, y="low:Q", y2="high:Q", color=colour
    )
    if cost == "speed":
        quartiles = base.mark_rule(strokeWidth=1.5, opacity=0.75)
        spread += quartiles.encode(x=alt.X("slow:Q"), x2="fast:Q", y="ap:Q", color=colour)
    points = base.mark_point(filled=True, opacity=1).encode(
        x=x,
        y=y,
        color=colour,
        shape=alt.condition("datum.dense", alt.value(STAR), alt.value("circle")),
        size=alt.condition("datum.dense", alt.value(190), alt.value(80)),
        tooltip=_tooltips(chosen),
    )
    return (spread + means + points).properties(height=HEIGHT)


# a five-pointed star as an SVG path of the size Vega expects
STAR = (
    "M0,-1L0.225,-0.309L0.951,-0.309L0.363,0.118L0.588,0.809L0,0.382L-0.588,0.809L-0.363,0.118"
    "L-0.951,-0.309L-0.225,-0.309Z"
)


def _x(cost: Cost) -> alt.X:
    if not cost.shares:
        scale, axis = alt.Scale(zero=False, padding=24), alt.Axis(tickCount=6)
        return alt.X("cost:Q", title=cost.title, scale=scale, axis=axis)
    axis = alt.Axis(format="%", values=[tenth / 10 for tenth in range(11)])  # none above 100 %
    return alt.X(
        "cost:Q", title=cost.title, axis=axis, scale=alt.Scale(zero=False, nice=False, padding=30)
    )


def _tooltips(cost: Cost) -> list[alt.Tooltip]:
    return [
        alt.Tooltip("preset:N", title="model"),
        alt.Tooltip("series:N", title="kind"),
        alt.Tooltip("cost:Q", title=cost.label, format=".1%" if cost.shares else ".3g"),
        alt.Tooltip("ap:Q", title="AP", format=".1f"),
        alt.Tooltip("low:Q", title="from (95 %)", format=".1f"),
        alt.Tooltip("high:Q", title="to (95 %)", format=".1f"),
        alt.Tooltip("images:Q", title="images"),
        alt.Tooltip("path:N", title="folder"),
    ]


def printed(frame: pd.DataFrame, kind: str, cost: str) -> alt.LayerChart:
    """Table 5 as hollow grey marks with names; costs that it lacks are replaced by its speeds."""
    column = PRINTED.get(cost, PRINTED["speed"])
    rows = frame.assign(ap=frame[f"{kind}_ap"], cost=frame[column]).dropna(subset=["ap", "cost"])
    shares = column == "base_ratio"
    title = "base keep ratio (paper)" if shares else "images/s, A100 (paper)"
    chart = alt.Chart(rows).encode(
        x=_x(Cost("", column, title, shares)),
        y=alt.Y(
            "ap:Q", title=f"{kind} AP on COCO (paper)", scale=alt.Scale(zero=False, padding=18)
        ),
    )
    marks = chart.mark_point(filled=False, size=85, strokeWidth=1.8, color=INK).encode(
        shape=alt.Shape(
            "size:N",
            scale=alt.Scale(domain=["tiny", "small"], range=["circle", "square"]),
            legend=alt.Legend(title=None, orient="bottom"),
        ),
        tooltip=[
            alt.Tooltip("name:N", title="model"),
            alt.Tooltip("ap:Q", title="AP"),
            alt.Tooltip("fps:Q", title="FPS, network"),
            alt.Tooltip("fps_backbone:Q", title="FPS, backbone"),
        ],
    )
    named = rows["model"].isin(
        ["dense", "svit"]
    )  # the others crowd; their names are in the tooltip
    words = chart.mark_text(align="left", dx=8, color=INK, fontSize=11).encode(text="name:N")
    return (
        marks
        + words.transform_filter(alt.FieldOneOfPredicate("name", rows["name"][named].tolist()))
    ).properties(height=HEIGHT)


def coloured(ledger: pd.DataFrame):
    """The shown ledger with its verdicts in colour."""
    return ledger.style.map(lambda verdict: f"color: {VERDICTS.get(verdict, INK)}", ["verdict"])


def paired(table: pd.DataFrame):
    """A table of the paper with its measured columns set off."""
    columns = [name for name in table.columns if str(name).endswith(", measured")]
    return table.style.map(lambda value: f"color: {VERDICTS[claims.CONFIRMED]}", columns)
