"""`convert`: a whole detector, checked, beside what is there; in our format, in detectron2's, as a folder."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from support import official
from support.tiny_detectors import build, varied

from svit.cli.main import main
from svit.detectors.base import Detector
from svit.system.files import FileError
from svit.weights import checkpoint
from svit.weights.checkpoint import CheckpointError, load_into, load_weights, read, read_foreign
from svit.weights.converting import convert_file
from svit.weights.name_tables import VIT


@pytest.fixture(scope="module")
def detector() -> Detector:
    found = varied(build("torchvision"))
    found.class_names = ("circle", "square", "triangle", "star", "ring")
    return found


@pytest.fixture
def source(detector: Detector, tmp_path: Path) -> Path:
    path = tmp_path / "tiny.safetensors"
    checkpoint.save(path, detector)
    return path


def mapped(state: dict) -> dict:
    """Official weights with heads that a model of ours can have: layers without a gap."""
    return {name: tensor for name, tensor in state.items() if "mask_head.convs.3" not in name}


def same(one: dict, other: dict) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_weights_settings_and_names_stay(tmp_path: Path) -> None:
    source, target = tmp_path / "svit.pth", tmp_path / "svit.safetensors"
    torch.save({"state_dict": mapped(official.sparse())}, source)
    report = convert_file(source, target, partial=True)
    first, second = read_foreign(source), read_foreign(target)
    assert same(first.state, second.state) and first.config == second.config
    assert second.report.kind == "ours" and read(target).extra["converted_from"] == report.kind


def test_a_part_of_a_detector_must_be_wanted_and_may_still_lack_the_rest(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, target = tmp_path / "deit.pth", tmp_path / "deit.safetensors"
    torch.save({"model": official.deit(rows=10)}, source)
    assert main(["convert", str(source), str(target)]) == 2
    said = capsys.readouterr().err
    assert "not a whole detector" in said and "interactions*" in said and "--partial" in said
    assert not target.exists()
    convert_file(source, target, partial=True)
    reports = []
    for path in (source, target):
        model = build("torchvision", *_like_official())
        reports.append(load_weights(model, path, complete=False))
    assert reports[0].missing == reports[1].missing != ()
    assert f"{VIT}method.class_token" in reports[1].dropped


def _like_official() -> list[str]:
    return ["pruning.method=dense", "backbone.depth=12", "backbone.pretrain_grid=3"]


def test_what_a_part_lacks_beyond_its_kind_may_be_missing_afterwards(
    detector: Detector, tmp_path: Path
) -> None:
    state = detector.canonical_state_dict()
    gone = "roi_heads.mask_head.deconv.bias"
    checkpoint.write(
        tmp_path / "torn.safetensors",
        {n: t for n, t in state.items() if n != gone},
        detector.config,
    )
    with pytest.raises(CheckpointError, match="1 tensors are missing"):
        convert_file(tmp_path / "torn.safetensors", tmp_path / "x.safetensors")
    convert_file(tmp_path / "torn.safetensors", tmp_path / "x.safetensors", partial=True)
    with pytest.raises(
        CheckpointError, match="1 missing from the file: roi_heads.mask_head.deconv"
    ):
        load_weights(build("torchvision"), tmp_path / "x.safetensors")
    report = load_weights(build("torchvision"), tmp_path / "x.safetensors", complete=False)
    assert report.missing == (gone,)


def test_shapes_are_checked_without_a_preset_too(detector: Detector, tmp_path: Path) -> None:
    state = detector.canonical_state_dict()
    state["roi_heads.mask_head.deconv.bias"] = torch.zeros(7)
    checkpoint.write(tmp_path / "odd.safetensors", state, detector.config)
    with pytest.raises(
        CheckpointError, match=r"1 of another shape: roi_heads.mask_head.deconv.bias"
    ):
        convert_file(tmp_path / "odd.safetensors", tmp_path / "x.safetensors", partial=True)


def test_what_came_from_something_else_is_not_replaced(tmp_path: Path) -> None:
    target = tmp_path / "ours.safetensors"
    for name, state in (("a.pth", official.sparse()), ("b.pth", official.dense())):
        torch.save({"state_dict": mapped(state)}, tmp_path / name)

    def convert(name: str, target: Path, **choices: bool) -> None:
        convert_file(tmp_path / name, target, partial=True, **choices)

    convert("a.pth", target)
    before = target.read_bytes()
    convert("a.pth", target)
    with pytest.raises(
        FileError,
        match=r"another checkpoint(?s:.*)source: 'a.pth' there, 'b.pth' now(?s:.*)--force",
    ):
        convert("b.pth", target)
    with pytest.raises(FileError, match="half: False there, True now"):
        convert("a.pth", target, half=True)
    assert target.read_bytes() == before
    torch.save({"state_dict": official.sparse()}, tmp_path / "theirs.safetensors")
    with pytest.raises(CheckpointError, match="is there already: choose another name"):
        convert("a.pth", tmp_path / "theirs.safetensors")
    convert("b.pth", target, force=True)
    assert read(target).extra["source"] == "b.pth"


@pytest.mark.parametrize("name", ["model.pth", "folder"])
def test_files_and_folders_of_others_are_kept_and_the_same_is_written_again(
    source: Path, name: str, tmp_path: Path
) -> None:
    convert_file(source, tmp_path / name)
    convert_file(source, tmp_path / name)
    with pytest.raises(FileError, match=r"half: False there, True now(?s:.*)--force"):
        convert_file(source, tmp_path / name, half=True)
    other = tmp_path / f"other-{name}"
    if name == "folder":
        other.mkdir()
        (other / "README.md").write_text("mine")
    else:
        torch.save({"model": {}, "optimizer": {}}, other)
    with pytest.raises(CheckpointError, match="is there already"):
        convert_file(source, other)
    convert_file(source, other, force=True)


def test_the_ending_says_what_is_written_and_others_are_refused(
    source: Path, tmp_path: Path
) -> None:
    (tmp_path / "nano-v1.0").mkdir()
    convert_file(source, tmp_path / "nano-v1.0")
    assert (tmp_path / "nano-v1.0" / "config.json").is_file()
    with pytest.raises(
        CheckpointError, match=r"x\.bin: expected a name that ends in \.safetensors"
    ):
        convert_file(source, tmp_path / "x.bin")


def test_its_own_source_is_kept(source: Path) -> None:
    before = source.read_bytes()
    with pytest.raises(CheckpointError, match="is the source itself"):
        convert_file(source, source)
    assert source.read_bytes() == before


@pytest.mark.parametrize("name", ["ours.safetensors", "model.pth", "folder/model.safetensors"])
def test_others_may_read_what_was_written(source: Path, name: str, tmp_path: Path) -> None:
    old = os.umask(0o022)
    try:
        convert_file(source, tmp_path / name.split("/")[0])
    finally:
        os.umask(old)
    assert (tmp_path / name).stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize("half", [False, True])
def test_detectron2s_file_is_read_back_with_settings_and_names(
    source: Path, detector: Detector, half: bool, tmp_path: Path
) -> None:
    path = tmp_path / "model.pth"
    convert_file(source, path, half=half)
    content = torch.load(path, weights_only=True)
    assert content["model"].keys() == detector.canonical_state_dict().keys()
    back = read_foreign(path)
    expected = {
        name: tensor.half().float() if half and tensor.is_floating_point() else tensor
        for name, tensor in detector.canonical_state_dict().items()
    }
    assert same(back.state, expected)
    assert back.config == detector.config and back.report.class_names == detector.class_names
    assert not load_into(build("torchvision"), back).missing


@pytest.mark.detectron2
def test_detectron2s_own_reader_takes_the_file(tmp_path: Path) -> None:
    from detectron2.checkpoint import DetectionCheckpointer

    written, model = varied(build("detectron2")), build("detectron2")
    checkpoint.save(tmp_path / "a.safetensors", written)
    convert_file(tmp_path / "a.safetensors", tmp_path / "a.pth")
    DetectionCheckpointer(model.model).load(str(tmp_path / "a.pth"))
    assert same(model.canonical_state_dict(), written.canonical_state_dict())


def test_a_training_checkpoint_brings_its_settings(detector: Detector, tmp_path: Path) -> None:
    from svit.core.config import to_dict

    state, path = detector.canonical_state_dict(), tmp_path / "model_0000009.pth"
    about = {"format": "svit-training-1", "config": to_dict(detector.config), "optimizer": {}}
    torch.save({"model": state, "class_names": ["a"] * 5, **about}, path)
    convert_file(path, tmp_path / "x.safetensors")
    assert read(tmp_path / "x.safetensors").config == detector.config
    torch.save({"model": state, **about, "config": {"backbone": {"colour": "blue"}}}, path)
    with pytest.raises(CheckpointError, match="settings do not fit.*colour"):
        read_foreign(path)
