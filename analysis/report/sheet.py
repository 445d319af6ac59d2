"""The sheet: a browsable index.html and index.md of everything that `render all` drew."""

from __future__ import annotations

import inspect
from dataclasses import dataclass, field
from html import escape
from pathlib import Path

import pandas as pd

from analysis.figures.output import Entry
from analysis.paper import tables

_CSS = """
body { font: 15px/1.5 system-ui, sans-serif; color: #1f2733; max-width: 70rem; margin: 2rem auto;
padding: 0 1rem }
img { max-width: 100%; border: 1px solid #e3e7ed } figure { margin: 1rem 0 } .about { color: #4a5565 }
table { border-collapse: collapse; font-size: 13px } td, th { padding: .15rem .6rem .15rem 0;
text-align: left; vertical-align: top; border-bottom: 1px solid #e3e7ed } .wide { overflow-x: auto }
"""


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


def definition(entry: Entry) -> str:
    """The docstring of a drawing function: formula and denominator of what it shows."""
    return inspect.getdoc(entry.draw) or entry.summary


def write(sections: list[Section], folder: Path) -> list[Path]:
    """Writes `index.html` and `index.md`. Returns: the paths."""
    folder.mkdir(parents=True, exist_ok=True)
    pages = {"index.html": _html(sections, folder), "index.md": _markdown(sections, folder)}
    for name, text in pages.items():
        (folder / name).write_text(text, encoding="utf-8")
    return [folder / name for name in pages]


def _markdown(sections: list[Section], folder: Path) -> str:
    parts = ["# Figures and tables"]
    for section in sections:
        parts += [f"## {section.title}", section.about]
        for item in section.items:
            parts.append(f"### {item.name}")
            parts.append(f"Not drawn: {item.reason}" if item.reason else item.definition)
            for stem, files in _groups(item, folder).items():
                links = " · ".join(f"[{file.suffix[1:]}](<{file.as_posix()}>)" for file in files)
                picture = next(file for file in files if file.suffix == ".png")
                parts += [f"![{stem}](<{picture.as_posix()}>)", links]
        for title, frame in section.frames.items():
            parts += [f"### {title}", tables.markdown(frame)]
    return "\n\n".join(filter(None, parts)) + "\n"


def _html(sections: list[Section], folder: Path) -> str:
    parts = [f"<!doctype html><meta charset=utf-8><title>Figures and tables</title><style>{_CSS}"]
    parts.append("</style><h1>Figures and tables</h1><ul>")
    for number, section in enumerate(sections):
        parts.append(f'<li><a href="#s{number}">{escape(section.title)}</a>')
    parts.append("</ul>")
    for number, section in enumerate(sections):
        parts.append(f"<h2 id=s{number}>{escape(section.title)}</h2>")
        parts.append(f"<p class=about>{escape(section.about)}</p>")
        for item in section.items:
            parts += _html_item(item, folder)
        for title, frame in section.frames.items():
            table = frame.to_html(index=False, border=0)
            parts.append(f"<h3>{escape(title)}</h3><div class=wide>{table}</div>")
    return "\n".join(parts) + "\n"


def _html_item(item: Item, folder: Path) -> list[str]:
    parts = [f"<h3>{escape(item.name)}</h3>"]
    if item.reason:
        return [*parts, f"<p class=about>Not drawn: {escape(item.reason)}</p>"]
    parts.append(f"<p>{escape(item.definition)}</p>")
    for stem, files in _groups(item, folder).items():
        links = " · ".join(
            f'<a href="{escape(file.as_posix())}">{file.suffix[1:]}</a>' for file in files
        )
        picture = next(file for file in files if file.suffix == ".png")
        image = f'<img src="{escape(picture.as_posix())}" alt="{escape(stem)}" loading=lazy>'
        parts.append(f"<figure>{image}<figcaption>{escape(stem)}: {links}</figcaption></figure>")
    return parts


def _groups(item: Item, folder: Path) -> dict[str, list[Path]]:
    """Stem -> the files of a product, relative to the sheet."""
    groups: dict[str, list[Path]] = {}
    for path in item.paths:
        groups.setdefault(path.stem, []).append(path.relative_to(folder))
    return groups
