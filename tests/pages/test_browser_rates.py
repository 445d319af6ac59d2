"""The Rates page in a real Chromium: choices, links, the ledger's filters and a download."""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd
import pytest
from support.summaries import write_result

from benchmarks.browser import settle

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def runs_folder(tmp_path_factory) -> Path:
    """A dense model and one at three keep ratios."""
    folder = tmp_path_factory.mktemp("home")
    write_result(folder / "results" / "dense", 41, 37, macs=120e9, method="dense")
    for base, box in ((0.5, 44.1), (0.7, 45.4), (0.9, 46.0)):  # at 0.7 the paper has 45.5
        write_result(folder / "results" / f"svit-{base}", box, base=base)
    (folder / "runs").mkdir()
    return folder / "runs"


def test_choices_change_chart_and_address_and_a_link_restores_them(tab, workbench):
    tab.goto(f"{workbench}/rates")
    tab.get_by_text("Measured here").wait_for()
    settle(tab)
    assert tab.locator("[data-testid=stVegaLiteChart]").count() == 2
    tab.get_by_role("radio", name="network MACs").click()
    tab.get_by_text("The paper prints no such costs").wait_for()
    settle(tab)
    assert "against=macs" in tab.url
    tab.goto(tab.url)
    tab.get_by_text("The paper prints no such costs").wait_for()
    assert tab.get_by_role("radio", name="network MACs").get_attribute("aria-checked") == "true"


def test_the_ledger_is_filtered_by_clicks_and_the_rest_is_downloaded(tab, workbench, tmp_path):
    tab.goto(f"{workbench}/rates?view=Claims")
    tab.get_by_role("button", name="confirmed", exact=True).click()
    tab.get_by_text(re.compile(r"^\d{1,2} of \d{3} claims shown")).wait_for()
    tab.wait_for_url("**verdict=confirmed**")
    settle(tab)
    with tab.expect_download() as waiting:
        tab.locator("[data-testid=stDownloadButton] button").first.click()
    waiting.value.save_as(tmp_path / "claims.csv")
    table = pd.read_csv(tmp_path / "claims.csv")
    assert waiting.value.suggested_filename == "claims.csv"
    assert set(table["verdict"]) == {"confirmed"} and len(table)
