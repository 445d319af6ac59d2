"""Accuracy against cost of all that was evaluated, measured speed, the claim ledger, the paper's tables."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

import pandas as pd
import streamlit as st

from analysis.figures.output import RenderError
from analysis.figures.rates import controls, tradeoff, tradeoff_screen, tradeoff_speed
from analysis.figures.rates.points import Points
from analysis.pages.parts import session, shell
from analysis.pages.parts.rates import charts, origins, runs, slices, speed
from analysis.paper import claims, tables
from analysis.sources import benchmarks, collection, control_gain, evaluations
from analysis.sources.collection import Collection
from analysis.sources.evaluations import Evaluation
from analysis.sources.rates import rate_frame
from svit.system.text import escaped

VIEWS = ("Trade-off", "Runs", "Controls", "Slices", "Speed", "Claims", "Tables")
TABLES = ("Table 2", "Table 3", "Table 4", "Table 5")
CONTROLS = (
    "svit evaluate --weights FILE --dataset JSON --image-root FOLDER "
    "--intervene learned,oracle,centre,shuffle,random,off --out results/NAME"
)
KINDS = {"box": "boxes", "mask": "masks"}  # of AP
HELP = {
    "printed": "What Table 5 of the paper prints, for COCO and one A100. Only results of the same models on "
    "COCO val2017 have it in their own chart, as open marks; speeds of another machine share no axis.",
    "ledger": "A measurement confirms or contradicts a claim only if it is of the same kind: model, size, "
    "neck, keep ratios, COCO val2017 complete. Otherwise the claim is not tested; the column “direction "
    "elsewhere” says what other models and data hint at, “noise” what it had to exceed, “left out” which "
    "results are not alike and why, “others” what other people measured.",
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
    tables_of = {}
    for name, group in evaluations.data_groups(_found.results).items():
        with suppress(RenderError):  # none of these has controls
            tables_of[name] = controls.frame(group)
    return tables_of


@st.cache_data(max_entries=2, show_spinner="Putting models in the paper's order")
def arranged(_found: Collection, key: tuple) -> dict[str, pd.DataFrame]:
    """The paper's tables with other models."""
    return tables.arranged(_found.results, _found.accuracies)


def choose(label: str, name: str, options: Sequence[str], labels=None, **look) -> str:
    """A row of buttons, remembered in the link."""
    session.restore(name, options[0], options)
    shown = {} if labels is None else {"format_func": labels}
    # a second click on a chosen button unchooses it, and `restore` brings it back
    chosen = st.segmented_control(label, options, key=name, **shown, **look) or options[0]
    session.remember(**{name: chosen})
    return chosen


def choose_several(place: Callable, label: str, name: str, options: Sequence[str]) -> list[str]:
    """Any number of options, remembered in the link; `place` draws the widget."""
    if name not in st.session_state:
        wanted = session.recalled(name, ())
        st.session_state[name] = [part for part in wanted if part in options]
        if len(st.session_state[name]) < len(wanted):
            session.object_to(name, "which is not here")
    chosen = place(label, options, key=name)
    session.remember(**{name: tuple(chosen)})
    return list(chosen)


def choose_one(label: str, name: str, options: list[str]) -> str:
    """One of several long names; no widget where there is no choice."""
    return options[0] if len(options) == 1 else shell.choose_name(label, name, options)


def show_tradeoff(found: Collection) -> None:
    """Measured and printed trade-off side by side."""
    groups = evaluations.data_groups(found.results)
    results, timed = [], {}
    with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
        kind = choose("AP of", "ap", list(KINDS), KINDS.get)
        cost = choose("Against", "against", list(charts.COSTS), lambda one: charts.COSTS[one].label)
        if groups:
            group = choose_one("Images", "data", list(groups))
            # the view Controls has those with other masks
            results = of_families(evaluations.own_masks(groups[group]) or groups[group])
            speeds = benchmarks.speed_frames(results, found.speeds)
            timed = {name: told(frame, results) for name, frame in speeds.items()}
        if cost == "speed" and timed:
            condition = choose_one("Measured as", "timing", list(timed))
    with st.container(border=True):
        about = tradeoff_speed if cost == "speed" else tradeoff
        st.markdown("##### Measured here", help=shell.definition(about.__doc__))
        if not results:
            show_nothing()
        elif cost != "speed":
            rates = told(rate_frame(results), results)
            kind = with_annotations(kind, tradeoff.measured(rates))
            show_measured(rates, group, kind, cost)
            figure = partial(tradeoff.compose, rates, kind, [charts.COSTS[cost].column])
            shell.downloads(f"tradeoff-{kind}-{cost}", rates, figure)
        else:
            note = tradeoff_speed.refused(found.of_results(results))
            show_timed(timed, condition if timed else "", f"{group}. Timed in", kind, note)
    with st.container(border=True):
        show_printed(kind, cost)


