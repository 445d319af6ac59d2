"""Charts and tables of the Rates page: frames in, Altair charts and styled frames out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import altair as alt
import numpy as np
import pandas as pd
import streamlit as st

from analysis.figures import palette
from analysis.paper import claims
from analysis.sources import control_gain

HEIGHT = 420


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
MASKS = {  # whose masks -> colour and shape
    "its own": (palette.OWN, "circle"),
    control_gain.CONTROLS["on"]: (palette.CONTROLS["on"], "stroke"),
    control_gain.CONTROLS["oracle"]: (palette.CONTROLS["oracle"], "diamond"),
    control_gain.CONTROLS["centre"]: (palette.CONTROLS["centre"], "triangle-right"),
    control_gain.CONTROLS["centre-square"]: (palette.CONTROLS["centre-square"], "triangle-left"),
    control_gain.CONTROLS["shuffle"]: (palette.CONTROLS["shuffle"], "triangle-down"),
    control_gain.CONTROLS["random"]: (palette.CONTROLS["random"], "triangle-up"),
    control_gain.CONTROLS["invert"]: (palette.CONTROLS["invert"], "square"),
    control_gain.CONTROLS["off"]: (palette.CONTROLS["off"], "cross"),
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
    claims.CONFIRMED: palette.AGREES,
    claims.CONTRADICTED: palette.DISAGREES,
    claims.NOT_TESTED: palette.SOFT,
}


def measured(frame: pd.DataFrame, kind: str, cost: str) -> alt.LayerChart:
    """AP with its interval against a cost, a line a series; the dense model is a star."""
    chosen, half = COSTS[cost], f"{kind}_half"
    rows = frame.assign(ap=frame[f"{kind}_ap"], cost=frame[chosen.column])
    rows = rows.assign(low=rows["ap"] - rows[half], high=rows["ap"] + rows[half])
    names = sorted(rows["series"].unique())
    colour = alt.Color(
        "series:N",
        scale=alt.Scale(
            domain=names, range=[palette.LINES[i % len(palette.LINES)] for i in range(len(names))]
        ),
        legend=alt.Legend(
            title=None, orient="bottom", columns=1, labelLimit=560, symbolType="circle"
        ),
    )
    base = alt.Chart(rows)
    x = _x(chosen, rows["cost"])
    y = alt.Y("ap:Q", title=f"{kind} AP", scale=_scale(rows[["low", "ap", "high"]], padding=18))
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


def controls(models: pd.DataFrame, kind: str) -> alt.LayerChart:
    """AP of each model with its own masks and with those of controls, a row a model, best first.

    Args:
        models: `worth.frame`.
        kind: "box" or "mask".
    """
    rows = _control_rows(models, kind)
    order = list(dict.fromkeys(rows["name"]))
    names = [name for name in MASKS if name in set(rows["masks"])]
    x = alt.X(
        "ap:Q",
        title=f"{kind} AP",
        axis=alt.Axis(tickCount=8),
        scale=_scale(rows[["low", "ap", "high"]], nice=False, padding=12),
    )
    axis = alt.Axis(labelLimit=220, labelPadding=8, labelOverlap=False, labelFlush=False)
    y = alt.Y("name:N", sort=order, title=None, axis=axis)
    looks = [MASKS[name] for name in names]
    legend = alt.Legend(title=None, orient="bottom", labelLimit=260)
    base = alt.Chart(rows).encode(y=y)
    reach = base.mark_rule(strokeWidth=3, opacity=0.25, color=palette.SOFT).encode(
        x=alt.X("min(ap):Q"), x2="max(ap):Q"
    )
    own = base.transform_filter("datum.masks == 'its own'")
    spread = own.mark_rule(strokeWidth=1.5, color=looks[0][0]).encode(x="low:Q", x2="high:Q")
    points = base.mark_point(filled=True, opacity=1, size=80).encode(
        x=x,
        color=alt.Color(
            "masks:N",
            scale=alt.Scale(domain=names, range=[colour for colour, _ in looks]),
            legend=legend,
        ),
        shape=alt.Shape(
            "masks:N",
            scale=alt.Scale(domain=names, range=[shape for _, shape in looks]),
            legend=legend,
        ),
        tooltip=[
            alt.Tooltip("name:N", title="model"),
            alt.Tooltip("masks:N"),
            alt.Tooltip("ap:Q", title="AP", format=".1f"),
            alt.Tooltip("worth:Q", title="its own is better by", format="+.1f"),
            alt.Tooltip("seed:Q", title="training seed"),
            alt.Tooltip("keep_ratio:Q", title="kept", format=".1%"),
        ],
    )
    return (reach + spread + points).properties(height=alt.Step(26))


def _control_rows(models: pd.DataFrame, kind: str) -> pd.DataFrame:
    """A row a model and masks."""
    facts, parts = models[["name", "seed", "keep_ratio"]], []
    own, half = models[f"{kind}_ap"], models[f"{kind}_half"]
    parts.append(facts.assign(masks="its own", ap=own, low=own - half, high=own + half, worth=0.0))
    for control, words in control_gain.CONTROLS.items():
        ap = models[f"{kind}_{control}"]
        parts.append(facts.assign(masks=words, ap=ap, worth=own - ap))
    return pd.concat(parts, ignore_index=True).dropna(subset=["ap"])


# a five-pointed star as an SVG path of the size Vega expects
STAR = (
    "M0,-1L0.225,-0.309L0.951,-0.309L0.363,0.118L0.588,0.809L0,0.382L-0.588,0.809L-0.363,0.118"
    "L-0.951,-0.309L-0.225,-0.309Z"
)


def _scale(values: pd.DataFrame | pd.Series, **choices: Any) -> alt.Scale:
    """From the least value to the largest; a single one gets room, or its axis prints eight digits."""
    known = np.unique(values.to_numpy(float)[values.notna()])
    if len(known) == 1:
        room = abs(known[0]) / 20 or 1.0
        choices["domain"] = [known[0] - room, known[0] + room]
    return alt.Scale(zero=False, **choices)


def _x(cost: Cost, values: pd.Series) -> alt.X:
    if not cost.shares:
        scale, axis = _scale(values, padding=24), alt.Axis(tickCount=6)
        return alt.X("cost:Q", title=cost.title, scale=scale, axis=axis)
    axis = alt.Axis(format="%", values=[tenth / 10 for tenth in range(11)])  # none above 100 %
    return alt.X(
        "cost:Q", title=cost.title, axis=axis, scale=_scale(values, nice=False, padding=30)
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
        x=_x(Cost("", column, title, shares), rows["cost"]),
        y=alt.Y(
            "ap:Q", title=f"{kind} AP on COCO (paper)", scale=alt.Scale(zero=False, padding=18)
        ),
    )
    marks = chart.mark_point(filled=False, size=85, strokeWidth=1.8, color=palette.SOFT).encode(
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
    words = chart.mark_text(align="left", dx=8, color=palette.SOFT, fontSize=11).encode(
        text="name:N"
    )
    return (
        marks
        + words.transform_filter(alt.FieldOneOfPredicate("name", rows["name"][named].tolist()))
    ).properties(height=HEIGHT)


def coloured(ledger: pd.DataFrame):
    """The shown ledger with its verdicts in colour."""
    return ledger.style.map(
        lambda verdict: f"color: {VERDICTS.get(verdict, palette.SOFT)}", ["verdict"]
    )


def paired(table: pd.DataFrame):
    """A table of the paper with its measured columns set off."""
    columns = [name for name in table.columns if str(name).endswith(", measured")]
    return table.style.map(lambda value: f"color: {VERDICTS[claims.CONFIRMED]}", columns)
