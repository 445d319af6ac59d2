"""The sheet: a browsable index.html and index.md of everything that `render all` drew."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
from jinja2 import Environment, FileSystemLoader

from analysis.paper import tables
from svit.system import text
from svit.system.files import prepare_folder, write_text

_PAGES = {"index.html": "sheet.html", "index.md": "sheet.md"}


@dataclass(frozen=True)
class Item:
    """A figure of the sheet.

    Attributes:
        name: of the command.
        definition: what it shows, as text.
        paths: files written, in the order they were; pictures are the PNGs.
        reason: why it could not be drawn, or empty.
    """

    name: str
    definition: str
    paths: tuple[Path, ...] = ()
    reason: str = ""

    def groups(self, folder: Path) -> dict[str, dict[str, str]]:
        """Stem -> the files of a product by ending, relative to a folder."""
        groups: dict[str, dict[str, str]] = {}
        for path in self.paths:
            file = path.relative_to(folder).as_posix()
            groups.setdefault(path.stem, {})[path.suffix[1:]] = file
        return groups


@dataclass
class Section:
    """What belongs together: a run, all runs, all results.

    Attributes:
        about: provenance.
        frames: headed tables to print.
    """

    title: str
    about: str
    items: list[Item] = field(default_factory=list)
    frames: dict[str, pd.DataFrame] = field(default_factory=dict)


def write(sections: Sequence[Section], folder: Path) -> list[Path]:
    """Writes `index.html` and `index.md`; what comes from data is escaped in both. Returns: the paths."""
    prepare_folder(folder)
    for page, template in _PAGES.items():
        made = _templates().get_template(template).render(sections=sections, folder=folder)
        write_text(folder / page, made)
    return [folder / page for page in _PAGES]


def _templates() -> Environment:
    found = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=lambda name: name.endswith(".html"),
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters |= {"plain": text.escaped, "table": tables.markdown}
    return found
