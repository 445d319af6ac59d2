"""The peers of SViT: EViT, Evo-ViT, ATS, DynamicViT and the controls (methods.md 7-11, 16)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from svit.core.catalogue import METHODS
from svit.core.config import BackboneConfig
from svit.models.vit import Block
from svit.pruning import build_method
from svit.pruning.gates import GATES, build_gate
from svit.pruning.methods.ats import inverse_transform_sample
from svit.pruning.options import check_kinds
from svit.pruning.sampling import best_of, top_tokens

CONFIG = BackboneConfig(embed_dim=24, heads=3, depth=12, drop_path=0.0)
N = 40
CLASS_POSITION = torch.zeros(1, 1, 24)
PRUNING = [name for name, entry in METHODS.items() if entry.traits.selection != "none"]
INHERITING = ["evit", "ats", "dynamicvit"]
REMOVING = ["evit", "ats", "dynamicvit"]


@pytest.fixture(scope="module")
def blocks() -> list[Block]:
    torch.manual_seed(1)
    made = [Block(CONFIG, 0.0).eval() for _ in range(12)]
    for block in made:  # attention far from uniform, so that selections have something to choose
        torch.nn.init.normal_(block.attn.qkv.weight, std=0.4)
    return made


def method(name: str, **options):
    torch.manual_seed(2)
    return build_method(name, 24, 12, 3, options).eval()


def tokens(batch: int = 1, seed: int = 0) -> torch.Tensor:
    return torch.randn(batch, N, 24, generator=torch.Generator().manual_seed(seed))


def run(
    pruner,
    x: torch.Tensor,
    blocks: list[Block],
    seeds: list[int] | None = None,
    change: Callable | None = None,
) -> tuple[torch.Tensor, list[torch.Tensor], list[torch.Tensor]]:
    """The final map, the mask of each block, and the map after each block."""
    masks, maps, hooks = [], [], []
    for probe in pruner.probes:
        if change:
            hooks.append(probe.register_forward_hook(lambda p, i, out: change(p.layer, out)))
        hooks.append(probe.register_forward_hook(lambda p, i, out: masks.append(out.clone())))
    state = pruner.begin(x, CLASS_POSITION, seeds)
    state.grid_hw = (5, 8)
    for layer, block in enumerate(blocks):
        x = pruner(layer, block, x, state)
        maps.append(x)
    for hook in hooks:
        hook.remove()
    return x, masks, maps


@pytest.mark.parametrize("name", PRUNING)
@torch.no_grad()
def test_a_batch_equals_its_images_one_by_one(name: str, blocks) -> None:
    pruner, x = method(name), tokens(batch=3)
    together, masks, _ = run(pruner, x, blocks, seeds=[1, 2, 3])
    for index in range(3):
        alone, own, _ = run(pruner, x[index : index + 1], blocks, seeds=[index + 1])
        assert all(torch.equal(a[0], b[index]) for a, b in zip(own, masks))
        torch.testing.assert_close(alone[0], together[index], atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("name", ["dynamicvit", "random", "magnitude", "svit"])
@torch.no_grad()
def test_keeping_everything_equals_the_dense_model(name: str, blocks) -> None:
    ratios = [1.0] * (3 if name == "dynamicvit" else 9)
    options = {"inference": "topk"} if name == "svit" else {}
    x = tokens()
    pruned, masks, _ = run(method(name, keep_ratios=ratios, **options), x, blocks)
    dense, _, _ = run(method("dense"), x, blocks)
    assert all(mask.all() for mask in masks)
    torch.testing.assert_close(pruned, dense, atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("name", ["evit", "evovit", "ats"])
@torch.no_grad()
def test_keeping_everything_equals_the_dense_model_with_its_class_token(name: str, blocks) -> None:
    x = tokens()
    everything = lambda layer, keep: torch.ones_like(keep)  # noqa: E731
    pruner = method(name)
    pruned, _, _ = run(pruner, x, blocks, change=everything)
    sequence = torch.cat([pruner.class_token + CLASS_POSITION, x], dim=1)
    for block in blocks:
        sequence = block(sequence)
    torch.testing.assert_close(pruned, sequence[:, 1:], atol=5e-5, rtol=1e-4)


@pytest.mark.parametrize("name", INHERITING)
@pytest.mark.parametrize("retain", ["remove", "preserve"])
@torch.no_grad()
def test_dropped_tokens_stay_dropped(name: str, retain: str, blocks) -> None:
    _, masks, _ = run(method(name, retain=retain), tokens(2), blocks)
    assert all((after <= before).all() for before, after in zip(masks, masks[1:]))
    assert not masks[-1].all()


@torch.no_grad()
def test_random_tokens_stay_dropped_only_with_inherit(blocks) -> None:
    for inherit in (True, False):
        _, masks, _ = run(method("random", inherit=inherit), tokens(2), blocks, seeds=[1, 2])
        nested = all((after <= before).all() for before, after in zip(masks, masks[1:]))
        assert nested == inherit
        assert not torch.equal(masks[-1][0], masks[-1][1])  # a draw an image


@torch.no_grad()
def test_random_tokens_that_stay_dropped_are_drawn_anew_in_each_training_step(blocks) -> None:
    pruner = method("random", inherit=True)
    first, second = (run(pruner, tokens(), blocks)[1][-1] for _ in range(2))
    assert not torch.equal(first, second)


@pytest.mark.parametrize("name", REMOVING)
@torch.no_grad()
def test_removed_rows_are_exactly_zero_and_preserved_rows_are_not(name: str, blocks) -> None:
    _, masks, removed = run(method(name, retain="remove"), tokens(), blocks)
    _, same, preserved = run(method(name, retain="preserve"), tokens(), blocks)
    for layer in range(3, 12):
        gone = ~masks[layer]
        assert not removed[layer][gone].any()
        assert preserved[layer][~same[layer]].any()


@pytest.mark.parametrize("name", ["ats", "dynamicvit"])
@torch.no_grad()
def test_a_preserved_token_never_changes_after_it_was_dropped(name: str, blocks) -> None:
    x = tokens()
    _, masks, maps = run(method(name, retain="preserve"), x, blocks)
    before = [x, *maps]
    for layer in range(12):
        dropped = ~masks[layer]
        assert torch.equal(before[layer + 1][dropped], before[layer][dropped])


@torch.no_grad()
def test_evit_preserves_the_value_after_self_attention(blocks) -> None:
    pruner, x = method("evit", retain="preserve"), tokens()
    _, masks, maps = run(pruner, x, blocks)
    dropped = ~masks[3]
    sequence = torch.cat([pruner.class_token, x], dim=1)
    for block in blocks[:3]:
        sequence = block(sequence)
    expected = blocks[3].attend(sequence)[:, 1:]
    torch.testing.assert_close(maps[3][dropped], expected[dropped], atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("name", ["evit", "ats", "dynamicvit"])
@torch.no_grad()
def test_preserve_equals_remove_when_nothing_is_dropped(name: str, blocks) -> None:
    everything = lambda layer, keep: torch.ones_like(keep)  # noqa: E731
    x = tokens()
    one, _, _ = run(method(name, retain="remove"), x, blocks, change=everything)
    two, _, _ = run(method(name, retain="preserve"), x, blocks, change=everything)
    torch.testing.assert_close(one, two)


@torch.no_grad()
def test_fixed_methods_keep_the_counts_of_the_default_table(blocks) -> None:
    x = torch.randn(1, 100, 24)
    expected = {
        "evit": [100] * 3 + [70] * 3 + [49] * 3 + [35] * 3,  # ceil of the current count
        "evovit": [100] * 3 + [70] * 3 + [49] * 3 + [34] * 3,  # floor of all
        "dynamicvit": [100] * 3 + [70] * 3 + [49] * 3 + [34] * 3,
        "random": [100] * 3 + [70] * 3 + [49] * 3 + [34] * 3,
        "magnitude": [100] * 3 + [70] * 3 + [49] * 3 + [34] * 3,
    }
    for name, counts in expected.items():
        _, masks, _ = run(method(name), x, blocks)
        assert [int(mask.sum()) for mask in masks] == counts, name


def test_the_counts_at_4200_tokens_are_those_of_the_paper_setting() -> None:
    evit, alive = method("evit"), torch.ones(1, 4200, dtype=torch.bool)
    counts = []
    for _ in range(3):
        alive = evit._best(torch.rand(1, 4200), alive)
        counts.append(int(alive.sum()))
    assert counts == [2940, 2058, 1441]
    assert [round(r * 4200) for r in method("dynamicvit").keep_ratios] == [2940, 2058, 1441]


@torch.no_grad()
def test_the_class_row_equals_the_row_of_the_whole_attention_matrix(blocks) -> None:
    attention, x = blocks[0].attn, torch.randn(2, 9, 24)
    query, key, _ = attention.project(x)
    mask = torch.ones(2, 9, dtype=torch.bool)
    mask[1, 5:] = False
    logits = query @ key.transpose(-1, -2) / (24 / 3) ** 0.5
    naive = logits.masked_fill(~mask[:, None, None, :], float("-inf")).softmax(-1)[:, :, 0]
    torch.testing.assert_close(attention.class_row(query[:, :, :1], key, mask), naive)


@torch.no_grad()
def test_partial_projections_equal_the_whole_one(blocks) -> None:
    x = torch.randn(2, 9, 24)
    whole = blocks[0].attn.project(x)
    parts = [blocks[0].attn.project(x, slice(i, i + 1))[0] for i in range(3)]
    for one, other in zip(whole, parts):
        torch.testing.assert_close(one, other)


@torch.no_grad()
def test_evit_drops_what_the_class_token_attends_to_least(blocks) -> None:
    pruner, x = method("evit"), tokens()
    _, masks, maps = run(pruner, x, blocks)
    sequence = torch.cat([pruner.class_token, x], dim=1)
    for block in blocks[:3]:
        sequence = block(sequence)
    query, key, _ = blocks[3].attn.project(blocks[3].norm1(sequence))
    naive = (query @ key.transpose(-1, -2) / 8**0.5).softmax(-1)[:, :, 0, 1:].mean(1)
    assert naive[masks[3]].min() >= naive[~masks[3]].max()


@torch.no_grad()
def test_a_fused_token_changes_the_map_but_is_never_a_patch(blocks) -> None:
    x = tokens()
    plain, masks, _ = run(method("evit"), x, blocks)
    fused, with_fused, _ = run(method("evit", fuse=True), x, blocks)
    assert not torch.allclose(plain, fused)
    assert [m.shape for m in with_fused] == [m.shape for m in masks]
    assert torch.equal(with_fused[3], masks[3])


@torch.no_grad()
def test_evo_vit_sums_heads_and_averages_over_blocks(blocks) -> None:
    pruner, x = method("evovit"), tokens()
    state = pruner.begin(x, CLASS_POSITION)
    sequence, expected = torch.cat([pruner.class_token, x], dim=1), None
    for layer in range(3):
        query, key, _ = blocks[layer].attn.project(blocks[layer].norm1(sequence))
        row = (query @ key.transpose(-1, -2) / 8**0.5).softmax(-1)[:, :, 0, 1:].sum(1)
        expected = row if layer == 0 else 0.5 * expected + 0.5 * row
        sequence = blocks[layer](sequence)
        x = pruner(layer, blocks[layer], x, state)
    torch.testing.assert_close(state.extra["attention"], expected, atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_evo_vit_tends_to_use_the_same_tokens(blocks) -> None:
    _, masks, _ = run(method("evovit"), tokens(4), blocks)
    changes = list(zip(masks[3:], masks[4:]))
    returned = sum(int((after & ~before).sum()) for before, after in changes)
    # what independent choices of the same size would bring back
    chance = sum(float((~before).float().mean() * after.sum()) for before, after in changes)
    assert returned < 0.35 * chance


def brute_force_levels(score: torch.Tensor, count: int) -> set[int]:
    """The release's algorithm with its distance matrix, one image, everything alive."""
    values, order = score.double().sort(stable=True)
    distribution = values.cumsum(0)
    distribution = (distribution - distribution[0]) / (distribution[-1] - distribution[0])
    first = distribution[distribution > 0].min()
    levels = first + torch.arange(count).double() / (count - 1) * (1 - first)
    distance = (levels[:, None] - distribution[None, :]).abs()
    return {int(order[int(row.argmin())]) for row in distance}


