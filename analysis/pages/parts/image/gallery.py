"""The Image page's gallery in the sidebar: search, order, pages of small pictures to click."""

from __future__ import annotations

import altair as alt
import pandas as pd
import streamlit as st

from analysis.figures import palette
from analysis.figures.canvas import token_maps
from analysis.numbers import image_list, usage
from analysis.pages.parts import session, shell
from analysis.pages.parts.image.view import run_key
from analysis.sources.aggregates import kept
from svit.core.types import ImageId
from svit.runs import shards
from svit.runs.run import Run
from svit.system.text import counted

COLUMNS, ROWS = 3, 4
DOWN = 76  # screen pixels of a picture with its line of text
SHOWN = {  # below a picture; else its share of tokens
    "missed": "{:.0f} missed",
    "wrong": "{:.0f} wrong",
    "confidence": "{:.2f} sure",
    "objects": "{:.0f} objects",
}


@st.cache_data(max_entries=4, show_spinner="Listing the images")
def listed(_run: Run, key: tuple) -> pd.DataFrame:
    """`image_list.image_frame`, counted once a run."""
    return image_list.image_frame(_run)


@st.cache_data(max_entries=4, show_spinner="Matching detections with objects")
def outcomes(_run: Run, key: tuple, score: float = image_list.SURE) -> pd.DataFrame:
    """`image_list.outcome_frame`, counted once a run and score."""
    name = f"outcomes-{score:g}"
    (frame,) = kept(_run, [name], lambda: [image_list.outcome_frame(_run, score)])
    return frame


@st.cache_data(max_entries=1000, show_spinner=False)
def small(_run: Run, key: tuple, image_id: ImageId, side: int, maps: bool) -> bytes | None:
    """A small JPEG of an image or of its usage map; None of one without a stored picture.

    Args:
        side: pixels of the longer side.
    """
    picture = _run.picture(image_id)
    if maps:
        trace = _run.trace(image_id, numbers=False)
        limits = usage.usage_limits(_run.layers, _run.targets)
        picture = token_maps.usage_thumbnail(picture, trace.grid, usage.usage(trace), limits, side)
    return None if picture is None else shards.jpeg(picture, side)


def choose_maps() -> bool:
    """A switch of small pictures and usage maps, for all pages that show many."""
    session.restore("maps", False)
    maps = st.toggle(
        "Usage maps",
        key="maps",
        help="How many blocks used each token, over the picture: bright where most did. One scale for "
        "all images: from the blocks that never prune to all.",
    )
    session.remember(maps=maps)
    return maps


