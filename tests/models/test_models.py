"""Backbones: shapes, strides, initialisation, and deformable attention against a per-point loop."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from svit.core.config import PruningConfig
from svit.core.presets import PRESETS
from svit.models import build_backbone
from svit.models.deform_attn import DeformableAttention, sample_and_mix
from svit.models.vit import sine_cosine_grid


def build(preset: str, **changes):
    torch.manual_seed(0)
    config = PRESETS[preset]
    return build_backbone(replace(config.backbone, **changes), config.pruning)


@pytest.mark.parametrize(
    ("preset", "parameters"),
    [
        ("vit-adapter-t", 7_962_032),
        ("vit-adapter-s", 27_494_672),
        ("svit-adapter-t", 8_049_746),
        ("svit-adapter-s", 27_835_970),
    ],
)
def test_parameter_counts_equal_the_released_classes(preset: str, parameters: int) -> None:
    config = PRESETS[preset]
    model = build_backbone(config.backbone, config.pruning)
    assert sum(p.numel() for p in model.parameters()) == parameters


@pytest.mark.parametrize("neck", ["adapter", "pyramid"])
@pytest.mark.parametrize("patch", [16, 8])
def test_maps_have_the_declared_strides_and_channels(neck: str, patch: int) -> None:
    if neck == "adapter" and patch != 16:
        pytest.skip("the ViT-Adapter is defined for 16-pixel patches")
    model = build("svit-plain-nano", neck=neck, patch=patch, embed_dim=24, prior_dim=4).eval()
    with torch.no_grad():
        maps = model(torch.randn(2, 3, 96, 160))
    for name, stride in model.strides.items():
        assert maps[name].shape == (2, model.channels, 96 // stride, 160 // stride)


def test_sides_that_32_does_not_divide_are_refused_with_the_remedy() -> None:
    with pytest.raises(ValueError, match="divisible by 32.*pad_batch"):
        build("vit-plain-nano")(torch.randn(1, 3, 100, 64))


def test_at_initialisation_the_adapter_leaves_the_tokens_alone() -> None:
    model = build("vit-adapter-nano").eval()
    tokens, prior = torch.randn(1, 16, 96), torch.randn(1, 84, 96)
    from svit.models.adapter import geometry

    injected = model.interactions[0].injector(tokens, prior, geometry((4, 4), tokens.device))
    assert torch.equal(injected, tokens)


def test_prior_dropout_hides_the_prior_of_some_images_in_training_only() -> None:
    model = build("vit-adapter-nano", prior_dropout=0.5, embed_dim=24, prior_dim=4)
    images = torch.randn(16, 3, 32, 32)
    c1, prior = model.train()._prior(images)
    hidden = (prior == 0).all(dim=(1, 2))
    assert 0 < hidden.sum() < 16
    assert torch.equal(hidden, (c1 == 0).all(dim=(1, 2, 3)))
    assert not (model.eval()._prior(images)[1] == 0).all(dim=(1, 2)).any()


def test_deformable_attention_equals_a_loop_over_points() -> None:
    torch.manual_seed(0)
    shapes, heads, points, channels, queries = [(4, 6), (2, 3)], 2, 3, 5, 7
    value = torch.randn(2, 30, heads, channels)
    locations = torch.rand(2, queries, heads, 2, points, 2) * 1.4 - 0.2  # some outside
    weights = torch.rand(2, queries, heads, 2, points)
    ours = sample_and_mix(value, shapes, locations, weights)
    slow = torch.zeros(2, queries, heads, channels)
    for b in range(2):
        for q in range(queries):
            for h in range(heads):
                start = 0
                for level, (rows, columns) in enumerate(shapes):
                    cells = value[b, start : start + rows * columns, h].view(
                        rows, columns, channels
                    )
                    start += rows * columns
                    for p in range(points):
                        x, y = locations[b, q, h, level, p].tolist()
                        sampled = bilinear(cells, x * columns - 0.5, y * rows - 0.5)
                        slow[b, q, h] += weights[b, q, h, level, p] * sampled
    torch.testing.assert_close(ours, slow.flatten(2), atol=1e-5, rtol=1e-5)


def bilinear(cells: torch.Tensor, x: float, y: float) -> torch.Tensor:
    """Zero outside the grid."""
    rows, columns, channels = cells.shape
    total = torch.zeros(channels)
    left, top = int(x // 1), int(y // 1)
    for row in (top, top + 1):
        for column in (left, left + 1):
            share = (1 - abs(x - column)) * (1 - abs(y - row))
            if 0 <= row < rows and 0 <= column < columns:
                total += share * cells[row, column]
    return total


def test_deformable_attention_starts_as_a_ring_with_equal_weights() -> None:
    attention = DeformableAttention(24, levels=1, heads=4, points=2, ratio=1.0)
    ring = attention.sampling_offsets.bias.view(4, 1, 2, 2)
    expected = torch.tensor([[1.0, 0], [0, 1], [-1, 0], [0, -1]])
    torch.testing.assert_close(ring[:, 0, 0], expected, atol=1e-6, rtol=0)
    torch.testing.assert_close(ring[:, 0, 1], 2 * expected, atol=1e-6, rtol=0)
    assert not attention.attention_weights.weight.any()


def test_positions_are_returned_unchanged_on_their_own_grid() -> None:
    model = build("vit-plain-nano")
    torch.testing.assert_close(model.positions((14, 14)), model.pos_embed[:, 1:])
    assert model.positions((3, 5)).shape == (1, 15, 96)


def test_the_initial_positions_tell_every_cell_apart() -> None:
    grid = sine_cosine_grid(6, 16)
    distance = torch.cdist(grid, grid) + torch.eye(36) * 9
    assert distance.min() > 0.05


def test_losses_of_a_training_forward_are_handed_out_once() -> None:
    model = build("svit-plain-nano").train()
    model(torch.randn(1, 3, 32, 32))
    assert set(model.take_losses()) == {"ratio_loss"}
    assert model.take_losses() == {}


def test_dense_and_gated_models_share_every_backbone_name() -> None:
    dense, sparse = build("vit-adapter-nano"), build("svit-adapter-nano")
    extra = set(sparse.state_dict()) - set(dense.state_dict())
    assert extra and all(name.startswith("method.") for name in extra)


def test_an_image_is_the_same_alone_and_in_a_batch() -> None:
    model = build("svit-adapter-nano", embed_dim=24, prior_dim=4).eval()
    images = torch.randn(3, 3, 64, 64)
    with torch.no_grad():
        together = model(images)
        for index in range(3):
            alone = model(images[index : index + 1])
            for name in alone:
                torch.testing.assert_close(
                    alone[name][0], together[name][index], atol=1e-4, rtol=1e-4
                )


def test_unknown_methods_are_refused() -> None:
    with pytest.raises(ValueError, match="unknown pruning method"):
        build_backbone(PRESETS["vit-plain-nano"].backbone, PruningConfig("svitt"))