@given(st.integers(0, 10_000), st.integers(2, 60))
@settings(max_examples=40, deadline=None)
def test_ats_by_binary_search_equals_brute_force(seed: int, count: int) -> None:
    score = torch.rand(1, 50, generator=torch.Generator().manual_seed(seed)) ** 3
    chosen = inverse_transform_sample(score, torch.ones(1, 50, dtype=torch.bool), count)
    assert set(chosen[0].nonzero().flatten().tolist()) == brute_force_levels(score[0], count)


def test_ats_never_brings_dropped_tokens_back_and_ignores_their_scores() -> None:
    score, alive = torch.rand(1, 30), torch.rand(1, 30) < 0.6
    chosen = inverse_transform_sample(score, alive, 20)
    louder = torch.where(alive, score, score + 5)
    assert (chosen <= alive).all()
    assert torch.equal(chosen, inverse_transform_sample(louder, alive, 20))


def test_ats_keeps_fewer_tokens_where_scores_are_peaked() -> None:
    flat, peaked = torch.ones(1, 100), torch.full((1, 100), 1e-3)
    peaked[0, :3] = 1.0
    alive = torch.ones(1, 100, dtype=torch.bool)
    flat = flat + 1e-3 * torch.rand(1, 100)
    counts = [int(inverse_transform_sample(s, alive, 50).sum()) for s in (flat, peaked)]
    assert counts[1] < counts[0] / 5


