"""A training on finer tokens starts from coarser ones: embeddings resampled, the neck a level up."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from svit.core.config import Config
from svit.core.presets import PRESETS
from svit.detectors import build_detector
from svit.models import build_backbone
from svit.weights import checkpoint
from svit.weights.checkpoint import CheckpointError, load_weights
from svit.weights.conversion import Converted, Report
from svit.weights.name_tables import VIT
from svit.weights.resampling import PATCHES, POSITIONS, resampled

COARSE, FINE = (PRESETS[f"vit-plain-{size}"] for size in ("nano", "fine"))


class Body:
    """A backbone as checkpoints see a detector."""

    class_names: tuple[str, ...] = ()

    def __init__(self, config: Config, seed: int) -> None:
        torch.manual_seed(seed)
        self.config = config
        self.backbone = build_backbone(config.backbone, config.pruning).eval()

    def canonical_state_dict(self) -> dict[str, Tensor]:
        return {f"{VIT}{name}": one for name, one in self.backbone.state_dict().items()}

    def load_canonical(self, state: dict[str, Tensor]) -> None:
        self.backbone.load_state_dict({name.removeprefix(VIT): one for name, one in state.items()})


def test_fine_tokens_start_from_coarse_ones_and_say_so(tmp_path: Path) -> None:
    coarse, fine = Body(COARSE, 0), Body(FINE, 1)
    checkpoint.save(tmp_path / "coarse.safetensors", coarse)
    with pytest.raises(CheckpointError, match=r"patch_embed\.proj\.weight"):
        load_weights(fine, tmp_path / "coarse.safetensors", complete=False)
    report = load_weights(fine, tmp_path / "coarse.safetensors", complete=False, other_body=True)
    assert not report.missing
    told = "\n".join(report.lines())
    assert "note: its patches of 16 pixels are resampled to 8" in told
    assert "note: its positions of 14x14 tokens are resampled to 32x32" in told
    for theirs, ours in (("c3", "c2"), ("c4", "c3"), ("c5", "c4"), ("c5", "c5")):
        pair = (coarse.backbone.pyramid[theirs], fine.backbone.pyramid[ours])
        one, other = (list(part.state_dict().values()) for part in pair)
        assert len(one) == len(other) and all(map(torch.equal, one, other))
    block = "blocks.3.mlp.fc1.weight"
    assert torch.equal(coarse.backbone.state_dict()[block], fine.backbone.state_dict()[block])
    with torch.no_grad():  # as the forward resizes what is stored
        expected = coarse.backbone.positions((32, 32))
        torch.testing.assert_close(fine.backbone.positions((32, 32)), expected)
        maps = fine.backbone(torch.zeros(1, 3, 64, 64))
    assert [tuple(one.shape[2:]) for one in maps.values()] == [(16, 16), (8, 8), (4, 4), (2, 2)]


def test_a_smooth_kernel_sees_a_smooth_picture_alike_in_both_sizes() -> None:
    def ramp(side: int) -> Tensor:
        middles = (torch.arange(side) + 0.5) / side
        return (1 + middles)[None, None, None] + middles[None, None, :, None].expand(1, 3, -1, side)

    weight = ramp(16) / 16**2
    own = {PATCHES: torch.zeros(1, 3, 8, 8), POSITIONS: torch.zeros(1, 5, 1)}
    given = Converted({PATCHES: weight}, COARSE, Report("file", "ours"))
    small = resampled(given, own).state[PATCHES]
    assert small.shape == (1, 3, 8, 8)
    assert (small * ramp(8)).sum() == pytest.approx(float((weight * ramp(16)).sum()), rel=0.03)


def test_weights_of_the_models_own_sizes_are_left_as_they_are() -> None:
    state = {PATCHES: torch.rand(2, 3, 8, 8), POSITIONS: torch.rand(1, 5, 2)}
    given = Converted(state, COARSE, Report("file", "ours"))
    found = resampled(given, {name: torch.zeros_like(one) for name, one in state.items()})
    assert found.report == given.report and all(found.state[name] is state[name] for name in state)


def test_patches_of_14_pixels_start_a_backbone_of_16(tmp_path: Path) -> None:
    """As DINOv2's."""
    wide = replace(COARSE, backbone=replace(COARSE.backbone, patch=14, neck="adapter"))
    path = tmp_path / "timm.pth"
    body = Body(wide, 0)
    names = ("patch_embed", "pos_embed", "blocks")
    state = {n: v for n, v in body.backbone.state_dict().items() if n.startswith(names)}
    torch.save(state, path)
    report = load_weights(Body(COARSE, 1), path, complete=False, other_body=True)
    assert "its patches of 14 pixels are resampled to 16" in "\n".join(report.notes)


def test_the_shipped_shapes_weights_start_the_preset_of_fine_tokens() -> None:
    (path,) = Path("demo").glob("vit-plain-nano-long.safetensors")
    report = load_weights(build_detector(FINE), path, complete=False, other_body=True)
    assert not report.missing and len(report.notes) == 2
