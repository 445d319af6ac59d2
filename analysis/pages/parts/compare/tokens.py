"""The Compare page's tokens: panels with one block and one cursor, a token's life, lines by block."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import streamlit as st
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from analysis.figures import palette
from analysis.figures.canvas import pictures, sizes, token_maps
from analysis.figures.canvas.axes import heading as head
from analysis.figures.images import life
from analysis.figures.pairs import difference
from analysis.numbers import agreement, comparison, usage
from analysis.pages.parts import session, shell
from analysis.pages.parts.compare import charts, panels
from analysis.pages.parts.compare.panels import LETTERS, WORDS, Layout, Title
from analysis.pages.parts.compare.parts import RUN_COLOURS, Comparison, picture
from svit.core.types import TokenTrace

AT_A_BLOCK = ("States", "Difference", "Agreement")
SIDES = {  # the codes of `comparison.sides` in words
    "used by neither": palette.PRUNED,
    "only by the first": palette.ONLY_FIRST,
    "only by this run": palette.ONLY_SECOND,
    "used by both": None,
}
SHARES = {"none": 0.0, "a quarter": 0.25, "half": 0.5, "three quarters": 0.75, "all": 1.0}
HELP = {
    "States": "Tokens used by the block show the picture. A pruned token stays in the feature map, and "
    "a later block may use it again. Blocks without a gate use all tokens.",
    "Usage": "How many blocks used each token as a query.",
    "Difference": "Which tokens of the block only the first run uses, and which only this one; those "
    "that both use show the picture.",
    "Usage difference": "Blocks that use a token in this run minus in the first run.",
    "Agreement": "Left: how many of the runs use the token at the block. Right: at how many of all "
    "blocks the runs decide alike, all using the token or none.",
    "kept": "Kept tokens / tokens that show image pixels, in this image. Dashes: what training aimed at.",
    "iou": "Tokens both runs use / tokens either uses, at each block of this image. Dashes: what random "
    "masks with the same counts give on average.",
}
VIEWS = ("States", "Usage", "Difference", "Usage difference", "Agreement")


@st.fragment
def show(view: Comparison, seen: Sequence[TokenTrace]) -> None:
    """The token panels with their view and block, the life of a clicked token, lines by block."""
    shown, block, opacity = choose(view)
    token = chosen_token(seen[0])
    session.remember(shown=shown, block=block, opacity=opacity, token=token)
    st.markdown(f"##### {heading(shown, block)}", help=HELP[shown])
    show_panels(view, seen, shown, block - 1, opacity, token)
    if token is None:
        st.caption("The cursor marks a token in every panel; a click shows its life.")
    else:
        show_life(view, seen, token, block)
    show_lines(view, seen, block)
    session.publish()


def choose(view: Comparison) -> tuple[str, int, float]:
    """View, block and opacity of the maps."""
    layers = view.runs[0].layers
    session.restore("shown", VIEWS[0], VIEWS)
    shown = st.segmented_control(
        "Show", VIEWS, key="shown", required=True, label_visibility="collapsed"
    )
    left, right = st.columns([3, 1], gap="medium")
    with left:
        session.restore("block", comparison.deciding_layers(view.runs)[0] + 1, range(1, layers + 1))
        block = st.slider("Block", 1, layers, key="block", disabled=shown not in AT_A_BLOCK)
    with right:
        session.restore("opacity", 0.8, within=(0.0, 1.0))
        opacity = st.slider("Opacity", 0.0, 1.0, step=0.05, key="opacity")
    return shown, block, opacity


def heading(shown: str, block: int) -> str:
    """What the panels show, one of `VIEWS`, in words; the block counts from 1."""
    if shown == "Usage":
        return "Blocks that use each token"
    if shown == "Usage difference":
        return "Blocks more, or fewer, than in the first run"
    what = {"States": "Tokens", "Difference": "Against the first run", "Agreement": "Agreement"}
    return f"{what[shown]} at block {block}"


def chosen_token(trace: TokenTrace) -> tuple[int, int] | None:
    """The clicked token, or the one of the link or another page, if this image has it."""
    clicked = st.session_state.get("panels", {}).get("selection", {}).get("token", [])
    if clicked and clicked != st.session_state.get("panels clicked"):
        st.session_state["panels clicked"] = clicked
        session.remember(token=(int(clicked[0]["row"]), int(clicked[0]["column"])))
    return session.recalled_token(trace.grid.valid_hw)


def show_panels(
    view: Comparison,
    seen: Sequence[TokenTrace],
    shown: str,
    layer: int,
    opacity: float,
    token: tuple[int, int] | None,
) -> None:
    """The chart, and what can be downloaded of it."""
    grid, titles = seen[0].grid, panel_titles(view, seen, shown, layer)
    layout = Layout(len(titles), grid.image_hw)
    words = legend(view, seen, shown)
    spec = panels.token_chart(layout, grid, len(seen), words, shell.dark())
    urls = map_addresses(view, view.key, seen, shown, layer, opacity)
    chosen = [] if token is None else [token]
    panels.show(
        spec,
        layout,
        "panels",
        picture=picture(view.runs, view.key),
        titles=titles,
        maps=pd.DataFrame({"panel": range(len(urls)), "url": urls}),
        tokens=token_rows(view.key, seen, layer),
        chosen=pd.DataFrame(chosen, columns=["row", "column"], dtype="int16"),
    )
    table = token_table(seen, view.names, layer)
    shell.downloads(
        f"compare-tokens-{view.image_id}", table, lambda: figure(view, seen, shown, layer)
    )


def panel_titles(
    view: Comparison, seen: Sequence[TokenTrace], shown: str, layer: int
) -> list[Title]:
    """The run's name in its colour; below it what sets it apart and what the block keeps."""
    if shown == "Agreement":
        users = Title("Runs that use the token", f"at block {layer + 1}, of {len(seen)} runs")
        alike = "Blocks at which all runs decide alike"
        return [users, Title(alike, f"of {seen[0].layers} blocks")]
    kept = [f"keeps {usage.keep_ratios(trace)[layer]:.0%}" for trace in seen]
    below = [" · ".join(filter(None, pair)) for pair in zip(view.facts, kept, strict=True)]
    return [Title(*parts) for parts in zip(view.names, below, RUN_COLOURS)]


