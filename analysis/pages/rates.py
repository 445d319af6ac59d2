"""Accuracy against cost of all that was evaluated, measured speed, the claim ledger, the paper's tables."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import pandas as pd
import streamlit as st

from analysis.figures.output import DrawOptions
from analysis.figures.rates import controls as control_figures
from analysis.figures.tokens import paper
from analysis.pages.parts import shell
from analysis.pages.parts.rates import charts, speed
from analysis.paper import claims, tables
from analysis.sources import benchmarks, collection, control_gain, evaluations
from analysis.sources.collection import Collection
from svit.system.text import escaped

VIEWS = ("Trade-off", "Controls", "Speed", "Claims", "Tables")
TABLES = ("Table 2", "Table 3", "Table 4", "Table 5")
HELP = {
    "measured": "AP of COCO's evaluation over the complete list of images shown; vertical lines are 95 % "
    "bootstrap intervals over images. A line joins one kind of model at several keep ratios. Only "
    "evaluations of the same images share a chart.",
    "speed": "Images a second of `svit benchmark`, median over rounds; horizontal lines are quartiles. A "
    "speed is of an evaluation if both are of the same preset with the same keep ratios. Only what one "
    "benchmark timed in turn, on one machine at one size, shares an axis.",
    "printed": "What Table 5 of the paper prints, for COCO and one A100. Another data set, other models "
    "and another machine: the two charts share no axis on purpose.",
    "ledger": "A measurement confirms or contradicts a claim only if it is of the same kind: model, size, "
    "neck, keep ratios, COCO val2017 complete. Otherwise the claim is not tested; the column “direction "
    "elsewhere” says what other models and data hint at.",
    "tables": "Each quantity has a column for what the paper prints and one for what was measured on the "
    "same kind of model and data; a dash is not measured.",
}


def looked_in() -> list[Path]:
    """The chosen folders, and `results` beside each."""
    beside = [folder.resolve().parent / "results" for folder in shell.folders()]
    known: dict[Path, Path] = {}
    for folder in [*shell.folders(), *beside]:
        known.setdefault(folder.resolve(), folder)
    return [folder for folder in known.values() if folder.is_dir()]


def stamp(folders: list[Path], runs: list[Path]) -> tuple:
    """Changes whenever a result or a run changes."""
    names = (evaluations.SUMMARY, benchmarks.BENCHMARK)
    files = [file for name in names for file in collection.files(folders, name, inside=True)]
    files += [file for run in runs for file in run.glob("*.json")]
    return tuple(sorted((str(file), file.stat().st_mtime_ns) for file in files))


@st.cache_resource(max_entries=2, show_spinner="Reading evaluations, benchmarks and runs")
def collected(_folders: list[Path], _runs: list[Path], key: tuple) -> Collection:
    """What is there; another `key` reads it anew."""
    return collection.collect_readable(_folders, _runs)


@st.cache_data(max_entries=2, show_spinner="Comparing with the paper's claims")
def ledger(_found: Collection, key: tuple) -> pd.DataFrame:
    """The claim ledger over everything found."""
    return claims.ledger(_found)


@st.cache_data(max_entries=2, show_spinner="Comparing masks with their controls")
def worths(_found: Collection, key: tuple) -> dict[str, pd.DataFrame]:
    """By what they saw: the models that have controls."""
    groups = evaluations.data_groups(_found.results)
    tables_of = {
        name: control_gain.with_controls(control_gain.frame(group))
        for name, group in groups.items()
    }
    return {name: table for name, table in tables_of.items() if len(table)}


@st.cache_data(max_entries=2, show_spinner="Putting models in the paper's order")
def arranged(_found: Collection, key: tuple) -> dict[str, pd.DataFrame]:
    """The paper's tables with other models."""
    return tables.arranged(_found.results)


def choose(label: str, name: str, options: Sequence[str], labels=None, **look) -> str:
    """A row of buttons, remembered in the link."""
    shell.restore(name, options[0], options)
    shown = {} if labels is None else {"format_func": labels}
    # a second click on a chosen button unchooses it, and `restore` brings it back
    chosen = st.segmented_control(label, options, key=name, **shown, **look) or options[0]
    shell.remember(**{name: chosen})
    return chosen


def choose_several(place: Callable, label: str, name: str, options: Sequence[str]) -> list[str]:
    """Any number of options, remembered in the link; `place` draws the widget."""
    if name not in st.session_state:
        linked = [part for part in shell.recalled(name, "").split(",") if part]
        st.session_state[name] = [part for part in linked if part in options]
        if len(st.session_state[name]) < len(linked):
            st.warning(f"The link asks for {name} that is not here.")
    chosen = place(label, options, key=name)
    shell.remember(**{name: ",".join(chosen) or None})
    return list(chosen)


