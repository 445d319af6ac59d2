"""Data that no figure was drawn for, what is wrong with a drawing of it, and one sheet of all of them.

PYTHONPATH=.:tests python -m support.extremes FOLDER [FIGURE...]   # a sheet a case, to be looked at
"""

from __future__ import annotations

import json
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from itertools import combinations
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.style import context
from matplotlib.text import Text
from PIL import Image, ImageDraw
from support.runs import PROVENANCE, TARGETS, found, grid_for, scene, token_means, trace_of
from support.shapes_of_pictures import write_shape
from support.summaries import SHAPES, provenance, write_benchmark, write_result

from analysis.figures import palette
from analysis.figures.output import DrawOptions, RenderError
from analysis.render import FIGURES
from analysis.sources.collection import Collection, collect
from svit.core.types import Target, TokenTrace
from svit.runs.run import RunWriter

DPI = 100
LONG = "a model whose name nobody dared to shorten " * 5  # 215 letters
CLASSES = [f"class {number} of eighty" for number in range(80)]
NANO = {"size": "nano", "neck": "pyramid", "classes": SHAPES}
MODEL = {**PROVENANCE, "config": {"name": "nano", "pruning": {"method": "svit"}}}
MODEL["config"]["backbone"] = {"depth": 12}


def write_masks(
    folder: Path,
    masks: Callable[[TokenTrace], np.ndarray],
    images: int = 3,
    names: Sequence[str] = ("disc", "ball"),
    **facts,
) -> None:
    """A run of invented pictures with masks of one's own.

    Args:
        masks: a trace -> its masks, bool (layers, rows, columns).
        names: of classes; objects have them in turn.
        facts: over the provenance.
    """
    with RunWriter(folder, {**MODEL, "class_names": list(names), **facts}) as writer:
        for number in range(1, images + 1):
            picture, target = scene(number)
            labels = (2 * number + np.arange(len(target))) % len(names)
            target = Target(target.boxes_xyxy, labels, target.masks)
            grid = grid_for(picture.shape[:2])
            wanted = token_means(target.masks.any(axis=0), grid)
            trace = trace_of(number, grid, wanted, number)
            trace = TokenTrace(number, grid, masks(trace), trace.scores)
            extra = {"seconds": 0.5}
            writer.add(trace, found(target), target, picture, f"{number}.jpg", extra)


def as_they_are(trace: TokenTrace) -> np.ndarray:
    """The masks of the trace."""
    return trace.keep


def all_back(trace: TokenTrace) -> np.ndarray:
    """Every second gated block prunes everything, the next one takes all of it back."""
    keep = np.ones_like(trace.keep)
    keep[3:-1:2] = False
    return keep


def nothing_pruned(trace: TokenTrace) -> np.ndarray:
    """Every token in every block."""
    return np.ones_like(trace.keep)


def write_pair(folder: Path, masks: Callable, **choices) -> None:
    """A run of these masks and a dense one of the same pictures."""
    write_masks(folder / "pruned", masks, **choices)
    dense = {"method": "dense", "inference": "", "targets": [1.0] * len(TARGETS)}
    write_masks(folder / "dense", nothing_pruned, **choices, **dense)


def write_results(folder: Path, methods: Sequence[str], bases: Sequence[float], seeds: int) -> None:
    """Results of models with their own masks and controls, and a dense one."""
    write_result(folder / "dense", 52, 48, method="dense", macs=120e9, **NANO)
    for number, method in enumerate(methods):
        for base in bases:
            for seed in range(seeds):
                box = 38 + 12 * base + 0.3 * number + seed / 3
                choices = {"method": "svit", "base": base, "macs": 1e11 * base + 1e9 * number}
                for line, less in (("learned", 0), ("random", 2 + number / 4), ("off", 20)):
                    told = provenance()["config"]  # how pictures are read
                    config = told | {"name": method, "backbone": _body(), "train": {"seed": seed}}
                    facts = {"config": config, "method": method, "intervention": line}
                    facts |= {"weights_sha256": f"{method}{base}{seed}", "row": method}
                    place = folder / f"{number}-{base}-{seed}-{line}"
                    write_result(place, box - less, box - less - 4, facts=facts, **choices, **NANO)


def _body() -> dict:
    return {"neck": "pyramid", "embed_dim": 96, "depth": 12, "heads": 3}


