"""Two options against what pruning costs: the maps of the dense model, and gates that are warmed first."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from support.trainings import TINY, Pictures, Tiny, assert_same_training, lines, settings, weights

import svit.training.trainer
import svit.weights.loading
from svit.core.config import Config, ConfigError, PruningConfig, TrainConfig, from_dict, to_dict
from svit.training.distillation import distance
from svit.training.optimise import ratio_share
from svit.training.train import TrainError, train
from svit.weights import checkpoint

DENSE = replace(TINY, pruning=PruningConfig())


@pytest.fixture(autouse=True)
def _tiny_models(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(svit.training.trainer, "build_detector", Tiny)
    monkeypatch.setattr(svit.weights.loading, "build_detector", Tiny)


def saved(path: Path, config: Config, seed: int = 0) -> Path:
    torch.manual_seed(seed)
    checkpoint.save(path, Tiny(config))
    return path


@pytest.fixture
def dense(tmp_path: Path) -> Path:
    return saved(tmp_path / "dense.safetensors", DENSE)


def test_the_distance_of_maps_is_their_relative_squared_error() -> None:
    maps = {"c2": torch.randn(2, 3, 4, 4), "c3": torch.randn(2, 3, 2, 2)}
    assert distance(maps, maps) == 0
    half = {name: 0.5 * one for name, one in maps.items()}
    assert float(distance(half, maps)) == pytest.approx(0.25)
    one_level = {**maps, "c3": torch.zeros(2, 3, 2, 2)}
    assert float(distance(one_level, maps)) == pytest.approx(0.5)


def test_maps_of_the_start_are_learnt_and_the_training_goes_on_bit_for_bit(
    dense: Path, tmp_path: Path
) -> None:
    config = settings(distil=2.0, average=0.5)
    train(config, Pictures(), tmp_path / "whole", init=dense)
    told = [line["distillation_loss"] for line in lines(tmp_path / "whole")]
    assert min(told) > 0  # the start prunes, the teacher does not
    train(settings(average=0.5), Pictures(), tmp_path / "alone", init=dense)
    ours, alone = weights(tmp_path / "whole"), weights(tmp_path / "alone")
    assert any(not torch.equal(ours[name], alone[name]) for name in ours if "blocks." in name)
    train(config, Pictures(), tmp_path / "parts", init=dense, max_steps_this_run=6)
    other = saved(tmp_path / "other.safetensors", DENSE, seed=1)
    with pytest.raises(TrainError, match="the maps of other dense weights"):
        train(config, Pictures(), tmp_path / "parts", init=other, resume=True)
    train(config, Pictures(), tmp_path / "parts", init=dense, resume=True)
    assert_same_training(tmp_path / "parts", tmp_path / "whole")


def test_a_dense_model_that_is_its_own_teacher_has_nothing_to_learn_at_first(
    dense: Path, tmp_path: Path
) -> None:
    plain = replace(settings(iterations=1, distil=1.0), pruning=DENSE.pruning)
    plain = replace(plain, backbone=replace(plain.backbone, drop_path=0.0))
    train(plain, Pictures(), tmp_path / "out", init=dense)
    assert lines(tmp_path / "out")[0]["distillation_loss"] == pytest.approx(0, abs=1e-9)


def test_a_teacher_that_cannot_teach_is_refused_before_anything_is_written(
    dense: Path, tmp_path: Path
) -> None:
    config, out = settings(distil=1.0), tmp_path / "out"
    with pytest.raises(ConfigError, match="name them with --init"):
        train(config, Pictures(), out)
    pruned = saved(tmp_path / "pruned.safetensors", TINY)
    with pytest.raises(ConfigError, match=r"prunes \(svit\)"):
        train(config, Pictures(), out, init=pruned)
    wide = replace(config, backbone=replace(config.backbone, embed_dim=32))
    with pytest.raises(
        ConfigError, match="a pyramid neck and 16 channels, the model pyramid and 32"
    ):
        train(wide, Pictures(), out, init=dense)
    assert not out.exists()


def test_weights_of_other_colours_are_no_teacher_and_are_told_as_a_start_as_other_heads_are(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    other = replace(DENSE, data=replace(DENSE.data, mean_rgb=(127.5,) * 3, std_rgb=(127.5,) * 3))
    path = saved(tmp_path / "other.safetensors", other)
    with pytest.raises(ConfigError, match=r"127.5, 127.5\).*maps would be of no picture"):
        train(settings(distil=1.0), Pictures(), tmp_path / "taught", init=path)
    with caplog.at_level("INFO", "svit.training"):
        train(settings(), Pictures(), tmp_path / "begun", init=path, max_steps_this_run=1)
    assert "begins on other colours" in caplog.text and "heads" not in caplog.text
    heads = replace(TINY.backbone, heads=2 * TINY.backbone.heads)
    with caplog.at_level("INFO", "svit.training"):
        train(
            replace(settings(), backbone=heads), Pictures(), tmp_path / "divided", init=path,
            max_steps_this_run=1,
        )  # fmt: skip
    assert f"has {TINY.backbone.heads} heads, the model's {heads.heads}" in caplog.text


def test_the_ratio_loss_is_warmed_linearly(tmp_path: Path) -> None:
    warmed = replace(TINY.train, ratio_warmup=0.5)
    assert [ratio_share(warmed, step, 8) for step in (0, 1, 3, 4, 7)] == [0, 0.25, 0.75, 1, 1]
    assert ratio_share(TINY.train, 0, 8) == 1
    train(settings(iterations=1), Pictures(), tmp_path / "plain")
    train(settings(iterations=1, ratio_warmup=0.5), Pictures(), tmp_path / "warmed")
    plain, first = lines(tmp_path / "plain")[0], lines(tmp_path / "warmed")[0]
    assert plain["ratio_loss"] > 0 and first["ratio_loss"] == 0
    assert first["loss_cls"] == plain["loss_cls"]


def test_settings_that_came_later_are_written_where_they_are_used_only() -> None:
    assert not {"distil", "ratio_warmup"} & to_dict(TINY)["train"].keys()
    config = replace(TINY, train=replace(TINY.train, distil=0.5))
    assert to_dict(config)["train"]["distil"] == 0.5
    assert from_dict(to_dict(config)) == config and from_dict(to_dict(TINY)) == TINY
    with pytest.raises(ConfigError, match=r"train\.ratio_warmup"):
        TrainConfig(ratio_warmup=1.5)
