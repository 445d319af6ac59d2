"""What the pages share: choosing runs and images, downloads, messages.

No page itself. Text from data (names of files, classes, runs) goes through `escaped` before Markdown.
"""

from __future__ import annotations

import argparse
import base64
import io
import re
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import pandas as pd
import streamlit as st
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.style import context

from analysis.figures import palette
from analysis.figures.output import csv
from analysis.numbers.comparison import counted_ids
from analysis.pages.parts import session
from analysis.sources import labels
from svit.core.types import ImageId
from svit.runs.head import find_runs, read_head
from svit.runs.run import Run, RunError, open_run
from svit.system.text import counted, escaped

FACE = "svit-plain-nuclei"  # the recording of demo/pictures/img2d.png
NAME = 34  # letters of a run in the sidebar
MARGIN = 32  # screen pixels of a narrow window beside its main part (`app.css`)
DARK_INK = dict.fromkeys(
    ("text.color", "axes.labelcolor", "axes.titlecolor", "xtick.labelcolor", "ytick.labelcolor"),
    "#cfd6e0",
) | {"grid.color": "#3a4453"}


def folders() -> list[Path]:
    """Where runs are looked for, from the command line."""
    return _options().runs


def pictures() -> list[Path]:
    """Where the files of recorded images may lie, from the command line."""
    return _options().pictures


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="streamlit run app.py --")
    wanted = {"nargs": "+", "type": Path}
    runs = [Path("runs"), Path("demo/runs")]
    parser.add_argument(
        "--runs", **wanted, default=runs, help="folders of recorded runs (runs, demo/runs)"
    )
    parser.add_argument("--pictures", **wanted, default=[], help="folders of the recorded images")
    return parser.parse_args()


def page_file(name: str) -> str:
    """A page's file as Streamlit's links take it: whole, since the app's file may stand elsewhere."""
    return str(Path(__file__).resolve().parents[1] / f"{name}.py")


def runs() -> list[Path]:
    """The runs in the chosen folders, those that the Live page kept last, so that none is shown at first
    where another can be. Links that lead out of these folders are not followed."""
    return sorted(_found(inside=True), key=_edited)


def _found(inside: bool) -> list[Path]:
    """The runs that lie in the chosen folders, or those that links there lead out to."""
    roots = [(folder, folder.resolve()) for folder in folders()]
    found = [(path, root) for folder, root in roots for path in find_runs(folder)]
    kept = [path for path, root in found if path.resolve().is_relative_to(root) == inside]
    return list(dict.fromkeys(kept))


def _edited(path: Path) -> bool:
    """Whether a run holds what edits on the Live page did to a picture."""
    return _has_edits(path, (path / "run.json").stat().st_mtime)


@st.cache_data(max_entries=1000, show_spinner=False)
def _has_edits(path: Path, stamp: float) -> bool:
    try:
        return "edits" in read_head(path)["provenance"]
    except RunError:  # its own page says what is wrong with it
        return False


def run_name(path: Path) -> str:
    """What the lists call the run of a folder."""
    return {one: name for name, one in labels.choices(runs()).items()}[path]


@st.cache_resource(max_entries=8, show_spinner="Opening the run")
def _load(path: Path, stamp: float, undamaged: bool) -> Run:
    """An open run; another `stamp` opens it anew. Its files lie in the chosen folders, links or not."""
    roots = [folder.resolve() for folder in folders()]
    for file in path.iterdir():
        if not any(file.resolve().is_relative_to(root) for root in roots):
            raise RunError(f"{file} leads out of the chosen folders: name its folder, too (--runs)")
    return open_run(path, skip_corrupt=undamaged)


def opened(path: Path) -> Run | None:
    """The run, or None after the page said what is wrong with it."""
    stamp = max((file.stat().st_mtime for file in path.glob("*.json")), default=0.0)
    try:
        run = _load(path, stamp, st.session_state.get(f"undamaged {path}", False))
    except RunError as error:
        complain(str(error), path)
        return None
    if run.skipped:
        complain("\n".join(run.skipped), path)
    return run


def complain(message: str, path: Path) -> None:
    """Shows an error (its text may hold names from data, so it is shown verbatim) and a way on."""
    st.error("This run cannot be read as a whole.", icon=":material/broken_image:")
    st.code(message, language=None, wrap_lines=True)
    st.checkbox("Show what is undamaged", key=f"undamaged {path}")


