"""Interventions keep what they promise: counts, lifetimes, everything or nothing."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
from support.scenes import detector
from support.two_pictures import SAMPLES

from svit.core.catalogue import METHODS
from svit.data.samples import Sample
from svit.detectors.base import Detector, image_seeds
from svit.probing.apply_edits import decide
from svit.probing.edits import EditError
from svit.probing.interventions import INTERVENTIONS, draws_once, gated_layers, intervene
from svit.probing.recorder import record

GATED = list(range(3, 12))
PRUNING = [name for name, entry in METHODS.items() if entry.traits.selection != "none"]


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


@pytest.mark.parametrize(
    "name", ["random", "shuffle", "invert", "oracle", "centre", "centre-square"]
)
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


@pytest.mark.parametrize("method", ["dynamicvit", "evit", "ats"])
def test_what_a_removing_model_dropped_at_random_stays_dropped(method: str) -> None:
    """A block would compute on zeros if a draw named tokens that are gone."""
    model = detector(method, retain="remove")
    learned, drawn = masks(model, "learned"), masks(model, "random")
    assert (learned != drawn).any() and not drawn[:, -1].all()
    assert (drawn[:, 1:] <= drawn[:, :-1]).all()
    for where in (valid(), ~valid()):
        assert (counts(learned, where) == counts(drawn, where)).all()
    assert (masks(model, "shuffle") != drawn).any()
    with pytest.raises(ValueError, match="invert needs a model that preserves"):
        masks(model, "invert")


NEVER_BACK = [
    ("svit", {"inherit": True, "inference": "sample", "keep_ratios": [0.7, 0.5, 0.3]}),
    *((name, {"retain": "preserve"}) for name in ("dynamicvit", "evit", "ats")),
    ("random", {"inherit": True}),
]


@pytest.mark.parametrize(("method", "options"), NEVER_BACK)
@pytest.mark.parametrize("name", ["random", "shuffle", "oracle", "centre", "centre-square"])
def test_controls_of_a_method_that_calls_nothing_back_do_not_either(
    method: str, options: dict, name: str
) -> None:
    model = detector(method, **options)
    learned, drawn = masks(model, "learned"), masks(model, name)
    assert (drawn[:, 1:] <= drawn[:, :-1]).all() and (learned != drawn).any()
    for where in (valid(), ~valid()):
        assert (counts(learned, where) == counts(drawn, where)).all()
    if name == "random":  # on a model without masks of its own they are as nested
        lent = masks(detector("dense"), name, source=model)
        assert (lent == drawn).all() and draws_once(name, model, detector("dense"))


@pytest.mark.parametrize(
    ("method", "options"), [("evit", {"retain": "remove"}), ("dynamicvit", {"retain": "preserve"})]
)
@pytest.mark.parametrize("name", ["random", "shuffle", "oracle", "centre"])
def test_blocks_behind_one_that_decides_for_good_have_no_control_of_their_own(
    method: str, options: dict, name: str
) -> None:
    """Tokens that block 4 dropped would be among the drawn ones: zeros where they are removed."""
    model = detector(method, **options)
    with pytest.raises(EditError, match="tokens that block 4 left out never come back"):
        masks(model, name, layers=range(6, 12))
    for some in (range(3, 6), (3, 6, 9)):
        learned, drawn = masks(model, "learned"), masks(model, name, layers=some)
        assert (drawn[:, 1:] <= drawn[:, :-1]).all() and (learned != drawn).any()
        assert (learned[:, some].sum(axis=2) == drawn[:, some].sum(axis=2)).all()
    lent = masks(detector("dense"), name, source=model, layers=range(6, 12))
    assert lent[:, :6].all() and not lent[:, 6].all()


@pytest.mark.parametrize(
    ("method", "options"), [("svit", {"inference": "sample"}), ("random", {}), ("magnitude", {})]
)
def test_random_masks_beside_a_method_that_calls_back_do_as_well(
    method: str, options: dict
) -> None:
    model = detector(method, **options)
    drawn = masks(model, "random")
    assert (drawn[:, 1:] > drawn[:, :-1]).any() and not draws_once("random", model, model)
    lent = masks(detector("dense"), "random", source=model)
    assert (lent == drawn).all()


def test_random_masks_beside_evo_vit_call_back_as_often_as_it_did() -> None:
    model = detector("evovit")
    back = [
        (keep[:, 1:] > keep[:, :-1]).sum()
        for keep in (masks(model, "learned"), masks(model, "random"))
    ]
    assert back[0] == back[1]


def test_off_uses_nothing_and_on_everything_in_gated_blocks_only(model: Detector) -> None:
    off, on = masks(model, "off"), masks(model, "on")
    assert off[:, :3].all() and not off[:, 3:].any()
    assert on.all()
    some = masks(model, "off", layers=[5])
    assert not some[:, 5].any() and some[:, 4].any()


def test_inverted_masks_keep_the_lowest_scores(model: Detector) -> None:
    model.seed = 0
    decided = decide(model, SAMPLES, image_seeds(SAMPLES, 0))
    inverted, shown = masks(model, "invert"), valid()
    for layer in GATED:
        scores = decided.scores[layer].numpy()[0][shown[0]]
        kept = inverted[0, layer][shown[0]]
        assert scores[kept].max() < scores[~kept].min()


def shown(sample: Sample) -> dict[int, tuple[float, bool]]:
    """Valid token -> pixels of the disc in hundredths, and whether its outline passes."""
    mask, columns = sample.target.masks[0], sample.image.shape[2] // 16
    found = {}
    for row, column in itertools.product(range(4), range(columns)):
        share = mask[16 * row : 16 * row + 16, 16 * column : 16 * column + 16].mean()
        found[row * 6 + column] = (round(float(share), 2), 0.02 < share < 0.98)
    return found


def test_the_oracle_takes_what_objects_cover_most_then_outlines(model: Detector) -> None:
    kept = masks(model, "oracle")
    for image, sample in enumerate(SAMPLES):
        order = shown(sample)
        for layer in GATED:
            chosen = [order[token] for token in order if kept[image, layer, token]]
            others = [order[token] for token in order if not kept[image, layer, token]]
            assert min(chosen, default=(1, True)) >= max(others, default=(0, False))


def test_the_oracle_of_fewer_tokens_is_a_part_of_that_of_more(model: Detector) -> None:
    kept = masks(model, "oracle") & valid()[:, None]
    for image in kept:
        ascending = sorted(image[GATED], key=lambda layer: layer.sum())
        assert all((few <= many).all() for few, many in itertools.pairwise(ascending))


def test_the_oracle_needs_ground_truth(model: Detector) -> None:
    blind = [replace(sample, target=None) for sample in SAMPLES]
    wanted = pytest.raises(ValueError, match="needs images with ground truth")
    with wanted, intervene(model, "oracle", blind):
        model.predict(blind)


def test_the_learned_masks_are_those_of_the_unedited_model(model: Detector) -> None:
    with record(model) as tape:
        model.seed = 4
        model.predict(SAMPLES)
    plain = tape.keep().reshape(2, 12, -1)
    assert (masks(model, "learned", seed=4) == plain).all()
    decided = decide(model, SAMPLES, image_seeds(SAMPLES, 4))
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


@pytest.mark.parametrize("method", sorted(set(METHODS) - set(PRUNING)))
def test_a_model_that_prunes_nothing_has_no_masks_to_move(method: str) -> None:
    with pytest.raises(ValueError, match="prunes nothing; name a pruned model"):
        masks(detector(method), "random")
    assert gated_layers(detector(method).backbone.method) == GATED
    assert not masks(detector(method), "off")[:, 3:].any()


@pytest.mark.parametrize("method", sorted(set(PRUNING) - {"svit"}))
def test_every_method_can_be_intervened_in(method: str) -> None:
    model = detector(method)
    learned, moved = masks(model, "learned"), masks(model, "shuffle")
    assert (counts(learned, valid()) == counts(moved, valid())).all()
    assert (learned != moved).any() != learned.all()  # A-ViT halts nothing before it is trained
    gated = gated_layers(model.backbone.method)
    assert not masks(model, "off")[:, gated].any() and masks(model, "on").all()


def test_unknown_names_and_missing_scores_are_refused(model: Detector) -> None:
    with pytest.raises(ValueError, match="expected one of learned, random"):
        masks(model, "reverse")
    with pytest.raises(ValueError, match="invert needs scores"):
        masks(detector("evit", retain="preserve"), "invert")
