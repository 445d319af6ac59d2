"""Edits on a batch: each image gets what it would get alone, and what cannot be is refused."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from support.scenes import detector, nano
from support.two_pictures import noise

from svit.data.samples import Sample
from svit.detectors import build_detector
from svit.detectors.base import Detector
from svit.probing.apply_edits import applied
from svit.probing.edits import (
    Brush,
    Edit,
    EditError,
    KeepBox,
    KeepRatio,
    NoReactivation,
    Remove,
    Shift,
)
from svit.probing.equal_counts import Control
from svit.probing.recorder import record
from svit.probing.transplants import Transplant

PAIR = [noise("one", (64, 96), 0), noise("other", (64, 96), 1)]


@pytest.fixture(scope="module")
def model() -> Detector:
    return detector(inference="sample", keep_ratios=[0.5] * 9)


def masks(model: Detector, samples: Sequence[Sample], edits: Sequence[Edit]) -> np.ndarray:
    with applied(model, samples, edits), record(model) as tape:
        model.predict(samples)
    return tape.keep()


@pytest.mark.parametrize(
    "edits",
    [
        (Shift(0.5), NoReactivation()),
        (KeepRatio(0.6),),
        (Brush((4, 5), ((1, 2), (0, 5)), on=False), Control("random", 2)),
        (KeepBox((0, 0, 40, 30), (3, 7)), Control("shuffle")),
        (Remove(), Control("oracle")),
        (Control("invert", layers=(6,)),),
    ],
)
def test_an_image_of_a_batch_gets_what_it_gets_alone(
    model: Detector, edits: tuple[Edit, ...]
) -> None:
    together = masks(model, PAIR, edits)
    alone = np.concatenate([masks(model, [sample], edits) for sample in PAIR])
    assert (together == alone).all() and (together != masks(model, PAIR, ())).any()


def test_where_tokens_are_removed_a_random_control_draws_once(model: Detector) -> None:
    moved = masks(model, PAIR, (Remove(), Control("random")))
    assert not (moved[:, 1:] & ~moved[:, :-1]).any()


def test_where_reactivation_is_forbidden_a_random_control_calls_nothing_back(
    model: Detector,
) -> None:
    free = masks(model, PAIR, (Control("random"),))
    moved = masks(model, PAIR, (NoReactivation(), Control("random")))
    assert (free[:, 1:] & ~free[:, :-1]).any() and not (moved[:, 1:] & ~moved[:, :-1]).any()


@pytest.mark.parametrize("layers", [(12,), (-1,), ()])
def test_blocks_that_do_not_exist_are_refused_whatever_the_edit(
    model: Detector, layers: tuple[int, ...]
) -> None:
    with record(model) as tape:
        model.predict(PAIR[:1])
    trace = tape.traces(PAIR[:1])[0]
    for edit in (
        Brush(layers, None, on=True),
        KeepBox((0, 0, 9, 9), layers),
        Transplant(trace, "it", layers),
        Control("random", layers=layers),
    ):
        with pytest.raises(EditError, match="blocks 1 to 12, found"):
            masks(model, PAIR[:1], (edit,))


def test_masks_of_one_picture_do_not_fit_two(model: Detector) -> None:
    with record(model) as tape:
        model.predict(PAIR)
    trace = tape.traces(PAIR)[0]
    with pytest.raises(EditError, match="masks of one picture, found 2"):
        masks(model, PAIR, (Transplant(trace, "it"),))


def test_a_lender_is_not_shown_pictures_in_another_normalisation(model: Detector) -> None:
    config = nano("dense")
    other = replace(config, data=replace(config.data, mean_rgb=(0.0, 0.0, 0.0)))
    lender = build_detector(other).eval()
    wanted = pytest.raises(EditError, match=r"normalised by mean \(0.0, 0.0, 0.0\)")
    with wanted, applied(model, PAIR, (Control("learned"),), lender=lender):
        pass


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"short_side": 640}, r"pictures of 640 \(at most \d+\) pixels"),
        ({"long_side": 4000}, r"\(at most 4000\) pixels"),
        ({"pad_multiple": 64}, "padded to multiples of 64"),
    ],
)
def test_a_lender_is_not_shown_pictures_at_another_size(
    model: Detector, change: dict, told: str
) -> None:
    config = nano("dense")
    lender = build_detector(replace(config, data=replace(config.data, **change))).eval()
    wanted = pytest.raises(EditError, match=told)
    with wanted, applied(model, PAIR, (Control("learned"),), lender=lender):
        pass


def test_a_lender_of_other_blocks_is_refused(model: Detector) -> None:
    config = nano("dense")
    lender = build_detector(replace(config, backbone=replace(config.backbone, depth=8))).eval()
    wanted = pytest.raises(EditError, match="8 blocks of 24 tokens and this model on 12 of 24")
    with wanted, applied(model, PAIR, (Control("learned"),), lender=lender):
        pass
