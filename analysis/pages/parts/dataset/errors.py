"""The Dataset page's errors: missed objects, what their tokens did, and whether a second run finds them."""

from __future__ import annotations

import pandas as pd
import streamlit as st
from matplotlib.figure import Figure

from analysis.figures.objects import misses
from analysis.numbers import comparison, matching, per_image
from analysis.pages.parts import shell
from analysis.pages.parts.compare.parts import BETWEEN
from analysis.pages.parts.dataset.parts import (
    IMAGE_PAGE,
    NOTHING,
    Survey,
    clicked_point,
    link,
    object_crop,
    thumbnail,
    unannotated,
)
from analysis.sources import labels
from svit.core.coverage import SIZES
from svit.runs.run import Run
from svit.system.text import escaped

COMPARE_PAGE = shell.page_file("compare")
NOBODY, ALL = "no second run", "all"
ROWS = 60  # objects with a thumbnail at a time
HELP = {
    "fates": "Missed / annotated objects by what their tokens did: every block used at least half of "
    "them, a block used less and a later one half again, or none did again. Grey marks: the share of the "
    "same objects that the second run misses. An association is no cause: small objects lose more tokens "
    "and are missed more often; compare within a size, and with a dense run. A click on a bar filters "
    "the table.",
    "shares": "Mean share of an object's tokens that a block uses, of found and of missed objects; bands "
    "are two standard errors.",
    "score": "Detections below this score find nothing.",
    "table": "Every missed object whose tokens some block pruned by more than half; those that the second "
    "run finds come first. dropped: the first such block; back: the first later block that uses half of "
    "them again.",
    "second": "A dense run tells whether the object is hard or its tokens were missing.",
}


@st.cache_data(max_entries=8, show_spinner=False)
def errors(_run: Run, _other: Run | None, key: tuple, score: float) -> tuple[pd.DataFrame, int]:
    """Matches of all images, and how many images there are."""
    ids = per_image.scored_ids(_run, _other)
    samples = _run.samples("trace", "target", "detections", ids=ids)
    found = None if _other is None else (one for (one,) in _other.samples("detections", ids=ids))
    return matching.error_frame(samples, _run.class_names, found, score=score), len(ids)


def show(survey: Survey) -> None:
    """The part."""
    run = survey.run
    for needed in ("objects", "detections"):
        if not survey.has(needed):
            unannotated("annotations" if needed == "objects" else needed)
            return
    name, other = choose_second(survey)
    with st.sidebar:
        shell.restore("score", 0.5, within=(0.0, 1.0))
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
    show_table(survey, other, frame)
    if other is not None:
        shell.provenance(other)


def choose_second(survey: Survey) -> tuple[str, Run | None]:
    """The sidebar's second run: at first a dense one on the same images."""
    known = {
        name: path for name, path in labels.choices(shell.runs()).items() if path != survey.run.path
    }
    options = [NOBODY, *known]
    with st.sidebar:
        if st.session_state.get("second") not in options:
            path = comparison.partner(survey.run, known.values(), "dense")
            dense = next((name for name in known if known[name] == path), NOBODY)
            shell.restore("second", dense, options)
        name = st.selectbox("Second run", options, key="second", help=HELP["second"])
        shell.remember(second=name)
    other = None if name == NOBODY else shell.opened(known[name])
    if other is not None and not comparison.common_ids([survey.run, other]):
        st.warning(f"{escaped(name)} holds none of this run's images; it is left out.")
        other = None
    return name, other


