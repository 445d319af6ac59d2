"""Views saved under a name: written, opened, forgotten, and a damaged file."""

from __future__ import annotations

import json

import pytest
from support.driven import open_page, texts
from support.runs import write_run

from analysis.pages.parts import saved
from svit.system.files import FileError


@pytest.fixture
def image(monkeypatch, tmp_path):
    write_run(tmp_path / "discs")
    return lambda **query: open_page(monkeypatch, "image", tmp_path, **query)


def test_a_view_is_saved_opened_and_forgotten(image, tmp_path):
    page = image(image="2", block="9")
    page.text_input(key=saved.NAME).set_value("the *ninth*").run()
    next(one for one in page.button if one.label == "Save this view").click().run()
    assert not page.exception
    known = saved.read(tmp_path / saved.FILE)
    assert list(known) == ["the *ninth*"]
    where, query = known["the *ninth*"]
    assert where == "image" and query["image"] == "2" and query["block"] == "9"
    links = {item.proto.label: item.proto.query_string for item in page.get("page_link")}
    assert "block=9" in links["the \\*ninth\\*"]
    page.button(key="forget view the *ninth*").click().run()
    assert not page.exception and saved.read(tmp_path / saved.FILE) == {}


def test_a_view_needs_a_name(image, tmp_path):
    page = image()
    next(one for one in page.button if one.label == "Save this view").click().run()
    assert "Give the view a name" in texts(page) and not (tmp_path / saved.FILE).exists()


@pytest.mark.parametrize(
    "content", ["{", "[]", '{"a": 1}', json.dumps({"a": {"page": "../x", "query": {}}})]
)
def test_a_damaged_file_is_told_and_kept(image, tmp_path, content):
    (tmp_path / saved.FILE).write_text(content)
    with pytest.raises(FileError, match="views.json"):
        saved.read(tmp_path / saved.FILE)
    page = image()
    assert not page.exception and "save the views anew" in texts(page)
    assert (tmp_path / saved.FILE).read_text() == content
