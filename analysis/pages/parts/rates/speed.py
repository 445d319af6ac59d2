"""The Rates page's speeds: what pruning gained in time, where the time goes, and every measurement."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import pandas as pd
import streamlit as st
from matplotlib.axes import Axes

from analysis.figures.output import DrawOptions
from analysis.figures.rates import speed, stages
from analysis.pages.parts import shell
from analysis.pages.parts.rates import origins
from analysis.paper import tables
from analysis.sources import benchmarks
from analysis.sources.benchmarks import Speed

WIDTH = 6.0  # inches
COMMAND = "svit benchmark --models PRESET --keep dense,paper --out results/NAME"


def show(timed: Sequence[Speed], key: tuple, folders: Sequence[Path]) -> None:
    """Both figures, a condition and a benchmark at a time, over all measured speeds.

    Args:
        folders: in which they were found.
    """
    if not timed:
        shell.empty(
            "No benchmark here yet. This measures a model with and without pruning:", COMMAND
        )
        return
    with st.container(border=True):
        show_gain(benchmarks.speedups(timed), timed, key)
    with st.container(border=True):
        show_stages(stages.profiled(timed), key)
    table = origins.placed(benchmarks.frame(timed), "path", folders)
    st.markdown(f"##### All {len(table)} measured speeds")
    st.dataframe(table.round(3), hide_index=True)
    st.caption(tables.SPEED_CAPTION)
    shell.downloads("speeds", table)


def show_gain(table: pd.DataFrame, timed: Sequence[Speed], key: tuple) -> None:
    """Speed-up against tokens, under its limit."""
    about = speed.__doc__
    st.markdown("##### What pruning gains", help=shell.definition(about))
    if not len(table):
        shell.empty("No benchmark here timed a model both with all tokens and pruned:", COMMAND)
        return
    chosen = shell.choose_name(
        "Timed as", "speed_of", table["condition"].value_counts().index.tolist()
    )
    rows = table[table["condition"] == chosen]
    draw = partial(gain, rows)
    drawing = picture(draw, 0.52, (key, "speed", chosen), shell.dark())
    shell.printed(drawing, f"Speed-up of every pruned model, timed as {chosen}", "gain")
    shell.downloads("speed-up", table, lambda: drawn(speed.draw, timed))


def gain(rows: pd.DataFrame, ax: Axes) -> None:
    """The speed-up of one condition over what its colours mean."""
    inks = speed.colours(rows)
    speed.print(rows, ax, inks=inks, size=(WIDTH - 0.6, 2.0))
    ax.legend(handles=speed.keys(inks), loc="upper left", bbox_to_anchor=(0, -0.2), ncols=2)


def show_stages(timed: Sequence[Speed], key: tuple) -> None:
    """Stages of the variants of one benchmark at one size."""
    about = stages.__doc__
    st.markdown("##### Where the time goes", help=shell.definition(about))
    if not timed:
        st.info("No benchmark here holds a profile.", icon=":material/info:")
        return
    groups = stages.panels(timed)
    chosen = shell.choose_name("Benchmark", "stages_of", list(groups))
    draw = partial(stages.print, groups[chosen], keys=True)
    ratio = 0.2 + 0.055 * len(groups[chosen])
    drawing = picture(draw, ratio, (key, "stages", chosen), shell.dark())
    shell.printed(drawing, f"Where the time of {chosen} goes, a bar a variant", "stages")
    table = stages.frame(groups[chosen])
    shell.downloads("stages", table, lambda: stages.compose(groups[chosen]))


@st.cache_data(max_entries=24, show_spinner=False)
def picture(_draw: Callable[[Axes], object], ratio: float, key: tuple, dark: bool) -> bytes:
    """A drawn panel; `key` says which."""
    return shell.png(_draw, WIDTH, ratio, dark)


def drawn(figure: Callable, timed: Sequence[Speed]):
    """The figure for a paper."""
    (product,) = figure(timed, DrawOptions())
    return product.figure
