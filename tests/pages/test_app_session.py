"""One view on all pages, driven headless: links, Back, touches while an old address arrives, defaults."""

from __future__ import annotations

import io

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image
from streamlit.testing.v1 import AppTest
from support.driven import linked, open_page, texts
from support.runs import PROVENANCE, parts, write_dense, write_run

from analysis.pages.parts import session
from analysis.pages.parts import state as states
from svit.runs.run import RunWriter


@pytest.fixture
def image(monkeypatch, tmp_path):
    """Opens the Image page on the test's folder."""
    return lambda **query: open_page(monkeypatch, "image", tmp_path, **query)


def address(page: AppTest) -> dict[str, str]:
    return {name: linked(page, name) for name in page.query_params}


def follow(page: AppTest, query: dict[str, str]) -> None:
    """What Back, Forward or a link within the app do: another address in the same session."""
    page.query_params.clear()
    for name, value in query.items():
        page.query_params[name] = value
    page.run()


def test_back_to_a_bare_address_shows_the_page_as_it_was_and_leaves_the_address_bare(
    image, tmp_path
):
    write_run(tmp_path / "discs")
    page = image()
    page.slider(key="block").set_value(6).run()
    follow(page, {})
    assert page.slider(key="block").value == 6
    assert not page.query_params
    page.slider(key="block").set_value(7).run()
    assert address(page)["block"] == "7"


def test_what_a_run_that_was_cut_short_left_behind_keeps_no_address_from_being_written(
    image, tmp_path
):
    write_run(tmp_path / "discs")
    page = image()
    seen = page.session_state[session.STATE]
    page.session_state[session.BARE] = states.changed(seen, block=6)
    page.slider(key="block").set_value(6).run()
    assert address(page)["block"] == "6"


def test_back_brings_the_view_of_the_address_and_a_link_leaves_what_it_does_not_name(
    image, tmp_path
):
    write_run(tmp_path / "discs")
    page = image()
    first = address(page)
    page.slider(key="block").set_value(9).run()
    page.text_input(key="search").set_value("ball").run()
    assert address(page) == first | {"block": "9", "search": "ball"}
    follow(page, first)  # written by this session: no search was made then
    assert page.slider(key="block").value == 4 and page.text_input(key="search").value == ""
    page.slider(key="opacity").set_value(0.3).run()
    follow(page, session.link(image="2", block=7, token=None))
    assert page.subheader[0].value == "Image 2" and page.slider(key="block").value == 7
    assert page.slider(key="opacity").value == 0.3 and linked(page, "opacity") == "0.3"
    assert not page.exception and not page.warning


def test_an_old_address_under_way_undoes_no_touch(image, tmp_path):
    write_run(tmp_path / "discs")
    page = image()
    old = address(page)
    page.slider(key="block").set_value(9).run()
    page.slider(key="block").set_value(10)  # before the browser has the new address
    follow(page, old)
    assert page.slider(key="block").value == 10 and linked(page, "block") == "10"


def test_only_a_link_is_told_that_what_it_asks_for_is_not_here(image, tmp_path):
    write_run(tmp_path / "discs")
    with RunWriter(tmp_path / "other", {**PROVENANCE, "seed": 5}) as writer:
        writer.add(**parts("cat", 1))
    page = image(image="3")
    page.selectbox(key="run").select("other").run()
    assert page.subheader[0].value == "Image cat" and not page.warning
    page = image(run="other", image="3")
    assert "image “3”, which is not here" in page.warning[0].value


def test_the_link_of_the_view_is_shown_with_what_it_cannot_hold(monkeypatch, tmp_path):
    page = open_page(monkeypatch, "live", tmp_path, source="upload", block="7")
    next(one for one in page.button if one.label == "Link to this view").click().run()
    assert not page.exception and "block=7" in page.code[-1].value
    assert "uploaded picture stays behind" in texts(page)


def test_a_run_that_live_kept_is_never_the_first(image, tmp_path):
    with RunWriter(tmp_path / "a-what-if", {**PROVENANCE, "edits": ["no reactivation"]}) as writer:
        writer.add(**parts(77, 1))
    write_run(tmp_path / "run")
    page = image()
    assert page.selectbox(key="run").options == ["run", "a-what-if"]
    assert page.selectbox(key="run").value == "run"


def test_compare_opens_on_the_first_pair_that_can_be_laid_over_each_other(monkeypatch, tmp_path):
    with RunWriter(tmp_path / "a-what-if", {**PROVENANCE, "edits": []}) as writer:
        writer.add(**parts(77, 1))
    with RunWriter(tmp_path / "alone", PROVENANCE) as writer:
        writer.add(**parts("cat", 1))
    write_run(tmp_path / "one")
    write_dense(tmp_path / "two", (1, 2))
    page = open_page(monkeypatch, "compare", tmp_path)
    assert not page.exception and page.multiselect(key="runs").value == ["one", "two"]


@pytest.mark.parametrize("page", ["image", "compare", "dataset", "live"])
def test_an_empty_folder_greets_in_the_main_column(monkeypatch, tmp_path, page):
    shown = open_page(monkeypatch, page, tmp_path, source="recorded")
    assert not shown.exception and shown.main.title[0].value == "No recorded run yet"
    assert "make demo" in [code.value for code in shown.main.code]


def test_links_to_runs_elsewhere_are_told_with_the_way_to_see_them(image, tmp_path):
    elsewhere = tmp_path.parent / f"{tmp_path.name}-elsewhere"
    write_run(elsewhere / "far")
    (tmp_path / "link").symlink_to(elsewhere / "far")
    page = image()
    assert "1 link to runs elsewhere left out" in texts(page) and f"{elsewhere}" in texts(page)
    write_run(tmp_path / "near")
    page = image()
    assert page.selectbox(key="run").options == ["near"] and "link to runs" in texts(page)


def test_an_upload_outlives_its_page_and_says_what_the_model_knows(monkeypatch, tmp_path):
    stream = io.BytesIO()
    Image.fromarray(np.full((200, 200, 3), 120, np.uint8)).save(stream, "PNG")
    page = open_page(monkeypatch, "live", tmp_path, source="upload")
    page.file_uploader(key="file").set_value(("mine.png", stream.getvalue(), "image/png")).run()
    said = texts(page).replace("\\", "")
    assert "Trained to find 8 classes: circle" in said and "Processed at 256 x 256 pixels" in said
    page.switch_page("analysis/pages/rates.py").run()
    page.switch_page("analysis/pages/live.py").run()
    assert not page.exception and "Still here: mine" in texts(page)
    assert any(one.label == "Objects found" for one in page.metric)


def test_usage_maps_in_place_of_small_pictures_stay_from_page_to_page(monkeypatch, tmp_path):
    write_run(tmp_path / "discs")
    page = open_page(monkeypatch, "image", tmp_path)
    before = tiles(page)
    page.toggle(key="maps").set_value(True).run()
    assert not page.exception and linked(page, "maps") == "True"
    assert not set(tiles(page)) & set(before)
    page.toggle(key="maps").set_value(False).run()
    assert tiles(page) == before and "maps" not in page.query_params
    there = open_page(monkeypatch, "dataset", tmp_path, part="Images", maps="True")
    assert not there.exception and there.toggle(key="maps").value


def tiles(page: AppTest) -> list[str]:
    """Addresses of the small pictures in the sidebar."""
    sent = [one.proto.data.data for one in page.get("vega_lite_chart")]
    tables = [pa.ipc.open_stream(data).read_pandas() for data in sent if data]
    (found,) = (table for table in tables if "tile" in table)
    return found["url"].tolist()
