"""What the figure command writes: products, their files, and what the drawing functions share.

Files are the same bytes on every run (fixed hash salt, no dates); their metadata carry the
provenance of what was drawn.
"""

from __future__ import annotations

import argparse
import re
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from svit.core.types import ImageId, TokenGrid
from svit.runs.run import Run

WIDTH = 7.2  # inches: the text width of a two-column paper
TITLE, LEGEND, SCALE = 0.17, 0.26, 0.45  # inches: above a picture, below all, beside all


class RenderError(ValueError):
    """What was given lacks what the figure needs; the message says what."""


@dataclass(frozen=True)
class Product:
    """A finished figure, the name of its files without ending, and its numbers."""

    name: str
    figure: Figure
    table: pd.DataFrame


@dataclass(frozen=True)
class Entry:
    """One name of the command.

    Attributes:
        summary: one line for the help.
        draw: (subject, options) -> products; its docstring is the definition in the sheet.
        takes: what the subject is: "run" (drawn for each run on its own), "runs" (all of them in
            one figure), "pair" (the first run with each other one), "results" (evaluations and
            speeds, `analysis.paper.measurements.Sources`), "speeds" (all that was timed,
            `analysis.sources.benchmarks`) or "trainings" (all of them, `analysis.sources.trainings`).
        alone: whether an entry for a pair draws a single run too.
    """

    summary: str
    draw: Callable[[Any, argparse.Namespace], Iterator[Product]]
    takes: str = "run"
    alone: bool = False


def chosen(run: Run, options: argparse.Namespace) -> list[ImageId]:
    """The images asked for by id or file name, or else the first `--limit` ones.

    Raises:
        RenderError: the run has no such image.
    """
    if not options.image:
        return list(run.image_ids[: options.limit])
    known: dict[str, ImageId] = dict(zip(run.images["file_name"], run.image_ids, strict=True))
    known |= {str(image_id): image_id for image_id in run.image_ids}
    for wanted in options.image:
        if wanted not in known:
            some = ", ".join(str(image_id) for image_id in run.image_ids[:5])
            raise RenderError(
                f"{run.path} has no image {wanted!r}; its {len(run)} images begin with {some}"
            )
    return [known[wanted] for wanted in options.image]


def save(product: Product, folder: Path, title: str, about: str) -> list[Path]:
    """Writes a product in all formats. Returns: the paths.

    Args:
        title: what it shows and of what, for the metadata.
        about: provenance, for the metadata.
    """
    folder.mkdir(parents=True, exist_ok=True)
    formats = {
        "pdf": {"CreationDate": None, "Title": title, "Subject": about},
        "svg": {"Date": None, "Title": title, "Description": about},
        "png": {"Software": None, "Title": title, "Description": about},
    }
    paths = []
    for ending, metadata in formats.items():
        paths.append(folder / f"{product.name}.{ending}")
        product.figure.savefig(paths[-1], metadata=metadata)
    paths.append(folder / f"{product.name}.csv")
    product.table.to_csv(paths[-1], index=False, float_format="%.6g", lineterminator="\n")
    return paths


def figsize(
    image_hw: tuple[int, int],
    columns: int,
    rows: int = 1,
    *,
    extra: float = 0,
    above: float = 0,
    below: float = 0,
) -> tuple[float, float]:
    """Inches for columns x rows of pictures within the text width, none higher than a square.

    Args:
        image_hw: height and width of a picture, of which the ratio counts.
        extra: width beside the pictures.
        above: height for the title of each.
        below: height for a legend under all.
    """
    height, width = image_hw
    side = (WIDTH - extra) / columns
    cell = min(side, side * width / height)
    figure_width = max(columns * cell + extra, WIDTH / 2)
    return figure_width, rows * (cell * height / width + above) + below


def file_name(image_id: ImageId) -> str:
    """The id as a file name; ids that had to change get a checksum, so that they stay apart."""
    text = str(image_id)
    plain = re.sub(r"[^\w.-]+", "_", text)[-80:]
    return plain if plain == text else f"{plain}-{zlib.crc32(text.encode()):08x}"


def token_table(grid: TokenGrid, maps: dict[str, np.ndarray]) -> pd.DataFrame:
    """One row a valid token: row, column, its box in source pixels, and the maps."""
    rows, columns = np.indices(grid.valid_hw).reshape(2, -1)
    boxes = np.array([grid.token_box(*token) for token in zip(rows, columns, strict=True)])
    sides = dict(zip(("left", "top", "right", "bottom"), boxes.T, strict=True))
    values = {name: plane.ravel() for name, plane in maps.items()}
    return pd.DataFrame({"row": rows, "column": columns, **sides, **values})