def definition(text: str) -> str:
    """A docstring or sentence as help text: paragraphs joined, signs shown as they are."""
    paragraphs = re.split(r"\n\s*\n", text.strip())
    return "\n\n".join(escaped(" ".join(paragraph.split())) for paragraph in paragraphs)


@st.cache_resource
def drawing() -> threading.Lock:
    """Matplotlib has one style for the process, so sessions draw in turn."""
    return threading.Lock()


def dark() -> bool:
    """Whether the viewer's theme is dark."""
    return st.context.theme.type == "dark"


def data_address(image: bytes, kind: str = "png") -> str:
    """An image file, a png or jpeg, as a data address for charts and tables."""
    return f"data:image/{kind};base64,{base64.b64encode(image).decode()}"


def png(draw: Callable[[Axes], object], width: float, ratio: float, dark: bool) -> bytes:
    """A figure that `draw` filled, on a transparent ground.

    Args:
        width: inches.
        ratio: height / width.
        dark: light ink, for a dark page.
    """
    buffer = io.BytesIO()
    clear = {"axes.facecolor": "none"} | (DARK_INK if dark else {})
    with drawing(), context([palette.STYLE, clear]):
        figure = Figure(figsize=(width, width * ratio), facecolor="none")
        draw(figure.subplots())
        figure.savefig(buffer, dpi=220, facecolor="none", pil_kwargs={"compress_level": 2})
    return buffer.getvalue()


def chart(spec: dict, tables: Mapping[str, pd.DataFrame], **options: object) -> None:
    """A chart whose specification stays the same while its tables change: the browser then draws only
    what differs.

    Args:
        spec: Vega-Lite, made once (`to_dict` of an Altair chart takes longer than a page may).
        tables: by the names that the specification calls them (`alt.NamedData`).
        options: of `st.vega_lite_chart`.
    """
    st.vega_lite_chart(spec={**spec, "datasets": dict(tables)}, width="stretch", **options)


def printed(image: bytes, about: str, key: str) -> None:
    """A printed figure as wide as the page; in a narrow window it stays as large as its words need, and moves
    sideways.

    Args:
        about: what it shows, for those who do not see it.
        key: of the drawing, on its page.
    """
    with st.container(key=f"printed-{key}"):
        st.image(image, width="stretch", alt=about)


def cut_below(key: str, shape: float, height: int) -> None:
    """Cuts off what a chart leaves empty below: its height is fixed, and in a narrow window its picture
    shrinks.

    Args:
        key: of the chart; letters, digits, hyphens.
        shape: width / height of what is drawn at least.
        height: of the chart, in screen pixels.
    """
    rules = f"aspect-ratio: {shape:.4f}; max-height: {height}px; flex: 0 0 auto !important"
    rules += "; height: auto !important; overflow: hidden"
    st.html(f"<style>.st-key-{key} {{{rules}}}</style>")


def narrow(key: str, rules: str, below: int) -> None:
    """Style rules of a container in windows narrower than so many screen pixels.

    Args:
        key: letters, digits, hyphens.
    """
    st.html(f"<style>@media (max-width: {below - 1}px) {{.st-key-{key} {{{rules}}}}}</style>")


def downloads(
    name: str, *things: pd.DataFrame | Callable[[], Figure], frames: Sequence[str] = ("",)
) -> None:
    """Buttons that make files on click: CSV of a frame, PNG and PDF of a figure's factory.

    Args:
        name: of the files, without ending; on a page it names the buttons, so it is used once.
        things: frames and functions that draw a new figure; with several frames or figures, the
            files after the first are numbered.
        frames: what each frame holds, said on its button; several stand side by side.
    """
    words = iter(frames)
    seen = {"frame": 0, "figure": 0}
    with st.container(horizontal=True, gap="small"):
        for thing in things:
            kind = "frame" if isinstance(thing, pd.DataFrame) else "figure"
            seen[kind] += 1
            number = "" if seen[kind] == 1 else f"-{seen[kind]}"
            held = next(words) if kind == "frame" else ""
            for ending in ("csv",) if kind == "frame" else ("png", "pdf"):
                _button(f"{labels.file_name(name)}{number}.{ending}", thing, held)


_MEDIA = {"csv": "text/csv", "png": "image/png", "pdf": "application/pdf"}


def _button(file: str, thing: pd.DataFrame | Callable[[], Figure], held: str) -> None:
    ending = file.rpartition(".")[2]
    make = _csv if ending == "csv" else _page
    st.download_button(
        f"{ending.upper()}: {held}" if held else ending.upper(),
        lambda: make(thing, ending),
        file,
        _MEDIA[ending],
        key=f"download {file}",
        on_click="ignore",
        type="tertiary",
        icon=":material/download:",
        help=escaped(file),
    )


