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
from svit.pruning.methods.avit import Halting
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


def through(pruner, x: Tensor, blocks: list[Block], keep: dict[int, Tensor]) -> tuple[Tensor, ...]:
    """The map after every block, these masks at the probes, and the state."""
    hooks = [
        pruner.probes[layer].register_forward_hook(lambda p, i, out: keep.get(p.layer, out))
        for layer in range(12)
    ]
    state = pruner.begin(x, CLASS_POSITION, list(range(len(x))))
    for layer, block in enumerate(blocks):
        x = pruner(layer, block, x, state)
    for hook in hooks:
        hook.remove()
    return x, state


@torch.no_grad()
def test_a_package_is_the_mean_of_what_was_dropped_weighted_by_its_scores(blocks) -> None:
    pruner, x, seen = method("spvit"), tokens(2), {}
    gate = pruner.gates[0]
    hook = blocks[3].register_forward_pre_hook(lambda _, inputs: seen.update(rows=inputs[0]))
    state = pruner.begin(x, CLASS_POSITION)
    for layer in range(4):
        before, x = x, pruner(layer, blocks[layer], x, state)
    hook.remove()
    dropped = ~state.previous
    probability = (gate(before)[..., 0] - gate(before)[..., 1]).sigmoid() * dropped
    expected = torch.einsum("bn,bnc->bc", probability, before) / probability.sum(1, keepdim=True)
    assert dropped.any(dim=1).all() and state.extra["packages"].present.all()
    torch.testing.assert_close(seen["rows"][:, -1], expected)


@torch.no_grad()
def test_each_stage_adds_a_package_that_kept_tokens_attend_to(blocks) -> None:
    pruner, x = method("spvit", inference="topk"), tokens(2)
    out, state = through(pruner, x, blocks, {})
    assert state.extra["packages"].rows.shape == (2, 3, DIM)
    same = method(
        "svit", inference="topk", inherit=True, gate="head_weighted", keep_ratios=[0.7, 0.49, 0.343]
    )
    same.load_state_dict(pruner.state_dict())
    without, _ = through(same, x, blocks, {})
    assert not torch.allclose(out, without)


@torch.no_grad()
def test_an_image_that_dropped_nothing_has_no_package(blocks) -> None:
    """Beside one that did, in one batch: its map is the dense model's."""
    keep = torch.ones(2, N, dtype=torch.bool)
    keep[1, 10:] = False
    for training in (False, True):
        x = tokens(2)
        out, state = through(
            method("spvit").train(training), x, blocks, {n: keep for n in range(3, 12)}
        )
        dense, _ = through(method("dense"), x, blocks, {})
        assert not state.extra["packages"].present[0].any()
        torch.testing.assert_close(out[0], dense[0], atol=5e-5, rtol=1e-4)


def test_a_classifier_learns_through_the_package_what_it_dropped(blocks) -> None:
    """The loss reads kept tokens only; their sole way to the score of a dropped one is the package."""
    pruner, x, seen = method("spvit").train(), tokens(2), {}
    pruner.noise_scale = 0.0
    pruner.score_probes[3].register_forward_hook(lambda p, i, out: seen.update(score=out))
    state = pruner.begin(x, CLASS_POSITION)
    for layer in range(4):
        x = pruner(layer, blocks[layer], x, state)
    keep = state.previous
    (found,) = torch.autograd.grad(x[keep].square().sum(), seen["score"])
    assert found[~keep].abs().min() > 0


def scores_of(x: Tensor) -> Tensor:
    return (10 * x[..., 0] - 30).sigmoid()


@torch.no_grad()
def test_a_token_halts_once_its_scores_pass_one_less_epsilon(blocks) -> None:
    pruner, x = method("avit"), 2 * tokens(2)
    state, spent = pruner.begin(x, CLASS_POSITION), torch.zeros(2, N)
    halted = torch.zeros(2, N, dtype=torch.bool)
    for layer, block in enumerate(blocks):
        if layer >= 3:  # before the first deciding block no token halts
            halted |= spent > 0.99
        after = pruner(layer, block, x, state)
        assert torch.equal(state.previous, ~halted)
        assert torch.equal(after[halted], x[halted])
        spent += scores_of(after) * ~halted
        x = after
    assert 0 < halted.sum() < halted.numel()


def test_halting_shares_add_up_to_one_for_every_token(blocks) -> None:
    pruner, x, masks = method("avit").train(), 2 * tokens(3), []
    for probe in pruner.probes:
        probe.register_forward_hook(lambda p, i, out: masks.append(out))
    _, state = through(pruner, x, blocks, {})
    shares = torch.stack(state.extra["halting"].shares)
    assert shares.min() >= 0
    torch.testing.assert_close(shares.sum(dim=0), torch.ones(3, N))
    left = state.extra["halting"].ponder - torch.stack(masks).sum(dim=0)
    assert left.min() >= 0 and left.max() <= 1


