"""The Compare page's panels: tokens and objects of several runs on one image."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass

import altair as alt
import numpy as np
import pandas as pd
import streamlit as st
from matplotlib.figure import Figure
from PIL import Image

from analysis import agreement, comparison, figures, insight_figures, metrics
from analysis.pages import compare_charts, compare_panels, shell
from analysis.pages.compare_panels import SIDE_LEGEND, STATE_LEGEND, Layout, Title
from svit.store import Run
from svit.types import ImageId, TokenTrace

VIEWS = ("States", "Usage", "Difference", "Usage difference", "Agreement")
AT_A_BLOCK = ("States", "Difference", "Agreement")
STATE_NAMES = dict(zip(comparison.STATES, STATE_LEGEND, strict=True))
HELP = {
    "States": "Tokens used by the block show the picture. A pruned token stays in the feature map, and "
    "a later block may use it again. Layers without a gate use all tokens.",
    "Usage": "How many blocks used each token as a query.",
    "Difference": "Which tokens of the block only the first run uses, and which only this one.",
    "Usage difference": "Blocks that use a token in this run minus in the first run.",
    "Agreement": "Left: how many of the runs use the token at the block. Right: at how many of all "
    "blocks the runs decide alike, all using the token or none.",
    "kept": "Kept tokens / tokens that show image pixels, in this image. Dashes: what training aimed at.",
    "iou": "Tokens both runs use / tokens either uses, at each block of this image. Dashes: what random "
    "masks with the same counts give on average.",
    "score": "Detections below this score are left out of boxes, matches and counts.",
}


@dataclass(frozen=True)
class Comparison:
    """What the page shows.

    Attributes:
        runs: the reference first.
        names: of the runs, each with its letter.
        facts: what sets each apart from the others, such as its method.
        score: from which on detections count.
    """

    runs: tuple[Run, ...]
    names: tuple[str, ...]
    facts: tuple[str, ...]
    image_id: ImageId
    score: float

    @property
    def run_key(self) -> tuple:
        """Names the runs for the caches."""
        return tuple((str(r.path), r.created, len(r), r.finished) for r in self.runs)

    @property
    def key(self) -> tuple:
        """Names the image of the runs for the caches."""
        return (*self.run_key, self.image_id)


def traces(runs: Sequence[Run], key: tuple) -> list[TokenTrace]:
    """The image's traces; raises `MismatchError`."""
    return _traces(runs, key)


@st.cache_resource(max_entries=16, show_spinner=False)
def _traces(_runs: Sequence[Run], key: tuple) -> list[TokenTrace]:
    return comparison.traces_of(_runs, key[-1])


@st.cache_data(max_entries=32, show_spinner=False)
def picture(_runs: Sequence[Run], key: tuple) -> str | None:
    """The first stored picture as a data address."""
    for run in _runs:
        pixels = run.picture(key[-1])
        if pixels is not None:
            buffer = io.BytesIO()
            Image.fromarray(pixels).save(buffer, "JPEG", quality=88)
            return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
    return None


def show_heading(view: Comparison, seen: Sequence[TokenTrace], common: int) -> None:
    """How many images can be compared, and which facts tell the runs apart."""
    grid = seen[0].grid
    (rows, columns), (height, width) = grid.valid_hw, grid.image_hw
    st.caption(
        f"One of {common} images that all {len(view.runs)} runs hold · {width} × {height} pixels · "
        f"{columns} × {rows} tokens of {grid.patch} pixels"
    )
    differing = comparison.differing(comparison.fact_frame(view.runs))
    if {"framework", "inference"} & set(differing):
        kinds = " and ".join(name for name in differing if name in ("framework", "inference"))
        st.caption(
            f":material/info: The runs differ in {kinds}: each is named and drawn by itself."
        )


@st.fragment
def show_tokens(view: Comparison, seen: Sequence[TokenTrace]) -> None:
    """The token panels with their view and block, the life of a clicked token, lines by block."""
    left, right = st.columns([1.25, 1], gap="medium", vertical_alignment="bottom")
    with left:
        shell.restore("view", VIEWS[0], VIEWS)
        shown = st.segmented_control("Show", VIEWS, key="view", required=True)
    layers = seen[0].layers
    with right:
        deciding = comparison.deciding_layers(view.runs)
        blocks = range(1, layers + 1)
        shell.restore("block", deciding[0] + 1, blocks)
        block = st.slider("Block", 1, layers, key="block", disabled=shown not in AT_A_BLOCK)
    token = chosen_token(seen[0])
    shell.remember(
        view=shown, block=block, token=None if token is None else f"{token[0]},{token[1]}"
    )
    st.markdown(f"##### {heading(shown, block)}", help=HELP[shown])
    draw_panels(view, seen, shown, block - 1, token)
    if token is not None:
        show_life(view, seen, token, block)
    show_lines(view, seen, block)


