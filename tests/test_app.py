"""The app driven headless: no run, one, several, an unfinished and a damaged one; no torch."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from runs import PROVENANCE, parts, write_run
from streamlit.testing.v1 import AppTest

from analysis import metrics
from svit.store import RunWriter, open_run

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def app(monkeypatch):
    """Starts the app on folders of runs."""

    def start(*folders: Path) -> AppTest:
        arguments = ["--runs", *map(str, folders)] if folders else []
        monkeypatch.setattr(sys, "argv", ["app.py", *arguments])
        return AppTest.from_file(str(ROOT / "app.py"), default_timeout=60).run()

    return start


def texts(page: AppTest) -> str:
    elements = [*page.markdown, *page.caption, *page.subheader, *page.text, *page.code, *page.title]
    return "\n".join(element.value for element in [*elements, *page.error, *page.info])


def pictures(page: AppTest) -> list[str]:
    """Addresses of the pictures, by content: usage, detections, layer."""
    shown = page.get("image") or page.get("imgs")  # Streamlit before it knew them in tests
    return [item.proto.imgs[0].url for item in shown]


def heading(page: AppTest) -> str:
    """The heading over the picture of one layer."""
    return next(item.value for item in page.markdown if "##### Block" in item.value)


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
    assert not page.exception and not page.error
    assert page.subheader[0].value == "Image 1"
    ratio = metrics.keep_ratios(run.trace(1))[3]
    assert heading(page) == f"##### Block 4 keeps {ratio:.0%} of the tokens"
    assert "framework torchvision" in texts(page)  # provenance stands below the figures
    assert len(pictures(page)) == 3


def test_the_slider_moves_the_shown_layer(app, tmp_path):
    run = write_run(tmp_path / "discs")
    page = app(tmp_path)
    before = pictures(page)[2]
    page.slider(key="block of 12").set_value(11).run()
    assert not page.exception
    ratio = metrics.keep_ratios(run.trace(1))[10]
    assert heading(page) == f"##### Block 11 keeps {ratio:.0%} of the tokens"
    assert pictures(page)[2] != before


def test_score_and_opacity_change_their_pictures_only(app, tmp_path):
    write_run(tmp_path / "discs")
    page = app(tmp_path)
    urls = pictures(page)
    page.slider(key="score").set_value(0.3).run()
    page.slider(key="opacity").set_value(0.2).run()
    assert not page.exception
    after = pictures(page)
    assert after[0] != urls[0] and after[1] != urls[1] and after[2] == urls[2]


def test_another_image_can_be_chosen(app, tmp_path):
    write_run(tmp_path / "discs")
    page = app(tmp_path)
    choice = page.sidebar.selectbox[1]
    assert choice.options == ["1  1.jpg", "2  2.jpg", "3  3.jpg"]
    choice.select(3).run()
    assert not page.exception and page.subheader[0].value == "Image 3"


def test_several_runs_can_be_chosen_from_several_folders(app, tmp_path):
    write_run(tmp_path / "a" / "first", (1,))
    with RunWriter(tmp_path / "b" / "second", {**PROVENANCE, "seed": 5}) as writer:
        writer.add(**parts("cat_1.jpg", 1))
    page = app(tmp_path / "a", tmp_path / "b")
    assert page.sidebar.selectbox[0].options == ["first", "second"]
    page.sidebar.selectbox[0].select(tmp_path / "b" / "second").run()
    assert not page.exception and "seed 5" in texts(page)
    assert page.subheader[0].value == r"Image cat\_1\.jpg"  # names from data are not Markdown


def test_runs_of_the_same_name_are_told_apart(app, tmp_path):
    for folder in ("a", "b"):
        write_run(tmp_path / folder / "discs", (1,))
    options = app(tmp_path / "a", tmp_path / "b").sidebar.selectbox[0].options
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
    assert page.subheader[0].value == "Image 2" and "1 images left out" in texts(page)
    page.slider(key="block of 12").set_value(8).run()  # the choice stays
    assert page.subheader[0].value == "Image 2"


def test_other_runs_work_beside_a_broken_one(app, tmp_path):
    write_run(tmp_path / "a")
    write_run(tmp_path / "b")
    (tmp_path / "a" / "run.json").write_text("{")
    page = app(tmp_path)
    assert not page.exception and "half-written" in texts(page)
    page.sidebar.selectbox[0].select(tmp_path / "b").run()
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
        assert "unfinished: 1 images" in texts(page)
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
        'showErrorDetails = "none"',
    ):
        assert wanted in settings, wanted
