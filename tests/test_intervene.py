"""Interventions keep what they promise: counts, lifetimes, everything or nothing."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scenes import detector

from svit.data.samples import Sample
from svit.detectors.base import Detector
from svit.intervene import INTERVENTIONS, decide, gated_layers, intervene, lowest, permuted
from svit.pruning import METHODS
from svit.recorder import record

GATED = list(range(3, 12))
# of unequal sizes, so that the smaller picture has padding tokens: 24 and 16 of 24 tokens are valid
SAMPLES = [
    Sample("wide", torch.randn(3, 64, 96, generator=torch.Generator().manual_seed(0)), (64, 96)),
    Sample("square", torch.randn(3, 64, 64, generator=torch.Generator().manual_seed(1)), (64, 64)),
]


@pytest.fixture(scope="module")
def model() -> Detector:
    return detector(inference="sample", keep_ratios=[0.5] * 9)


def masks(model: Detector, name: str, seed: int = 0, **options) -> np.ndarray:
    """Masks (images, layers, tokens) of a prediction under an intervention."""
    model.seed = seed
    with intervene(model, name, SAMPLES, **options), record(model) as tape:
        model.predict(SAMPLES)
    keep = tape.keep()
    return keep.reshape(*keep.shape[:2], -1)


def valid() -> np.ndarray:
    return np.stack([sample.grid((64, 96), 16).valid_mask().ravel() for sample in SAMPLES])


def counts(keep: np.ndarray, where: np.ndarray) -> np.ndarray:
    return (keep & where[:, None]).sum(axis=2)


@pytest.mark.parametrize("name", ["random", "shuffle", "invert"])
def test_counts_of_each_image_and_layer_stay_for_valid_and_padding_tokens(
    model: Detector, name: str
) -> None:
    learned, changed = masks(model, "learned"), masks(model, name)
    assert (learned != changed).any()
    for where in (valid(), ~valid()):
        assert (counts(learned, where) == counts(changed, where)).all()


def test_shuffling_moves_lives_and_random_positions_break_them(model: Detector) -> None:
    def lives(keep: np.ndarray) -> list[tuple]:
        return sorted(map(tuple, keep[0].T.tolist()))

    learned = masks(model, "learned")
    assert lives(masks(model, "shuffle")) == lives(learned)
    assert lives(masks(model, "random")) != lives(learned)


def test_off_uses_nothing_and_on_everything_in_gated_blocks_only(model: Detector) -> None:
    off, on = masks(model, "off"), masks(model, "on")
    assert off[:, :3].all() and not off[:, 3:].any()
    assert on.all()
    some = masks(model, "off", layers=[5])
    assert not some[:, 5].any() and some[:, 4].any()


def test_inverted_masks_keep_the_lowest_scores(model: Detector) -> None:
    model.seed = 0
    decided = decide(model, SAMPLES, seed=0)
    inverted, shown = masks(model, "invert"), valid()
    for layer in GATED:
        scores = decided.scores[layer].numpy()[0][shown[0]]
        kept = inverted[0, layer][shown[0]]
        assert scores[kept].max() < scores[~kept].min()


def test_the_learned_masks_are_those_of_the_unedited_model(model: Detector) -> None:
    with record(model) as tape:
        model.seed = 4
        model.predict(SAMPLES)
    plain = tape.keep().reshape(2, 12, -1)
    assert (masks(model, "learned", seed=4) == plain).all()
    decided = decide(model, SAMPLES, seed=4)
    assert all((decided.keep[layer].numpy() == plain[:, layer]).all() for layer in range(12))


@pytest.mark.parametrize("name", INTERVENTIONS)
def test_a_seed_repeats_an_intervention_and_each_image_draws_alone(
    model: Detector, name: str
) -> None:
    assert (masks(model, name, seed=1) == masks(model, name, seed=1)).all()
    model.seed = 1
    with intervene(model, name, SAMPLES[:1]), record(model) as tape:
        model.predict(SAMPLES[:1])
    alone = tape.keep().reshape(12, -1)
    assert (masks(model, name, seed=1)[0] == alone).all()


def test_another_seed_draws_other_positions(model: Detector) -> None:
    assert (masks(model, "shuffle", seed=1) != masks(model, "shuffle", seed=2)).any()


def test_masks_of_a_pruned_model_run_on_a_dense_one(model: Detector) -> None:
    dense = detector("dense")
    learned = masks(model, "learned", seed=3)
    assert (masks(dense, "learned", seed=3, source=model) == learned).all()
    moved = masks(dense, "random", seed=3, source=model)
    assert (moved.sum(axis=2) == learned.sum(axis=2)).all() and (moved != learned).any()


def test_a_dense_model_has_no_masks_to_move() -> None:
    with pytest.raises(ValueError, match="prunes nothing; name a pruned model"):
        masks(detector("dense"), "random")
    assert gated_layers(detector("dense").backbone.method) == GATED
    assert not masks(detector("dense"), "off")[:, 3:].any()


@pytest.mark.parametrize("method", sorted(set(METHODS) - {"dense", "svit"}))
def test_every_method_can_be_intervened_in(method: str) -> None:
    model = detector(method)
    learned, moved = masks(model, "learned"), masks(model, "shuffle")
    assert (counts(learned, valid()) == counts(moved, valid())).all() and (learned != moved).any()
    gated = gated_layers(model.backbone.method)
    assert not masks(model, "off")[:, gated].any() and masks(model, "on").all()


def test_unknown_names_and_missing_scores_are_refused(model: Detector) -> None:
    with pytest.raises(ValueError, match="expected one of learned, random"):
        masks(model, "reverse")
    with pytest.raises(ValueError, match="invert needs scores"):
        masks(detector("evit"), "invert")


flags = st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=40)


@given(tokens=flags, seed=st.integers(0, 99), salt=st.integers(0, 5))
def test_a_permutation_keeps_counts_inside_and_outside_the_picture(
    tokens: list[tuple[bool, bool]], seed: int, salt: int
) -> None:
    keep, shown = (torch.tensor([column]) for column in zip(*tokens, strict=True))
    moved = permuted(keep, shown, [seed], salt)
    chosen = lowest(keep, torch.randn(keep.shape), shown)
    for result in (moved, chosen):
        assert (result & shown).sum() == (keep & shown).sum()
        assert (result & ~shown).sum() == (keep & ~shown).sum()
    everything = torch.ones_like(keep)
    assert permuted(everything, shown, [seed], salt).all()


def test_a_permutation_takes_every_position_equally_often() -> None:
    keep = torch.zeros(4000, 6, dtype=torch.bool)
    keep[:, 0] = True
    shown = torch.tensor([True] * 5 + [False]).expand_as(keep)
    share = permuted(keep, shown, list(range(4000)), 0).float().mean(dim=0)
    # 1/5 each with a standard error of 0.0063, none in the padding
    assert share[:5].tolist() == pytest.approx([0.2] * 5, abs=0.025) and share[5] == 0
