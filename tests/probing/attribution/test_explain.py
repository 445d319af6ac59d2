"""Explanations measure what they say: equal uses at each step, sets that suffice, blocks given back."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from support.scenes import detector
from support.two_pictures import SAMPLES

from svit.core.attribution import Explanation
from svit.detectors.base import Detector
from svit.probing.attach import attach
from svit.probing.attribution.explain import as_target, explain, planned, things_of
from svit.probing.attribution.options import AttributionError, Options
from svit.probing.attribution.signals import measured
from svit.probing.attribution.trials import Trials
from svit.probing.recorder import record

WIDE, SQUARE = SAMPLES
SMALL = Options(steps=4, draws=2, searches=2, budget=10, batch=8, least=0.0)


@pytest.fixture(scope="module")
def model() -> Detector:
    return detector(keep_ratios=[0.5] * 9)


def things(model: Detector, sample=WIDE):
    return things_of(detected=as_target(model.predict([sample])[0]))


@pytest.fixture(scope="module")
def told() -> list[int]:
    return []


@pytest.fixture(scope="module")
def one(model: Detector, told: list[int]) -> Explanation:
    return explain(model, WIDE, things(model)[:1], SMALL, told.append)[0]


def test_detections_near_a_box_are_those_of_the_whole_picture(model: Detector) -> None:
    whole = model.predict([WIDE, WIDE])
    near = [np.array([[0, 0, 40, 40]]), whole[0].boxes_xyxy[-1:]]
    some = model.predict([WIDE, WIDE], near=near)
    for all_found, found, boxes in zip(whole, some, near, strict=True):
        for thing in things_of(detected=as_target(all_found)):
            left, top, right, bottom = thing.box_xyxy
            x0, y0, x1, y1 = boxes[0]
            inside = min(right, x1) - max(left, x0) > 8 and min(bottom, y1) - max(top, y0) > 8
            if inside:
                assert thing.hit(found).score == pytest.approx(thing.hit(all_found).score, abs=1e-5)


def test_with_own_masks_all_tokens_are_the_plain_model(one: Explanation) -> None:
    assert one.masks == "own" and one.layers == tuple(range(3, 12))
    assert one.full.score == pytest.approx(one.own.score, abs=1e-5)
    assert one.full.iou == pytest.approx(1, abs=1e-2)


def test_all_orders_take_equal_uses_at_each_step(one: Explanation, model: Detector) -> None:
    assert set(one.curves["order"]) == set(SMALL.orders)
    inner = one.curves[(one.curves["share"] > 0) & (one.curves["share"] < 1)]
    for step in range(1, SMALL.steps):
        aim = step / SMALL.steps
        shares = [
            curve["share"].to_numpy()[step - 1]
            for _, curve in inner.groupby(["order", "draw", "mode"])
        ]
        assert min(shares) >= aim - 1e-9 and max(shares) <= aim + len(one.layers) / one.uses


def test_every_curve_begins_and_ends_with_the_same_points(one: Explanation) -> None:
    for (mode, *_), curve in one.curves.groupby(["mode", "order", "draw"]):
        ends = (one.full, one.none) if mode == "deletion" else (one.none, one.full)
        assert curve["share"].tolist() == sorted(curve["share"]) and len(curve) == SMALL.steps + 1
        assert (curve["score"].iloc[0], curve["score"].iloc[-1]) == (ends[0].score, ends[1].score)


def test_sets_suffice_when_they_are_run_again_and_are_no_larger_than_their_start(
    model: Detector, one: Explanation
) -> None:
    thing = things(model)[0]
    keep = measured(model, WIDE).trace.keep.reshape(12, -1)
    trials = Trials(model, WIDE, [thing], keep, one.layers, 4, lambda done: None)
    assert len(one.sets) == SMALL.searches
    for own in one.sets:
        ((hit,),) = trials.keeping([np.array(own.tokens)])
        assert hit.score == pytest.approx(own.score, abs=1e-5)
        assert hit.score >= SMALL.keep * one.full.score - 1e-5
        assert len(own.tokens) <= own.start and own.forwards <= SMALL.budget


def test_where_no_token_is_needed_the_smallest_set_is_empty(model: Detector) -> None:
    idle = replace(SMALL, layers=(11,), keep=0.05, searches=1, orders=("usage", "random"), draws=1)
    found = explain(model, WIDE, things(model)[:1], idle)[0]
    assert found.none.score >= 0.05 * found.full.score and found.sets[0].tokens == ()
    assert found.sets[0].minimal and found.sets[0].score == found.none.score
    assert (found.beside["tokens"] == 0).all()


def test_what_stands_beside_the_smallest_set_has_at_least_its_uses(one: Explanation) -> None:
    assert (one.beside["uses"] >= one.sets[0].uses).all()
    assert (one.beside["kind"] == "random").sum() == SMALL.draws


def test_as_many_tokens_are_given_back_elsewhere_as_on_the_object(one: Explanation) -> None:
    counts = one.forced.groupby(["block", "kind"])["tokens"].max().unstack()
    assert list(counts.index) == [0, *range(4, 13)]
    assert (counts["elsewhere"] <= counts["object"]).all() and (
        counts["object"] <= counts["all"]
    ).all()
    assert counts.loc[0, "all"] == counts.loc[4:, "all"].sum()
    unchanged = one.forced[one.forced["tokens"] == 0]
    assert np.allclose(unchanged["score"], one.own.score, atol=1e-5)


def test_forwards_are_told_and_stay_within_the_plan(
    model: Detector, one: Explanation, told: list[int]
) -> None:
    assert sum(told) <= planned(model, SMALL) and one.forwards <= planned(model, SMALL)


def test_objects_that_share_a_picture_get_what_they_get_alone(
    model: Detector, one: Explanation
) -> None:
    quick = replace(SMALL, searches=0, forced=False)
    both = explain(model, WIDE, things(model)[:2], quick)
    again = both[0].curves.set_index(["order", "draw", "mode", "share"])["score"].sort_index()
    alone = one.curves.set_index(["order", "draw", "mode", "share"])["score"].sort_index()
    assert np.allclose(again, alone, atol=1e-4)


def test_padding_is_not_taken_away(model: Detector) -> None:
    # alone the square picture has no padding: it is given some by the side it is fitted into
    keep = np.ones((12, 16), bool)
    trials = Trials(model, SQUARE, things(model, SQUARE)[:1], keep, (3,), 4, lambda done: None)
    assert len(trials.universe) == SQUARE.grid((64, 64), 16).valid_mask().sum()


def test_attention_and_updates_are_those_that_any_model_is_measured_by() -> None:
    dense = detector("dense")
    own = measured(dense, WIDE)
    with torch.no_grad(), attach(dense.backbone) as tape:
        dense.backbone(WIDE.image[None])
    for layer in range(12):
        assert np.allclose(own.update[layer], tape[f"blocks.{layer}.update"][0], atol=1e-5)
        assert np.allclose(own.attention[layer], tape[f"blocks.{layer}.attention"][0], atol=1e-4)


def test_what_a_pruned_block_leaves_out_receives_nothing_and_is_not_updated(
    model: Detector,
) -> None:
    own = measured(model, WIDE)
    keep = own.trace.keep.reshape(12, -1)
    for layer in range(12):
        assert (own.update[layer].numpy()[~keep[layer]] == 0).all()
        assert float(own.attention[layer].sum()) == pytest.approx(keep[layer].sum(), rel=1e-4)


@pytest.mark.parametrize("method", ["dynamicvit", "evit", "ats"])
def test_a_token_that_is_removed_is_not_told_as_the_one_that_changed_most(method: str) -> None:
    own = measured(detector(method, retain="remove"), WIDE)
    keep = own.trace.keep.reshape(12, -1)
    assert keep.all(axis=1).sum() < 12
    for layer in range(12):
        assert (own.update[layer].numpy()[~keep[layer]] == 0).all()
        assert (own.update[layer].numpy()[keep[layer]] > 0).all()


def test_attention_beside_a_package_of_pruned_tokens_is_not_moved_by_one_token() -> None:
    packing = detector("spvit", inference="topk")
    own = measured(packing, WIDE)
    assert {*own.attention} == {0, 1, 2}  # from the first gate on a package takes part


def test_stopping_leaves_the_model_as_it_was(model: Detector) -> None:
    def stop(done: int) -> None:
        raise KeyboardInterrupt

    hooks = sum(len(part._forward_hooks) + len(part._forward_pre_hooks) for part in model.modules())
    with pytest.raises(KeyboardInterrupt):
        explain(model, WIDE, things(model)[:1], SMALL, stop)
    after = sum(len(part._forward_hooks) + len(part._forward_pre_hooks) for part in model.modules())
    assert after == hooks
    with record(model) as tape:
        model.predict([WIDE])
    assert tape.keep().shape[1] == 12


def test_a_dense_model_has_all_orders_but_those_of_gates_and_of_equal_use() -> None:
    dense = detector("dense")
    quick = replace(SMALL, searches=0)
    found = explain(dense, WIDE, things(dense)[:1], quick)[0]
    assert set(found.curves["order"]) == set(SMALL.orders) - {"gates", "usage"}
    assert (found.forced["tokens"] == 0).all()  # it prunes nothing


@pytest.mark.parametrize("method", ["evit", "ats", "dynamicvit"])
def test_methods_that_never_call_back_are_explained(method: str) -> None:
    pruned = detector(method)
    quick = replace(SMALL, orders=("usage", "random"), searches=1, draws=1)
    found = explain(pruned, WIDE, things(pruned)[:1], quick)[0]
    assert found.full.score == pytest.approx(found.own.score, abs=1e-4)
    assert len(found.sets) == 1


def test_what_cannot_be_explained_is_said(model: Detector) -> None:
    thing = things(model)[:1]
    with pytest.raises(AttributionError, match="blocks 1 to 12, found block 13"):
        explain(model, WIDE, thing, replace(SMALL, layers=(12,)))
    with pytest.raises(AttributionError, match="expected some of gates"):
        replace(SMALL, orders=("luck",))
    with pytest.raises(AttributionError, match="steps: expected a whole number from 2"):
        replace(SMALL, steps=1)
    dense = detector("dense")
    with pytest.raises(AttributionError, match="nothing to order tokens by gates"):
        explain(dense, WIDE, things(dense)[:1], replace(SMALL, orders=("gates",)))
    merging = detector("tome")
    with pytest.raises(AttributionError, match="merges tokens"):
        explain(merging, WIDE, thing, SMALL)


def test_a_picture_of_which_one_token_is_used_is_refused_with_a_remedy(model: Detector) -> None:
    one_token = replace(WIDE, image=WIDE.image[:, :16, :16], image_hw=(16, 16), target=None)
    found = things_of(detected=as_target(model.predict([WIDE])[0]))[:1]
    with pytest.raises(AttributionError, match=r"use [01] tokens? of it.*larger picture"):
        explain(model, one_token, found, SMALL)
