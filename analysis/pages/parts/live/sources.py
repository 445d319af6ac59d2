"""The sidebar of the Live page: which model, which picture."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from types import ModuleType
from typing import Any

import streamlit as st

from analysis.pages.parts import session, shell
from svit.core.types import ImageId
from svit.runs.run import Run
from svit.system.text import escaped

Picture = Any  # a `svit.live.pictures.Picture`: this half of the house knows no torch
SHIPPED = "svit-plain-nano"  # chosen first, where the picture is from no run
AUTOMATIC = "model nobody chose"  # session state: its name
FIRST_SCENE = 5_000_000  # from here on no shipped model was trained
LAST_SCENE = 10**12
SOURCES = {"scene": "Scene", "upload": "Upload", "recorded": "Run"}
UPLOADED = "picture uploaded"  # session state: its name and bytes
TYPES = ["jpg", "jpeg", "png", "webp", "bmp", "gif", "tif", "tiff"]
WAITING = {
    "scene": "Choose the seed of a scene in the sidebar.",
    "upload": "Upload a picture in the sidebar. It is read on this computer and kept nowhere.",
    "recorded": "Choose a run in the sidebar that holds pictures.",
}


def checkpoints(paths: Iterable[Path]) -> dict[str, Path]:
    """A name for each: the file's, or the whole path where two files share a name."""
    paths = list(paths)
    names = [path.stem for path in paths]
    return {path.stem if names.count(path.stem) == 1 else str(path): path for path in paths}


def stamp(path: Path) -> tuple[str, int]:
    """Changes with the file."""
    return str(path), path.stat().st_mtime_ns


def choose_model(known: dict[str, Path], first: str | None) -> Path:
    """A choice among the checkpoints, of which there is one at least.

    Args:
        first: the model of the picture's run, taken until another is chosen by hand or by a link.
    """
    first = first or (SHIPPED if SHIPPED in known else next(iter(known)))
    if session.now().model in (None, st.session_state.get(AUTOMATIC)):
        st.session_state["model"] = st.session_state[AUTOMATIC] = first
    session.restore("model", first, known)
    name = st.selectbox(
        "Model",
        list(known),
        key="model",
        on_change=lambda: st.session_state.pop(AUTOMATIC, None),
        help="Checkpoints (.safetensors) below the chosen folders, and the shipped ones; `svit convert` "
        "makes some of released weights. One is in memory at a time.",
    )
    session.remember(model=name)
    return known[name]


def of_record(
    record: Any, known: dict[str, Path], settings: Callable, weights: Callable
) -> str | None:
    """Which checkpoint has the weights that a run recorded, else the one of their file's name or the run's.

    Args:
        record: a `svit.live.pictures.Record`.
        settings: path -> name of a checkpoint's settings. Only those with the run's are loaded.
        weights: path -> SHA-256 of a checkpoint's weights.
    """
    names = (Path(record.weights).stem, record.run)
    alike = [name for name, path in known.items() if path.stem in names]
    likely = [name for name, path in known.items() if settings(path) == record.model]
    for name in sorted(likely, key=lambda name: name not in alike) if record.weights_sha256 else ():
        if weights(known[name]) == record.weights_sha256:
            return name
    return next(iter(alike), None)


def choose_picture(pictures: ModuleType) -> tuple[Picture, tuple] | None:
    """The picture and what names it for the caches; None while none is chosen. The shipped photograph is the
    first where it is among the runs, else a scene.

    Args:
        pictures: `svit.live.pictures`, which the page alone may import.

    Raises:
        ImageError, RunError: the picture cannot be read.
    """
    drawn = session.now().scene is not None  # by a link that names no source
    first = "recorded" if not drawn and shell.has_face() else "scene"
    session.restore("source", first, SOURCES)
    chosen = st.segmented_control("Picture", list(SOURCES), format_func=SOURCES.get, key="source")
    source = chosen or first
    session.remember(source=source)
    return {"scene": _scene, "upload": _upload, "recorded": _recorded}[source](pictures)


def _scene(pictures: ModuleType) -> tuple[Picture, tuple]:
    """A drawn scene by its seed."""
    session.restore("scene", FIRST_SCENE, within=(0, LAST_SCENE))
    left, right = st.columns([3, 2], vertical_alignment="bottom")
    right.button("Next", on_click=_next, width="stretch", help="The scene of the next seed")
    seed = int(left.number_input("Seed", 0, LAST_SCENE, key="scene", step=1))
    session.remember(scene=seed)
    return _drawn(pictures, seed), ("scene", seed)


def _next() -> None:
    session.change(scene=min(int(st.session_state["scene"]) + 1, LAST_SCENE))


@st.cache_resource(max_entries=8, show_spinner="Drawing the scene")
def _drawn(_pictures: ModuleType, seed: int) -> Picture:
    return _pictures.drawn(seed)


def _upload(pictures: ModuleType) -> tuple[Picture, tuple] | None:
    """A picture of one's own; its bytes decide, not its name. It stays until another is chosen: the widget
    itself forgets it when the page is left."""
    st.file_uploader("A picture of at most 20 MB", TYPES, key="file", on_change=_uploaded)
    name, data = st.session_state.get(UPLOADED, ("", None))
    if data is None:
        return None
    if st.session_state["file"] is None:
        st.caption(f"Still here: {escaped(name)}")
    picture = _read(pictures, data)
    return picture, ("upload", picture.image_id)


def _uploaded() -> None:
    file = st.session_state["file"]
    st.session_state[UPLOADED] = ("", None) if file is None else (file.name, file.getvalue())


@st.cache_resource(max_entries=4, show_spinner="Reading the picture")
def _read(_pictures: ModuleType, data: bytes) -> Picture:
    return _pictures.uploaded(data)


def _recorded(pictures: ModuleType) -> tuple[Picture, tuple] | None:
    """An image of a recorded run."""
    if not shell.runs():
        return None
    path = shell.choose_run("Run", "run")
    run = shell.opened(path)
    if run is None or not len(run):
        return None
    image_id = shell.choose_image(run, "image")
    key = ("run", str(path), run.created, image_id)
    return _of_run(pictures, run, image_id, key), key


@st.cache_resource(max_entries=8, show_spinner="Finding the picture")
def _of_run(_pictures: ModuleType, _run: Run, image_id: ImageId, key: tuple) -> Picture:
    return _pictures.recorded(_run, image_id, shell.pictures())
