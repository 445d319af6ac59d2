"""What the Live page draws: pictures before and after, the token grid to brush on, bars; no model."""

from __future__ import annotations

import io
from collections.abc import Sequence

import altair as alt
import numpy as np
import pandas as pd
import streamlit as st
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from PIL import Image

from analysis.figures import palette
from analysis.figures.canvas import boxes, pictures, sizes
from analysis.figures.tokens import keep
from analysis.numbers import edit_effects
from analysis.pages.parts import first_paint, shell
from analysis.pages.parts.image.stage import PLACE
from svit.core.types import Detections, TokenGrid

WIDTH = 2.7  # inches of a picture; words in it are readable in a third of a page
SIDE = 640  # pixels of the picture behind the token grid
GRID = 342  # pixels of the token grid's height for a square picture, and of the margin below
NO_PADDING = dict.fromkeys(("left", "top", "right", "bottom"), 0)  # 0 alone gets Streamlit's own
TALLEST = 1.1  # height / width of the tallest picture shown
STATES = {
    "used": "#00000000",
    "pruned": to_hex((palette.PRUNED, 0.82), keep_alpha=True),
    "carried": to_hex((palette.CARRIED, 0.6), keep_alpha=True),
    "turned on": to_hex((palette.GAINED, 0.6), keep_alpha=True),
    "turned off": to_hex((palette.LOST, 0.68), keep_alpha=True),
}
STATE_NAMES = {
    "kept": "found both times",
    "lost": "lost",
    "gained": "gained",
    "missed": "missed both times",
}


def draw_found(
    found: Detections,
    image: np.ndarray,
    grid: TokenGrid,
    ax: Axes,
    names: Sequence[str],
    score: float,
    marked: pd.DataFrame,
    after: bool,
) -> Axes:
    """Detections over the picture; objects that the edits lost or gained are framed."""
    pictures.picture(image, grid, ax)
    boxes.detections(found, ax, class_names=names, threshold=score)
    lost, gained = (marked[marked["state"] == state] for state in ("lost", "gained"))
    edit_effects.outline(marked[marked["state"] == "missed"], ax, palette.MISSED, ":", 1.2)
    edit_effects.outline(lost, ax, palette.LOST, "--" if after else "-")
    if after:
        edit_effects.outline(gained, ax, palette.GAINED)
    return ax


def frames_said(changed: pd.DataFrame) -> str:
    """What the frames in the pictures mean, if there are any."""
    counts = changed["state"].value_counts()
    lost, gained, missed = (int(counts.get(state, 0)) for state in ("lost", "gained", "missed"))
    words = [f"purple frame: {lost} lost"] * bool(lost)
    words += [f"green frame: {gained} gained"] * bool(gained)
    words += [f"dotted: {missed} missed both times"] * bool(missed)
    return f"{', '.join(words)}.".capitalize() if words else ""


def shape(grid: TokenGrid) -> float:
    """Height / width of the picture on the page."""
    return min(sizes.drawn_ratio(grid.image_hw), TALLEST)


@st.cache_data(max_entries=60, show_spinner=False)
def found_png(_draw, key: tuple, ratio: float, dark: bool) -> bytes:
    """The picture that `_draw` fills, kept under the key."""
    return shell.png(_draw, WIDTH, ratio, dark)


def both_figure(before, after, ratio: float) -> Figure:
    """Before and after side by side, for a file; each draws on an Axes."""
    figure = Figure(figsize=(2 * WIDTH, WIDTH * ratio + 0.25))
    for ax, draw, title in zip(figure.subplots(1, 2), (before, after), keep.SIDES, strict=True):
        draw(ax)
        ax.set_title(title)
    return figure


@st.cache_data(max_entries=16, show_spinner=False)
def address(_pixels: np.ndarray, key: tuple) -> str:
    """The picture as a data address for the chart."""
    picture, buffer = Image.fromarray(_pixels), io.BytesIO()
    picture.thumbnail((SIDE, SIDE))
    picture.save(buffer, "JPEG", quality=88)
    return shell.data_address(buffer.getvalue(), "jpeg")


def paint_ahead(grid: TokenGrid, url: str, key: str) -> None:
    """Paints the picture where the chart of `key` will stand; before all widgets."""
    ratio = sizes.drawn_ratio(grid.image_hw)
    first_paint.show(key, [[url]], shape=1 / ratio, widest=GRID * shape(grid) / ratio, top=0)


def show_grid(
    tokens: pd.DataFrame, missed: pd.DataFrame, grid: TokenGrid, url: str, key: str, block: int
) -> None:
    """The tokens of one block over the picture: a click picks one (shift adds), dragging a field.

    Args:
        tokens: `edit_effects.token_frame`.
        missed: left, top, right, bottom of objects to outline.
        url: of the picture.
        key: of the chart in the session, where its selection stands; a name in CSS.
        block: from 1.
    """
    side, across = grid.image_hw
    height = round(GRID * shape(grid))
    shell.cut_below(key, 1 / sizes.drawn_ratio(grid.image_hw), height)
    ground = pd.DataFrame([{"x0": 0, "y0": 0, "x1": across, "y1": side, "url": url}])
    boxes = missed[["left", "top", "right", "bottom"]].set_axis(["x0", "y0", "x1", "y1"], axis=1)
    tables = {"picture": ground, "tokens": tokens, "missed": boxes}
    events = {"key": key, "on_select": "rerun", "selection_mode": ["token", "field"]}
    counts = tokens["state"].value_counts().reindex(list(STATES), fill_value=0)
    said = ", ".join(f"{count} {state}" for state, count in counts.items() if count)
    spec = _grid_chart(grid) | {"description": f"Tokens of block {block} after the edits: {said}"}
    shell.chart(spec, tables, height=height, **events)
    shown = [state for state in STATES if state != "used" and counts[state]]
    st.html(legend({state: STATES[state] for state in shown}))


