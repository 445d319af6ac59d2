"""The Image page's token grid: the picture, a map over it, and tokens to click.

The chart's specification stays the same while block, score and token change; only its small tables do.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import altair as alt
import matplotlib as mpl
import numpy as np
import pandas as pd
import streamlit as st
from matplotlib.colors import to_hex

from analysis.figures import palette
from analysis.figures.canvas import token_maps
from analysis.figures.canvas.screen import columns_of
from analysis.figures.canvas.sizes import drawn_ratio
from analysis.figures.images import life, measures
from analysis.numbers import usage
from analysis.pages.parts import first_paint, shell
from analysis.pages.parts.image.view import View, token_chart
from svit.core.coverage import token_means
from svit.core.types import TokenGrid
from svit.runs import shards

MODES = {
    "States": "Used tokens show the picture; white: pruned for good; cyan: pruned, back in a later "
    "block (the paper: reactivated); dark cyan: back in the very next block; yellow: merged, another token "
    "carries it.",
    "Used": "The tokens that take part in the block show the picture, the others are veiled.",
    "Pruned": "The tokens that do not take part in the block, by themselves or carried. They stay in the "
    "feature map.",
    "Back later": "Pruned here and used in at least one later block: in the paper's word, reactivated.",
    "Back next": "Pruned here and used in the very next block; part of those that come back later.",
    "Score": "Log-odds of keeping as the block's gate saw them, less the score that parts used from "
    "pruned tokens where there is one. Blue is kept, red is pruned; white is a close call.",
    "Groups": "Merged tokens in the mean colour of the picture under their group.",
    "Usage": "How many blocks use each token. Blocks without a gate use all.",
    "Update": "How much the block changed each token: ‖block(x) − x‖ / ‖x‖.",
    "Norm": "Length of each token behind the block.",
    "Attention": "Attention that each token receives in the block; 1 where all look everywhere alike. "
    "Colours run from a quarter to four times that, on a logarithmic scale.",
}
OF_MEASURES = {"Update": "update", "Norm": "norm", "Attention": "attention"}
OF_STATES = {"Used": "used", "Pruned": "pruned", "Back later": "later", "Back next": "next"}
STATE_NAMES = {state: word for state, (word, _) in life.STATES.items() if state != "used"}
WIDEST, TALLEST, LOWEST = 640, 560, 240  # screen pixels: the room a picture is laid out for
LEGEND = 34
NARROW = 641  # screen pixels: the margins of a narrower window are `shell.MARGIN`
STAGE = "stage"  # key of the chart's container
PLACE = [alt.Tooltip("line:Q", title="row"), alt.Tooltip("place:Q", title="column")]  # of `on_grid`
NO_PADDING = dict.fromkeys(("left", "top", "right", "bottom"), 0)  # 0 alone gets Streamlit's own
CANVAS = {"embedOptions": {"renderer": "canvas"}}  # thousands of tokens are too many for SVG


@st.cache_data(max_entries=32, show_spinner=False)
def picture_address(_view: View, key: tuple) -> str:
    """Data URL of the stored picture, 640 pixels at its longer side; empty where none is stored."""
    if _view.sample.picture is None:
        return ""
    return shell.data_address(shards.jpeg(_view.sample.picture, 640), "jpeg")


@st.cache_data(max_entries=64, show_spinner=False)
def overlay_address(_view: View, key: tuple, mode: str, layer: int, opacity: float) -> str:
    """The map of a mode over the picture."""
    sample = _view.sample
    if mode == "States":
        pixels = token_maps.states(sample.codes[layer], opacity)
    elif mode == "Usage":
        limits = usage.usage_limits(_view.run.layers, _view.run.targets)
        pixels = token_maps.usage(usage.usage(sample.trace), limits, opacity)
    elif mode == "Score":
        pixels = token_maps.scores(*margins(_view, layer), opacity)
    elif mode == "Groups":
        means = token_means(sample.picture, _view.grid)
        pixels = token_maps.groups(usage.carriers(sample.trace, layer), means, opacity)
    elif mode in OF_MEASURES:
        values = usage.valid_measure(sample.trace, OF_MEASURES[mode])
        norm = measures.norm(OF_MEASURES[mode], values)
        pixels = token_maps.amounts(values[layer], norm, opacity)
    else:
        shown = getattr(usage.layer_states(sample.trace), OF_STATES[mode])[layer]
        pixels = token_maps.only(shown, opacity)
    return shell.data_address(token_maps.encoded(token_maps.cut(pixels, _view.grid)))


def modes_of(view: View) -> list[str]:
    """The modes that an image offers: those of measures where they were recorded, groups where tokens merge
    in a stored picture."""
    sample = view.sample
    absent = {mode for mode, name in OF_MEASURES.items() if name not in sample.trace.measures}
    if sample.trace.group is None or sample.picture is None:
        absent.add("Groups")
    return [mode for mode in MODES if mode not in absent]


def first_mode(view: View, modes: Sequence[str]) -> str:
    """What the page opens with: states, or how much blocks change tokens where that is known and nothing is
    pruned."""
    dense = usage.valid_keep(view.sample.trace).all()
    return "Update" if dense and "Update" in modes else modes[0]


def margins(view: View, layer: int) -> tuple[np.ndarray, float]:
    """Scores of the valid tokens at a layer, less the layer's limit where it has one, and the largest
    distance from 0 among all layers, for the scale of colours."""
    rows, columns = view.grid.valid_hw
    if view.sample.trace.scores is None:
        return np.full((rows, columns), np.nan), 1.0
    planes = view.sample.trace.scores[:, :rows, :columns].astype(float)
    planes = planes - np.nan_to_num(view.sample.limits)[:, None, None]
    return planes[layer], usage.reach(planes)


@st.cache_data(max_entries=32, show_spinner=False)
def token_rows(_view: View, key: tuple) -> pd.DataFrame:
    """One row a valid token, small numbers: where it is and how many blocks use it."""
    counts = usage.usage(_view.sample.trace)
    row, column = np.indices(counts.shape).reshape(2, -1).astype(np.int16)
    return pd.DataFrame({"row": row, "column": column, "used": counts.ravel().astype(np.int8)})


def height(grid: TokenGrid) -> int:
    """Of the chart in screen pixels, legend included."""
    return int(np.clip(WIDEST * drawn_ratio(grid.image_hw), LOWEST, TALLEST)) + LEGEND


def legend_of(view: View, mode: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Words and colours below the chart."""
    if mode == "States":
        merges = usage.layer_states(view.sample.trace).carried.any()
        shown = [one for one in STATE_NAMES if one != "carried" or merges]
        colours = (token_maps.STATE_COLOURS[one] for one in shown)
        return tuple(STATE_NAMES[one] for one in shown), tuple(colours)
    if mode == "Usage":
        limits = usage.usage_limits(view.run.layers, view.run.targets)
        words = usage.count_words(limits, usage.usage(view.sample.trace))
        steps = mpl.colormaps["inferno"].resampled(len(words))
        return tuple(words), tuple(to_hex(steps(i)) for i in range(steps.N))
    if mode == "Groups":
        return ("mean colour of the group", "pruned"), (palette.SOFT, "rgba(0,0,0,0)")
    if mode in OF_MEASURES:
        name = OF_MEASURES[mode]
        norm = measures.norm(name, usage.valid_measure(view.sample.trace, name))
        steps = mpl.colormaps["inferno"].resampled(5)
        return measures.said(norm, 5), tuple(to_hex(steps(i)) for i in range(5))
    if mode == "Score":
        return ("pruned", "close call", "kept"), token_maps.SCORE_COLOURS
    return (mode.lower() + ": picture", "all others"), ("rgba(0,0,0,0)", token_maps.VEIL)


