"""The heads of both frameworks, and whole detectors, against the official implementation's numbers.

The heads start from the official backbone maps, so that a fault here is not one of the backbone; the
padded case runs from the image. SVIT_GOLDEN names the folder; tolerances: reference.md 4.
"""

from __future__ import annotations

import pandas as pd
import pytest
import torch
from support.golden import FOLDER, MAPS, needs_golden
from support.tiny_detectors import FRAMEWORKS

from benchmarks.golden_table import MODELS, compare, expected_tensors, photo_frame, training_frame
from benchmarks.golden_tensors import Reference, inference_tensors, padded_tensors

pytestmark = needs_golden

RELATIVE = 1e-4
PIXELS = 0.01  # of a box's side
MASK_PIXELS = 4  # of 8 masks of 160x192: 1 in 60,000 may sit on the threshold


@pytest.fixture(scope="module", params=FRAMEWORKS)
def framework(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module", params=MODELS)
def differences(request: pytest.FixtureRequest, framework: str) -> pd.DataFrame:
    """The table of one model in one framework, heads fed with the official maps."""
    reference = Reference(FOLDER)
    official = reference.tensors(request.param)
    detector = reference.detector(request.param, framework)
    maps = {key: official[name] for key, name in MAPS.items()}
    ours = {
        **inference_tensors(detector, official, maps),
        **padded_tensors(detector, official),
    }
    expected = expected_tensors(official)
    backbone = [name for name in expected if name.startswith(("keep", "selector", "backbone"))]
    return compare({k: v for k, v in expected.items() if k not in backbone}, ours)


@pytest.mark.parametrize("stage", ["fpn", "rpn", "rois8", "det", "pad"])
def test_every_tensor_of_a_stage_is_close(differences: pd.DataFrame, stage: str) -> None:
    rows = differences[differences.index.str.startswith(stage)]
    relative = rows["relative"].dropna()
    assert len(relative) >= 3
    assert (relative <= RELATIVE).all(), rows


def test_boxes_and_proposals_are_within_a_hundredth_of_a_pixel(differences: pd.DataFrame) -> None:
    names = ["det.boxes", "pad.boxes", "det.proposals", "pad.proposals", "rois8.decoded_boxes"]
    assert (differences.loc[names, "absolute"] <= PIXELS).all(), differences.loc[names]


def test_labels_order_and_levels_are_the_same(differences: pd.DataFrame) -> None:
    # boxes are compared rank by rank, so equal labels and close boxes mean the same order
    names = ["det.labels", "pad.labels", "rois8.level"]
    assert (differences.loc[names, "absolute"] == 0).all(), differences.loc[names]


def test_pasted_masks_differ_in_a_few_pixels_at_most(differences: pd.DataFrame) -> None:
    names = ["det.masks_first8", "pad.masks_first8"]
    assert (differences.loc[names, "absolute"] <= MASK_PIXELS).all(), differences.loc[names]


def test_anchors_are_bit_identical(differences: pd.DataFrame) -> None:
    anchors = differences[differences.index.str.startswith("rpn.anchors")]
    assert len(anchors) == 5
    assert (anchors["absolute"] == 0).all()


@pytest.mark.parametrize("model", MODELS)
def test_a_photograph_gives_the_official_masks_and_detections(framework: str, model: str) -> None:
    rows = photo_frame(Reference(FOLDER), model, framework)
    exact = [name for name in rows.index if name.startswith(("photo.input", "photo.keep"))]
    assert (rows.loc[[*exact, "photo.labels"], "absolute"] == 0).all(), rows
    assert rows.loc["photo.masks_first20", "absolute"] <= MASK_PIXELS, rows
    assert (rows["relative"].dropna() <= RELATIVE).all(), rows


def test_every_tensor_of_the_training_file_is_close() -> None:
    rows = training_frame(Reference(FOLDER))
    assert (rows["relative"] <= RELATIVE).all(), rows


def test_the_comparison_notices_a_wrong_number_and_a_nan() -> None:
    expected = {"a": torch.ones(3), "b": torch.ones(2, dtype=torch.int64)}
    wrong = compare(expected, {"a": torch.tensor([1.0, 1.1, 1.0]), "b": torch.tensor([1, 2])})
    assert wrong.loc["a", "relative"] == pytest.approx(0.1)
    assert wrong.loc["b", "absolute"] == 1
    lost = compare({"a": torch.ones(1)}, {"a": torch.tensor([float("nan")])})
    assert lost.loc["a", "absolute"] == float("inf")
