"""One image of a run: its tokens block by block, one token's life, detections, keep ratios."""

from __future__ import annotations

import pandas as pd
import streamlit as st
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.figures import output, palette
from analysis.figures.canvas import boxes, pictures, sizes
from analysis.figures.tokens import keep
from analysis.numbers import biography, edit_effects
from analysis.numbers import usage as metrics
from analysis.pages.parts import session, shell
from analysis.pages.parts.image import frames, gallery, life, objects, play, stage
from analysis.pages.parts.image.view import View, blocks, first_block, run_key, view_of
from svit.runs.run import Run
from svit.system.text import counted, escaped

WIDTH = 3.8  # inches: the picture with its boxes
TALLEST = 0.9  # of the width; taller pictures are shown smaller
SHOWN = {  # choice -> what is drawn
    "Detections": ("found",),
    "Annotations": ("target",),
    "Both": ("found", "target"),
}
LIVE = shell.page_file("live")
HELP = {
    "tokens": "A token is a square of pixels; a block works on the tokens its gate keeps. Click one "
    "to see its life. ",
    "found": "Solid boxes: what the detector found, from the chosen score on. Dashed boxes: the data "
    "set's annotations. Colours go by class. The chosen object has a thick dashed frame.",
    "keep": "Kept tokens / tokens that show image pixels; padding is left out. The target is what "
    "training aimed at, on the mean over a batch.",
}


@st.cache_data(max_entries=24, show_spinner=False)
def found_png(_view: View, key: tuple, score: float, shown: str, dark: bool) -> bytes:
    """The picture with boxes and masks; the key names the chosen object, too, which is framed."""
    sample, names = _view.sample, _view.run.class_names
    chosen = objects.box(_view)

    def draw(ax: Axes) -> None:
        pictures.picture(sample.picture, _view.grid, ax)
        if sample.target is not None and "target" in SHOWN[shown]:
            boxes.ground_truth(sample.target, ax, class_names=names)
        if sample.found is not None and "found" in SHOWN[shown]:
            boxes.detections(sample.found, ax, class_names=names, threshold=score)
        edit_effects.outline(chosen, ax, palette.HERE, "--")

    ratio = min(sizes.drawn_ratio(_view.grid.image_hw), TALLEST)
    return shell.png(draw, WIDTH, ratio, dark)


@st.cache_data(max_entries=4, show_spinner="Counting tokens")
def run_ratios(_run: Run, key: tuple) -> pd.DataFrame:
    """Keep ratios of the whole run."""
    return keep.frame(_run)


keep_chart = st.cache_data(keep.one_image, show_spinner=False)


def choose_mode(modes: list[str], first: str) -> str:
    """What the map over the picture shows; `first` where nothing is chosen."""
    mode = st.segmented_control("Map", modes, key="mode", label_visibility="collapsed")
    if mode is None:  # a second click takes the choice back
        mode = first
    session.remember(mode=mode)
    return mode


def explore(view: View) -> None:
    """All that follows block, token, score and mode."""
    run, trace = view.run, view.sample.trace
    session.restore("block", first_block(run), blocks(run))
    session.restore("opacity", 0.8, within=play.SHARE)
    session.restore("score", 0.5, within=play.SHARE)
    modes = stage.modes_of(view)
    first = stage.first_mode(view, modes)
    session.restore("mode", first, modes)
    play.advance(run.layers)
    shown = st.session_state
    stage.paint_ahead(view, shown["mode"] or first, shown["block"] - 1, shown["opacity"])
    objects.restore(view)
    token = life.choose_token(view)
    sample, score = view.sample, st.session_state["score"]
    over = biography.over_token(
        view.grid, token, sample.found, sample.target, run.class_names, score
    )
    mode, layer = choose_mode(modes, first), play.choose_block(view)
    left, right = st.columns([1.75, 1], gap="medium")
    with left:
        ratio = metrics.keep_ratios(trace)[layer]
        st.markdown(
            f"##### Block {layer + 1} keeps {ratio:.0%} of the tokens",
            help=HELP["tokens"] + stage.MODES[mode],
        )
        opacity = st.session_state["opacity"]
        stage.show(view, mode, layer, opacity, token, objects.with_box(view, over))
        if mode == "Score" and not scored(view, layer):
            st.caption("No gate scored the tokens of this block.")
        show_found(view)
    with right:
        objects.show(view, score)
        life.show(view, token, over, layer)
        show_kept(view, layer)
    show_downloads(view, layer)
    if not play.playing():  # Back leads to views, not through every block of a film
        session.publish()


def scored(view: View, layer: int) -> bool:
    """Whether a gate of the zero-based block scored any token."""
    return bool(pd.notna(stage.margins(view, layer)[0]).any())


