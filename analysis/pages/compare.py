"""Two to four runs side by side on the same image: tokens, agreement, objects found and lost, compute."""

from __future__ import annotations

import streamlit as st

from analysis import comparison
from analysis.agreement import MismatchError
from analysis.pages import compare_numbers, compare_objects, compare_parts, shell
from analysis.pages.compare_parts import Comparison
from svit.store import Run, RunError, open_run
from svit.types import ImageId

MOST, LETTERS, BETWEEN = 4, "ABCD", "|"  # runs shown, their names, what parts them in a link


def partner(first: Run, known: dict) -> str | None:
    """The first other readable run that shares an image with a run."""
    for name, path in known.items():
        if path == first.path:
            continue
        try:
            other = open_run(path)
        except RunError:
            continue
        if comparison.common_ids([first, other]):
            return name
    return None


def usual(known: dict) -> list[str]:
    """What is compared at first: the run last looked at and one with the same images."""
    first = shell.recalled("run", next(iter(known)), known)
    try:
        other = partner(open_run(known[first]), known)
    except RunError:
        other = None
    return [first, other or next(name for name in known if name != first)]


def choose_runs(known: dict) -> list[str]:
    """The sidebar's choice of runs, the reference first."""
    if "compared" not in st.session_state:
        names = shell.recalled("runs", "").split(BETWEEN)
        for name in filter(None, names):
            if name not in known:
                st.warning(
                    f"The link asks for the run “{shell.plain(name[:80])}”, which is not here."
                )
        linked = list(dict.fromkeys(name for name in names if name in known))[:MOST]
        st.session_state["compared"] = linked if len(linked) > 1 else usual(known)
    gone = [name for name in st.session_state["compared"] if name not in known]
    if gone:
        kept = [name for name in st.session_state["compared"] if name in known]
        st.session_state["compared"] = kept
    help_text = "Two to four runs. The first is the reference that differences refer to."
    chosen = st.multiselect(
        "Runs", list(known), max_selections=MOST, key="compared", help=help_text
    )
    shell.remember(runs=BETWEEN.join(chosen) or None)
    return chosen


def choose_image(runs: list[Run], image_ids: list[ImageId]) -> ImageId:
    """The sidebar's choice among the images of all runs, the same key as the Image page's."""
    frame = runs[0].images
    names = dict(zip(frame["image_id"], frame["file_name"], strict=True))
    label = {i: str(i) if names[i] in ("", i) else f"{i}  {names[i]}" for i in image_ids}
    wanted = st.session_state.pop("image to compare", None)  # a row clicked in the table below
    if wanted in label:
        st.session_state["image"] = wanted
    shell.restore("image", image_ids[0], image_ids)
    chosen = st.selectbox("Image", image_ids, format_func=label.get, key="image")
    shell.remember(image=chosen)
    return chosen


def score_slider() -> float:
    """From which score on a detection counts."""
    shell.restore("score", 0.5)
    st.session_state["score"] = min(max(st.session_state["score"], 0.0), 1.0)
    score = st.slider(
        "Detections from score", 0.0, 1.0, step=0.05, key="score", help=compare_parts.HELP["score"]
    )
    shell.remember(score=score)
    return score


def show(chosen: list[str], runs: list[Run]) -> None:
    """The page of at least two readable runs."""
    image_ids = comparison.common_ids(runs)
    if not image_ids:
        shell.empty(
            "These runs have no image in common. Record the second model on the images of the first:",
            "svit record --weights FILE --coco JSON --image-root DIR --out runs/second",
        )
        return
    with st.sidebar:
        image_id = choose_image(runs, image_ids)
        score = score_slider()
    st.subheader(f"Image {shell.plain(str(image_id))}", anchor=False)
    try:
        names = tuple(f"{letter} · {name}" for letter, name in zip(LETTERS, chosen))
        facts = tuple(comparison.fact_texts(runs))
        view = Comparison(tuple(runs), names, facts, image_id, score)
        traces = compare_parts.traces(view.runs, view.key)
    except MismatchError as error:
        st.error("These runs cannot be laid over each other.", icon=":material/grid_off:")
        st.code(str(error), language=None, wrap_lines=True)
        return
    compare_parts.show_heading(view, traces, len(image_ids))
    compare_parts.show_tokens(view, traces)
    compare_objects.show_objects(view)
    compare_numbers.show_costs(view, traces)
    compare_numbers.show_all(view, image_ids)


def main() -> None:
    """The page."""
    known = shell.labels(shell.runs())
    if not known:
        shell.no_run()
        return
    if len(known) == 1:
        st.subheader("Compare runs", anchor=False)
        shell.empty(
            "There is one run so far. Record another model, or other masks, on the same images:",
            "svit record --weights FILE --coco JSON --image-root DIR --out runs/second",
        )
        return
    with st.sidebar:
        chosen = choose_runs(known)
    if len(chosen) < 2:
        st.subheader("Compare runs", anchor=False)
        st.info("Choose two to four runs in the sidebar.", icon=":material/compare:")
        return
    pairs = [(name, shell.opened(known[name])) for name in chosen]
    good = [(name, run) for name, run in pairs if run is not None and len(run)]
    for name, run in pairs:
        if run is not None and not len(run):
            shell.empty(
                f"{shell.plain(name)} holds no images yet.", f"svit record --out {run.path}"
            )
    if len(good) < 2:
        st.info("Fewer than two of these runs can be shown. Choose others in the sidebar.")
        return
    names, runs = (list(part) for part in zip(*good, strict=True))
    try:
        show(names, runs)
    except RunError as error:
        st.error("A recording is damaged.", icon=":material/broken_image:")
        st.code(str(error), language=None, wrap_lines=True)
    for run in runs:
        shell.provenance(run)


main()
