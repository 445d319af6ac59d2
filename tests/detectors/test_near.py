"""Detections near given boxes are those of the whole picture; the rest may be missing."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from support.tiny_detectors import FRAMEWORKS, build, samples, varied
from torchvision.ops import box_iou

from svit.detectors.base import NEAR


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_what_overlaps_a_box_comes_out_as_without(framework: str) -> None:
    detector = varied(build(framework, "detector.max_detections=1000")).eval()
    pictures = samples((128, 160, 2), (128, 160, 3))
    whole = detector.predict(pictures)
    near = [one.boxes_xyxy[:1] for one in whole]
    some = detector.predict(pictures, near=near)
    for every, found, boxes in zip(whole, some, near, strict=True):
        meant = every[_overlaps(every.boxes_xyxy, boxes)]
        mine = found[_overlaps(found.boxes_xyxy, boxes)]
        assert len(meant) and len(found) < len(every)
        assert np.allclose(mine.scores, meant.scores, atol=1e-5)
        assert np.allclose(mine.boxes_xyxy, meant.boxes_xyxy, atol=1e-3)
        assert (mine.masks == meant.masks).mean() > 0.999


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_a_box_beside_everything_leaves_nothing(framework: str) -> None:
    detector = build(framework).eval()
    (found,) = detector.predict(samples((64, 64, 1)), near=[np.zeros((0, 4))])
    assert len(found) == 0


def _overlaps(boxes: np.ndarray, near: np.ndarray) -> np.ndarray:
    return (box_iou(torch.tensor(boxes), torch.tensor(near)) >= NEAR + 0.01).any(dim=1).numpy()
