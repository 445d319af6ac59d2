"""What a stranger's run folder may not do to the app: leave the chosen folders, or write its own page."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
from support.driven import open_page, texts
from support.runs import PROVENANCE, parts, write_run

from svit.runs.run import RunWriter

EVIL = "<script>alert(1)</script> **bold** [x](http://x) $x$ :red[y]"


@pytest.fixture
def app(monkeypatch):
    return lambda folder, **query: open_page(monkeypatch, "image", folder, **query)


def test_names_from_data_are_shown_as_they_are(app, tmp_path):
    provenance = {**PROVENANCE, "class_names": [EVIL, EVIL], "method": EVIL}
    with RunWriter(tmp_path / "run", provenance) as writer:
        image = {**parts(EVIL, 1), "file_name": EVIL}
        writer.add(**image)
    left, top, right, bottom = image["target"].boxes_xyxy[0]
    row, column = image["trace"].grid.token_at((left + right) / 2, (top + bottom) / 2)
    page = app(tmp_path, token=f"{row + 1},{column + 1}")
    assert not page.exception
    shown = [
        item for item in (*page.markdown, *page.caption, *page.subheader) if "alert" in item.value
    ]
    assert len(shown) >= 3  # the title, an object over the token, provenance
    for item in shown:
        assert r"\<script\>" in item.value and r"\*\*bold\*\*" in item.value
        assert r"\[x\]\(http" in item.value and r"\$x\$" in item.value and r"\:red\[" in item.value
    assert not any(item.proto.allow_html for item in (*page.markdown, *page.caption))


@pytest.mark.parametrize(
    ("page", "query"),
    [
        ("image", {}),
        *(("compare", {"compare_part": part}) for part in ("Tokens", "Objects", "Numbers")),
        *(("dataset", {"part": part}) for part in ("Tokens", "Objects", "Budget", "Errors")),
        ("rates", {}),
        ("live", {"source": "recorded"}),
    ],
)
def test_no_page_takes_names_from_data_for_its_own_words(page, query, tmp_path, monkeypatch):
    for number in range(2):
        provenance = {**PROVENANCE, "class_names": [EVIL, f"{EVIL} 2"], "weights": EVIL}
        provenance |= {"method": ("svit", "dense")[number], "framework": EVIL * number}
        folder = tmp_path / f"<b>{number}<i> $x$ **y** :red[z]"
        with RunWriter(folder, provenance) as writer:
            for image_id in (EVIL, f"{EVIL} 2"):
                writer.add(**{**parts(image_id, 1), "file_name": EVIL})
            writer.add_error("lost", EVIL, EVIL)
    shown = open_page(monkeypatch, page, tmp_path, **query)
    assert not shown.exception, texts(shown)
    kinds = ("markdown", "caption", "subheader", "title", "info", "warning", "error")
    said = [item.value for kind in kinds for item in shown.get(kind)]
    said += [
        item.proto.label
        for kind in ("button", "expander", "page_link", "download_button")
        for item in shown.get(kind)
    ]
    own = re.compile(r"(?<!\\)(<script|<b>|\*\*bold|\*\*y|\$x|:red\[|\]\()")
    assert said and not [words for words in said if own.search(words)]


def test_a_link_cannot_name_a_run_above_the_chosen_folder(app, tmp_path):
    write_run(tmp_path / "secret")
    write_run(tmp_path / "chosen" / "run")
    page = app(tmp_path / "chosen", run="../secret")
    assert not page.exception and page.selectbox(key="run").options == ["run"]
    assert "which is not here" in page.warning[0].value


def test_a_manifest_cannot_name_files_outside_of_its_run(app, tmp_path):
    write_run(tmp_path / "secret")
    write_run(tmp_path / "chosen" / "run")
    manifest = tmp_path / "chosen" / "run" / "manifest-00000.json"
    content = json.loads(manifest.read_text())
    content["shards"][0]["name"] = "../../secret/" + content["shards"][0]["name"]
    del content["sha256"]  # as one who means it would
    manifest.write_text(json.dumps(content))
    page = app(tmp_path / "chosen")
    assert not page.exception and "outside of the run" in texts(page)
    assert not page.subheader


def test_a_linked_file_that_leads_out_of_the_chosen_folder_is_refused(app, tmp_path):
    write_run(tmp_path / "secret")
    for name in ("a", "b"):
        write_run(tmp_path / "chosen" / name)
    shard = next((tmp_path / "chosen" / "a").glob("*.images.parquet"))
    shutil.move(shard, tmp_path / "secret" / "moved.parquet")
    shard.symlink_to(tmp_path / "secret" / "moved.parquet")
    page = app(tmp_path / "chosen")
    assert not page.exception and "leads out of the chosen folders" in texts(page)
    page.selectbox(key="run").select("b").run()
    assert not page.exception and not page.error and page.subheader[0].value == "Image 1"


def test_the_app_shows_no_traceback_and_no_path_of_the_program(app, tmp_path):
    folder = tmp_path / "run"
    write_run(folder)
    (folder / "manifest-00000.json").write_text('{"rank": "zero"')
    page = app(tmp_path)
    assert not page.exception and "Traceback" not in texts(page)
    assert str(Path(__file__).parents[2]) not in texts(page)
