"""The Dataset page's missed objects: why each was missed, and the ways on to its image and to Live."""

from __future__ import annotations

import shlex

import pandas as pd
import streamlit as st

from analysis.figures.objects import misses
from analysis.numbers import biography, matching
from analysis.numbers import missed as numbers
from analysis.numbers import usage as metrics
from analysis.pages.parts import session, shell
from analysis.pages.parts.dataset.parts import IMAGE_PAGE, Survey, link, object_crop
from analysis.pages.parts.image.gallery import small
from svit.core.coverage import SIZES
from svit.runs.frames import videos_of
from svit.runs.rescue import Rescue, read_rescue, rescue_files
from svit.runs.run import Run
from svit.system.text import counted, escaped

COMPARE_PAGE, LIVE_PAGE = shell.page_file("compare"), shell.page_file("live")
ALL = "all"
ROWS = 50  # objects with a thumbnail at a time
FILTER, ORDER = 130, 210  # screen pixels: what the longest choice needs
SECOND = {"finds it": True, "misses it": False}
RESCUED = {"comes back": True, "stays missed": False}
HELP = {
    "table": "Every annotated object that no detection of its class finds from the score on, at a box IoU of "
    "0.5. error: TIDE's type among the detections from the score on. nearest: the best match at any score: "
    "what would find the object were its score higher, else the surest detection on top of it, else the one "
    "that overlaps it most. dropped: the first block that uses less than half of its tokens; back: the first "
    "later block that uses half of them again. A click on the head of a column sorts, too.",
    "order": "Of all pages together; a click on the head of a column sorts one page.",
}


@st.cache_data(max_entries=8, show_spinner=False)
def answers(_run: Run, key: tuple, stamp: tuple) -> tuple[Rescue | None, str]:
    """What keeping the tokens of missed objects did, and that in a sentence."""
    known = read_rescue(_run.path)
    if known is None:
        return None, ""
    videos = videos_of(_run.frames, _run.image_ids)
    asked = f"score {known.facts['score']:g}, 95 % interval over {'images' if videos is None else 'videos'}"
    return known, f"{known.sentence(_run.image_ids, videos)} ({asked})."


def show_answers(survey: Survey, score: float) -> Rescue | None:
    """Says how many missed objects their tokens bring back, or how that is asked."""
    files = rescue_files(survey.run.path)
    known, said = answers(survey.run, survey.key, tuple((f.name, f.stat().st_mtime) for f in files))
    if known is None:
        st.caption("Would their tokens bring them back? This asks the model:")
        where = shlex.quote(str(survey.run.path))
        words = "svit evaluate --weights FILE --dataset JSON --image-root FOLDER --out results/NAME"
        st.code(f"{words} --record {where} --rescue", language="bash")
        return None
    asked = known.facts["score"]
    wider = f" Asked from score {asked:g} on: choose it or a lower one." if score > asked else ""
    st.caption(escaped(f"{said}{wider}"))
    return known


