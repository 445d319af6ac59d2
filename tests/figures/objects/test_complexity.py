"""Tokens against complexity on screen: where the axes begin."""

from __future__ import annotations

import pandas as pd
import pytest

from analysis.figures.objects import complexity


@pytest.mark.parametrize("measure", ["objects", "area", "edges"])
def test_axes_begin_where_the_images_do(measure):
    values = {"objects": [4.0, 9.0], "area": [0.2, 0.3], "edges": [0.20, 0.23]}
    frame = pd.DataFrame({"image_id": [1, 2], "keep_ratio": [0.5, 0.54], **values})
    encoding = complexity.screen(frame, measure).to_dict()["encoding"]
    assert encoding["x"]["scale"]["zero"] is False and encoding["y"]["scale"]["zero"] is False
