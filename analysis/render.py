"""Figures and tables from recordings and results: `python -m analysis.render NAME FOLDER...`

`FIGURES` is the table of names; an entry joins a metric and a figure and writes pdf, svg, png and
csv. `tables` and `claims` put the paper's numbers beside measured ones; `all` draws whatever the
folders support and writes a sheet. Files are the same bytes on every run.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.style import context

from analysis.figures import (
    control_figures,
    curve_figures,
    figures,
    gallery,
    insights,
    pairs,
    paper,
    speed_figures,
)
from analysis.figures.output import Entry, RenderError, save
from analysis.paper import claims, tables
from analysis.paper.measurements import Sources
from analysis.report import sheet
from analysis.report.collection import NEEDED, Given, gather, names
from analysis.sources import evaluations
from analysis.sources.benchmarks import Speed, SpeedError, frame
from analysis.sources.evaluations import Evaluation, EvaluationError
from analysis.sources.trainings import Training, TrainingError
from svit.runs.run import Run, RunError

FIGURES: dict[str, Entry] = {
    "heatmap": Entry("how many layers used each token, beside the detections", paper.heatmap),
    "layers": Entry("used, pruned and later reactivated tokens of every gated layer", paper.layers),
    "overlay": Entry("reactivated tokens of one middle layer, large", paper.overlay),
    "reactivation": Entry(
        "pruned and reactivated share of tokens per block, all images", paper.reactivation, "runs"
    ),
    "usage-map": Entry("token usage averaged over all images", paper.usage_map, "runs"),
    "gallery": Entry("usage maps of the same pictures, a row a model", gallery.gallery, "runs"),
    "tradeoff": Entry("AP against keep ratio, compute and speed", paper.tradeoff, "results"),
    **insights.FIGURES,
    **pairs.FIGURES,
    **control_figures.FIGURES,
    **speed_figures.FIGURES,
    **curve_figures.FIGURES,
}
PAGES = {
    "tables": "the paper's Tables 1-5, printed beside measured",
    "claims": "every claim of the paper with its verdict",
    "all": "all that the folders support, with a browsable index.html and index.md",
}
ERRORS = (RunError, RenderError, EvaluationError, SpeedError, TrainingError)


def draw(name: str, given: Given, folder: Path, options: argparse.Namespace) -> Iterator[Path]:
    """Draws one figure of `FIGURES` and yields the files written.

    Raises:
        RenderError: nothing given that the figure could be drawn from, or what it needs is missing.
        EvaluationError: results that do not belong on one axis.
    """
    entry = FIGURES[name]
    subjects = list(given.subjects(entry))
    if not subjects:
        raise RenderError(f"{name} needs {NEEDED[entry.takes]}, and the folders hold none")
    for subject, run_name in subjects:
        below = folder / run_name if len(subjects) > 1 else folder
        yield from _write(name, subject, below, options)


def _write(name: str, subject: Any, folder: Path, options: argparse.Namespace) -> Iterator[Path]:
    _check_images(subject)
    with context(figures.STYLE):
        for product in FIGURES[name].draw(subject, options):
            yield from save(product, folder, *_metadata(product.name, subject))


def _check_images(subject: Any) -> None:
    """Refuses empty runs."""
    for run in _parts(subject):
        if isinstance(run, Run) and not len(run):
            remedy = f"fill it with `svit record --out {run.path}`"
            raise RenderError(f"{run.path} holds no images yet: {remedy}")


def _metadata(name: str, subject: Any) -> tuple[str, str]:
    """Title and provenance of what was drawn."""
    parts = _parts(subject)
    title = f"{name} of {', '.join(dict.fromkeys(one.path.name for one in parts))}"
    return title, "; ".join(dict.fromkeys(map(_about, parts)))


def _parts(subject: Any) -> list[Run | Evaluation | Speed | Training]:
    if isinstance(subject, Sources):
        return list(subject.evaluations)
    return subject if isinstance(subject, list) else [subject]


def _about(one: Run | Evaluation | Speed | Training) -> str:
    if isinstance(one, Run):
        states = ([] if one.finished else ["unfinished"]) + list(one.skipped)
        return " · ".join([one.describe(), *states])
    if isinstance(one, Speed):
        return f"{one.path.as_posix()}, {one.condition}"
    if isinstance(one, Training):
        return f"{one.path.as_posix()}, {len(one.lines)} lines"
    return f"{one.facts.label} on {one.facts.data}, {one.images} images ({one.path.as_posix()})"


def write_tables(given: Given, folder: Path) -> list[Path]:
    """`tables.md` and a CSV a table. Returns: the paths."""
    found = tables.paper_tables(claims.ledger(given.sources))
    others, timed = tables.arranged(given.results), frame(given.speeds)
    written = [_text(folder / "tables.md", tables.tables_markdown(found, others, timed))]
    every = tables.elsewhere(given.results)
    frames = {**found, **others, "measured elsewhere": every, "measured speed": timed}
    full = {name: one for name, one in frames.items() if len(one)}
    return [*written, *(_csv(folder / f"{_stem(name)}.csv", one) for name, one in full.items())]


def write_claims(given: Given, folder: Path) -> list[Path]:
    """`claims.md`, `claims.csv` and `inconsistencies.csv`. Returns: the paths."""
    ledger, odd = claims.ledger(given.sources), claims.inconsistencies()
    text = tables.ledger_markdown(ledger, odd)
    return [
        _text(folder / "claims.md", text),
        _csv(folder / "claims.csv", ledger),
        _csv(folder / "inconsistencies.csv", odd),
    ]


def write_all(given: Given, folder: Path, options: argparse.Namespace) -> list[Path]:
    """Every figure that can be drawn, both pages and the sheet; what cannot be drawn says why.

    Runs are drawn one by one; where there are several, figures that take several are drawn once more
    with all of them, and the first is compared with each of the others, in parts of their own.
    Returns: the paths.
    """
    sections = []
    for run, name in zip(given.runs, names(given.runs), strict=True):
        section = sheet.Section(name, _about(run))
        for figure, entry in FIGURES.items():
            if entry.takes in ("run", "runs") or entry.alone:
                subject = run if entry.takes == "run" else [run]
                section.items.append(_item(figure, subject, folder / name, options))
        sections.append(section)
    if len(given.runs) > 1:
        sections.append(_together("all runs", "runs", given.runs, folder, options))
    for pair, name in given.pairs():
        sections.append(_together(name, "pair", pair, folder, options))
    groups = evaluations.data_groups(given.results)
    for about, group in groups.items():
        title = f"results, {about}" if len(groups) > 1 else "results"
        sources = Sources(group, given.sources.recordings, given.speeds)
        sections.append(_together(title, "results", sources, folder, options))
    if given.speeds:
        sections.append(_together("speed", "speeds", given.speeds, folder, options))
    if given.trainings:
        sections.append(_together("trainings", "trainings", given.trainings, folder, options))
    written = [path for section in sections for item in section.items for path in item.paths]
    written += [*write_tables(given, folder), *write_claims(given, folder)]
    return [*written, *sheet.write([*sections, _pages(given)], folder)]


def _together(
    title: str, takes: str, subject: Any, folder: Path, options: argparse.Namespace
) -> sheet.Section:
    """Figures of several runs, results or trainings at once."""
    chosen = [name for name, entry in FIGURES.items() if entry.takes == takes]
    section = sheet.Section(title, _metadata(title, subject)[1])
    section.items += [_item(name, subject, folder / _stem(title), options) for name in chosen]
    return section


def _item(name: str, subject: Any, folder: Path, options: argparse.Namespace) -> sheet.Item:
    definition = sheet.definition(FIGURES[name])
    print(f"drawing {folder / name}", file=sys.stderr)
    try:
        paths = tuple(_write(name, subject, folder, options))
    except (RenderError, EvaluationError, TrainingError) as error:
        return sheet.Item(name, definition, reason=str(error))
    return sheet.Item(name, definition, paths)


def _pages(given: Given) -> sheet.Section:
    """The paper's tables and the ledger as part of the sheet."""
    ledger = claims.ledger(given.sources)
    section = sheet.Section("The paper's numbers", tables.counts(ledger))
    section.frames |= tables.paper_tables(ledger)
    section.frames |= tables.arranged(given.results)
    section.frames["Measured speed"] = frame(given.speeds).round(3)
    section.frames["Claims"] = tables.shown_ledger(ledger)
    section.frames["Where the paper disagrees with itself"] = claims.inconsistencies()
    section.frames = {title: table for title, table in section.frames.items() if len(table)}
    return section


