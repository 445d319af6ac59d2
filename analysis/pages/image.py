"""One image of a run: token usage, detections, the life of its tokens layer by layer, keep ratios."""

from __future__ import annotations

import io
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import altair as alt
import pandas as pd
import streamlit as st
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.style import context

from analysis import figures, metrics
from svit.store import Run, RunError, open_run
from svit.types import ImageId

WIDTH, SCALE = 3.6, 0.45  # inches: a picture, and its colour scale beside it
OTHER, SPREAD, TARGET = "#a9bbc8", "#56657a", "#dc267f"
TALLEST = 0.8  # of the width; taller pictures are shown smaller
DARK_INK = dict.fromkeys(
    ("text.color", "axes.labelcolor", "axes.titlecolor", "ytick.labelcolor"), "#cfd6e0"
)
HELP = {
    "usage": "How many layers used each token as a query. Layers without a gate always do.",
    "detections": "What the detector found, from the chosen score on. Colours go by class.",
    "layers": "Tokens that take part in the block show the picture, the others are covered. A "
    "pruned token stays in the feature map, and a later layer may use it again: it is reactivated.",
    "keep": "Kept tokens / tokens that show image pixels; padding is left out. The target is what "
    "training aimed at, on the mean over a batch.",
}


@dataclass(frozen=True)
class View:
    """What the page shows; `key` names it for the caches."""

    run: Run
    image_id: ImageId
    key: tuple


@st.cache_resource
def drawing() -> threading.Lock:
    """Matplotlib has one style for the process, so sessions draw in turn."""
    return threading.Lock()


@st.cache_resource(max_entries=4, show_spinner="Opening the run")
def load(path: Path, stamp: float, undamaged: bool) -> Run:
    """An open run; another `stamp` opens it anew."""
    return open_run(path, skip_corrupt=undamaged)


def opened(path: Path) -> Run | None:
    """The run, or None after the page said what is wrong with it."""
    stamp = max(file.stat().st_mtime for file in path.glob("*.json"))
    try:
        run = load(path, stamp, st.session_state.get(f"undamaged {path}", False))
    except RunError as error:
        complain(str(error), path)
        return None
    if run.skipped:
        complain("\n".join(run.skipped), path)
    return run


def complain(message: str, path: Path) -> None:
    """Shows an error (its text may hold names from data, so it is shown verbatim) and a way on."""
    st.error("This run cannot be read as a whole.", icon=":material/broken_image:")
    st.code(message, language=None, wrap_lines=True)
    st.checkbox("Show what is undamaged", key=f"undamaged {path}")


def plain(text: str) -> str:
    """Text from data with Markdown's signs made harmless."""
    return re.sub(r"([\\`*_{}\[\]()<>#+.!|~:$^-])", r"\\\1", text)


def png(view: View, draw: Callable[[Axes], object], width: float = WIDTH) -> bytes:
    """A figure that `draw` filled, for the theme of the page, on a transparent ground."""
    height, side = view.run.trace(view.image_id).grid.image_hw
    ink = DARK_INK if st.context.theme.type == "dark" else {}
    buffer = io.BytesIO()
    with drawing(), context([figures.STYLE, ink]):
        figure = Figure(figsize=(width, WIDTH * min(height / side, TALLEST)), facecolor="none")
        draw(figure.subplots())
        figure.savefig(buffer, dpi=220, facecolor="none", pil_kwargs={"compress_level": 2})
    return buffer.getvalue()


@st.cache_data(max_entries=100, show_spinner=False)
def usage_png(_view: View, key: tuple, alpha: float) -> bytes:
    """The usage heatmap of the view."""
    run, trace = _view.run, _view.run.trace(_view.image_id)
    limits = metrics.usage_limits(run.layers, run.targets)
    style = {"limits": limits, "image": run.picture(_view.image_id), "alpha": alpha}
    usage = metrics.usage(trace)
    return png(
        _view, lambda ax: figures.usage_heatmap(usage, trace.grid, ax, **style), WIDTH + SCALE
    )


@st.cache_data(max_entries=100, show_spinner=False)
def detections_png(_view: View, key: tuple, score: float) -> bytes:
    """The picture of the view with its detections."""
    run, image_id = _view.run, _view.image_id
    found = run.detections(image_id, masks=True)

    def draw(ax: Axes) -> None:
        figures.picture(run.picture(image_id), run.trace(image_id).grid, ax)
        if found is not None:
            figures.detections(found, ax, class_names=run.class_names, threshold=score)

    return png(_view, draw)


@st.cache_data(max_entries=200, show_spinner=False)
def layer_png(_view: View, key: tuple, layer: int) -> bytes:
    """The token states of one layer of the view."""
    trace = _view.run.trace(_view.image_id)
    states, image = metrics.layer_states(trace), _view.run.picture(_view.image_id)

    def draw(ax: Axes) -> None:
        figures.layer_tokens(states, layer, trace.grid, ax, image=image)
        ax.set_title("")  # the page's own heading says it

    return png(_view, draw)


