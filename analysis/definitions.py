"""Writes `docs/analysis.md`: what every figure shows, from the docstrings of what draws it.

python -m analysis.definitions             the page
python -m analysis.definitions --pictures  also its pictures, from the run that ships in `demo/`
"""

from __future__ import annotations

import argparse
import inspect
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from matplotlib.style import context

from analysis import render
from analysis.figures import palette
from analysis.figures.output import DrawOptions, Entry
from analysis.paper import claims
from analysis.sources.collection import collect
from svit.system.files import write_text, write_whole
from svit.system.text import table

ROOT = Path(__file__).resolve().parents[1]
PAGE, PICTURES = ROOT / "docs" / "analysis.md", ROOT / "docs" / "img"
SHIPPED = ROOT / "demo" / "runs" / "svit-plain-nano"
SHOWN = ("reactivation", "usage-map", "regions", "objectness", "keep")  # with a picture
DPI = 110
HEAD = """# Figures, tables and claims

Written by `python -m analysis.definitions` from the docstrings of the code that draws; edit those.

```sh
python -m analysis.render NAME FOLDER... --out DIR   # one figure: pdf, svg, png and csv
python -m analysis.render all FOLDER... --out DIR    # all that the folders hold, and an index.html
python -m analysis.render --help                     # names and options
make figures                                         # `all` for the demo runs
```

A folder is a recorded run, a result or a training, or holds some at any depth. Recordings are read without
torch. Files are the same bytes on every run, carry the provenance of what they show, and have their numbers
as CSV beside them. Only *valid* tokens count, those that show image pixels; "pooled" means that counts are
summed over images before they are divided. Several runs in one figure have panels of their own with their
names, method and way of deciding; they are never averaged. Runs on other images, grids, depths or categories
are refused where a difference would mix causes. Equal ids prove nothing: sizes and some of the stored
pictures are compared, and annotations where none is stored (`svit.runs.pairing` says what that cannot
see). A damaged shard is named; `--skip-corrupt` uses the rest, and says so in the files. Pictures more than
five times as long as wide are drawn five times as long. Blocks count from 1 as in the paper, in options,
titles and columns `block`; a column
`layer`, and `layers` in json files, count from 0: block 1 is layer 0."""


def page() -> str:
    """The whole page."""
    rows = [
        (f"[{name}](#{name})", entry.summary, entry.takes.reads)
        for name, entry in render.FIGURES.items()
    ]
    rows += [(f"`{name}`", summary, "all of these") for name, summary in render.PAGES.items()]
    parts = [HEAD, table(["name", "shows", "reads"], rows)]
    for name, entry in render.FIGURES.items():
        parts += _section(name, entry)
    parts += ["## claims", inspect.getdoc(claims) or ""]
    parts.append("```sh\npython -m analysis.render claims RUN... RESULTS...\n```")
    return "\n\n".join(parts) + "\n"


def _section(name: str, entry: Entry) -> Iterator[str]:
    yield f"## {name}"
    yield entry.definition
    yield f"```sh\npython -m analysis.render {name} {entry.takes.arguments}\n```"
    if name in SHOWN:
        yield f"![{name} of the shipped run](img/analysis-{name}.png)"


def draw_pictures(folder: Path) -> Iterator[Path]:
    """The page's pictures; yields their paths."""
    found = collect([SHIPPED])
    with context(palette.STYLE):
        for name in SHOWN:
            entry = render.FIGURES[name]
            for subject in entry.takes.subjects(found):
                for product in entry.draw(subject.given, DrawOptions()):
                    path = folder / f"analysis-{name}.png"
                    style = {"format": "png", "dpi": DPI, "metadata": {"Software": None}}
                    write_whole(path, partial(product.figure.savefig, **style))
                    yield path


def main() -> None:
    """Writes the page, and its pictures where they are asked for; prints what it wrote."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--pictures", action="store_true", help="draw the pictures too")
    options = parser.parse_args()
    write_text(PAGE, page())
    print(PAGE)
    if options.pictures:
        for path in draw_pictures(PICTURES):
            print(path)


if __name__ == "__main__":
    main()
