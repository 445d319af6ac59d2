"""What every method and ablation of the table owes, row by row: the tests of methods.md 16.

Two kinds of numbers are compared: rows that a method keeps, and rows that it does not. The loss terms, the
gates and the samplers by themselves are in pruning/test_pruning.py and pruning/test_methods.py.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from svit.core.catalogue import ROWS, Row
from svit.core.config import BackboneConfig
from svit.models.vit import Block
from svit.pruning import build_method, method_class
from svit.pruning.attention import Attention
from svit.pruning.class_token import ClassTokenMethod

DIM, HEADS, N = 24, 3, 40
CLASS_POSITION = torch.zeros(1, 1, DIM)
BY_NAME = {row.name: row for row in ROWS}
PRUNED = [name for name, row in BY_NAME.items() if row.traits.selection != "none"]
WITH_CLASS_TOKEN = [
    row.name for row in ROWS if issubclass(method_class(row.method), ClassTokenMethod)
]
GATED = [row.name for row in ROWS if row.gated]
MERGING = [name for name, row in BY_NAME.items() if row.traits.merges]
STREAMS = [name for name, row in BY_NAME.items() if row.traits.streams]  # dense on pictures alone
CHOOSING = [
    name for name in PRUNED if name not in STREAMS
]  # test_streams.py shows the others frames
NESTED = [name for name in PRUNED if not BY_NAME[name].traits.reactivates and name != "evovit"]


def make_blocks(seed: int = 1) -> list[Block]:
    torch.manual_seed(seed)
    config = BackboneConfig(embed_dim=DIM, heads=HEADS, depth=12, drop_path=0.0)
    made = [Block(config, 0.0).eval() for _ in range(12)]
    for block in made:  # attention far from uniform, so that selections have something to choose
        torch.nn.init.normal_(block.attn.qkv.weight, std=0.4)
    return made


@pytest.fixture(scope="module")
def blocks() -> list[Block]:
    return make_blocks()


def method(name: str, **options):
    torch.manual_seed(2)
    row: Row = BY_NAME[name]
    return build_method(row.method, DIM, 12, HEADS, {**row.options, **options}).eval()


def pruning(name: str, **options):
    """The method of a row; if it merges, with its merges undone, so that what is off is pruned."""
    pruner = method(name, **options)
    for probe in pruner.merge_probes if name in MERGING else ():
        probe.register_forward_hook(lambda p, i, out: torch.arange(N).expand_as(out))
    return pruner


def begin(pruner, x: Tensor, seeds: list[int] | None = None):
    state = pruner.begin(x, CLASS_POSITION, seeds)
    state.grid_hw = (5, 8)
    return state


def tokens(batch: int = 1, seed: int = 0) -> Tensor:
    return torch.randn(batch, N, DIM, generator=torch.Generator().manual_seed(seed))


def run(
    pruner,
    x: Tensor,
    blocks: list[Block],
    change: Callable[[int, Tensor], Tensor] | None = None,
    layers: range = range(12),
    state=None,
) -> tuple[Tensor, list[Tensor], list[Tensor]]:
    """The final map, the mask of each block, and the map after each block."""
    masks, maps, hooks = [], [], []
    for probe in pruner.probes:
        if change:
            hooks.append(probe.register_forward_hook(lambda p, i, out: change(p.layer, out)))
        hooks.append(probe.register_forward_hook(lambda p, i, out: masks.append(out.clone())))
    state = state or begin(pruner, x, list(range(len(x))))
    for layer in layers:
        x = pruner(layer, blocks[layer], x, state)
        maps.append(x)
    for hook in hooks:
        hook.remove()
    return x, masks, maps


def everything(layer: int, keep: Tensor) -> Tensor:
    return torch.ones_like(keep)


def shrinking(layer: int, keep: Tensor) -> Tensor:
    """Nested masks with different counts in each image, from block 4 on."""
    if layer < 3:
        return keep
    count = torch.tensor([30, 21, 15][(layer - 3) // 3]) - 3 * torch.arange(len(keep))
    order = torch.rand(keep.shape, generator=torch.Generator().manual_seed(5)).argsort(dim=1)
    return order < count.unsqueeze(1)


@pytest.mark.parametrize("name", PRUNED)
@torch.no_grad()
def test_keeping_every_token_equals_the_dense_model(name: str, blocks) -> None:
    pruner, x = method(name), tokens(2)
    kept, _, _ = run(pruner, x, blocks, everything)
    front = [pruner.class_token.expand(2, -1, -1)] if name in WITH_CLASS_TOKEN else []
    sequence = torch.cat([*front, x], dim=1)
    for block in blocks:
        sequence = block(sequence)
    torch.testing.assert_close(kept, sequence[:, -N:], atol=5e-5, rtol=1e-4)


@pytest.mark.parametrize("name", BY_NAME)
@torch.no_grad()
def test_training_computes_what_inference_does_on_the_same_masks(name: str, blocks) -> None:
    x = tokens(2)
    inference, _, _ = run(method(name).eval(), x, blocks, shrinking)
    training, _, _ = run(method(name).train(), x, blocks, shrinking)
    torch.testing.assert_close(training, inference, atol=5e-5, rtol=1e-4)


@pytest.mark.parametrize("name", BY_NAME)
@torch.no_grad()
def test_a_batch_of_unequal_counts_equals_its_images_one_by_one(name: str, blocks) -> None:
    pruner, x = method(name), tokens(3)
    together, _, _ = run(pruner, x, blocks, shrinking)
    for index in range(3):
        only = lambda layer, keep, index=index: shrinking(layer, keep.expand(3, -1))[index, None]  # noqa: E731
        state = begin(pruner, x[index, None], [index])
        alone, _, _ = run(pruner, x[index, None], blocks, only, state=state)
        torch.testing.assert_close(alone[0], together[index], atol=5e-5, rtol=1e-4)


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("name", PRUNED)
@torch.no_grad()
def test_a_kept_token_does_not_see_dropped_ones(name: str, training: bool, blocks) -> None:
    same = lambda layer, keep: shrinking(min(layer, 4), keep)  # noqa: E731
    results = []
    for disturbance in (0.0, 7.0):
        pruner, x = pruning(name).train(training), tokens(2)
        state = begin(pruner, x, [0, 1])
        x, masks, _ = run(pruner, x, blocks, same, range(5), state)
        x = torch.where(masks[4].unsqueeze(-1), x, x + disturbance)
        x, _, _ = run(pruner, x, blocks, same, range(5, 6), state)
        results.append(x[masks[4]])
    torch.testing.assert_close(*results, atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", PRUNED)
def test_an_image_that_keeps_nothing_gives_finite_values_and_gradients(name: str, blocks) -> None:
    def nothing_in_the_first(layer: int, keep: Tensor) -> Tensor:
        return keep & (torch.arange(len(keep)) > 0).unsqueeze(1) if layer >= 3 else keep

    for training in (True, False):
        pruner, x = method(name).train(training), tokens(2).requires_grad_()
        out, masks, _ = run(pruner, x, blocks, nothing_in_the_first)
        assert not masks[5][0].any()
        out.square().mean().backward()
        assert torch.isfinite(out).all() and torch.isfinite(x.grad).all()


@pytest.mark.parametrize("name", NESTED)
@torch.no_grad()
def test_without_reactivation_masks_only_shrink(name: str, blocks) -> None:
    for training in (False, True):
        _, masks, _ = run(method(name).train(training), tokens(2), blocks)
        assert all((after <= before).all() for before, after in zip(masks, masks[1:]))
        assert training or not masks[-1].all()


@pytest.mark.parametrize("name", [name for name in CHOOSING if BY_NAME[name].traits.reactivates])
@torch.no_grad()
def test_with_reactivation_a_dropped_token_comes_back(name: str, blocks) -> None:
    options = {"inference": "sample"} if BY_NAME[name].method == "svit" else {}
    _, masks, _ = run(method(name, **options), tokens(2), blocks)
    assert any((after & ~before).any() for before, after in zip(masks, masks[1:]))


@pytest.mark.parametrize("name", PRUNED)
@torch.no_grad()
def test_every_kept_token_is_put_back_where_it_came_from(name: str) -> None:
    """Blocks without attention: what a token becomes depends on itself alone."""
    alone = make_blocks(3)
    for block in alone:
        torch.nn.init.zeros_(block.attn.proj.weight)
    same = lambda layer, keep: shrinking(min(layer, 4), keep)  # noqa: E731
    out, masks, _ = run(pruning(name), tokens(2), alone, same)
    expected = tokens(2)
    for block in alone:
        expected = block(expected)
    torch.testing.assert_close(out[masks[-1]], expected[masks[-1]], atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("name", PRUNED)
@torch.no_grad()
def test_dropped_rows_are_zero_or_preserved_as_the_row_declares(
    name: str, training: bool, blocks
) -> None:
    _, masks, maps = run(pruning(name).train(training), tokens(2), blocks, shrinking)
    for layer in range(3, 12):
        dropped = maps[layer][~masks[layer]]
        assert dropped.any() == BY_NAME[name].traits.preserves
        if not BY_NAME[name].traits.preserves:
            assert torch.equal(dropped, torch.zeros_like(dropped))


@pytest.mark.parametrize("name", PRUNED)
def test_half_precision_gives_finite_maps_of_the_stream_s_type(name: str, blocks) -> None:
    for training in (True, False):
        pruner, x = method(name).train(training), tokens(2).requires_grad_()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            out, masks, _ = run(pruner, x, blocks)
        assert out.dtype == torch.float32 and torch.isfinite(out).all()
        assert all(mask.dtype == torch.bool for mask in masks)
        out.sum().backward()
        assert torch.isfinite(x.grad).all()


@pytest.mark.parametrize("name", BY_NAME)
@torch.no_grad()
def test_masks_speak_of_patches_alone(name: str, blocks) -> None:
    options = {"fuse": True} if BY_NAME[name].method == "evit" else {}
    _, masks, maps = run(method(name, **options), tokens(2), blocks)
    assert len(masks) == 12 and all(mask.shape == (2, N) for mask in masks)
    assert all(one.shape == (2, N, DIM) for one in maps)


@pytest.mark.parametrize("name", GATED)
def test_the_ratio_loss_vanishes_at_the_targets_and_knows_its_kind(name: str, blocks) -> None:
    pruner = method(name).train()
    targets = dict(zip(pruner.locations, pruner.keep_ratios))

    def on_target(layer: int, keep: Tensor) -> Tensor:
        ranks = torch.arange(N).expand_as(keep)
        return ranks < round(targets[layer] * N) if layer in targets else keep

    def on_average(layer: int, keep: Tensor) -> Tensor:
        shift = torch.tensor([[4], [-4]])
        count = round(targets[layer] * N) if layer in targets else N
        return torch.arange(N).expand_as(keep) < count + shift if layer in targets else keep

    losses = []
    for change in (on_target, on_average):
        x = tokens(2)
        state = pruner.begin(x, CLASS_POSITION)
        with torch.no_grad():
            run(pruner, x, blocks, change, state=state)
        losses.append(float(pruner.losses(state)["ratio_loss"]))
    rounding = 4 * (0.5 / N) ** 2
    assert losses[0] <= rounding
    per_image = losses[1] > 4 * (4 / N) ** 2 - rounding - 0.01
    assert per_image == (not BY_NAME[name].traits.dynamic_rate)


@pytest.mark.parametrize("name", [name for name in GATED if name != "spvit"])  # its package, too
def test_a_gate_learns_from_the_update_its_token_would_get(name: str, blocks) -> None:
    """dL/ds = <dL/dx', Block(x) - old> sigmoid'(s), old being the token itself or, if removed, zero."""
    pruner, x, seen = method(name).train(), tokens(2), {}
    pruner.noise_scale = 0.0
    first = pruner.locations[0]
    pruner.score_probes[first].register_forward_hook(lambda p, i, out: seen.update(score=out))
    pruner.probes[first].register_forward_hook(lambda p, i, out: seen.update(keep=out))
    state = pruner.begin(x, CLASS_POSITION)
    for layer in range(first):
        x = pruner(layer, blocks[layer], x, state).detach()
    weight = torch.randn(x.shape, generator=torch.Generator().manual_seed(9))
    loss = (pruner(first, blocks[first], x, state) * weight).sum()
    (found,) = torch.autograd.grad(loss, seen["score"])
    with torch.no_grad():
        old = x if BY_NAME[name].traits.preserves else torch.zeros_like(x)
        update = blocks[first](x, key_mask=seen["keep"]) - old
        soft = seen["score"].sigmoid()
        expected = (weight * update).sum(dim=-1) * soft * (1 - soft)
    assert 0 < seen["keep"].sum() < seen["keep"].numel()
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-3)


@pytest.mark.parametrize("name", WITH_CLASS_TOKEN)
@torch.no_grad()
def test_scoring_and_attending_share_one_projection(name: str, blocks, monkeypatch) -> None:
    projected = []
    project = Attention.project

    def counted(self, x: Tensor, parts: slice = slice(0, 3)) -> tuple[Tensor, ...]:
        projected.append(x.shape[1] * len(range(3)[parts]))
        return project(self, x, parts)

    monkeypatch.setattr(Attention, "project", counted)
    _, masks, _ = run(method(name), tokens(), blocks)
    alive = [N, *(int(mask.sum()) for mask in masks)]
    of_method = {"ats": (2, 1, 1), "idlevit": (3, 0, 1)}  # it decides by the class token's query
    kinds = of_method.get(BY_NAME[name].method, (3, 0, 0))
    entered = alive[:-1] if BY_NAME[name].method in ("evit", "ats") else alive[1:]
    deciding = len(method(name).locations)
    expected = sum(kinds[0] * (n + 1) for n in entered) + kinds[2] * deciding
    expected += sum(kinds[1] * (n + 1) for n in alive[1:])
    assert sum(projected) == expected


@pytest.mark.parametrize("name", WITH_CLASS_TOKEN)
@torch.no_grad()
def test_shared_and_separate_projections_give_the_same_map(name: str, blocks) -> None:
    """An edit that changes nothing makes EViT and ATS project once more, after the decision."""
    x = tokens(2)
    shared, masks, _ = run(method(name), x, blocks)
    separate, same, _ = run(method(name), x, blocks, lambda layer, keep: keep.clone())
    assert all(torch.equal(a, b) for a, b in zip(masks, same))
    assert torch.equal(shared, separate)


OF_THEIR_OWN_COUNT = ("ats", "avit", "algm", "tome", "mergecontrol")  # pairs merge by half
BY_RATIO = [name for name in CHOOSING if BY_NAME[name].method not in OF_THEIR_OWN_COUNT]


@pytest.mark.parametrize("name", BY_RATIO)
@torch.no_grad()
def test_a_fixed_count_is_never_less_than_one_token(name: str, blocks) -> None:
    row = BY_NAME[name]
    tiny = {"keep_ratio": 0.001} if row.method == "evit" else {}
    tiny = tiny or {"keep_ratios": [0.001] * len(row.options["keep_ratios"])}
    options = {"inference": "topk"} if "topk" in method_class(row.method).modes else {}
    out, masks, _ = run(method(name, **tiny, **options), tokens(2), blocks)
    last = (
        masks[-2] if name == "cropr" else masks[-1]
    )  # all tokens meet again in Cropr's last block
    assert [int(n) for n in last.sum(dim=1)] == [1, 1] and torch.isfinite(out).all()


@pytest.mark.parametrize("name", PRUNED)
@pytest.mark.parametrize("wrong", [0.0, -0.1, 1.01, float("nan")])
def test_a_keep_ratio_outside_0_to_1_is_refused(name: str, wrong: float) -> None:
    options = dict(BY_NAME[name].options)
    if "keep_ratio" in options:
        options["keep_ratio"] = wrong
    else:
        options["keep_ratios"] = [wrong, *options["keep_ratios"][1:]]
    with pytest.raises(
        ValueError, match=r"expected keep ratios in \(0, 1\]|expected .*a number, found"
    ):
        method(name, **options)


@pytest.mark.parametrize("name", [name for name in PRUNED if BY_NAME[name].method != "evit"])
def test_more_keep_ratios_than_deciding_blocks_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match=r"at most \d+ keep ratios .*found 13"):
        method(name, keep_ratios=[0.5] * 13)


@pytest.mark.parametrize("name", PRUNED)
def test_an_unknown_argument_is_answered_with_the_choices(name: str) -> None:
    with pytest.raises(ValueError, match="no option 'keep_ration'; near names: keep_ratio"):
        method(name, keep_ration=0.5)


def decided(pruner, blocks, shift: float = 0.0) -> list[int]:
    """Tokens of two images that each deciding block keeps; keep scores are moved by a number first."""
    hooks = [
        probe.register_forward_hook(lambda p, i, out: out + shift) for probe in pruner.score_probes
    ]
    _, masks, _ = run(pruner, tokens(2), blocks)
    for hook in hooks:
        hook.remove()
    return [int(masks[layer].sum()) for layer in pruner.locations]


@pytest.mark.parametrize("name", [name for name in BY_NAME if name not in STREAMS])
@torch.no_grad()
def test_the_modes_a_method_declares_are_those_it_can_be_set_to(name: str, blocks) -> None:
    pruner = method(name)
    assert pruner.inference in pruner.modes or (pruner.inference, pruner.modes) == ("", ())
    with pytest.raises(ValueError, match="found 'guess'"):
        pruner.set_inference("guess")
    for mode in pruner.modes or ("",):
        if pruner.modes:
            pruner.set_inference(mode)
        counts, fewer = decided(pruner, blocks), decided(pruner, blocks, shift=-1e4)
        if pruner.compares_scores:
            assert not any(fewer)
        else:  # ranks do not move, or there are no scores
            assert fewer == counts


@pytest.mark.parametrize("name", BY_NAME)
@torch.no_grad()
def test_the_numbers_a_method_declares_to_be_fitted_rule_how_much_it_keeps(name, blocks) -> None:
    pruner = method(name)
    if pruner.fits is None:
        return
    if pruner.fits.mode:
        pruner.set_inference(pruner.fits.mode)
    assert len(pruner.fitted) == len(pruner.locations) and pruner.fitted.dtype == torch.float32
    before = sum(decided(pruner, blocks))
    pruner.fitted.add_(100.0 if pruner.fits.compares else -0.3)
    assert sum(decided(pruner, blocks)) < before


@pytest.mark.parametrize("name", PRUNED)
def test_keep_ratios_are_set_one_a_deciding_block_or_refused(name: str) -> None:
    pruner = method(name)
    wanted = [0.5] * len(pruner.locations)
    if BY_NAME[name].method == "evit":  # it keeps one share of what enters
        with pytest.raises(ValueError, match="set its option keep_ratio"):
            pruner.set_keep_ratios(wanted)
        return
    pruner.set_keep_ratios(wanted)
    assert all(pruner.target_ratios()[layer] == 0.5 for layer in pruner.locations)
    with pytest.raises(ValueError, match=r"one a deciding block\), found 1"):
        pruner.set_keep_ratios([0.5])


@pytest.mark.parametrize("name", GATED)
def test_without_noise_a_training_decides_alike_twice(name: str, blocks) -> None:
    pruner, seen = method(name).train(), []
    assert pruner.noise_scale == 1.0 and len(pruner.gates) == len(pruner.locations)
    pruner.noise_scale = 0.0
    for seed in (0, 1):
        torch.manual_seed(seed)
        seen.append(decided(pruner, blocks))
    assert seen[0] == seen[1]
