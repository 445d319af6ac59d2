"""Masks of equal count: the draws that published tables rest on, and what is promised of them."""

from __future__ import annotations

import hashlib
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from support.two_pictures import GRIDS, SAMPLES

from svit.core.catalogue import METHODS
from svit.core.types import Target, TokenGrid
from svit.data.samples import valid_tokens
from svit.detectors.base import image_seeds
from svit.probing.edits import Decided, EditError, Forward
from svit.probing.equal_counts import CONTROLS, Control, central, importance
from svit.pruning.sampling import lowest, permuted, uniform
from svit.speed.benchmark_cases import random_masks

DEPTH = 6
# of the masks of all blocks, by the code that made the published tables (random: of a model that
# preserves and of one that removes)
DRAWN = {
    ("learned", False): "90712df1818668b7",
    ("random", False): "fc2cd1c895734377",
    ("random", True): "274471b063090a4a",
    ("shuffle", False): "469a45648f1e0319",
    ("invert", False): "92f76212be8ff87a",
    ("oracle", False): "e8798f67ddae8877",
}
FORCED = {False: "733c4da664e9b755", True: "3362e02c32113790"}


def pruner(depth: int) -> SimpleNamespace:
    """What a control reads of a method that prunes."""
    return SimpleNamespace(depth=depth, traits=METHODS["svit"].traits)


def digest(masks: list[torch.Tensor]) -> str:
    return hashlib.sha256(np.packbits(torch.stack(masks).numpy()).tobytes()).hexdigest()[:16]


def decided() -> Decided:
    generator = torch.Generator().manual_seed(5)
    scores = {layer: torch.randn(2, 24, generator=generator) for layer in range(DEPTH)}
    return Decided({layer: score > 0 for layer, score in scores.items()}, scores)


def forward(removes: bool = False) -> Forward:
    valid = valid_tokens(GRIDS, torch.device("cpu"))
    method = pruner(DEPTH)
    return Forward(SAMPLES, GRIDS, valid, image_seeds(SAMPLES, 3), method, removes)


def masks(control: Control, removes: bool = False) -> list[torch.Tensor]:
    start, here = decided(), forward(removes)
    made = control.prepared(lambda: start, here)
    return [made.masks(layer, start.keep[layer], here) for layer in range(DEPTH)]


@pytest.mark.parametrize(("kind", "removes"), DRAWN)
def test_the_published_masks_are_drawn_again(kind: str, removes: bool) -> None:
    assert digest(masks(Control(kind), removes)) == DRAWN[kind, removes]


@pytest.mark.parametrize("nested", FORCED)
def test_the_forced_masks_of_published_times_are_drawn_again(nested: bool) -> None:
    make = random_masks([1.0, 0.7, 0.49, 0.34, 0.1, 0.0], 4, nested)
    everything = torch.ones(3, 1600, dtype=torch.bool)
    assert digest([make(layer, everything) for layer in range(6)]) == FORCED[nested]


@pytest.mark.parametrize("kind", CONTROLS)
def test_blocks_that_are_not_named_decide_by_themselves(kind: str) -> None:
    start, some = decided().keep, masks(Control(kind, layers=(2, 4)))
    whole = masks(Control(kind))
    for layer in range(DEPTH):
        expected = whole if layer in (2, 4) else start
        assert torch.equal(some[layer], expected[layer])


def test_another_draw_moves_other_tokens() -> None:
    first, other = (digest(masks(Control("random", seed))) for seed in (0, 1))
    assert first != other


def test_the_oracle_draws_among_equal_tokens() -> None:
    keep = torch.arange(40).unsqueeze(0) < 10
    blank = Target(np.zeros((0, 4)), np.zeros(0, int), np.zeros((0, 64, 160), bool))
    sample = SimpleNamespace(target=blank)
    grid = SimpleNamespace(grid_hw=(4, 10))

    def drawn(seed: int) -> torch.Tensor:
        everywhere = torch.ones(1, 40, dtype=torch.bool)
        here = Forward([sample], (grid,), everywhere, [seed], pruner(1))
        return Control("oracle").prepared(lambda: Decided({0: keep}), here).made[0]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("svit.probing.equal_counts.importance", lambda *_: np.zeros((4, 10)))
        one, same, other = map(drawn, (1, 1, 2))
    assert torch.equal(one, same) and not torch.equal(one, other)
    assert one.sum() == other.sum() == 10 and not torch.equal(one, keep)


def test_inverted_masks_need_scores_and_a_model_that_preserves() -> None:
    blind = Decided(decided().keep)
    with pytest.raises(EditError, match="gives none for block 3"):
        Control("invert", layers=(2,)).prepared(lambda: blind, forward())
    with pytest.raises(EditError, match="invert needs a model that preserves"):
        Control("invert").check(forward(removes=True))


def test_without_objects_no_token_is_important() -> None:
    nothing = Target(np.zeros((0, 4)), np.zeros(0, int), np.zeros((0, 64, 64), bool))
    assert not importance(nothing, GRIDS[1]).any()
    assert importance(SAMPLES[1].target, GRIDS[1]).max() <= 1.005


def shrinking(counts: list[int], grid: TokenGrid, seed: int) -> dict[int, torch.Tensor]:
    """Masks of which each is a part of the one before; counts are of the whole padded grid."""
    order = torch.randperm(grid.tokens, generator=torch.Generator().manual_seed(seed))
    rank = order.argsort()
    return {layer: (rank < count).unsqueeze(0) for layer, count in enumerate(counts)}