def heading(shown: str, block: int) -> str:
    if shown == "Usage":
        return "Blocks that use each token"
    if shown == "Usage difference":
        return "Blocks more, or fewer, than in the first run"
    what = {"States": "Tokens", "Difference": "Against the first run", "Agreement": "Agreement"}
    return f"{what[shown]} at block {block}"


def chosen_token(trace: TokenTrace) -> tuple[int, int] | None:
    """The clicked token, or the link's, if this image has it."""
    clicked = st.session_state.get("panels", {}).get("selection", {}).get("token", [])
    if clicked:
        token = clicked[0].get("row"), clicked[0].get("column")
    else:
        try:
            row, column = shell.recalled("token", "").split(",")
            token = int(row), int(column)
        except ValueError:
            return None
    inside = all(
        isinstance(place, int) and 0 <= place < side
        for place, side in zip(token, trace.grid.valid_hw, strict=True)
    )
    return token if inside else None


def draw_panels(
    view: Comparison, seen: Sequence[TokenTrace], shown: str, layer: int, token: tuple | None
) -> None:
    """The chart, and what can be downloaded of it."""
    layout = Layout(2 if shown == "Agreement" else len(seen), seen[0].grid.image_hw)
    maps, colour = panel_maps(view, seen, shown, layer)
    tips = token_tips(view, seen, layer)
    rows = [
        compare_panels.token_rows(layout, panel, seen[0].grid, values, tips)
        for panel, (_, values) in enumerate(maps)
    ]
    address = picture(view.runs, view.key)
    titled = compare_panels.panel_rows(layout, [title for title, _ in maps], address)
    frame = pd.concat([titled, *rows], ignore_index=True)
    frame["chosen"] = False
    if token is not None:
        frame["chosen"] = (frame["row"] == token[0]) & (frame["column"] == token[1])
    opacity = 0.78 if shown in ("Usage", "Usage difference") else 0.6 if shown == "Agreement" else 1
    chart = compare_panels.panels(layout, colour, shell.dark(), opacity)
    st.vega_lite_chart(
        frame,
        chart.to_dict(),
        width="stretch",
        key="panels",
        on_select="rerun",
        selection_mode=["token"],
    )
    left, right = st.columns([3, 1], vertical_alignment="center")
    left.caption(
        "The cursor marks the same token in every panel; a click shows its life over the blocks."
    )
    with right:
        table = token_table(seen, view.names, layer)
        shell.downloads(
            f"compare-tokens-{view.image_id}", table, lambda: figure(view, seen, shown, layer)
        )


def panel_maps(
    view: Comparison, seen: Sequence[TokenTrace], shown: str, layer: int
) -> tuple[list[tuple[Title, np.ndarray]], alt.Color]:
    """Title and map of valid tokens of each panel, and how its values are coloured."""
    layers = seen[0].layers
    if shown == "Agreement":
        return agreement_maps(seen, layer), compare_panels.count_colour((0, layers))
    titles = run_titles(view, seen, layer)
    if shown == "Usage":
        usage = [metrics.usage(trace) for trace in seen]
        limits = min(int(values.min()) for values in usage), layers
        return list(zip(titles, usage)), compare_panels.count_colour(limits)
    if shown == "Usage difference":
        more = [agreement.usage_difference(trace, seen[0]) for trace in seen]
        return list(zip(titles, more)), compare_panels.difference_colour(layers)
    if shown == "Difference":
        legend, codes = SIDE_LEGEND, [comparison.sides(seen[0], trace)[layer] for trace in seen]
    else:
        legend, codes = STATE_LEGEND, [comparison.lives(trace)[layer] for trace in seen]
    words = np.array(list(legend))
    return list(zip(titles, (words[code] for code in codes))), compare_panels.states_colour(legend)


def run_titles(view: Comparison, seen: Sequence[TokenTrace], layer: int) -> list[Title]:
    """The run's name in its colour; below it what sets it apart and what the block keeps."""
    kept = [f"keeps {metrics.keep_ratios(trace)[layer]:.0%}" for trace in seen]
    below = [" · ".join(filter(None, pair)) for pair in zip(view.facts, kept, strict=True)]
    return [Title(*parts) for parts in zip(view.names, below, compare_charts.RUN_COLOURS)]


def agreement_maps(seen: Sequence[TokenTrace], layer: int) -> list[tuple[Title, np.ndarray]]:
    """How many runs use each token at the block, and at how many blocks all decide alike."""
    users = Title("Runs that use the token", f"at block {layer + 1}, of {len(seen)} runs")
    alike = Title("Blocks at which all runs decide alike", f"of {seen[0].layers} blocks")
    return [(users, comparison.users(seen)[layer]), (alike, comparison.unanimous(seen))]


