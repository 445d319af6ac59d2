"""What the benchmark of the app on thousands of images opens, and how it tells it."""

from __future__ import annotations

import os
import time

import pandas as pd
from support.driven import open_page
from support.runs import write_run

from benchmarks import app_scale


def test_every_view_of_the_dataset_page_is_opened(monkeypatch, tmp_path):
    write_run(tmp_path / "discs")
    page = open_page(monkeypatch, "dataset", tmp_path)
    (parts,) = (one for one in page.button_group if one.key == "part")
    assert tuple(parts.options) == app_scale.VIEWS


def test_processor_seconds_are_of_the_process_named():
    before, end = app_scale._spent(os.getpid()), time.process_time() + 0.05
    while time.process_time() < end:
        pass
    assert 0.03 <= app_scale._spent(os.getpid()) - before < 1


def test_the_report_has_a_row_a_view_and_the_load():
    table = pd.DataFrame([{"view": "Image", "first s": 1.234, "first CPU s": 2.0}])
    text = app_scale.report(table, 5000, 0.25)
    assert "| Image | 1.23 | 2.00 |" in text and "5,000 images" in text and "0.25" in text
