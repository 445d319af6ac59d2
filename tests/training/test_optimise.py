"""Optimiser, schedules and precision: the official exclusions, torch's own schedules, float32 outside."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from support.trainings import TINY, Pictures, Tiny, settings
from torch.optim import lr_scheduler as schedulers

import svit.training.trainer
from svit.core.config import TrainConfig
from svit.training import training_checkpoints
from svit.training.optimise import (
    Precision,
    noise_scale,
    parameter_groups,
    rate_factor,
    total_steps,
)
from svit.training.train import train


def test_decay_and_rate_follow_the_official_exclusions() -> None:
    config = settings(weight_decay=0.05, gate_weight_decay=0.2)
    detector = Tiny(config)
    names = {id(parameter): name for name, parameter in detector.named_parameters()}
    found = {
        names[id(parameter)]: (group["scale"], group["weight_decay"])
        for group in parameter_groups(detector, config.train)
        for parameter in group["params"]
    }
    assert found.keys() == set(names.values())
    assert found["body.pos_embed"] == found["body.blocks.0.norm1.weight"] == (1.0, 0.0)
    assert found["body.blocks.0.attn.qkv.bias"] == found["head.bias"] == (1.0, 0.0)
    assert found["body.blocks.0.attn.qkv.weight"] == found["head.weight"] == (1.0, 0.05)
    assert found["body.method.gates.0.fc1.weight"] == (10.0, 0.2)
    assert found["body.method.gates.0.norm.weight"] == (10.0, 0.0)


def test_frozen_parameters_are_left_out() -> None:
    detector = Tiny(TINY)
    detector.body.pos_embed.requires_grad_(False)
    groups = parameter_groups(detector, TINY.train)
    assert all(p is not detector.body.pos_embed for group in groups for p in group["params"])


def scheduled(scheduler: Callable[[torch.optim.Optimizer], object], steps: int) -> list[float]:
    """The factors one of torch's own schedulers gives."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    chosen, factors = scheduler(optimizer), []
    for _ in range(steps):
        factors.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        chosen.step()
    return factors


def test_the_schedules_are_torchs_own_after_the_warm_up() -> None:
    cosine = TrainConfig(schedule="cosine", warmup=0)
    expected = scheduled(lambda o: schedulers.CosineAnnealingLR(o, 50, eta_min=0.01), 50)
    assert [rate_factor(cosine, step, 50) for step in range(50)] == pytest.approx(expected)
    steps = TrainConfig(epochs=36, drops=(27, 33), warmup=0)
    expected = scheduled(lambda o: schedulers.MultiStepLR(o, [54, 66]), 72)
    assert [rate_factor(steps, step, 72) for step in range(72)] == pytest.approx(expected)


def test_the_warm_up_is_linear_from_its_start() -> None:
    train_config = TrainConfig(warmup=500, warmup_start=0.001)
    factors = [rate_factor(train_config, step, 10**6) for step in (0, 250, 499, 500)]
    assert factors == pytest.approx([0.001, 0.5005, 0.998002, 1.0])


@given(step=st.integers(0, 2000), total=st.integers(1, 1000), end=st.floats(0.01, 1))
def test_the_noise_falls_and_never_below_zero(step: int, total: int, end: float) -> None:
    here = noise_scale(TrainConfig(noise_end=end), step, total)
    later = noise_scale(TrainConfig(noise_end=end), step + 1, total)
    assert 1 >= here >= later >= 0
    assert here > 0 or step >= end * total * (1 - 1e-9)
    assert noise_scale(TrainConfig(noise_end=0.0), step, total) == 1.0


def test_iterations_decide_over_epochs() -> None:
    # methods.md 4: 117,266 images in batches of 16 for 6 epochs are about 44,000 iterations
    assert total_steps(TrainConfig(epochs=6, batch=16), 117_266) == 43_975
    assert total_steps(TrainConfig(epochs=6, batch=16, iterations=7), 117_266) == 7


def test_bfloat16_covers_the_backbone_and_hands_out_float32(tmp_path: Path) -> None:
    seen = []
    detector = Tiny(TINY)
    detector.body.blocks[0].register_forward_hook(lambda m, i, out: seen.append(out.dtype))
    detector.head.register_forward_hook(lambda m, i, out: seen.append(out.dtype))
    detector.body.blocks[0].mlp.register_forward_hook(lambda m, i, out: seen.append(out.dtype))
    precision = Precision("bfloat16", torch.device("cpu"))
    losses = precision.losses(detector.train(), [Pictures().sample(0, seed=1)])
    assert torch.bfloat16 in seen[:-1] and seen[-1] == torch.float32
    assert all(loss.dtype == torch.float32 for loss in losses.values())


@pytest.mark.gpu
def test_float16_trains_on_cuda_and_resumes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(svit.training.trainer, "build_detector", Tiny)
    config = settings(precision="float16")
    train(config, Pictures(), tmp_path, device="cuda", max_steps_this_run=4)
    assert training_checkpoints.read(training_checkpoints.paths(tmp_path)[0])["scaler"]["scale"] > 0
    assert train(config, Pictures(), tmp_path, device="cuda", resume=True) == "finished"