def _stem(name: str) -> str:
    return re.sub(r"\W+", "-", name.lower())


def _text(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def _csv(path: Path, frame: pd.DataFrame) -> Path:
    frame.to_csv(path, index=False, float_format="%.6g", lineterminator="\n")
    return path


def _pair(text: str) -> tuple[int, int]:
    """ "50x80" as (50, 80)."""
    found = re.fullmatch(r"([1-9]\d{0,3})x([1-9]\d{0,3})", text)
    if found is None:
        raise argparse.ArgumentTypeError(f"expected ROWSxCOLUMNS as 50x80, found {text!r}")
    return int(found[1]), int(found[2])


def parser() -> argparse.ArgumentParser:
    """Names and options of the command."""
    summaries = {name: entry.summary for name, entry in FIGURES.items()} | PAGES
    listed = "\n".join(f"  {name:14}{summary}" for name, summary in summaries.items())
    command = argparse.ArgumentParser(
        prog="python -m analysis.render",
        description="Draws figures of recorded runs and results, each as pdf, svg, png and csv.\n\n"
        f"names:\n{listed}",
        epilog="examples:\n"
        "  python -m analysis.render heatmap demo/runs/shapes\n"
        "  python -m analysis.render layers runs/coco --image 79841 --image 000000391895.jpg\n"
        "  python -m analysis.render reactivation runs/coco --out paper/figures\n"
        "  python -m analysis.render claims runs/coco results/dense results/svit\n"
        "  python -m analysis.render curves trainings/dense trainings/svit\n"
        "  python -m analysis.render all runs/demo\n\n"
        "A folder holds runs of `svit record`, results of `svit evaluate` or `svit benchmark`, or\n"
        "trainings of `svit train`, itself or below it.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = command.add_argument
    add("name", choices=summaries, metavar="NAME", help="one of the list above")
    add("run", type=Path, nargs="+", metavar="FOLDER", help="runs, results, trainings")
    add("--image", action="append", metavar="ID", help="image id or file name; may be repeated")
    add("--limit", type=int, default=3, metavar="N", help="else the first N images (default 3)")
    add("--out", type=Path, metavar="DIR", help="folder for the files (default figures/FOLDER)")
    add("--score", type=float, default=0.5, help="draw detections from this score (default 0.5)")
    add("--alpha", type=float, default=0.75, help="opacity of the heatmap, 0 to 1 (default 0.75)")
    crop = {"nargs": 2, "type": int, "metavar": ("LOW", "HIGH")}
    add("--crop", **crop, help="ends of the usage colours (default: what is possible; paper 7 12)")
    add(
        "--shape", type=_pair, default=(50, 80), help="rows x columns of usage-map, overlap (50x80)"
    )
    add("--block", type=int, metavar="N", help="block of overlay, from 1 (default: a middle one)")
    add("--skip-corrupt", action="store_true", help="use the rest of a run with damaged shards")
    return command


def _render(options: argparse.Namespace) -> Iterator[Path]:
    found = gather(options.run, options.skip_corrupt)
    for run in found.runs:
        state = "the recording is unfinished, " if not run.finished else ""
        if state and len(run) or not len(run) and options.name in PAGES:  # figures refuse it
            print(f"note: {run.path}: {state}{len(run)} images so far", file=sys.stderr)
    name = options.run[0].resolve().name if len(options.run) == 1 else ""
    folder = options.out or Path("figures") / name
    if options.name == "all":
        yield from write_all(found, folder, options)[-2:]  # the sheet links all others
    elif options.name in PAGES:
        write = {"tables": write_tables, "claims": write_claims}[options.name]
        yield from write(found, folder)
    else:
        yield from draw(options.name, found, folder, options)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command. Returns: 0, or 2 after an error that it printed."""
    try:
        for path in _render(parser().parse_args(arguments)):
            print(path)
    except (*ERRORS, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
