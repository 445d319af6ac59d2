"""What charts on screen share: axes, legends, clicks. A clicked mark comes back as the selection `picked`."""

from __future__ import annotations

import altair as alt

PADDING = {"left": 0, "right": 4, "top": 4, "bottom": 6}
SHARES = alt.Axis(format="%", tickCount=5)
FADED = 0.45  # opacity of what was not clicked


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
    return alt.Color(f"{field}:N", scale=scaled, legend=legend or legend_above())


def legend_above(offset: int = 2, **more: object) -> alt.Legend:
    """A legend without title between heading and chart."""
    return alt.Legend(
        orient="top", title=None, offset=offset, labelLimit=260, symbolOpacity=1, **more
    )


def percents(**titles: str) -> list[alt.Tooltip]:
    """Tooltips of shares: field -> title."""
    return [alt.Tooltip(name, title=title, format=".1%") for name, title in titles.items()]
