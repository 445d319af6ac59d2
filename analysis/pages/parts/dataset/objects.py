"""The Dataset page's objects: tokens inside, on contours and outside, by size and class."""

from __future__ import annotations

import pandas as pd
import streamlit as st
from matplotlib.figure import Figure

from analysis.figures.objects import regions as region_figures
from analysis.numbers import per_image
from analysis.numbers import regions as objects
from analysis.pages.parts import session, shell
from analysis.pages.parts.dataset.parts import (
    Survey,
    clickable,
    clicked_point,
    show_extremes,
    unannotated,
)
from analysis.sources.aggregates import kept
from svit.core.coverage import SIZES
from svit.runs.run import Run
from svit.system.text import escaped

CLASSES = 12  # bars at most
HELP = {
    "regions": "Tokens through which an object's outline passes, tokens inside objects, and the rest; "
    "crowd annotations are left out. Lines pool all images, bands are 90 % of the images, dashes are the "
    "target for all tokens. A click on a point lists its images below.",
    "spent": "area: tokens of the region / all tokens. blocks: blocks that use one of its tokens on average. "
    "spent: uses of its tokens / uses of all tokens.",
    "size": "Blocks that use the tokens of an object, each token weighted by the share that the object "
    "covers; COCO's sizes by annotated area. Bars: mean over objects. Lines: 90 % of them. In the bars: "
    "objects.",
    "behind": "Clicks on a bar choose here, too.",
}


@st.cache_data(max_entries=4, show_spinner=False)
def used(_run: Run, key: tuple) -> tuple[pd.DataFrame, pd.DataFrame]:
    """`per_image.use_of_objects`, counted once a run."""

    def counted() -> tuple[pd.DataFrame, pd.DataFrame]:
        samples = _run.samples("trace", "target", known=["target"])
        return per_image.use_of_objects(samples, _run.class_names)

    regions, single = kept(_run, ["regions", "objects"], counted)
    return regions, single


def show(survey: Survey) -> None:
    """The part."""
    run = survey.run
    if not survey.has("objects"):
        unannotated("annotations")
        return
    with st.spinner(f"Laying the objects of {len(run):,} images over their tokens", show_time=True):
        by_image, frame = used(run, survey.key)
    by_class, by_size = (objects.group_frame(frame, name) for name in ("class", "size"))
    left, right = st.columns([1.25, 1], gap="medium")
    with left:
        show_regions(survey, per_image.region_spread(by_image))
    with right:
        st.markdown("##### By size", help=HELP["size"])
        order = pd.Categorical(by_size["size"], list(SIZES))
        bars(by_size.assign(size=order).sort_values("size"), "size", run.layers)
        show_summary(per_image.region_spread(by_image))
    st.markdown("##### By class", help=HELP["size"])
    bars(by_class.head(CLASSES), "class", run.layers)
    if len(by_class) > CLASSES:
        st.caption(f"The {CLASSES} classes with most objects of {len(by_class)}; the file has all.")
    shell.downloads("dataset-objects", frame, by_class, frames=("objects", "classes"))
    show_behind(survey, frame, by_image)


def show_regions(survey: Survey, spread: pd.DataFrame) -> None:
    """Use of each region per block; a click on a point chooses the region below."""
    st.markdown("##### Inside, on the contour, outside", help=HELP["regions"])
    clickable(
        region_figures.screen(spread, survey.run.targets),
        "bars region",
        lambda: choose_group("region"),
    )
    shell.downloads("dataset-regions", spread, lambda: region_figure(survey, spread))


def show_summary(spread: pd.DataFrame) -> None:
    """What the regions take of all tokens and of all uses."""
    st.markdown("##### Where the tokens go", help=HELP["spent"])
    summary = objects.region_summary(spread).drop(columns="tokens")
    share = st.column_config.NumberColumn(format="percent")
    columns = {"area": share, "spent": share}
    columns["usage"] = st.column_config.NumberColumn("blocks", format="%.2f")
    st.dataframe(summary, hide_index=True, column_config=columns)


def bars(groups: pd.DataFrame, by: str, layers: int) -> None:
    """The bars of sizes or classes; a click chooses the group below."""
    clickable(
        region_figures.screen_groups(groups, by, layers), f"bars {by}", lambda: choose_group(by)
    )


def choose_group(by: str) -> None:
    """Callback: the list shows the group, by size or class, of the bar that was clicked."""
    point = clicked_point(f"bars {by}", by)
    if point:
        session.change(group_by=by, group=str(point[by]))


def show_behind(survey: Survey, frame: pd.DataFrame, by_image: pd.DataFrame) -> None:
    """The objects behind a bar, or the images behind a region."""
    st.markdown("##### Objects and images behind a bar", help=HELP["behind"])
    kinds = {"size": frame["size"], "class": frame["class"], "region": pd.Series(objects.REGIONS)}
    left, right, _ = st.columns([1, 1.4, 2])
    session.restore("group_by", "size", kinds)
    by = left.selectbox("By", list(kinds), key="group_by")
    names = kinds[by].value_counts().index.tolist() if by != "region" else list(objects.REGIONS)
    if not names:
        st.caption("No object shows in a token.")
        return
    session.restore("group", names[0], names)
    group = right.selectbox("Group", names, key="group")
    session.remember(group_by=by, group=group)
    if by == "region":
        ranked = per_image.region_usage(by_image, group)
    else:
        ranked = per_image.objects_of(frame, by, group)
    show_extremes(survey, ranked, "{:.1f}", f"used: {escaped(group)}, blocks")
    shell.downloads("dataset-group", ranked)


def region_figure(survey: Survey, spread: pd.DataFrame) -> Figure:
    """Keep ratio inside, on and outside of objects over blocks, for the download."""
    page = Figure(figsize=(3.6, 2.5))
    region_figures.print(spread, page.subplots(), targets=survey.run.targets)
    return page