@pytest.mark.parametrize("score", [torch.zeros(1, 5), torch.tensor([[0.0, 0, 3, 0, 0]])])
def test_ats_survives_scores_without_a_distribution(score: torch.Tensor) -> None:
    alive = torch.tensor([[False, False, True, False, False]])
    assert torch.equal(inverse_transform_sample(score, alive, 4), alive)


@pytest.mark.parametrize("name", PRUNING)
def test_training_reaches_every_parameter_of_the_method(name: str, blocks) -> None:
    pruner = method(name).train()
    x = tokens(2).requires_grad_()
    state = pruner.begin(x, CLASS_POSITION)
    state.grid_hw = (5, 8)
    if pruner.taught:
        state.cover = torch.rand(2, N)
    out = x
    for layer, block in enumerate(blocks):
        out = pruner(layer, block, out, state)
    (out.square().mean() + sum(pruner.losses(state).values())).backward()
    assert torch.isfinite(x.grad).all()
    for key, parameter in pruner.named_parameters():
        assert parameter.grad is not None and torch.isfinite(parameter.grad).all(), key
        assert parameter.grad.abs().sum() > 0, key


@pytest.mark.parametrize("name", ["dynamicvit", "evit", "ats", "evovit"])
@torch.no_grad()
def test_an_edit_calls_a_token_back_or_sends_it_away(name: str, blocks) -> None:
    def swap(layer: int, keep: torch.Tensor) -> torch.Tensor:
        return torch.roll(keep, 1, dims=1) if layer >= 5 else keep

    x = tokens(2)
    plain, _, _ = run(method(name), x, blocks)
    edited, masks, _ = run(method(name), x, blocks, change=swap)
    assert torch.isfinite(edited).all() and not torch.allclose(plain, edited)