def show(
    survey: Survey, other: Run | None, objects: pd.DataFrame, missed: pd.DataFrame, score: float
) -> None:
    """The browser of missed objects.

    Args:
        objects: `matching.error_frame` at the score.
        missed: `missed.missed_frame` of them.
    """
    st.markdown(f"##### {counted(len(missed), 'missed objects')}", help=HELP["table"])
    missed = numbers.with_rescue(missed, show_answers(survey, score), score)
    rows = numbers.ordered(*filtered(missed))
    if rows.empty:
        st.info("No such object.", icon=":material/task_alt:")
        return
    pages, page = -(-len(rows) // ROWS), 1
    if pages > 1:
        session.restore("error_page", 1, range(1, pages + 1))
        place = st.columns([1, 5])[0]
        page = place.number_input(f"Page of {pages}", 1, pages, key="error_page")
        session.remember(error_page=page)
    shown = rows.iloc[(page - 1) * ROWS : page * ROWS].reset_index(drop=True)
    event = st.dataframe(
        table_of(survey, shown, other is not None),
        hide_index=True,
        row_height=64,
        height=min(360, 64 * len(shown) + 38),
        column_config=columns_of(survey.run.layers),
        on_select="rerun",
        selection_mode="single-row",
        key=f"errors {page}",
    )
    picks = event["selection"]["rows"]
    row = shown.iloc[picks[0]] if picks and picks[0] < len(shown) else linked(rows)
    if row is None:
        st.caption("Select a row to see the object block by block and to open its image with it.")
    else:
        session.remember(image=str(row["image_id"]), object=int(row["object"]))
        show_object(survey, other, row, score)
    shell.downloads("dataset-errors", rows, objects, frames=("missed objects", "all objects"))


def linked(rows: pd.DataFrame) -> pd.Series | None:
    """The object of the view, where the filters leave it."""
    seen = session.now()
    found = rows[(rows["image_id"].astype(str) == seen.image) & (rows["object"] == seen.object)]
    return None if found.empty else found.iloc[0]


def filtered(missed: pd.DataFrame) -> tuple[pd.DataFrame, str]:
    """The rows that the filters leave, and the order wanted."""
    words = {**numbers.MATCHES, **misses.SHORT}
    choices = {
        "error_type": ("Error", "error", sorted(missed["error"].unique())),
        "error_match": (
            "Nearest",
            "match",
            [one for one in numbers.MATCHES if one in set(missed["match"])],
        ),
        "error_class": ("Class", "class", sorted(missed["class"].unique())),
        "error_size": ("Size", "size", list(SIZES)),
        "error_fate": ("Tokens", "fate", list(misses.SHORT)),
    }
    yes_or_no = {"error_second": ("Second run", "dense_found", SECOND)}
    yes_or_no["error_rescued"] = ("With its tokens", "rescued", RESCUED)
    unknown = [column for _, column, _ in yes_or_no.values() if missed[column].isna().all()]
    choices |= {key: one for key, one in yes_or_no.items() if one[1] not in unknown}
    keep = pd.Series(True, index=missed.index)
    row = st.container(horizontal=True)
    for key, (label, column, options) in choices.items():
        values = options if isinstance(options, dict) else {one: one for one in options}
        session.restore(key, ALL, [ALL, *values])
        chosen = row.selectbox(
            *(label, [ALL, *values]),
            key=key,
            width=FILTER,
            format_func=lambda one: words.get(one, one),
        )
        session.remember(**{key: chosen})
        if chosen != ALL:
            keep &= (missed[column] == values[chosen]).fillna(False).astype(bool)
    orders = [one for one, (column, _) in numbers.ORDERS.items() if column not in unknown]
    session.restore("error_order", orders[0], orders)
    order = row.selectbox("Order", orders, key="error_order", width=ORDER, help=HELP["order"])
    session.remember(error_order=order)
    return missed[keep], order


def table_of(survey: Survey, rows: pd.DataFrame, has_second: bool) -> pd.DataFrame:
    """What the table shows of `missed.missed_frame`, with a picture of each object at its drop."""
    run = survey.run
    crops = (
        object_crop(run, survey.key, row.image_id, row.object, first_block(run, row), 96)
        for row in rows.itertuples()
    )
    pictures = [None if jpeg is None else shell.data_address(jpeg, "jpeg") for jpeg in crops]
    used = [f"used_{block}" for block in range(1, run.layers + 1)]
    table = pd.DataFrame({"object": pictures, "class": rows["class"], "error": rows["error"]})
    table["nearest"] = rows["match"].map(numbers.MATCHES)
    table["as"], table["score"] = rows["match_class"], rows["match_score"]
    table["IoU"], table["size"] = rows["match_iou"], rows["size"]
    table["tokens"] = rows["fate"].map(misses.SHORT)
    table["dropped"] = rows["dropped"].astype("Int64")
    table["back"] = rows["back"].astype("Int64")
    if has_second:
        table["second run"] = rows["dense_found"].map({one: name for name, one in SECOND.items()})
    if rows["rescued"].notna().any():
        table["with its tokens"] = rows["rescued"].map({one: name for name, one in RESCUED.items()})
        table["score then"], table["at random"] = rows["after"], rows["chance"]
    table["used by block"] = rows[used].to_numpy().tolist()
    return table.assign(image=rows["image_id"])


def columns_of(layers: int) -> dict:
    """How the list shows its columns, by their name."""
    column = st.column_config
    blocks = f"share of the object's tokens that each of the {layers} blocks uses"
    return {
        "object": column.ImageColumn("at drop", width=84),
        "error": column.TextColumn(help="TIDE's type, among detections from the score on"),
        "nearest": column.TextColumn(help="the best match at any score"),
        "as": column.TextColumn(help="class of the nearest detection"),
        "score": column.NumberColumn(help="of the nearest detection", format="%.2f", width=58),
        "IoU": column.NumberColumn(help="of both boxes", format="%.2f", width=52),
        "size": column.TextColumn(width=70),
        "dropped": column.NumberColumn(help="first block under half of its tokens", width=72),
        "back": column.NumberColumn(help="first later block with half again", width=56),
        "with its tokens": column.TextColumn(help="kept in all blocks that prune"),
        "score then": column.NumberColumn(format="%.2f", width=80),
        "at random": column.NumberColumn(
            help="share of random draws of as many tokens that bring it back",
            format="percent",
            width=84,
        ),
        "used by block": column.BarChartColumn(help=blocks, y_min=0, y_max=1, width=120),
    }


def first_block(run: Run, row: pd.Series) -> int:
    """The block to begin with: the first under half of the object's tokens, else the first gated one."""
    if pd.notna(row.dropped):
        return int(row.dropped)
    return metrics.gated_layers(run.layers, run.targets)[0] + 1


def show_object(survey: Survey, other: Run | None, row: pd.Series, score: float) -> None:
    """One missed object: why, the ways on, and its tokens block by block in both runs."""
    st.markdown(f"##### {escaped(row['class'])} in image {escaped(str(row['image_id']))}")
    st.caption(escaped(" ".join(told(row))))
    show_ways_on(survey, other, row, score)
    for one in filter(None, (survey.run, other)):
        st.markdown(f"###### {escaped(one.path.name)}")
        show_blocks(survey, one, row)
    st.caption("Below each picture: the block, and the share of the object's tokens that it uses.")


def told(row: pd.Series) -> list[str]:
    """Why the object was missed, in sentences.

    Args:
        row: of `missed.missed_frame`.
    """
    said = [f"{numbers.MATCHES[row['match']].capitalize()}."]
    if row["match"] != numbers.NOTHING:
        values = f"score {row['match_score']:.2f}, IoU {row['match_iou']:.2f}"
        said = [f"Nearest: {row['match_class']}, {values} ({numbers.MATCHES[row['match']]})."]
    if pd.notna(row["dropped"]):
        back = "" if pd.isna(row["back"]) else f", back at block {int(row['back'])}"
        said.append(f"Under half of its tokens at block {int(row['dropped'])}{back}.")
    elif row["fate"] == "kept":
        said.append("No block uses less than half of its tokens.")
    if pd.notna(row["dense_found"]):
        said.append(f"The second run {'finds it' if row['dense_found'] else 'misses it, too'}.")
    if pd.notna(row["rescued"]):
        score = "no detection" if pd.isna(row["after"]) else f"score {row['after']:.2f}"
        back = "it comes back" if row["rescued"] else "it stays missed"
        said.append(
            f"With its tokens kept {back} ({score}); with as many at random in {row['chance']:.0%} of draws."
        )
    return said


def show_ways_on(survey: Survey, other: Run | None, row: pd.Series, score: float) -> None:
    """Links to the image with this object, to its masks on the Live page, to both runs."""
    run, image_id, index = survey.run, row["image_id"], int(row["object"])
    trace, target = run.trace(image_id), run.target(image_id)
    at = {"object": index, "score": score}
    token = biography.token_of_object(trace, target, index)
    there = link(run, image_id, **at, block=first_block(run, row), token=token)
    ways = {"Open the image with it": (IMAGE_PAGE, there, "open_in_new")}
    edit = link(run, image_id, **at, source="recorded")
    ways["What if its tokens were kept?"] = (LIVE_PAGE, edit, "edit")
    if other is not None:
        both = there | session.link(runs=(there["run"], st.session_state["second"]))
        ways["Compare both runs on the image"] = (COMPARE_PAGE, both, "compare")
    with st.container(horizontal=True, vertical_alignment="center"):
        jpeg = small(run, survey.key, image_id, 220, False)
        if jpeg is not None:
            st.image(jpeg, width=120, alt=f"Image {image_id}")
        for label, (page, query, icon) in ways.items():
            st.page_link(
                page, label=label, query_params=query, icon=f":material/{icon}:", width="content"
            )


def show_blocks(survey: Survey, masks: Run, row: pd.Series) -> None:
    """The object under the masks of a run, block by block from the drop on."""
    run, image_id, index = survey.run, row["image_id"], int(row["object"])
    target, trace = run.target(image_id), masks.trace(image_id)
    used = matching.object_shares(trace, target)[index]
    key = (survey.key, Survey(masks).key)
    blocks = range(first_block(run, row), trace.layers + 1)
    for place, block in zip(st.columns(max(len(blocks), 6), gap="xsmall"), blocks):
        jpeg = object_crop(run, key, image_id, index, block, 160, masks)
        if jpeg is not None:
            told = f"The object under the masks of block {block}"
            place.image(jpeg, width="stretch", alt=told)
        place.caption(f"{block} · {used[block - 1]:.0%}")