def usage_limits(view: Comparison) -> tuple[int, int]:
    """Blocks that prune in none of the runs, and all blocks."""
    layers = view.runs[0].layers
    return layers - len(comparison.deciding_layers(view.runs)), layers


def legend(view: Comparison, seen: Sequence[TokenTrace], shown: str) -> dict[str, str]:
    """Words and colours above the panels."""
    if shown == "States":
        return dict(zip(WORDS[1:], token_maps.STATE_COLOURS.values(), strict=True))
    if shown == "Difference":
        return {word: colour for word, colour in SIDES.items() if colour}
    if shown == "Usage difference":
        reach = len(comparison.deciding_layers(view.runs))
        scale = colormaps[palette.DIVERGING]
        steps = [round(reach * share) for share in (-1, -2 / 3, -1 / 3, 0, 1 / 3, 2 / 3, 1)]
        return {
            f"{step:+d}".replace("+0", "0"): to_hex(scale(0.5 + step / 2 / reach)) for step in steps
        }
    if shown == "Agreement":
        scale = colormaps["inferno"]
        return {word: to_hex(scale(share)) for word, share in SHARES.items()}
    counts = np.stack([usage.usage(trace) for trace in seen])
    words = usage.count_words(usage_limits(view), counts)
    scale = colormaps["inferno"].resampled(len(words))
    return {word: to_hex(scale(step)) for step, word in enumerate(words)}