def write_timed(folder: Path, models: Sequence[str], benchmarks: Sequence[str]) -> None:
    """Benchmarks of models with all tokens and pruned, at two sizes, in each of the folders."""
    for turn, name in enumerate(benchmarks):
        for size, tokens in (("224x224", 196), ("640x640", 1600)):
            times = {f"{model} dense fused": [3.0, 3.2, 2.9] for model in models}
            times |= {f"{one} paper fused": [2.0 + turn / 9, 2.5, 2.2] for one in models}
            gmacs = {one: 30.0 if "dense" in one else 20.0 for one in times}
            known = {"keep": ("dense", "paper"), "gmacs": gmacs, "tokens": tokens, "size": size}
            write_benchmark(folder / f"{name} {tokens}", times, list(models), **known)


def write_trainings(folder: Path, names: Sequence[str], lines: int = 12) -> None:
    """Journals of trainings: losses, AP, keep ratios, gate noise."""
    for number, name in enumerate(names):
        rows = [
            {
                "step": 20 * (step + 1),
                "total_loss": 3 / (step + 1) + number / 9,
                "loss_box": 1 / (step + 1),
                "rate": 1e-4 * (1 - step / lines),
                "noise_scale": 1 - step / lines,
                "keep_ratio": [1.0] * 3 + [0.9 - step / 40 - number / 90] * 9,
                "box/AP": 20.0 + step,
            }
            for step in range(lines)
        ]
        (folder / name).mkdir(parents=True)
        text = "\n".join(map(json.dumps, rows)) + "\n"
        (folder / name / "metrics.json").write_text(text)


def _all_back(folder: Path) -> None:
    write_pair(folder, all_back)


def _nothing_pruned(folder: Path) -> None:
    write_pair(folder, nothing_pruned)


def _twenty(folder: Path) -> None:
    names = [f"method number {number}" for number in range(20)]
    write_results(folder / "results", names, (0.5, 0.7, 0.9), 1)
    write_timed(
        folder, [f"model-{number}" for number in range(5)], [f"run {one}" for one in "abcd"]
    )
    write_trainings(folder / "trainings", [f"training {number}" for number in range(20)])


def _two_seeds(folder: Path) -> None:
    write_results(folder / "results", ["svit", "evit", "random"], (0.7,), 2)
    times = {f"{name} 0.7 fused": [1.0, 1.2, 0.9] for name in ("svit", "evit")}
    write_benchmark(folder / "timed", times, ["svit", "evit"], keep=("0.7",))
    write_trainings(folder / "trainings", ["seed 0", "seed 1"])


def _transferred(folder: Path) -> None:
    write_results(folder, ["svit", "evit"], (0.7,), 1)
    facts = {"masks_from": "5" * 64, "weights_sha256": "d" * 64, "row": "dense"}
    for line in ("learned", "random"):
        own = {"intervention": line}
        write_result(folder / f"lent {line}", 49, 45, facts=facts | own, method="dense", **NANO)


def _one_image(folder: Path) -> None:
    write_pair(folder, as_they_are, images=1)
    write_result(folder / "one", 50, 46, images=1, half=0.0, **NANO)
    write_trainings(folder / "trainings", ["alone"], lines=1)
    write_timed(folder, ["model"], ["alone"])


def _needle(folder: Path) -> None:
    for method in ("svit", "dense"):
        write_shape(folder / method, (3000, 3), method)


def _long_names(folder: Path) -> None:
    names = [LONG + str(number) for number in range(3)]
    write_pair(folder, as_they_are, names=[f"{LONG} {word}" for word in ("disc", "ball")])
    write_results(folder / "results", names, (0.7, 0.9), 2)
    write_timed(folder, names[:2], [LONG[:200]])
    write_trainings(folder / "trainings", [f"{LONG[:200]} {number}" for number in range(3)])


def _eighty_classes(folder: Path) -> None:
    write_pair(folder, as_they_are, names=CLASSES, images=40)


CASES: dict[str, Callable[[Path], None]] = {
    "everything reactivated": _all_back,
    "nothing pruned": _nothing_pruned,
    "twenty series": _twenty,
    "two seeds": _two_seeds,
    "a transferred mask": _transferred,
    "one image": _one_image,
    "3000 x 3": _needle,
    "names of 200 letters": _long_names,
    "eighty classes": _eighty_classes,
}


def written(case: str, folder: Path) -> Collection:
    """What one case leaves in a folder, collected."""
    CASES[case](folder)
    return collect([folder])