def token_tips(view: Comparison, seen: Sequence[TokenTrace], layer: int) -> np.ndarray:
    """One line a valid token: where it is and what every run does with it."""
    words = np.array([STATE_NAMES[name] for name in comparison.STATES])
    rows, columns = np.indices(seen[0].grid.valid_hw)
    tips = np.char.add(
        np.char.add("row ", rows.astype(str)), np.char.add(" column ", columns.astype(str))
    )
    for name, trace in zip(view.names, seen, strict=True):
        state = words[comparison.lives(trace)[layer]]
        used = np.char.add(metrics.usage(trace).astype(str), f" of {trace.layers}")
        mine = np.char.add(np.char.add(f" · {name[0]}: ", state), np.char.add(", used ", used))
        tips = np.char.add(tips, mine)
    return tips


def token_table(seen: Sequence[TokenTrace], names: Sequence[str], layer: int) -> pd.DataFrame:
    """One row a valid token and run: state at the shown block, blocks that use it."""
    words, parts = np.array(comparison.STATES), []
    for name, trace in zip(names, seen, strict=True):
        rows, columns = np.indices(trace.grid.valid_hw).reshape(2, -1)
        state = words[comparison.lives(trace)[layer]].ravel()
        place = {"run": name, "block": layer + 1, "row": rows, "column": columns}
        parts.append(pd.DataFrame({**place, "state": state, "usage": metrics.usage(trace).ravel()}))
    return pd.concat(parts, ignore_index=True)


def figure(view: Comparison, seen: Sequence[TokenTrace], shown: str, layer: int) -> Figure:
    """The panels for a paper: states of the block, usage, or usage against the first run."""
    height, width = seen[0].grid.image_hw
    page = Figure(figsize=(7.2, 7.2 / len(seen) * height / width + 0.5))
    axes = page.subplots(1, len(seen), squeeze=False)[0]
    image = view.runs[0].picture(view.image_id)
    for ax, trace, name in zip(axes, seen, view.names, strict=True):
        if "ifference" in shown:
            values = agreement.usage_difference(trace, seen[0])
            insight_figures.difference_map(
                values, trace.grid, ax, limit=trace.layers, image=image, colorbar=False
            )
        elif shown == "Usage":
            limits = (0, trace.layers)
            figures.usage_heatmap(
                metrics.usage(trace), trace.grid, ax, limits=limits, image=image, colorbar=False
            )
        else:
            figures.layer_tokens(metrics.layer_states(trace), layer, trace.grid, ax, image=image)
        ax.set_title(name)
    return page


def show_life(
    view: Comparison, seen: Sequence[TokenTrace], token: tuple[int, int], block: int
) -> None:
    """The chosen token over all blocks, a row a run."""
    row, column = token
    st.markdown(f"##### Token in row {row}, column {column}", help=HELP["States"])
    words, parts = [STATE_NAMES[name] for name in comparison.STATES], []
    for name, trace in zip(view.names, seen, strict=True):
        codes = comparison.lives(trace)[:, row, column]
        scores = (
            np.full(trace.layers, np.nan) if trace.scores is None else trace.scores[:, row, column]
        )
        parts.append(
            pd.DataFrame(
                {
                    "run": name,
                    "block": np.arange(1, trace.layers + 1),
                    "state": [words[code] for code in codes],
                    "score": scores.astype(float),
                }
            )
        )
    lives = pd.concat(parts, ignore_index=True)
    st.altair_chart(compare_charts.life_strip(lives, block), width="stretch")


def show_lines(view: Comparison, seen: Sequence[TokenTrace], block: int) -> None:
    """Keep ratios of all runs and their overlap with the first, by block."""
    kept, overlap = keep_table(view, seen), overlap_table(view, seen)
    left, right = st.columns(2, gap="medium")
    with left:
        st.markdown("##### Kept tokens per block", help=HELP["kept"])
        style = {"y": "ratio", "title": "kept tokens", "dashes": "target"}
        st.altair_chart(compare_charts.run_lines(kept, view.names, block, **style), width="stretch")
        shell.downloads(f"compare-kept-{view.image_id}", kept)
    with right:
        st.markdown("##### Same tokens as the first run", help=HELP["iou"])
        style = {"y": "iou", "title": "IoU of the used tokens", "dashes": "chance"}
        chart = compare_charts.run_lines(overlap, view.names, block, **style)
        st.altair_chart(chart, width="stretch")
        shell.downloads(f"compare-overlap-{view.image_id}", overlap)


def keep_table(view: Comparison, seen: Sequence[TokenTrace]) -> pd.DataFrame:
    frames = [
        metrics.image_keep_frame(trace, run.targets).assign(run=name)
        for name, run, trace in zip(view.names, view.runs, seen, strict=True)
    ]
    return pd.concat(frames, ignore_index=True)


def overlap_table(view: Comparison, seen: Sequence[TokenTrace]) -> pd.DataFrame:
    frames = [
        agreement.agreement_frame([(seen[0], trace)]).assign(run=name)
        for name, trace in zip(view.names[1:], seen[1:], strict=True)
    ]
    return pd.concat(frames, ignore_index=True)
