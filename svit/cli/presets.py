"""`svit presets`: the named configurations by size and neck, or one of them as YAML to start a file from.

Beside each name stand the four dimensions by which the paper compares methods (3.1, Table 1).
"""

from __future__ import annotations

import argparse
from pathlib import Path

from omegaconf import OmegaConf

from svit.core.catalogue import METHODS, ROWS, Row
from svit.core.config import Config
from svit.core.presets import PRESETS, load_config
from svit.system import text
from svit.system.files import write_text

HEADINGS = ("preset", "selection", "dynamic rate", "preserved", "reactivated", "in the paper")
NECKS = {"adapter": "ViT-Adapter", "plain": "maps from tokens only"}
SIZES = {"t": "tiny", "s": "small", "nano": "nano", "fine": "nano, fine tokens"}
SIZES |= {"nuclei": "nano for nuclei"}
BASE_RATIO = "another base keep ratio: pruning.options.keep_ratios=[0.5,0.5,0.5,0.25,...]"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `svit presets`."""
    parser.add_argument("name", nargs="?", help="print this preset (or YAML file) with every key")
    parser.add_argument(
        "--rows",
        nargs="?",
        const="",
        metavar="FILE",
        help="print the rows of a comparison as a Markdown table, or renew it in a document",
    )
    parser.add_argument(
        "overrides",
        nargs="*",
        metavar="KEY=VALUE",
        help="as backbone.drop_path=0.2; later ones win",
    )


def run(args: argparse.Namespace) -> int:
    """`svit presets`. Returns: the exit code.

    Raises:
        ConfigError: no such preset, or a change that it does not take.
    """
    if args.rows:
        write_rows(Path(args.rows))
    elif args.rows is not None:
        print(rows())
    else:
        print(table() if args.name is None else as_yaml(args.name, args.overrides))
    return 0


def as_yaml(name: str, overrides: list[str]) -> str:
    """Every key of a preset after its overrides; the text is a configuration file.

    Raises:
        ConfigError: unknown preset or key, or a value of the wrong kind.
    """
    return OmegaConf.to_yaml(OmegaConf.structured(load_config(name, overrides))).rstrip()


def table() -> str:
    """All presets, one a line, a group a body; the columns are those of paper Table 1."""
    groups = [(neck, size) for neck in NECKS for size in SIZES]
    groups = [group for group in groups if ROWS[0].preset(*group) in PRESETS]
    rows = {group: [_cells(row, *group) for row in ROWS] for group in groups}
    every = [HEADINGS, *(cells for group in rows.values() for cells in group)]
    widths = [max(len(cells[column]) for cells in every) for column in range(len(HEADINGS))]
    parts = [_line(HEADINGS, widths)]
    for group, found in rows.items():
        body = PRESETS[found[0][0]]
        parts += ["", f"# {_body(body, *group)}", *(_line(cells, widths) for cells in found)]
    return "\n".join([*parts, "", f"# {BASE_RATIO}"])


def rows() -> str:
    """The methods and ablations with the columns of paper Table 1, as Markdown."""
    lines = [(row.name, METHODS[row.method].paper, *_answers(row)) for row in ROWS]
    return text.table(("row", "by", *HEADINGS[1:]), lines)


def write_rows(path: Path) -> None:
    """Renews the table of `rows` in a document; all else stays.

    Raises:
        ValueError: the document holds no such table.
    """
    page = path.read_text(encoding="utf-8")
    head = rows().splitlines()[0]
    before, found, after = page.partition(head)
    if not found:
        raise ValueError(f"{path}: found no table with the head {head}")
    rest = after.partition("\n\n")[2]
    write_text(path, f"{before}{rows()}\n\n{rest}")


def _line(cells: tuple[str, ...], widths: list[int]) -> str:
    return "  ".join(map(str.ljust, cells, widths)).rstrip()


def _body(config: Config, neck: str, size: str) -> str:
    backbone, detector = config.backbone, config.detector
    return (
        f"{SIZES[size]}, {NECKS[neck]}: {backbone.embed_dim} wide, {backbone.depth} blocks, "
        f"{backbone.heads} heads, {text.counted(detector.classes, 'classes')}, "
        f"short side {config.data.short_side}"
    )


def _cells(row: Row, neck: str, size: str) -> tuple[str, ...]:
    return (row.preset(neck, size), *_answers(row))


def _answers(row: Row) -> tuple[str, ...]:
    traits = row.traits
    answers = (traits.dynamic_rate, traits.preserves, traits.reactivates)
    shown = ["–"] * 3 if traits.selection == "none" else ["yes" if one else "no" for one in answers]
    if traits.merges:
        shown[1] = "merged"
    if traits.streams:
        shown[1] = "stored"
    return (traits.selection, *shown, row.shown)