def _csv(frame: pd.DataFrame, ending: str) -> bytes:
    return csv(frame).encode()


def _page(factory: Callable[[], Figure], ending: str) -> bytes:
    """The figure in the style of the paper's figures, without dates: the same bytes every time."""
    buffer = io.BytesIO()
    metadata = {"CreationDate": None} if ending == "pdf" else {"Software": None}
    with drawing(), context(palette.STYLE):
        factory().savefig(buffer, format=ending, metadata=metadata)
    return buffer.getvalue()


def choose_run(label: str, key: str) -> Path:
    """A choice among the runs, of which there is one at least, remembered under `key`.

    The shipped photograph is chosen first where it is among them, else the first run.
    """
    known = labels.choices(runs())
    first = FACE if FACE in known else next(iter(known))
    chosen = known[choose_name(label, key, list(known), first, short)]
    left_out()
    return chosen


def has_face() -> bool:
    """Whether the shipped photograph is among the runs."""
    return FACE in labels.choices(runs())


def left_out() -> None:
    """Says which links to runs are not followed, and how they are."""
    outside = _found(inside=False)
    if outside:
        names = ", ".join(path.name for path in outside[:3]) + " …" * (len(outside) > 3)
        target = outside[0].resolve().parent
        st.caption(
            f":material/link_off: {counted(len(outside), 'links')} to runs elsewhere left out "
            f"({escaped(names)}): name their folder, too: `--runs … {target}`"
        )


def short(name: str) -> str:
    """A name as a list in the sidebar has room for it."""
    return labels.by_its_end(name, NAME)


def choose_name(
    label: str,
    key: str,
    names: list[str],
    first: str | None = None,
    shown: Callable[[str], str] = str,
) -> str:
    """A choice among names, remembered under `key`.

    Args:
        first: chosen to begin with; without, the first of the list.
        shown: what the list says of a name.
    """
    session.restore(key, first or names[0], names)
    chosen = st.selectbox(label, names, key=key, format_func=shown)
    session.remember(**{key: chosen})
    return chosen


def choose_image(run: Run, key: str) -> ImageId:
    """A choice among the images of a run that has some, remembered under `key`.

    Another run keeps the chosen image where it has it.
    """
    image_ids = counted_ids(run.image_ids)
    names = dict(zip(run.images["image_id"], run.images["file_name"], strict=True))

    def label(image_id: ImageId) -> str:
        name = names[image_id]
        return str(image_id) if name in ("", image_id) else f"{image_id}  {name}"

    session.restore(key, image_ids[0], image_ids)
    chosen = st.selectbox("Image", image_ids, format_func=label, key=key)
    session.remember(**{key: str(chosen)})
    return chosen


def choose_part(key: str, parts: Iterable[str], about: str) -> str:
    """Which part of a page is made, the first to begin with, remembered under `key`."""
    parts = list(parts)
    session.restore(key, parts[0], parts)
    part = st.segmented_control(
        "Part", parts, key=key, required=True, help=about, label_visibility="collapsed"
    )
    session.remember(**{key: part})
    return part


def provenance(run: Run) -> None:
    """One line on where the numbers above come from."""
    unfinished = "" if run.finished else "unfinished · "
    st.caption(unfinished + escaped(run.describe()))


def empty(message: str, command: str) -> None:
    """An empty state: what is missing, and the command that makes it."""
    st.info(message, icon=":material/info:")
    st.code(command, language="shell")


def one_run(show: Callable[[Run], None], about: Callable[[Run], None] = provenance) -> None:
    """A page of one run: the choice of it, `show` where it holds images and is sound, and `about` it."""
    if not runs():
        no_run()
        return
    with st.sidebar:
        path = choose_run("Run", "run")
    run = opened(path)
    if run is None:
        return
    if not len(run):
        message = "This run holds no images yet. Record into it with:"
        empty(message, labels.fill(run))
    else:
        try:
            show(run)
        except RunError as error:
            complain(str(error), run.path)
    about(run)


def no_run() -> None:
    """The empty state of an app without runs."""
    looked = " and ".join(str(folder) for folder in folders())
    st.title("No recorded run yet")
    st.text(f"Nothing in {looked}. This makes a first run:")
    st.code("make demo", language="shell")
    st.text("and this records pictures of your own:")
    command = "svit record --model svit-adapter-t --weights FILE --images DIR --out runs/mine"
    st.code(command, language="shell")
    left_out()
