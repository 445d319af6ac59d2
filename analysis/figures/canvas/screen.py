"""What charts on screen share: axes, legends, clicks. A clicked mark comes back as the selection `picked`."""

from __future__ import annotations

from collections.abc import Iterable

import altair as alt
import numpy as np
import pandas as pd

PADDING = {"left": 0, "right": 4, "top": 4, "bottom": 6}
SHARES = alt.Axis(format="%", tickCount=5)
FADED = 0.45  # opacity of what was not clicked
LETTER, SYMBOL = 5.8, 28  # screen pixels of a legend's entry: a letter; its symbol and a gap
AXIS = 20  # screen pixels left of where a legend begins, at least
ROOM = "(containerSize()[0] || 1000)"  # expression: screen pixels that the page has for a chart
NARROW = 480  # ... below which names beside bars leave no room for these
BY_LETTER = f"{ROOM} < {NARROW} ? slice(datum.label, 0, 1) : datum.label"  # "A · name" as "A" there


def picked(*fields: str) -> alt.Parameter:
    """A click on a mark picks its fields."""
    return alt.selection_point(name="picked", fields=list(fields), toggle=False)


def faded(pick: alt.Parameter) -> dict[str, object]:
    """Opacity of marks of which one may be picked."""
    return alt.condition(pick, alt.value(1), alt.value(FADED))


def blocks() -> alt.X:
    """The blocks as x axis."""
    return alt.X("block:O", title="block", axis=alt.Axis(labelAngle=0))


def colours(scale: dict[str, str], field: str, legend: alt.Legend | None = None) -> alt.Color:
    """A colour for each value of a nominal field.

    Args:
        scale: value -> colour, in the order of the legend.
    """
    scaled = alt.Scale(domain=list(scale), range=list(scale.values()))
    return alt.Color(f"{field}:N", scale=scaled, legend=legend or legend_above(scale))


def legend_above(words: Iterable[str], offset: int = 2, **more: object) -> alt.Legend:
    """A legend of some words, without title, between heading and chart."""
    more = {"offset": offset, "columns": columns_of(words), **more}
    return alt.Legend(orient="top", title=None, labelLimit=260, symbolOpacity=1, **more)


def columns_of(words: Iterable[str], left: int = AXIS, by_letter: bool = False) -> alt.ExprRef:
    """As many columns of a legend as the chart's place on the page has room for: on a phone a row is cut.

    Args:
        left: screen pixels before the legend.
        by_letter: these are names, of which narrow windows show the letter alone (`BY_LETTER`).
    """
    entry = round(LETTER * max(map(len, words), default=0) + SYMBOL)
    before = f"({ROOM} < {NARROW} ? {AXIS} : {left})" if by_letter else left
    return alt.ExprRef(f"max(1, floor(({ROOM} - {before}) / {entry}))")


def percents(**titles: str) -> list[alt.Tooltip]:
    """Tooltips of shares: field -> title."""
    return [alt.Tooltip(f"{name}:Q", title=title, format=".1%") for name, title in titles.items()]


def numbers(
    field: str, values: pd.Series, title: str, *, shares: bool = False, room: float = 0.05
) -> alt.X:
    """A quantity as x axis, from its least value to its largest.

    Args:
        shares: of 0 to 1, as percents.
        room: share of the range that is left free on the right, for words.
    """
    axis = alt.Axis(tickCount=6)
    if shares:  # none above 100 %
        axis = alt.Axis(format="%", values=[tenth / 10 for tenth in range(11)])
    scale = spanned(values, nice=False, padding=24)
    if values.nunique() > 1:
        span = values.max() - values.min()
        scale.domain = [values.min() - 0.05 * span, values.max() + room * span]
        scale.padding = 0
    return alt.X(f"{field}:Q", title=title, axis=axis, scale=scale)


def spanned(values: pd.DataFrame | pd.Series, **choices: object) -> alt.Scale:
    """From the least value to the largest; a single one gets room, or its axis prints eight digits."""
    known = np.unique(values.to_numpy(float)[values.notna()])
    if len(known) == 1:
        room = abs(known[0]) / 20 or 1.0
        choices["domain"] = [known[0] - room, known[0] + room]
    return alt.Scale(zero=False, **choices)