def choose_one(label: str, name: str, options: list[str]) -> str:
    """One of several long names; no widget where there is no choice."""
    return options[0] if len(options) == 1 else shell.choose_name(label, name, options)


def show_tradeoff(found: Collection) -> None:
    """Measured and printed trade-off side by side."""
    groups = evaluations.data_groups(found.results)
    results, timed = [], {}
    with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
        kind = choose(
            "AP of", "ap", control_gain.KINDS, lambda one: {"box": "boxes", "mask": "masks"}[one]
        )
        cost = choose("Against", "against", list(charts.COSTS), lambda one: charts.COSTS[one].label)
        if groups:
            group = choose_one("Images", "data", list(groups))
            # the view Controls has those with other masks
            results = evaluations.own_masks(groups[group]) or groups[group]
            timed = benchmarks.speed_frames(results, found.speeds)
        if cost == "speed" and timed:
            condition = choose_one("Measured as", "timing", list(timed))
    left, right = st.columns([3, 2], gap="medium", border=True)
    with left:
        help_text = HELP["measured"] + (f" {HELP['speed']}" if cost == "speed" else "")
        st.markdown("##### Measured here", help=shell.definition(help_text))
        if not results:
            show_nothing()
        elif cost != "speed":
            show_measured(evaluations.rate_frame(results), group, kind, cost)
        elif timed:
            show_measured(timed[condition], f"{group}. Timed in {condition}", kind, cost)
        else:
            message = "No benchmark here timed a model that was evaluated. This measures one:"
            shell.empty(message, "svit benchmark --models PRESET --keep paper --out results/NAME")
        if results and (timed or cost != "speed"):
            figure = partial(tradeoff_figure, found, results, kind, cost)
            frame = timed[condition] if cost == "speed" else evaluations.rate_frame(results)
            shell.downloads(f"tradeoff-{kind}", frame, figure)
    with right:
        show_printed(kind, cost)
    if results:
        show_rows(evaluations.rate_frame(results))


def show_nothing() -> None:
    """The empty state of the chart."""
    looked = ", ".join(map(str, looked_in())) or "no folder that exists"
    message = f"No evaluation found below {looked}. This makes some:"
    shell.empty(escaped(message), "svit demo --out runs/demo")


def show_measured(frame: pd.DataFrame, about: str, kind: str, cost: str) -> None:
    """The chart of one group of evaluations."""
    known = frame.dropna(subset=[charts.COSTS[cost].column])
    if not len(known):
        st.info(f"No evaluation here knows its {charts.COSTS[cost].label}.")
        return
    st.altair_chart(charts.measured(known, kind, cost), width="stretch")
    st.caption(escaped(f"{about}."))


def show_printed(kind: str, cost: str) -> None:
    """The paper's Table 5 as a chart of its own."""
    st.markdown("##### In the paper", help=shell.definition(HELP["printed"]))
    printed = claims.printed_frame()
    st.altair_chart(charts.printed(printed, kind, cost), width="stretch")
    note = "" if cost in charts.PRINTED else "The paper prints no such costs; its speeds instead. "
    st.caption(
        f"{note}COCO val2017, Table 5; speeds at batch 1 on an A100. Never drawn as one curve."
    )
    shell.downloads("paper-table-5", printed)


def show_rows(evaluated: pd.DataFrame) -> None:
    """What the chart is made of."""
    with st.expander(f"All {len(evaluated)} evaluations behind the chart"):
        shown = evaluated[list(charts.COLUMNS)].rename(columns=charts.COLUMNS)
        st.dataframe(shown, hide_index=True, column_config=charts.FORMATS)


def show_controls(found: Collection, key: tuple) -> None:
    """What the masks of every model are worth."""
    full = worths(found, key)
    about = control_figures.controls.__doc__
    st.markdown("##### What masks are worth", help=shell.definition(about))
    if not full:
        message = "No model here was evaluated with its own masks and with others. This does it:"
        masks = "--intervene learned,oracle,centre,shuffle,random,off"
        shell.empty(message, f"svit evaluate --weights FILE {masks} --out results/NAME")
        return
    with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
        kind = choose(
            "AP of", "ap", control_gain.KINDS, lambda one: {"box": "boxes", "mask": "masks"}[one]
        )
        group = choose_one("Images", "data", list(full))
    with st.container(border=True):
        st.altair_chart(charts.controls(full[group], kind), width="stretch")
        st.caption(
            escaped(
                f"{group}. Masks of controls keep as many tokens as the model's own, but for none and all."
            )
        )
    with st.expander(f"All {len(full[group])} models behind the chart"):
        st.dataframe(full[group].drop(columns=["weights", "data_sha256"]).round(3), hide_index=True)
    groups = evaluations.data_groups
    shell.downloads("controls", full[group], lambda: controls_figure(groups(found.results)[group]))