def with_annotations(kind: str, known: Sequence[str]) -> str:
    """The chosen kind of AP, or that of boxes where the data have no masks, which is told."""
    if kind in known:
        return kind
    st.caption("These data have no masks: AP of boxes.")
    return "box"


def of_families(results: Sequence[Evaluation]) -> list[Evaluation]:
    """The results of the chosen families of methods, all at first; dense models stay as the level."""
    families = list(dict.fromkeys(one.facts.method for one in results))
    pruning = [name for name in families if name != "dense"]
    if len(pruning) < 2:
        return list(results)
    pills = partial(st.pills, selection_mode="multi")
    chosen = choose_several(pills, "Families", "families", pruning) or pruning
    return [one for one in results if one.facts.method in ("dense", *chosen)]


def told(table: pd.DataFrame, results: Sequence[Evaluation]) -> pd.DataFrame:
    """A frame of results with where they come from."""
    return origins.sourced(table, results, looked_in())


def show_nothing() -> None:
    """The empty state of the chart."""
    looked = ", ".join(map(str, looked_in())) or "no folder that exists"
    message = f"No evaluation found below {looked}. This makes some:"
    shell.empty(escaped(message), "svit demo --out runs/demo")


def show_measured(frame: pd.DataFrame, about: str, kind: str, cost: str) -> None:
    """AP over a cost of one group of evaluations, and beside it all kinds at the ratio they share."""
    chosen = charts.COSTS[cost]
    points = Points(frame, kind, chosen.column)
    if not len(points.rows):
        st.info(f"No evaluation here knows its {chosen.label}.")
        return
    left, right = (st.container(), None)
    if points.shared is not None:
        left, right = st.columns([3, 2], gap="medium")
    left.altair_chart(tradeoff_screen.screen(points, chosen.title), width="stretch")
    if right is not None:
        right.altair_chart(tradeoff_screen.screen_ranked(points), width="stretch")
    st.caption(escaped(f"{about}."))


def show_timed(
    timed: dict[str, pd.DataFrame], condition: str, about: str, kind: str, note: str
) -> None:
    """AP over the speeds of one condition, and what was timed at other ratios."""
    if not timed:
        message = "No benchmark here timed a model that was evaluated. This measures one:"
        shell.empty(message, "svit benchmark --models PRESET --keep paper --out results/NAME")
    else:
        kind = with_annotations(kind, tradeoff.measured(timed[condition]))
        show_measured(timed[condition], f"{about} {condition}", kind, "speed")
        figure = partial(tradeoff_speed.compose, {condition: timed[condition]}, kind, note)
        shell.downloads(f"tradeoff-speed-{kind}", timed[condition], figure)
    if note:
        st.caption(escaped(note))


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


def show_controls(found: Collection, key: tuple) -> None:
    """What the masks of every model are worth."""
    full = worths(found, key)
    st.markdown("##### What masks are worth", help=shell.definition(controls.__doc__))
    if not full:
        message = "No model here was evaluated with its own masks and with others. This does it:"
        shell.empty(message, CONTROLS)
        return
    with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
        kind = choose("AP of", "ap", list(KINDS), KINDS.get)
        group = choose_one("Images", "data", list(full))
    with st.container(border=True):
        kind = with_annotations(kind, control_gain.kinds_of(full[group]))
        for number, part in enumerate(controls.blocks(full[group], kind)):
            if number:
                st.caption("Far below these, on an axis of their own:")
            st.altair_chart(controls.screen(part, kind), width="stretch")
        st.caption(
            escaped(
                f"{group}. Masks of controls keep as many tokens as the model's own, but for none and all."
            )
        )
    with st.expander(f"All {len(full[group])} models behind the chart"):
        st.dataframe(full[group].drop(columns=["weights", "data_sha256"]).round(3), hide_index=True)
    figure = partial(controls.compose, full[group], kind)
    shell.downloads(f"controls-{kind}", full[group], figure)


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
        session.restore("words", "")
        words = st.text_input("Claim contains", key="words", placeholder="reactivat")
        session.restore("measured", False)
        measured = st.toggle("Only with a measurement", key="measured")
        session.remember(words=words, measured=measured)
    kept = filtered(table, verdicts, places, words, measured)
    kept = origins.placed(kept, "source", looked_in())
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
    folders, recorded = looked_in(), shell.runs()
    key = collection.stamp(folders, recorded)
    found = collected(folders, recorded, key)
    view = choose("View", "view", VIEWS, label_visibility="collapsed")
    if view == "Trade-off":
        show_tradeoff(found)
    elif view == "Runs" and found.results:
        runs.show(found.results, folders)
    elif view == "Runs":
        show_nothing()
    elif view == "Controls":
        show_controls(found, key)
    elif view == "Slices":
        slices.show(found, key)
    elif view == "Speed":
        speed.show(found.speeds, key, folders)
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