@st.cache_data(max_entries=4, show_spinner="Counting tokens")
def run_ratios(_run: Run, key: tuple) -> pd.DataFrame:
    """Keep ratios of the whole run."""
    return metrics.keep_frame(_run.keep_counts(), _run.targets)


def keep_chart(image: pd.DataFrame, run: pd.DataFrame, layer: int) -> alt.LayerChart:
    """Keep ratio of every block: this image as bars, the run as a band, the target as ticks."""
    shares = alt.Axis(format="%", tickCount=5)
    x = alt.X("block:O", title="block", axis=alt.Axis(labelAngle=0))
    bars = (
        alt.Chart(image.assign(shown=image["layer"] == layer))
        .mark_bar(width=alt.RelativeBandSize(0.72))
        .encode(
            x=x,
            y=alt.Y("ratio:Q", title="kept tokens", axis=shares, scale=alt.Scale(domain=[0, 1])),
            color=alt.condition("datum.shown", alt.value(figures.NEXT), alt.value(OTHER)),
            tooltip=[
                "block",
                alt.Tooltip("ratio", format=".1%"),
                alt.Tooltip("target", format=".1%"),
            ],
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
    return (bars + band + target.encode(x=x, y="target:Q")).properties(height=330)


def choose_image(run: Run) -> ImageId:
    """The sidebar's choice among the images of the run."""
    names = dict(zip(run.image_ids, run.images["file_name"], strict=True))

    def label(image_id: ImageId) -> str:
        return (
            str(image_id) if names[image_id] in ("", image_id) else f"{image_id}  {names[image_id]}"
        )

    key = f"image {run.path}"
    return st.sidebar.selectbox("Image", sorted(run.image_ids), format_func=label, key=key)


def show_pictures(view: View) -> None:
    """Usage and detections side by side, each with its control below."""
    left, right = st.columns([WIDTH + SCALE, WIDTH], gap="medium")
    with left:
        st.markdown("##### Token usage", help=HELP["usage"])
        place = st.container()  # st.empty would flicker
        alpha = st.slider("Opacity", 0.0, 1.0, 0.75, 0.05, key="opacity")
        place.image(usage_png(view, view.key, alpha), width="stretch")
    with right:
        st.markdown("##### Detections", help=HELP["detections"])
        place = st.container()
        score = st.slider("Score from", 0.0, 1.0, 0.5, 0.05, key="score")
        place.image(detections_png(view, view.key, score), width="stretch")
        if view.run.detections(view.image_id) is None:
            st.caption("This run holds no detections.")


def show_layers(view: View) -> None:
    """The states of one layer beside the keep ratios of all."""
    run, trace = view.run, view.run.trace(view.image_id)
    ratios = metrics.image_keep_frame(trace, run.targets)
    left, right = st.columns([WIDTH + SCALE, WIDTH], gap="medium")
    with left:
        heading, place = st.container(), st.container()
        st.caption("White: pruned, not used again. Cyan: pruned, reactivated in a later layer.")
        first = metrics.gated_layers(run.layers, run.targets)[0]
        layer = st.slider("Block", 1, run.layers, first + 1, key=f"block of {run.layers}") - 1
        kept = f"##### Block {layer + 1} keeps {ratios['ratio'][layer]:.0%} of the tokens"
        heading.markdown(kept, help=HELP["layers"])
        place.image(layer_png(view, view.key, layer), width="stretch")
    with right:
        st.markdown("##### Kept tokens per block", help=HELP["keep"])
        chart = keep_chart(ratios, run_ratios(run, view.key[:-2]), layer)
        st.altair_chart(chart, width="stretch")
        st.caption("Bars: this image. Lines: 90 % of the run's images. Red: the target.")


def show(run: Run) -> None:
    """The page of a run that has images."""
    image_id = choose_image(run)
    key = (str(run.path), run.created, len(run), run.finished, image_id, st.context.theme.type)
    view, grid = View(run, image_id, key), run.trace(image_id).grid
    (rows, columns), (height, width) = grid.valid_hw, grid.image_hw
    size = f"{width} × {height} pixels · {columns} × {rows} tokens of {grid.patch} pixels"
    st.subheader(f"Image {plain(str(image_id))}", anchor=False)
    st.caption(size)
    show_pictures(view)
    show_layers(view)


def show_record(run: Run) -> None:
    """How the run was made and what failed in it."""
    if len(run.errors):
        with st.expander(f"Images that failed while recording: {len(run.errors)}"):
            st.dataframe(run.errors, hide_index=True)
    if not run.finished:
        st.info(f"The recording is unfinished: {len(run)} images so far.")
    st.caption(plain(run.describe()))


def main() -> None:
    """The page."""
    run = opened(st.session_state.run)
    if run is None:
        return
    if not len(run):
        st.info("This run holds no images yet. Record into it with:")
        st.code(f"svit record --out {run.path}", language="shell")
    else:
        try:
            show(run)
        except RunError as error:
            complain(str(error), run.path)
    show_record(run)


main()
