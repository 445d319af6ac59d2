"""What a model's classes are called, and where the settings of its weights are from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from support.scenes import detector, nano

from svit.core.presets import PRESETS, load_config
from svit.detectors import build_detector
from svit.weights import checkpoint
from svit.weights.loading import class_names, load_detector


def test_names_of_80_classes_are_those_of_coco() -> None:
    model = build_detector(replace(nano(), detector=replace(nano().detector, classes=80)))
    found = class_names(model)
    assert (found[0], found[-1], len(found)) == ("person", "toothbrush", 80)
    assert class_names(detector()) == []


def test_names_in_the_checkpoint_come_first(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    checkpoint.save(path, detector(), {"class_names": list("abcdefgh")})
    assert class_names(load_detector(path, "torchvision")) == list("abcdefgh")


@pytest.fixture
def bare(tmp_path: Path) -> Callable[[str, int], Path]:
    """Writes weights as detectron2's trainer leaves them: no settings beside them."""

    def write(preset: str, classes: int) -> Path:
        config = load_config(preset, [f"detector.classes={classes}", "framework=torchvision"])
        path = tmp_path / f"{preset}-{classes}.pth"
        state = build_detector(config).canonical_state_dict()
        torch.save({"model": state, "iteration": 9}, path)
        return path

    return write


@pytest.mark.parametrize("size", ["nano", "nuclei", "fine"])
def test_settings_that_weights_do_not_hold_are_those_of_the_preset_with_their_shapes_and_told(
    size: str, bare: Callable, capsys: pytest.CaptureFixture
) -> None:
    preset = PRESETS[f"vit-plain-{size}"]
    model = load_detector(bare(preset.name, preset.detector.classes), "torchvision")
    assert replace(model.config, framework="auto") == preset
    said = capsys.readouterr().err
    assert "it holds no settings: what shapes do not show" in said and f"{preset.name};" in said
    assert model.guesses and "fit as well" not in said


def test_presets_that_shapes_do_not_tell_apart_are_all_named(
    bare: Callable, capsys: pytest.CaptureFixture, tmp_path: Path
) -> None:
    path = bare("svit-plain-nuclei", 3)
    load_detector(path)
    assert "preset svit-plain-nano, though svit-plain-nuclei would fit as well" in (
        capsys.readouterr().err
    )
    checkpoint.save(tmp_path / "ours.safetensors", load_detector(path))
    capsys.readouterr()
    assert load_detector(tmp_path / "ours.safetensors").guesses == ()
    assert capsys.readouterr().err == ""
