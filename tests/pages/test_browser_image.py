"""The Image page in a real Chromium: clicks, keys, links, two visitors. Errors on the console fail."""

from __future__ import annotations

import io
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.runs import write_run

from analysis.numbers import biography, usage
from analysis.pages.parts.image import stage
from analysis.pages.parts.image.life import told
from benchmarks.browser import READY, opened, settle
from svit.runs.run import Run, open_run

pytestmark = pytest.mark.browser
PAINTED = (
    "(box => box && getComputedStyle(box, '::before').backgroundImage.includes('data:'))("
    "document.querySelector('.st-key-stage'))"
)
GRID = "[data-testid=stMain] .vega-embed canvas"


@pytest.fixture(scope="module")
def runs_folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    for name in ("first", "second"):
        write_run(folder / name)
    return folder


@pytest.fixture
def run(runs_folder) -> Run:
    return open_run(runs_folder / "first")


def visit(tab, address: str) -> None:
    tab.goto(address)
    tab.wait_for_selector(GRID)
    settle(tab)


def see(tab, text: str | re.Pattern) -> None:
    """Waits until the page's main part shows a text."""
    tab.get_by_test_id("stMain").get_by_text(text).first.wait_for()
    settle(tab)


def entered(tab) -> tuple[int, int]:
    """Row and column in the two fields."""
    return tuple(
        int(tab.get_by_role("spinbutton", name=name).input_value()) for name in ("Row", "Column")
    )


def test_views_stay_when_pages_change_before_anything_is_touched(tab, workbench):
    visit(tab, workbench)
    tab.wait_for_url("**boxes=**")
    first = tab.url
    for name, address in (("Compare", "**/compare?**token=**"), ("Image", "**boxes=**")):
        tab.get_by_role("link", name=name, exact=True).first.click()
        tab.wait_for_url(address)
        settle(tab)
        assert "score=0.5" in tab.url and "opacity=0.8" in tab.url and "block=4" in tab.url
    assert tab.url == first


def test_a_click_on_a_token_tells_its_life(tab, workbench, run):
    visit(tab, workbench)
    before = entered(tab)
    assert before == tuple(place + 1 for place in biography.eventful(run.trace(1)))
    box = tab.locator(GRID).bounding_box()
    tab.mouse.move(box["x"] + 0.5 * box["width"], box["y"] + 0.7 * box["height"], steps=3)
    tip = tab.locator("#vg-tooltip-element")
    tip.wait_for()
    row, column = map(int, re.findall(r"\d+", tip.inner_text())[:2])
    tab.mouse.down()
    tab.mouse.up()
    tab.wait_for_function(f"new URL(location).searchParams.get('token') == '{row},{column}'")
    life = biography.story(run.trace(1), row - 1, column - 1)
    see(tab, re.compile(re.escape(told(life).replace("**", ""))))
    assert entered(tab) == (row, column) != before


def test_the_picture_is_painted_before_charts_can_be_and_where_its_chart_will_stand(tab, workbench):
    held = []
    tab.route("**/embed*.js", lambda route: held.append(route))  # what draws charts
    tab.goto(workbench)
    tab.wait_for_selector(READY)
    tab.wait_for_function(PAINTED)
    ahead = still(tab)
    assert held and not tab.locator(GRID).count()
    for route in held:
        route.continue_()
    tab.unroute("**/embed*.js")
    tab.wait_for_selector(GRID)
    settle(tab)
    assert np.corrcoef(ahead.ravel(), still(tab).ravel())[0, 1] > 0.9


def still(tab) -> np.ndarray:
    """The upper part of the picture in coarse grey squares, once they no longer change."""
    seen = np.zeros(0)
    for _ in range(40):
        before, seen = seen, _upper(tab)
        if np.array_equal(before, seen):
            return seen
        tab.wait_for_timeout(500)
    raise AssertionError("the picture did not come to rest in 20 s")


def _upper(tab) -> np.ndarray:
    """300 pixels below the stage's legend as 19 x 40 means: a shift of few pixels hardly shows."""
    box = tab.locator(".st-key-stage").bounding_box()
    left, top = box["x"], box["y"] + stage.LEGEND
    pixels = Image.open(io.BytesIO(tab.screenshot())).convert("L")
    part = (left, top, left + box["width"], top + 300)
    return np.asarray(pixels.resize((40, 19), Image.Resampling.BOX, part), float)


def test_an_arrow_key_moves_the_block(tab, workbench, run):
    visit(tab, workbench)
    before = tab.locator(GRID).screenshot()
    tab.get_by_role("slider").first.focus()
    tab.keyboard.press("ArrowRight")
    see(tab, f"Block 5 keeps {usage.keep_ratios(run.trace(1))[4]:.0%} of the tokens")
    assert "block=5" in tab.url
    assert tab.locator(GRID).screenshot() != before


def test_a_link_restores_the_view(tab, workbench):
    view = "run=second&image=2&block=9&mode=Usage&token=3%2C4&score=0.3&boxes=Both"
    visit(tab, f"{workbench}/?{view}")
    see(tab, "Block 9 keeps")
    see(tab, "Image 2")
    assert entered(tab) == (3, 4)
    chosen = tab.get_by_role("radio", name="Usage", exact=True)
    assert chosen.get_attribute("aria-checked") == "true"
    tab.reload()
    tab.wait_for_selector(GRID)
    see(tab, "Block 9 keeps")
    assert entered(tab) == (3, 4)


def test_the_gallery_and_a_key_choose_the_image(tab, workbench):
    visit(tab, workbench)
    gallery = tab.get_by_test_id("stSidebar").locator(".vega-embed svg, .vega-embed canvas")
    box = gallery.bounding_box()
    tab.mouse.click(box["x"] + box["width"] / 6, box["y"] + 25)  # the first in recorded order
    see(tab, "Image 3")
    tab.keyboard.press("n")
    see(tab, "Image 1")


def test_playing_ends_at_the_last_block(tab, workbench):
    visit(tab, f"{workbench}/?block=10")
    tab.get_by_role("button", name="Play").click()
    see(tab, "Block 11 keeps")
    see(tab, "Block 12 keeps")
    tab.get_by_role("button", name="Play").wait_for()


def test_two_visitors_see_their_own_view(tab, workbench, browser, run):
    with opened(browser, (1024, 768), dark=True) as other:
        visit(tab, f"{workbench}/?run=first&image=1&block=4")
        visit(other, f"{workbench}/?run=second&image=2&block=8")
        for page in (tab, other):
            page.get_by_role("slider").first.focus()
            page.keyboard.press("ArrowRight")
        see(other, "Block 9 keeps")
        see(tab, f"Block 5 keeps {usage.keep_ratios(run.trace(1))[4]:.0%}")
        see(other, "Image 2")
        see(tab, "Image 1")


def test_the_gallery_is_walked_without_a_mouse(tab, workbench):
    visit(tab, workbench)
    names = tab.locator(".st-key-gallery-keys button")
    clip = "getComputedStyle(document.querySelector('.st-key-gallery-keys')).clipPath"
    assert tab.evaluate(clip) == "inset(50%)"
    names.nth(1).focus()
    assert tab.evaluate(clip) == "none"
    chosen = names.nth(1).inner_text()
    tab.keyboard.press("Enter")
    see(tab, f"Image {chosen}")
