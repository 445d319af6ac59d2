"""`svit demo`: which worlds it shows, and the photographs that ship with it."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

import pytest
import torch
from PIL import Image

from svit.cli import demo
from svit.core.presets import load_config
from svit.data.validate import check_coco
from svit.detectors import build_detector
from svit.runs.run import open_run
from svit.weights import checkpoint

ROOT = Path(__file__).resolve().parents[2]
PICTURES = ROOT / "demo" / "pictures"
SMALL = ["framework=torchvision", "data.short_side=128", "data.long_side=128"]
SMALL += ["detector.max_detections=5", "detector.rpn_post_nms_test=20"]


def table() -> dict[str, list[str]]:
    """File -> the other cells of its row in the README of the pictures."""
    lines = (PICTURES / "README.md").read_text(encoding="utf-8").splitlines()
    rows = [line.strip("| ").split(" | ") for line in lines if line.startswith("| `")]
    return {row[0].strip("`"): row[1:] for row in rows}


def test_every_picture_has_a_row_with_its_hash_and_is_in_the_public_domain() -> None:
    rows = table()
    assert set(rows) == {path.name for path in PICTURES.iterdir()} - {"README.md"}
    for name, (_, licence, _, original, here) in rows.items():
        assert licence == "CC0 1.0", name
        assert hashlib.sha256((PICTURES / name).read_bytes()).hexdigest() == here, name
        assert re.fullmatch(r"`\S+` [0-9a-f]{64}", original), name


def test_the_annotated_photograph_is_good() -> None:
    report = check_coco(PICTURES / "nuclei.json", PICTURES, decode=True)
    assert report.lines()[1:] == [] and report.counts["annotations"] == 125
    assert Image.open(PICTURES / "img2d.png").mode == "L"


@pytest.fixture
def shipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home whose `demo/` holds the photographs, and no weights yet."""
    folder = tmp_path / "home" / "demo"
    folder.mkdir(parents=True)
    (folder / "pictures").symlink_to(PICTURES)
    monkeypatch.setattr(demo, "home", lambda: folder.parent)
    return folder


def put(folder: Path, name: str) -> None:
    """Random weights of a preset for nuclei, for a small input."""
    torch.manual_seed(0)
    detector = build_detector(load_config(name, SMALL))
    detector.class_names = ("nucleus",)
    checkpoint.save(folder / f"{name}.safetensors", detector, half=True)


def test_the_nuclei_are_shown_on_the_photograph(
    shipped: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in demo.NUCLEI.models:
        put(shipped, name)
    drawn: list[tuple] = []
    monkeypatch.setattr(demo, "_pictures", lambda *words: drawn.append(words) or [words[-1]])
    out = tmp_path / "out"
    written = demo.show(demo.NUCLEI, out, 100, 8, "torchvision")
    dense, sparse = (open_run(out / "runs" / name) for name in demo.NUCLEI.models)
    assert sparse.provenance["method"] == "svit" and len(dense) == len(sparse) == 1
    assert len(sparse.target(1)) == 125 and sparse.picture(1).shape == (512, 512, 3)
    assert drawn == [(sparse.path, [1], out / "figures" / "svit-plain-nuclei")]
    assert written == [out / "results" / "nuclei.md", drawn[0][-1]]
    text = written[0].read_text()
    assert text.count("\n|") == 3 and "One photograph of 125 nuclei" in text


def test_models_that_are_not_there_are_an_error_that_names_them(
    shipped: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[str] = []
    monkeypatch.setattr(demo, "show", lambda world, *rest: shown.append(world.table) or [])
    for name in (*demo.SHAPES.models, *demo.NUCLEI.models):
        with pytest.raises(demo.DemoError, match=f"lacks (.*, )?{name}.safetensors"):
            demo.demo(tmp_path, 1, 1)
        (shipped / f"{name}.safetensors").touch()
    assert not shown
    demo.demo(tmp_path, 1, 1)
    assert shown == ["table.md", "nuclei.md"]


def test_scenes_of_shapes_are_those_no_model_was_trained_on(tmp_path: Path) -> None:
    files = demo.SHAPES.data(tmp_path, 2)
    images = json.loads(files.json.read_text())["images"]
    assert [image["id"] - 10**9 for image in images] == [demo.HELD_OUT, demo.HELD_OUT + 1]
    assert all((files.image_root / image["file_name"]).is_file() for image in images)
