"""Panels of one image side by side under one cursor: the tokens, or the objects, of several runs.

A chart takes all they show, pictures and titles included, from one frame, so that moving a slider
sends rows and leaves the chart in place. Lengths are source pixels; each panel has an offset of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import altair as alt
import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.colors import to_hex

from analysis import figures
from analysis.insight_figures import DIVERGING
from svit.types import TokenGrid

GAINED, LOST = "#ffb000", "#dc267f"
CLEAR = "rgba(255,255,255,0)"
STATE_LEGEND = {
    "used": CLEAR,
    "pruned for good": "rgba(255,255,255,0.88)",
    "pruned, back later": "rgba(0,200,224,0.85)",
    "pruned, back in the next block": "rgba(0,119,142,0.9)",
}
SIDE_LEGEND = {
    "used by neither": "rgba(255,255,255,0.88)",
    "only by the first": "rgba(220,38,127,0.8)",
    "only by this run": "rgba(255,176,0,0.85)",
    "used by both": CLEAR,
}
CHANGE_COLOURS = {"both": "#2fd08c", "new": GAINED, "lost": LOST, "neither": "#c9d1db"}
CHANGE_NAMES = {
    "both": "found, as the first run does",
    "new": "found, missed by the first",
    "lost": "missed, found by the first",
    "neither": "missed by both",
    "extra": "finds no object",
}
EXTRA = "#648fff"
GAP, TITLE = 0.03, 0.14  # of a panel's width: between panels, above each
WIDEST, TALLEST = 1000, 430  # pixels: the room of all panels, and of one
CANVAS = {"embedOptions": {"renderer": "canvas"}}  # four grids are too many elements for SVG
LEGEND = 42  # pixels below the panels


@dataclass(frozen=True)
class Layout:
    """Where panels of one image shape lie.

    Attributes:
        count: panels.
        image_hw: source pixels.
    """

    count: int
    image_hw: tuple[int, int]

    @property
    def columns(self) -> int:
        """Four wide panels stand in two rows."""
        height, width = self.image_hw
        return 2 if self.count == 4 and width > 1.2 * height else self.count

    @property
    def step(self) -> tuple[float, float]:
        """From one panel to the next, across and down."""
        height, width = self.image_hw
        return width * (1 + GAP), height + width * TITLE

    def corner(self, panel: int) -> tuple[float, float]:
        """Left and upper end of a panel's picture."""
        row, column = divmod(panel, self.columns)
        return column * self.step[0], row * self.step[1] + self.image_hw[1] * TITLE

    @property
    def extent(self) -> tuple[float, float]:
        """Width and height of all panels with their titles."""
        rows = -(-self.count // self.columns)
        return self.columns * self.step[0] - self.image_hw[1] * GAP, rows * self.step[1]

    @property
    def height(self) -> int:
        """Of the chart, in screen pixels."""
        width, height = self.extent
        rows = -(-self.count // self.columns)
        return int(min(WIDEST / width * height, TALLEST * rows)) + LEGEND


@dataclass(frozen=True)
class Title:
    """What stands above a panel: a line in a colour ("" for the page's ink), a soft line below it."""

    text: str
    below: str
    colour: str = ""


def panel_rows(layout: Layout, titles: Sequence[Title], picture: str | None) -> pd.DataFrame:
    """The rows of pictures and titles; `picture` is a data address."""
    rows = []
    height, width = layout.image_hw
    for panel, title in enumerate(titles):
        x, y = layout.corner(panel)
        frame = {"x0": x, "x1": x + width, "y0": y, "y1": y + height}
        rows.append({"kind": "picture", **frame, "url": picture or ""})
        words = {"tip": title.text, "below": title.below, "colour": title.colour}
        rows.append({"kind": "title", **frame, **words})
    return pd.DataFrame(rows)


def token_rows(
    layout: Layout, panel: int, grid: TokenGrid, values: np.ndarray, tips: np.ndarray
) -> pd.DataFrame:
    """The rows of one panel's tokens: values (text or numbers) and tips of the valid tokens."""
    rows, columns = np.indices(grid.valid_hw).reshape(2, -1)
    (scale_y, scale_x), (height, width) = grid.scale_yx, grid.image_hw
    x, y = layout.corner(panel)
    across, down = grid.patch / scale_x, grid.patch / scale_y
    return pd.DataFrame(
        {
            "kind": "token",
            "row": rows,
            "column": columns,
            "x0": x + columns * across,
            "x1": x + np.minimum((columns + 1) * across, width),
            "y0": y + rows * down,
            "y1": y + np.minimum((rows + 1) * down, height),
            "value": values.ravel(),
            "tip": tips.ravel(),
        }
    )


def states_colour(legend: dict[str, str]) -> alt.Color:
    scale = alt.Scale(domain=list(legend), range=list(legend.values()))
    return alt.Color("value:N", scale=scale, legend=_legend(symbolStrokeWidth=1))


def count_colour(limits: tuple[int, int]) -> alt.Color:
    """A step of the style's map for every count from the smallest to the largest."""
    low, high = limits
    steps = mpl.colormaps["inferno"].resampled(high - low + 1)
    scale = alt.Scale(
        domain=list(range(low, high + 1)), range=[to_hex(steps(i)) for i in range(steps.N)]
    )
    return alt.Color("value:O", scale=scale, legend=_legend())


def difference_colour(limit: int) -> alt.Color:
    """White where equal, red where this run has more, blue where the first has."""
    colours = [to_hex(mpl.colormaps[DIVERGING](i / 8)) for i in range(9)]
    scale = alt.Scale(domain=list(np.linspace(-limit, limit, 9)), range=colours)
    return alt.Color("value:Q", scale=scale, legend=_legend(gradientLength=260))


def _legend(**more) -> alt.Legend:
    look = {"symbolStrokeColor": "#8a94a3", "labelLimit": 260, "columnPadding": 14}
    return alt.Legend(orient="bottom", title=None, symbolType="square", **look, **more)


def panels(layout: Layout, colour: alt.Color, dark: bool, opacity: float = 1) -> alt.LayerChart:
    """Token panels; the cursor marks the same token in all, a click selects it as `token`."""
    cursor = alt.selection_point(
        name="cursor",
        fields=["row", "column"],
        on="pointerover",
        clear="pointerout",
        empty=False,
    )
    token = alt.selection_point(name="token", fields=["row", "column"], toggle=False, empty=False)
    tokens = (
        _rects("token")
        .mark_rect(opacity=opacity, cursor="pointer")
        .encode(**_place(layout), color=colour, tooltip=_TIP)
        .add_params(cursor, token)
    )
    outline = {"filled": False, "strokeJoin": "round"}
    chosen = (
        _rects("token")
        .transform_filter("datum.chosen")
        .mark_rect(**outline, stroke=LOST, strokeWidth=2.5)
        .encode(**_place(layout))
    )
    marked = (
        _rects("token")
        .transform_filter(cursor)
        .mark_rect(**outline, stroke="#ff5cae", strokeWidth=2)
        .encode(**_place(layout))
    )
    return _framed(layout, dark, tokens, chosen, marked)


def box_rows(layout: Layout, panel: int, boxes: pd.DataFrame) -> pd.DataFrame:
    """The rows of one panel's boxes: `left`, `top`, `right`, `bottom` in source pixels and the rest."""
    x, y = layout.corner(panel)
    places = {"x0": x + boxes["left"], "x1": x + boxes["right"]}
    places |= {"y0": y + boxes["top"], "y1": y + boxes["bottom"]}
    return boxes.drop(columns=["left", "top", "right", "bottom"]).assign(kind="box", **places)


def boxes(layout: Layout, dark: bool) -> alt.LayerChart:
    """Box panels; the cursor marks the same object in all."""
    cursor = alt.selection_point(
        name="cursor", fields=["object"], on="pointerover", clear="pointerout", empty=False
    )
    legend = {CHANGE_NAMES[name]: colour for name, colour in CHANGE_COLOURS.items()}
    legend[CHANGE_NAMES["extra"]] = EXTRA
    scale = alt.Scale(domain=list(legend), range=list(legend.values()))
    key = alt.Legend(
        orient="bottom", title=None, symbolType="stroke", symbolStrokeWidth=3, labelLimit=260
    )
    hidden = _rects("box").mark_rect(filled=True, opacity=0, cursor="pointer")
    targets = hidden.encode(**_place(layout), tooltip=_TIP).add_params(cursor)
    shown = (
        _rects("box")
        .mark_rect(filled=False)
        .encode(
            **_place(layout),
            stroke=alt.Stroke("value:N", scale=scale, legend=key),
            strokeWidth=alt.condition(cursor, alt.value(4.5), alt.value(2)),
            strokeDash=alt.condition(
                f"datum.value == '{CHANGE_NAMES['lost']}' || "
                f"datum.value == '{CHANGE_NAMES['neither']}'",
                alt.value([5, 3]),
                alt.value([1, 0]),
            ),
        )
    )
    return _framed(layout, dark, shown, targets)


_TIP = alt.Tooltip("tip:N", title=" ")


def _rects(kind: str) -> alt.Chart:
    return alt.Chart().transform_filter(f"datum.kind == '{kind}'")


def _place(layout: Layout) -> dict:
    """Both axes at one scale, so that tokens stay square."""
    pixel = _pixel(layout)
    x = alt.Scale(domainMin=0, domainMax=alt.ExprRef(f"width / {pixel}"), nice=False)
    y = alt.Scale(domainMin=0, domainMax=alt.ExprRef(f"height / {pixel}"), nice=False, reverse=True)
    return {
        "x": alt.X("x0:Q", axis=None, scale=x),
        "y": alt.Y("y0:Q", axis=None, scale=y),
        "x2": "x1:Q",
        "y2": "y1:Q",
    }


def _framed(layout: Layout, dark: bool, *layers: alt.Chart) -> alt.LayerChart:
    """The layers over the pictures, under the titles."""
    place = _place(layout)
    field = {"filled": True, "color": figures.FIELD, "stroke": figures.FRAME, "strokeWidth": 0.5}
    ground = _rects("picture").mark_rect(**field).encode(**place)
    pictures = _rects("picture").mark_image(aspect=False).encode(**place, url="url:N")
    return (
        alt.layer(ground, pictures, *layers, *_titles(layout, dark))
        .properties(height=layout.height, usermeta=CANVAS)
        .configure_view(stroke=None)
    )


def _titles(layout: Layout, dark: bool) -> list[alt.Chart]:
    """Both lines above each panel, in a size that goes with the panel's."""
    ink, soft = ("#e6eaf0", "#9aa5b4") if dark else ("#1f2733", "#6b7686")
    place, room = _place(layout), f"({layout.image_hw[1]} * {_pixel(layout)})"
    size = f"clamp({room} * 0.044, 9, 14)"
    style = {"align": "left", "baseline": "bottom", "limit": alt.ExprRef(room)}
    base = _rects("title").encode(x=place["x"], y=place["y"])
    upper = base.mark_text(
        **style,
        dy=alt.ExprRef(f"-{size} * 1.25 - 6"),
        fontSize=alt.ExprRef(size),
        fontWeight=600,
        color=alt.ExprRef(f"datum.colour ? datum.colour : '{ink}'"),
    ).encode(text="tip:N")
    lower = base.mark_text(
        **style, dy=-5, fontSize=alt.ExprRef(f"{size} * 0.9"), color=soft
    ).encode(text="below:N")
    return [upper, lower]


def _pixel(layout: Layout) -> str:
    """Screen pixels a source pixel, as an expression: all panels fit whatever room the page gives."""
    width, height = layout.extent
    return f"min(width / {width}, height / {height})"
