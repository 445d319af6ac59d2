"""Panels of one image side by side under one cursor: the tokens, or the objects, of several runs.

A chart stays the same while block and token change; only its small tables do. Their rows lie in the
picture, in source pixels; the chart moves them into the panels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import altair as alt
import pandas as pd
import streamlit as st

from analysis.figures import palette
from analysis.figures.canvas.sizes import drawn_ratio
from analysis.pages.parts import first_paint, shell
from analysis.pages.parts.image.stage import CANVAS, NO_PADDING, STATE_NAMES, legend, on_grid
from svit.core.types import TokenGrid

WORDS = ("used", *STATE_NAMES.values())  # of `comparison.STATES`
CHANGE_COLOURS = {
    "both": palette.FOUND,
    "new": palette.GAINED,
    "lost": palette.LOST,
    "neither": palette.MISSED,
}
CHANGE_NAMES = {
    "both": "found by both",
    "new": "new",
    "lost": "lost",
    "neither": "missed by both",
    "extra": "no object",
}
EXTRA = palette.EXTRA
GAP = 0.03  # of a panel's width: between panels
TITLE, LEGEND = 44, 36  # screen pixels: above each panel, above all
WIDEST = 1064  # screen pixels: all panels in a wide window
NARROW = 480  # screen pixels: in less room they stack
LEGENDS = 2 * LEGEND  # in a narrow window words stand in several lines
TALLEST = 420, 560  # screen pixels: the pictures of one row, of two
LETTERS = "ABCD"  # the runs' names


@dataclass(frozen=True)
class Layout:
    """Where panels of one image shape lie.

    Attributes:
        count: panels.
        source_hw: height and width of the image in source pixels.
    """

    count: int
    source_hw: tuple[int, int]

    @property
    def image_hw(self) -> tuple[float, float]:
        """Height and width as drawn, in source pixels of the width."""
        width = self.source_hw[1]
        return width * drawn_ratio(self.source_hw), width

    @property
    def down(self) -> float:
        """What a source pixel of the height becomes."""
        return self.image_hw[0] / self.source_hw[0]

    @property
    def columns(self) -> int:
        """Four wide panels stand in two rows."""
        height, width = self.image_hw
        return 2 if self.count == 4 and width > 1.2 * height else self.count

    @property
    def rows(self) -> int:
        """Rows that hold all panels, the last perhaps not full."""
        return -(-self.count // self.columns)

    @property
    def width(self) -> float:
        """Source pixels of a row of panels."""
        return self.image_hw[1] * (self.columns * (1 + GAP) - GAP)

    @property
    def height(self) -> int:
        """What is seen of the chart in a wide window, in screen pixels."""
        return self.room(WIDEST)

    @property
    def whole(self) -> int:
        """Height of the chart, in screen pixels: all panels stacked in the broadest narrow window."""
        stacked = self.count * (NARROW * self.image_hw[0] / self.image_hw[1] + TITLE)
        return max(self.height, int(stacked) + LEGENDS)

    def room(self, across: int) -> int:
        """Height that all needs in a chart so many screen pixels wide."""
        pictures = across / self.width * self.image_hw[0] * self.rows
        return int(min(pictures, TALLEST[self.rows - 1])) + self.rows * TITLE + LEGEND

    @property
    def widest(self) -> float:
        """Of a panel, in screen pixels, in a window as wide as one likes."""
        height, width = self.image_hw
        return (self.height - LEGEND - self.rows * TITLE) / self.rows * width / height

    @property
    def corner(self) -> tuple[str, str]:
        """Where the panel of a row begins, as expressions: source pixels right of and below the first."""
        height, width = self.image_hw
        left = f"(datum.panel % across) * {width * (1 + GAP)}"
        return left, f"floor(datum.panel / across) * ({height} + {TITLE} / pixel)"

    @property
    def sizes(self) -> dict[str, str]:
        """Panels in a row and screen pixels a source pixel, as expressions: all fits whatever room the page
        gives. A chart works them out once, as its parameters, not for each of its thousands of tokens."""
        height, width = self.image_hw
        room = (self.height - LEGEND - self.rows * TITLE) / (self.rows * height)
        return {
            "across": f"width && windowSize()[0] < {NARROW + shell.MARGIN} ? 1 : {self.columns}",
            "pixel": f"across == 1 ? width / {width} : min(width / {self.width}, {room})",
        }

    @property
    def stacked(self) -> str:
        """Style rules of what is seen of the chart in a narrow window."""
        one = f"(100vw - {shell.MARGIN}px) * {self.image_hw[0] / self.image_hw[1]:.4f} + {TITLE}px"
        return f"height: calc({self.count} * ({one}) + {LEGENDS}px) !important; max-height: none"


@dataclass(frozen=True)
class Title:
    """What stands above a panel: a line in a colour ("" for the page's ink), a soft line below it."""

    text: str
    below: str
    colour: str = ""


def show(spec: dict, layout: Layout, key: str, *, picture: str, titles: Sequence[Title], **tables):
    """Draws the panels of `token_chart` or `object_chart` and returns what was selected in them.

    Args:
        picture: data address of the image, "" without.
        tables: the others that the chart names.
    """
    said = [{"panel": panel, **vars(title)} for panel, title in enumerate(titles)]
    known = {"picture": pd.DataFrame({"url": [picture]}), "titles": pd.DataFrame(said)}
    selects, room = "tokens" in tables, f"{key}-room"
    with st.container(key=room):
        if selects and key not in st.session_state:  # it is known once it was drawn
            first_paint.show(
                room,
                [(url, picture) for url in tables["maps"]["url"][: layout.columns]],
                shape=layout.image_hw[1] / layout.image_hw[0],
                widest=layout.widest,
                top=LEGEND + TITLE,
                gap=GAP,
                least=NARROW + shell.MARGIN,
            )
        shell.cut_below(room, NARROW / layout.room(NARROW), layout.height)
        shell.narrow(room, layout.stacked, NARROW + shell.MARGIN)
        return st.vega_lite_chart(
            spec=spec | {"datasets": known | tables},
            key=key,
            on_select="rerun" if selects else "ignore",
            selection_mode=["token"] if selects else None,
            width="stretch",
            height=layout.whole,
        )


@st.cache_data(max_entries=64, show_spinner=False)
def token_chart(
    layout: Layout, grid: TokenGrid, runs: int, words: dict[str, str], dark: bool
) -> dict:
    """Token panels; the cursor marks the same token in all, a click selects it as `token`.

    Tables beside picture and titles: maps (panel, url); tokens (row, column, and for each of so many
    `runs`, in the column of its letter, what it does with the token); chosen (row, column).

    Args:
        words: of the legend, each with its colour.
    """
    fields = {"fields": ["row", "column"], "empty": False}
    token = alt.selection_point(name="token", toggle=False, **fields)
    cursor = alt.selection_point(name="cursor", on="pointerover", clear="pointerout", **fields)
    hovered = on_grid(_table("tokens").transform_filter(cursor), grid)  # first: one row is left
    hovered = _placed(_repeated(hovered, layout), layout)
    chosen = _placed(_repeated(on_grid(_table("chosen"), grid), layout), layout)
    rings = [
        chosen.mark_rect(fillOpacity=0, strokeWidth=width, stroke=colour)
        for width, colour in ((4.5, palette.DARK), (2.5, palette.HERE))
    ]
    places = ["row: datum.row + 1", "column: datum.column + 1"]  # counted from 1
    tips = ", ".join([*places, *(f"{name}: datum.{name}" for name in LETTERS[:runs])])
    tokens = _table("tokens").transform_calculate(tip=f"{{{tips}}}")
    tokens = _placed(_repeated(on_grid(tokens, grid), layout), layout)
    tip = {"tooltip": alt.ExprRef("datum.tip"), "cursor": "pointer"}
    cells = tokens.mark_rect(fillOpacity=0, aria=False, **tip).add_params(token, cursor)
    maps = _placed(_whole(_table("maps"), layout), layout)
    shown = maps.mark_image(aspect=False, smooth=False).encode(url="url:N")
    mark = hovered.mark_rect(fillOpacity=0, stroke=palette.HOVER, strokeWidth=2)
    named = legend(list(words), list(words.values()), dark)
    return _framed(layout, dark, shown, *rings, mark, cells, named)


@st.cache_data(max_entries=64, show_spinner=False)
def object_chart(layout: Layout, dark: bool) -> dict:
    """Box panels; the cursor marks the same object in all.

    Table beside picture and titles: boxes (panel, left, top, right, bottom, object, change as in
    `CHANGE_NAMES`, name, tip).
    """
    cursor = alt.selection_point(
        name="cursor", fields=["object"], on="pointerover", clear="pointerout", empty=False
    )
    words = {CHANGE_NAMES[name]: colour for name, colour in CHANGE_COLOURS.items()}
    words[CHANGE_NAMES["extra"]] = EXTRA
    scale = alt.Scale(domain=list(words), range=list(words.values()))
    dashed = " || ".join(f"datum.change == '{CHANGE_NAMES[name]}'" for name in ("lost", "neither"))
    boxes = _placed(_table("boxes"), layout)
    shown = boxes.mark_rect(filled=False).encode(
        stroke=alt.Stroke("change:N", scale=scale, legend=None),
        strokeWidth=alt.condition(cursor, alt.value(4.5), alt.value(2)),
        strokeDash=alt.condition(dashed, alt.value([5, 3]), alt.value([1, 0])),
    )
    targets = boxes.mark_rect(filled=True, opacity=0, cursor="pointer")
    targets = targets.encode(tooltip=alt.Tooltip("tip:N", title=" ")).add_params(cursor)
    style = {"align": "left", "baseline": "bottom", "dx": 2, "dy": -2, "fontSize": 10}
    named = _placed(_table("boxes"), layout, sized=False).mark_text(
        **style, fontWeight=600, stroke=palette.INK, strokeWidth=2.5, strokeOpacity=0.75
    )
    plain = _placed(_table("boxes"), layout, sized=False).mark_text(
        **style, fontWeight=600, color=palette.LIGHT
    )
    names = [one.encode(text="name:N") for one in (named, plain)]
    return _framed(
        layout, dark, shown, *names, targets, legend(list(words), list(words.values()), dark)
    )


def _table(name: str) -> alt.Chart:
    return alt.Chart(alt.NamedData(name))


def _repeated(chart: alt.Chart, layout: Layout) -> alt.Chart:
    """Every row once a panel."""
    return chart.transform_calculate(panel=f"sequence({layout.count})").transform_flatten(["panel"])


def _whole(chart: alt.Chart, layout: Layout) -> alt.Chart:
    """The sides of the picture."""
    height, width = layout.source_hw
    return chart.transform_calculate(left="0", top="0", right=str(width), bottom=str(height))


def _placed(chart: alt.Chart, layout: Layout, sized: bool = True) -> alt.Chart:
    """Rows of left, top, right and bottom in their panels; only the corner unless `sized`. Both axes
    have one scale, so that tokens stay square and all panels fit whatever room the page gives, and
    begin with the first panel."""
    left, upper = layout.corner
    sides = {"x0": f"{left} + datum.left", "x1": f"{left} + datum.right"}
    sides |= {
        f"y{end}": f"{upper} + datum.{side} * {layout.down}"
        for end, side in enumerate(("top", "bottom"))
    }
    x = alt.Scale(domain=[0, alt.ExprRef("width / pixel")], nice=False, zero=False)
    ends = [alt.ExprRef(f"{side} / pixel") for side in (f"(height - {TITLE})", -TITLE)]
    y = alt.Scale(domain=ends, nice=False, zero=False)
    placed = chart.transform_calculate(**sides).encode(
        x=alt.X("x0:Q", axis=None, scale=x), y=alt.Y("y0:Q", axis=None, scale=y)
    )
    return placed.encode(x2="x1", y2="y1") if sized else placed


def _framed(layout: Layout, dark: bool, *parts: alt.Chart) -> dict:
    """The parts over the pictures, under the titles."""
    picture = _placed(_whole(_repeated(_table("picture"), layout), layout), layout)
    field = {"filled": True, "color": palette.FIELD, "stroke": palette.FRAME, "strokeWidth": 0.5}
    ground = [picture.mark_rect(**field), picture.mark_image(aspect=False).encode(url="url:N")]
    return (
        alt.layer(*ground, *parts, *_titles(layout, dark))
        .properties(
            height=layout.whole,
            padding=NO_PADDING,
            usermeta=CANVAS,
            description=f"{layout.count} panels of the picture side by side, one a run",
        )
        .add_params(*(alt.param(name=name, expr=text) for name, text in layout.sizes.items()))
        .configure_view(stroke=None)
        .to_dict()
    )


def _titles(layout: Layout, dark: bool) -> list[alt.Chart]:
    """Both lines above each panel, in a size that goes with the panel's."""
    ink, soft = (palette.LIGHT, palette.PALE) if dark else (palette.INK, palette.SOFT)
    room = f"({layout.image_hw[1]} * pixel)"
    size = f"clamp({room} * 0.044, 9, 14)"
    style = {"align": "left", "baseline": "bottom", "limit": alt.ExprRef(room)}
    base = _placed(_whole(_table("titles"), layout), layout, sized=False)
    upper = base.mark_text(
        **style,
        dy=alt.ExprRef(f"-{size} * 1.25 - 6"),
        fontSize=alt.ExprRef(size),
        fontWeight=600,
        color=alt.ExprRef(f"datum.colour ? datum.colour : '{ink}'"),
    )
    lower = base.mark_text(**style, dy=-5, fontSize=alt.ExprRef(f"{size} * 0.9"), color=soft)
    return [upper.encode(text="text:N"), lower.encode(text="below:N")]
