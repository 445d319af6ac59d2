"""The app driven headless: no run, one, several, an unfinished and a damaged one; no torch."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from streamlit import config
from streamlit.testing.v1 import AppTest
from support.driven import ROOT, linked, open_page, sent_ahead, texts
from support.runs import PROVENANCE, merged_trace, parts, write_foreign, write_run

from analysis.numbers import biography, usage
from analysis.pages.parts.image import play
from analysis.pages.parts.image.stage import MODES, OF_MEASURES
from analysis.pages.parts.image.view import View, run_key, token_chart
from svit.runs.run import Run, RunWriter, open_run


@pytest.fixture
def app(monkeypatch):
    """Opens the Image page on folders of runs."""
    return lambda *folders, **query: open_page(monkeypatch, "image", *folders, **query)


def grid_chart(page: AppTest) -> dict[str, pd.DataFrame]:
    """The tables of the token grid."""
    charts = page.get("vega_lite_chart") or page.get("arrow_vega_lite_chart")  # as versions name it
    for chart in charts:
        named = {dataset.name: dataset.data.data for dataset in chart.proto.datasets}
        if "tokens" in named:
            return {name: pa.ipc.open_stream(data).read_pandas() for name, data in named.items()}
    raise AssertionError("the page shows no token grid")


def chosen(page: AppTest) -> tuple[int, int]:
    """Row and column of the token with the ring."""
    return tuple(grid_chart(page)["chosen"].loc[0, ["row", "column"]])


def overlay(page: AppTest) -> str:
    return grid_chart(page)["overlay"]["url"].item()


def heading(page: AppTest) -> str:
    """The heading over the token grid."""
    return next(item.value for item in page.markdown if "##### Block" in item.value)


def test_the_file_of_the_app_may_stand_in_another_folder_than_its_pages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = tmp_path / "app.py"
    elsewhere.write_bytes((ROOT / "app.py").read_bytes())
    monkeypatch.setattr(sys, "argv", ["app.py", "--runs", str(ROOT / "demo" / "runs")])
    page = AppTest.from_file(str(elsewhere), default_timeout=60).run()
    assert not page.exception and "What if?" in {
        link.proto.label[:8] for link in page.get("page_link")
    }
    assert heading(page)


def test_without_a_run_the_page_tells_the_command(app, tmp_path):
    page = app(tmp_path)
    assert not page.exception
    assert page.title[0].value == "No recorded run yet"
    assert (
        "make demo" in texts(page) and "svit record" in texts(page) and str(tmp_path) in texts(page)
    )


def test_one_run_shows_its_first_image(app, tmp_path):
    run = write_run(tmp_path / "discs")
    page = app(tmp_path)
    assert not page.exception and not page.error and not page.warning
    assert page.subheader[0].value == "Image 1"
    trace = run.trace(1)
    assert heading(page) == f"##### Block 4 keeps {usage.keep_ratios(trace)[3]:.0%} of the tokens"
    assert "framework torchvision" in texts(page)  # provenance stands below the figures
    tables = grid_chart(page)
    assert tables["tokens"]["used"].tolist() == usage.usage(trace).ravel().tolist()
    assert tables["picture"]["url"].item().startswith("data:image/jpeg")
    assert chosen(page) == biography.eventful(trace)


def test_picture_and_map_are_sent_ahead_of_an_images_first_chart(app, tmp_path):
    write_run(tmp_path / "discs")
    page = app(tmp_path)
    for image_id in (1, 2):
        if image_id == 2:
            page.selectbox(key="image").set_value(2).run()
        [style], tables = sent_ahead(page), grid_chart(page)
        places = [style.index(tables[name]["url"].item()) for name in ("overlay", "picture")]
        assert places == sorted(places)  # the map lies above
        page.slider(key="block").set_value(10 + image_id).run()
        assert not sent_ahead(page)  # the chart stands


def test_the_slider_moves_the_shown_block(app, tmp_path):
    run = write_run(tmp_path / "discs")
    page = app(tmp_path)
    before = overlay(page)
    page.slider(key="block").set_value(11).run()
    assert not page.exception
    ratio = usage.keep_ratios(run.trace(1))[10]
    assert heading(page) == f"##### Block 11 keeps {ratio:.0%} of the tokens"
    assert overlay(page) != before


@pytest.mark.parametrize(("write", "measures"), [(write_run, False), (write_foreign, True)])
def test_every_mode_draws_another_map(app, tmp_path, write, measures):
    write(tmp_path / "discs")
    page = app(tmp_path)
    maps = []
    offered = [mode for mode in MODES if (mode in OF_MEASURES) == measures and mode != "Groups"]
    for mode in offered:
        page.session_state["mode"] = mode
        page.run()
        assert not page.exception
        maps.append(overlay(page))
    assert len(set(maps)) == len(maps) == (3 if measures else 7)


def test_a_run_that_merges_shows_who_is_carried_and_its_groups(app, tmp_path):
    trace = merged_trace(layers=12)
    image = np.random.default_rng(0).integers(0, 255, (*trace.grid.image_hw, 3), np.uint8)
    with RunWriter(tmp_path / "merged", PROVENANCE) as writer:
        writer.add(trace, image=image)
    page = app(tmp_path)
    page.query_params["token"] = "1,2"
    maps = []
    for mode in ("States", "Groups"):
        page.session_state["mode"] = mode
        page.run()
        assert not page.exception
        maps.append(overlay(page))
    assert maps[0] != maps[1]
    assert any("carried by another in" in element.value for element in page.markdown)


def test_opacity_changes_the_map_and_score_the_boxes_below(app, tmp_path):
    write_run(tmp_path / "discs")
    page = app(tmp_path)
    before = overlay(page)
    page.slider(key="opacity").set_value(0.2).run()
    assert overlay(page) != before
    pictures = shown_pictures(page)
    page.slider(key="score").set_value(0.3).run()
    assert not page.exception
    assert shown_pictures(page)[0] != pictures[0]
    assert shown_pictures(page)[1] == pictures[1]  # the closeup of the token


def shown_pictures(page: AppTest) -> list[str]:
    """Addresses of the pictures, by content: the detections, the token's closeup."""
    shown = page.get("image") or page.get("imgs")  # Streamlit before it knew them in tests
    return [item.proto.imgs[0].url for item in shown]


