"""A detector as a folder with `config.json`, `model.safetensors` and a card, and back."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from support.tiny_detectors import build, samples, varied

import svit
from svit.detectors.base import Detector
from svit.weights.checkpoint import CheckpointError, load_weights, read_foreign
from svit.weights.pretrained import CARD

NAMES = ("circle", "square", "triangle", "star", "ring")


@pytest.fixture(scope="module")
def detector() -> Detector:
    found = varied(build("torchvision")).eval()
    found.class_names = NAMES
    return found


@pytest.fixture
def folder(detector: Detector, tmp_path: Path) -> Path:
    svit.save_pretrained(detector, tmp_path / "tiny", {"trained_on": "shapes"})
    return tmp_path / "tiny"


def test_the_round_trip_gives_the_same_detections(detector: Detector, folder: Path) -> None:
    back = svit.from_pretrained(folder, "torchvision")
    assert back.class_names == NAMES and back.config == detector.config and not back.training
    with torch.no_grad():
        one, other = (model.predict(samples((64, 96, 2)))[0] for model in (detector, back))
    assert len(one.scores)
    for name in ("scores", "boxes_xyxy", "labels", "masks"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


def test_the_files_are_those_that_users_of_hugging_face_know(folder: Path) -> None:
    assert {path.name for path in folder.iterdir()} == {"config.json", "model.safetensors", CARD}
    with safe_open(folder / "model.safetensors", framework="pt") as file:
        assert file.metadata()["format"] == "pt"
    described = json.loads((folder / "config.json").read_text())
    assert described["model_type"] == "svit" and described["id2label"]["3"] == "star"
    card = (folder / CARD).read_text()
    assert card.startswith("---\n") and "trained_on: shapes" in card and "triangle" in card


def test_names_go_by_their_numbers_however_a_program_wrote_the_description_anew(
    tmp_path: Path,
) -> None:
    names = tuple(f"class {letter}" for letter in "abcdefghijkl")
    model = build("torchvision", f"detector.classes={len(names)}")
    model.class_names = names
    svit.save_pretrained(model, tmp_path / "twelve")
    path, weights = tmp_path / "twelve" / "config.json", tmp_path / "twelve" / "model.safetensors"
    described = json.loads(path.read_text())
    path.write_text(json.dumps(described, sort_keys=True))  # "0", "1", "10", "11", "2", ...
    save_file(load_file(weights), weights)  # without our metadata, as other programs write it
    assert read_foreign(tmp_path / "twelve").report.class_names == names
    path.write_text(json.dumps({**described, "id2label": {"first": "class a"}}))
    with pytest.raises(CheckpointError, match="id2label needs an object of numbers and names"):
        read_foreign(tmp_path / "twelve")


def test_names_of_another_number_are_told_and_not_taken_for_those_of_coco(tmp_path: Path) -> None:
    model = build("torchvision", "detector.classes=80")
    names = ["background", *(f"part {n}" for n in range(80))]
    state = {"model": model.canonical_state_dict(), "class_names": names}
    torch.save(state, tmp_path / "theirs.pth")
    report = read_foreign(tmp_path / "theirs.pth").report
    assert report.class_names == ()
    assert any("it names 81 classes, and its layers know another" in note for note in report.notes)


def test_every_reader_of_weights_takes_the_folder(detector: Detector, folder: Path) -> None:
    model = build("torchvision")
    assert load_weights(model, folder).kind == "ours" and model.class_names == NAMES


def test_weights_saved_by_another_program_have_the_settings_of_config_json(
    detector: Detector, folder: Path
) -> None:
    path = folder / "model.safetensors"
    save_file(load_file(path), path, {"format": "pt"})
    found = read_foreign(folder)
    assert found.config == detector.config and found.report.class_names == NAMES


def test_settings_changed_by_hand_are_refused_by_name(folder: Path) -> None:
    path = folder / "config.json"
    described = json.loads(path.read_text())
    described["settings"]["detector"]["score_threshold"] = 0.5
    path.write_text(json.dumps(described))
    with pytest.raises(CheckpointError, match=r"score_threshold: 0\.0 there, 0\.5 now"):
        svit.from_pretrained(folder)


def test_what_is_there_stays(detector: Detector, folder: Path) -> None:
    with pytest.raises(CheckpointError, match=r"holds config\.json already"):
        svit.save_pretrained(detector, folder)
    svit.save_pretrained(detector, folder, force=True)


def test_a_folder_of_others_and_a_name_on_the_hub_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="Nothing is downloaded"):
        svit.from_pretrained("someone/svit-t")
    (tmp_path / "config.json").write_text('{"model_type": "vit"}')
    with pytest.raises(CheckpointError, match=r"config\.json: has no settings.*'vit'"):
        svit.from_pretrained(tmp_path)
