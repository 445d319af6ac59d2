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


def test_a_click_names_images_whose_ids_are_beyond_what_a_browser_counts():
    ids = [2**53 + 1, 2**53 + 2]
    frame = pd.DataFrame({"image_id": ids, "keep_ratio": [0.5, 0.54], "objects": [4.0, 9.0]})
    frame = frame.assign(area=0.5, edges=0.2)
    (rows,) = complexity.screen(frame, "objects").to_dict()["datasets"].values()
    assert [row["image_id"] for row in rows] == list(map(str, ids))
