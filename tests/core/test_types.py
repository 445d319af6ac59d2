"""The currency: boxes go to COCO's form and back."""

from __future__ import annotations

import numpy as np

from svit.core.types import to_xywh, to_xyxy


def test_boxes_go_to_cocos_form_and_back() -> None:
    corners = np.float32([[1, 2, 4, 8], [0, 0, 0.5, 3]])
    sides = to_xywh(corners)
    assert sides.tolist() == [[1, 2, 3, 6], [0, 0, 0.5, 3]] and sides.dtype == float
    back = to_xyxy(sides.astype(np.float32))
    assert back.tolist() == corners.tolist() and back.dtype == np.float32
    assert corners[0].tolist() == [1, 2, 4, 8]  # what was given stays
    assert to_xywh(np.zeros((0, 4))).shape == (0, 4)
