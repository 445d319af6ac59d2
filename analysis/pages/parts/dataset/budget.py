"""The Dataset page's budget: tokens an image gets against its complexity; a point opens its image."""

from __future__ import annotations

import pandas as pd
import streamlit as st
from matplotlib.figure import Figure

from analysis.figures.objects import complexity as drawing
from analysis.numbers import budget, image_list
from analysis.pages.parts import session, shell
from analysis.pages.parts.dataset.parts import IMAGE_PAGE, Survey, clickable, clicked_point, link
from analysis.sources.aggregates import kept
from svit.runs.run import Run
from svit.system.text import counted, escaped

HELP = (
    "Keep ratio: mean over the blocks that prune of kept / all tokens that show image pixels. Edges: share "
    "of the stored picture's pixels whose grey changes by more than 16 levels. ρ: Spearman's rank "
    "correlation with its 95 % percentile interval over images."
)
CLICKED, EVERY = "budget points", "measure all pictures"
PICTURES = 1000  # decoded at first: of more it takes longer than one waits for a chart
LEAST = 3  # images: fewer show no relation
SLICES = (
    "Images grouped by a text of their entry in the COCO json. Objects: mean over images. Keep ratio: mean "
    "over images, low and high are its 5 % and 95 % quantile over them."
)


@st.cache_data(max_entries=4, show_spinner=False)
def complexity(_run: Run, key: tuple) -> pd.DataFrame:
    """`budget.complexity_frame` without edges, counted once a run."""
    (frame,) = kept(_run, ["complexity"], lambda: [budget.complexity_frame(_run, pictures=False)])
    return frame


@st.cache_data(max_entries=4, show_spinner="Measuring the edges of the pictures")
def edges(_run: Run, key: tuple, most: int | None) -> pd.DataFrame:
    """`budget.edge_frame`, measured once a run and number of pictures."""
    name = "edges" if most is None else f"edges{most}"
    (frame,) = kept(_run, [name], lambda: [budget.edge_frame(_run, most)])
    return frame


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
    shown = [name for name in budget.COMPLEXITY if frame[name].notna().any()]
    if run.picture(run.image_ids[0]) is not None:
        shown.append("edges")
    if not shown:
        shell.empty(
            "This run holds neither annotations nor pictures to measure. Record it with both:",
            "svit record --weights FILE --coco JSON --image-root DIR --thumbnail 640 --out runs/all",
        )
        return
    if (frame["keep_ratio"] == 1).all():
        st.info("This run prunes no token: all images keep as many.", icon=":material/info:")
    elif len(run) < LEAST:
        st.info(
            f"This run holds {counted(len(run), 'images')}; tokens are laid against complexity from "
            f"{LEAST} images on.",
            icon=":material/info:",
        )
        shell.downloads("dataset-budget", frame)
    else:
        show_points(survey, frame, shown)
    if run.slices:
        show_slices(survey)


def show_points(survey: Survey, frame: pd.DataFrame, shown: list[str]) -> None:
    """Keep ratios against one of the measures, a point an image."""
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
    most = None
    if measure == "edges":
        if len(survey.run) > PICTURES:
            about = (
                f"Else {PICTURES:,} pictures of {len(survey.run):,}, evenly spaced, are measured."
            )
            most = None if st.toggle("All pictures", key=EVERY, help=about) else PICTURES
        frame = budget.with_edges(frame, edges(survey.run, survey.key, most))
    table = correlations(frame, (survey.key, measure == "edges", most))
    row = table.set_index("quantity").loc[measure]
    if pd.isna(row["rho"]):
        st.caption("No rank correlation: one of the two is the same in all images.")
    else:
        interval = f"[{row['low']:+.2f}, {row['high']:+.2f}]"
        st.caption(
            f"ρ = {row['rho']:+.2f} {interval} over {row['images']:.0f} images · a click opens the image"
        )
    clickable(drawing.screen(frame, measure), CLICKED, "rerun")
    files = (frame, table, lambda: scatter(frame, measure))
    shell.downloads("dataset-budget", *files, frames=("images", "correlations"))


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
