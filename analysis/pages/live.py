"""A model run here and now, with its masks changed by hand: what is found, what it costs, kept as a run."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pandas as pd
import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from analysis.numbers import edit_effects, usage
from analysis.pages.parts import pairs, session, shell
from analysis.pages.parts.live import attribution, controls, sources
from analysis.pages.parts.live import view as views
from analysis.pages.parts.live.controls import Wanted
from analysis.pages.parts.live.view import HELP, Job, Model, View
from analysis.pages.parts.state import Mark
from analysis.sources import labels
from svit.core.types import Detections, TokenTrace
from svit.runs.run import RunError, open_run
from svit.system.files import FileError
from svit.system.text import escaped

try:
    with st.spinner("Loading PyTorch and the model code"):
        from svit.live import workplace as live
except ImportError as error:  # the viewer may be installed without torch
    st.subheader("Live", anchor=False)
    missing = f"This page runs a model, and {error}. The other pages need no PyTorch."
    shell.empty(
        escaped(missing),
        "pip install 'svit-workbench[analysis]'   # in a clone: -e '.[analysis]'",
    )
    st.stop()

# in the order of a narrow window and of the keyboard; `app.css` lays them out in wider ones
PANELS = ("map", "controls", "after", "objects", "edits", "before")
IMAGE = shell.page_file("image")
RUN_S, RACE_S, ROUNDS = 60, 120, 10  # seconds that a forward and a race may take; rounds of a race


@st.cache_resource
def workplace() -> live.Workplace:
    """One model in memory for everybody who looks at this app."""
    return live.Workplace()


@st.cache_resource(max_entries=8, show_spinner=False)  # each holds a mask for every detection
def outcome(_job: Job, _edits: tuple, key: tuple) -> tuple[live.session.Outcome, Model]:
    """One forward, and what is to be known of the model; the key names all of it."""
    with workplace().session(_job.path) as session:
        found = session.run(_job.picture, _edits, timeout_s=RUN_S)
        names, truth = session.names(_job.picture), session.truth(_job.picture)
        facts = (session.about, session.targets, names, truth, session.weights_sha256)
        others = tuple(session.other_settings(_job.picture))
        return found, Model(*facts, session.shifts, session.sees(_job.picture), others)


@st.cache_data(max_entries=512, show_spinner="Looking for the model of the run")
def weights_sha256(_path: Path, stamp: tuple) -> str:
    """Of the weights of a checkpoint as the file is now; "" where it cannot be read."""
    try:
        with workplace().session(_path) as session:
            return session.weights_sha256
    except (FileError, OSError, ValueError):  # shown where it is chosen
        return ""


def model_of(picture: sources.Picture, known: dict[str, Path]) -> str | None:
    """Which of the checkpoints the picture's run was recorded with, as far as it is among them."""
    if picture.record is None:
        return None
    return sources.of_record(
        picture.record,
        known,
        live.settings_name,
        lambda path: weights_sha256(path, sources.stamp(path)),
    )


def attempt(work: Callable, *arguments):
    """What a job returns, or None after the page said why it did not."""
    try:
        return work(*arguments)
    except live.Busy as error:
        st.warning(f"{str(error).capitalize()}.", icon=":material/hourglass_top:")
        st.button("Try again", icon=":material/refresh:")
    except TimeoutError as error:
        st.error(f"Stopped: {error}.", icon=":material/timer_off:")
    except live.edits.EditError as error:
        st.error(f"This edit does not fit: {escaped(str(error))}.", icon=":material/block:")
        st.button("Start over", icon=":material/undo:", on_click=controls.start_over, key="again")
    except (FileError, OSError, ValueError) as error:
        st.error("That did not work.", icon=":material/broken_image:")
        st.code(str(error), language=None, wrap_lines=True)
    return None


def run(job: Job, edits: tuple = ()) -> tuple[live.session.Outcome, Model] | None:
    """The outcome of a forward, or None after the page said why there is none."""
    size = job.path.stat().st_size / 2**20
    loading = f"Loading {escaped(job.path.name)} ({size:.1f} MB) and running it on one picture"
    with st.spinner("Running the model" if workplace().holds(job.path) else loading):
        return attempt(outcome, job, edits, (*job.key, *(one.key for one in edits)))