def drawings(name: str, found: Collection) -> Iterator[tuple[Figure, list[str]]]:
    """What an entry draws, laid out, and its faults; nothing where the collection holds nothing for it."""
    with context(palette.STYLE), warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always", UserWarning)
        for subject in FIGURES[name].takes.subjects(found):
            try:
                products = list(FIGURES[name].draw(subject.given, DrawOptions(limit=1)))
            except RenderError:
                continue
            for product in products:
                heard.clear()
                product.figure.set_dpi(DPI)
                product.figure.draw_without_rendering()
                yield (
                    product.figure,
                    [str(one.message)[:60] for one in heard] + faults(product.figure),
                )


def faults(figure: Figure) -> list[str]:
    """Words that leave the canvas or lie over other words, in a figure that was laid out."""
    renderer = FigureCanvasAgg(figure).get_renderer()
    whole, told = figure.bbox, []
    # of the words alone: an annotation's own extent has its leader in it
    boxes = [(one, Text.get_window_extent(one, renderer)) for one in _drawn_words(figure)]
    for one, box in boxes:
        if box.x0 < -2 or box.y0 < -2 or box.x1 > whole.width + 2 or box.y1 > whole.height + 2:
            told.append(f"{_start(one)} leaves the canvas")
    for (one, box), (other, beside) in combinations(boxes, 2):
        width = min(box.x1, beside.x1) - max(box.x0, beside.x0)
        height = min(box.y1, beside.y1) - max(box.y0, beside.y0)
        least = 0.2 * min(box.height, beside.height, box.width, beside.width)
        if width > max(least, 1) and height > max(least, 1):
            told.append(f"{_start(one)} lies over {_start(other)}")
    return told


def _start(one: Text) -> str:
    return repr(one.get_text()[:40])


def _drawn_words(figure: Figure) -> Iterator[Text]:
    """The texts that a reader sees: not those of hidden axes or of ticks beyond the limits."""
    every = figure.findobj(Axes)  # also those of colour bars inside others
    hidden = {id(text) for ax in every for text in _hidden(ax.xaxis) + _hidden(ax.yaxis)}
    for text in figure.findobj(Text):
        if text.get_visible() and text.get_text().strip() and id(text) not in hidden:
            yield text


def _hidden(axis: Axis) -> list[Text]:
    off = not (axis.axes.axison and axis.axes.get_visible() and axis.get_visible())
    low, high = sorted(axis.get_view_interval())
    room = 1e-9 * (high - low)
    beyond = [
        tick
        for tick in [*axis.get_major_ticks(), *axis.get_minor_ticks()]
        if off or not low - room <= tick.get_loc() <= high + room
    ]
    texts = [text for tick in beyond for text in (tick.label1, tick.label2)]
    return texts + ([axis.label, axis.offsetText] if off else [])


def sheet(found: Collection, names: Sequence[str], width: int = 700) -> Image.Image:
    """Every drawing of some figures, one below the other in three columns, with its name and faults."""
    tiles = [
        _tile(f"{name}: {'; '.join(told) or 'no fault'}", figure, width)
        for name in names
        for figure, told in drawings(name, found)
    ]
    columns: list[list[Image.Image]] = [[], [], []]
    for tile in tiles:
        min(columns, key=lambda column: sum(one.height for one in column)).append(tile)
    height = max(sum(one.height for one in column) for column in columns)
    page = Image.new("RGB", (3 * width, max(height, 1)), "white")
    for number, column in enumerate(columns):
        top = 0
        for tile in column:
            page.paste(tile, (number * width, top))
            top += tile.height
    return page


def _tile(words: str, figure: Figure, width: int) -> Image.Image:
    figure.set_dpi(width / figure.get_size_inches()[0])
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    drawn = Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")
    tile = Image.new("RGB", (width, drawn.height + 16), "white")
    tile.paste(drawn, (0, 16))
    ImageDraw.Draw(tile).text((4, 2), words[:150], fill="black" if "no fault" in words else "red")
    return tile


def main(folder: Path, names: Sequence[str]) -> None:
    """A sheet a case in the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for case in CASES:
        with tempfile.TemporaryDirectory() as place:
            path = folder / f"{case.replace(' ', '-')}.png"
            sheet(written(case, Path(place)), names).save(path)
            print(path)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:] or list(FIGURES))
