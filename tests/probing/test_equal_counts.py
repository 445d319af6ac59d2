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

from svit.core.types import Target
from svit.data.samples import valid_tokens
from svit.detectors.base import image_seeds
from svit.probing.edits import Decided, EditError, Forward
from svit.probing.equal_counts import CONTROLS, Control, importance
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


def digest(masks: list[torch.Tensor]) -> str:
    return hashlib.sha256(np.packbits(torch.stack(masks).numpy()).tobytes()).hexdigest()[:16]


def decided() -> Decided:
    generator = torch.Generator().manual_seed(5)
    scores = {layer: torch.randn(2, 24, generator=generator) for layer in range(DEPTH)}
    return Decided({layer: score > 0 for layer, score in scores.items()}, scores)


def forward(removes: bool = False) -> Forward:
    valid = valid_tokens(GRIDS, torch.device("cpu"))
    method = SimpleNamespace(depth=DEPTH)
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
        here = Forward([sample], (grid,), everywhere, [seed], SimpleNamespace(depth=1))
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