def paint_ahead(view: View, mode: str, layer: int, opacity: float) -> None:
    """Paints picture and map where the chart is not drawn yet; before all widgets, which the browser would
    load first."""
    if token_chart(view) in st.session_state:
        return
    shape = 1 / drawn_ratio(view.grid.image_hw)
    room = {"shape": shape, "widest": (height(view.grid) - LEGEND) * shape}
    panel = (overlay_address(view, view.key, mode, layer, opacity), picture_address(view, view.key))
    first_paint.show(STAGE, [panel], **room, top=LEGEND, centred=True)


def show(
    view: View, mode: str, layer: int, opacity: float, token: tuple[int, int], over: pd.DataFrame
) -> None:
    """The chart; a click selects `token`, its row and column.

    Args:
        over: boxes to draw (`biography.over_token`, and those of a kind "chosen").
    """
    tall, wide = view.grid.image_hw
    place = {"left": [0.0], "top": [0.0], "right": [float(wide)], "bottom": [float(tall)]}
    overlay = overlay_address(view, view.key, mode, layer, opacity)
    pictured = view.sample.picture is not None
    spec = _chart(view.grid, pictured, *legend_of(view, mode), shell.dark())
    picture = picture_address(view, view.key)
    tables = {
        "picture": pd.DataFrame({**place, "url": picture}),
        "overlay": pd.DataFrame({**place, "url": overlay}),
        "tokens": token_rows(view, view.key),
        "chosen": pd.DataFrame({"row": [token[0]], "column": [token[1]]}),
        "boxes": over[["kind", "class", "left", "top", "right", "bottom"]],
    }
    across = f"(100vw - {shell.MARGIN}px) * {drawn_ratio(view.grid.image_hw):.4f}"
    tall = f"height: min(calc({across} + {2 * LEGEND}px), {height(view.grid)}px)"
    shell.narrow(STAGE, f"{tall}; overflow: hidden; flex: 0 0 auto", NARROW)
    with st.container(key=STAGE):
        shell.chart(
            spec,
            tables,
            key=token_chart(view),
            on_select="rerun",
            selection_mode=["token"],
            height=height(view.grid),
        )


