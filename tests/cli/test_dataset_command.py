"""`svit dataset check`: refuses with 1, and writes what it offers only when asked to."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from svit.cli.main import main


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A json of one picture and one object, whose file name is written for another system."""
    (tmp_path / "images").mkdir()
    Image.new("RGB", (40, 30)).save(tmp_path / "images" / "a.jpg")
    outline = [4, 4, 12, 4, 12, 10, 4, 10]
    common = {"image_id": 1, "category_id": 1, "bbox": [4, 4, 8, 6], "segmentation": [outline]}
    data = {
        "images": [{"id": 1, "file_name": "images\\a.JPG", "height": 30, "width": 40}],
        "annotations": [{"id": 1, "iscrowd": 0, "area": 48, **common}],
        "categories": [{"id": 1, "name": "x"}],
    }
    path = tmp_path / "instances.json"
    path.write_text(json.dumps(data))
    return path


def words(source: Path, *more: str) -> list[str]:
    root = str(source.parent / "images")
    return ["dataset", "check", str(source), "--image-root", root, *more]


def test_a_foreign_file_name_is_refused_and_mended_when_asked(
    source: Path, capsys: pytest.CaptureFixture
) -> None:
    fixed = source.with_name("fixed.json")
    assert main(words(source)) == 1
    assert r"'images\\a.JPG' may be 'a.jpg'" in capsys.readouterr().out and not fixed.exists()
    assert main(words(source, "--repair", str(fixed))) == 0
    assert json.loads(fixed.read_text())["images"][0]["file_name"] == "a.jpg"
    assert main(words(fixed)) == 0
    assert main(words(fixed, "--exif", "off")) == 0


def test_errors_are_not_mended(source: Path, capsys: pytest.CaptureFixture) -> None:
    data, fixed = json.loads(source.read_text()), source.with_name("fixed.json")
    data["annotations"][0]["bbox"] = ["4", 4, 8, 6]
    source.write_text(json.dumps(data))
    assert main(words(source, "--repair", str(fixed))) == 1 and not fixed.exists()
    assert "error: 1 not finite numbers" in capsys.readouterr().out
