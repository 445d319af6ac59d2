"""Figures and tables from recordings and results: `python -m analysis.render NAME FOLDER...`

`analysis.figures.registry` has the names; an entry writes pdf, svg, png and csv. `tables` and `claims` put
the paper's numbers beside measured ones; `all` draws whatever the folders support and writes a sheet. Files
are the same bytes on every run.
"""

from __future__ import annotations

import argparse
import gc
import re
import sys
from collections.abc import Iterator, Sequence
from itertools import chain, count
from pathlib import Path

import pandas as pd
from matplotlib.style import context

from analysis.figures import palette, registry
from analysis.figures.output import DrawOptions, RenderError, csv, save
from analysis.paper import claims, tables
from analysis.paper.foreign import foreign
from analysis.report import sheet
from analysis.sources import collection, evaluations, labels
from analysis.sources.benchmarks import SpeedError, frame
from analysis.sources.collection import Collection, CollectionError, Kind, Source, Subject, collect
from analysis.sources.evaluations import EvaluationError
from analysis.sources.trainings import TrainingError
from svit.runs.run import Run
from svit.system.files import FileError, prepare_folder, write_text
from svit.system.text import counted

FIGURES = registry.entries()
PAGES = {
    "tables": "the paper's Tables 1-5, printed beside measured",
    "claims": "every claim of the paper with its verdict",
    "all": "all that the folders support, with a browsable index.html and index.md",
}
PAPER_CROP, PAPER_SHAPE = (7, 12), (50, 80)  # of the authors' pictures of COCO
ERRORS = (FileError, RenderError, CollectionError, EvaluationError, SpeedError, TrainingError)


def draw(name: str, found: Collection, folder: Path, options: DrawOptions) -> Iterator[Path]:
    """Draws one figure of `FIGURES` and yields the files written.

    Raises:
        RenderError: nothing found that the figure could be drawn from, or what it needs is missing.
        EvaluationError: results that do not belong on one axis.
    """
    kind = FIGURES[name].takes
    subjects = list(kind.subjects(found))
    if not subjects:
        raise RenderError(f"{name} needs {kind.needed}, and the folders hold none")
    for subject in subjects:
        below = folder / subject.name if len(subjects) > 1 else folder
        yield from _write(name, subject, below, options)


def _write(name: str, subject: Subject, folder: Path, options: DrawOptions) -> Iterator[Path]:
    _check_images(subject.sources)
    about = _about(subject.sources)
    of = ", ".join(dict.fromkeys(one.path.name for one in subject.sources))
    with context(palette.STYLE):
        for product in FIGURES[name].draw(subject.given, options):
            yield from save(product, folder, f"{product.name} of {of}", about)


def _check_images(sources: Sequence[Source]) -> None:
    """Refuses empty runs."""
    for run in sources:
        if isinstance(run, Run) and not len(run):
            remedy = f"fill it with `{labels.fill(run)}`"
            raise RenderError(f"{run.path} holds no images yet: {remedy}")


def _about(sources: Sequence[Source]) -> str:
    return "; ".join(dict.fromkeys(map(labels.provenance, sources)))


def write_tables(found: Collection, ledger: pd.DataFrame, folder: Path) -> list[Path]:
    """`tables.md` and a CSV a table, from what was found and its `claims.ledger`. Returns: the paths."""
    printed = tables.paper_tables(ledger)
    others, timed = tables.arranged(found.results, found.accuracies), frame(found.speeds)
    written = [_text(folder / "tables.md", tables.tables_markdown(printed, others, timed))]
    every = tables.elsewhere(found.results)
    frames = {**printed, **others, "measured elsewhere": every, "measured speed": timed}
    full = {name: one for name, one in frames.items() if len(one)}
    return [*written, *(_csv(folder / f"{_stem(name)}.csv", one) for name, one in full.items())]


def write_claims(ledger: pd.DataFrame, folder: Path) -> list[Path]:
    """`claims.md`, and as CSV every measurement, a row a claim with a column a world, other people's numbers
    and where the paper disagrees with itself. Returns: the paths."""
    odd = claims.inconsistencies()
    text = tables.ledger_markdown(ledger, odd)
    return [
        _text(folder / "claims.md", text),
        _csv(folder / "claims.csv", ledger),
        _csv(folder / "claims-by-world.csv", tables.by_world(ledger)),
        _csv(folder / "foreign.csv", foreign()),
        _csv(folder / "inconsistencies.csv", odd),
    ]


def write_all(found: Collection, folder: Path, options: DrawOptions) -> list[Path]:
    """Every figure that can be drawn, both pages and the sheet; what cannot be drawn says why.

    Runs are drawn one by one; where there are several, figures that take several are drawn once more
    with all of them, and the first is compared with each of the others, in parts of their own.
    Returns: the paths.
    """
    ledger = claims.ledger(found)
    parts = zip(_sections(found), section_folders(found), strict=True)
    sections = [
        _section(title, of, folder / place, kinds, options) for (title, of, kinds), place in parts
    ]
    written = [path for section in sections for item in section.items for path in item.paths]
    written += [*write_tables(found, ledger, folder), *write_claims(ledger, folder)]
    return [*written, *sheet.write([*sections, _pages(found, ledger)], folder)]


