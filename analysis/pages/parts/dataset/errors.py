"""The Dataset page's errors: missed objects, what their tokens did, and whether a second run finds them."""

from __future__ import annotations

from collections.abc import Collection, Iterator

import pandas as pd
import streamlit as st
from matplotlib.figure import Figure

from analysis.figures.objects import misses
from analysis.numbers import comparison, matching, per_image
from analysis.numbers import missed as numbers
from analysis.pages.parts import pairs, session, shell
from analysis.pages.parts.dataset import missed
from analysis.pages.parts.dataset.parts import (
    NOTHING,
    Survey,
    clickable,
    clicked_point,
    unannotated,
)
from analysis.sources import labels
from analysis.sources.aggregates import kept, name_of
from svit.core.coverage import SIZES, Truth
from svit.core.types import Detections, ImageId
from svit.runs.run import Run
from svit.system.text import counted, escaped

NOBODY = "no second run"
HELP = {
    "fates": "Missed / annotated objects by what their tokens did: every block used at least half of "
    "them, a block used less and a later one half again, or none did again. Grey marks: the share of the "
    "same objects that the second run misses. An association is no cause: small objects lose more tokens "
    "and are missed more often; compare within a size, and with a dense run. A click on a bar filters "
    "the table.",
    "shares": "Mean share of an object's tokens that a block uses, of found and of missed objects; bands "
    "are two standard errors.",
    "score": "Detections below this score find nothing.",
    "second": "A dense run tells whether the object is hard or its tokens were missing.",
}


@st.cache_data(max_entries=4, show_spinner=False)
def tokens(_run: Run, key: tuple) -> pd.DataFrame:
    """What the tokens of all annotated objects did, counted once a run."""

    def counted() -> list[pd.DataFrame]:
        samples = _run.samples("trace", "target", known=["target"])
        return [matching.tokens_frame(samples, _run.class_names)]

    (frame,) = kept(_run, ["object-tokens"], counted)
    return frame


@st.cache_data(max_entries=4, show_spinner=False)
def nearest(_run: Run, key: tuple) -> pd.DataFrame:
    """What finds each object and what comes nearest, once a run."""

    def matched() -> list[pd.DataFrame]:
        return [numbers.nearest_frame(_scored(_run, _run), _run.class_names)]

    (frame,) = kept(_run, ["nearest"], matched)
    return frame


@st.cache_data(max_entries=4, show_spinner=False)
def found_there(_run: Run, _other: Run, key: tuple) -> pd.DataFrame:
    """What finds each object of a run in another one, once both."""

    def matched() -> list[pd.DataFrame]:
        return [matching.found_frame(_scored(_run, _other))]

    (frame,) = kept(_run, [f"found-by-{name_of(_other)}"], matched)
    return frame


@st.cache_data(max_entries=8, show_spinner=False)
def types(_run: Run, key: tuple, score: float) -> pd.DataFrame:
    """TIDE's error of each object that is not found from a score on, once a run and score."""

    def explained() -> list[pd.DataFrame]:
        known = nearest(_run, key)
        left = set(known.loc[~(known["score"] >= score), "image_id"])
        samples = _scored(_run, _run, left)
        return [numbers.type_frame(samples, _run.class_names, score)]

    (frame,) = kept(_run, [f"types-{score:g}"], explained)
    return frame


def _scored(
    run: Run, other: Run, among: Collection[ImageId] | None = None
) -> Iterator[tuple[ImageId, Truth, Detections]]:
    """Id and ground truth of a run's images, or of some of them, and detections of another one."""
    ids = [one for one in per_image.scored_ids(run, other) if among is None or one in among]
    targets, found = run.samples("target", ids=ids), other.samples("detections", ids=ids)
    return ((one, *target, *seen) for one, target, seen in zip(ids, targets, found, strict=True))


@st.cache_data(max_entries=8, show_spinner=False)
def errors(_run: Run, _other: Run | None, key: tuple, score: float) -> tuple[pd.DataFrame, int]:
    """All objects of the images that count, and how many images these are."""
    there = None if _other is None else found_there(_run, _other, key)
    frame = matching.with_found(tokens(_run, key[0]), nearest(_run, key[0]), there, score)
    return frame, len(per_image.scored_ids(_run, _other))


def show(survey: Survey) -> None:
    """The part."""
    run = survey.run
    for needed in ("objects", "detections"):
        if not survey.has(needed):
            unannotated("annotations" if needed == "objects" else needed)
            return
    name, other = choose_second(survey)
    with st.sidebar:
        session.restore("score", 0.5, within=(0.0, 1.0))
        score = st.slider(
            "Detections from score", 0.0, 1.0, step=0.05, key="score", help=HELP["score"]
        )
        session.remember(score=score)
    key = (survey.key, None if other is None else Survey(other).key)
    with st.spinner(f"Matching the detections of {counted(len(run), 'images')}", show_time=True):
        frame, count = errors(run, other, key, score)
    if frame.empty:
        shell.empty(
            "No annotated object in the images of these runs. Record a COCO data set:", NOTHING
        )
        return
    if count < len(run):
        whose = "both runs hold their" if other is not None else "they have annotations and"
        st.caption(f"{count} of the run's {len(run)} images count: {whose} detections.")
    unfound = numbers.missed_frame(frame, nearest(run, survey.key), types(run, survey.key, score))
    missed.show(survey, other, frame, unfound, score)
    show_charts(frame, name if other is not None else "")
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
            session.restore("second", dense, options)
        name = st.selectbox("Second run", options, key="second", help=HELP["second"])
        session.remember(second=name)
    other = None if name == NOBODY else shell.opened(known[name])
    if other is not None and not comparison.common_ids([survey.run, other]):
        st.warning(f"{escaped(name)} holds none of this run's images; it is left out.")
        other = None
    if other is not None and (why := pairs.refusal(survey.run, other, labels=True)):
        st.warning(f"{escaped(name)} is left out.")
        st.code(why, language=None, wrap_lines=True)
        other = None
    return name, other


def show_charts(frame: pd.DataFrame, other: str) -> None:
    """Miss rates by fate, and shares of found and missed objects of a size."""
    fates = per_image.reference_rates(matching.fate_frame(frame))
    left, right = st.columns(2, gap="medium")
    with left:
        st.markdown("##### Miss rate by what tokens did", help=HELP["fates"])
        clickable(misses.screen(fates, other), "fates", choose_fate)
        shell.downloads("dataset-fates", fates, lambda: fate_figure(frame, other))
    with right:
        st.markdown("##### Tokens of found and missed", help=HELP["shares"])
        shares = per_image.share_bands(matching.share_frame(frame))
        sizes = [size for size in SIZES if size in set(shares["size"])]
        if not sizes:
            st.caption("No object covers a token.")
            return
        session.restore("object_size", sizes[0], sizes)
        size = st.segmented_control(
            "Size", sizes, key="object_size", required=True, label_visibility="collapsed"
        )
        session.remember(object_size=size)
        chart = misses.screen_shares(shares[shares["size"] == size])
        st.altair_chart(chart.properties(height=244), width="stretch")
        shell.downloads("dataset-shares", shares)


def choose_fate() -> None:
    """Callback: the list shows the size and fate of the bar that was clicked."""
    point = clicked_point("fates", "size", "fate")
    if point:
        session.change(error_size=point["size"], error_fate=point["fate"])


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
