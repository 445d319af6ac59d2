"""Every page of the app on pictures in extreme shapes, recorded and uploaded."""

from __future__ import annotations

import io
from pathlib import Path
from types import SimpleNamespace

import pytest
import streamlit as st
from PIL import Image
from support.driven import open_page, texts
from support.shapes_of_pictures import SHAPES, picture_of, write_shape

PAGES = {
    "image": [{"mode": mode} for mode in ("States", "Usage", "Score")],
    "compare": [
        {"compare_part": part, "runs": "svit|dense"} for part in ("Tokens", "Objects", "Numbers")
    ],
    "dataset": [{"part": part} for part in ("Tokens", "Objects", "Errors", "Budget")],
    "rates": [{}],
    "live": [{"source": "recorded", "run": "svit"}],
}


@pytest.fixture(scope="module", params=SHAPES)
def shaped(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp(request.param)
    for method in ("svit", "dense"):
        write_shape(folder / method, SHAPES[request.param], method)
    return folder


@pytest.mark.parametrize("page", PAGES)
def test_every_page_shows_long_pictures(page: str, shaped: Path, monkeypatch) -> None:
    for query in PAGES[page]:
        app = open_page(monkeypatch, page, shaped, **query)
        assert not app.exception and not app.error, (query, app.exception, texts(app))
        # whose weights a made-up run is of nobody knows: Live says so, once, and nothing else warns
        unknown = ["which does not tell its weights" in one.value for one in app.warning]
        assert unknown == [True] * (query.get("source") == "recorded"), query


@pytest.mark.parametrize("shape", SHAPES)
def test_a_long_picture_may_be_uploaded(shape: str, tmp_path: Path, monkeypatch) -> None:
    stream = io.BytesIO()
    Image.fromarray(picture_of(SHAPES[shape])[0]).save(stream, "PNG")

    def uploader(*words: object, key: str, on_change: object, **options: object) -> None:
        st.session_state[key] = SimpleNamespace(name="long.png", getvalue=stream.getvalue)
        on_change()

    monkeypatch.setattr("streamlit.file_uploader", uploader)
    app = open_page(monkeypatch, "live", tmp_path, source="upload")
    assert not app.exception and not app.error, texts(app)
    assert "Objects found" in [one.label for one in app.metric]
