"""The Dataset page's budget: tokens an image gets against its complexity; a point opens its image."""

from __future__ import annotations

import pandas as pd
import streamlit as st
from matplotlib.figure import Figure

from analysis.figures.objects import complexity as drawing
from analysis.numbers import budget, image_list
from analysis.pages.parts import session, shell
from analysis.pages.parts.dataset.parts import IMAGE_PAGE, Survey, clicked_point, link
from svit.runs.run import Run
from svit.system.text import escaped

HELP = (
    "Keep ratio: mean over the blocks that prune of kept / all tokens that show image pixels. Edges: share "
    "of the stored picture's pixels whose grey changes by more than 16 levels. ρ: Spearman's rank "
    "correlation with its 95 % percentile interval over images."
)
CLICKED = "budget points"
SLICES = (
    "Images grouped by a text of their entry in the COCO json. Objects: mean over images. Keep ratio: mean "
    "over images, low and high are its 5 % and 95 % quantile over them."
)


@st.cache_data(max_entries=4, show_spinner=False)
def complexity(_run: Run, key: tuple) -> pd.DataFrame:
    """`budget.complexity_frame`, counted once a run."""
    return budget.complexity_frame(_run)


@st.cache_data(max_entries=4, show_spinner=False)
def slices(_run: Run, key: tuple) -> pd.DataFrame:
    """`image_list.slice_frame`, counted once a run."""
    return image_list.slice_frame(_run)


@st.cache_data(max_entries=4, show_spinner=False)
def correlations(_frame: pd.DataFrame, key: tuple) -> pd.DataFrame:
    """`budget.correlation_table`, drawn once a run: its intervals are bootstrapped."""
    return budget.correlation_table(_frame)


def show(survey: Survey) -> None:
    """The part."""
    point = clicked_point(CLICKED, "image_id")
    known = {str(image_id): image_id for image_id in survey.run.image_ids}
    if point and str(point["image_id"]) in known:
        st.switch_page(IMAGE_PAGE, query_params=link(survey.run, point["image_id"]))
    run = survey.run
    with st.spinner(f"Measuring the complexity of {len(run):,} images", show_time=True):
        frame = complexity(run, survey.key)
        table = correlations(frame, survey.key)
    shown = [name for name in budget.COMPLEXITY if frame[name].notna().any()]
    if not shown:
        shell.empty(
            "This run holds neither annotations nor pictures to measure. Record it with both:",
            "svit record --weights FILE --coco JSON --image-root DIR --thumbnail 640 --out runs/all",
        )
        return
    st.markdown("##### Tokens against complexity", help=HELP)
    session.restore("complexity", shown[0], shown)
    measure = st.segmented_control(
        "Complexity",
        shown,
        key="complexity",
        required=True,
        format_func=drawing.MEASURES.get,
        label_visibility="collapsed",
    )
    session.remember(complexity=measure)
    row = table.set_index("quantity").loc[measure]
    if pd.isna(row["rho"]):
        st.caption("No rank correlation: one of the two is the same in all images.")
    else:
        interval = f"[{row['low']:+.2f}, {row['high']:+.2f}]"
        st.caption(
            f"ρ = {row['rho']:+.2f} {interval} over {row['images']:.0f} images · a click opens the image"
        )
    st.altair_chart(
        drawing.screen(frame, measure),
        width="stretch",
        key=CLICKED,
        on_select="rerun",
        selection_mode=["picked"],
    )
    shell.downloads("dataset-budget", frame, table, lambda: scatter(frame, measure))
    if run.slices:
        show_slices(survey)


def show_slices(survey: Survey) -> None:
    """Objects and keep ratios of each slice of the images, as kinds of photographs."""
    run = survey.run
    st.markdown(f"##### By {escaped(', '.join(run.slices))}", help=SLICES)
    table = slices(run, survey.key)
    share = st.column_config.NumberColumn(format="percent")
    shown = {name: share for name in ("keep_ratio", "low", "high")}
    shown["objects"] = st.column_config.NumberColumn(format="%.1f")
    st.dataframe(table, hide_index=True, column_config=shown)
    shell.downloads("dataset-slices", table)


def scatter(frame: pd.DataFrame, measure: str) -> Figure:
    """Keep ratio against a measure of the frame, a point an image, for the download."""
    page = Figure(figsize=(3.6, 2.6))
    interval = budget.spearman(frame[measure], frame["keep_ratio"])
    ax = drawing.print(frame, page.subplots(), name=measure, interval=interval)
    ax.set_ylabel(drawing.KEPT)
    return page
