"""Pictures of a recorded run: `python -m analysis.render NAME RUN` writes pdf, svg, png and csv.

`FIGURES` is the table of names; an entry joins a metric and a figure. Files are the same bytes on
every run (fixed hash salt, no dates); their metadata carry the run's provenance.
"""

from __future__ import annotations

import argparse
import math
import re
import sys
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.style import context

from analysis import figures, metrics
from svit.store import Run, RunError, open_run
from svit.types import ImageId, TokenGrid

WIDTH = 7.2  # inches: the text width of a two-column paper
TITLE, LEGEND, SCALE = 0.17, 0.26, 0.45  # inches: above a picture, below all, beside all


class RenderError(ValueError):
    """The run lacks what the figure needs; the message says what."""


@dataclass(frozen=True)
class Product:
    """A finished figure, the name of its files without ending, and its numbers."""

    name: str
    figure: Figure
    table: pd.DataFrame


@dataclass(frozen=True)
class Entry:
    """One name of the command: what it shows and what draws it."""

    summary: str
    draw: Callable[[Run, argparse.Namespace], Iterator[Product]]


def heatmap(run: Run, options: argparse.Namespace) -> Iterator[Product]:
    """Detections beside the usage map over the picture, an image each (paper Figs. 1 and 4)."""
    for image_id in chosen(run, options):
        trace, image = run.trace(image_id), run.picture(image_id)
        usage, limits = metrics.usage(trace), metrics.usage_limits(run.layers, run.targets)
        figure = Figure(figsize=_figsize(trace.grid, columns=2, extra=SCALE))
        left, right = figure.subplots(1, 2)
        _detections(run, image_id, trace.grid, image, left, threshold=options.score)
        style = {"limits": limits, "image": image, "alpha": options.alpha}
        figures.usage_heatmap(usage, trace.grid, right, **style)
        table = _token_table(trace.grid, {"usage": usage})
        yield Product(f"heatmap-{_file_name(image_id)}", figure, table)


def layers(run: Run, options: argparse.Namespace) -> Iterator[Product]:
    """Used, pruned and later reactivated tokens of every gated layer (paper Fig. 5b)."""
    shown = metrics.gated_layers(run.layers, run.targets)
    for image_id in chosen(run, options):
        trace, image = run.trace(image_id), run.picture(image_id)
        states, ratios = metrics.layer_states(trace), metrics.keep_ratios(trace)
        figure, cells = _strip(trace.grid, 1 + len(shown))
        wanted = {"threshold": options.score, "tags": False}
        _detections(run, image_id, trace.grid, image, cells[0], **wanted)
        cells[0].set_title("detections")
        style = {"layers": shown, "ratios": ratios, "image": image}
        figures.layer_strip(states, trace.grid, cells[1:], **style)
        yield Product(f"layers-{_file_name(image_id)}", figure, _state_table(trace.grid, states))


def reactivation(run: Run, options: argparse.Namespace) -> Iterator[Product]:
    """Pruned and reactivated shares per block over the whole run (paper Fig. 5a)."""
    frame = metrics.reactivation_frame(run.iter_traces())
    if not frame["pruned"].any():
        raise RenderError(f"{run.path}: no layer prunes a token, so nothing can be reactivated")
    figure = Figure(figsize=(WIDTH / 2, 2.3))
    figures.reactivation_bars(frame, figure.subplots())
    yield Product("reactivation", figure, frame)


FIGURES: dict[str, Entry] = {
    "heatmap": Entry("how many layers used each token, beside the detections", heatmap),
    "layers": Entry("used, pruned and later reactivated tokens of every gated layer", layers),
    "reactivation": Entry(
        "pruned and reactivated share of tokens per block, all images", reactivation
    ),
}


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


def save(product: Product, folder: Path, run: Run) -> list[Path]:
    """Writes a product in all formats. Returns: the paths."""
    folder.mkdir(parents=True, exist_ok=True)
    title, about = f"{product.name} of {run.path.name}", run.describe()
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


def _detections(
    run: Run, image_id: ImageId, grid: TokenGrid, image: np.ndarray | None, ax: Axes, **style
) -> None:
    """The picture, and what was found in it if that was recorded."""
    figures.picture(image, grid, ax)
    found = run.detections(image_id, masks=True)
    if found is not None:
        figures.detections(found, ax, class_names=run.class_names, **style)


