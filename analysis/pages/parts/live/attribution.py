"""Which tokens an object needs, asked on the Live page: a choice, an estimate, a bar, and what came out."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import streamlit as st
from matplotlib.style import context

from analysis.figures import palette
from analysis.figures.objects import attribution as figure
from analysis.pages.parts import shell
from analysis.pages.parts.live.view import View
from svit.core.attribution import Explanation
from svit.system.text import escaped

Thing = Any  # `svit.core.attribution.Thing`, as the page gives it
SHOWN, ASKED = "attribution shown", "attribution asked"  # session state
HELP = (
    "Takes tokens away from the model's own masks, and gives them back, by what the model does with them and "
    "in orders that know nothing of it; then searches the smallest set of tokens with which the object is "
    "found as well. Of a missed object it begins with all tokens. Edits on this page do not count "
    "(docs/attribution.md)."
)


@dataclass(frozen=True)
class Asking:
    """What the page does for this part.

    Attributes:
        things: name -> what can be asked about.
        pace: forwards at most, and seconds that they take on this computer now.
        explain: (thing, called with numbers of finished forwards) -> the answer and its file in a run, if
            any. Both give None after an error was shown.
    """

    things: dict[str, Thing]
    pace: Callable[[], tuple[int, float] | None]
    explain: Callable[[Thing, Callable[[int], None]], tuple[Explanation, Path | None] | None]


def show(view: View, asking: Asking) -> None:
    """The part of the page, folded up."""
    with st.expander("Which tokens does an object need?", icon=":material/target:"):
        if not asking.things:
            st.caption("Nothing is annotated or found in this picture.")
            return
        left, right = st.columns([4, 1], vertical_alignment="bottom")
        name = left.selectbox("Object", list(asking.things), key="explained object", help=HELP)
        key = (*view.job.key, name)
        if right.button("Explain", icon=":material/troubleshoot:", width="stretch"):
            st.session_state[ASKED] = key
        if st.session_state.get(ASKED) == key:
            _ask(asking, asking.things[name], key)
        shown = st.session_state.get(SHOWN)
        if shown is not None and shown[0] == key:
            _answer(view, *shown[1])


def _ask(asking: Asking, thing: Thing, key: tuple) -> None:
    """The estimate with Start, then the bar with Cancel: whatever is clicked meanwhile ends the job."""
    cost = asking.pace()
    if cost is None:
        return
    forwards, seconds = cost
    told = st.empty()
    told.caption(
        f"At most {forwards} forwards, about {max(seconds, 1):.0f} s on this computer now."
    )
    place = st.empty()
    if not place.button("Start", icon=":material/play_arrow:"):
        return
    place.button("Cancel", icon=":material/stop:", key="cancel explaining")
    st.session_state.pop(ASKED)  # a cancelled job does not begin again by itself
    bar, done = told.progress(0.0, text=f"0 of at most {forwards} forwards"), 0

    def tell(count: int) -> None:
        nonlocal done
        done += count
        bar.progress(min(done / forwards, 1.0), text=f"{done} of at most {forwards} forwards")

    found = asking.explain(thing, tell)
    told.empty()
    place.empty()
    if found is not None:
        st.session_state[SHOWN] = (key, found)


def _answer(view: View, one: Explanation, path: Path | None) -> None:
    """Curves, sets and blocks, and where they are kept."""
    if not len(one.curves):
        st.info("Not even all tokens bring it back: pruning is not why it is missed.")
    else:
        shell.printed(_png(view, one), "Scores while tokens are taken away", "attribution")
        st.caption(shell.definition(figure.__doc__))
    shell.downloads("attribution", one.curves, one.forced, frames=("curves", "forced"))
    kept = (
        f"Kept in {escaped(str(path))}."
        if path is not None
        else "Kept nowhere: answers are kept in a run whose model this is, on pictures that give its masks "
        "again."
    )
    st.caption(kept)


def _png(view: View, one: Explanation) -> bytes:
    buffer = io.BytesIO()
    with shell.drawing(), context(palette.STYLE):
        drawn = figure.of_object(one, view.job.picture.pixels, view.model.names)
        drawn.savefig(buffer, format="png", dpi=200)
    return buffer.getvalue()
