"""The Image page's token biography: pixels, states and scores of one token, and what lies over it."""

from __future__ import annotations

import altair as alt
import pandas as pd
import streamlit as st

from analysis.figures import palette
from analysis.figures.canvas import token_maps
from analysis.figures.canvas.screen import PADDING
from analysis.figures.images import life as strip
from analysis.numbers import biography
from analysis.numbers.biography import Story
from analysis.pages.parts import session, shell
from analysis.pages.parts.image.view import TOKEN, View, token_chart
from svit.system.text import escaped

INDENT = 28  # pixels left of both charts, so that their blocks stand below each other
MOST = 4  # lines on what lies over the token
HELP = {
    "life": "Each square is a block. A pruned token skips the block and stays in the feature map (methods "
    "that remove tokens leave zeros); it is reactivated when a later block uses it again. A carried token "
    "takes part in the block as a part of another one.",
    "margin": "Score: what the block decides by: log-odds of keeping where it has a gate, else the method's "
    "own number, as attention, length or change. Margin: score less the limit, the middle between the lowest "
    "score of a used token and the highest of a pruned one in this image. Without a limit (sampled masks) "
    "the score itself is drawn.",
    "over": "Share of the token's pixels that the object's mask covers, or its box where a detection "
    "has no mask.",
}


def choose_token(view: View) -> tuple[int, int]:
    """The chosen token, before its widgets are drawn: what was clicked, typed or linked, or else the most
    eventful one of a new image."""
    clicked = _clicked(view)
    if clicked is not None:
        session.remember(token=clicked)
    token = session.recalled_token(view.grid.valid_hw) or biography.eventful(view.sample.trace)
    session.remember(token=token)
    for key, place in zip(TOKEN, token, strict=True):
        st.session_state[key] = place + 1
    return token


def _clicked(view: View) -> tuple[int, int] | None:
    """The token of a click that was not answered yet; the same place of another image is another click."""
    event = st.session_state.get(token_chart(view))
    picked = event["selection"].get("token") if event else None
    click = (token_chart(view), picked) if picked else None
    if click == st.session_state.get("token clicked"):
        return None
    st.session_state["token clicked"] = click
    if click is None:
        return None
    return int(picked[0]["row"]), int(picked[0]["column"])


def _typed() -> None:
    session.change(token=tuple(int(st.session_state[key]) - 1 for key in TOKEN))


def show(view: View, token: tuple[int, int], over: pd.DataFrame, layer: int) -> None:
    """The panel of one token."""
    rows, columns = view.grid.valid_hw
    st.markdown("##### Token biography", help=HELP["life"])
    row, column = st.columns(2, gap="small")
    row.number_input("Row", 1, rows, key=TOKEN[0], on_change=_typed)
    column.number_input("Column", 1, columns, key=TOKEN[1], on_change=_typed)
    picture, words = st.columns([1, 1.4], gap="small", vertical_alignment="center")
    if view.sample.picture is not None:
        about = f"The token in row {token[0] + 1}, column {token[1] + 1}, and what lies around it"
        picture.image(closeup(view, view.key, token), width="stretch", alt=about)
    words.markdown(told(biography.story(view.sample.trace, *token)))
    frame = strip.frame({"": view.sample.trace}, token)
    rows = {"life": life_rows(frame, layer)}
    shell.chart(life_chart(), rows, key="token life")
    if frame["score"].notna().any():
        st.markdown("Margin at each gate", help=HELP["margin"])
        shell.chart(margin_chart(len(frame)), rows, key="token margins")
    else:
        st.caption(
            "No scores are recorded for this token: the method has none, or they were left out."
        )
    show_over(over)
    shell.downloads(f"token-{view.image_id}-{token[0]}-{token[1]}", frame)


@st.cache_data(max_entries=24, show_spinner=False)
def closeup(_view: View, key: tuple, token: tuple[int, int]) -> bytes:
    """The token, as (row, column), and its surroundings in the stored picture, as PNG."""
    return token_maps.closeup(_view.sample.picture, _view.grid, token)


def told(life: Story) -> str:
    """The story in a sentence or two."""
    if life.used == life.blocks:
        return f"Used in all {life.blocks} blocks."
    parts = [f"Used in **{life.used} of {life.blocks}** blocks"]
    if life.carried:
        parts.append(f"carried by another in {life.carried}, first in block {life.joined}")
    if life.dropped is None:
        return "; ".join(parts) + "."
    words = ["; ".join([*parts, f"first pruned at block {life.dropped}"]) + "."]
    if life.returns:
        times = {1: "once", 2: "twice"}.get(life.returns, f"{life.returns} times")
        words.append(f"Came back {times}, first at block {life.back}.")
    else:
        words.append("Never came back.")
    return " ".join(words)


@st.cache_data(show_spinner=False)
def life_chart() -> dict:
    """The strip of one run, made once."""
    return strip.screen(1, INDENT).to_dict()


@st.cache_data(show_spinner=False)
def margin_chart(layers: int) -> dict:
    """A bar up for a kept token, down for a pruned one; paler blocks have no limit of their own."""
    axis = alt.Axis(labelAngle=0, domain=False, ticks=False)
    ends = {"minExtent": INDENT, "maxExtent": INDENT}
    numbers = alt.Axis(tickCount=4, domain=False, ticks=False, **ends)
    blocks = list(range(1, layers + 1))  # also those without a score
    base = alt.Chart(alt.NamedData("life")).encode(
        x=alt.X("block:O", title=None, axis=axis, scale=alt.Scale(domain=blocks)),
        tooltip=["block:O", "measure:N", alt.Tooltip("value:Q", format="+.2f")],
    )
    bars = base.mark_bar(cornerRadius=2, width=alt.RelativeBandSize(0.62)).encode(
        y=alt.Y("value:Q", title=None, axis=numbers),
        color=alt.condition(
            "datum.word == 'used'", alt.value(palette.ABOVE), alt.value(palette.BELOW)
        ),
        opacity=alt.condition("datum.measure == 'margin'", alt.value(1), alt.value(0.5)),
    )
    zero = alt.Chart(alt.InlineData([{"y": 0}])).mark_rule(color=palette.SOFT).encode(y="y:Q")
    about = "Margin of the chosen token's score over each block's limit"
    return (bars + zero).properties(height=120, padding=PADDING, description=about).to_dict()


def life_rows(frame: pd.DataFrame, layer: int) -> pd.DataFrame:
    """What both charts show, from `biography.token_frame`."""
    limitless = frame["margin"].isna()
    return frame.assign(
        here=frame["layer"] == layer,
        value=frame["margin"].fillna(frame["score"]),
        measure=["score" if each else "margin" for each in limitless],
    )


def show_over(over: pd.DataFrame) -> None:
    """Objects and detections over the token, the ones that cover most of it first."""
    st.markdown("Over this token", help=HELP["over"])
    if over.empty:
        st.caption("No annotated object and no detection.")
    for row in over.head(MOST).itertuples():
        score = "" if pd.isna(row.score) else f" {row.score:.2f}"
        st.caption(f"**{escaped(row[3])}** · {row.kind}{score} · covers {row.cover:.0%}")
    if len(over) > MOST:
        st.caption(f"and {len(over) - MOST} more")