def lenders(job: Job) -> dict[str, Callable[[], TokenTrace | None]]:
    """Who may lend masks for this picture: name -> what returns them."""
    found: dict[str, Callable[[], TokenTrace | None]] = {}
    for name, path in sources.checkpoints(live.checkpoints(shell.folders())).items():
        if path != job.path:
            found[f"model {name}"] = partial(model_masks, path, job)
    for name, path in labels.choices(shell.runs()).items() if job.key[2] == "run" else ():
        try:
            recording = open_run(path)
            known = job.picture.image_id in recording.image_ids
            known = known and not pairs.refusal(open_run(job.key[3]), recording)
        except RunError:  # its own page says what is wrong with it
            continue
        if known:
            found[f"run {name}"] = partial(attempt, recording.trace, job.picture.image_id)
    return found


def model_masks(path: Path, job: Job) -> TokenTrace | None:
    """The masks that another model decides for the picture."""
    done = run(Job(path, job.picture, (*sources.stamp(path), *job.key[2:])))
    return done and done[0].trace


def edits_of(wanted: Wanted, lent: dict) -> tuple[tuple[live.edits.Edit, ...], int] | None:
    """The edits in the order they act, and the place of the first brushed one; None where masks that
    are wanted cannot be had."""
    edits: list[live.edits.Edit] = []
    if wanted.dial == "shift" and wanted.value:
        edits.append(live.edits.Shift(wanted.value))
    if wanted.dial == "ratio":
        edits.append(live.edits.KeepRatio(wanted.value))
    if wanted.lender:
        trace = lent[wanted.lender]()
        if trace is None:
            return None
        edits.append(live.transplants.Transplant(trace, wanted.lender))
    first = len(edits)
    edits += [brushed(mark) for mark in wanted.marks]
    edits += [live.edits.NoReactivation()] * (wanted.forbid and not wanted.remove)
    edits += [live.edits.Remove()] * wanted.remove
    if wanted.control != "none":
        edits.append(live.equal_counts.Control(wanted.control, wanted.draw))
    return tuple(edits), first


def brushed(mark: Mark) -> live.edits.Edit:
    """The edit that a mark stands for."""
    layers = tuple(block - 1 for block in mark.blocks)
    if mark.box is not None:
        return live.edits.KeepBox(mark.box, layers, mark.name)
    return live.edits.Brush(layers, mark.tokens, mark.on)


def race(view: View) -> live.session.Latency:
    """Both sides timed in turn."""
    with st.spinner("Measuring both sides in turn"), workplace().session(view.job.path) as session:
        return session.race(view.job.picture, view.after, ROUNDS, timeout_s=RACE_S)


def asking(view: View) -> attribution.Asking:
    """What may be asked about the objects of the picture, of the model without edits."""
    found = view.before.detections[view.before.detections.scores >= view.score]
    one = live.explaining
    named = {
        _named(thing, view): thing
        for thing in one.things_of(view.model.truth, one.as_target(found))
    }

    def pace() -> tuple[int, float]:
        with workplace().session(view.job.path) as session:
            return one.pace(session, view.job.picture)

    def explain(thing: object, tell: Callable[[int], None]) -> tuple:
        run = open_run(view.job.key[3]) if view.job.key[2] == "run" else None
        with workplace().session(view.job.path) as session:
            return one.explained(session, view.job.picture, thing, run, tell)

    return attribution.Asking(named, partial(attempt, pace), partial(attempt, explain))


def _named(thing: live.explaining.Thing, view: View) -> str:
    """An object for the choice: "detection 2: cross 0.95", "annotation 3: ring, score 0.31"."""
    names, hit = view.model.names, thing.hit(view.before.detections)
    kind = names[thing.label] if thing.label < len(names) else f"class {thing.label}"
    return f"{thing.source} {thing.number}: {kind}, score {hit.score:.2f}"


def show_keep(view: View) -> None:
    """Writes the result as a run that the other pages open."""
    with st.expander("Keep the result as a run", icon=":material/save:"):
        root = next((folder for folder in shell.folders() if folder.is_dir()), shell.folders()[0])
        with st.form("keep", border=False):
            left, right = st.columns([4, 1], vertical_alignment="bottom")
            name = left.text_input(
                f"Name of the run, in {escaped(str(root))}", "what-if", max_chars=80
            )
            if right.form_submit_button("Keep", width="stretch"):
                path = attempt(keep, view, root, name)
                if path is not None:
                    st.success(f"Kept as {escaped(str(path))}; the other pages list it now.")
                    there = session.link(
                        run=shell.run_name(path), image=str(view.job.picture.image_id)
                    )
                    st.page_link(
                        IMAGE, label="Open it", icon=":material/image:", query_params=there
                    )
        st.caption("Its provenance names the model, the picture and every edit.")


