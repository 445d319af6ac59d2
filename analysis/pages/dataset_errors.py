"""The Dataset page's errors: missed objects, what their tokens did, and whether a second run finds them."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import streamlit as st
from matplotlib.figure import Figure

from analysis import comparison, drilldown, insight_figures, matching
from analysis.pages import dataset_charts, shell
from analysis.pages.dataset_charts import FATE_NAMES
from analysis.pages.dataset_parts import (
    IMAGE_PAGE,
    NOTHING,
    Survey,
    address,
    link,
    object_crop,
    picked,
    thumbnail,
    unannotated,
)
from svit.store import Run, RunError, open_run

NOBODY, ALL = "no second run", "all"
ROWS = 60  # objects with a thumbnail at a time
SIZES = ("small", "medium", "large")
HELP = {
    "fates": "Missed / annotated objects by what their tokens did: every block used at least half of "
    "them, a block used less and a later one half again, or none did again. Grey marks: the share of the "
    "same objects that the second run misses. An association is no cause: small objects lose more tokens "
    "and are missed more often; compare within a size, and with a dense run. A click on a bar filters "
    "the table.",
    "shares": "Mean share of an object's tokens that a block uses, of found and of missed objects; bands "
    "are two standard errors.",
    "score": "Detections below this score find nothing.",
    "table": "Every missed object whose tokens some block pruned by more than half. dropped: the first "
    "such block; back: the first later block that uses half of them again.",
    "second": "A dense run tells whether the object is hard or its tokens were missing.",
}


@st.cache_data(max_entries=8, show_spinner=False)
def errors(_run: Run, _other: Run | None, key: tuple, score: float) -> tuple[pd.DataFrame, int]:
    """Matches of all images, and how many images there are."""
    samples, found, count = drilldown.paired_samples(_run, _other)
    return matching.error_frame(samples, _run.class_names, found, score=score), count


def show(survey: Survey) -> None:
    """The part."""
    run = survey.run
    for needed in ("objects", "detections"):
        if not survey.has(needed):
            unannotated("annotations" if needed == "objects" else needed)
            return
    name, other = choose_second(survey)
    with st.sidebar:
        shell.restore("score", 0.5)
        st.session_state["score"] = min(max(st.session_state["score"], 0.0), 1.0)
        score = st.slider(
            "Detections from score", 0.0, 1.0, step=0.05, key="score", help=HELP["score"]
        )
        shell.remember(score=score)
    key = (survey.key, None if other is None else Survey(other).key)
    with st.spinner(f"Matching the detections of {len(run):,} images", show_time=True):
        frame, count = errors(run, other, key, score)
    if frame.empty:
        shell.empty(
            "No annotated object in the images of these runs. Record a COCO data set:", NOTHING
        )
        return
    if count < len(run):
        st.caption(
            f"{count} of the run's {len(run)} images count: both runs hold their detections."
        )
    show_charts(frame, name if other is not None else "")
    show_table(survey, other, key, frame)


def choose_second(survey: Survey) -> tuple[str, Run | None]:
    """The sidebar's second run: at first a dense one on the same images."""
    known = {
        name: path for name, path in shell.labels(shell.runs()).items() if path != survey.run.path
    }
    options = [NOBODY, *known]
    with st.sidebar:
        shell.restore("second", usual(survey.run, known), options)
        name = st.selectbox("Second run", options, key="second", help=HELP["second"])
        shell.remember(second=name)
    other = None if name == NOBODY else shell.opened(known[name])
    if other is not None and not comparison.common_ids([survey.run, other]):
        st.warning(f"{shell.plain(name)} holds none of this run's images; it is left out.")
        other = None
    return name, other


def usual(run: Run, known: dict[str, Path]) -> str:
    """A dense run with images of this one."""
    for name, path in known.items():
        try:
            other = open_run(path)
        except RunError:
            continue
        if other.provenance.get("method") == "dense" and comparison.common_ids([run, other]):
            return name
    return NOBODY


def show_charts(frame: pd.DataFrame, other: str) -> None:
    """Miss rates by fate, and shares of found and missed objects of a size."""
    fates = drilldown.reference_rates(matching.fate_frame(frame))
    left, right = st.columns(2, gap="medium")
    with left:
        st.markdown("##### Missed objects by what their tokens did", help=HELP["fates"])
        st.altair_chart(
            dataset_charts.fate_bars(fates, other),
            width="stretch",
            key="fates",
            on_select=choose_fate,
            selection_mode=["picked"],
        )
        shell.downloads("dataset-fates", fates, lambda: fate_figure(frame, other))
    with right:
        st.markdown("##### Tokens of found and missed objects", help=HELP["shares"])
        shares = drilldown.share_bands(matching.share_frame(frame))
        sizes = [size for size in SIZES if size in set(shares["size"])]
        if not sizes:
            st.caption("No object covers a token.")
            return
        shell.restore("size of objects", sizes[0], sizes)
        size = st.segmented_control(
            "Size", sizes, key="size of objects", required=True, label_visibility="collapsed"
        )
        chart = dataset_charts.share_lines(shares[shares["size"] == size])
        st.altair_chart(chart.properties(height=246), width="stretch")
        shell.downloads("dataset-shares", shares)


def choose_fate() -> None:
    point = picked("fates", "size", "fate")
    if point:
        st.session_state["error size"], st.session_state["error fate"] = (
            point["size"],
            point["fate"],
        )