def test_a_click_on_a_token_tells_its_life(app, tmp_path):
    run = write_run(tmp_path / "discs")
    page = app(tmp_path)
    row, column = (side - 1 for side in run.trace(1).grid.valid_hw)
    click(page, run, row, column)
    assert not page.exception and chosen(page) == (row, column)
    life = biography.story(run.trace(1), row, column)
    assert f"in **{life.used} of 12** blocks" in texts(page)
    assert linked(page, "token") == f"{row + 1},{column + 1}"


def click(page: AppTest, run: Run, row: int, column: int, image_id: int = 1) -> None:
    """What a click on a token of an image leaves."""
    view = View(run, image_id, (*run_key(run), image_id), None)
    picked = [{"row": row, "column": column}]
    page.session_state[token_chart(view)] = {"selection": {"token": picked}}
    page.run()


def test_after_a_click_another_token_can_be_typed(app, tmp_path):
    run = write_run(tmp_path / "discs")
    page = app(tmp_path)
    click(page, run, 2, 3)
    page.number_input(key="token row").set_value(5).run()
    assert not page.exception and chosen(page) == (4, 3)


def test_a_click_on_the_same_place_of_another_image_chooses_its_token(app, tmp_path):
    run = write_run(tmp_path / "discs")
    page = app(tmp_path)
    click(page, run, 2, 3)
    assert chosen(page) == (2, 3)
    for image_id in (3, 1):
        page.selectbox(key="image").select(image_id).run()
        assert chosen(page) != (2, 3)
        click(page, run, 2, 3, image_id)
        assert not page.exception and chosen(page) == (2, 3)


def test_playing_shows_one_block_after_the_other_and_stops_at_the_last(app, tmp_path, monkeypatch):
    now = [100.0]
    monkeypatch.setattr(play, "clock", lambda: now[0])
    write_run(tmp_path / "discs")
    page = app(tmp_path)
    page.slider(key="block").set_value(10).run()
    page.button(key="play").click().run()
    assert page.button(key="play").label == "Stop"
    for block in (11, 12):
        now[0] += play.SECONDS
        page.run()
        assert not page.exception and heading(page).startswith(f"##### Block {block} ")
    assert page.button(key="play").label == "Play"
    page.button(key="play").click().run()
    assert heading(page).startswith("##### Block 1 ")


