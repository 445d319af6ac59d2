"""Before and after on the Live page: pictures, the grid to brush on, numbers, tables; no model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import streamlit as st

from analysis.numbers import edit_effects, usage
from analysis.pages.parts import session, shell
from analysis.pages.parts.live import controls, parts
from svit.core.types import Detections, Target, TokenGrid, TokenTrace
from svit.system.text import counted, escaped

SAME = "no change"
SAME_SCORE = 0.005  # half of the last digit shown
FEW = 3  # settings that a warning names
OBJECTS = 178  # screen pixels of the table of objects; it scrolls
HELP = {
    "page": "The same picture through the same weights twice: as the model decides, and with the edits. "
    "Edits go through the probes of the blocks; nothing of them stays in the model. A link restores all but "
    "an uploaded picture, and says what it cannot hold; to keep that, keep the result as a run.",
    "grid": "Kept tokens of this block / tokens that show image pixels, after the edits. White: pruned. "
    "Yellow: carried, a part of another token. "
    "Green and purple: turned on and off by the edits, directly or because later gates decide otherwise.",
    "found": "Annotated objects found by a detection of their class with at least the score and a box IoU "
    "of 0.5. Without annotations, the detections before stand for the objects.",
    "tokens": "Kept tokens / tokens that show image pixels, mean over the gated blocks.",
    "backbone": "Multiply-accumulates of the backbone by the compute ledger: all that pruning can reach.",
    "network": "Multiply-accumulates of the whole network by the compute ledger, with as many proposals as "
    "configured. Both sides get a mask for each detection before, so that only tokens change the cost.",
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
    weights_sha256: str
    shifts: bool  # whether moved scores prune more or less
    sees: str  # what it was trained to find, and at what size it sees the picture
    others: tuple[str, ...] = ()  # settings that the picture's run recorded otherwise


@dataclass(frozen=True)
class Job:
    """A model, a picture, and what names both for the caches."""

    path: Path
    picture: Any
    key: tuple


@dataclass(frozen=True)
class View:
    """Before and after of one picture; outcomes are `svit.live.session.Outcome`."""

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

    def found(self, side: str) -> Detections:
        """The detections of one side, all scores."""
        return {"before": self.before, "after": self.after}[side].detections

    def draw(self, side: str) -> Callable:
        """What draws the detections of one side on an Axes."""
        grid = self.before.trace.grid
        return lambda ax: parts.draw_found(
            *(self.found(side), self.job.picture.pixels, grid, ax, self.model.names, self.score),
            *(self.changed, side == "after"),
        )


def other_weights(view: View) -> str:
    """A warning where the picture's run was not recorded with this model; "" where it was."""
    record = view.job.picture.record
    if record is None:
        return ""
    name, model = f"run {escaped(record.run)}", escaped(view.job.path.name)
    if record.weights_sha256 == view.model.weights_sha256:
        return _with_other_settings(view.model.others, name, model)
    if not record.weights_sha256:
        return f"This may not be the model of {name}, which does not tell its weights: Before is {model}'s."
    own = f" ({escaped(Path(record.weights).name)})" if record.weights else ""
    return (
        f"This is not the model of {name}: it recorded other weights{own}, and Before is {model}'s. "
        "Choose its model in the sidebar; if it is not listed, name its folder, too (`--runs`)."
    )


def _with_other_settings(others: tuple[str, ...], name: str, model: str) -> str:
    """A warning where a run was recorded with other settings than those in its weights; "" for none."""
    if not others:
        return ""
    more = f"; and {len(others) - FEW} more" if len(others) > FEW else ""
    return (
        f"Before is not what {name} recorded: it ran these weights with other settings than {model} holds. "
        f"{escaped('; '.join(others[:FEW]))}{more} (there: in the run, now: here)."
    )


def record_said(view: View) -> str:
    """Whether Before is what a run recorded, and if not, why; "" where it is from no run or another model."""
    record = view.job.picture.record
    if record is None or record.found is None or other_weights(view):
        return ""
    name = f"run {escaped(record.run)}"
    gone, gap = edit_effects.record_gap(record.found, view.before.detections, view.score)
    if not gone and gap < SAME_SCORE:
        return f"Before is what {name} recorded."
    said = [f"{counted(gone, 'detections')} missing"] * bool(gone)
    said += [f"scores off by up to {gap:.2f}"] * (gap >= SAME_SCORE)
    why = f"its masks were {escaped(record.masks)}"
    if not record.exact:
        why = "this is the JPEG that it stores; `svit app --pictures DIR` names the folder of the files"
    elif record.masks == "learned":
        why = "it was recorded on another machine or in another mode"
    return (
        f":material/warning: Before differs from what {name} recorded ({', '.join(said)}): {why}."
    )


def show_side(view: View, side: str) -> None:
    """The detections of one side."""
    st.markdown(f"##### {side.capitalize()}", help=HELP["found"])
    ratio = parts.shape(view.before.trace.grid)
    shown = side if view.after.edits else "before"  # without edits both are one picture
    drawn = parts.found_png(view.draw(shown), (*view.key, shown), ratio, shell.dark())
    found = view.found(side)
    count = int((found.scores >= view.score).sum())
    name = f"{counted(count, 'detections')} {side} the edits, from score {view.score:g} on"
    st.image(drawn, width="stretch", alt=name)


