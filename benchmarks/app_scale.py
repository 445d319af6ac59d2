"""How fast the app answers on one run of thousands of images, measured in a real Chromium.

    python -m benchmarks.app_scale                         5,000 images; writes results/app-scale.md and .csv
    python -m benchmarks.app_scale --images 50000 --out /tmp/scale

A server that has never seen the run opens the Image page and then every view of the Dataset page, each as
a new visitor: the first time, when aggregates are counted and kept beside the run, and again. Seconds are
the browser's, from the start of the navigation until content is painted; processor seconds are the
server's until all stands. The bare page of `benchmarks.app_speed` is opened in the same run.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from benchmarks import ROOT
from benchmarks.app_speed import BARE, BARE_NAME, machine, opening, visitor
from benchmarks.browser import Server, chromium, running, served
from benchmarks.generated_runs import write_everything
from svit.system.files import prepare_folder, write_text
from svit.system.text import table as markdown_table

if TYPE_CHECKING:
    from playwright.sync_api import Browser

VIEWS = ("Tokens", "Objects", "Budget", "Errors", "Images", "Figures")  # of the Dataset page


def openings(browser: Browser, server: Server, other: Server) -> Iterator[dict[str, float | str]]:
    """A row a view, the bare page first: seconds and processor seconds, the first time and again."""
    yield {"view": BARE_NAME, **_twice(browser, other, "")}
    yield {"view": "Image", **_twice(browser, server, "")}
    for part in VIEWS:
        yield {"view": f"Dataset, {part}", **_twice(browser, server, f"dataset?part={part}")}


def _twice(browser: Browser, server: Server, path: str) -> dict[str, float]:
    found: dict[str, float] = {}
    for when in ("first", "again"):
        before = _spent(server.process)
        with visitor(browser) as page:
            seconds = opening(page, f"{server.url}/{path}")["seconds"]
        found |= {f"{when} s": seconds, f"{when} CPU s": _spent(server.process) - before}
    return found


def _spent(process: int) -> float:
    """Processor seconds of a process with all its threads. Linux."""
    fields = Path(f"/proc/{process}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def measured(images: int) -> pd.DataFrame:
    """The table of a generated run with that many images."""
    with tempfile.TemporaryDirectory() as folder:
        write_everything(Path(folder) / "large", images, scored=True)
        with chromium() as browser, served(Path(folder)) as server, running(*BARE) as other:
            return pd.DataFrame(openings(browser, server, other))


def report(table: pd.DataFrame, images: int, load: float) -> str:
    """The table in Markdown, and what it depends on."""
    facts = {**machine(), "load before": f"{load:.2f}"}
    notes = [f"- {name}: {value}" for name, value in facts.items()]
    rows = [[str(view), *(f"{one:.2f}" for one in cells)] for view, *cells in table.to_numpy()]
    head = f"# Speed of the app on {images:,} images"
    return "\n".join(
        [
            head,
            "",
            "- `python -m benchmarks.app_scale`",
            *notes,
            "",
            markdown_table(list(table), rows),
            "",
        ]
    )


def main(words: Sequence[str] | None = None) -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "app-scale")
    options = parser.parse_args(words)
    load = os.getloadavg()[0]
    table = measured(options.images)
    prepare_folder(options.out.parent)
    write_text(options.out.with_suffix(".csv"), table.to_csv(index=False, lineterminator="\n"))
    text = report(table, options.images, load)
    write_text(options.out.with_suffix(".md"), text)
    print(text)


if __name__ == "__main__":
    main()