def test_a_link_frames_an_object_and_says_why_it_is_missed(app, tmp_path):
    run = write_run(tmp_path / "discs", range(1, 31))
    page = app(tmp_path, image="30", object="1", score="0.5")
    assert not page.exception and not page.warning
    box = grid_chart(page)["boxes"].query("kind == 'chosen'")
    np.testing.assert_allclose(
        box[["left", "top", "right", "bottom"]], run.target(30).boxes_xyxy[1:]
    )
    options = page.selectbox(key="object").options
    assert len(options) == 3 and options[0] == "none"
    assert options[2].endswith("missed: right, score too low (ball 0.40, IoU 1.00)")
    assert page.number_input(key="gallery_page").value == 3  # of 12 images each
    page.selectbox(key="object").set_value(0).run()
    expected = biography.token_of_object(run.trace(30), run.target(30), 0)
    assert chosen(page) == expected and linked(page, "object") == "0"
    page.selectbox(key="image").set_value(2).run()
    assert page.selectbox(key="object").value == -1 and "object" not in page.query_params
    assert page.number_input(key="gallery_page").value == 1


def test_another_image_can_be_chosen(app, tmp_path):
    write_run(tmp_path / "discs")
    page = app(tmp_path)
    choice = page.selectbox(key="image")
    assert choice.options == ["1  1.jpg", "2  2.jpg", "3  3.jpg"]
    choice.select(3).run()
    assert not page.exception and page.subheader[0].value == "Image 3"


def test_images_are_searched_and_sorted(app, tmp_path):
    write_run(tmp_path / "discs", (3, 1, 2))
    page = app(tmp_path)
    page.text_input(key="search").set_value("ball 2").run()
    assert "1 of 3 images" in texts(page)
    page.text_input(key="search").set_value("horse").run()
    assert "No image fits" in texts(page)
    page.text_input(key="search").set_value("").run()
    page.selectbox(key="order").select("Most missed objects").run()
    assert not page.exception and "3 of 3 images" in texts(page)
    page.selectbox(key="image").select(3).run()
    assert page.button(key="Previous image").disabled  # the first in recorded order
    page.button(key="Next image").click().run()
    assert page.subheader[0].value == "Image 1"


def test_a_link_restores_the_view(app, tmp_path):
    for name in ("first", "second"):
        write_run(tmp_path / name)
    view = {"run": "second", "image": "2", "block": "9", "mode": "Usage", "token": "3,4"}
    page = app(tmp_path, **view, score="0.3", search="ball", boxes="Both")
    assert not page.exception and not page.warning
    assert page.selectbox(key="run").value == "second" and page.subheader[0].value == "Image 2"
    assert heading(page).startswith("##### Block 9 ") and chosen(page) == (2, 3)
    assert page.slider(key="score").value == 0.3 and page.selectbox(key="boxes").value == "Both"
    page.slider(key="block").set_value(5).run()
    assert linked(page, "block") == "5" and linked(page, "run") == "second"


def test_wrong_values_in_a_link_are_told_and_ignored(app, tmp_path):
    write_run(tmp_path / "inside" / "run")
    write_run(tmp_path / "outside")
    page = app(
        tmp_path / "inside",
        run=str(tmp_path / "outside"),
        image="<b>9",
        block="13",
        score="7",
        token="99,1",
    )
    assert not page.exception
    told = "\n".join(item.value for item in page.warning)
    assert len(page.warning) == 4  # the token is of an image that is not here
    assert r"\<b\>9" in told and "from 0 to 1" in told
    assert page.selectbox(key="run").options == ["run"] and page.subheader[0].value == "Image 1"


def test_a_token_that_the_image_lacks_is_told_with_those_it_has(app, tmp_path):
    write_run(tmp_path / "run")
    page = app(tmp_path, token="99,1")
    assert not page.exception and "rows 1 to" in page.warning[0].value
    assert chosen(page) == biography.eventful(open_run(tmp_path / "run").trace(1))


def test_runs_are_found_in_the_chosen_folders_only(app, tmp_path):
    write_run(tmp_path / "inside" / "run")
    write_run(tmp_path / "outside")
    (tmp_path / "inside" / "link").symlink_to(tmp_path / "outside")
    assert app(tmp_path / "inside").selectbox(key="run").options == ["run"]


def test_several_runs_can_be_chosen_from_several_folders(app, tmp_path):
    write_run(tmp_path / "a" / "first", (1,))
    with RunWriter(tmp_path / "b" / "second", {**PROVENANCE, "seed": 5}) as writer:
        writer.add(**parts("cat_1.jpg", 1))
    page = app(tmp_path / "a", tmp_path / "b")
    assert page.selectbox(key="run").options == ["first", "second"]
    page.selectbox(key="run").select("second").run()
    assert not page.exception and "seed 5" in texts(page)
    assert page.subheader[0].value == r"Image cat\_1\.jpg"  # names from data are not Markdown


