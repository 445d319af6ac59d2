"""What a researcher asks, from the first click to the answer, in a real Chromium; actions are counted.

With `SVIT_SCREENS` naming a folder every end of a journey is pictured there in three sizes and both themes.
"""

from __future__ import annotations

import io
import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from analysis.figures import palette
from benchmarks import ROOT
from benchmarks.browser import opened, settle
from svit.live.pictures import drawn
from svit.runs.run import open_run

pytestmark = pytest.mark.browser
SIZES, SCREENS = ((1440, 900), (1024, 768), (390, 844)), "SVIT_SCREENS"
RUN = "svit-plain-nano"
FIRST_ROW = (18, 35 + 32)  # of a table, from its corner: the box that chooses it


@pytest.fixture(scope="module")
def runs_folder(tmp_path_factory) -> Path:
    """A copy of the demo's runs, into which another one may be kept."""
    folder = tmp_path_factory.mktemp("demo") / "runs"
    shutil.copytree(ROOT / "demo" / "runs", folder)
    return folder


class Journey:
    """A viewer who acts: every method but `see` is one action."""

    def __init__(self, page, address: str) -> None:
        self.page, self.actions = page, 0
        page.goto(address)
        page.wait_for_selector("[data-testid=stMain] :is(h3, h4)")
        settle(page)

    def see(self, text: str | re.Pattern):
        """Waits for a text of the main part."""
        found = self.page.get_by_test_id("stMain").get_by_text(text).first
        found.wait_for()
        settle(self.page)
        return found

    def go(self, page: str) -> None:
        """A page of the menu."""
        menu = self.page.get_by_test_id("stSidebarNav")
        self._act(menu.get_by_role("link", name=page, exact=True).click)

    def click(self, role: str, name: str | re.Pattern) -> None:
        self._act(self.page.get_by_role(role, name=name).first.click)

    def row(self) -> None:
        """The first row of the first table."""
        table = self.page.get_by_test_id("stDataFrame").first
        table.scroll_into_view_if_needed()
        box = table.bounding_box()
        places = [box[name] + reach for name, reach in zip("xy", FIRST_ROW, strict=True)]
        self._act(lambda: self.page.mouse.click(*places))

    def upload(self, picture: bytes) -> None:
        file = {"name": "mine.png", "mimeType": "image/png", "buffer": picture}
        self._act(lambda: self.page.locator("input[type=file]").set_input_files(file))

    def download(self, button: str):
        """The file that a button of the main part gives."""
        with self.page.expect_download() as waiting:
            main = self.page.get_by_test_id("stMain")
            self._act(main.get_by_role("button", name=button).first.click)
        return waiting.value

    def _act(self, act) -> None:
        act()
        self.actions += 1
        settle(self.page)


def pictured(browser, address: str, name: str) -> None:
    """The page of an address in all sizes and themes, where pictures are asked for."""
    folder = os.environ.get(SCREENS)
    for size in SIZES if folder else ():
        for dark in (False, True):
            with opened(browser, size, dark) as page:
                Journey(page, address)
                page.wait_for_timeout(2000)  # charts are drawn after the page is ready
                file = f"{name}-{size[0]}-{'dark' if dark else 'light'}.png"
                page.screenshot(path=Path(folder) / file)


def test_why_an_object_was_missed_and_whether_its_tokens_bring_it_back(browser, tab, workbench):
    journey = Journey(tab, f"{workbench}/?run={RUN}")
    journey.go("Dataset")
    journey.click("radio", "Errors")
    journey.see(re.compile(r"^\d+ missed objects"))
    journey.row()
    why = journey.see(re.compile(r"^Nearest: \w+, score 0\.\d\d, IoU 0\.\d\d")).inner_text()
    listed = tab.url
    journey.click("link", "Open the image with it")
    journey.see("Token biography")
    box = tab.get_by_role("combobox", name=re.compile("Object")).first
    said = box.input_value() or box.get_attribute("aria-label")
    named, score, iou = re.match(r"Nearest: (\w+), score (\S+), IoU (\d\.\d\d)", why).groups()
    assert f"{named} {score}, IoU {iou}" in said, said
    image = tab.url
    journey.click("link", re.compile("What if"))
    journey.see("Objects found")
    journey.click("button", "Keep its tokens")
    journey.see(re.compile(r"tokens of the \w+ at .* on in blocks"))
    assert journey.actions <= 6
    cells = tab.get_by_test_id("stDataFrame").locator("td")
    told = [one.text_content() for one in cells.all()]
    effects = [
        (one, *told[place + 1 : place + 3])
        for place, one in enumerate(told)
        if one in ("missed both times", "gained")
    ]
    # the score before is below the limit, and told
    assert any(re.fullmatch(r"0\.\d\d", before) for _, before, _ in effects), told
    for name, address in (
        ("missed-list", listed),
        ("missed-image", image),
        ("missed-live", tab.url),
    ):
        pictured(browser, address, name)


