"""The Dataset page's tokens: averaged usage, keep ratios and reactivation per block, images behind them."""

from __future__ import annotations

import pandas as pd
import streamlit as st
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.figures.tokens import keep, reactivation, usage_map
from analysis.numbers import per_image, run_counts
from analysis.numbers import usage as metrics
from analysis.pages.parts import first_paint, session, shell
from analysis.pages.parts.dataset.parts import Survey, clickable, clicked_point, show_extremes
from svit.runs.run import Run

MAP = "usage-map"  # key of its container
MAP_SHAPE = (50, 80)
SHARES = {
    "kept": "used_share",
    "back in the next block": "next_share",
    "back later": "later_share",
    "never again": "never_share",
}
HELP = {
    "map": "Blocks that use a token at each place, averaged over images: every map is cut to the tokens "
    "that show the image and resampled to 50 × 80. It is drawn in the images' "
    "shape where they have one; else aspect ratios are not kept.",
    "keep": "Kept tokens / tokens that show image pixels, at each block. Points: all images pooled. Bars: "
    "90 % of the images. Ticks: what training aimed at, on the mean over a batch.",
    "reactivation": "Pruned tokens / tokens that show image pixels, by what becomes of them. Lines: 90 % "
    "of the images' pruned share. The share that comes back in the next block is part of all that come "
    "back.",
    "behind": "The images with the largest and the smallest share. “back later” counts all tokens that a "
    "later block uses again, the next one included. Clicks on the charts choose here, too.",
}


@st.cache_data(max_entries=4, show_spinner=False)
def counted(_run: Run, key: tuple) -> run_counts.Census:
    """The census of the run, taken once."""
    return run_counts.census(_run)


@st.cache_data(max_entries=4, show_spinner=False)
def states(_run: Run, key: tuple) -> pd.DataFrame:
    """`Census.by_image`, once a run."""
    return counted(_run, key).by_image()


@st.cache_data(max_entries=8, show_spinner=False)
def map_png(_run: Run, key: tuple, dark: bool) -> bytes:
    """The mean usage map, 3.9 inches wide, in the colours of the page's theme."""
    whole = counted(_run, key[:-1])
    return shell.png(lambda ax: draw_map(_run, whole, ax), 3.9, map_ratio(whole), dark)


def map_ratio(whole: run_counts.Census) -> float:
    """Height / width of the mean usage map on the page."""
    return min(usage_map.drawn_ratio(whole, MAP_SHAPE), 1)


def draw_map(run: Run, whole: run_counts.Census, ax: Axes) -> None:
    """The mean usage map in the images' shape, if they have one."""
    limits = metrics.usage_limits(run.layers, run.targets)
    ratio = usage_map.drawn_ratio(whole, MAP_SHAPE)
    usage_map.print(whole.mean_usage(MAP_SHAPE), ax, limits=limits, ratio=ratio)


def show(survey: Survey) -> None:
    """The part."""
    run = survey.run
    with st.spinner(f"Counting the tokens of {len(run):,} images", show_time=True):
        whole, single = counted(run, survey.key), states(run, survey.key)
    picture = map_png(run, (*survey.key, shell.dark()), shell.dark())
    if session.arrived():
        address, shape = shell.data_address(picture), 1 / map_ratio(whole)
        first_paint.show(MAP, [[address]], shape=shape, top=0, pixels=False)
    left, right = st.columns(2, gap="medium")
    with left:
        show_map(survey, whole, picture)
    with right:
        show_kept(run)
    show_pruned(whole)
    show_behind(survey, single)


def show_map(survey: Survey, whole: run_counts.Census, picture: bytes) -> None:
    """Usage of places, as `map_png` drew it."""
    st.markdown("##### Usage, averaged over images", help=HELP["map"])
    with st.container(key=MAP):
        st.image(picture, width="stretch", alt="Mean number of blocks that use each place")
    shares = whole.orientations().items()
    st.caption("Images: " + ", ".join(f"{share:.0%} {name}" for name, share in shares if share))
    usage = pd.DataFrame(whole.mean_usage(MAP_SHAPE))
    shell.downloads("dataset-usage", usage, lambda: map_figure(survey))


def show_kept(run: Run) -> None:
    """Keep ratios of all blocks; a click on one lists its images below."""
    kept = keep.frame(run)
    st.markdown("##### Kept tokens per block", help=HELP["keep"])
    clickable(keep.screen(kept), "keep band", choose_kept)
    target = "Ticks: the target." if run.targets else "The run states no target."
    st.caption(f"Points: all images pooled. Bars: 90 % of the images. {target}")
    shell.downloads("dataset-kept", kept)


def show_pruned(whole: run_counts.Census) -> None:
    """What becomes of pruned tokens, block by block; a click on a bar lists its images below."""
    spread = reactivation.frame(whole)
    st.markdown("##### What becomes of pruned tokens", help=HELP["reactivation"])
    if not spread["pruned"].any():
        st.info("This run prunes no token.", icon=":material/info:")
        return
    clickable(reactivation.screen(spread), "reactivation", choose_state)
    shell.downloads("dataset-reactivation", spread, lambda: reactivation_figure(spread))


def choose_kept() -> None:
    """Callback: images are listed by what the clicked block keeps of them."""
    point = clicked_point("keep band", "block")
    if point:
        session.change(at_block=int(point["block"]), share_of="kept")


def choose_state() -> None:
    """Callback: images are listed by the clicked block's share of the clicked state."""
    point = clicked_point("reactivation", "block", "state")
    if point and point["state"] in SHARES:
        session.change(at_block=int(point["block"]), share_of=point["state"])


def show_behind(survey: Survey, single: pd.DataFrame) -> None:
    """The images behind a point or bar."""
    run = survey.run
    st.markdown("##### Images behind a bar", help=HELP["behind"])
    left, right, _ = st.columns([1, 1.4, 2])
    blocks = range(1, run.layers + 1)
    session.restore("at_block", metrics.gated_layers(run.layers, run.targets)[-1] + 1, blocks)
    session.restore("share_of", "kept", SHARES)
    block = left.selectbox("Block", blocks, key="at_block")
    share = right.selectbox("Tokens", list(SHARES), key="share_of")
    session.remember(at_block=block, share_of=share)
    ranked = per_image.images_by(single, block, SHARES[share])
    show_extremes(survey, ranked, "{:.1%}", f"tokens {share} at block {block}", block=block)
    shell.downloads("dataset-images", ranked)


def map_figure(survey: Survey) -> Figure:
    """The mean usage map, for the download."""
    run, page = survey.run, Figure(figsize=(4, 2.3))
    draw_map(run, counted(run, survey.key), page.subplots())
    return page


def reactivation_figure(table: pd.DataFrame) -> Figure:
    """Pruned tokens by what becomes of them, block by block, for the download."""
    page = Figure(figsize=(4, 2.5))
    reactivation.print(table, page.subplots())
    return page