def show_charts(frame: pd.DataFrame, other: str) -> None:
    """Miss rates by fate, and shares of found and missed objects of a size."""
    fates = per_image.reference_rates(matching.fate_frame(frame))
    left, right = st.columns(2, gap="medium")
    with left:
        st.markdown("##### Miss rate by what tokens did", help=HELP["fates"])
        st.altair_chart(
            misses.screen(fates, other),
            width="stretch",
            key="fates",
            on_select=choose_fate,
            selection_mode=["picked"],
        )
        shell.downloads("dataset-fates", fates, lambda: fate_figure(frame, other))
    with right:
        st.markdown("##### Tokens of found and missed", help=HELP["shares"])
        shares = per_image.share_bands(matching.share_frame(frame))
        sizes = [size for size in SIZES if size in set(shares["size"])]
        if not sizes:
            st.caption("No object covers a token.")
            return
        shell.restore("size of objects", sizes[0], sizes)
        size = st.segmented_control(
            "Size", sizes, key="size of objects", required=True, label_visibility="collapsed"
        )
        shell.remember(**{"size of objects": size})
        chart = misses.screen_shares(shares[shares["size"] == size])
        st.altair_chart(chart.properties(height=244), width="stretch")
        shell.downloads("dataset-shares", shares)


def choose_fate() -> None:
    """Callback: the list shows the size and fate of the bar that was clicked."""
    point = clicked_point("fates", "size", "fate")
    if point:
        st.session_state["error size"], st.session_state["error fate"] = (
            point["size"],
            point["fate"],
        )


