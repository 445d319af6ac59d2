"""The Dataset page's errors: missed objects, what their tokens did, and whether a second run finds them."""

from __future__ import annotations

import pandas as pd
import streamlit as st
from matplotlib.figure import Figure

from analysis.figures.objects import misses
from analysis.numbers import comparison, matching, per_image
from analysis.pages.parts import session, shell
from analysis.pages.parts.dataset import missed
from analysis.pages.parts.dataset.parts import NOTHING, Survey, clicked_point, unannotated
from analysis.sources import labels
from svit.core.coverage import SIZES
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
        st.caption(
            f"{count} of the run's {len(run)} images count: both runs hold their detections."
        )
    missed.show(survey, other, frame, score)
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
