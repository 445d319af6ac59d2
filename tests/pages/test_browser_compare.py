"""The Compare page in a real Chromium: one slider and one click for all panels, links, differences."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.runs import write_dense, write_run

from benchmarks.browser import opened, settle

pytestmark = pytest.mark.browser
PANELS = ".st-key-panels-room"


@pytest.fixture(scope="module")
def runs_folder(tmp_path_factory) -> Path:
    """A run that keeps all and one that prunes, on the same images."""
    folder = tmp_path_factory.mktemp("runs")
    write_dense(folder / "dense")
    write_run(folder / "sparse", (1, 2, 3))
    return folder


@pytest.fixture
def compare(tab, workbench):
    """Opens the page of both runs by a link, and waits until it stands still."""

    def opened(**query: str):
        words = {"runs": "dense|sparse", "image": "1", **query}
        tab.goto(f"{workbench}/compare?" + "&".join(f"{k}={v}" for k, v in words.items()))
        tab.wait_for_selector("[data-testid=stVegaLiteChart]")
        settle(tab)
        return tab

    return opened


def panels(page) -> list[np.ndarray]:
    """The pixels of both token panels, RGB."""
    page.mouse.move(5, 5)  # no cursor over a token
    page.wait_for_timeout(800)  # a chart takes its new tables in a moment
    shot = Image.open(io.BytesIO(page.locator(PANELS).first.screenshot())).convert("RGB")
    within = [(0.02, 0.42), (0.53, 0.89)]  # of the chart's width, for this shape of images
    width, height = shot.size
    boxes = [(int(a * width), height // 3, int(b * width), height - 30) for a, b in within]
    return [np.asarray(shot.crop(box)).astype(int) for box in boxes]


@pytest.mark.parametrize("part", ["Tokens", "Objects"])
def test_panels_stack_on_a_phone_and_leave_no_gap_below(browser, workbench, part):
    room = ".st-key-panels-room" if part == "Tokens" else ".st-key-objects-room"
    with opened(browser, (390, 1600)) as page:
        page.goto(f"{workbench}/compare?runs=dense|sparse&image=1&compare_part={part}")
        page.wait_for_selector("[data-testid=stVegaLiteChart]")
        settle(page)
        page.wait_for_timeout(800)
        shot = Image.open(io.BytesIO(page.locator(room).screenshot())).convert("RGB")
        wide = page.evaluate("document.documentElement.scrollWidth")
    assert wide <= 390
    drawn = (np.asarray(shot).astype(int).sum(axis=2) < 600).mean(axis=1) > 0.6  # rows of pictures
    ends = np.flatnonzero(np.diff(np.r_[False, drawn, False].astype(int)))
    tall = [end - start for start, end in zip(ends[::2], ends[1::2]) if end - start > 100]
    assert len(tall) == 2 and abs(tall[0] - tall[1]) <= 3
    assert shot.height - ends[-1] < 72


def heading(page, start: str):
    return page.locator("h5", has_text=start)


def test_one_slider_moves_every_panel_and_the_pruning_run_differs(compare):
    page = compare(runs="sparse|sparse-again|dense".replace("sparse-again|", ""), block="4")
    heading(page, "Tokens at block 4").wait_for()
    before = panels(page)
    page.get_by_role("slider", name="Block").focus()
    for _ in range(8):
        page.keyboard.press("ArrowRight")
    heading(page, "Tokens at block 12").wait_for()
    settle(page)
    after = panels(page)
    changed = [np.abs(new - old).mean() for new, old in zip(after, before, strict=True)]
    assert changed[0] > 5 and changed[1] < 2  # the dense run shows the picture at every block
    assert "block=12" in page.url


def test_a_click_shows_the_token_in_every_run_and_the_link_restores_it(compare):
    page = compare()
    box = page.locator(PANELS).first.bounding_box()
    page.mouse.click(box["x"] + 0.25 * box["width"], box["y"] + 0.6 * box["height"])
    heading(page, "Token in row").wait_for()
    settle(page)
    said = heading(page, "Token in row").inner_text()
    assert "token=" in page.url
    page.goto(page.url)
    heading(page, "Token in row").wait_for()
    assert heading(page, "Token in row").inner_text() == said


def test_the_difference_of_two_runs_is_shown_and_another_view_can_be_chosen(compare):
    page = compare(shown="Difference", block="12")
    heading(page, "Against the first run at block 12").wait_for()
    pink = [(np.abs(one - [220, 38, 127]).sum(axis=2) < 120).mean() for one in panels(page)]
    assert pink[1] > pink[0] + 0.2  # tokens that only the first run uses
    page.get_by_text("Agreement", exact=True).click()
    heading(page, "Agreement at block 12").wait_for()


def test_a_row_of_the_table_opens_its_image(compare):
    page = compare(compare_part="Numbers")
    page.get_by_text("Select a row to open its image above.").scroll_into_view_if_needed()
    table = page.locator("[data-testid=stDataFrame]").last
    box = table.bounding_box()
    page.mouse.click(box["x"] + 18, box["y"] + 35 * 2 + 17)  # the second row's box
    page.wait_for_function("!document.querySelector('h3').innerText.includes('Image 1')")
    page.wait_for_function("!location.search.includes('image=1')")