def show_numbers(view: View) -> None:
    """Found objects, kept tokens, operations: after, and the difference."""
    before, after = view.before, view.after
    counts = view.changed["state"].value_counts()
    gained, lost, stayed = (int(counts.get(state, 0)) for state in ("gained", "lost", "kept"))
    objects = str(stayed + gained)
    if view.model.truth is not None:
        objects += f" of {len(view.changed)}"
    _metric("Objects found", objects, f"+{gained} −{lost}" if gained or lost else SAME)
    kept, points = edit_effects.kept_change(before.trace, after.trace, view.model.targets)
    _metric("Kept tokens", f"{kept:.1%}", f"{points:+.1f} points" if points else SAME)
    if after.macs is None or before.macs is None:
        _metric("Network", "–", "no cost formula")
        return
    for part, (macs, change) in edit_effects.macs_change(before.macs, after.macs).items():
        said = f"{change:+.1%}" if change else SAME
        _metric(part.capitalize(), f"{macs / 1e9:.2f} GMACs", said)


def _metric(name: str, value: str, change: str) -> None:
    """A number and how it differs from before; no colour says whether that is good."""
    said = HELP[name.split()[-1].lower()]
    st.metric(name, value, change, delta_color="off", delta_arrow="off", border=True, help=said)


def show_tokens(view: View, first: int) -> None:
    """The grid to brush on, and its block; `first` is gated."""
    trace = view.after.trace
    words, slider = st.columns([1.5, 1], vertical_alignment="center", gap="small")
    with slider:
        block = choose_block(view.before.trace.layers, first)
    tokens = edit_effects.token_frame(view.before.trace, trace, block - 1)
    kept = usage.keep_ratios(trace)[block - 1]
    words.markdown(f"**Block {block} keeps {kept:.0%}**", help=HELP["grid"])
    missed = view.changed[view.changed["state"] == "missed"]
    parts.show_grid(tokens, missed, trace.grid, picture_url(view.job), grid_key(), block)


def paint_ahead(job: Job, grid: TokenGrid) -> None:
    """The picture under the tokens, for a viewer who has not drawn on it yet."""
    if not controls.turn() and grid_key() not in st.session_state:
        parts.paint_ahead(grid, picture_url(job), grid_key())


def picture_url(job: Job) -> str:
    """The picture as a data address."""
    return parts.address(job.picture.pixels, job.key)


def choose_block(depth: int, first: int) -> int:
    """The block whose tokens are shown; the first gated one to begin with."""
    session.restore("block", first + 1, range(1, depth + 1))
    block = st.slider("Block", 1, depth, key="block", label_visibility="collapsed")
    session.remember(block=block)
    return block


def grid_key() -> str:
    """Session key of the token grid; another one after each use, so that its selection is gone."""
    return f"grid-{controls.turn()}"


def chosen_tokens(before: TokenTrace) -> tuple[tuple[int, int], ...]:
    """What is selected in the grid, which is drawn after the controls that need it."""
    event = st.session_state.get(grid_key()) or {}
    return parts.selected(event.get("selection", {}), edit_effects.token_frame(before, before, 0))


def show_objects(view: View) -> None:
    """What the edits did to every object."""
    st.markdown("##### Objects", help=HELP["found"])
    st.caption(parts.frames_said(view.changed))
    st.dataframe(parts.change_table(view.changed), hide_index=True, height=OBJECTS)


def show_details(view: View, measure: Callable[[View], Any]) -> None:
    """Keep ratios, times and files."""
    left, right = st.columns(2, gap="large")
    with left:
        st.markdown("##### Kept tokens per block", help=HELP["tokens"])
        ratios = edit_effects.ratio_frame(view.before.trace, view.after.trace, view.model.targets)
        parts.show_ratios(ratios, st.session_state["block"])
    with right:
        show_latency(view, measure)
    ratio = parts.shape(view.before.trace.grid)
    figure = partial(parts.both_figure, view.draw("before"), view.draw("after"), ratio)
    shell.downloads("live", view.changed, ratios, figure, frames=("objects", "kept tokens"))


def show_latency(view: View, measure: Callable[[View], Any]) -> None:
    """Times on request, kept until something changes."""
    stored = st.session_state.get("latency")
    times = stored[1] if stored is not None and stored[0] == view.key[:-1] else None
    told = "Runs both sides ten times in turn."
    if times is None:
        _metric("Time", "–", "not measured")
    else:
        quartiles = [f"{1000 * value:.0f}" for value in times.seconds("after")]
        before = f"{1000 * times.seconds('before')[1]:.0f}"
        _metric("Time", f"{quartiles[1]} ms", f"before {before} ms")
        told = f"Half of the calls {quartiles[0]} to {quartiles[2]} ms. {times.verdict}"
    with st.container(horizontal=True, vertical_alignment="center"):
        if st.button("Measure", icon=":material/timer:"):
            measured = measure(view)
            if measured is not None:
                st.session_state["latency"] = (view.key[:-1], measured)
                st.rerun()
        st.caption(told)
