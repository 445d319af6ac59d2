"""Accuracy against cost of everything evaluated, the paper's numbers apart, the claim ledger, tables."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import pandas as pd
import streamlit as st

from analysis import claims, paper, rates, tables
from analysis.measurements import Recording, Sources
from analysis.pages import rates_charts as charts
from analysis.pages import shell
from analysis.rates import Collected

VIEWS = ("Trade-off", "Claims", "Tables")
KINDS = ("box", "mask")
TABLES = ("Table 2", "Table 3", "Table 4", "Table 5")
HELP = {
    "measured": "AP of COCO's evaluation over the complete list of images shown; vertical lines are 95 % "
    "bootstrap intervals over images. A line joins one kind of model at several keep ratios. Only "
    "evaluations of the same images share a chart.",
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
    return [folder for folder in [*shell.folders(), *dict.fromkeys(beside)] if folder.is_dir()]


def stamp(folders: list[Path], runs: list[Path]) -> tuple:
    """Changes whenever a summary or a run changes."""
    files = [file for folder in folders for file in folder.rglob("summary.json")]
    files += [file for run in runs for file in run.glob("*.json")]
    return tuple(sorted((str(file), file.stat().st_mtime_ns) for file in files))


@st.cache_resource(max_entries=2, show_spinner="Reading evaluations and runs")
def collected(_folders: list[Path], _runs: list[Path], key: tuple) -> Collected:
    """What is there; another `key` reads it anew."""
    return rates.collect(_folders, _runs)


@st.cache_data(max_entries=2, show_spinner="Comparing with the paper's claims")
def ledger(_found: Collected, key: tuple) -> pd.DataFrame:
    """The claim ledger over everything found."""
    recordings = [Recording(run) for run in _found.runs if len(run)]
    return claims.ledger(Sources(_found.results, recordings))


def choose(label: str, name: str, options: Sequence[str], labels=None, **look) -> str:
    """A row of buttons, remembered in the link."""
    shell.restore(name, options[0], options)
    shown = {} if labels is None else {"format_func": labels}
    # a second click on a chosen button unchooses it, and `restore` brings it back
    chosen = st.segmented_control(label, options, key=name, **shown, **look) or options[0]
    shell.remember(**{name: chosen})
    return chosen


def show_tradeoff(found: Collected) -> None:
    """Measured and printed trade-off side by side."""
    groups = rates.data_groups(found.results)
    with st.container(horizontal=True, vertical_alignment="bottom", gap="large"):
        kind = choose("AP of", "ap", KINDS, lambda one: {"box": "boxes", "mask": "masks"}[one])
        cost = choose("Against", "against", list(charts.COSTS), lambda one: charts.COSTS[one].label)
        group = choose_group(list(groups)) if len(groups) > 1 else next(iter(groups), None)
    left, right = st.columns([3, 2], gap="large", border=True)
    with left:
        st.markdown("##### Measured here", help=shell.definition(HELP["measured"]))
        if group is None:
            shell.empty(
                "No evaluation found below "
                + ", ".join(map(str, looked_in()))
                + ". This makes some:",
                "svit demo --out runs/demo",
            )
        else:
            frame = rates.rate_frame(groups[group], found.runs)
            show_measured(frame, group, kind, cost)
            figure = partial(tradeoff_figure, groups[group], kind)
            shell.downloads(f"tradeoff-{kind}", frame, figure)
    with right:
        st.markdown("##### Printed in the paper", help=shell.definition(HELP["printed"]))
        printed = rates.printed_frame()
        st.altair_chart(charts.printed(printed, kind, cost), width="stretch")
        note = (
            "" if cost in charts.PRINTED else "The paper prints no such costs; its speeds instead. "
        )
        st.caption(
            f"{note}COCO val2017, Table 5; speeds at batch 1 on an A100. Never drawn as one curve."
        )
        shell.downloads("paper-table-5", printed)
    if group is not None:
        with st.expander(f"All {len(frame)} evaluations behind the chart"):
            shown = frame[list(charts.COLUMNS)].rename(columns=charts.COLUMNS)
            st.dataframe(shown, hide_index=True, column_config=charts.FORMATS)


def choose_group(names: list[str]) -> str:
    """Which images; AP is comparable on the same only."""
    shell.restore("data", names[0], names)
    chosen = st.selectbox("Images", names, key="data")
    shell.remember(data=chosen)
    return chosen


def show_measured(frame: pd.DataFrame, group: str, kind: str, cost: str) -> None:
    """The chart of one group of evaluations."""
    column = charts.COSTS[cost].column
    known = frame.dropna(subset=[column])
    if not len(known):
        shell.empty(
            "No evaluation here has a recording of the same model and choices, so no speed is known. "
            "An evaluation records on the way with:",
            "svit evaluate --record runs/NAME ...",
        )
        return
    st.altair_chart(charts.measured(known, kind, cost), width="stretch")
    machines = sorted(set(known["machine"]) - {""})
    where = f" Times of one image at the recording's batch, on {', '.join(machines)}; a busy machine is slow."
    st.caption(shell.plain(f"{group}.{where if cost == 'speed' else ''}"))


def tradeoff_figure(results: list, kind: str):
    """The paper's figure of these results."""
    products = paper.tradeoff(results, argparse.Namespace())
    return next(one.figure for one in products if one.name.endswith(kind))


def show_claims(found: Collected, key: tuple) -> None:
    """The ledger with filters."""
    table = ledger(found, key)
    st.markdown(f"##### {tables.counts(table)}", help=shell.definition(HELP["ledger"]))
    with st.container(horizontal=True, vertical_alignment="bottom", gap="large"):
        verdicts = st.pills(
            "Verdict", list(charts.VERDICTS), selection_mode="multi", key="verdict", default=[]
        )
        places = st.multiselect("Where in the paper", sorted(table["where"].unique()), key="where")
        words = st.text_input("Claim contains", key="claim words", placeholder="reactivat")
        measured = st.toggle("Only with a measurement", key="measured only")
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
        st.markdown("\n".join(f"- {shell.plain(remark)}" for remark in tables.REMARKS))
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


def show_tables(found: Collected, key: tuple) -> None:
    """Tables 2 to 5, printed beside measured."""
    made = tables.paper_tables(ledger(found, key))
    name = choose("Table of the paper", "table", TABLES)
    st.markdown(f"##### {tables.CAPTIONS[name]}", help=shell.definition(HELP["tables"]))
    st.dataframe(charts.paired(made[name]), hide_index=True, height="content")
    shell.downloads(name.lower(), made[name])
    others = tables.elsewhere(found.results)
    if len(others):
        with st.expander(f"Measured on other models or data: {len(others)} (not comparable)"):
            st.dataframe(others.round(3), hide_index=True)


def main() -> None:
    """The page."""
    st.subheader("Rates: what accuracy costs", anchor=False)
    folders, runs = looked_in(), shell.runs()
    key = stamp(folders, runs)
    found = collected(folders, runs, key)
    view = choose("View", "view", VIEWS, label_visibility="collapsed")
    if view == "Trade-off":
        show_tradeoff(found)
    elif view == "Claims":
        show_claims(found, key)
    else:
        show_tables(found, key)
    if found.problems:
        with st.expander(f"Left out, because it cannot be read: {len(found.problems)}"):
            st.code("\n".join(found.problems), language=None, wrap_lines=True)
    read = f"{len(found.results)} evaluations and {len(found.runs)} runs below {', '.join(map(str, folders))}"
    st.caption(shell.plain(f"Read: {read}."))


main()
