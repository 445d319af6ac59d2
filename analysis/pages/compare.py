"""Two to four runs side by side on the same image: tokens, agreement, objects found and lost, compute."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import streamlit as st

from analysis.figures.canvas import sizes
from analysis.numbers import comparison
from analysis.pages.parts import pairs, session, shell
from analysis.pages.parts.compare import numbers, objects, parts, tokens
from analysis.pages.parts.compare.panels import LETTERS
from analysis.pages.parts.compare.parts import Comparison
from analysis.sources import labels
from svit.core.types import ImageId, TokenGrid
from svit.runs.pairing import MismatchError
from svit.runs.run import Run, RunError, open_run
from svit.system.text import counted, escaped

NAME = 40  # letters of a run above a panel
PARTS = ("Tokens", "Objects", "Numbers")
KINDS = {  # facts of which a caption tells that they differ -> in words
    "framework": "framework",
    "inference": "inference",
    "dtype": "number type",
    "masks_from": "the model that decides",
}
HELP = (
    "Tokens: which ones each run uses, block by block. Objects: which ones each run finds. Numbers: kept "
    "tokens, objects and compute of this image and of all common ones."
)


def usual(known: dict[str, Path]) -> list[str]:
    """What is compared at first: the run last looked at, or else the first of all, that another can be laid
    over, and the first such one. Where there is none: a single run, or two of which one is damaged, so that
    the page says so."""
    looked_at = session.recalled("run", next(iter(known)), known)
    for first in dict.fromkeys([looked_at, *known]):
        try:
            path = comparison.partner(open_run(known[first]), known.values(), overlaid=True)
        except RunError:
            continue
        if path is not None:
            return [first, next(name for name in known if known[name] == path)]
    damaged = [name for name, path in known.items() if _is_damaged(path)]
    return list(dict.fromkeys([looked_at, *damaged, *known]))[:2] if damaged else [looked_at]


def _is_damaged(path: Path) -> bool:
    """Whether a run, or its first image, cannot be read."""
    try:
        run = open_run(path)
        for image_id in run.image_ids[:1]:
            run.trace(image_id)
    except RunError:
        return True
    return False


def choose_runs(known: dict[str, Path]) -> list[str]:
    """The sidebar's choice of runs, the reference first."""
    if "runs" not in st.session_state:
        names = session.recalled("runs", ())
        missing = [name for name in names if name not in known]
        if missing:
            session.object_to("runs", "which is not here", " and ".join(missing))
        linked = list(dict.fromkeys(name for name in names if name in known))[: len(LETTERS)]
        st.session_state["runs"] = linked if len(linked) > 1 else usual(known)
    gone = [name for name in st.session_state["runs"] if name not in known]
    if gone:
        kept = [name for name in st.session_state["runs"] if name in known]
        st.session_state["runs"] = kept
    help_text = "Two to four runs. The first is the reference that differences refer to."
    chosen = st.multiselect(
        "Runs",
        list(known),
        max_selections=len(LETTERS),
        key="runs",
        help=help_text,
        format_func=shell.short,
    )
    session.remember(runs=tuple(chosen))
    return chosen


def choose_image(runs: list[Run], image_ids: list[ImageId]) -> ImageId:
    """The sidebar's choice among the images of all runs, the same key as the Image page's."""
    frame = runs[0].images
    names = dict(zip(frame["image_id"], frame["file_name"], strict=True))
    label = {i: str(i) if names[i] in ("", i) else f"{i}  {names[i]}" for i in image_ids}
    session.restore("image", image_ids[0], image_ids)
    chosen = st.selectbox("Image", image_ids, format_func=label.get, key="image")
    session.remember(image=str(chosen))
    return chosen


def score_slider() -> float:
    """From which score on a detection counts."""
    session.restore("score", 0.5, within=(0.0, 1.0))
    help_text = "Detections below this score are left out of boxes, matches and counts."
    score = st.slider("Detections from score", 0.0, 1.0, step=0.05, key="score", help=help_text)
    session.remember(score=score)
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
    try:
        for first, second in combinations(runs, 2):
            if why := pairs.refusal(first, second):
                raise MismatchError(why)
        short = (labels.by_its_end(name, NAME) for name in chosen)
        names = tuple(f"{letter} · {name}" for letter, name in zip(LETTERS, short))
        facts = tuple(labels.fact_texts(runs))
        view = Comparison(tuple(runs), names, facts, image_id, score)
        traces = parts.traces(view.runs, view.key)
    except MismatchError as error:
        st.error("These runs cannot be laid over each other.", icon=":material/grid_off:")
        st.code(str(error), language=None, wrap_lines=True)
        return
    show_heading(view, traces[0].grid, len(image_ids))
    part = shell.choose_part("compare_part", PARTS, HELP)
    if part == "Tokens":
        tokens.show(view, traces)
    elif part == "Objects":
        objects.show(view)
    else:
        numbers.show_image(view)
        numbers.show_costs(view, traces)
        numbers.show_all(view, image_ids)


def show_heading(view: Comparison, grid: TokenGrid, common: int) -> None:
    """The image, how many can be compared, and which facts tell the runs apart."""
    runs = "both runs" if len(view.runs) == 2 else f"all {len(view.runs)} runs"
    one_of = "the only image" if common == 1 else f"one of {counted(common, 'images')}"
    with st.container(horizontal=True, vertical_alignment="bottom"):
        title = f"Image {escaped(str(view.image_id))}"
        st.subheader(title, anchor=False, width="content")
        st.caption(
            f"{one_of} that {runs} hold · {sizes.told(grid)}",
            width="content",
        )
    differing = labels.differing(labels.fact_frame(view.runs))
    kinds = [name for name in differing if name in KINDS]
    if kinds:
        told = " and ".join(KINDS[name] for name in kinds)
        st.caption(f":material/info: The runs differ in {told}: each is named and drawn by itself.")
    if len({tuple(sorted(run.class_names)) for run in view.runs if run.class_names}) > 1:
        st.caption(
            ":material/info: The runs look for other categories: what each finds is counted among its own "
            "annotated objects."
        )


def main() -> None:
    """The page."""
    known = labels.choices(shell.runs())
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
            shell.empty(f"{escaped(name)} holds no images yet.", labels.fill(run))
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