def show(run: Run, image_id: ImageId) -> None:
    """The gallery; a click or the two buttons choose an image and run the page anew."""
    frame = _controls(run)
    maps = choose_maps()
    if frame.empty:
        st.caption("No image fits. Search by id, file name or class.")
        return
    _steps(list(frame["image_id"]), image_id)
    pages = -(-len(frame) // (COLUMNS * ROWS))
    page = 1
    if pages > 1:
        _turn_to(list(frame["image_id"]), image_id)
        session.restore("gallery_page", 1, range(1, pages + 1))
        page = st.number_input(f"Page of {pages}", 1, pages, key="gallery_page")
        session.remember(gallery_page=page)
    part = frame.iloc[(page - 1) * COLUMNS * ROWS : page * COLUMNS * ROWS]
    _keys(run, part, image_id)
    _grid(run, part, image_id, maps)
    st.caption(f"{len(frame)} of {counted(len(run), 'images')}")


def _controls(run: Run) -> pd.DataFrame:
    """Search and order, applied."""
    frame = listed(run, run_key(run))
    session.restore("search", "")
    text = st.text_input(
        "Search",
        key="search",
        placeholder="id, file, class or kind",
        help="Every word must occur in the id, the file name, a text that groups images (as a kind "
        "of photograph) or the name of a class: of the annotated objects or, without annotations, "
        "of detections from score 0.5 on.",
    )
    session.restore("order", next(iter(image_list.ORDERS)), image_list.ORDERS)
    order = st.selectbox(
        "Order",
        list(image_list.ORDERS),
        key="order",
        help="Kept tokens: mean over the blocks that may prune. Missed: annotated objects that no "
        "detection from score 0.5 on finds at box IoU 0.5. Wrong: such detections that find none; "
        "confidence is the mean of their scores. Objects stand for complexity.",
    )
    session.remember(search=text, order=order)
    if image_list.ORDERS[order][0] in image_list.OUTCOMES:
        frame = frame.merge(outcomes(run, run_key(run)), on="image_id")
    return image_list.ordered(image_list.matching(frame, text), order)


def _turn_to(image_ids: list[ImageId], image_id: ImageId) -> None:
    """Opens the page of an image that another place chose."""
    before = st.session_state.get("gallery image")
    if before != image_id and image_id in image_ids and not session.addressed("gallery_page"):
        session.change(gallery_page=image_ids.index(image_id) // (COLUMNS * ROWS) + 1)
    st.session_state["gallery image"] = image_id


def _steps(image_ids: list[ImageId], image_id: ImageId) -> None:
    """Buttons to the image before and after, in the gallery's order."""
    place = image_ids.index(image_id) if image_id in image_ids else None
    before = image_ids[place - 1] if place else None
    after = image_ids[0] if place is None else image_ids[min(place + 1, len(image_ids) - 1)]
    left, right = st.columns(2)
    for column, label, goal, letter in (
        (left, "Previous", before, "P"),
        (right, "Next", after if after != image_id else None, "N"),
    ):
        column.button(
            label,
            disabled=goal is None,
            on_click=_choose,
            args=(goal,),
            shortcut=letter,
            width="stretch",
            key=f"{label} image",
        )


def _choose(image_id: ImageId) -> None:
    session.change(image=str(image_id))


def _keys(run: Run, part: pd.DataFrame, image_id: ImageId) -> None:
    """The images of the page as buttons for the keyboard; they show while they have the focus (`app.css`)."""
    image_ids = list(part["image_id"])
    widget = f"gallery keys {run_key(run)} {image_ids}"
    st.session_state[widget] = image_id if image_id in image_ids else None

    def chosen() -> None:
        if st.session_state[widget] is not None:
            _choose(st.session_state[widget])

    with st.container(key="gallery-keys"):
        st.pills("Images of this page", image_ids, format_func=str, key=widget, on_change=chosen)


def _grid(run: Run, part: pd.DataFrame, image_id: ImageId, maps: bool) -> None:
    """Small pictures in rows; the one on show has a ring."""
    base = run_key(run)
    jpegs = [small(run, base, each, 112, maps) for each in part["image_id"]]
    column = "keep_ratio"
    for name in SHOWN:
        if image_list.ORDERS[st.session_state["order"]][0] == name:
            column = name
    form = SHOWN.get(column, "{:.0%}")
    tiles = pd.DataFrame(
        {
            "tile": range(len(part)),
            "url": ["" if jpeg is None else shell.data_address(jpeg, "jpeg") for jpeg in jpegs],
            "name": part["image_id"].astype(str),
            "file": part["file_name"],
            "kept": part["keep_ratio"],
            "objects": part["objects"].astype(float),
            "text": ["" if pd.isna(value) else form.format(value) for value in part[column]],
            "chosen": part["image_id"] == image_id,
        }
    )
    widget = f"gallery {base} {list(part['image_id'])}"

    def clicked() -> None:
        picked = st.session_state[widget]["selection"]["image"]
        if picked:
            _choose(part["image_id"].iloc[int(picked[0]["tile"])])

    st.vega_lite_chart(
        tiles,
        _chart(shell.dark(), -(-len(part) // COLUMNS)),
        key=widget,
        on_select=clicked,
        selection_mode=["image"],
        width="stretch",
    )


@st.cache_data(max_entries=16, show_spinner=False)
def _chart(dark: bool, rows: int) -> dict:
    """The chart without its table."""
    tiles = _places(rows)
    ends = {"x2": "right:Q", "y2": "bottom:Q"}
    field = tiles.mark_rect(color=palette.FIELD, opacity=0.06 if dark else 1).encode(**ends)
    size = {  # of the cells as drawn: a padding takes some pixels of the chart's height
        "width": alt.ExprRef(f"width / {COLUMNS} * 0.96"),
        "height": alt.ExprRef(f"height / {rows} * 0.8"),
    }
    picture = tiles.mark_image(**size).encode(
        x=alt.X("middle:Q", axis=None), y=alt.Y("centre:Q", axis=None), url="url:N"
    )
    words = tiles.mark_text(fontSize=10, color=palette.PALE if dark else palette.SLATE).encode(
        x=alt.X("middle:Q", axis=None), y=alt.Y("foot:Q", axis=None), text="text:N"
    )
    chart = alt.layer(field, picture, words, _rings(tiles).encode(**ends))
    return (
        chart.properties(
            height=rows * DOWN,
            background="transparent",
            description="Small pictures of the images; the list before them chooses by keyboard",
        )
        .configure_view(stroke=None)
        .to_dict()
    )


def _places(rows: int) -> alt.Chart:
    """Where the tiles stand in rows, in cells."""
    x = alt.X("x:Q", axis=None, scale=alt.Scale(domain=[0, COLUMNS], nice=False))
    y = alt.Y("y:Q", axis=None, scale=alt.Scale(domain=[rows, 0], nice=False))
    placed = alt.Chart().transform_calculate(
        x=f"datum.tile % {COLUMNS}",
        y=f"floor(datum.tile / {COLUMNS})",
        middle="datum.x + 0.5",
        centre="datum.y + 0.4",
        foot="datum.y + 0.9",
        right="datum.x + 0.96",
        bottom="datum.y + 0.8",
    )
    return placed.encode(x=x, y=y)


def _rings(tiles: alt.Chart) -> alt.Chart:
    """What is clicked, around each tile; seen around the chosen one."""
    ring = tiles.mark_rect(
        fillOpacity=0, cursor="pointer", stroke=palette.HERE, strokeWidth=2.5, cornerRadius=2
    )
    ring = ring.encode(
        strokeOpacity=alt.condition("datum.chosen", alt.value(1), alt.value(0)),
        tooltip=[
            alt.Tooltip("name:N", title="image"),
            alt.Tooltip("file:N"),
            alt.Tooltip("kept:Q", format=".0%", title="kept tokens"),
            alt.Tooltip("objects:Q"),
        ],
    )
    return ring.add_params(alt.selection_point(name="image", fields=["tile"], toggle=False))
