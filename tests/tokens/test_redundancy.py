"""Means of redundancy and their difference to shuffled masks."""

from __future__ import annotations

import numpy as np
import pandas as pd

from analysis.tokens.redundancy import redundancy_frame


def test_differences_are_paired_over_images_that_have_both():
    rows = [
        {"image_id": image_id, "block": 4, "masks": masks, "near": near, "best": 1.0, "lost": 0.1}
        for image_id, pair in enumerate(((0.9, 0.5), (0.8, 0.4), (np.nan, 0.9)))
        for masks, near in zip(("own", "shuffled"), pair, strict=True)
    ]
    frame = redundancy_frame(pd.DataFrame(rows), draws=20).set_index("measure")
    near = frame.loc["near"]
    assert (
        near["images"] == 2 and np.isclose(near["own"], 0.85) and np.isclose(near["shuffled"], 0.45)
    )
    assert np.isclose(near[["difference", "low", "high"]].astype(float), 0.4).all()
    assert frame.loc["best", ["difference", "low", "high"]].tolist() == [0, 0, 0]


def test_without_pruned_tokens_there_is_nothing():
    table = pd.DataFrame(columns=["image_id", "block", "masks", "near", "best", "lost"])
    assert redundancy_frame(table).empty
    one = pd.DataFrame([{"image_id": 1, "block": 4, "masks": "own"}])
    one = one.reindex(columns=["image_id", "block", "masks", "near", "best", "lost"])
    assert redundancy_frame(one)["difference"].isna().all()
