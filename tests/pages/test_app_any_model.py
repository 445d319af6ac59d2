"""The app on a run that tells little: every page stands, and says what is not known."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.driven import charts, open_page, texts
from support.runs import write_foreign, write_run

from analysis.pages.parts.image.stage import MODES, OF_MEASURES
from svit.runs.run import RunWriter


@pytest.mark.parametrize("page", ["image", "compare", "dataset", "rates", "live"])
def test_no_page_fails_on_runs_of_models_that_are_not_ours(
    page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_foreign(tmp_path / "one"), write_foreign(tmp_path / "two")
    app = open_page(monkeypatch, page, tmp_path, compare_part="Numbers")
    assert not app.exception, app.exception
    assert all('"description"' in spec for spec in charts(app)), "readers hear what a chart shows"
    if page in ("image", "dataset"):
        assert "The run states no target." in texts(app)
    if page == "compare":
        assert "have torch count them" in texts(app)


def test_the_image_page_shows_measures_where_a_run_has_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_foreign(tmp_path / "theirs"), write_run(tmp_path / "ours")
    app = open_page(monkeypatch, "image", tmp_path / "theirs", mode="Update")
    (modes,) = (one for one in app.get("button_group") if one.key == "mode")
    assert [*modes.options] == [mode for mode in MODES if mode != "Groups"] and not app.exception
    assert app.session_state["mode"] == "Update"
    app = open_page(monkeypatch, "image", tmp_path / "theirs")
    assert app.session_state["mode"] == "Update", "nothing is pruned, so states show nothing"
    app = open_page(monkeypatch, "image", tmp_path / "ours", mode="Update")
    (modes,) = (one for one in app.get("button_group") if one.key == "mode")
    assert not set(OF_MEASURES) & set(modes.options) and app.session_state["mode"] == "States"


def test_an_empty_run_of_a_module_is_filled_by_a_command_that_names_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    RunWriter(tmp_path / "run", {"model": "theirs:build", "host": {}}).close()
    app = open_page(monkeypatch, "image", tmp_path)
    assert not app.exception and "svit record --module theirs:build --out" in texts(app)
