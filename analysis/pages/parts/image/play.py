"""The Image page's block slider, and its clock: playing shows one block after the other."""

from __future__ import annotations

import time
from collections.abc import Callable

import streamlit as st

from analysis.pages.parts import session
from analysis.pages.parts.image.view import View

SECONDS = 0.8  # seconds a block is shown while playing
SHARE = (0.0, 1.0)
clock: Callable[[], float] = time.monotonic


def choose_block(view: View) -> int:
    """The slider, its play button and the opacity; the zero-based layer."""
    button, slider, more = st.columns([1.1, 5, 2], vertical_alignment="bottom", gap="medium")
    button.button(
        "Stop" if playing() else "Play",
        icon=":material/stop:" if playing() else ":material/play_arrow:",
        key="play",
        on_click=_toggle,
        args=(view.run.layers,),
        shortcut="B",
        width="stretch",
        help="Shows one block after the other. The letter is its key.",
    )
    arrows = "Once it has the focus, the arrow keys move it."
    block = slider.slider("Block", 1, view.run.layers, key="block", help=arrows)
    opacity = more.slider("Opacity of the map", *SHARE, step=0.05, key="opacity")
    session.remember(block=block, opacity=opacity)
    return block - 1


def playing() -> bool:
    """Whether blocks follow each other by themselves."""
    return bool(st.session_state.get("playing"))


def seconds_a_block() -> float | None:
    """Seconds between two blocks, or None while nothing plays."""
    return SECONDS if playing() else None


def _toggle(layers: int) -> None:
    """Starts or stops; from the last block it starts over."""
    st.session_state["playing"], st.session_state["block since"] = not playing(), clock()
    st.session_state["run again"] = True
    if playing() and st.session_state["block"] >= layers:
        session.change(block=1)


def advance(layers: int) -> None:
    """While playing, the next block once the shown one had its time; stops at the last.

    Where playing begins or ends it runs the whole page anew, which starts or stops the clock.
    """
    if playing() and clock() - st.session_state["block since"] >= SECONDS / 2:
        st.session_state["block since"] = clock()
        st.session_state["block"] = min(st.session_state["block"] + 1, layers)
        if st.session_state["block"] == layers:
            st.session_state["playing"], st.session_state["run again"] = False, True
    if st.session_state.pop("run again", False):
        st.rerun()
