"""What the figure command writes: products, their files, and what the drawing functions share.

Files are the same bytes on every run (fixed hash salt, no dates); their metadata carry the
provenance of what was drawn.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, lru_cache, partial
from pathlib import Path
from typing import Any, Generic

import altair as alt
import numpy as np
import pandas as pd
from fontTools import subset
from matplotlib import rc_context
from matplotlib.backends import _backend_pdf_ps
from matplotlib.figure import Figure
from matplotlib.font_manager import get_font

from analysis.numbers.matching import Sample
from analysis.sources.collection import Given, Kind
from svit.core.types import ImageId, TokenGrid
from svit.runs.run import Run
from svit.system.files import prepare_folder, write_text, write_whole

DPI = {"pdf": 100, "svg": 100, "png": 200}  # of pictures in vector files; of the others
USUAL = (
    "".join(map(chr, range(32, 127))) + "−–—×·±≤≥→…°ΔﬀﬁﬂﬃﬄÄÖÜäöüßé"
)  # signs of nearly all figures


class RenderError(ValueError):
    """What was given lacks what the figure needs; the message says what."""


@dataclass(frozen=True)
class Product:
    """A finished figure, the name of its files without ending, and its numbers."""

    name: str
    figure: Figure
    table: pd.DataFrame


@dataclass(frozen=True)
class DrawOptions:
    """What may be asked of every figure; each takes what it knows.

    Attributes:
        images: ids or file names; empty: the first `limit`.
        limit: number of images.
        score: detections are drawn and counted from this score on.
        alpha: opacity of heatmaps over the picture.
        crop: ends of the usage colours in layers; None: what is possible.
        shape: rows and columns of averaged maps.
        block: from 1; None: a middle one.

    Raises:
        RenderError: a value out of range.
    """

    images: tuple[str, ...] = ()
    limit: int = 3
    score: float = 0.5
    alpha: float = 0.75
    crop: tuple[int, int] | None = None
    shape: tuple[int, int] = (50, 80)
    block: int | None = None

    def __post_init__(self) -> None:
        if self.limit < 1:
            raise RenderError(f"--limit: expected at least 1, found {self.limit}")
        for name in ("score", "alpha"):
            value = getattr(self, name)
            if not 0 <= value <= 1:  # also refuses NaN
                raise RenderError(f"--{name}: expected 0 to 1, found {value}")


@dataclass(frozen=True)
class Entry(Generic[Given]):
    """A figure: what `analysis.figures.registry` finds as ENTRY in the figure's file and names after it.

    Attributes:
        summary: one line for the help.
        draw: (what it is drawn from, options) -> products, on paper.
        takes: what it is drawn from.
        about: the definition, with formula and denominator: the file's docstring.
        screen: what it is drawn from -> an Altair chart; without one, pages show the drawing on paper.
        screen_about: the definition of that chart, where it shows something else than the drawing.
    """

    summary: str
    draw: Callable[[Given, DrawOptions], Iterator[Product]]
    takes: Kind[Given]
    about: str
    screen: Callable[[Given], alt.TopLevelMixin] | None = None
    screen_about: str = ""

    @property
    def definition(self) -> str:
        """What the sheet, the page `docs/analysis.md` and the app say of the drawing."""
        return inspect.cleandoc(self.about)


def chosen(run: Run, options: DrawOptions) -> list[ImageId]:
    """The images asked for by id or file name, or else the first `--limit` ones.

    Raises:
        RenderError: the run has no such image, or several of that file name.
    """
    if not options.images:
        return list(run.image_ids[: options.limit])
    files = run.images["file_name"]
    known: dict[str, ImageId] = dict(zip(files, run.image_ids, strict=True))
    ids = {str(image_id): image_id for image_id in run.image_ids}
    known |= ids
    for wanted in options.images:
        if wanted not in ids and (files == wanted).sum() > 1:
            raise RenderError(f"{run.path} has several images {wanted!r}: ask for one by its id")
        if wanted not in known:
            some = ", ".join(str(image_id) for image_id in run.image_ids[:5])
            raise RenderError(
                f"{run.path} has no image {wanted!r}; its {len(run)} images begin with {some}"
            )
    return [known[wanted] for wanted in options.images]


def spaced(image_ids: Sequence[ImageId], count: int) -> list[ImageId]:
    """So many of these images, or all if there are fewer, evenly spaced: nobody picked them."""
    places = np.linspace(0, len(image_ids) - 1, min(count, len(image_ids))).round().astype(int)
    return [image_ids[place] for place in places]


def paths(runs: Sequence[Run]) -> str:
    """Where runs lie, for messages."""
    return ", ".join(str(run.path) for run in runs)


def annotated(run: Run, *more: str) -> Iterator[tuple[Any, ...]]:
    """Trace, ground truth and `more` parts (`Run.samples`) of every image that is annotated.

    Raises:
        RenderError: none is, or pictures are wanted and the run holds none.
    """
    if "picture" in more and run.picture(run.image_ids[0]) is None:
        raise RenderError(
            f"{run.path} holds no pictures, which this figure needs; record with pictures"
        )
    _expect(run, "objects", "annotations", "; record a COCO data set")
    return run.samples("trace", "target", *more, known=["target"])


def detected(run: Run) -> Iterator[Sample]:
    """Trace, ground truth and detections of every image that has both.

    Raises:
        RenderError: none has.
    """
    _expect(run, "detections", "detections")
    _expect(run, "objects", "annotations", "; record a COCO data set")
    return run.samples("trace", "target", "detections", known=["target", "detections"])


def _expect(run: Run, column: str, what: str, remedy: str = "") -> None:
    if run.images[column].isna().all():
        raise RenderError(f"{run.path} holds no {what}, which this figure needs{remedy}")


def save(product: Product, folder: Path, title: str, about: str) -> list[Path]:
    """Writes a product in all formats. Returns: the paths.

    Args:
        title: what it shows and of what, for the metadata.
        about: provenance, for the metadata.

    Raises:
        FileError: the folder cannot be written.
    """
    prepare_folder(folder)
    formats = {
        "pdf": {"CreationDate": None, "Title": title, "Subject": about},
        "svg": {"Date": None, "Title": title, "Description": about},
        "png": {"Software": None, "Title": title, "Description": about},
    }
    paths, figure = [], product.figure
    engine = figure.get_layout_engine()
    if engine is not None:  # laid out once for all formats
        engine.execute(figure)
    with rc_context({"figure.constrained_layout.use": False}), _fonts_cut_once():
        figure.set_layout_engine(None)  # with any engine every format is drawn twice
        for ending, metadata in formats.items():
            paths.append(folder / f"{product.name}.{ending}")
            how = {"metadata": metadata, "dpi": DPI[ending], "format": ending}
            how |= (
                {"pil_kwargs": {"compress_level": 3}} if ending == "png" else {}
            )  # thrice as fast
            write_whole(paths[-1], partial(figure.savefig, **how))
    paths.append(folder / f"{product.name}.csv")
    write_text(paths[-1], csv(product.table))
    return paths


@contextmanager
def _fonts_cut_once() -> Iterator[None]:
    """Fonts in PDFs hold all that is `USUAL` and are cut to that once, not for each figure to its own signs,
    which takes a third of the time of writing a PDF. Figures with other signs have fonts cut to theirs."""
    cut = _backend_pdf_ps.get_glyphs_subset

    @contextmanager
    def known(font: str, wanted: Collection[int | str]) -> Iterator[Any]:
        usual = _usual(font, all(isinstance(one, str) for one in wanted))
        yield _cut(cut, font, usual if usual.issuperset(wanted) else frozenset(wanted))

    _backend_pdf_ps.get_glyphs_subset = known
    try:
        yield
    finally:
        _backend_pdf_ps.get_glyphs_subset = cut


@cache
def _usual(font: str, letters: bool) -> frozenset[int | str]:
    """`USUAL` as letters, or as glyphs of a font: versions of matplotlib ask for either."""
    return frozenset(USUAL if letters else map(get_font(font).get_char_index, map(ord, USUAL)))


@lru_cache(8)
def _cut(cut: Callable[..., Any], font: str, wanted: frozenset[int | str]) -> Any:
    """A font cut by matplotlib, without the tables for shaping text, which no reader of a PDF uses."""
    before = subset.Options._drop_tables_default
    subset.Options._drop_tables_default = [*before, "GSUB", "GPOS", "GDEF"]
    try:
        return cut(font, wanted).__enter__()  # stays open, to be written again
    finally:
        subset.Options._drop_tables_default = before


def csv(frame: pd.DataFrame) -> str:
    """The table as text, numbers with all their digits."""
    return frame.to_csv(index=False, lineterminator="\n")


def token_table(grid: TokenGrid, maps: dict[str, np.ndarray]) -> pd.DataFrame:
    """One row a valid token: row, column, its box in source pixels, and the maps."""
    rows, columns = np.indices(grid.valid_hw).reshape(2, -1)
    boxes = np.array([grid.token_box(*token) for token in zip(rows, columns, strict=True)])
    sides = dict(zip(("left", "top", "right", "bottom"), boxes.T, strict=True))
    values = {name: plane.ravel() for name, plane in maps.items()}
    return pd.DataFrame({"row": rows, "column": columns, **sides, **values})