@st.cache_data(max_entries=64, show_spinner=False)
def _chart(
    grid: TokenGrid, pictured: bool, words: Sequence[str], colours: Sequence[str], dark: bool
) -> dict:
    """The chart without its tables."""
    place = _place(grid)

    def layer(name: str) -> alt.Chart:
        return alt.Chart(alt.NamedData(name)).encode(**place)

    picture = layer("picture")
    drawn = alt.layer(
        picture.mark_rect(color=palette.FIELD),
        *([picture.mark_image(aspect=False).encode(url="url:N")] if pictured else []),
        layer("overlay").mark_image(aspect=False, smooth=False).encode(url="url:N"),
        *_boxes(layer("boxes")),
        *_cells(layer("tokens"), layer("chosen"), grid),
        legend(words, colours, dark),
    ).properties(
        height=height(grid),
        background="transparent",
        padding=NO_PADDING,
        description="The picture, a map of its tokens over it; the fields Row and Column choose one",
    )
    return drawn.configure_view(stroke=None).to_dict() | {"usermeta": CANVAS}


def _place(grid: TokenGrid) -> dict[str, alt.X | alt.Y | str]:
    """Sides of rows in source pixels: picture and tokens keep their shape in whatever room there is."""
    tall, wide = grid.image_hw
    drawn = wide * drawn_ratio(grid.image_hw)  # height in source pixels of the width
    pixel = f"max({wide} / width, {drawn} / height)"  # source pixels a screen pixel
    across = [alt.ExprRef(f"({wide} {sign} {pixel} * width) / 2") for sign in "-+"]
    down = alt.ExprRef(f"{pixel} * height * {tall / drawn}")
    x = alt.Scale(domain=across, nice=False, zero=False)
    y = alt.Scale(domain=[down, 0], nice=False, zero=False)
    return {
        "x": alt.X("left:Q", axis=None, scale=x),
        "y": alt.Y("top:Q", axis=None, scale=y),
        "x2": "right:Q",
        "y2": "bottom:Q",
    }


def _boxes(boxes: alt.Chart) -> Iterator[alt.Chart]:
    """Frames of what lies over the chosen token, by kind."""
    for which, width, colour, dash in (
        ("== 'detected'", 2, palette.HERE, [1, 0]),
        ("== 'chosen'", 5, palette.DARK, [1, 0]),
        ("== 'chosen'", 3, palette.HERE, [8, 4]),
        ("!= 'detected' && datum.kind != 'chosen'", 2, palette.LIGHT, [5, 3]),
    ):
        style = {"fillOpacity": 0, "strokeWidth": width, "stroke": colour, "strokeDash": dash}
        yield boxes.transform_filter(f"datum.kind {which}").mark_rect(**style)


def _cells(tokens: alt.Chart, chosen: alt.Chart, grid: TokenGrid) -> list[alt.Chart]:
    """The chosen token, the one under the cursor, and above them all that can be clicked."""
    fields = {"fields": ["row", "column"], "empty": False}
    pick = alt.selection_point(name="token", toggle=False, **fields)
    over = alt.selection_point(name="over", on="pointerover", clear="pointerout", **fields)
    hovered = on_grid(tokens.transform_filter(over), grid)
    ring = on_grid(chosen, grid)
    cells = on_grid(tokens, grid).mark_rect(fillOpacity=0, cursor="pointer", aria=False)
    cells = cells.encode(tooltip=[*PLACE, alt.Tooltip("used:Q", title="blocks that use it")])
    return [
        ring.mark_rect(fillOpacity=0, strokeWidth=4.5).encode(stroke=alt.value(palette.DARK)),
        ring.mark_rect(fillOpacity=0, strokeWidth=2.5).encode(stroke=alt.value(palette.HERE)),
        hovered.mark_rect(fillOpacity=0, strokeWidth=1.5, stroke=palette.HOVER),
        cells.add_params(pick, over),
    ]


def on_grid(chart: alt.Chart, grid: TokenGrid) -> alt.Chart:
    """Sides of tokens, cut at the image's border, from rows and columns, and these counted from 1 as `line`
    and `place`."""
    tall, wide = grid.image_hw
    down, across = (grid.patch / scale for scale in grid.scale_yx)
    return chart.transform_calculate(
        line="datum.row + 1",
        place="datum.column + 1",
        left=f"datum.column * {across}",
        top=f"datum.row * {down}",
        right=f"min((datum.column + 1) * {across}, {wide})",
        bottom=f"min((datum.row + 1) * {down}, {tall})",
    )


def legend(words: Sequence[str], colours: Sequence[str], dark: bool) -> alt.Chart:
    """Words and their colours above a chart, without a mark. On a canvas the page's style does not reach the
    words: they have their colour here."""
    scale = alt.Scale(domain=list(words), range=list(colours))
    key = alt.Legend(
        orient="top",
        title=None,
        offset=6,
        labelColor=palette.PALE if dark else palette.SOFT,
        symbolType="square",
        symbolOpacity=1,
        symbolStrokeColor=palette.SOFT,
        symbolStrokeWidth=0.6,
        columnPadding=14,
        columns=columns_of(words),
    )
    rows = alt.InlineData([{"word": word} for word in words])
    hidden = alt.Chart(rows).mark_square(opacity=0, size=0)
    return hidden.encode(fill=alt.Fill("word:N", scale=scale, sort=None, legend=key))