def show_found(view: View) -> None:
    """The picture with detections and annotations."""
    st.markdown("##### Detections and annotations", help=HELP["found"])
    controls = st.columns([1.2, 1], vertical_alignment="bottom", gap="medium")
    session.restore("boxes", next(iter(SHOWN)), SHOWN)
    shown = controls[0].selectbox("Boxes", list(SHOWN), key="boxes")
    score = controls[1].slider("Score from", *play.SHARE, step=0.05, key="score")
    session.remember(score=score, boxes=shown)
    key = (*view.key, objects.chosen())
    drawn = found_png(view, key, score, shown, shell.dark())
    said = "Detections and annotations" if shown == "Both" else shown
    told = f"{said} of image {view.image_id}, detections from score {score:g} on"
    st.image(drawn, width="stretch", alt=told)
    for record, name in (
        (view.sample.found, "detections"),
        (view.sample.target, "annotations"),
    ):
        if record is None:
            st.caption(f"This run holds no {name}.")


def show_kept(view: View, layer: int) -> None:
    """Keep ratios of all blocks."""
    st.markdown("##### Kept tokens per block", help=HELP["keep"])
    ratios = metrics.image_keep_frame(view.sample.trace, view.run.targets)
    tables = {"image": ratios.assign(shown=ratios["layer"] == layer)}
    tables["run"] = run_ratios(view.run, run_key(view.run))
    shell.chart(keep_chart(), tables, key="keep ratios")
    target = "Steps: the target." if view.run.targets else "The run states no target."
    st.caption(f"Bars: this image. Lines: 90 % of the run's images. {target}")
    shell.downloads(f"kept-{view.image_id}", ratios)


def show_downloads(view: View, layer: int) -> None:
    """The token maps as a table and as a figure for a paper."""
    st.caption(
        "Token maps of this image; in the table, block_1 … hold 0 used, 1 pruned for good, 2 back "
        "later, 3 back in the next block, 4 carried by another token."
    )
    shell.downloads(
        f"tokens-{view.image_id}", token_maps(view, view.key), lambda: figure(view, layer)
    )


@st.cache_resource(max_entries=4, show_spinner=False)
def token_maps(_view: View, key: tuple) -> pd.DataFrame:
    """Usage and states of every token."""
    maps = {"usage": metrics.usage(_view.sample.trace)}
    maps |= {f"block_{block}": plane for block, plane in enumerate(_view.sample.codes, 1)}
    return output.token_table(_view.grid, maps)


def figure(view: View, layer: int) -> Figure:
    """Usage and the states of one block, as in the paper."""
    run, sample = view.run, view.sample
    size = sizes.figsize(view.grid.image_hw, 2, extra=sizes.SCALE, above=sizes.TITLE)
    page = Figure(figsize=size)
    axes = page.subplots(1, 2)
    limits = metrics.usage_limits(run.layers, run.targets)
    usage = metrics.usage(sample.trace)
    states = metrics.layer_states(sample.trace)
    ratio = metrics.keep_ratios(sample.trace)[layer]
    pictures.layer_tokens(states, layer, view.grid, axes[0], image=sample.picture, ratio=ratio)
    pictures.usage_heatmap(usage, view.grid, axes[1], limits=limits, image=sample.picture)
    return page


def show(run: Run) -> None:
    """The page of a run that has images."""
    with st.sidebar:
        image_id = shell.choose_image(run, "image")
        room = st.container()
        show_ways_on()
    view = view_of(run, image_id)
    with st.container(horizontal=True, vertical_alignment="bottom"):
        title = f"Image {escaped(str(image_id))}"
        st.subheader(title, anchor=False, width="content")
        st.caption(sizes.told(view.grid), width="content")
    frames.show(run, image_id)
    st.fragment(explore, run_every=play.seconds_a_block())(view)
    with room:  # last: small pictures and counts of the whole run need not hold back the image
        gallery.show(run, image_id)


def show_ways_on() -> None:
    """Links to the Live page: with this image, with a picture of one's own."""
    seen = session.now()
    recorded = session.link(source="recorded", run=seen.run, image=seen.image)
    st.page_link(
        LIVE, label="What if? Edit its masks", icon=":material/edit:", query_params=recorded
    )
    upload = session.link(source="upload")
    st.page_link(
        LIVE, label="Try a picture of your own", icon=":material/upload:", query_params=upload
    )


def show_record(run: Run) -> None:
    """How the run was made and what failed in it."""
    if len(run.errors):
        with st.expander(f"Images that failed while recording: {len(run.errors)}"):
            st.dataframe(run.errors, hide_index=True)
    if not run.finished:
        st.info(f"The recording is unfinished: {counted(len(run), 'images')} so far.")
    shell.provenance(run)


shell.one_run(show, show_record)
