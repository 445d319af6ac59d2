"""`svit train`: a training from a folder, gone on with, and what `--dataset` may name."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support.trainings import TINY

from svit.cli import main
from svit.cli.train import open_training_set
from svit.core.presets import load_config
from svit.data.shapes import write_dataset
from svit.weights import checkpoint


def test_the_command_trains_from_a_folder_in_cocos_layout(tmp_path: Path, capfd) -> None:
    write_dataset(tmp_path / "shapes", train=6, val=1, seed=3)
    (tmp_path / "tiny.yaml").write_text(
        "preset: svit-plain-nano\n"
        "framework: torchvision\n"
        "backbone: {embed_dim: 12, depth: 4, heads: 2}\n"
        "pruning: {options: {keep_ratios: [0.7, 0.5]}}\n"
        "train: {iterations: 3, batch: 2, checkpoint_period: 2}\n"
    )
    words = ["train", "--config", f"{tmp_path}/tiny.yaml", "--dataset", f"{tmp_path}/shapes"]
    out = ["--out", f"{tmp_path}/out"]
    assert main.main([*words, *out, "--max-steps", "1", "train.seed=5"]) == 0
    assert main.main([*words, *out, "--resume", "train.seed=6"]) == 2
    assert "train.seed: 5 there, 6 now" in capfd.readouterr().err
    assert main.main([*words, *out, "--resume", "train.seed=5"]) == 0
    assert (tmp_path / "out" / "model_final.safetensors").exists()
    config = load_config(str(tmp_path / "out" / "config.yaml"))
    assert config.train.seed == 5
    assert config == checkpoint.read(tmp_path / "out" / "model_final.safetensors").config
    assert "resuming from" in (tmp_path / "out" / "log.txt").read_text()


def test_what_is_left_out_is_told_and_kept_when_asked(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_dataset(tmp_path / "shapes", train=4, val=1, seed=3, size=64)
    annotations = tmp_path / "shapes" / "annotations" / "instances_train2017.json"
    data = json.loads(annotations.read_text())
    empty = data["images"][0]["id"]
    data["annotations"] = [one for one in data["annotations"] if one["image_id"] != empty]
    for one in data["annotations"]:
        one["segmentation"] = []
    annotations.write_text(json.dumps(data))
    words = ["train", "--config", "vit-plain-nano", "--dataset", f"{tmp_path}/shapes"]
    small = ["backbone.embed_dim=12", "backbone.depth=4", "backbone.heads=2", "train.batch=2"]
    small += ["framework=torchvision", "data.short_side=64", "train.iterations=1"]
    for out, more in (("plain", []), ("kept", ["--keep-empty"])):
        assert main.main([*words, "--out", f"{tmp_path}/{out}", *more, *small]) == 0
        said = (tmp_path / out / "log.txt").read_text()
        assert ("1 of 4 pictures have no object and are left out" in said) == (out == "plain")
        assert "objects without a mask: box AP counts them" in caplog.text
    found = json.loads((tmp_path / "kept" / "metrics.json").read_text().splitlines()[0])
    assert found["loss_mask"] == 0 and found["loss_rpn_cls"] > 0


def test_a_dataset_may_be_a_json_a_folder_or_a_split(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_dataset(tmp_path / "shapes", train=3, val=1, seed=3)
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path / "shapes"))
    annotations = tmp_path / "shapes" / "annotations" / "instances_train2017.json"
    for name in (annotations, tmp_path / "shapes", "train"):
        opened = open_training_set(str(name), None, TINY)
        assert len(opened) > 0 and opened.image(0).shape == (256, 256, 3)