def test_runs_of_the_same_name_are_told_apart(app, tmp_path):
    for folder in ("a", "b"):
        write_run(tmp_path / folder / "discs", (1,))
    options = app(tmp_path / "a", tmp_path / "b").selectbox(key="run").options
    assert len(set(options)) == 2


def damage(folder: Path, how) -> None:
    write_run(folder / "run", shard_size=1)
    shard = folder / "run" / "shard-00000-000001.tokens.parquet"  # image 1
    data = bytearray(shard.read_bytes())
    shard.write_bytes(how(data))


def shorter(data: bytearray) -> bytes:
    return bytes(data[:-9])


def flipped(data: bytearray) -> bytes:
    data[40:60] = bytes(255 - byte for byte in data[40:60])
    return bytes(data)


@pytest.mark.parametrize("how", [shorter, flipped])
def test_a_corrupt_run_says_so_and_shows_the_rest_on_request(app, tmp_path, how):
    damage(tmp_path, how)
    page = app(tmp_path)
    assert not page.exception and "cannot be read as a whole" in page.error[0].value
    assert "shard-00000-000001.tokens.parquet" in texts(page)
    page.checkbox[0].check().run()
    assert not page.exception
    assert page.subheader[0].value == "Image 2" and "1 image left out" in texts(page)
    page.slider(key="block").set_value(8).run()  # the choice stays
    assert page.subheader[0].value == "Image 2"


def test_other_runs_work_beside_a_broken_one(app, tmp_path):
    write_run(tmp_path / "a")
    write_run(tmp_path / "b")
    (tmp_path / "a" / "run.json").write_text("{")
    page = app(tmp_path)
    assert not page.exception and "half-written" in texts(page)
    page.selectbox(key="run").select("b").run()
    assert not page.exception and not page.error and page.subheader[0].value == "Image 1"


def test_an_empty_run_tells_how_to_fill_it_and_lists_failures(app, tmp_path):
    with RunWriter(tmp_path / "run", {}) as writer:
        writer.add_error(5, "cannot decode", "five.jpg")
    page = app(tmp_path)
    assert not page.exception and "svit record --out" in texts(page)
    assert page.dataframe[0].value.message.tolist() == ["cannot decode"]


def test_a_run_without_pictures_detections_or_targets_is_shown(app, tmp_path):
    with RunWriter(tmp_path / "run", {}) as writer:
        writer.add(parts(1)["trace"])
    page = app(tmp_path)
    assert not page.exception
    assert "no detections" in texts(page) and "Block 1 keeps 100%" in heading(page)


def test_an_unfinished_run_grows_while_it_is_watched(app, tmp_path):
    with RunWriter(tmp_path / "run", PROVENANCE, shard_size=1) as writer:
        writer.add(**parts(1))
        page = app(tmp_path)
        assert "unfinished: 1 image" in texts(page)
        writer.add(**parts(2))
        page.run()
        assert not page.exception and "unfinished: 2 images" in texts(page)
    page.run()
    assert "unfinished" not in texts(page)
    assert open_run(tmp_path / "run").finished


def test_the_pages_leave_torch_unloaded(tmp_path):
    write_run(tmp_path / "run")
    code = (
        "import sys; from streamlit.testing.v1 import AppTest;"
        f"sys.argv = ['app.py', '--runs', {str(tmp_path)!r}];"
        "page = AppTest.from_file('app.py', default_timeout=60).run();"
        "sys.exit(bool(page.exception or page.error) or 'torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


def test_the_installed_streamlit_knows_every_option_that_the_app_sets():
    """It passes over unknown ones with a line in its log, `allowedHosts` as any other."""
    section, named = "", set()
    for line in (ROOT / ".streamlit" / "config.toml").read_text().splitlines():
        if line.startswith("["):
            section = line.strip("[]")
        elif "=" in line:
            named.add(f"{section}.{line.partition('=')[0].strip()}")
    assert len(named) > 10 and named <= set(config.get_config_options())


def test_the_server_stays_on_this_machine():
    text = (ROOT / ".streamlit" / "config.toml").read_text()
    settings = [line.split("#")[0].strip() for line in text.splitlines() if "=" in line]
    for wanted in (
        'address = "127.0.0.1"',
        "maxUploadSize = 20",
        "enableCORS = true",
        "enableXsrfProtection = true",
        'allowedHosts = ["localhost", "127.0.0.1"]',
        "gatherUsageStats = false",
        "postScriptGC = false",
        'showErrorDetails = "none"',
        'fileWatcherType = "none"',
    ):
        assert wanted in settings, wanted