@st.cache_data(max_entries=200, show_spinner=False)
def map_addresses(
    _view: Comparison,
    key: tuple,
    _seen: Sequence[TokenTrace],
    shown: str,
    layer: int,
    opacity: float,
) -> list[str]:
    """The maps of a view over the pictures, a panel each."""
    first = _seen[0]
    if shown == "States":
        codes = (comparison.lives(trace)[layer] for trace in _seen)
        maps = [token_maps.states(one, opacity) for one in codes]
    elif shown == "Difference":
        codes = (comparison.sides(first, trace)[layer] for trace in _seen)
        maps = [token_maps.painted(one, list(SIDES.values()), opacity) for one in codes]
    elif shown == "Usage difference":
        reach = len(comparison.deciding_layers(_view.runs))
        more = (agreement.usage_difference(trace, first) for trace in _seen)
        maps = [token_maps.differences(values, reach, opacity) for values in more]
    elif shown == "Usage":
        limits = usage_limits(_view)
        maps = [token_maps.usage(usage.usage(trace), limits, opacity) for trace in _seen]
    else:
        users, alike = comparison.users(_seen)[layer], comparison.unanimous(_seen)
        parts = (users, len(_seen)), (alike, first.layers)
        maps = [token_maps.usage(counts, (0, most), opacity) for counts, most in parts]
    cut = (token_maps.cut(pixels, first.grid) for pixels in maps)
    return [shell.data_address(token_maps.encoded(pixels)) for pixels in cut]


@st.cache_data(max_entries=50, show_spinner=False)
def token_rows(key: tuple, _seen: Sequence[TokenTrace], layer: int) -> pd.DataFrame:
    """One row a valid token: where it is, and in words what every run does with it."""
    row, column = np.indices(_seen[0].grid.valid_hw).reshape(2, -1).astype(np.int16)
    columns = {"row": row, "column": column}
    for letter, trace in zip(LETTERS, _seen):
        blocks = range(trace.layers + 1)
        ends = [f", used by {count} of {trace.layers} blocks" for count in blocks]
        codes = comparison.lives(trace)[layer].astype(int) * len(blocks) + usage.usage(trace)
        words = [state + end for state in WORDS for end in ends]
        columns[letter] = pd.Categorical.from_codes(codes.ravel(), words)  # each text is sent once
    return pd.DataFrame(columns)


def token_table(seen: Sequence[TokenTrace], names: Sequence[str], layer: int) -> pd.DataFrame:
    """One row a valid token and run: state at the shown block, blocks that use it."""
    words, parts = np.array(comparison.STATES), []
    for name, trace in zip(names, seen, strict=True):
        rows, columns = np.indices(trace.grid.valid_hw).reshape(2, -1)
        state = words[comparison.lives(trace)[layer]].ravel()
        place = {"run": name, "block": layer + 1, "row": rows, "column": columns}
        parts.append(pd.DataFrame({**place, "state": state, "usage": usage.usage(trace).ravel()}))
    return pd.concat(parts, ignore_index=True)


def figure(view: Comparison, seen: Sequence[TokenTrace], shown: str, layer: int) -> Figure:
    """The panels for a paper, as the page shows them."""
    titles, grid = panel_titles(view, seen, shown, layer), seen[0].grid
    ratio = sizes.drawn_ratio(grid.image_hw)
    page = Figure(figsize=(7.2, 7.2 / len(titles) * ratio + 0.5))
    axes = page.subplots(1, len(titles), squeeze=False)[0]
    stored = (run.picture(view.image_id) for run in view.runs)
    image = next((one for one in stored if one is not None), None)
    if shown == "Agreement":
        counts = comparison.users(seen)[layer], comparison.unanimous(seen)
        for ax, plane, most in zip(axes, counts, (len(seen), seen[0].layers), strict=True):
            pictures.usage_heatmap(plane, grid, ax, limits=(0, most), image=image, scale="")
    else:
        counts = np.stack([usage.usage(trace) for trace in seen])
        for ax, trace in zip(axes, seen, strict=True):
            every = counts if ax is axes[-1] else None
            print_run(view, seen[0], trace, shown, layer, ax, image, every)
    for ax, title in zip(axes, titles, strict=True):
        ax.set_title(f"{title.text}\n{title.below}" if shown == "Agreement" else title.text)
    head(page, heading(shown, layer + 1))
    return page


