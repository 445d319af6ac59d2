"""Runs for other programs: COCO's numbers, FiftyOne's documents, Rerun's log; maps lie where tokens lie."""

from __future__ import annotations

import base64
import io
import json
import sys
import types
import zlib
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from support.runs import PROVENANCE, parts, write_run

from svit.cli.main import main
from svit.core.types import TokenGrid, TokenTrace
from svit.data.coco_names import COCO_CLASSES
from svit.exchange.coco_files import category_ids
from svit.exchange.exports import file_stem, on_picture, states
from svit.runs import check
from svit.runs.run import RunWriter, open_run


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return write_run(tmp_path / "discs").path


def exported(run: Path, kind: str, out: Path) -> Path:
    assert main(["export", str(run), "--to", kind, "--out", str(out)]) == 0
    return out


def test_a_pixel_has_the_number_of_the_token_it_lies_in() -> None:
    """A portrait picture, padded below and at the right, shown at other scales than the model saw."""
    grid = TokenGrid((90, 50), (45, 25), (4, 2), 16)
    tokens = np.arange(8).reshape(4, 2)
    shown = on_picture(grid, tokens, (90, 50))
    for y, x in ((0, 0), (31, 31), (32, 32), (63, 31), (64, 0), (89, 49)):
        assert shown[y, x] == tokens[grid.token_at(x, y)], (y, x)
    assert set(shown.ravel()) == set(range(6))  # the last row of tokens is padding
    small = on_picture(grid, tokens, (45, 25))
    assert np.array_equal(small, tokens.repeat(16, 0).repeat(16, 1)[:45, :25])


def test_names_of_files_stay_apart_and_below_their_folder() -> None:
    names = [file_stem(place, name) for place, name in enumerate(["a/b", "a_b", "../c", "ü" * 300])]
    assert len(set(names)) == 4 and not any("/" in name for name in names) and len(names[3]) < 100


def test_coco_results_and_instances_give_the_runs_own_matches(run: Path, tmp_path: Path) -> None:
    out = exported(run, "coco", tmp_path / "out")
    truth = COCO(out / "instances.json")
    found = truth.loadRes(str(out / "results.json"))
    for kind in ("bbox", "segm"):
        evaluation = COCOeval(truth, found, kind)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
        assert evaluation.stats[0] == pytest.approx(1)  # detections agree with the discs
    opened = open_run(run)
    (first, *_) = json.loads((out / "results.json").read_text())
    assert first["image_id"] == opened.image_ids[0] and first["category_id"] == 1
    assert [one["name"] for one in truth.loadCats([1, 2])] == ["disc", "ball"]
    assert truth.loadImgs([3])[0]["file_name"] == opened.images["file_name"][0]


def test_an_area_that_nobody_told_is_that_of_the_mask_and_no_small_object(tmp_path: Path) -> None:
    made = parts(1)
    target = replace(made["target"], areas=None)
    with RunWriter(tmp_path / "run", PROVENANCE) as writer:
        writer.add(**{**made, "target": target})
    out = exported(tmp_path / "run", "coco", tmp_path / "out")
    found = json.loads((out / "instances.json").read_text())["annotations"]
    assert [one["area"] for one in found] == target.masks.sum(axis=(1, 2)).tolist()


def test_categories_of_coco_have_cocos_ids() -> None:
    ids = category_ids(COCO_CLASSES)
    assert len(ids) == 80 and ids[0] == 1 and ids[-1] == 90
    named = dict(zip(COCO_CLASSES, ids))
    known = {"stop sign": 13, "backpack": 27, "wine glass": 46, "dining table": 67, "toilet": 70}
    assert {name: named[name] for name in known} == known and named["book"] == 84
    assert category_ids(["nucleus"]) == [1]


def array(stored: dict) -> np.ndarray:
    """What FiftyOne would read."""
    return np.load(io.BytesIO(zlib.decompress(base64.b64decode(stored["$binary"]["base64"]))))


def test_fiftyone_gets_a_heatmap_a_block_over_the_whole_picture(run: Path, tmp_path: Path) -> None:
    out = exported(run, "fiftyone", tmp_path / "out")
    samples = json.loads((out / "samples.json").read_text())["samples"]
    opened = open_run(run)
    assert len(samples) == len(opened)
    for sample, (trace, picture, found) in zip(
        samples, opened.samples("trace", "picture", "detections", masks=True), strict=True
    ):
        assert Image.open(out / sample["filepath"]).size == picture.shape[1::-1]
        for layer in (0, 11):
            shown = array(sample[f"block_{layer + 1:02d}"]["map"])
            assert shown.shape == picture.shape[:2]
            for y, x in ((3, 5), (70, 100)):
                assert (shown[y, x] == 2) == trace.keep[layer][trace.grid.token_at(x, y)]
        assert array(sample["usage"]["map"]).max() == trace.usage.max()
        box, corners = sample["detections"]["detections"][0], found.boxes_xyxy[0]
        height, width = trace.grid.image_hw
        left, top, wide, high = np.array(box["bounding_box"]) * ([width, height] * 2)
        assert [left, top, left + wide, top + high] == pytest.approx(corners.tolist())
        assert array(box["mask"]).sum() == found.masks[0].sum() and box["label"] == "disc"
    fields = {
        one["name"] for one in json.loads((out / "metadata.json").read_text())["sample_fields"]
    }
    assert set(samples[0]) - {"_id"} <= fields