def _strip(grid: TokenGrid, cells: int) -> tuple[Figure, list[Axes]]:
    """A figure of so many titled pictures, in two rows from five on, over the legend of states."""
    rows = 1 if cells < 5 else 2
    columns = math.ceil(cells / rows)
    size = _figsize(grid, columns, rows, above=TITLE, below=LEGEND)
    figure = Figure(figsize=size)
    body, foot = figure.subfigures(2, 1, height_ratios=[size[1] - LEGEND, LEGEND])
    axes = list(body.subplots(rows, columns, squeeze=False).flat)
    for empty in axes[cells:]:
        empty.set_axis_off()
    figures.state_legend(foot.subplots())
    return figure, axes[:cells]


def _figsize(
    grid: TokenGrid,
    columns: int,
    rows: int = 1,
    *,
    extra: float = 0,
    above: float = 0,
    below: float = 0,
) -> tuple[float, float]:
    """Inches for columns x rows of pictures within the text width, none higher than a square.

    Args:
        extra: width beside the pictures.
        above: height for the title of each.
        below: height for a legend under all.
    """
    height, width = grid.image_hw
    side = (WIDTH - extra) / columns
    cell = min(side, side * width / height)
    figure_width = max(columns * cell + extra, WIDTH / 2)
    return figure_width, rows * (cell * height / width + above) + below


def _file_name(image_id: ImageId) -> str:
    """The id as a file name; ids that had to change get a checksum, so that they stay apart."""
    text = str(image_id)
    plain = re.sub(r"[^\w.-]+", "_", text)[-80:]
    return plain if plain == text else f"{plain}-{zlib.crc32(text.encode()):08x}"


def _token_table(grid: TokenGrid, maps: dict[str, np.ndarray]) -> pd.DataFrame:
    """One row a valid token: row, column, its box in source pixels, and the maps."""
    rows, columns = np.indices(grid.valid_hw).reshape(2, -1)
    boxes = np.array([grid.token_box(*token) for token in zip(rows, columns, strict=True)])
    sides = dict(zip(("left", "top", "right", "bottom"), boxes.T, strict=True))
    values = {name: plane.ravel() for name, plane in maps.items()}
    return pd.DataFrame({"row": rows, "column": columns, **sides, **values})


def _state_table(grid: TokenGrid, states: metrics.LayerStates) -> pd.DataFrame:
    """One row a valid token: row, column, box, and its state in every block."""
    names = np.full(states.used.shape, "used", dtype=object)
    names[states.never], names[states.later], names[states.next] = "never", "later", "next"
    return _token_table(grid, {f"block_{layer + 1}": plane for layer, plane in enumerate(names)})


def _parser() -> argparse.ArgumentParser:
    names = "\n".join(f"  {name:14}{entry.summary}" for name, entry in FIGURES.items())
    parser = argparse.ArgumentParser(
        prog="python -m analysis.render",
        description="Draws figures of a recorded run and writes each as pdf, svg, png and csv.\n\n"
        f"names:\n{names}",
        epilog="examples:\n"
        "  python -m analysis.render heatmap demo/runs/shapes\n"
        "  python -m analysis.render layers runs/coco --image 79841 --image 000000391895.jpg\n"
        "  python -m analysis.render reactivation runs/coco --out paper/figures\n\n"
        "A run is a folder that `svit record` wrote, or a copy of it.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("name", choices=FIGURES, metavar="NAME", help="a figure of the list above")
    add("run", type=Path, metavar="RUN", help="a recorded run")
    add("--image", action="append", metavar="ID", help="image id or file name; may be repeated")
    add("--limit", type=int, default=3, metavar="N", help="else the first N images (default 3)")
    add("--out", type=Path, metavar="DIR", help="folder for the files (default figures/RUN)")
    add("--score", type=float, default=0.5, help="draw detections from this score (default 0.5)")
    add("--alpha", type=float, default=0.75, help="opacity of the heatmap, 0 to 1 (default 0.75)")
    add("--skip-corrupt", action="store_true", help="use the rest of a run with damaged shards")
    return parser


def _render(options: argparse.Namespace) -> None:
    run = open_run(options.run, skip_corrupt=options.skip_corrupt)
    if not len(run):
        remedy = f"fill it with `svit record --out {run.path}`"
        raise RenderError(f"{run.path} holds no images yet: {remedy}")
    if not run.finished:
        print(f"note: the recording is unfinished, {len(run)} images so far", file=sys.stderr)
    folder = options.out or Path("figures") / run.path.resolve().name
    with context(figures.STYLE):
        for product in FIGURES[options.name].draw(run, options):
            for path in save(product, folder, run):
                print(path)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command. Returns: 0, or 2 after an error that it printed."""
    try:
        _render(_parser().parse_args(arguments))
    except (RunError, RenderError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