def print_run(
    view: Comparison,
    first: TokenTrace,
    trace: TokenTrace,
    shown: str,
    layer: int,
    ax: Axes,
    image: np.ndarray | None,
    every: np.ndarray | None,
) -> None:
    """One run's panel on paper, of any view but Agreement.

    Args:
        every: usage in all runs, for the one bar, which stands beside this panel; None beside others.
    """
    grid = trace.grid
    if shown == "Usage difference":
        reach = len(comparison.deciding_layers(view.runs))
        values = agreement.usage_difference(trace, first)
        difference.print(values, grid, ax, limit=reach, image=image, colorbar=False)
    elif shown == "Difference":
        codes = comparison.sides(first, trace)[layer]
        pictures.picture(image, grid, ax)
        colours = token_maps.painted(codes, list(SIDES.values()), pictures.COVER)
        pictures.tokens(colours, grid, ax)
    elif shown == "Usage":
        style = {"limits": usage_limits(view), "image": image, "scale": "", "every": every}
        pictures.usage_heatmap(usage.usage(trace), grid, ax, colorbar=every is not None, **style)
    else:
        pictures.layer_tokens(usage.layer_states(trace), layer, grid, ax, image=image)


def show_life(
    view: Comparison, seen: Sequence[TokenTrace], token: tuple[int, int], block: int
) -> None:
    """The chosen token over all blocks, a row a run."""
    row, column = token
    st.markdown(f"##### Token in row {row + 1}, column {column + 1}", help=HELP["States"])
    lives = life.frame(dict(zip(view.names, seen, strict=True)), token)
    shell.chart(life_chart(len(seen)), {"life": lives.assign(here=lives["block"] == block)})


life_chart = st.cache_data(lambda runs: life.screen(runs).to_dict(), show_spinner=False)


def show_lines(view: Comparison, seen: Sequence[TokenTrace], block: int) -> None:
    """Keep ratios of all runs and their overlap with the first, by block."""
    kept, overlap = keep_table(view, seen), overlap_table(view, seen)
    left, right = st.columns(2, gap="medium")
    with left:
        st.markdown("##### Kept tokens per block", help=HELP["kept"])
        how = {"y": "ratio", "title": "kept tokens", "dashes": "target"}
        charts.show_lines(kept, view.names, block, **how)
        shell.downloads(f"compare-kept-{view.image_id}", kept)
    with right:
        st.markdown("##### Same tokens as the first run", help=HELP["iou"])
        how = {"y": "iou", "title": "IoU of the used tokens", "dashes": "chance"}
        charts.show_lines(overlap, view.names, block, **how)
        shell.downloads(f"compare-overlap-{view.image_id}", overlap)


def keep_table(view: Comparison, seen: Sequence[TokenTrace]) -> pd.DataFrame:
    """Kept tokens of the picture, a row a run and block (`usage.image_keep_frame` with its run)."""
    frames = [
        usage.image_keep_frame(trace, run.targets).assign(run=name)
        for name, run, trace in zip(view.names, view.runs, seen, strict=True)
    ]
    return pd.concat(frames, ignore_index=True)


def overlap_table(view: Comparison, seen: Sequence[TokenTrace]) -> pd.DataFrame:
    """Agreement with the first run, a row a further run and block (`agreement.agreement_frame`)."""
    frames = [
        agreement.agreement_frame([(seen[0], trace)]).assign(run=name)
        for name, trace in zip(view.names[1:], seen[1:], strict=True)
    ]
    return pd.concat(frames, ignore_index=True)
