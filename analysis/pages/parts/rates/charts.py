"""Charts and tables of the Rates page: frames in, Altair charts and styled frames out."""

from __future__ import annotations

from typing import NamedTuple

import altair as alt
import pandas as pd
import streamlit as st

from analysis.figures import palette
from analysis.figures.canvas import screen as shared
from analysis.paper import claims

HEIGHT = 300


class Cost(NamedTuple):
    """One choice of the x axis."""

    label: str
    column: str
    title: str


COSTS = {
    "base": Cost("base keep ratio", "base_ratio", "base keep ratio (target of the first stage)"),
    "kept": Cost("kept tokens", "keep_ratio", "kept tokens, mean over gated blocks and images"),
    "backbone": Cost("backbone MACs", "gmacs_backbone", "GMACs of the backbone, mean over images"),
    "macs": Cost("network MACs", "gmacs", "GMACs of the whole network, mean over images"),
    "speed": Cost("speed", "images_per_second", "images a second, median over rounds"),
}
PRINTED = {"base": "base_ratio", "speed": "fps"}  # costs that the paper prints
COLUMNS = {
    "preset": "model",
    "series": "kind",
    "data": "data",
    "box_ap": "box AP",
    "box_low": "low",
    "box_high": "high",
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
    **{
        name: st.column_config.NumberColumn(format="%.1f")
        for name in ("box AP", "low", "high", "mask AP")
    },
    **{name: st.column_config.NumberColumn(format="%.3f") for name in ("base ratio", "kept")},
    **{
        name: st.column_config.NumberColumn(format="%.2f")
        for name in ("backbone GMACs", "network GMACs")
    },
}
VERDICTS = {  # verdict -> colour
    claims.CONFIRMED: palette.AGREES,
    claims.CONTRADICTED: palette.DISAGREES,
    claims.NOT_TESTED: palette.SOFT,
}


def printed(frame: pd.DataFrame, kind: str, cost: str) -> alt.LayerChart:
    """Table 5 as hollow grey marks with names; costs that it lacks are replaced by its speeds."""
    column = PRINTED.get(cost, PRINTED["speed"])
    rows = frame.assign(ap=frame[f"{kind}_ap"], cost=frame[column]).dropna(subset=["ap", "cost"])
    shares = column == "base_ratio"
    title = "base keep ratio (paper)" if shares else "images/s, A100 (paper)"
    chart = alt.Chart(rows).encode(
        x=shared.numbers("cost", rows["cost"], title, shares=shares, room=0.25),
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
    ).properties(height=HEIGHT, description="The AP that the paper prints, against cost")


def coloured(ledger: pd.DataFrame):
    """The shown ledger with its verdicts in colour."""
    return ledger.style.map(
        lambda verdict: palette.cell(VERDICTS.get(verdict, palette.SOFT)), ["verdict"]
    )


def paired(table: pd.DataFrame):
    """A table of the paper with its measured columns set off."""
    columns = [name for name in table.columns if str(name).endswith(", measured")]
    return table.style.map(lambda value: f"background-color: {palette.AGREES}26", columns)