def test_a_score_learns_whether_its_token_had_better_stopped(blocks) -> None:
    """The loss wants a token's value of block 6 back: only its score there can bring it."""
    pruner, x = method("avit", gate_centre=0.0, gate_scale=0.1).train(), tokens()
    state, maps = pruner.begin(x, CLASS_POSITION), []
    for layer, block in enumerate(blocks):
        x = pruner(layer, block, x, state)
        maps.append(x)
    shares = state.extra["halting"].shares
    wanted = maps[5].detach()
    (found,) = torch.autograd.grad((x * wanted).sum(), shares[5], retain_graph=True)
    torch.testing.assert_close(
        found, ((wanted - x.detach()) * wanted).sum(-1), atol=1e-4, rtol=1e-3
    )


def test_the_prior_is_met_where_shares_of_tokens_halt_as_the_keep_ratios_say() -> None:
    pruner = method("avit", ponder_weight=0.0).train()
    ratios = torch.tensor([*pruner.target_ratios(), 0.0])
    halting = Halting(torch.zeros(1, 1000), torch.zeros(1, 1000))
    ends = torch.arange(1000) / 1000
    halting.shares = [
        ((ends < start) & (ends >= end)).float().unsqueeze(0)
        for start, end in zip(ratios[:-1], ratios[1:])
    ]
    state = pruner.begin(tokens(), CLASS_POSITION)
    state.extra["halting"] = halting
    assert abs(float(pruner.losses(state)["halting_loss"])) < 1e-4
    halting.shares.reverse()
    assert float(pruner.losses(state)["halting_loss"]) > 0.1


@torch.no_grad()
def test_cropr_s_score_is_the_sum_of_raw_products_with_all_queries() -> None:
    scorer, x = method("cropr").scorers[0], tokens(2)
    products = scorer.queries.expand(2, -1, -1) @ x.transpose(1, 2)
    torch.testing.assert_close(scorer.score(x), products.sum(dim=1), atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_all_tokens_meet_in_cropr_s_last_block(blocks) -> None:
    pruner, x = method("cropr"), tokens(2)
    state, masks, maps = pruner.begin(x, CLASS_POSITION), [], [x]
    for layer, block in enumerate(blocks):
        maps.append(pruner(layer, block, maps[-1], state))
        masks.append(state.previous)
    assert [int(mask[0].sum()) for mask in masks] == [N] * 3 + [28] * 3 + [20] * 3 + [14] * 2 + [N]
    assert all((after <= before).all() for before, after in zip(masks[:-1], masks[1:-1]))
    gone = ~masks[3]
    assert torch.equal(maps[11][gone], maps[3][gone])  # stale until they join again
    torch.testing.assert_close(maps[12], blocks[11](maps[11]), atol=1e-5, rtol=1e-4)
    assert method("cropr").target_ratios()[-2:] == [0.343, 1.0]


def taught(pruner, x: Tensor, blocks: list[Block]) -> tuple[Tensor, dict[str, Tensor]]:
    """The map and the losses of a training forward that is told what objects cover."""
    state = pruner.begin(x, CLASS_POSITION)
    state.grid_hw, state.cover = (5, 8), (torch.arange(N) % 8 < 4).float().expand(len(x), -1)
    for layer, block in enumerate(blocks):
        x = pruner(layer, block, x, state)
    return x, pruner.losses(state)


def test_cropr_s_task_teaches_its_queries_and_leaves_the_tokens_alone(blocks) -> None:
    pruner, x = method("cropr").train(), tokens(2).requires_grad_()
    out, losses = taught(pruner, x, blocks)
    (found,) = torch.autograd.grad(losses["task_loss"], x, retain_graph=True, allow_unused=True)
    assert found is None
    losses["task_loss"].backward()
    assert all(scorer.queries.grad.abs().sum() > 0 for scorer in pruner.scorers)
    queries = [scorer.queries.grad.clone() for scorer in pruner.scorers]
    out.square().sum().backward()  # and the detector's losses leave the queries alone
    assert all(torch.equal(a, b.queries.grad) for a, b in zip(queries, pruner.scorers))


def test_cropr_s_task_can_be_learned(blocks) -> None:
    pruner, x = method("cropr", side=8).train(), tokens(2)
    x = x + 2 * torch.eye(DIM)[torch.arange(N) % 8]  # tokens know their column
    optimiser = torch.optim.Adam(pruner.parameters(), 1e-2)
    losses = []
    for _ in range(40):
        _, task = taught(pruner, x, blocks)
        losses.append(float(task["task_loss"].detach()))
        optimiser.zero_grad()
        task["task_loss"].backward()
        optimiser.step()
    assert losses[-1] < 0.5 * losses[0]


def test_cropr_says_what_it_must_be_shown_and_where_it_cannot_decide(blocks) -> None:
    pruner, x = method("cropr").train(), tokens()
    with pytest.raises(ValueError, match="no targets were shown: train the detector"):
        pruner.losses(through(pruner, x, blocks, {})[1])
    with pytest.raises(ValueError, match="block 12 runs on all tokens with fuse=true"):
        method("cropr", locations=[3, 6, 11])
    method("cropr", locations=[3, 6, 11], fuse=False)


@given(st.integers(1, 1000), st.integers(1, 5000))
@settings(max_examples=60, deadline=None)
def test_shares_are_rounded_down_in_whole_thousandths(thousandths: int, size: int) -> None:
    share = floor_share(thousandths / 1000, size)
    assert share == max(1, thousandths * size // 1000)