def controls_figure(results: Sequence[evaluations.Evaluation]):
    """The same as a figure for a paper."""
    (product,) = control_figures.controls(Collection(results=results), DrawOptions())
    return product.figure


def tradeoff_figure(found: Collection, results: list, kind: str, cost: str):
    """The paper's figure of these results."""
    products = paper.tradeoff(found.of_results(results), DrawOptions())
    name = f"tradeoff-speed-{kind}" if cost == "speed" else f"tradeoff-{kind}"
    return next(one.figure for one in products if one.name == name)


def show_claims(found: Collection, key: tuple) -> None:
    """The ledger with filters."""
    table = ledger(found, key)
    st.markdown(f"##### {tables.counts(table)}", help=shell.definition(HELP["ledger"]))
    with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
        pills = partial(st.pills, selection_mode="multi")
        verdicts = choose_several(pills, "Verdict", "verdict", list(charts.VERDICTS))
        places = choose_several(
            st.multiselect, "Where in the paper", "where", sorted(table["where"].unique())
        )
        shell.restore("words", "")
        words = st.text_input("Claim contains", key="words", placeholder="reactivat")
        shell.restore("measured", False)
        measured = st.toggle("Only with a measurement", key="measured")
        shell.remember(words=words or None, measured=measured or None)
    kept = filtered(table, verdicts, places, words, measured)
    st.dataframe(
        charts.coloured(tables.shown_ledger(kept)),
        hide_index=True,
        height=430,
        column_config={"claim": st.column_config.TextColumn(width="large")},
    )
    st.caption(f"{kept['id'].nunique()} of {table['id'].nunique()} claims shown.")
    shell.downloads("claims", kept)
    odd = claims.inconsistencies()
    with st.expander(f"Where the paper disagrees with itself: {len(odd)} numbers"):
        st.dataframe(odd, hide_index=True)
        st.markdown("\n".join(f"- {escaped(remark)}" for remark in tables.REMARKS))
        shell.downloads("inconsistencies", odd)


def filtered(
    table: pd.DataFrame, verdicts: list[str], places: list[str], words: str, measured: bool
) -> pd.DataFrame:
    """The rows of a ledger that pass; an empty filter lets all pass."""
    keep = pd.Series(True, table.index)
    if verdicts:
        keep &= table["verdict"].isin(verdicts)
    if places:
        keep &= table["where"].isin(places)
    if words:
        keep &= table["statement"].str.contains(words, case=False, regex=False)
    if measured and "measured" in table:
        keep &= table["measured"].notna()
    return table[keep]


def show_tables(found: Collection, key: tuple) -> None:
    """Tables 2 to 5, printed beside measured."""
    made = tables.paper_tables(ledger(found, key))
    name = choose("Table of the paper", "table", TABLES)
    st.markdown(f"##### {tables.CAPTIONS[name]}", help=shell.definition(HELP["tables"]))
    pinned = {"model": st.column_config.TextColumn(width="medium", pinned=True)}
    shown = charts.paired(made[name])
    st.dataframe(shown, hide_index=True, height="content", column_config=pinned)
    shell.downloads(name.lower(), made[name])
    others = arranged(found, key)
    mine = {title: table for title, table in others.items() if title.startswith((name, "Controls"))}
    if mine:
        st.markdown(
            "##### On other models or data", help=shell.definition(tables.ELSEWHERE_CAPTION)
        )
    for title, table in mine.items():
        st.markdown(escaped(title))
        st.dataframe(table, hide_index=True, height="content", column_config=pinned)
        shell.downloads(title, table)


def main() -> None:
    """The page."""
    st.subheader("Rates: what accuracy costs", anchor=False)
    folders, runs = looked_in(), shell.runs()
    key = stamp(folders, runs)
    found = collected(folders, runs, key)
    view = choose("View", "view", VIEWS, label_visibility="collapsed")
    if view == "Trade-off":
        show_tradeoff(found)
    elif view == "Controls":
        show_controls(found, key)
    elif view == "Speed":
        speed.show(found.speeds, key)
    elif view == "Claims":
        show_claims(found, key)
    else:
        show_tables(found, key)
    if found.problems:
        with st.expander(f"Left out, because it cannot be read: {len(found.problems)}"):
            st.code("\n".join(found.problems), language=None, wrap_lines=True)
    kinds = {"evaluations": found.results, "measured speeds": found.speeds, "runs": found.runs}
    counts = ", ".join(f"{len(some)} {kind}" for kind, some in kinds.items())
    st.caption(escaped(f"Read: {counts} below {', '.join(map(str, folders))}."))


main()
