"""What a model's classes are called."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from support.scenes import detector, nano

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
