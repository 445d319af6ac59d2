"""The Compare page's numbers: compute of this image, and differences over all common images."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
import streamlit as st

from analysis.numbers import comparison
from analysis.pages.parts import session, shell
from analysis.pages.parts.compare import charts
from analysis.pages.parts.compare.parts import Comparison
from svit.core.statistics import with_ends
from svit.core.types import ImageId, TokenTrace
from svit.runs.frames import videos_of
from svit.runs.run import Run
from svit.system.text import escaped

HELP = {
    "image": "Kept: mean over the blocks that prune in any of the runs of kept / all tokens that show "
    "image pixels. Found: annotated objects with a detection of their class at IoU 0.5 and the chosen "
    "score. No object: detections from that score on that find none. GMACs: the whole network. "
    "Changes are to the first run, of kept tokens in percentage points.",
    "costs": "Multiply-accumulates of every module, counted from the recorded masks (one MAC is two "
    "FLOPs). The box head counts the configured number of proposals, the mask head the detections.",
    "all": "Means over the images that all runs hold. Differences are to the first run, with the 95 % "
    "percentile interval over images (of frames: over videos): of kept tokens in percentage points, of "
    "objects in objects an image. "
    "The keep ratio averages over the blocks that prune in any of the runs; found / annotated objects at "
    "IoU 0.5.",
}
WIDE = st.column_config.TextColumn(width="medium")
SHARE = st.column_config.ProgressColumn(format="percent", min_value=0, max_value=1)
COLUMNS = {  # measure -> its column and how it is written
    "keep_ratio": ("kept", SHARE),
    "found": ("found", st.column_config.NumberColumn(format="%d")),
    "extra": ("no object", st.column_config.NumberColumn(format="%d")),
    "gmacs": ("GMACs", st.column_config.NumberColumn(format="%.3f")),
}
POINTS = 100  # a share's change as people read it beside per cents
CHANGES = {  # measure -> heading of its changes, how they are written; others in whole numbers
    "keep_ratio": ("change, points", "%+.1f"),
    "gmacs": ("change", "%+.3f"),
}
AT_ONCE = 300  # images of each run that are read without asking
PICKED = "row of changes picked"  # session state: the selection that was answered
NAMES = {
    "keep_ratio": "kept tokens, points",
    "usage": "blocks a token",
    "found": "objects found",
    "extra": "detections of no object",
    "gmacs": "GMACs",
}


def show_image(view: Comparison) -> None:
    """A row a run: what it keeps, finds and costs in this image, and the changes to the first."""
    st.markdown("##### Numbers of this image", help=HELP["image"])
    layers = tuple(comparison.deciding_layers(view.runs))
    tables = [
        image_table(run, key, (view.image_id,), layers, view.score)
        for run, key in zip(view.runs, view.run_key, strict=True)
    ]
    changes = [comparison.change_frame(tables[0], table) for table in tables]
    values, more = pd.concat(tables, ignore_index=True), pd.concat(changes, ignore_index=True)
    table = pd.DataFrame({"run": view.names, "differs in": view.facts})
    for name, (title, _) in COLUMNS.items():
        table[title], table[f"{title}, change"] = values[name], more[name]
    table.insert(4, "objects", values["objects"])
    columns = {title: shown for title, shown in COLUMNS.values()}
    columns |= {f"{title}, change": _signed(name) for name, (title, _) in COLUMNS.items()}
    shown = table.assign(**{"kept, change": POINTS * table["kept, change"]})
    st.dataframe(shown, hide_index=True, column_config=columns | {"run": WIDE})
    shell.downloads(f"compare-numbers-{view.image_id}", table)


def _signed(name: str):
    """How a change of a measure is written."""
    title, form = CHANGES.get(name, ("change", "%+d"))
    return st.column_config.NumberColumn(title, format=form)


def show_costs(view: Comparison, seen: Sequence[TokenTrace]) -> None:
    """Where the multiply-accumulates of this image go in each run."""
    st.markdown("##### Compute for this image", help=HELP["costs"])
    ledgers = {}
    for name, run, key, trace in zip(view.names, view.runs, view.run_key, seen, strict=True):
        try:
            ledgers[name] = ledger(run, trace, (*key, view.image_id))
        except comparison.CostError as error:
            st.caption(f"{escaped(name)}: {escaped(str(error))}")
    if not ledgers:
        return
    parts = [comparison.module_costs(frame).assign(run=name) for name, frame in ledgers.items()]
    costs, totals = pd.concat(parts, ignore_index=True), comparison.cost_summary(ledgers)
    st.altair_chart(charts.cost_bars(costs, list(ledgers)), width="stretch")
    left, right = st.columns([3, 1], vertical_alignment="center")
    said = [
        f"{row.run[0]} {row.gmacs:.2f}" + (f" ({row.change:+.1%})" if index else "")
        for index, row in enumerate(totals.itertuples())
    ]
    left.caption("Whole network in GMACs: " + " · ".join(said))
    with right:
        shell.downloads(f"compare-compute-{view.image_id}", costs)


@st.cache_data(max_entries=32, show_spinner=False)
def ledger(_run: Run, _trace: TokenTrace, key: tuple) -> pd.DataFrame:
    """`comparison.cost_frame` of one image."""
    return comparison.cost_frame(_run, [_trace])


@st.cache_data(max_entries=16, show_spinner=False)
def image_table(
    _run: Run, key: tuple, image_ids: tuple, layers: tuple, score: float
) -> pd.DataFrame:
    """`comparison.image_frame` of one run."""
    return comparison.image_frame(_run, image_ids, layers, score=score)


@st.cache_data(max_entries=16, show_spinner=False)
def summary(_tables: Sequence[pd.DataFrame], _run: Run, key: tuple) -> pd.DataFrame:
    """`comparison.summary_frame` of all runs; frames of videos are those of the first."""
    videos = videos_of(_run.frames, _tables[0]["image_id"].tolist())
    return comparison.summary_frame(_tables, videos=videos)


def show_all(view: Comparison, image_ids: list[ImageId]) -> None:
    """The runs over all common images; a row of the table below opens its image on this page."""
    st.markdown(f"##### All {len(image_ids)} common images", help=HELP["all"])
    session.restore("everywhere", len(image_ids) <= AT_ONCE)
    wanted = st.toggle(f"Read {len(image_ids)} images of each run", key="everywhere")
    session.remember(everywhere=wanted)
    if not wanted:
        return
    layers = tuple(comparison.deciding_layers(view.runs))
    with st.spinner(f"Reading {len(image_ids)} images of {len(view.runs)} runs", show_time=True):
        tables = [
            image_table(run, key, tuple(image_ids), layers, view.score)
            for run, key in zip(view.runs, view.run_key, strict=True)
        ]
        means = summary(tables, view.runs[0], (view.run_key, tuple(image_ids), view.score))
    show_means(view, means)
    show_changes(view, tables)


def show_means(view: Comparison, means: pd.DataFrame) -> None:
    """A row a run: its means, and its differences with their intervals."""
    table, rows = (
        pd.DataFrame({"run": view.names, "differs in": view.facts}),
        means.to_dict("records"),
    )
    parts = {"kept": "keep_ratio", "objects found": "found", "GMACs": "gmacs"}
    for title, name in parts.items():
        table[title] = means["found_share" if name == "found" else name]
        table[f"{title}, change"] = ["reference", *(interval(row, name) for row in rows[1:])]
    columns = {"kept": SHARE, "objects found": SHARE, "GMACs": COLUMNS["gmacs"][1], "run": WIDE}
    titles = {"kept": "change, points", "objects found": "change, objects an image"}
    columns |= {f"{title}, change": titles.get(title, "change") for title in parts}
    st.dataframe(table, hide_index=True, column_config=columns)
    shell.downloads("compare-runs", means.assign(run=view.names))


def interval(row: dict, name: str) -> str:
    """A mean difference with its interval; empty where it is unknown."""
    shares = name == "keep_ratio"
    ends = [row[f"{name}_{end}"] * (POINTS if shares else 1) for end in ("change", "low", "high")]
    return "" if pd.isna(ends[0]) else with_ends(*ends, "+.1f" if shares else "+.3f")


def show_changes(view: Comparison, tables: Sequence[pd.DataFrame]) -> None:
    """A row an image: one run against the first, the largest differences first."""
    others = list(view.names[1:])
    left, right = st.columns(2)
    session.restore("other", others[0], others)
    other = left.selectbox("Against the first run", others, key="other")
    session.restore("change_of", next(iter(NAMES)), NAMES)
    measure = right.selectbox(
        "Largest change of", list(NAMES), format_func=NAMES.get, key="change_of"
    )
    session.remember(other=other, change_of=measure)
    changes = comparison.change_frame(tables[0], tables[1 + others.index(other)])
    ranked = comparison.largest_first(changes, measure)
    shown = ranked.assign(keep_ratio=POINTS * ranked["keep_ratio"]).rename(columns=NAMES)
    number = st.column_config.NumberColumn(format="%+.3f")
    whole = st.column_config.NumberColumn(format="%+d")
    columns = {name: number for name in NAMES.values()} | {
        NAMES["keep_ratio"]: st.column_config.NumberColumn(format="%+.1f"),
        NAMES["found"]: whole,
        NAMES["extra"]: whole,
    }
    picked = st.dataframe(
        shown,
        hide_index=True,
        height=280,
        column_config=columns,
        on_select="rerun",
        selection_mode="single-row",
        key=f"changes {other} {measure}",
    )
    st.caption("Select a row to open its image above.")
    shell.downloads("compare-images", ranked)
    rows = list(picked["selection"]["rows"])
    if (other, measure, rows) == st.session_state.get(
        PICKED
    ):  # answered: other controls may move on
        return
    st.session_state[PICKED] = (other, measure, rows)
    chosen = ranked["image_id"].iloc[rows[0]] if rows and rows[0] < len(ranked) else view.image_id
    if chosen != view.image_id:
        session.change(image=str(chosen))
        st.rerun()
