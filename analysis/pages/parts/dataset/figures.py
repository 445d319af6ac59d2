"""Every figure that can be drawn of a run, with its definition, its numbers and its files."""

from __future__ import annotations

import streamlit as st
from matplotlib.style import context

from analysis.figures import palette, registry
from analysis.figures.output import DrawOptions, Product, RenderError
from analysis.pages.parts import drawings, session, shell
from analysis.pages.parts.dataset.parts import Survey
from analysis.sources.collection import PAIR_OR_RUN, RUN
from analysis.sources.collection import RUNS as TOGETHER
from svit.runs.attributions import FOLDER as ATTRIBUTIONS
from svit.runs.rescue import rescue_files
from svit.runs.run import Run

ALONE = (RUN, TOGETHER, PAIR_OR_RUN)  # what a single run is enough for
FIGURES = {name: entry for name, entry in registry.entries().items() if entry.takes in ALONE}


def show(survey: Survey) -> None:
    """A choice among the figures and the chosen one: its chart, or else its drawing on paper."""
    session.restore("figure", "reactivation", FIGURES)
    name = st.selectbox("Figure", list(FIGURES), key="figure", format_func=_titled)
    session.remember(figure=name)
    entry = FIGURES[name]
    st.caption(shell.definition(entry.screen_about or entry.definition))
    try:
        products = drawn(survey.run, (*survey.key, *stamps(survey.run)), name)
        chart = entry.screen(_given(survey.run, name)) if entry.screen else None
    except RenderError as error:
        st.info(str(error), icon=":material/info:")
        return
    if chart is not None:
        st.altair_chart(chart, width="stretch")
    for product in products:
        if chart is None:
            shell.printed(drawings.picture(product), FIGURES[name].summary, product.name)
        shell.downloads(product.name, product.table, lambda product=product: product.figure)


def stamps(run: Run) -> list[tuple[str, int]]:
    """Changes with what was asked of the run since it was recorded: missed objects, explanations."""
    files = [*rescue_files(run.path), *sorted(run.path.glob(f"{ATTRIBUTIONS}/*/*.json"))]
    return [(str(file), file.stat().st_mtime_ns) for file in files]


def _titled(name: str) -> str:
    return f"{name}: {FIGURES[name].summary}"


def _given(run: Run, name: str) -> Run | list[Run]:
    return run if FIGURES[name].takes is RUN else [run]


@st.cache_resource(max_entries=8, show_spinner="Drawing")
def drawn(_run: Run, key: tuple, name: str) -> list[Product]:
    """What the command would draw of the run."""
    with shell.drawing(), context(palette.STYLE):
        return list(FIGURES[name].draw(_given(_run, name), DrawOptions()))
