"""One image of a run: its tokens block by block, one token's life, detections, keep ratios."""

from __future__ import annotations

import time
from pathlib import Path

import altair as alt
import pandas as pd
import streamlit as st
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis import biography, figures, metrics, products
from analysis.pages import image_gallery, image_life, image_stage, shell
from analysis.pages.image_view import View, blocks, first_block, run_key, view_of
from svit.store import Run, RunError

WIDTH = 3.6  # inches: the picture with its boxes
TALLEST = 0.9  # of the width; taller pictures are shown smaller
OTHER, SPREAD, TARGET = "#a9bbc8", "#56657a", "#dc267f"
BEAT = 0.8  # seconds a block is shown while playing
SHOWN = ["Detections", "Annotations"]
HELP = {
    "tokens": "A token is a square of pixels; a block works on the tokens its gate keeps. Click one "
    "to see its life. ",
    "found": "Solid boxes: what the detector found, from the chosen score on. Dashed boxes: the data "
    "set's annotations. Colours go by class.",
    "keep": "Kept tokens / tokens that show image pixels; padding is left out. The target is what "
    "training aimed at, on the mean over a batch.",
}


@st.cache_data(max_entries=100, show_spinner=False)
def found_png(_view: View, key: tuple, score: float, shown: tuple[str, ...], dark: bool) -> bytes:
    """The picture with boxes and masks."""
    sample, names = _view.sample, _view.run.class_names

    def draw(ax: Axes) -> None:
        figures.picture(sample.picture, _view.grid, ax)
        if sample.target is not None and "Annotations" in shown:
            figures.ground_truth(sample.target, ax, class_names=names)
        if sample.found is not None and "Detections" in shown:
            figures.detections(sample.found, ax, class_names=names, threshold=score)

    height, width = _view.grid.image_hw
    return shell.png(draw, WIDTH, min(height / width, TALLEST), dark)


@st.cache_data(max_entries=4, show_spinner="Counting tokens")
def run_ratios(_run: Run, key: tuple) -> pd.DataFrame:
    """Keep ratios of the whole run."""
    return metrics.keep_frame(_run.keep_counts(), _run.targets)


def keep_chart(image: pd.DataFrame, run: pd.DataFrame, layer: int) -> alt.LayerChart:
    """Keep ratio of every block: this image as bars, the run as a band, the target as steps."""
    shares = alt.Axis(format="%", tickCount=5)
    x = alt.X("block:O", title="block", axis=alt.Axis(labelAngle=0))
    tips = ["block", *(alt.Tooltip(name, format=".1%") for name in ("ratio", "target"))]
    y = alt.Y("ratio:Q", title="kept tokens", axis=shares, scale=alt.Scale(domain=[0, 1]))
    bars = (
        alt.Chart(image.assign(shown=image["layer"] == layer))
        .mark_bar(width=alt.RelativeBandSize(0.72))
        .encode(
            x=x,
            y=y,
            color=alt.condition("datum.shown", alt.value(figures.NEXT), alt.value(OTHER)),
            tooltip=tips,
        )
    )
    band = (
        alt.Chart(run)
        .mark_rule(color=SPREAD, strokeWidth=1.5)
        .encode(
            x=x,
            y="low:Q",
            y2="high:Q",
            tooltip=[alt.Tooltip(name, format=".1%") for name in ("mean", "low", "high")],
        )
    )
    target = alt.Chart(image.dropna()).mark_line(color=TARGET, interpolate="step", strokeWidth=2)
    return (bars + band + target.encode(x=x, y="target:Q")).properties(height=300)


def choose_mode() -> str:
    """What the map over the picture shows."""
    modes = list(image_stage.MODES)
    shell.restore("mode", modes[0], modes)
    mode = st.segmented_control("Map", modes, key="mode", label_visibility="collapsed")
    if mode is None:  # a second click takes the choice back
        mode = modes[0]
    shell.remember(mode=mode)
    return mode


def choose_block(view: View) -> int:
    """The slider, its play button and the opacity; the zero-based layer."""
    play, slider, more = st.columns([1, 6, 2], vertical_alignment="bottom")
    playing = st.session_state.get("playing", False)
    play.button(
        "Stop" if playing else "Play",
        icon=":material/stop:" if playing else ":material/play_arrow:",
        key="play",
        on_click=_toggle,
        args=(view.run.layers,),
        shortcut="B",
        width="stretch",
        help="Shows one block after the other.",
    )
    block = slider.slider("Block", 1, view.run.layers, key="block")
    with more:
        st.slider("Opacity", 0.0, 1.0, step=0.05, key="opacity")
    shell.remember(block=block, opacity=st.session_state["opacity"])
    return block - 1


def _toggle(layers: int) -> None:
    """Starts or stops; from the last block it starts over."""
    playing = not st.session_state.get("playing", False)
    st.session_state["playing"], st.session_state["beat"] = playing, time.monotonic()
    st.session_state["run again"] = True
    if playing and st.session_state["block"] >= layers:
        st.session_state["block"] = 1


def advance(layers: int) -> None:
    """While playing, the next block once the shown one had its time; stops at the last."""
    if (
        not st.session_state.get("playing")
        or time.monotonic() - st.session_state["beat"] < BEAT / 2
    ):
        return
    st.session_state["beat"] = time.monotonic()
    st.session_state["block"] = min(st.session_state["block"] + 1, layers)
    if st.session_state["block"] == layers:
        st.session_state["playing"], st.session_state["run again"] = False, True


