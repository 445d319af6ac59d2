"""From a number to the images behind it: single images add up to pooled numbers and are ranked."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from support.runs import reactivation_of, write_dense, write_run

from analysis.numbers import per_image, regions
from analysis.numbers.run_counts import census


@pytest.fixture
def run(tmp_path):
    return write_run(tmp_path / "run", (1, 2, 3, 4, 5))


def test_single_images_add_up_to_the_pooled_shares(run):
    states = census(run).by_image()
    spread = per_image.spread_frame(states)
    assert states["image_id"].tolist() == [one for one in run.image_ids for _ in range(12)]
    pooled = reactivation_of(run.iter_traces())
    pd.testing.assert_frame_equal(spread[list(pooled.columns)], pooled)
    parts = spread[["next_share", "wait_share", "never_share", "used_share"]]
    assert parts.sum(axis=1).tolist() == pytest.approx([1.0] * 12)
    assert (spread["used_share_low"] <= spread["used_share_high"]).all()


def test_images_are_ranked_by_their_own_share(run):
    states = census(run).by_image()
    ranked = per_image.images_by(states, 7, "used_share")
    shares = {i: run.trace(i).keep[6, :8, :10].mean() for i in run.image_ids}
    assert ranked["image_id"].tolist() == sorted(shares, key=shares.get, reverse=True)
    assert ranked["value"].tolist() == pytest.approx(sorted(shares.values(), reverse=True))


def test_regions_of_single_images_add_up(run):
    samples = list(run.samples("trace", "target", known=["target"]))
    single, objects = per_image.use_of_objects(samples, run.class_names)
    spread = per_image.region_spread(single)
    pooled = regions.region_frame(run.samples("trace", "target", known=["target"]))
    pd.testing.assert_frame_equal(spread[pooled.columns].astype(pooled.dtypes), pooled)
    assert set(single["image_id"]) == set(run.image_ids)
    pd.testing.assert_frame_equal(objects, regions.object_frame(samples, run.class_names))


def test_pairs_leave_out_images_that_one_run_lacks_in_any_order(tmp_path):
    run = write_run(tmp_path / "run", (3, 1, 2))
    other = write_dense(tmp_path / "other", (2, 3))
    ids = per_image.scored_ids(run, other)
    assert ids == [3, 2]
    found = other.samples("trace", "detections", ids=ids)
    assert [(trace.image_id, len(seen)) for trace, seen in found] == [
        (3, 2),
        (2, 0),  # the dense run finds nothing there
    ]


def test_a_single_object_has_no_band():
    shares = pd.DataFrame({"mean": [0.5, 0.6], "error": [0.1, np.nan], "found": [True, False]})
    bands = per_image.share_bands(shares)
    assert bands[["low", "high"]].iloc[0].tolist() == pytest.approx([0.3, 0.7])
    assert bands[["low", "high"]].iloc[1].isna().all()