def show_table(survey: Survey, other: Run | None, key: tuple, frame: pd.DataFrame) -> None:
    """The browser of missed objects whose tokens were pruned."""
    missed = drilldown.pruned_misses(frame)
    st.markdown(f"##### {len(missed)} missed objects whose tokens were pruned", help=HELP["table"])
    rows = filtered(missed, other is not None)
    if rows.empty:
        st.info("No such object.", icon=":material/task_alt:")
        return
    pages = -(-len(rows) // ROWS)
    page = st.number_input("Page", 1, pages, key="error page") if pages > 1 else 1
    shown = rows.iloc[(page - 1) * ROWS : page * ROWS].reset_index(drop=True)
    event = st.dataframe(
        table_of(survey, shown, other is not None),
        hide_index=True,
        row_height=64,
        height=420,
        column_config=columns_of(survey.run.layers),
        on_select="rerun",
        selection_mode="single-row",
        key=f"errors {page}",
    )
    shell.downloads("dataset-errors", missed, frame)
    picks = event["selection"]["rows"]
    if picks and picks[0] < len(shown):
        show_object(survey, shown.iloc[picks[0]], other is not None)
    else:
        st.caption("Select a row to see the object block by block.")


def filtered(missed: pd.DataFrame, has_second: bool) -> pd.DataFrame:
    """The rows that the filters leave."""
    places = st.columns(4)
    choices = {
        "error size": ("Size", missed["size"], [ALL, *SIZES]),
        "error fate": ("Tokens", missed["fate"], [ALL, *FATE_NAMES]),
        "error class": ("Class", missed["class"], [ALL, *sorted(missed["class"].unique())]),
    }
    keep = pd.Series(True, index=missed.index)
    for place, (key, (label, column, options)) in zip(places, choices.items()):
        shell.restore(key, ALL, options)
        chosen = place.selectbox(
            label, options, key=key, format_func=lambda name: FATE_NAMES.get(name, name)
        )
        shell.remember(**{key: None if chosen == ALL else chosen})
        if chosen != ALL:
            keep &= column == chosen
    if has_second:
        words = {"found": True, "missed, too": False}
        shell.restore("error second", ALL, [ALL, *words])
        chosen = places[3].selectbox("Second run", [ALL, *words], key="error second")
        if chosen != ALL:
            keep &= missed["dense_found"] == words[chosen]
    return missed[keep].reset_index(drop=True)


def table_of(survey: Survey, rows: pd.DataFrame, has_second: bool) -> pd.DataFrame:
    """What the table shows of `matching.error_frame`, with a picture of each object at its drop."""
    run = survey.run
    pictures = [
        address(object_crop(run, survey.key, row.image_id, row.object, int(row.dropped), 96))
        for row in rows.itertuples()
    ]
    used = [f"used_{block}" for block in range(1, run.layers + 1)]
    table = pd.DataFrame({"object": pictures, "image": rows["image_id"], "class": rows["class"]})
    table["size"], table["tokens"] = rows["size"], rows["fate"].map(FATE_NAMES)
    table["dropped"], table["back"] = rows["dropped"].astype("Int64"), rows["back"].astype("Int64")
    table["tokens used by block"] = rows[used].to_numpy().tolist()
    if has_second:
        table["second run"] = rows["dense_found"].map({True: "finds it", False: "misses it"})
    return table


def columns_of(layers: int) -> dict:
    blocks = f"share of the object's tokens that each of the {layers} blocks uses"
    return {
        "object": st.column_config.ImageColumn("at the drop", width="small"),
        "dropped": st.column_config.NumberColumn(help="first block under half of its tokens"),
        "back": st.column_config.NumberColumn(help="first later block with half of them again"),
        "tokens used by block": st.column_config.BarChartColumn(
            help=blocks, y_min=0, y_max=1, width="medium"
        ),
    }


def show_object(survey: Survey, row: pd.Series, has_second: bool) -> None:
    """One missed object: its picture, and its tokens at every block from the drop on."""
    run, image_id, index = survey.run, row["image_id"], int(row["object"])
    verdict = ""
    if has_second:
        verdict = (
            " The second run finds it." if row["dense_found"] else " The second run misses it, too."
        )
    back = "" if pd.isna(row["back"]) else f", back at block {int(row['back'])}"
    st.markdown(f"##### {shell.plain(row['class'])} in image {shell.plain(str(image_id))}")
    st.caption(f"Under half of its tokens from block {int(row['dropped'])} on{back}.{verdict}")
    blocks = range(int(row["dropped"]), run.layers + 1)
    for start in range(0, len(blocks), 6):
        for place, block in zip(st.columns(6, gap="small"), blocks[start : start + 6]):
            jpeg = object_crop(run, survey.key, image_id, index, block, 220)
            if jpeg is not None:
                place.image(jpeg, width="stretch")
            place.caption(f"block {block}: {row[f'used_{block}']:.0%} used")
    left, right = st.columns([1, 5], vertical_alignment="center")
    whole = thumbnail(run, survey.key, image_id)
    if whole is not None:
        left.image(whole, width="stretch")
    right.page_link(
        IMAGE_PAGE,
        label="Open the image",
        icon=":material/open_in_new:",
        query_params=link(run, image_id),
    )


def fate_figure(frame: pd.DataFrame, other: str) -> Figure:
    page = Figure(figsize=(4.2, 2.6))
    order = pd.Categorical(frame["size"], SIZES)
    fates = matching.fate_frame(frame.assign(size=order).sort_values("size"))
    insight_figures.fate_bars(fates, page.subplots(), other=other)
    return page