def test_two_models_are_compared(browser, tab, workbench):
    journey = Journey(tab, f"{workbench}/?run={RUN}")
    journey.go("Compare")
    journey.see(re.compile("^Tokens at block"))
    assert journey.actions <= 3
    panels = tab.locator("[data-testid=stVegaLiteChart] canvas").first
    panels.wait_for()
    shot = np.asarray(Image.open(io.BytesIO(panels.screenshot())).convert("RGB"))
    assert len(np.unique(shot.reshape(-1, 3), axis=0)) > 200  # a picture under a map, not a blank
    pictured(browser, tab.url, "compare")


def test_bars_of_compute_have_room_on_a_phone(browser, workbench):
    """Names beside them and a legend of one column left them no height."""
    with opened(browser, (390, 1600)) as page:
        page.goto(f"{workbench}/compare?runs={RUN}|{RUN}-random&compare_part=Numbers")
        chart = page.locator("[data-testid=stVegaLiteChart]").first
        chart.wait_for()
        settle(page)
        page.wait_for_timeout(1500)
        shot = np.asarray(Image.open(io.BytesIO(chart.screenshot())).convert("RGB")).astype(int)
    ink = [int(palette.MODULES["blocks"][place : place + 2], 16) for place in (1, 3, 5)]
    bars = (np.abs(shot - ink).sum(axis=2) < 40).sum(axis=1) > 30  # wider than a legend's symbol
    assert bars.sum() > 2 * 10


def test_a_photograph_becomes_a_kept_run(browser, tab, workbench, runs_folder):
    stream = io.BytesIO()
    Image.fromarray(drawn(5_000_007).pixels).save(stream, "PNG")
    journey = Journey(tab, f"{workbench}/?run={RUN}")
    journey.go("Live")
    journey.click("radio", "Upload")
    journey.upload(stream.getvalue())
    journey.see("Objects found")
    journey.click("button", "All on")
    journey.see(re.compile("on in blocks 4–12"))
    journey._act(tab.get_by_text("Keep the result as a run").click)
    journey.click("button", re.compile("^Keep$"))
    journey.see("Kept as")
    assert journey.actions <= 6
    kept = open_run(runs_folder / "what-if")
    assert len(kept) == 1 and "on in blocks 4–12" in kept.provenance["edits"][0]
    shutil.rmtree(runs_folder / "what-if")


def test_a_curve_is_taken_away_as_pdf_and_as_csv(browser, tab, workbench, tmp_path):
    journey = Journey(tab, f"{workbench}/dataset?run={RUN}&part=Tokens")
    journey.see("What becomes of pruned tokens")
    journey.download("PDF").save_as(tmp_path / "curve.pdf")
    journey.download("CSV").save_as(tmp_path / "curve.csv")
    assert journey.actions <= 2
    assert (tmp_path / "curve.pdf").read_bytes().startswith(b"%PDF")
    assert len((tmp_path / "curve.csv").read_text().splitlines()) > 1
    pictured(browser, f"{workbench}/rates", "rates")


def test_a_link_shows_a_fresh_visitor_what_was_seen(browser, tab, workbench):
    query = f"run={RUN}&image=1005000003&block=8&mode=Used&opacity=0.6&score=0.3&token=4,5"
    journey = Journey(tab, f"{workbench}/?{query}")
    journey.see(re.compile("^Block 8 keeps"))
    seen, link = facts(tab), tab.url
    with opened(browser) as fresh:
        Journey(fresh, link).see(re.compile("^Block 8 keeps"))
        assert facts(fresh) == seen
        assert fresh.url == link


def facts(page) -> list[str]:
    """Headings, numbers and choices on the page."""
    told = [one.inner_text() for one in page.locator("h3, h5").all()]
    fields = page.locator("[data-testid=stMain] input").all()
    return told + [one.input_value() for one in fields]