def _sections(found: Collection) -> Iterator[tuple[str, Collection, Sequence[Kind]]]:
    """The parts of the sheet: title, what is drawn there, and by which figures."""
    of_one = (collection.RUN, collection.RUNS, collection.PAIR_OR_RUN)
    for one in collection.RUN.subjects(found):
        yield one.name, Collection([one.given]), of_one
    if len(found.runs) > 1:
        yield "all runs", found, (collection.RUNS,)
    for pair in collection.PAIR.subjects(found):
        yield pair.name, Collection(pair.given), (collection.PAIR, collection.PAIR_OR_RUN)
    groups = evaluations.data_groups(found.results)
    for about, group in groups.items():
        title = f"results, {about}" if len(groups) > 1 else "results"
        yield title, found.of_results(group), (collection.RESULTS,)
    if found.speeds:
        yield "speed", found, (collection.SPEEDS,)
    if found.trainings:
        yield "trainings", found, (collection.TRAININGS,)


def section_folders(found: Collection) -> list[str]:
    """The folder of each part of the sheet, numbered where names differ in signs or capitals alone."""
    places: list[str] = []
    for title, _, kinds in _sections(found):
        name = title if kinds[0] is collection.RUN else _stem(title)
        turns = (f"{name}-{turn}" for turn in count(2))
        taken = {place.lower() for place in places}
        places.append(next(one for one in chain([name], turns) if one.lower() not in taken))
    return places


def _section(
    title: str, found: Collection, folder: Path, kinds: Sequence[Kind], options: DrawOptions
) -> sheet.Section:
    (first, *_) = kinds[0].subjects(found)
    section = sheet.Section(title, _about(first.sources))
    for name, entry in FIGURES.items():
        if entry.takes in kinds:
            subjects = entry.takes.subjects(found)
            section.items += [_item(name, subject, folder, options) for subject in subjects]
    return section


def _item(name: str, subject: Subject, folder: Path, options: DrawOptions) -> sheet.Item:
    definition = FIGURES[name].definition
    print(f"drawing {folder / name}", file=sys.stderr)
    try:
        paths = tuple(_write(name, subject, folder, options))
    except (RenderError, EvaluationError, TrainingError) as error:
        return sheet.Item(name, definition, reason=str(error))
    return sheet.Item(name, definition, paths)


def _pages(found: Collection, ledger: pd.DataFrame) -> sheet.Section:
    """The paper's tables and the ledger as part of the sheet."""
    section = sheet.Section("The paper's numbers", tables.counts(ledger))
    section.frames |= tables.paper_tables(ledger)
    section.frames |= tables.arranged(found.results, found.accuracies)
    section.frames["Measured speed"] = frame(found.speeds).round(3)
    section.frames["Claims, a column a world"] = tables.by_world(ledger)
    section.frames["Claims, a row a measurement"] = tables.shown_ledger(ledger)
    section.frames["Numbers of other people"] = foreign().drop(columns=["claim", "told"])
    section.frames["Where the paper disagrees with itself"] = claims.inconsistencies()
    section.frames = {title: table for title, table in section.frames.items() if len(table)}
    return section


def _stem(name: str) -> str:
    return re.sub(r"\W+", "-", name.lower())


def _text(path: Path, text: str) -> Path:
    prepare_folder(path.parent)
    write_text(path, text)
    return path


def _csv(path: Path, frame: pd.DataFrame) -> Path:
    write_text(path, csv(frame))
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
    room = max(map(len, summaries)) + 2
    listed = "\n".join(f"  {name:{room}}{summary}" for name, summary in summaries.items())
    command = argparse.ArgumentParser(
        prog="python -m analysis.render",
        description="Draws figures of recorded runs and results, each as pdf, svg, png and csv.\n\n"
        f"names:\n{listed}",
        epilog="examples:\n"
        "  python -m analysis.render heatmap demo/runs/svit-plain-nano\n"
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
    about = "rows x columns of usage-map, overlap (50x80)"
    add("--shape", type=_pair, default=PAPER_SHAPE, help=about)
    add("--paper", action="store_true", help="as the authors drew: --crop 7 12 --shape 50x80")
    about = "block of overlay and attention-beside-mask, from 1 (default: a middle one)"
    add("--block", type=int, metavar="N", help=about)
    add("--skip-corrupt", action="store_true", help="use the rest of a run with damaged shards")
    return command


def draw_options(given: argparse.Namespace) -> DrawOptions:
    """What the figures need of the command's options."""
    return DrawOptions(
        images=tuple(given.image or ()),
        limit=given.limit,
        score=given.score,
        alpha=given.alpha,
        crop=PAPER_CROP if given.paper else None if given.crop is None else tuple(given.crop),
        shape=PAPER_SHAPE if given.paper else given.shape,
        block=given.block,
    )


def _render(given: argparse.Namespace) -> Iterator[Path]:
    options = draw_options(given)
    found = collect(given.run, given.skip_corrupt)
    for run in found.runs:
        state = "the recording is unfinished, " if not run.finished else ""
        if state and len(run) or not len(run) and given.name in PAGES:  # figures refuse it
            print(f"note: {run.path}: {state}{counted(len(run), 'images')} so far", file=sys.stderr)
    name = given.run[0].resolve().name if len(given.run) == 1 else ""
    folder = given.out or Path("figures") / name
    if given.name == "all":
        yield from write_all(found, folder, options)[-2:]  # the sheet links all others
    elif given.name == "tables":
        yield from write_tables(found, claims.ledger(found), folder)
    elif given.name == "claims":
        yield from write_claims(claims.ledger(found), folder)
    else:
        yield from draw(given.name, found, folder, options)


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
    gc.freeze()  # what was imported stays: no collection looks through it again
    sys.exit(main())
