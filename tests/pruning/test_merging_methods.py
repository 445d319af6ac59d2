"""Methods that merge: what their papers say, which ratios no merge reaches, and their controls."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from support.flops import counted
from torch import Tensor

from svit.core.config import BackboneConfig, PruningConfig
from svit.core.macs import FLOPS_PER_MAC, block_macs, ledger
from svit.core.presets import PRESETS
from svit.models import build_backbone
from svit.models.vit import Block
from svit.probing.recorder import record
from svit.pruning import build_method
from svit.pruning.matching import match, parity, windows
from svit.pruning.merging import Carriers, MergingMethod
from svit.pruning.methods.algm import mean_cosine
from svit.pruning.methods.atc import LINKAGES, clusters

DIM, HEADS, ROWS, COLUMNS = 24, 3, 6, 8
N = ROWS * COLUMNS


@pytest.fixture(scope="module")
def blocks() -> list[Block]:
    torch.manual_seed(1)
    config = BackboneConfig(embed_dim=DIM, heads=HEADS, depth=12, drop_path=0.0)
    made = [Block(config, 0.0).eval() for _ in range(12)]
    for block in made:
        torch.nn.init.normal_(block.attn.qkv.weight, std=0.4)
    return made


def method(name: str, **options) -> MergingMethod:
    torch.manual_seed(2)
    return build_method(name, DIM, 12, HEADS, options).eval()


def tokens(batch: int = 2, seed: int = 0) -> Tensor:
    return torch.randn(batch, N, DIM, generator=torch.Generator().manual_seed(seed))


@torch.no_grad()
def groups_of(
    pruner: MergingMethod, x: Tensor, blocks, between: Callable[[Tensor], Tensor] | None = None
) -> list[Tensor]:
    """The group map behind each block."""
    state = pruner.begin(x, None, list(range(len(x))))
    state.grid_hw = (ROWS, COLUMNS)
    found = []
    for layer, block in enumerate(blocks):
        x = pruner(layer, block, x if between is None else between(x), state)
        found.append(state.carriers.group)
    return found


def alone(x: Tensor) -> Carriers:
    group = torch.arange(x.shape[1]).expand(len(x), -1)
    return Carriers.of(group, torch.ones_like(group, dtype=torch.bool))


def test_pairs_that_are_most_alike_merge_and_sources_may_share_a_destination() -> None:
    """Six rows by hand: sources 0, 2, 4; destinations 1, 3, 5."""
    x = torch.tensor([[[1, 0.1], [1, 0], [0.9, 0.2], [0, 1], [-1, 1], [-1, -1]]])
    whole = alone(x)
    found = match(x, parity(whole), whole)
    assert found.into.tolist() == [[1, 1, 3]]
    for count, expected in (
        (1, [1, 1, 2, 3, 4, 5]),
        (2, [1, 1, 1, 3, 4, 5]),
        (3, [1, 1, 1, 3, 3, 5]),
    ):
        rows = found.merge(found.best(torch.tensor([count])), 6)
        assert whole.joined(rows).tolist() == [expected]


def test_rows_of_zeros_are_like_nothing_and_never_nan() -> None:
    x = torch.randn(1, 6, 4)
    x[:, :2] = 0
    found = match(x, parity(alone(x)), alone(x))
    assert torch.isfinite(found.likeness).all() and found.likeness[0, 0] == 0


def test_destinations_of_windows_lie_evenly_and_those_of_parity_in_stripes() -> None:
    whole = alone(tokens(1))
    destinations = ~windows(whole, (ROWS, COLUMNS)).view(ROWS, COLUMNS)
    assert destinations.nonzero().tolist() == [[r, c] for r in (0, 2, 4) for c in (0, 2, 4, 6)]
    stripes = ~parity(whole).view(ROWS, COLUMNS)
    assert stripes[:, 1::2].all() and not stripes[:, ::2].any()
    odd = alone(torch.zeros(1, 15, 2))  # 3 x 5: windows at the edge are smaller
    assert (~windows(odd, (3, 5))).nonzero()[:, 1].tolist() == [0, 2, 4, 10, 12, 14]


@pytest.mark.parametrize("partition", ["parity", "windows"])
def test_tome_leaves_the_share_of_tokens_it_is_told_in_nested_groups(partition, blocks) -> None:
    found = groups_of(method("tome", partition=partition), tokens(), blocks)
    counts = [len(group[0].unique()) for group in found]
    assert counts == [N] * 3 + [round(0.7 * N)] * 3 + [round(0.49 * N)] * 3 + [round(0.343 * N)] * 3
    for before, after in zip(found, found[1:]):
        assert torch.equal(after.gather(1, before), after)


def test_tome_merges_the_same_groups_whether_or_not_something_is_added_between_blocks(
    blocks,
) -> None:
    """What an injector adds changes members of a group apart; the next block sees their mean."""
    generator = torch.Generator().manual_seed(3)
    noise = 1e-6 * torch.randn(2, N, DIM, generator=generator)
    plain = groups_of(method("tome"), tokens(), blocks)
    moved = groups_of(method("tome"), tokens(), blocks, lambda x: x + noise)
    assert all(torch.equal(a, b) for a, b in zip(plain, moved))


@pytest.mark.parametrize(
    ("partition", "ratios", "reason"),
    [
        ("parity", [0.4, 0.3, 0.2], "block 4 has 1 of the tokens .* down to 0.5"),
        ("parity", [0.7, 0.3, 0.2], "block 7 has 0.7 .* down to 0.35.* asks for 0.3"),
        ("parity", [0.5, 0.6, 0.5], "block 7 has 0.5 .* asks for 0.6"),
        ("windows", [0.5, 0.3, 0.2], "block 10 has 0.3 .* down to 0.25"),
    ],
)
@pytest.mark.parametrize("name", ["tome", "mergecontrol"])
def test_ratios_that_no_merge_reaches_are_refused(name, partition, ratios, reason) -> None:
    with pytest.raises(ValueError, match=reason):
        method(name, keep_ratios=ratios, partition=partition)
    pruner = method(name, partition=partition)
    with pytest.raises(ValueError, match=reason):
        pruner.set_keep_ratios(ratios)
    assert pruner.keep_ratios == [0.7, 0.49, 0.343]


def test_half_and_a_quarter_are_reached(blocks) -> None:
    for partition, least in (("parity", [0.5, 0.25, 0.125]), ("windows", [0.25] * 3)):
        found = groups_of(method("tome", keep_ratios=least, partition=partition), tokens(), blocks)
        assert len(found[-1][0].unique()) == round(least[-1] * N)


@pytest.mark.parametrize("pairs", ["random", "near"])
def test_the_control_merges_as_many_from_the_same_sources_and_depends_on_the_seed_alone(
    pairs, blocks
) -> None:
    pruner = method("mergecontrol", pairs=pairs)
    found = groups_of(pruner, tokens(), blocks)
    sources = torch.arange(N) % 2 == 0
    assert (found[3] == torch.arange(N))[:, ~sources].all()
    assert [len(group[1].unique()) for group in found[3::3]] == [
        round(r * N) for r in (0.7, 0.49, 0.343)
    ]
    again = groups_of(pruner, tokens(seed=9), blocks)
    assert all(torch.equal(a, b) for a, b in zip(found, again))
    assert not torch.equal(found[3][0], found[3][1])


def test_near_pairs_are_neighbours_and_random_ones_lie_anywhere(blocks) -> None:
    own = torch.arange(N)
    near = groups_of(method("mergecontrol", pairs="near"), tokens(), blocks)[3]
    moved = near[near != own.expand_as(near)] - own.expand_as(near)[near != own.expand_as(near)]
    assert set(moved.abs().tolist()) == {1}
    x = torch.zeros(400, N, DIM)
    anywhere = groups_of(method("mergecontrol"), x, blocks[:4])[3]
    into = anywhere[anywhere != own.expand_as(anywhere)]
    counts = np.bincount(into.numpy(), minlength=N)[1::2]
    expected = counts.sum() / len(counts)
    assert abs(counts - expected).max() < 6 * expected**0.5  # uniform over destinations


@pytest.mark.parametrize("neck", ["pyramid", "adapter"])
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("tome", {}),
        ("tome", {"partition": "windows"}),
        ("atc", {}),
        ("algm", {}),
    ],
)
def test_merging_does_what_the_ledger_says(neck: str, name: str, options: dict) -> None:
    config = replace(PRESETS["svit-plain-nano"].backbone, neck=neck)
    pruning = PruningConfig(name, options)
    model, images = build_backbone(config, pruning).eval(), torch.randn(1, 3, 128, 160)
    with record(model) as tape:
        flops = counted(model, images)
    kept = tape.keep()[0].sum(axis=(1, 2))
    macs = block_macs(config, name, 80, kept)
    selection = ledger(config, None, pruning, (8, 10), kept)["selection"]
    seen = flops["method"]
    assert seen == FLOPS_PER_MAC * (macs.sum() + selection)


@pytest.mark.parametrize("linkage", LINKAGES)
def test_atc_leaves_the_share_it_is_told_in_nested_groups(linkage: str, blocks) -> None:
    pruner = method("atc", linkage=linkage, keep_ratios=[0.6, 0.3, 0.05])
    found = groups_of(pruner, tokens(), blocks)
    for image in range(2):
        counts = [len(group[image].unique()) for group in found[3::3]]
        assert counts == [round(share * N) for share in (0.6, 0.3, 0.05)]
    for before, after in zip(found, found[1:]):
        assert torch.equal(after.gather(1, before), after)
    assert (found[-1] <= torch.arange(N)).all()  # the first of a cluster carries it


@pytest.mark.parametrize("linkage", LINKAGES)
def test_clusters_are_those_of_merging_the_nearest_two_again_and_again(linkage: str) -> None:
    """By brute force: distances of all pairs of clusters in every step."""
    unit = np.random.default_rng(4).normal(size=(14, 5))
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    distance = 1 - unit @ unit.T
    of = {"single": np.min, "complete": np.max, "average": np.mean}[linkage]
    parts = [[n] for n in range(14)]
    while len(parts) > 5:
        pairs = [
            (of(distance[np.ix_(a, b)]), i, j)
            for i, a in enumerate(parts)
            for j, b in enumerate(parts)
            if i < j
        ]
        _, i, j = min(pairs)
        parts[i] += parts.pop(j)
    expected = np.empty(14, int)
    for part in parts:
        expected[part] = min(part)
    np.testing.assert_array_equal(clusters(distance, 5, linkage), expected)


def test_more_clusters_than_rows_change_nothing_and_one_takes_all() -> None:
    distance = 1 - np.eye(4)
    assert clusters(distance, 4, "average").tolist() == [0, 1, 2, 3]
    assert clusters(distance, 9, "average").tolist() == [0, 1, 2, 3]
    assert clusters(distance, 1, "average").tolist() == [0] * 4


def test_ratios_that_rise_are_refused_by_atc() -> None:
    with pytest.raises(ValueError, match="block 7 has 0.3 .* asks for 0.5"):
        method("atc", keep_ratios=[0.3, 0.5, 0.2])


def pictured(*windows: int) -> Tensor:
    """Tokens (1, N, C) of noise; in these windows of 2 x 2 all four are nearly equal."""
    x = tokens(1)
    grid = x.view(1, ROWS // 2, 2, COLUMNS // 2, 2, DIM)
    for window in windows:
        row, column = divmod(window, COLUMNS // 2)
        grid[:, row, :, column] = grid[:, row, :1, column, :1]
    return grid.reshape(1, N, DIM)


def test_algm_merges_windows_that_are_alike_then_pairs_and_its_count_follows_the_image(
    blocks,
) -> None:
    x = torch.cat([pictured(0, 5, 11), pictured()])
    found = groups_of(method("algm"), x, blocks)
    assert [len(group.unique()) for group in found[0]] == [N - 9, N]
    assert found[0][0].view(ROWS, COLUMNS)[2:4, 2:4].unique().tolist() == [2 * COLUMNS + 2]
    assert torch.equal(found[0], found[3]) and torch.equal(found[4], found[-1])
    fewer = [len(group.unique()) for group in found[4]]
    assert fewer[0] < N - 9 and fewer[1] < N
    for image in range(2):  # the release takes the least count of the batch
        alone = groups_of(method("algm"), x[image, None], blocks)
        assert all(torch.equal(a[0], b[image]) for a, b in zip(alone, found))


def test_the_mean_cosine_of_a_window_is_that_of_its_pairs() -> None:
    x = torch.randn(2, 3, 4, 7, generator=torch.Generator().manual_seed(0))
    pairs = [(i, j) for i in range(4) for j in range(4) if i < j]
    expected = sum(torch.cosine_similarity(x[:, :, i], x[:, :, j], dim=-1) for i, j in pairs) / 6
    torch.testing.assert_close(mean_cosine(x), expected)


def test_windows_that_the_border_cuts_and_those_with_a_pruned_token_do_not_merge(blocks) -> None:
    pruner = method("algm")
    pruner.thresholds[0] = -1.0  # everything is alike
    state = pruner.begin(torch.zeros(1, 15, DIM), None)
    state.grid_hw = (3, 5)
    pruner.probes[0].register_forward_hook(lambda p, i, out: out)
    with torch.no_grad():
        pruner(0, blocks[0], torch.randn(1, 15, DIM), state)
    assert state.carriers.group.view(3, 5).tolist() == [
        [0, 0, 2, 2, 4],
        [0, 0, 2, 2, 9],
        [10, 11, 12, 13, 14],
    ]


def test_a_method_that_merges_by_place_asks_for_the_grid(blocks) -> None:
    for name, options in (("algm", {}), ("tome", {"partition": "windows"})):
        pruner, x = method(name, **options), tokens()
        state = pruner.begin(x, None)
        with pytest.raises(ValueError, match="set grid_hw of the state"):
            for layer in range(4):
                pruner(layer, blocks[layer], x, state)