@pytest.mark.parametrize("name", PRUNING)
@torch.no_grad()
def test_pruning_everything_away_stays_finite(name: str, blocks) -> None:
    nothing = lambda layer, keep: torch.zeros_like(keep) if layer >= 3 else keep  # noqa: E731
    out, _, _ = run(method(name), tokens(2), blocks, change=nothing)
    assert torch.isfinite(out).all()


@pytest.mark.parametrize("kind", GATES)
def test_every_gate_returns_log_probabilities_in_float32(kind: str) -> None:
    gate = build_gate(kind, 24, 3, None)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        scores = gate(torch.randn(2, 7, 24), torch.zeros(2, 7))
    assert scores.dtype == torch.float32 and torch.isfinite(scores).all()
    if kind != "head_weighted":  # a weighted mean of log-probabilities, normalised once more
        torch.testing.assert_close(scores.exp().sum(-1), torch.ones(2, 7))


def test_predictor_sizes_equal_those_of_the_sources() -> None:
    count = {
        kind: sum(p.numel() for p in build_gate(kind, 192, 3, None).parameters()) for kind in GATES
    }
    assert count["mlp"] == 9_746
    assert count["local_global"] == pytest.approx(60_700, rel=0.01)


@pytest.mark.parametrize("kind", GATES)
@torch.no_grad()
def test_svit_runs_with_every_gate(kind: str, blocks) -> None:
    _, masks, _ = run(method("svit", gate=kind, inference="topk"), tokens(2), blocks)
    assert [int(m[0].sum()) for m in masks[3::3]] == [28, 20, 14]


