"""Pictures of the app's pages for the README and the documentation.

    python -m benchmarks.screenshots                      docs/img/app-<page>[-dark].png, 1440 x 900
    python -m benchmarks.screenshots image --look DIR     also 1024 x 768, and the whole pages, into DIR

Serves the app on `--runs` (demo/runs, results) and takes every page of `SHOTS`, light and dark.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks import ROOT
from benchmarks.browser import chromium, opened, served, settle

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

SIZES = ((1440, 900), (1024, 768))
IMAGES = ROOT / "docs" / "img"


@dataclass(frozen=True)
class Shot:
    """A page to take.

    Attributes:
        name: of the page; the picture is app-<name>.png.
        link: path and query of the address; the Image page has none, it is the first.
        prepare: brings the settled page into the state to show.
    """

    name: str
    link: str
    prepare: Callable[[Page], None] | None = None


SHOTS = [
    Shot("image", "?block=9"),
    Shot("compare", "compare?block=8"),
    Shot("dataset", "dataset?run=svit-plain-nano"),
    Shot("rates", "rates?view=Controls"),
    Shot("live", "live?forbid=True"),
]


def take(page: Page, url: str, shot: Shot) -> None:
    """Opens the page of a shot and waits until it stands still."""
    page.goto(f"{url}/{shot.link}")
    settle(page)
    if shot.prepare is not None:
        shot.prepare(page)
        settle(page)
    page.mouse.move(5, 5)  # no tooltip
    page.wait_for_timeout(1200)  # charts fade in


def whole(page: Page) -> None:
    """Makes the window as tall as the page."""
    height = page.evaluate("document.querySelector('[data-testid=stMain]').scrollHeight")
    width = page.viewport_size["width"]
    page.set_viewport_size({"width": width, "height": int(height) + 20})
    page.wait_for_timeout(1200)


def photograph(
    browser: Browser, url: str, shots: Sequence[Shot], folder: Path, look: Path | None
) -> Iterator[Path]:
    """Takes all; yields the files. With `look`, other sizes and whole pages go there."""
    for shot in shots:
        for dark in (False, True):
            name = f"app-{shot.name}{'-dark' if dark else ''}"
            for size in SIZES if look else SIZES[:1]:
                with opened(browser, size, dark) as page:
                    take(page, url, shot)
                    first = size == SIZES[0]
                    file = folder / f"{name}.png" if first else look / f"{name}-{size[0]}.png"
                    page.screenshot(path=file)
                    yield file
                    if look:
                        whole(page)
                        page.screenshot(path=look / f"{name}-{size[0]}-whole.png")
                        yield look / f"{name}-{size[0]}-whole.png"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    known = [shot.name for shot in SHOTS]
    parser.add_argument("pages", nargs="*", help=f"all, or some of {', '.join(known)}")
    parser.add_argument(
        "--runs", type=Path, nargs="+", default=[ROOT / "demo" / "runs", ROOT / "results"]
    )
    parser.add_argument("--out", type=Path, default=IMAGES)
    look = "another folder for the small window and for whole pages"
    parser.add_argument("--look", type=Path, help=look)
    options = parser.parse_args()
    unknown = sorted(set(options.pages) - set(known))
    if unknown:
        parser.error(f"expected pages among {', '.join(known)}, found {', '.join(unknown)}")
    shots = [shot for shot in SHOTS if shot.name in (options.pages or known)]
    for folder in filter(None, (options.out, options.look)):
        folder.mkdir(parents=True, exist_ok=True)
    with served(*options.runs) as server, chromium() as browser:
        for file in photograph(browser, server.url, shots, options.out, options.look):
            print(file)


if __name__ == "__main__":
    main()