def test_an_export_of_the_same_run_is_the_same_and_another_is_refused(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = exported(run, "fiftyone", tmp_path / "out")
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    exported(run, "fiftyone", out)
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before
    assert main(["export", str(run), "--to", "coco", "--out", str(out)]) == 2
    assert "to: 'fiftyone' there, 'coco' now" in capsys.readouterr().err


def test_a_run_that_lacks_what_is_needed_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with RunWriter(tmp_path / "bare", PROVENANCE) as writer:
        writer.add(parts(1)["trace"])
    for kind, words in (("fiftyone", "has no picture"), ("coco", "neither detections nor annot")):
        assert (
            main(["export", f"{tmp_path}/bare", "--to", kind, "--out", f"{tmp_path}/{kind}"]) == 2
        )
        assert words in capsys.readouterr().err
        assert not (tmp_path / kind).exists()


def test_a_carried_token_is_neither_used_nor_pruned() -> None:
    grid = TokenGrid((32, 48), (32, 48), (2, 3), 16)
    keep = np.array([[[True, False, True], [False, True, True]]])
    group = np.array([[[0, 0, 2], [3, 4, 5]]])
    found = states(TokenTrace(1, grid, keep, group=group))
    assert found.tolist() == [[[2, 1, 2], [0, 2, 2]]]


class Stream:
    """Stands in for a recording stream of rerun-sdk: keeps what is logged."""

    def __init__(self, name: str, recording_id: str) -> None:
        self.logged: dict[str, list] = defaultdict(list)
        self.block = None

    def save(self, path: Path) -> None:
        path.write_bytes(b"rrd")

    def set_time(self, timeline: str, sequence: int) -> None:
        assert timeline == "block"
        self.block = sequence

    def log(self, entity: str, what: object, static: bool = False) -> None:
        self.logged[entity].append((None if static else self.block, what))

    def flush(self) -> None:
        pass


@pytest.fixture
def streams(monkeypatch: pytest.MonkeyPatch) -> list[Stream]:
    """Those that a stand-in for rerun-sdk opens."""
    found: list[Stream] = []
    plain = {
        name: lambda *a, n=name, **k: (n, a, k)
        for name in ("Image", "Boxes2D", "AnnotationContext")
    }
    rerun = types.SimpleNamespace(
        RecordingStream=lambda *a, **k: found.append(Stream(*a, **k)) or found[-1],
        SegmentationImage=lambda pixels: pixels,
        Box2DFormat=types.SimpleNamespace(XYXY="xyxy"),
        **plain,
    )
    monkeypatch.setitem(sys.modules, "rerun", rerun)
    return found


def test_rerun_gets_the_tokens_of_every_block(
    run: Path, tmp_path: Path, streams: list[Stream]
) -> None:
    out = exported(run, "rerun", tmp_path / "out")
    assert (out / "discs.rrd").is_file()
    logged = streams[0].logged
    trace = open_run(run).trace(3)
    tokens = logged["images/000000-3/tokens"]
    assert [block for block, _ in tokens] == list(range(1, 13))
    assert (tokens[11][1][3, 5] == 2) == trace.keep[11][trace.grid.token_at(5, 3)]
    assert logged["images/000000-3/detections"][0][0] is None


@pytest.mark.parametrize("kind", ["fiftyone", "rerun"])
def test_each_picture_is_decoded_once(
    kind: str,
    run: Path,
    tmp_path: Path,
    streams: list[Stream],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    decoded, decode = [], check.decode_picture
    monkeypatch.setattr(
        check, "decode_picture", lambda *place: (decoded.append(place), decode(*place))[1]
    )
    exported(run, kind, tmp_path / "out")
    assert len(decoded) == len(open_run(run))


def test_without_rerun_the_remedy_is_told(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "rerun", None)
    assert main(["export", str(run), "--to", "rerun", "--out", f"{tmp_path}/out"]) == 2
    assert "pip install rerun-sdk" in capsys.readouterr().err and not (tmp_path / "out").exists()
