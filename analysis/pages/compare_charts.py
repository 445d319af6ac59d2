"""What the Compare page draws beside its panels: the life of one token, lines by block, costs by module."""

from __future__ import annotations

from collections.abc import Sequence

import altair as alt
import pandas as pd

from analysis import figures
from analysis.pages.compare_panels import STATE_LEGEND

RUN_COLOURS = ("#0093ad", "#dc267f", "#e08a00", "#7d5fff")
CHOSEN = "#dc267f"


def life_strip(lives: pd.DataFrame, block: int) -> alt.LayerChart:
    """One token's state at each block, a row a run (columns: run, block, state, score)."""
    scale = alt.Scale(
        domain=list(STATE_LEGEND), range=[figures.NEXT, "#c9d1db", "#00c8e0", "#7de3ef"]
    )
    base = alt.Chart(lives).encode(
        x=alt.X("block:O", title="block", axis=alt.Axis(labelAngle=0)),
        y=alt.Y("run:N", title=None, sort=None),
    )
    cells = base.mark_rect(cornerRadius=2, stroke="#8a94a3", strokeWidth=0.4).encode(
        color=alt.Color(
            "state:N", scale=scale, legend=alt.Legend(orient="bottom", title=None, labelLimit=260)
        ),
        tooltip=["run", "block", "state", alt.Tooltip("score", title="keep score", format="+.2f")],
    )
    here = base.transform_filter(alt.datum.block == block).mark_rect(
        filled=False, stroke=CHOSEN, strokeWidth=2
    )
    return (cells + here).properties(height=34 * lives["run"].nunique() + 60)


def run_scale(names: Sequence[str]) -> alt.Color:
    """One colour a run, in the order of the panels."""
    scale = alt.Scale(domain=list(names), range=list(RUN_COLOURS[: len(names)]))
    letter = "slice(datum.label, 0, 1)"  # the titles of the panels say the rest in the same colours
    legend = alt.Legend(orient="top", title=None, labelExpr=letter, symbolStrokeWidth=3, offset=2)
    return alt.Color("run:N", scale=scale, legend=legend, sort=None)


def run_lines(
    frame: pd.DataFrame, names: Sequence[str], block: int, *, y: str, title: str, dashes: str
) -> alt.LayerChart:
    """A line a run over the blocks (columns: run, block, `y`), dashed ones of column `dashes`, and the
    shown block."""
    axis = alt.Axis(format="%", tickCount=5)
    x = alt.X("block:O", title="block", axis=alt.Axis(labelAngle=0))
    base = alt.Chart(frame).encode(x=x, color=run_scale(names))
    scale = alt.Scale(domain=[0, 1])
    tips = ["run", "block", *(alt.Tooltip(name, format=".1%") for name in (y, dashes))]
    line = base.mark_line(point={"size": 34}, strokeWidth=2).encode(
        y=alt.Y(f"{y}:Q", title=title, axis=axis, scale=scale), tooltip=tips
    )
    dashed = base.mark_line(strokeDash=[4, 3], strokeWidth=1.2, opacity=0.8).encode(y=f"{dashes}:Q")
    here = (
        alt.Chart(pd.DataFrame({"block": [block]}))
        .mark_rule(color="#8a94a3", strokeDash=[2, 2])
        .encode(x=x)
    )
    return (here + dashed + line).properties(height=260)


MODULE_COLOURS = {
    "blocks": "#00a5bd",
    "selection": "#ffb000",
    "patch_embed": "#56657a",
    "prior": "#6b7a90",
    "injectors": "#8290a5",
    "extractors": "#98a5b7",
    "up": "#a9bbc8",
    "pyramid": "#8290a5",
    "fpn": "#9aa8d6",
    "rpn": "#b3bee3",
    "box_head": "#c8a6d8",
    "mask_head": "#dcc5e8",
}


def cost_bars(frame: pd.DataFrame, names: Sequence[str]) -> alt.Chart:
    """GMACs of every module, a bar a run (columns: run, module, gmacs, share)."""
    modules = [name for name in MODULE_COLOURS if name in set(frame["module"])]
    scale = alt.Scale(domain=modules, range=[MODULE_COLOURS[name] for name in modules])
    order = frame.assign(order=frame["module"].map(modules.index))
    return (
        alt.Chart(order)
        .mark_bar()
        .encode(
            x=alt.X("gmacs:Q", title="GMACs", axis=alt.Axis(tickCount=6)),
            y=alt.Y("run:N", title=None, sort=list(names), axis=alt.Axis(labelLimit=260)),
            color=alt.Color(
                "module:N",
                scale=scale,
                legend=alt.Legend(
                    orient="bottom",
                    title=None,
                    columns=8,
                    labelExpr="replace(datum.label, '_', ' ')",
                ),
            ),
            order="order:Q",
            tooltip=[
                "run",
                "module",
                alt.Tooltip("gmacs", format=".3f", title="GMACs"),
                alt.Tooltip("share", format=".1%", title="of the network"),
            ],
        )
        .properties(height=40 * len(names) + 100)
    )