@given(
    resized=st.tuples(st.integers(1, 90), st.integers(1, 90)),
    padding=st.tuples(st.integers(0, 2), st.integers(0, 2)),
    shares=st.lists(st.floats(0, 1), min_size=2, max_size=4),
    kind=st.sampled_from(["random", "shuffle", "centre", "centre-square"]),
    seed=st.integers(0, 99),
)
def test_a_control_of_masks_that_only_shrink_only_shrinks_at_equal_counts(
    resized: tuple, padding: tuple, shares: list[float], kind: str, seed: int
) -> None:
    rows, columns = (-(-side // 16) + more for side, more in zip(resized, padding))
    grid = TokenGrid(resized, resized, (rows, columns))
    counts = [round(share * grid.tokens) for share in sorted(shares, reverse=True)]
    start = Decided(shrinking(counts, grid, seed), nested=True)
    shown = torch.from_numpy(grid.valid_mask().reshape(1, -1))
    here = Forward(SAMPLES[:1], (grid,), shown, [seed], pruner(len(counts)))
    made = Control(kind, seed).prepared(lambda: start, here).made
    for layer, keep in start.keep.items():
        for group in (shown, ~shown):
            assert (made[layer] & group).sum() == (keep & group).sum()
        assert layer == 0 or (made[layer] <= made[layer - 1]).all()


@pytest.mark.parametrize("kind", ["random", "shuffle"])
def test_a_nested_draw_takes_every_position_and_every_pair_of_blocks_equally_often(
    kind: str,
) -> None:
    """24 positions, 12 kept and then 6 of these: lives are uniform over positions."""
    draws = 2000
    start = Decided(shrinking([12, 6], GRIDS[0], 0), nested=True)
    start = Decided({layer: keep.expand(draws, -1) for layer, keep in start.keep.items()}, {}, True)
    everywhere = torch.ones(draws, 24, dtype=torch.bool)
    here = Forward([], (), everywhere, list(range(draws)), pruner(2))
    first, second = Control(kind).prepared(lambda: start, here).made.values()
    assert (second <= first).all()
    for mask, share in ((first, 1 / 2), (second, 1 / 4), (first & ~second, 1 / 4)):
        # standard error at most 0.0112
        assert mask.float().mean(dim=0).tolist() == pytest.approx([share] * 24, abs=0.05)


def test_without_nesting_random_blocks_are_drawn_apart() -> None:
    start = shrinking([12, 12], GRIDS[0], 0)

    def drawn(nested: bool) -> list[torch.Tensor]:
        here = Forward(SAMPLES[:1], GRIDS[:1], start[0] | True, [1], pruner(2))
        decided = Decided(start, nested=nested)
        return list(Control("random").prepared(lambda: decided, here).made.values())

    assert torch.equal(*drawn(nested=True)) and not torch.equal(*drawn(nested=False))


@pytest.mark.parametrize("square", [False, True])
@pytest.mark.parametrize(
    ("resized_hw", "grid_hw"),
    [((64, 96), (4, 6)), ((50, 90), (6, 8)), ((48, 48), (3, 3)), ((1, 3), (1, 1))],
)
def test_central_tokens_come_by_the_distance_of_their_middles(
    resized_hw: tuple, grid_hw: tuple, square: bool
) -> None:
    place = central(TokenGrid(resized_hw, resized_hw, grid_hw), square=square)
    assert sorted(place.ravel()) == list(range(place.size))
    y, x = (16 * np.indices(grid_hw).astype(float) + 8).reshape(2, -1)
    apart = abs(y - resized_hw[0] / 2), abs(x - resized_hw[1] / 2)
    distance = np.maximum(*apart) if square else np.hypot(*apart)
    assert (np.diff(distance[place.ravel().argsort()]) >= -1e-9).all()


@pytest.mark.parametrize("square", [False, True])
@pytest.mark.parametrize("side", [5, 6])
def test_no_side_of_the_middle_is_preferred(side: int, square: bool) -> None:
    place = central(TokenGrid((16 * side,) * 2, (16 * side,) * 2, (side, side)), square=square)
    y, x = np.indices((side, side)) - (side - 1) / 2
    for count in range(side * side + 1):
        inside = place < count
        outermost = max(abs(y[inside]).max(initial=0), abs(x[inside]).max(initial=0))
        assert abs(y[inside].sum()) <= outermost and abs(x[inside].sum()) <= outermost


def test_central_discs_and_squares_differ_at_the_corners() -> None:
    grid = TokenGrid((144, 144), (144, 144), (9, 9))
    disc, square = (central(grid, square=one) < 49 for one in (False, True))
    assert square[1:8, 1:8].all() and square.sum() == disc.sum() == 49
    assert disc[4, 0] and not disc[1, 1]


flags = st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=40)


@given(tokens=flags, seed=st.integers(0, 99), salt=st.integers(0, 5))
def test_a_permutation_keeps_counts_inside_and_outside_the_picture(
    tokens: list[tuple[bool, bool]], seed: int, salt: int
) -> None:
    keep, shown = (torch.tensor([column]) for column in zip(*tokens, strict=True))
    draws = uniform(keep, [seed], salt)
    for result in (permuted(keep, shown, draws), lowest(keep, torch.randn(keep.shape), shown)):
        assert (result & shown).sum() == (keep & shown).sum()
        assert (result & ~shown).sum() == (keep & ~shown).sum()
    everything = torch.ones_like(keep)
    assert permuted(everything, shown, draws).all()


def test_a_permutation_takes_every_position_equally_often() -> None:
    keep = torch.zeros(4000, 6, dtype=torch.bool)
    keep[:, 0] = True
    shown = torch.tensor([True] * 5 + [False]).expand_as(keep)
    draws = uniform(keep, list(range(4000)), 0)
    share = permuted(keep, shown, draws).float().mean(dim=0)
    # 1/5 each with a standard error of 0.0063, none in the padding
    assert share[:5].tolist() == pytest.approx([0.2] * 5, abs=0.025) and share[5] == 0
