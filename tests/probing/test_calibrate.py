"""Fitted thresholds and levels meet their targets on the images they were fitted on."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from support.scenes import detector, shapes

import svit.cli.calibrate
from svit.cli.calibrate import add_arguments, run
from svit.data.coco import CocoDataset
from svit.detectors.base import Detector
from svit.evaluation.passes import PassOptions, batches_of, inference_mode, run_detector
from svit.probing.calibrate import calibrate, threshold_for
from svit.system.files import FileError
from svit.weights import checkpoint

TARGETS = [0.7, 0.7, 0.7, 0.5, 0.5, 0.5, 0.35, 0.35, 0.35]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> CocoDataset:
    return shapes(tmp_path_factory.mktemp("calibrate"))


def realised(model: Detector, dataset: CocoDataset, inference: str | None) -> np.ndarray:
    with inference_mode(model, inference):
        seen = list(run_detector(model, dataset, batches_of(len(dataset), 1), PassOptions()))
    return np.mean([item.trace.keep.mean(axis=(1, 2)) for item in seen], axis=0)


@pytest.mark.parametrize("inherit", [False, True])
def test_calibrated_gates_keep_their_targets_and_still_vary(
    dataset: CocoDataset, inherit: bool
) -> None:
    targets = TARGETS[::3] if inherit else TARGETS
    model = detector(keep_ratios=targets, inherit=inherit)
    table = calibrate(model, dataset)
    # 16 tokens an image, 4 images: a 64th is the finest step
    assert table["keep_ratio"].tolist() == pytest.approx(targets, abs=0.5 / 64 + 1e-6)
    ratios = realised(model, dataset, "calibrated")
    assert ratios[table["layer"]].tolist() == pytest.approx(table["keep_ratio"].tolist())
    assert model.backbone.method.inference == "topk" and not model.training


def test_calibration_is_repeatable_and_does_not_depend_on_what_was_fitted_before(
    dataset: CocoDataset,
) -> None:
    model = detector(keep_ratios=TARGETS)
    first = calibrate(model, dataset, images=3)
    assert calibrate(model, dataset, images=3).equals(first)


def test_levels_of_ats_are_fitted_too(dataset: CocoDataset) -> None:
    model = detector("ats")
    table = calibrate(model, dataset)
    assert table["layer"].tolist() == [3, 6, 9]
    assert table["keep_ratio"].tolist() == pytest.approx([0.7, 0.49, 0.343], abs=0.07)
    ratios = realised(model, dataset, None)
    assert ratios[[3, 6, 9]].tolist() == pytest.approx(table["keep_ratio"].tolist())


def test_methods_without_anything_to_fit_and_empty_data_are_refused(dataset: CocoDataset) -> None:
    with pytest.raises(ValueError, match="'dense' has nothing to calibrate"):
        calibrate(detector("dense"), dataset)
    with pytest.raises(ValueError, match="at least one image"):
        calibrate(detector(), dataset, images=0)


def test_a_failure_takes_back_what_was_fitted(dataset: CocoDataset) -> None:
    class Failing:
        def __len__(self) -> int:
            return 1

        def sample(self, index: int) -> None:
            raise OSError("disk gone")

    model = detector()
    with pytest.raises(OSError, match="disk gone"):
        calibrate(model, Failing())
    assert not model.backbone.method.thresholds.any()


def test_an_uncalibrated_model_says_how_to_calibrate(dataset: CocoDataset) -> None:
    with (
        pytest.raises(ValueError, match="svit calibrate"),
        inference_mode(detector(), "calibrated"),
    ):
        pass


def test_the_command_writes_a_checkpoint_that_keeps_its_notes(
    dataset: CocoDataset, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    root = dataset.image_root.parent
    checkpoint.save(tmp_path / "before.safetensors", detector(), {"steps": 7})
    json = root / "annotations" / "instances_val2017.json"
    words = ["--weights", str(tmp_path / "before.safetensors")]
    words += ["--framework", "torchvision", "--dataset", str(json)]
    words += ["--image-root", str(dataset.image_root), "--out", str(tmp_path / "after.safetensors")]
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    assert run(parser.parse_args([*words, "--images", "5000"])) == 0
    assert "--inference calibrated decides by what was fitted" in capsys.readouterr().out
    found = checkpoint.read(tmp_path / "after.safetensors")
    assert found.extra["steps"] == 7 and found.extra["calibration_images"] == len(dataset)
    name = next(name for name in found.state if name.endswith("method.thresholds"))
    assert found.state[name].all()


def test_a_folder_that_cannot_be_written_is_refused_before_anything_is_fitted(
    dataset: CocoDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        svit.cli.calibrate, "calibrate", lambda *_: pytest.fail("fitted all the same")
    )
    checkpoint.save(tmp_path / "before.safetensors", detector(), {})
    json = dataset.image_root.parent / "annotations" / "instances_val2017.json"
    words = ["--weights", str(tmp_path / "before.safetensors"), "--framework", "torchvision"]
    words += ["--dataset", str(json), "--image-root", str(dataset.image_root)]
    out = tmp_path / "before.safetensors" / "after.safetensors"  # a file, where a folder should be
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    with pytest.raises(FileError, match=r"before\.safetensors.*choose another"):
        run(parser.parse_args([*words, "--out", str(out)]))


def test_calibrating_does_not_replace_what_came_from_something_else(
    dataset: CocoDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, after = tmp_path / "before.safetensors", tmp_path / "after.safetensors"
    checkpoint.save(before, detector(), {})
    json = dataset.image_root.parent / "annotations" / "instances_val2017.json"
    words = ["--weights", str(before), "--framework", "torchvision", "--out", str(after)]
    words += ["--dataset", str(json), "--image-root", str(dataset.image_root)]
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    for _ in range(2):
        assert run(parser.parse_args([*words, "--images", "1"])) == 0
    monkeypatch.setattr(
        svit.cli.calibrate, "calibrate", lambda *_: pytest.fail("fitted all the same")
    )
    with pytest.raises(FileError, match="calibration_images: 1 there, 2 now"):
        run(parser.parse_args([*words, "--images", "2"]))


@given(
    scores=st.lists(st.integers(-5, 5), min_size=1, max_size=30),
    target=st.floats(0.05, 1.0),
)
def test_no_threshold_comes_closer_than_the_one_chosen(scores: list[int], target: float) -> None:
    values = np.array(scores, np.float32)
    weights = np.full(len(values), 1 / len(values))
    threshold, share = threshold_for(values, weights, target)
    assert share == pytest.approx((values > threshold).mean())
    others = [(values > score - 0.5).mean() for score in scores]
    assert abs(share - target) <= min(abs(other - target) for other in others) + 1e-9


def test_a_threshold_lies_between_two_scores() -> None:
    scores = torch.tensor([0.0, 1.0, 2.0, 4.0]).numpy()
    threshold, share = threshold_for(scores, np.full(4, 0.25), 0.5)
    assert (threshold, share) == (1.5, 0.5)


def test_settings_that_decide_by_thresholds_need_them_fitted(dataset: CocoDataset) -> None:
    """Thresholds of zero are the mode `threshold` by another name."""
    model = detector(inference="calibrated")
    with pytest.raises(ValueError, match="svit calibrate"), inference_mode(model):
        pass
    calibrate(model, dataset, images=1)
    with inference_mode(model):
        assert model.backbone.method.inference == "calibrated"