def explore(view: View) -> None:
    """All that follows block, token, score and mode."""
    run, trace = view.run, view.sample.trace
    shell.restore("block", first_block(run), blocks(run))
    shell.restore("opacity", 0.8)
    shell.restore("score", 0.5)
    advance(run.layers)
    if st.session_state.pop("run again", False):
        st.rerun()  # the page, so that the clock starts or stops
    token = image_life.choose_token(view)
    sample, score = view.sample, st.session_state["score"]
    over = biography.over_token(
        view.grid, token, sample.found, sample.target, run.class_names, score
    )
    left, right = st.columns([1.75, 1], gap="medium")
    with left:
        heading = st.container()
        mode = choose_mode()
        place = st.container()
        layer = choose_block(view)
        ratio = metrics.keep_ratios(trace)[layer]
        heading.markdown(
            f"##### Block {layer + 1} keeps {ratio:.0%} of the tokens",
            help=HELP["tokens"] + image_stage.MODES[mode],
        )
        with place:
            image_stage.show(view, mode, layer, st.session_state["opacity"], token, over)
            if mode == "Score" and not unscored(view, layer):
                st.caption("No gate scored the tokens of this block.")
    with right:
        image_life.show(view, token, over, layer)
    show_results(view, layer)
    show_downloads(view, layer)


def unscored(view: View, layer: int) -> bool:
    return bool(pd.notna(image_stage.margins(view, layer)[0]).any())


def show_results(view: View, layer: int) -> None:
    """Detections beside the keep ratios of all blocks."""
    left, right = st.columns(2, gap="medium")
    with left:
        st.markdown("##### Detections and annotations", help=HELP["found"])
        controls = st.columns([1.2, 1], vertical_alignment="bottom", gap="medium")
        shown = controls[0].pills(
            "Shown", SHOWN, selection_mode="multi", default=SHOWN[:1], key="boxes"
        )
        score = controls[1].slider("Score from", 0.0, 1.0, step=0.05, key="score")
        shell.remember(score=score)
        st.image(found_png(view, view.key, score, tuple(shown), shell.dark()), width="stretch")
        for record, name in (
            (view.sample.found, "detections"),
            (view.sample.target, "annotations"),
        ):
            if record is None:
                st.caption(f"This run holds no {name}.")
    with right:
        st.markdown("##### Kept tokens per block", help=HELP["keep"])
        ratios = metrics.image_keep_frame(view.sample.trace, view.run.targets)
        chart = keep_chart(ratios, run_ratios(view.run, run_key(view.run)), layer)
        st.altair_chart(chart, width="stretch")
        st.caption("Bars: this image. Lines: 90 % of the run's images. Red: the target.")
        shell.downloads(f"kept-{view.image_id}", ratios)


def show_downloads(view: View, layer: int) -> None:
    """The token maps as a table and as a figure for a paper."""
    maps = {"usage": metrics.usage(view.sample.trace)}
    maps |= {f"block_{block}": plane for block, plane in enumerate(view.sample.codes, 1)}
    table = products.token_table(view.grid, maps)
    st.caption(
        "Token maps of this image; in the table, block_1 … hold 0 used, 1 pruned for good, 2 back "
        "later, 3 back in the next block."
    )
    shell.downloads(f"tokens-{view.image_id}", table, lambda: figure(view, layer))


def figure(view: View, layer: int) -> Figure:
    """Usage and the states of one block, as in the paper."""
    run, sample = view.run, view.sample
    size = products.figsize(view.grid.image_hw, 2, extra=products.SCALE, above=products.TITLE)
    page = Figure(figsize=size)
    axes = page.subplots(1, 2)
    limits = metrics.usage_limits(run.layers, run.targets)
    usage = metrics.usage(sample.trace)
    states = metrics.layer_states(sample.trace)
    ratio = metrics.keep_ratios(sample.trace)[layer]
    figures.layer_tokens(states, layer, view.grid, axes[0], image=sample.picture, ratio=ratio)
    figures.usage_heatmap(usage, view.grid, axes[1], limits=limits, image=sample.picture)
    return page


def show(run: Run) -> None:
    """The page of a run that has images."""
    with st.sidebar:
        image_id = shell.choose_image(run, "image")
        image_gallery.show(run, image_id, "image")
        if Path(__file__).with_name("live.py").exists():
            st.page_link(
                "analysis/pages/live.py", label="Try your own picture", icon=":material/upload:"
            )
    view = view_of(run, image_id)
    (rows, columns), (height, width) = view.grid.valid_hw, view.grid.image_hw
    size = f"{width} × {height} pixels · {columns} × {rows} tokens of {view.grid.patch} pixels"
    st.subheader(f"Image {shell.plain(str(image_id))}", anchor=False)
    st.caption(size)
    clock = BEAT if st.session_state.get("playing") else None
    st.fragment(explore, run_every=clock)(view)


def show_record(run: Run) -> None:
    """How the run was made and what failed in it."""
    if len(run.errors):
        with st.expander(f"Images that failed while recording: {len(run.errors)}"):
            st.dataframe(run.errors, hide_index=True)
    if not run.finished:
        st.info(f"The recording is unfinished: {len(run)} images so far.")
    shell.provenance(run)


def main() -> None:
    """The page."""
    with st.sidebar:
        path = shell.choose_run("Run", "run")
    run = shell.opened(path)
    if run is None:
        return
    if not len(run):
        command = f"svit record --out {run.path}"
        shell.empty("This run holds no images yet. Record into it with:", command)
    else:
        try:
            show(run)
        except RunError as error:
            shell.complain(str(error), run.path)
    show_record(run)


main()
