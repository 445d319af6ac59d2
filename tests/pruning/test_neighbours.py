"""Methods that the paper does not compare with: what each adds to the laws of pruning/test_contract.py."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from svit.core.config import BackboneConfig
from svit.models.vit import Block
from svit.pruning import build_method
from svit.pruning.methods.idlevit import IdleViT
from svit.pruning.sampling import floor_share

DIM, HEADS, N = 24, 3, 40
CLASS_POSITION = torch.zeros(1, 1, DIM)


@pytest.fixture(scope="module")
def blocks() -> list[Block]:
    torch.manual_seed(1)
    config = BackboneConfig(embed_dim=DIM, heads=HEADS, depth=12, drop_path=0.0)
    made = [Block(config, 0.0).eval() for _ in range(12)]
    for block in made:  # attention far from uniform, so that selections have something to choose
        torch.nn.init.normal_(block.attn.qkv.weight, std=0.4)
        torch.nn.init.normal_(block.attn.qkv.bias, std=0.4)
    return made


def method(name: str, **options):
    torch.manual_seed(2)
    return build_method(name, DIM, 12, HEADS, options).eval()


def tokens(batch: int = 1, seed: int = 0) -> Tensor:
    return torch.randn(batch, N, DIM, generator=torch.Generator().manual_seed(seed))


def logits_of(block: Block, sequence: Tensor) -> Tensor:
    """Attention logits (B, rows, rows), averaged over heads, from whole matrices."""
    query, key, _ = block.attn.project(block.norm1(sequence))
    return (query @ key.transpose(-1, -2) * (DIM / HEADS) ** -0.5).mean(dim=1)


@torch.no_grad()
def test_idlevit_chooses_by_the_class_token_s_row_of_the_whole_matrix(blocks) -> None:
    pruner, x = method("idlevit"), tokens(2)
    state = pruner.begin(x, CLASS_POSITION)
    for layer in range(12):
        row = logits_of(blocks[layer], torch.cat([state.class_token, x], dim=1))[:, 0, 1:]
        after = pruner(layer, blocks[layer], x, state)
        keep = state.previous
        assert all(row[i][keep[i]].min() >= row[i][~keep[i]].max() for i in range(2) if layer >= 3)
        assert torch.equal(after[~keep], x[~keep])
        x = after


@torch.no_grad()
def test_an_idle_token_is_chosen_again_as_soon_as_its_logit_is_among_the_best(blocks) -> None:
    """Evo-ViT would remember a stale score; here a token of the last block's idle ones may win at once."""
    pruner, x = method("idlevit"), tokens(4)
    state, masks = pruner.begin(x, CLASS_POSITION), []
    for layer, block in enumerate(blocks):
        x = pruner(layer, block, x, state)
        masks.append(state.previous)
    back = [(after & ~before).sum() for before, after in zip(masks[3:], masks[4:])]
    assert min(back) > 0


@torch.no_grad()
def test_the_token_cut_loss_equals_the_matrices_of_the_release(blocks) -> None:
    block, x = blocks[4], tokens(3)
    keep = torch.rand(3, N, generator=torch.Generator().manual_seed(4)) < 0.5
    pruner = method("idlevit")
    state = pruner.begin(x, CLASS_POSITION)
    mass = logits_of(block, torch.cat([state.class_token, x], dim=1)).softmax(dim=-1)
    group = torch.cat([torch.ones(3, 1), keep.float()], dim=1)
    different = (group[:, :, None] - group[:, None, :]).abs()
    different[:, :, 0] = 0
    crossing = ((different * mass).sum(-1)).square().mean()
    staying = ((group[:, :, None] * group[:, None, :] * mass).sum(-1) - group).square().mean()
    torch.testing.assert_close(IdleViT._cut(block, x, keep, state), crossing + staying)


def test_the_token_cut_loss_vanishes_where_no_attention_is_cut(blocks) -> None:
    pruner, x = method("idlevit"), tokens(2)
    everything = torch.ones(2, N, dtype=torch.bool)
    assert IdleViT._cut(blocks[3], x, everything, pruner.begin(x, CLASS_POSITION)) < 1e-10


@pytest.mark.parametrize("weight", [10.0, 0.0])
def test_the_cut_loss_teaches_the_class_token_and_may_be_left_out(weight: float, blocks) -> None:
    pruner, x = method("idlevit", cut_weight=weight).train(), tokens(2)
    state = pruner.begin(x, CLASS_POSITION)
    for layer, block in enumerate(blocks):
        x = pruner(layer, block, x, state)
    losses = pruner.losses(state)
    assert (set(losses) == {"cut_loss"}) == (weight > 0)
    if weight:
        losses["cut_loss"].backward()
        assert pruner.class_token.grad.abs().sum() > 0
        assert pruner.eval().losses(pruner.begin(x, CLASS_POSITION)) == {}


@given(st.integers(1, 1000), st.integers(1, 5000))
@settings(max_examples=60, deadline=None)
def test_shares_are_rounded_down_in_whole_thousandths(thousandths: int, size: int) -> None:
    share = floor_share(thousandths / 1000, size)
    assert share == max(1, thousandths * size // 1000)
