"""Before and after on the Live page: pictures, the grid to brush on, numbers, tables; no model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import streamlit as st

from analysis import changes, metrics
from analysis.pages import live_controls as controls
from analysis.pages import live_parts as parts
from analysis.pages import shell
from svit.types import Target, TokenTrace

SAME = "no change"
HELP = {
    "page": "The same picture through the same weights twice: as the model decides, and with the edits. "
    "Edits go through the probes of the blocks; nothing of them stays in the model.",
    "grid": "White: pruned in this block. Green and red: turned on and off by the edits, directly or "
    "because later gates then decide otherwise.",
    "found": "Annotated objects found by a detection of their class with at least the score and a box IoU "
    "of 0.5. Without annotations, the detections before stand for the objects.",
    "tokens": "Kept tokens / tokens that show image pixels, mean over the gated blocks.",
    "network": "Multiply-accumulates of the whole network by the compute ledger, with as many proposals as "
    "configured and a mask for each detection.",
    "time": "Median time of the whole detector on this picture. Before and after run in turn; the "
    "interval is that of the median of their ratios, valid for any distribution of times. Another "
    "program on this computer slows both.",
}


@dataclass(frozen=True)
class Model:
    """What the page knows of a model without holding it."""

    about: str
    targets: list[float]
    names: tuple[str, ...]
    truth: Target | None
    mode: str


@dataclass(frozen=True)
class Job:
    """A model, a picture, and what names both for the caches."""

    path: Path
    picture: Any
    key: tuple


@dataclass(frozen=True)
class View:
    """Before and after of one picture; outcomes are `svit.live.Outcome`."""

    job: Job
    model: Model
    before: Any
    after: Any
    changed: pd.DataFrame
    score: float

    @property
    def key(self) -> tuple:
        """Names what is drawn, for the caches."""
        return (*self.job.key, *(one.key for one in self.after.edits), self.score)

    def draw(self, side: str) -> Callable:
        """What draws the detections of one side on an Axes."""
        found = {"before": self.before, "after": self.after}[side].detections
        grid = self.before.trace.grid
        return lambda ax: parts.draw_found(
            *(found, self.job.picture.pixels, grid, ax, self.model.names, self.score),
            *(self.changed, side == "after"),
        )


def show_side(view: View, side: str) -> None:
    """The detections of one side."""
    st.markdown(f"##### {side.capitalize()}", help=HELP["found"])
    ratio = parts.shape(view.before.trace.grid)
    drawn = parts.found_png(view.draw(side), (*view.key, side), ratio, shell.dark())
    st.image(drawn, width="stretch", alt=f"Detections {side} the edits")
    st.caption(parts.frames_said(view.changed, side))


def show_numbers(view: View, measure: Callable[[View], Any]) -> None:
    """Found objects, kept tokens, operations, time: after, and the difference."""
    before, after = view.before, view.after
    counts = view.changed["state"].value_counts()
    gained, lost = int(counts.get("gained", 0)), int(counts.get("lost", 0))
    found = int(counts.get("kept", 0)) + gained
    total = len(view.changed) if view.model.truth is not None else None
    kept = [changes.kept_share(one.trace, view.model.targets) for one in (before, after)]
    upper, lower = (st.columns(2, border=True) for _ in range(2))
    objects = f"{found} of {total}" if total is not None else str(found)
    moved = f"+{gained} −{lost}" if gained or lost else SAME
    _metric(upper[0], "Objects found", objects, moved)
    points = 100 * (kept[1] - kept[0])
    _metric(upper[1], "Kept tokens", f"{kept[1]:.1%}", f"{points:+.1f} points" if points else SAME)
    if after.macs is None or before.macs is None:
        _metric(lower[0], "Network", "–", "no cost formula")
    else:
        change = after.macs.sum() / before.macs.sum() - 1
        moved = f"{change:+.1%}" if change else SAME
        _metric(lower[0], "Network", f"{after.macs.sum() / 1e9:.2f} GMACs", moved)
    with lower[1]:
        show_latency(view, measure)


def _metric(place: Any, name: str, value: str, change: str) -> None:
    """A number and how it differs from before; no colour says whether that is good."""
    place.metric(
        name,
        value,
        change,
        delta_color="off",
        delta_arrow="off",
        help=HELP[name.split()[-1].lower()],
    )


def show_tokens(view: View) -> None:
    """The grid to brush on, with its block."""
    trace = view.after.trace
    first = metrics.gated_layers(trace.layers, view.model.targets)[0]
    block = shown_block(trace.layers, first)
    tokens = changes.token_frame(view.before.trace, trace, block - 1)
    kept = metrics.keep_ratios(trace)[block - 1]
    st.markdown(f"##### Block {block} keeps {kept:.0%}", help=HELP["grid"])
    url = parts.address(view.job.picture.pixels, view.job.key)
    chart = parts.token_grid(tokens, trace.grid, url)
    st.altair_chart(chart, width="stretch", key=grid_key(), on_select="rerun")
    shell.restore("block", first + 1, range(1, trace.layers + 1))
    st.slider("Block", 1, trace.layers, key="block", label_visibility="collapsed")
    shell.remember(block=block)
    st.caption("White: pruned. Green, red: turned on, off by the edits.")


def shown_block(depth: int, first: int) -> int:
    """The block of the slider, which is drawn below the picture it moves."""
    shell.restore("block", first + 1, range(1, depth + 1))
    return int(st.session_state["block"])


def grid_key() -> str:
    return f"grid {controls.turn()}"


def chosen_tokens(before: TokenTrace) -> tuple[tuple[int, int], ...]:
    """What is selected in the grid, which is drawn after the controls that need it."""
    event = st.session_state.get(grid_key()) or {}
    return parts.selected(event.get("selection", {}), changes.token_frame(before, before, 0))


def show_details(view: View) -> None:
    """Objects, keep ratios and files."""
    left, right = st.columns(2, gap="large")
    with left:
        st.markdown("##### Objects", help=HELP["found"])
        st.dataframe(parts.change_table(view.changed), hide_index=True, height="content")
    with right:
        st.markdown("##### Kept tokens per block", help=HELP["tokens"])
        ratios = changes.ratio_frame(view.before.trace, view.after.trace, view.model.targets)
        st.altair_chart(parts.ratio_chart(ratios, st.session_state["block"]), width="stretch")
    ratio = parts.shape(view.before.trace.grid)
    figure = partial(parts.both_figure, view.draw("before"), view.draw("after"), ratio)
    shell.downloads("live", view.changed, ratios, figure)


def show_latency(view: View, measure: Callable[[View], Any]) -> None:
    """Times on request, kept until something changes."""
    stored = st.session_state.get("latency")
    if stored is not None and stored[0] == view.key[:-1]:
        low, middle, high = (1000 * value for value in stored[1].seconds("after"))
        before = 1000 * stored[1].seconds("before")[1]
        _metric(st, "Time", f"{middle:.0f} ms", f"before {before:.0f} ms")
        st.caption(f"Half of the calls {low:.0f} to {high:.0f} ms. {stored[1].verdict}")
        return
    _metric(st, "Time", "–", "not measured")
    help_text = "Runs both sides ten times in turn"
    if st.button("Measure", icon=":material/timer:", type="tertiary", help=help_text):
        measured = measure(view)
        if measured is not None:
            st.session_state["latency"] = (view.key[:-1], measured)
            st.rerun()
