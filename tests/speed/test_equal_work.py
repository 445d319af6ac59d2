"""Networks measured at equal work: the same boxes for every model, whatever its weights find."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from support import tiny_detectors
from torchvision.ops import box_iou

from svit.speed.benchmark_cases import Settings, batches, cover, variants
from svit.speed.equal_work import APART, equal_work, spread_boxes

CPU = torch.device("cpu")


@pytest.mark.parametrize("framework", tiny_detectors.FRAMEWORKS)
def test_models_of_other_weights_work_on_the_same_boxes(framework: str) -> None:
    """Two pictures of unlike sizes; masks stand as many as asked for, at the boxes asked for."""
    found = []
    for change in (tiny_detectors.varied, lambda detector: detector):
        detector = change(tiny_detectors.build(framework)).eval()
        with equal_work(detector, 40, 12):
            found.append(detector.predict(tiny_detectors.samples((128, 96, 1), (96, 128, 1))))
        assert len(detector.predict(tiny_detectors.samples((128, 96, 1)))[0].labels) != 12
        assert not any(part._forward_hooks for part in detector.modules())
    for one, other in zip(*found, strict=True):
        assert len(one.labels) == 12 and (one.scores == 1).all()
        np.testing.assert_array_equal(one.labels, other.labels)
        np.testing.assert_allclose(one.boxes_xyxy, other.boxes_xyxy, rtol=1e-6)


def test_detections_lie_apart_within_the_picture_and_on_all_scales() -> None:
    boxes = spread_boxes((640, 800), 1000, 100)
    assert boxes.shape == (1000, 4) and torch.equal(boxes, spread_boxes((640, 800), 1000, 100))
    overlap = box_iou(boxes[:100], boxes[:100]).fill_diagonal_(0)
    assert overlap.max() < APART and not torch.equal(boxes, spread_boxes((640, 800), 1000, 100, 1))
    assert (boxes >= 0).all() and (boxes[:, 2] <= 800).all() and (boxes[:, 3] <= 640).all()
    sides = boxes[:, 2:] - boxes[:, :2]
    assert sides.min() >= 15.9 and 80 < sides.median() < 125  # sqrt(16 * 640) is 101


def test_detections_that_do_not_fit_apart_are_refused() -> None:
    with pytest.raises(ValueError, match="detections: 5000 boxes do not fit apart into 64x64"):
        spread_boxes((64, 64), 5000, 5000)


def test_more_boxes_than_a_model_hands_on_are_refused() -> None:
    chosen = Settings(("vit-plain-nano",), detections=4000, framework="torchvision")
    with ExitStack() as edits, pytest.raises(ValueError, match="at most 250 and 100 here, found"):
        variants(chosen, CPU, edits)


def test_pictures_cover_the_size_and_stand_in_whole_batches(tmp_path: Path) -> None:
    config = tiny_detectors.settings_of("torchvision").data
    for place in range(5):
        Image.new("RGB", (60 + place, 40), (40 * place, 0, 0)).save(tmp_path / f"{place}.png")
    settings = Settings(("x",), images=tmp_path, limit=5)
    made = batches(settings, (64, 64), 2, CPU, config)
    assert [[one.image_id for one in batch] for batch in made] == [[0, 1], [2, 3]]
    assert all(one.image.shape == (3, 64, 64) for batch in made for one in batch)
    with pytest.raises(ValueError, match="expected 6 pictures a batch, found 5"):
        batches(settings, (64, 64), 6, CPU, config)


def test_what_a_picture_shows_too_much_is_cut_at_both_ends() -> None:
    wide = np.zeros((10, 40, 3), np.uint8)
    wide[:, 15:25] = 200
    assert (cover(wide, (10, 10)) == 200).all()
    assert cover(wide, (25, 31)).shape == (25, 31, 3)