def legend(colours: dict[str, str]) -> str:
    """Words behind squares of their colours, in one line below a picture."""
    marks = (f'<i style="background:{colour}"></i>{word}' for word, colour in colours.items())
    return f'<div class="legend">{"".join(f"<span>{mark}</span>" for mark in marks)}</div>'


@st.cache_data(max_entries=16, show_spinner=False)
def _grid_chart(grid: TokenGrid) -> dict:
    """The chart without its tables."""
    sides = _sides(grid)

    def layer(name: str) -> alt.Chart:
        return alt.Chart(alt.NamedData(name)).encode(**sides)

    point = alt.selection_point(
        name="token", fields=["row", "column"], toggle="event.shiftKey", empty=False
    )
    missed = {"stroke": palette.MISSED, "strokeDash": [2, 3], "strokeWidth": 1.5}
    chosen = layer("tokens").transform_filter(point)
    parts = [
        layer("picture").mark_image(aspect=False).encode(url="url:N"),
        _cells(layer("tokens"), point),
        layer("missed").mark_rect(filled=False, **missed),
        chosen.mark_rect(filled=False, stroke=palette.HOVER, strokeWidth=2.5),
    ]
    bare = alt.layer(*parts).configure_view(strokeWidth=0).properties(padding=NO_PADDING)
    return bare.to_dict()


def _sides(grid: TokenGrid) -> dict[str, alt.X | alt.Y | str]:
    """Sides of rows in source pixels: the picture keeps its shape at any width of the column."""
    side, across = grid.image_hw
    drawn = across * sizes.drawn_ratio(grid.image_hw)  # height in source pixels of the width
    pixel = f"min(width / {across}, height / {drawn})"  # both axes at one scale: tokens stay square
    ends = {"width": (1.0, False), "height": (side / drawn, True)}
    x, y = (
        alt.Scale(
            domainMin=0,
            domainMax=alt.ExprRef(f"{length} / {pixel} * {stretch}"),
            nice=False,
            reverse=turned,
        )
        for length, (stretch, turned) in ends.items()
    )
    starts = {"x": alt.X("x0:Q", axis=None, scale=x), "y": alt.Y("y0:Q", axis=None, scale=y)}
    return starts | {"x2": "x1", "y2": "y1"}


def _cells(tokens: alt.Chart, point: alt.Parameter) -> alt.Chart:
    """The tokens in the colours of their states, to click (`point`) and to drag over."""
    field = alt.selection_interval(
        name="field", mark=alt.BrushConfig(fill=palette.USED, fillOpacity=0.15, stroke=palette.USED)
    )
    colours = alt.Scale(domain=list(STATES), range=list(STATES.values()))
    line = {"stroke": palette.SOFT, "strokeWidth": 0.35}
    places = {"line": "datum.row + 1", "place": "datum.column + 1"}  # counted from 1
    cells = tokens.transform_calculate(**places).mark_rect(opacity=1, cursor="crosshair", **line)
    cells = cells.encode(
        fill=alt.Fill("state:N", scale=colours, legend=None), tooltip=[*PLACE, "state:N"]
    )
    return cells.add_params(point, field)


def selected(event: dict, tokens: pd.DataFrame) -> tuple[tuple[int, int], ...]:
    """The tokens that a click or a dragged field chose, from the chart's selections."""
    points = {
        (int(one["row"]), int(one["column"])) for one in event.get("token", []) if "row" in one
    }
    field = event.get("field") or {}
    ranges = [sorted(field[name]) for name in ("x0", "y0") if len(field.get(name, ())) == 2]
    if len(ranges) == 2:
        (left, right), (top, bottom) = ranges
        inside = tokens[
            (tokens["x0"] < right)
            & (tokens["x1"] > left)
            & (tokens["y0"] < bottom)
            & (tokens["y1"] > top)
        ]
        points |= set(zip(inside["row"].tolist(), inside["column"].tolist(), strict=True))
    return tuple(sorted(points))


ratio_chart = st.cache_data(keep.two_sides, show_spinner=False)


def show_ratios(ratios: pd.DataFrame, block: int) -> None:
    """Kept tokens of every block, before and after, with the target as a tick; `block` stands out."""
    shell.chart(ratio_chart(), {"ratios": ratios.assign(shown=ratios["block"] == block)})


def change_table(frame: pd.DataFrame):
    """The changes for reading: class, what happened, scores; lost and gained in colour."""
    order = {"lost": 0, "gained": 1, "kept": 2, "missed": 3}
    rows = frame.sort_values("state", key=lambda state: state.map(order), kind="stable")
    shown = pd.DataFrame(
        {
            "object": rows["class"],
            "change": rows["state"].map(STATE_NAMES),
            **{side: rows[side].map(_score) for side in keep.SIDES},
        }
    )
    ink = {"lost": palette.LOST, "gained": palette.GAINED}
    ink = {STATE_NAMES[state]: colour for state, colour in ink.items()}
    return shown.style.map(lambda text: palette.cell(ink[text]) if text in ink else "", ["change"])


def _score(score: float) -> str:
    return "–" if np.isnan(score) else f"{score:.2f}"
