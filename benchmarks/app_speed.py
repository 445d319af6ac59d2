"""How fast the recorded pages of the app answer, measured in a real Chromium.

    python -m benchmarks.app_speed                 writes results/app-speed.json and .md
    python -m benchmarks.app_speed --repeats 5 --out /tmp/speed

On two generated runs of 50 x 84 tokens, 12 blocks, scores, pictures and detections, it measures

- opening: from the start of the navigation until the page's own content is painted (the picture with its
  tokens, or the first chart), and until all of it stands and answers clicks. Each repeat is a new
  visitor, a browser without cache before a server that knows the run, who then opens the page again.
  The first visit of all, which loads the program, is reported apart. In the same turns it opens
  `bare_page.py`, one chart and nothing else, from a server of its own: what is left above that is the
  app's;
- the block slider (an arrow key) and a click on a token: from the input event until the server has
  answered, everything new is in the page, and a frame is painted;
- memory of the server over 200 interactions.

Times come from the page's own clock (`performance.now`). The load of the machine stands beside them.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from benchmarks import ROOT
from benchmarks.browser import READY, Server, chromium, opened, running, served, settle
from benchmarks.generated_runs import write_everything
from svit.system.files import prepare_folder, write_text
from svit.system.text import table as markdown_table

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

CONTENT = ".vega-embed canvas, .vega-embed svg, [data-testid=stImage] img"
# where `analysis.pages.parts.first_paint` paints pictures
AHEAD = ".st-key-stage, .st-key-panels-room, .st-key-usage-map, [class*=st-key-grid-]"
IMAGES = 36
WIDE = "image=2"  # the generated image with 50 x 84 tokens
PAGES = {  # name -> path and query
    "Image": f"?{WIDE}",
    "Compare": f"compare?{WIDE}",
    "Dataset": "dataset",
    "Rates": "rates",
    "Live": "live",
}
BARE = ("streamlit", "run", str(Path(__file__).with_name("bare_page.py")), "--server.port")
BARE_NAME = "bare Streamlit"
TARGETS = {"opening": 2.0, "interaction": 0.4}  # seconds
INTERACTIONS = 200
WARM = 60  # interactions before memory counts: bounded caches fill
FLAT = 0.02  # MB an interaction: what memory may grow by and still be called flat

WATCH = """([content, ahead, ready]) => {
  const main = () => document.querySelector('[data-testid=stMain]');
  const paint = name => requestAnimationFrame(() => { window[name] ??= performance.now(); });
  const painted = box => getComputedStyle(box, '::before').backgroundImage.includes('url(');
  const look = () => {
    const standing = main()?.querySelector(ahead);
    if (main()?.querySelector(content) || (standing && painted(standing))) paint('useful');
    const stale = document.querySelector('[data-stale=true], [data-testid=stSkeleton]');
    if (window.useful && document.querySelector(ready) && !stale) return paint('whole');
    requestAnimationFrame(look);
  };
  look();
}"""
# waits until the text of all that changes differs and the script has ended, then for a painted frame
ANSWER = """([kind, seen, ready]) => new Promise((done, fail) => {
  setTimeout(() => fail(new Error(`no answer to ${kind}: ${window.begun} ${seen}`)), 30000);
  const look = () => {
    const rested = document.querySelector(ready) && !document.querySelector('[data-stale=true]');
    const shown = window.shown(kind);
    if (window.begun && rested && shown && shown !== seen)
      return requestAnimationFrame(() => done(performance.now() - window.begun));
    requestAnimationFrame(look);
  };
  look();
})"""
LISTEN = """() => {
  for (const kind of ['keydown', 'pointerdown'])
    addEventListener(kind, () => { window.begun = performance.now(); }, true);
  const main = document.querySelector('[data-testid=stMain]');
  const crop = () => {  // the token's pixels: the last picture of the page
    const shown = [...main.querySelectorAll('[data-testid=stImage] img')].at(-1);
    return shown?.complete && shown.src;
  };
  const heading = () => main.querySelector('h5')?.innerText;
  window.shown = kind => kind === 'slider' ? heading() : crop();
}"""


def openings(browser: Browser, addresses: dict[str, str], repeats: int) -> Iterator[dict[str, Any]]:
    """Times to open each page as a new visitor and once more, in turn, so that a drift of the machine
    meets them alike."""
    for turn in range(repeats):
        for name, address in addresses.items():
            with visitor(browser) as page:
                for measure in (f"open {name}", f"open {name} again"):
                    yield {"measure": measure, "turn": turn, **opening(page, address)}


@contextmanager
def visitor(browser: Browser) -> Iterator[Page]:
    """A browser without cache whose pages note when they are painted."""
    with opened(browser) as page:
        page.add_init_script(f"({WATCH})({json.dumps([CONTENT, AHEAD, READY])})")
        yield page


def opening(page: Page, address: str) -> dict[str, float]:
    """Seconds until content is painted (`seconds`) and until all stands (`whole`), for a `visitor`."""
    page.goto(address, wait_until="commit")
    page.wait_for_function("window.whole")
    useful, whole = page.evaluate("[window.useful, window.whole]")
    return {"seconds": useful / 1000, "whole": whole / 1000}


def timed(page: Page, kind: str, act: Callable[[], None]) -> float:
    """Seconds from the event of `act` until its answer is painted."""
    seen = page.evaluate("kind => { window.begun = null; return window.shown(kind); }", kind)
    act()
    return page.evaluate(ANSWER, [kind, seen, READY]) / 1000


def interactions(page: Page) -> tuple[Callable[[int], None], Callable[[int], None]]:
    """What moves the slider and what clicks a token, each by the number of the repeat."""
    thumb = page.get_by_role("slider").first
    chart = page.locator("[data-testid=stMain] .vega-embed").first

    def slide(turn: int) -> None:
        thumb.focus()
        page.keyboard.press("ArrowRight" if turn // 8 % 2 == 0 else "ArrowLeft")

    def click(turn: int) -> None:
        box = chart.bounding_box()
        across, down = 0.2 + 0.6 * (turn * 7 % 13) / 12, 0.3 + 0.5 * (turn * 5 % 11) / 10
        page.mouse.click(box["x"] + across * box["width"], box["y"] + down * box["height"])

    return slide, click


def explored(browser: Browser, server: Server, repeats: int) -> Iterator[dict[str, Any]]:
    """Times of slider and click, and then the server's memory over `INTERACTIONS` of both."""
    with opened(browser) as page:
        page.goto(f"{server.url}/{PAGES['Image']}")
        settle(page)
        page.wait_for_timeout(1000)
        page.evaluate(LISTEN)
        slide, click = interactions(page)
        works = {"slider": slide, "click": click}
        for turn in range(-2, repeats):
            for kind, act in works.items():
                seconds = timed(page, kind, lambda act=act, turn=turn: act(turn + 2))
                if turn >= 0:
                    yield {"measure": kind, "turn": turn, "seconds": seconds}
        for turn in range(WARM + INTERACTIONS):
            kind = ("slider", "click")[turn % 2]
            timed(page, kind, lambda kind=kind, turn=turn: works[kind](repeats + 2 + turn // 2))
            if turn >= WARM:
                yield {"measure": "memory", "turn": turn - WARM, "mb": memory(server.process)}


def memory(process: int) -> float:
    """Resident memory of a process in MB. Linux."""
    status = Path(f"/proc/{process}/status").read_text(encoding="ascii")
    line = next(line for line in status.splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) / 1024


def summary(rows: pd.DataFrame) -> pd.DataFrame:
    """Median and quartiles in seconds of every measure, beside its target and, for openings, what the
    median has beyond that of a bare Streamlit page."""
    times = rows[rows["measure"] != "memory"].groupby("measure", sort=False)
    quartiles = times["seconds"].quantile([0.25, 0.5, 0.75]).unstack()
    quartiles.columns = ["q25", "median", "q75"]
    quartiles["whole"] = times["whole"].median()
    quartiles["repeats"] = times.size()
    opening = quartiles.index.str.contains("open")
    quartiles["target"] = np.where(opening, TARGETS["opening"], TARGETS["interaction"])
    again = quartiles.index.str.endswith(" again")
    bare = np.where(
        again, *(quartiles["median"].get(f"open {BARE_NAME}{end}") for end in (" again", ""))
    )
    quartiles["beyond"] = np.where(opening, quartiles["median"] - bare.astype(float), np.nan)
    return quartiles.reset_index()


def growth(rows: pd.DataFrame) -> dict[str, float]:
    """Memory at both ends and its slope by least squares in MB an interaction."""
    part = rows[rows["measure"] == "memory"]
    slope = float(np.polyfit(part["turn"], part["mb"], 1)[0])
    return {"first_mb": part["mb"].iloc[0], "last_mb": part["mb"].iloc[-1], "slope_mb": slope}


def machine() -> dict[str, Any]:
    """What the numbers depend on, and how busy it is."""
    packages = ("streamlit", "altair", "pandas", "playwright")
    return {
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        **{name: metadata.version(name) for name in packages},
    }


def text(facts: dict[str, Any], table: pd.DataFrame, grown: dict[str, float]) -> str:
    """The report in Markdown."""
    head = [
        "measure",
        "median s",
        "quartiles",
        "beyond bare s",
        "all stands s",
        "target s",
        "repeats",
        "met",
    ]
    lines = []
    for row in table.itertuples():
        beyond, whole = (
            "" if np.isnan(part) else f"{part:.2f}" for part in (row.beyond, row.whole)
        )
        met = "yes" if row.median < row.target else "no"
        quartiles = f"{row.q25:.2f}–{row.q75:.2f}"
        cells = [
            f"{row.median:.2f}",
            quartiles,
            beyond,
            whole,
            f"{row.target:g}",
            str(row.repeats),
            met,
        ]
        lines.append([row.measure, *cells])
    flat = "flat" if grown["slope_mb"] < FLAT else "growing"
    notes = [
        "- 50 x 84 tokens, 12 blocks; `python -m benchmarks.app_speed`",
        *(f"- {name}: {value}" for name, value in facts.items()),
        f"- server memory over {INTERACTIONS} interactions: {grown['first_mb']:.0f} MB to "
        f"{grown['last_mb']:.0f} MB, {grown['slope_mb'] * 1000:+.1f} kB an interaction: {flat}",
    ]
    return "\n".join(["# Speed of the app", "", *notes, "", markdown_table(head, lines), ""])


def measured(repeats: int) -> tuple[pd.DataFrame, dict[str, Any]]:
    """All rows, and the facts of the machine."""
    load = [os.getloadavg()[0]]
    with tempfile.TemporaryDirectory() as folder:
        for seed, name in enumerate(("first", "second")):
            write_everything(Path(folder) / name, IMAGES, seed, scored=True)
        with chromium() as browser, served(Path(folder)) as server, running(*BARE) as other:
            addresses = {name: f"{server.url}/{path}" for name, path in PAGES.items()}
            with visitor(browser) as page:
                first = opening(page, addresses["Image"])
            rows = [{"measure": "first open", "turn": 0, **first}]
            addresses[BARE_NAME] = other.url
            for address in addresses.values():
                with visitor(browser) as page:
                    opening(page, address)
            rows += openings(browser, addresses, repeats)
            rows += explored(browser, server, repeats)
    load.append(os.getloadavg()[0])
    return pd.DataFrame(rows), {**machine(), "load": [round(one, 2) for one in load]}


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "app-speed")
    options = parser.parse_args(words)
    rows, facts = measured(options.repeats)
    table, grown = summary(rows), growth(rows)
    report = text(facts, table, grown)
    data = {"machine": facts, "memory": grown, "rows": rows.to_dict("records")}
    prepare_folder(options.out.parent)
    data = json.loads(pd.Series(data).to_json(double_precision=4))
    write_text(options.out.with_suffix(".json"), json.dumps(data, indent=1))
    write_text(options.out.with_suffix(".md"), report)
    print(report)


if __name__ == "__main__":
    main()