@given(st.integers(0, 1000), st.integers(0, 12))
@settings(max_examples=30, deadline=None)
def test_best_of_agrees_with_sorting_each_image(seed: int, count: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    score, candidates = (
        torch.rand(2, 10, generator=generator),
        torch.rand(2, 10, generator=generator) < 0.7,
    )
    chosen = best_of(score, torch.tensor([count, count]), candidates)
    for row in range(2):
        wanted = sorted(candidates[row].nonzero().flatten().tolist(), key=lambda i: -score[row, i])
        assert set(chosen[row].nonzero().flatten().tolist()) == set(wanted[:count])
    assert torch.equal(top_tokens(score, 0.3), best_of(score, torch.tensor([3, 3]), score > -1))


def test_every_method_declares_the_four_dimensions_of_the_paper() -> None:
    rows = {
        name: (t.selection, t.dynamic_rate, t.preserves, t.reactivates)
        for name, t in ((name, method(name).traits) for name in METHODS)
    }
    assert rows["svit"] == ("gate", True, True, True)  # paper Table 1
    assert rows["dynamicvit"] == ("gate", False, False, False)
    assert rows["ats"] == ("attention", True, False, False)
    assert rows["evovit"] == ("attention", False, True, False)
    assert rows["evit"] == ("attention", False, False, False)


@pytest.mark.parametrize(
    ("name", "options"),
    [("evit", {"retain": "keep"}), ("ats", {"keep_ratios": [1.5]}), ("evovit", {"tradeof": 1})],
)
def test_wrong_options_are_refused(name: str, options: dict) -> None:
    with pytest.raises(ValueError, match="expected|near names"):
        method(name, **options)


def test_a_method_of_your_own_may_take_options_of_any_kind() -> None:
    class Own:
        def __init__(self, bare, words: Sequence[str], either: int | str, ratio: float) -> None: ...

    check_kinds(Own, {"bare": object(), "words": ["a"], "either": "b", "ratio": 0.5})
    with pytest.raises(ValueError, match="ratio: expected a number, found 'c'"):
        check_kinds(Own, {"ratio": "c"})
