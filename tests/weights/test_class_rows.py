"""A training that starts from weights takes the layers of the classes by name, new ones anew."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from support.tiny_detectors import build, samples, varied

from svit.cli.main import main
from svit.data.coco_names import COCO_CLASSES
from svit.detectors import build_detector
from svit.detectors.base import Detector
from svit.weights.checkpoint import load_weights, read, read_foreign, save
from svit.weights.class_rows import ROWS

NAMES = ("circle", "square", "triangle", "star", "ring")


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> tuple[Detector, Path]:
    """A detector of five classes and its checkpoint."""
    detector = varied(build("torchvision")).eval()
    detector.class_names = NAMES
    path = tmp_path_factory.mktemp("rows") / "five.safetensors"
    save(path, detector)
    return detector, path


def fresh(classes: int) -> Detector:
    torch.manual_seed(5)
    config = build("torchvision").config
    return build_detector(
        replace(config, detector=replace(config.detector, classes=classes))
    ).eval()


def started(path: Path, names: tuple[str, ...]) -> tuple[Detector, str]:
    detector = fresh(len(names))
    report = load_weights(detector, path, complete=False, class_names=names)
    return detector, str(report)


def test_the_same_classes_in_another_order_are_the_same_model(
    source: tuple[Detector, Path],
) -> None:
    before, path = source
    names = NAMES[::-1]
    after, report = started(path, names)
    one, other = (model.predict(samples((64, 96, 2)))[0] for model in (before, after))
    np.testing.assert_allclose(one.scores, other.scores, rtol=1e-5)  # sums of another order
    best = slice(0, 10)
    np.testing.assert_allclose(one.boxes_xyxy[best], other.boxes_xyxy[best], rtol=1e-4)
    assert [NAMES[n] for n in one.labels[best]] == [names[n] for n in other.labels[best]]
    assert (one.masks[best] != other.masks[best]).mean() < 1e-3
    assert "by name" in report and "new:" not in report


def test_classes_that_both_know_are_taken_and_new_ones_begin_anew(
    source: tuple[Detector, Path],
) -> None:
    theirs, ours = source[0].canonical_state_dict(), fresh(3).canonical_state_dict()
    detector, report = started(source[1], ("ring", "heart", "circle"))
    state = detector.canonical_state_dict()
    assert "new: heart" in report
    for layer, rows in ROWS.items():
        for name in (f"{layer}.weight", f"{layer}.bias"):
            parts = state[name][: 3 * rows].chunk(3)
            assert torch.equal(parts[0], theirs[name][4 * rows : 5 * rows])
            assert torch.equal(parts[1], ours[name][rows : 2 * rows])
            assert torch.equal(parts[2], theirs[name][:rows])
    background = "roi_heads.box_predictor.cls_score.weight"
    assert torch.equal(state[background][-1], theirs[background][-1])


def test_other_classes_begin_anew_and_the_rest_is_kept(source: tuple[Detector, Path]) -> None:
    theirs, ours = source[0].canonical_state_dict(), fresh(1).canonical_state_dict()
    detector, report = started(source[1], ("nucleus",))
    for name, tensor in detector.canonical_state_dict().items():
        belongs = name.rpartition(".")[0] in ROWS
        assert torch.equal(tensor, (ours if belongs else theirs)[name]), name
    assert "their layers begin anew" in report
    assert "initialised: roi_heads.mask_head.predictor" in report


def test_weights_without_names_are_taken_by_position_or_begin_anew(
    source: tuple[Detector, Path], tmp_path: Path
) -> None:
    nameless = fresh(5)
    nameless.load_canonical(source[0].canonical_state_dict())
    save(tmp_path / "nameless.safetensors", nameless)
    detector, report = started(tmp_path / "nameless.safetensors", NAMES)
    assert "by position" in report
    state = detector.canonical_state_dict()
    assert all(torch.equal(state[n], v) for n, v in nameless.canonical_state_dict().items())
    assert "begin anew" in started(tmp_path / "nameless.safetensors", ("nucleus",))[1]


def test_names_stay_through_saving_loading_and_convert(
    source: tuple[Detector, Path], tmp_path: Path
) -> None:
    copy, whole = tmp_path / "copy.safetensors", tmp_path / "model.pth"
    assert main(["convert", str(source[1]), str(copy)]) == 0
    assert read(copy).extra["class_names"] == list(NAMES)
    detector = fresh(5)
    load_weights(detector, copy)
    assert detector.class_names == NAMES
    for beside in ({"class_names": NAMES}, {"meta": {"CLASSES": NAMES}}):
        torch.save({"model": detector.canonical_state_dict(), **beside}, whole)
        assert read_foreign(whole).report.class_names == NAMES


def test_official_weights_of_80_classes_start_a_model_of_three(tmp_path: Path) -> None:
    """80 rows without names are COCO's: those that both know are kept, by name."""
    official = varied(fresh(80))
    torch.save({"state_dict": official.canonical_state_dict()}, tmp_path / "official.pth")
    names = ("zebra", "nucleus", "person")
    theirs, ours = official.canonical_state_dict(), fresh(3).canonical_state_dict()
    detector, report = started(tmp_path / "official.pth", names)
    state = detector.canonical_state_dict()
    rows = "roi_heads.mask_head.predictor.weight"
    assert "new: nucleus" in report
    assert torch.equal(state[rows][0], theirs[rows][COCO_CLASSES.index("zebra")])
    assert torch.equal(state[rows][1], ours[rows][1]) and torch.equal(
        state[rows][2], theirs[rows][0]
    )
    kept = [name for name in state if name.rpartition(".")[0] not in ROWS]
    assert all(torch.equal(state[name], theirs[name]) for name in kept)
    again = started(tmp_path / "official.pth", names)[0].canonical_state_dict()
    assert all(torch.equal(state[name], again[name]) for name in state)
