"""The sheet: links, definitions, and names from data that stay text."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from analysis.report import sheet

EVIL = "<img src=x onerror=alert(1)>"


@pytest.fixture(scope="module")
def pages(tmp_path_factory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("sheet")
    files = tuple(folder / "discs" / f"keep.{ending}" for ending in ("pdf", "png", "csv"))
    items = [
        sheet.Item("keep", "What a < b & *c* mean.", files),
        sheet.Item("lives", "", reason=f"{EVIL}: nothing to draw"),
    ]
    frames = {f"Of {EVIL}": pd.DataFrame({f"a {EVIL}": [EVIL, "x|y"]})}
    sections = [sheet.Section(EVIL, f"weights {EVIL}", items, frames)]
    return {path.name: path.read_text() for path in sheet.write(sections, folder)}


def test_names_from_data_are_text_in_both_pages(pages):
    for page, text in pages.items():
        assert text.count("onerror") == 6 and "\\<img" in text or "&lt;img" in text, page
    assert "<img src=x" not in pages["index.html"]
    assert "<img" not in pages["index.md"].replace("\\<", "")


def test_every_file_of_a_figure_is_linked_and_its_picture_shown(pages):
    for ending in ("pdf", "png", "csv"):
        assert f'<a href="discs/keep.{ending}">{ending}</a>' in pages["index.html"]
        assert f"[{ending}](<discs/keep.{ending}>)" in pages["index.md"]
    assert '<img src="discs/keep.png" alt="keep"' in pages["index.html"]
    assert "![keep](<discs/keep.png>)" in pages["index.md"]


def test_a_definition_is_printed_and_a_reason_instead_of_what_is_missing(pages):
    assert "What a &lt; b &amp; *c* mean." in pages["index.html"]
    assert "What a < b & *c* mean." in pages["index.md"]
    assert all("Not drawn: " in text for text in pages.values())


def test_the_templates_are_in_the_package():
    assert all(
        (Path(sheet.__file__).parent / name).is_file() for name in ("sheet.html", "sheet.md")
    )
