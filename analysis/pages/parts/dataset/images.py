"""The Dataset page's images: a grid to filter by kept tokens, errors and confidence."""

from __future__ import annotations

import math

import pandas as pd
import streamlit as st

from analysis.numbers import image_list
from analysis.pages.parts import session, shell
from analysis.pages.parts.dataset.parts import ACROSS, Survey, gallery
from analysis.pages.parts.image.gallery import choose_maps, listed, outcomes
from svit.system.text import counted

ROWS = 4
RANGES = {  # column -> label, step, unit of what is shown
    "keep_ratio": ("Kept tokens", 0.01, "percent"),
    "missed": ("Missed objects", 1, "%d"),
    "wrong": ("Wrong detections", 1, "%d"),
    "confidence": ("Confidence", 0.01, "%.2f"),
}
HELP = (
    "Kept tokens: mean over the blocks that may prune of kept / all tokens that show image pixels. Missed: "
    "annotated objects that no detection of their class from the score on finds at box IoU 0.5. Wrong: "
    "detections from the score on that find none. Confidence: mean of their scores. Images without a number "
    "are shown while its whole range is asked for."
)


def show(survey: Survey) -> None:
    """The part."""
    run = survey.run
    with st.sidebar:
        session.restore("score", 0.5, within=(0.0, 1.0))
        score = st.slider("Detections from score", 0.0, 1.0, step=0.05, key="score")
        session.remember(score=score)
    with st.spinner(f"Matching the detections of {counted(len(run), 'images')}", show_time=True):
        found = outcomes(run, survey.key, score)
    frame = listed(run, survey.key).merge(found, on="image_id")
    title = st.empty()
    rows, order = filtered(frame)
    title.markdown(f"##### {len(rows):,} of {len(run):,} images", help=HELP)
    rows = image_list.ordered(rows, order)
    if rows.empty:
        st.info("No image fits.", icon=":material/filter_alt_off:")
        return
    maps = choose_maps()
    pages, page = -(-len(rows) // (ACROSS * ROWS)), 1
    if pages > 1:
        session.restore("grid_page", 1, range(1, pages + 1))
        place = st.columns([1, 5])[0]
        page = place.number_input(f"Page of {pages}", 1, pages, key="grid_page")
        session.remember(grid_page=page)
    shown = rows.iloc[(page - 1) * ACROSS * ROWS : page * ACROSS * ROWS]
    tiles = [row | {"text": "", "below": told(row)} for row in shown.to_dict("records")]
    gallery(survey, tiles, maps, score=score)
    shell.downloads("dataset-images", rows.drop(columns="place"))


def filtered(frame: pd.DataFrame) -> tuple[pd.DataFrame, str]:
    """The images that the search and the ranges leave, and the order wanted."""
    left, right = st.columns(2)
    session.restore("search", "")
    text = left.text_input("Search", key="search", placeholder="id, file, class or kind")
    orders = list(image_list.ORDERS)
    session.restore("order", orders[0], orders)
    order = right.selectbox("Order", orders, key="order")
    session.remember(search=text, order=order)
    keep = pd.Series(True, index=frame.index)
    for place, column in zip(st.columns(len(RANGES), gap="medium"), RANGES, strict=True):
        with place:
            keep &= within(frame[column], column)
    return image_list.matching(frame[keep], text), order


def within(values: pd.Series, column: str) -> pd.Series:
    """Whether each image lies in the range chosen for a column."""
    label, step, form = RANGES[column]
    known = values.dropna()
    if known.nunique() < 2:
        said = "not recorded" if known.empty else "the same in all images"
        st.caption(f"{label}: {said}")
        return pd.Series(True, index=values.index)
    kind = type(step)
    ends = (kind(math.floor(known.min() / step) * step), kind(math.ceil(known.max() / step) * step))
    field, key = f"grid_{column}", f"range of {column}"
    asked = session.recalled(field, ends)
    st.session_state[key] = tuple(kind(min(max(one, ends[0]), ends[1])) for one in asked)
    choose = {"on_change": _choose, "args": (field, key, ends)}
    low, high = st.slider(label, *ends, step=step, format=form, key=key, **choose)
    return values.between(low, high) | (values.isna() & ((low, high) == ends))


def _choose(field: str, key: str, ends: tuple[float, float]) -> None:
    """Callback: the view holds a range, but not the whole one, which grows with the score."""
    chosen = tuple(st.session_state[key])
    session.change(**{field: None if chosen == ends else chosen})


def told(row: dict) -> str:
    """A tile's numbers."""
    said = [f"{row['keep_ratio']:.0%} kept"]
    for column, form in (("missed", "{:.0f} missed"), ("wrong", "{:.0f} wrong")):
        if not math.isnan(row[column]):
            said.append(form.format(row[column]))
    if not math.isnan(row["confidence"]):
        said.append(f"{row['confidence']:.2f} sure")
    return " · ".join(said)
