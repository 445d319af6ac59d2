"""What the Compare page draws beside its panels: lines by block, costs by module."""

from __future__ import annotations

from collections.abc import Sequence

import altair as alt
import pandas as pd
import streamlit as st

from analysis.figures import palette
from analysis.figures.canvas.screen import BY_LETTER, PADDING, columns_of
from analysis.pages.parts.compare.parts import RUN_COLOURS

WIDTHS = [6, 4, 2.4, 1.2]
NAME = 220  # screen pixels of a run's name beside its bar


def show_lines(frame: pd.DataFrame, names: Sequence[str], block: int, **how: str) -> None:
    """Draws `line_chart`, which stays the same while the block changes."""
    tables = {"lines": frame, "here": pd.DataFrame({"block": [block]})}
    spec = line_chart(tuple(names), **how) | {"datasets": tables}
    st.vega_lite_chart(spec=spec, width="stretch", height=240)


@st.cache_data(max_entries=32, show_spinner=False)
def line_chart(names: tuple[str, ...], y: str, title: str, dashes: str) -> dict:
    """A line a run over the blocks, dashed ones of column `dashes`, and the shown block. Later lines are
    thinner, so that equal ones show side by side. Tables: lines (run, block, `y`), here (block)."""
    x = alt.X("block:O", title="block", axis=alt.Axis(labelAngle=0))
    scale = alt.Scale(domain=list(names), range=list(RUN_COLOURS[: len(names)]))
    letter = "slice(datum.label, 0, 1)"  # the titles of the panels say the rest in the same colours
    key = alt.Legend(orient="top", title=None, labelExpr=letter, symbolType="stroke", offset=2)
    colour = alt.Color("run:N", scale=scale, legend=key, sort=None)
    base = alt.Chart(alt.NamedData("lines")).encode(x=x, color=colour)
    tips = [alt.Tooltip("run:N"), alt.Tooltip("block:O")]
    tips += [alt.Tooltip(f"{name}:Q", format=".1%") for name in (y, dashes)]
    widths = alt.Scale(domain=list(names), range=WIDTHS[: len(names)])
    line = base.mark_line(point="transparent").encode(
        y=alt.Y(
            f"{y}:Q",
            title=title,
            axis=alt.Axis(format="%", tickCount=5),
            scale=alt.Scale(domain=[0, 1]),
        ),
        strokeWidth=alt.StrokeWidth("run:N", scale=widths, legend=None),
        tooltip=tips,
    )
    dashed = base.mark_line(strokeDash=[4, 3], strokeWidth=1.2, opacity=0.8).encode(y=f"{dashes}:Q")
    here = alt.Chart(alt.NamedData("here")).mark_rule(color=palette.SOFT, strokeDash=[2, 2])
    chart = here.encode(x=x) + dashed + line
    about = f"{title} by block, a line a run"
    return chart.properties(height=240, padding=PADDING, description=about).to_dict()


def cost_bars(frame: pd.DataFrame, names: Sequence[str]) -> alt.Chart:
    """GMACs of every module, a bar a run (columns: run, module, gmacs, share)."""
    modules = [name for name in palette.MODULES if name in set(frame["module"])]
    scale = alt.Scale(domain=modules, range=[palette.MODULES[name] for name in modules])
    order = frame.assign(order=frame["module"].map(modules.index))
    return (
        alt.Chart(order)
        .mark_bar()
        .encode(
            x=alt.X("gmacs:Q", title="GMACs", axis=alt.Axis(tickCount=6)),
            y=alt.Y(
                "run:N",
                title=None,
                sort=list(names),
                axis=alt.Axis(labelLimit=NAME, labelOverlap=False, labelExpr=BY_LETTER),
            ),
            color=alt.Color(
                "module:N",
                scale=scale,
                legend=alt.Legend(
                    orient="bottom",
                    title=None,
                    columns=columns_of(
                        modules, min(NAME, 7 * max(map(len, names))), by_letter=True
                    ),
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
        .properties(
            height=34 * len(names) + 136,
            padding=PADDING,
            description="GMACs of every module, a bar a run",
        )
    )