def show_table(survey: Survey, other: Run | None, frame: pd.DataFrame) -> None:
    """The browser of missed objects whose tokens were pruned."""
    missed = per_image.pruned_misses(frame)
    st.markdown(f"##### {len(missed)} missed objects whose tokens were pruned", help=HELP["table"])
    rows = filtered(missed, other is not None)
    if rows.empty:
        st.info("No such object.", icon=":material/task_alt:")
        return
    pages, page = -(-len(rows) // ROWS), 1
    if pages > 1:
        page = st.columns([1, 5])[0].number_input("Page", 1, pages, key="error page")
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
    row = shown.iloc[picks[0]] if picks and picks[0] < len(shown) else linked(rows)
    if row is None:
        st.caption("Select a row to see the object block by block.")
    else:
        shell.remember(missed=f"{row['image_id']}/{row['object']}")
        show_object(survey, other, row)


def linked(rows: pd.DataFrame) -> pd.Series | None:
    """The object that a link or the last choice names, where the filters leave it."""
    names = rows["image_id"].astype(str) + "/" + rows["object"].astype(str)
    found = rows[names == shell.recalled("missed", "")]
    return None if found.empty else found.iloc[0]


def filtered(missed: pd.DataFrame, has_second: bool) -> pd.DataFrame:
    """The rows that the filters leave."""
    places = st.columns(4)
    choices = {
        "error size": ("Size", missed["size"], [ALL, *SIZES]),
        "error fate": ("Tokens", missed["fate"], [ALL, *misses.SHORT]),
        "error class": ("Class", missed["class"], [ALL, *sorted(missed["class"].unique())]),
    }
    keep = pd.Series(True, index=missed.index)
    for place, (key, (label, column, options)) in zip(places, choices.items()):
        shell.restore(key, ALL, options)
        chosen = place.selectbox(
            label, options, key=key, format_func=lambda name: misses.SHORT.get(name, name)
        )
        shell.remember(**{key: None if chosen == ALL else chosen})
        if chosen != ALL:
            keep &= column == chosen
    if has_second:
        words = {"found": True, "missed, too": False}
        shell.restore("error second", ALL, [ALL, *words])
        chosen = places[3].selectbox("Second run", [ALL, *words], key="error second")
        shell.remember(**{"error second": None if chosen == ALL else chosen})
        if chosen != ALL:
            keep &= missed["dense_found"] == words[chosen]
    return missed[keep].reset_index(drop=True)


def table_of(survey: Survey, rows: pd.DataFrame, has_second: bool) -> pd.DataFrame:
    """What the table shows of `matching.error_frame`, with a picture of each object at its drop."""
    run = survey.run
    crops = (
        object_crop(run, survey.key, row.image_id, row.object, int(row.dropped), 96)
        for row in rows.itertuples()
    )
    pictures = [None if jpeg is None else shell.data_address(jpeg, "jpeg") for jpeg in crops]
    used = [f"used_{block}" for block in range(1, run.layers + 1)]
    table = pd.DataFrame({"object": pictures, "image": rows["image_id"], "class": rows["class"]})
    table["size"], table["tokens"] = rows["size"], rows["fate"].map(misses.SHORT)
    table["dropped"] = rows["dropped"].astype("Int64")
    table["back"] = rows["back"].astype("Int64").astype("string").fillna("never")
    table["tokens used by block"] = rows[used].to_numpy().tolist()
    if has_second:
        table["second run"] = rows["dense_found"].map({True: "finds it", False: "misses it"})
    return table


def columns_of(layers: int) -> dict:
    """How the list shows its columns, by their name."""
    blocks = f"share of the object's tokens that each of the {layers} blocks uses"
    return {
        "object": st.column_config.ImageColumn("at the drop", width="small"),
        "dropped": st.column_config.NumberColumn(help="first block under half of its tokens"),
        "back": st.column_config.TextColumn(help="first later block with half of them again"),
        "tokens used by block": st.column_config.BarChartColumn(
            help=blocks, y_min=0, y_max=1, width="medium"
        ),
    }


def show_object(survey: Survey, other: Run | None, row: pd.Series) -> None:
    """One missed object: its tokens at every block from the drop on, in both runs."""
    run, image_id, dropped = survey.run, row["image_id"], int(row["dropped"])
    verdict = ""
    if other is not None:
        verdict = (
            " The second run finds it." if row["dense_found"] else " The second misses it, too."
        )
    back = "" if pd.isna(row["back"]) else f", back at block {int(row['back'])}"
    st.markdown(f"##### {escaped(row['class'])} in image {escaped(str(image_id))}")
    st.caption(
        f"Under half of its tokens at block {dropped}{back}.{verdict} Below each picture: the block, "
        "and the share of the object's tokens that it uses."
    )
    for one in filter(None, (run, other)):
        st.markdown(f"###### {escaped(one.path.name)}")
        show_blocks(survey, one, row)
    whole, ways = st.columns([1, 5], vertical_alignment="center")
    jpeg = thumbnail(run, survey.key, image_id)
    if jpeg is not None:
        whole.image(jpeg, width="stretch")
    there = link(run, image_id, block=dropped, score=st.session_state["score"])
    icon = {"icon": ":material/open_in_new:"}
    ways.page_link(IMAGE_PAGE, label="Open the image", query_params=there, **icon)
    if other is not None:
        there["runs"] = BETWEEN.join((there["run"], st.session_state["second"]))
        ways.page_link(
            COMPARE_PAGE, label="Compare both runs on the image", query_params=there, **icon
        )


def show_blocks(survey: Survey, masks: Run, row: pd.Series) -> None:
    """The object under the masks of a run, block by block from the drop on."""
    run, image_id, index = survey.run, row["image_id"], int(row["object"])
    target, trace = run.target(image_id), masks.trace(image_id)
    used = matching.object_shares(trace, target)[index]
    key = (survey.key, Survey(masks).key)
    blocks = range(int(row["dropped"]), trace.layers + 1)
    for place, block in zip(st.columns(max(len(blocks), 6), gap="xsmall"), blocks):
        jpeg = object_crop(run, key, image_id, index, block, 160, masks)
        if jpeg is not None:
            place.image(jpeg, width="stretch")
        place.caption(f"{block} · {used[block - 1]:.0%}")


def fate_figure(frame: pd.DataFrame, other: str) -> Figure:
    """Fates of the annotated objects by their size, for the download.

    Args:
        frame: a row an object, see `matching.fate_frame`.
        other: what to call objects without a fate.
    """
    page = Figure(figsize=(4.2, 2.6))
    order = pd.Categorical(frame["size"], list(SIZES))
    fates = matching.fate_frame(frame.assign(size=order).sort_values("size"))
    misses.print(fates, page.subplots(), other=other)
    return page