def keep(view: View, root: Path, name: str) -> Path:
    """The folder of the new run."""
    with workplace().session(view.job.path) as session:
        return session.keep(view.after, view.job.picture, live.new_run(root, name))


def show(job: Job, head: DeltaGenerator) -> None:
    """The page of a model and a picture; `head` takes what they are."""
    plain = run(job)
    if plain is None:
        return
    before, model = plain
    views.paint_ahead(job, before.trace.grid)
    sees = f". {model.sees}" if job.key[2] == "upload" else ""
    known = escaped(f"{model.about} · {job.picture.origin}{sees}")
    about = head.empty()
    about.caption(known)
    notice = st.container()
    controls.forget_places(job.key)
    numbers = st.container(key="live-numbers")
    with st.container(key="live"):
        panels = {name: st.container(key=f"live-{name}") for name in PANELS}
    first = usage.gated_layers(before.trace.layers, model.targets)[0]
    done = edited(job, plain, first, panels)
    if done is None:
        return
    changed = changes(plain, done.detections)
    view = View(job, model, before, done, changed, st.session_state["score"])
    with numbers:
        views.show_numbers(view)
    if warning := views.other_weights(view):
        notice.warning(warning, icon=":material/model_training:")
    if told := views.record_said(view):
        about.caption(f"{known} · {told}")
    with panels["map"]:
        views.show_tokens(view, first)
    for side in ("before", "after"):
        with panels[side]:
            views.show_side(view, side)
    with panels["objects"]:
        views.show_objects(view)
    views.show_details(view, partial(attempt, race))
    attribution.show(view, asking(view))
    show_keep(view)


def edited(
    job: Job,
    plain: tuple[live.session.Outcome, Model],
    first: int,
    panels: dict[str, DeltaGenerator],
) -> live.session.Outcome | None:
    """The controls, the list of edits and what these make of the picture; None where nothing can be shown.

    Args:
        first: the first gated layer.
    """
    before, model = plain
    same, lent = changes(plain, before.detections), lenders(job)
    with panels["controls"]:
        wanted = controls.panel(
            before.trace.layers,
            first,
            views.chosen_tokens(before.trace),
            before.trace.grid.valid_hw,
            same if model.truth is not None else None,
            list(lent),
            model.shifts,
        )
    with panels["edits"]:
        st.markdown("##### Edits in their order", help=HELP["page"])
        made = edits_of(wanted, lent)
        done = None if made is None else run(job, made[0])
        if made is not None:
            controls.list_edits([one.sentence for one in made[0]], made[1])
    return done and done[0]


def changes(plain: tuple[live.session.Outcome, Model], after: Detections) -> pd.DataFrame:
    """What became of every object from the score on show on."""
    before, model = plain
    score = st.session_state["score"]
    return edit_effects.change_frame(
        before.detections, after, model.truth, model.names, score=score
    )


def main() -> None:
    """The page."""
    controls.open_on()
    head = st.container(horizontal=True, vertical_alignment="center", key="live-head")
    head.markdown("#### Live", width="content", help=HELP["page"])
    known = sources.checkpoints(live.checkpoints(shell.folders()))
    if not known:
        shell.empty("No checkpoint in the chosen folders. Training makes one:", "svit train --help")
        return
    with st.sidebar:
        above = st.container()
        picture = attempt(sources.choose_picture, live.pictures)
        first = picture and attempt(model_of, picture[0], known)
        with above:
            path = sources.choose_model(known, first)
        session.restore("score", 0.5, within=(0.0, 1.0))
        st.slider("Score from", 0.0, 1.0, step=0.05, key="score")
        session.remember(score=st.session_state["score"])
    if picture is None and st.session_state["source"] == "recorded" and not shell.runs():
        shell.no_run()
        return
    if picture is None:
        st.info(sources.WAITING[st.session_state["source"] or "scene"], icon=":material/image:")
        return
    show(Job(path, picture[0], (*sources.stamp(path), *picture[1])), head)


main()
