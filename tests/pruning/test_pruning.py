"""The pruning core: decisions, losses, and three executions that must agree."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from svit.core.catalogue import METHODS
from svit.core.config import BackboneConfig
from svit.models.vit import Block
from svit.pruning import build_method
from svit.pruning.base import (
    all_tokens,
    run_block,
    run_gathered,
    run_masked,
    run_padded,
    straight_through,
)
from svit.pruning.gates import MLPGate
from svit.pruning.losses import dynamic_ratio_loss, fixed_ratio_loss
from svit.pruning.methods.svit import SViT

CONFIG = BackboneConfig(embed_dim=24, heads=3, depth=12, drop_path=0.0)
TOKENS = 20


@pytest.fixture
def block() -> Block:
    torch.manual_seed(0)
    return Block(CONFIG, 0.0).eval()


def random_case(seed: int, batch: int = 2, ratio: float = 0.5) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randn(batch, TOKENS, CONFIG.embed_dim, generator=generator)
    keep = torch.rand(batch, TOKENS, generator=generator) < ratio
    return tokens, keep


def run_through(
    method: nn.Module, tokens: torch.Tensor, blocks: list[Block]
) -> tuple[torch.Tensor, list]:
    masks = []
    hooks = [p.register_forward_hook(lambda m, i, out: masks.append(out)) for p in method.probes]
    state = method.begin(tokens, torch.zeros(1, 1, CONFIG.embed_dim))
    state.grid_hw = (1, tokens.shape[1])
    for layer, block in enumerate(blocks):
        tokens = method(layer, block, tokens, state)
    for hook in hooks:
        hook.remove()
    return tokens, masks


@pytest.fixture
def blocks() -> list[Block]:
    torch.manual_seed(1)
    return [Block(CONFIG, 0.0).eval() for _ in range(CONFIG.depth)]


@given(seed=st.integers(0, 10_000), ratio=st.sampled_from([0.0, 0.1, 0.5, 0.9, 1.0]))
@settings(max_examples=25, deadline=None)
def test_masked_gathered_and_padded_executions_agree(seed: int, ratio: float) -> None:
    torch.manual_seed(0)
    block = Block(CONFIG, 0.0).eval()
    tokens, keep = random_case(seed, batch=3, ratio=ratio)
    keep[0] = False  # an image that keeps nothing
    keep[1, 0] = True
    with torch.no_grad():
        masked = run_masked(block, tokens, keep)
        padded = run_padded(block, tokens, keep)
        gathered = torch.cat([run_gathered(block, t[None], k[None]) for t, k in zip(tokens, keep)])
    torch.testing.assert_close(masked, gathered, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(padded, gathered, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("run", [run_masked, run_padded, run_gathered])
def test_a_pruned_token_is_bit_identical_before_and_after_a_block(run, block: Block) -> None:
    tokens, keep = random_case(3, batch=1)
    with torch.no_grad():
        after = run(block, tokens, keep)
    assert torch.equal(after[~keep], tokens[~keep])
    assert not torch.equal(after[keep], tokens[keep])


@pytest.mark.parametrize("run", [run_masked, run_padded, run_gathered])
def test_a_removed_token_is_exactly_zero(run, block: Block) -> None:
    tokens, keep = random_case(4, batch=1)
    with torch.no_grad():
        after = run(block, tokens, keep, preserve=False)
    assert torch.equal(after[~keep], torch.zeros_like(after[~keep]))


@pytest.mark.parametrize("run", [run_masked, run_padded, run_gathered])
def test_keeping_everything_equals_the_dense_block(run, block: Block) -> None:
    tokens, _ = random_case(5, batch=1)
    with torch.no_grad():
        torch.testing.assert_close(run(block, tokens, all_tokens(tokens)), block(tokens))


def test_a_kept_token_does_not_see_pruned_ones(block: Block) -> None:
    tokens, keep = random_case(6, batch=1)
    disturbed = torch.where(keep.unsqueeze(-1), tokens, tokens + 7)
    with torch.no_grad():
        one, other = (run_masked(block, x, keep) for x in (tokens, disturbed))
    torch.testing.assert_close(one[keep], other[keep], atol=1e-6, rtol=0)


def test_an_image_that_keeps_nothing_has_finite_values_and_gradients(block: Block) -> None:
    tokens, keep = random_case(7)
    keep[0] = False
    tokens.requires_grad_()
    gate = keep.float().requires_grad_()
    run_masked(block, tokens, keep, gate).sum().backward()
    assert torch.isfinite(tokens.grad).all() and torch.isfinite(gate.grad).all()


def test_the_gate_gradient_is_the_update_the_block_would_make(block: Block) -> None:
    tokens, keep = random_case(8)
    gate = keep.float().requires_grad_()
    weight = torch.randn(tokens.shape)
    (run_masked(block, tokens, keep, gate) * weight).sum().backward()
    with torch.no_grad():
        update = block(tokens, key_mask=keep) - tokens
    torch.testing.assert_close(gate.grad, (weight * update).sum(-1), atol=1e-4, rtol=1e-4)


def test_straight_through_has_hard_values_and_the_soft_gradient() -> None:
    soft = torch.tensor([[0.2, 0.9]], requires_grad=True)
    keep = soft > 0.5
    hard = straight_through(keep, soft)
    assert hard.tolist() == [[0.0, 1.0]]
    (hard * torch.tensor([[3.0, 5.0]])).sum().backward()
    assert soft.grad.tolist() == [[3.0, 5.0]]


@given(st.lists(st.lists(st.booleans(), min_size=4, max_size=4), min_size=1, max_size=5))
def test_the_dynamic_loss_never_exceeds_the_fixed_one(rows: list[list[bool]]) -> None:
    gate = torch.tensor(rows, dtype=torch.float32)
    dynamic = dynamic_ratio_loss([gate], [0.7])
    fixed = fixed_ratio_loss([gate], [0.7])
    assert dynamic <= fixed + 1e-7
    if len(rows) == 1:
        torch.testing.assert_close(dynamic, fixed)


def test_ratio_losses_by_hand() -> None:
    gate = torch.tensor([[1.0, 1.0], [0.0, 0.0]])
    assert dynamic_ratio_loss([gate, gate], [0.5, 0.5]).item() == 0
    assert fixed_ratio_loss([gate, gate], [0.5, 0.5]).item() == pytest.approx(0.25)
    assert dynamic_ratio_loss([gate], [0.25], chunk=1).item() == pytest.approx(
        (0.75**2 + 0.25**2) / 2
    )
    with pytest.raises(ValueError, match="expected 2 gated layers"):
        dynamic_ratio_loss([gate], [0.5, 0.5])


def test_the_gate_is_the_two_layer_perceptron_of_the_paper() -> None:
    gate = MLPGate(192)
    assert sum(p.numel() for p in gate.parameters()) * 9 == 87_714  # methods.md 2.7
    assert gate(torch.randn(2, 5, 192)).exp().sum(-1).allclose(torch.ones(2, 5))


def test_a_gate_bias_sets_the_initial_log_odds() -> None:
    scores = MLPGate(24, bias=2.0)(torch.randn(4, 50, 24))
    odds = scores[..., 0] - scores[..., 1]
    assert odds.mean().item() == pytest.approx(2.0, abs=0.3)


def test_gates_stay_in_float32_under_autocast() -> None:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert MLPGate(24)(torch.randn(1, 5, 24, dtype=torch.bfloat16)).dtype == torch.float32


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("batch", [1, 2])
def test_every_method_shows_one_boolean_mask_a_block(name: str, batch: int, blocks) -> None:
    method = build_method(name, CONFIG.embed_dim, CONFIG.depth, CONFIG.heads).eval()
    tokens, _ = random_case(9, batch=batch)
    with torch.no_grad():
        out, masks = run_through(method, tokens, blocks)
    assert out.shape == tokens.shape
    assert [mask.shape for mask in masks] == [tokens.shape[:2]] * CONFIG.depth
    assert all(mask.dtype == torch.bool for mask in masks)


@pytest.mark.parametrize("mode", SViT.modes)
@pytest.mark.parametrize("inherit", [False, True])
def test_a_batch_equals_its_images_one_by_one(mode: str, inherit: bool, blocks) -> None:
    ratios = [0.7, 0.49, 0.343] if inherit else [0.5] * 9
    torch.manual_seed(2)
    method = SViT(24, 12, 3, keep_ratios=ratios, inherit=inherit, inference=mode).eval()
    tokens, _ = random_case(10, batch=3)
    seeds = [5, 6, 7]
    with torch.no_grad():
        state = method.begin(tokens, None, seeds)
        together = tokens
        for layer, block in enumerate(blocks):
            together = method(layer, block, together, state)
        for index, seed in enumerate(seeds):
            alone = tokens[index : index + 1]
            state = method.begin(alone, None, [seed])
            for layer, block in enumerate(blocks):
                alone = method(layer, block, alone, state)
            torch.testing.assert_close(alone[0], together[index], atol=2e-5, rtol=1e-5)


def test_sampled_masks_keep_tokens_as_often_as_their_probability_says(blocks) -> None:
    method = SViT(24, 12, 3, keep_ratios=[0.5], inference="sample", bias=1.0).eval()
    tokens = torch.randn(1, 4000, 24)
    state = method.begin(tokens, None, [3])
    odds = method._log_odds(0, 11, tokens, state)
    keep, soft = method._decide(0, odds, state)
    assert keep.float().mean().item() == pytest.approx(soft.mean().item(), abs=0.03)


def test_topk_keeps_exactly_the_target_of_every_image(blocks) -> None:
    method = SViT(24, 12, 3, inference="topk").eval()
    tokens, _ = random_case(11, batch=2)
    with torch.no_grad():
        _, masks = run_through(method, tokens, blocks)
    expected = [TOKENS] * 3 + [14] * 3 + [10] * 3 + [7] * 3
    assert [mask.sum(1).tolist() for mask in masks] == [[n, n] for n in expected]


def test_raising_a_calibrated_threshold_keeps_fewer_tokens() -> None:
    method = SViT(24, 12, 3, keep_ratios=[0.5], inference="calibrated").eval()
    odds = torch.linspace(-1, 1, 21).unsqueeze(0)
    method.thresholds.fill_(0.5)
    keep, _ = method._decide(0, odds, method.begin(odds, None))
    assert keep.sum() == 5  # 0.6 .. 1.0


def test_inherited_masks_only_shrink_and_free_ones_may_grow(blocks) -> None:
    tokens, _ = random_case(12, batch=1)
    torch.manual_seed(0)
    inherit = SViT(
        24, 12, 3, keep_ratios=[0.7, 0.49, 0.343], inherit=True, inference="sample"
    ).eval()
    free = SViT(24, 12, 3, inference="sample").eval()
    with torch.no_grad():
        _, shrinking = run_through(inherit, tokens, blocks)
        _, roaming = run_through(free, tokens, blocks)
    assert all((after <= before).all() for before, after in zip(shrinking, shrinking[1:]))
    assert any((after & ~before).any() for before, after in zip(roaming, roaming[1:]))


def test_inherit_shares_one_mask_in_each_group(blocks) -> None:
    method = SViT(24, 12, 3, keep_ratios=[0.7, 0.49, 0.343], inherit=True, inference="topk").eval()
    with torch.no_grad():
        _, masks = run_through(method, random_case(13, batch=1)[0], blocks)
    for first in (3, 6, 9):
        assert torch.equal(masks[first], masks[first + 1]) and torch.equal(
            masks[first], masks[first + 2]
        )
    assert method.target_ratios() == [1.0] * 3 + [0.7] * 3 + [0.49] * 3 + [0.343] * 3


def test_training_reaches_every_gate_and_reports_the_ratio_loss(blocks) -> None:
    method = SViT(24, 12, 3).train()
    tokens, _ = random_case(14)
    state = method.begin(tokens, None)
    out = tokens
    for layer, block in enumerate(blocks):
        out = method(layer, block, out, state)
    losses = method.losses(state)
    (out.square().mean() + losses["ratio_loss"]).backward()
    assert set(losses) == {"ratio_loss"}
    for gate in method.gates:
        assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in gate.parameters())


def test_without_noise_training_decides_as_the_threshold_does(blocks) -> None:
    torch.manual_seed(0)
    method = SViT(24, 12, 3, inference="threshold")
    method.noise_scale = 0.0
    tokens, _ = random_case(15)
    with torch.no_grad():
        _, training = run_through(method.train(), tokens, blocks)
        _, inference = run_through(method.eval(), tokens, blocks)
    assert all(torch.equal(a, b) for a, b in zip(training, inference))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"keep_ratios": [0.0]}, r"keep ratios in \(0, 1\]"),
        ({"keep_ratios": [0.5], "locations": [12]}, "ascending gated layers"),
        ({"keep_ratios": [0.5, 0.5], "locations": [4]}, "expected 2 ascending"),
        ({"inference": "argmax"}, "expected one of sample, threshold"),
        ({"keep_ratio": [0.5]}, "near names: keep_ratios"),
    ],
)
def test_wrong_options_are_refused_with_the_choices(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build_method("svit", 24, 12, 3, options)


def test_an_unknown_method_lists_near_names() -> None:
    with pytest.raises(ValueError, match="near names: svit"):
        build_method("svitt", 24, 12, 3)


def test_run_block_accepts_all_pruned_images_in_a_batch(block: Block) -> None:
    tokens, keep = random_case(16)
    assert torch.equal(run_block(block, tokens, torch.zeros_like(keep)), tokens)
