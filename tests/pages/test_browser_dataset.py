"""The Dataset page in a real Chromium: clicks on bars, points and rows lead to images; links restore."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.runs import write_misses, write_run

from benchmarks.browser import settle

pytestmark = pytest.mark.browser
BARS = "path[aria-roledescription=bar]"


@pytest.fixture(scope="module")
def runs_folder(tmp_path_factory) -> Path:
    """A run of discs; one that misses the discs whose tokens it prunes, and one that keeps all."""
    folder = tmp_path_factory.mktemp("runs")
    write_run(folder / "discs", (1, 2, 3, 4, 5))
    write_misses(folder / "sparse")
    write_misses(folder / "wide", "dense", find=True)
    return folder


@pytest.fixture
def dataset(tab, workbench):
    """Opens a part of the page by a link, and waits until its charts stand."""

    def opened(part: str, **query: str):
        words = {"run": "discs", **query, "part": part}
        tab.goto(f"{workbench}/dataset?" + "&".join(f"{k}={v}" for k, v in words.items()))
        tab.wait_for_selector("[data-testid=stVegaLiteChart] svg")
        settle(tab)
        return tab

    return opened


def test_a_click_on_a_bar_leads_to_its_images_and_from_there_to_one(dataset):
    page = dataset("Tokens")
    chart = page.locator("[data-testid=stVegaLiteChart]").nth(1)
    chart.locator(BARS).first.click()
    page.get_by_text("Most tokens back in the next block at block 4").wait_for()
    settle(page)
    assert "at_block=4" in page.url
    page.locator("[data-testid=stPageLink] a").first.click()
    page.locator("h3", has_text="Image").wait_for()
    assert "block=4" in page.url and "run=discs" in page.url


def test_a_link_restores_part_group_and_run(dataset):
    page = dataset("Objects", **{"group_by": "class", "group": "ball"})
    page.get_by_text("Most used: ball").wait_for()
    assert page.locator("[data-testid=stPageLink]").count() == 5  # one ball an image
    page.locator("path[aria-roledescription=point]").last.click()
    page.get_by_text("Most used: background").wait_for()


def test_a_click_on_a_point_opens_its_image(dataset):
    page = dataset("Budget", **{"complexity": "area"})
    page.locator("path[aria-roledescription=circle]").first.click()
    page.locator("h3", has_text="Image").wait_for()
    assert "image=" in page.url


def test_an_error_shows_what_the_second_run_does_and_leads_to_both(dataset):
    page = dataset("Errors", run="sparse", score="0.2")
    page.locator("h5", has_text="3 missed objects").wait_for()
    table = page.locator("[data-testid=stDataFrame]").first
    table.scroll_into_view_if_needed()
    box = table.bounding_box()
    page.mouse.click(box["x"] + 18, box["y"] + 35 + 32)  # the first row's box
    page.get_by_text("Compare both runs on the image").click()
    page.locator("h5", has_text="Tokens at block").wait_for()
    settle(page)
    assert "runs=sparse%7Cwide" in page.url
