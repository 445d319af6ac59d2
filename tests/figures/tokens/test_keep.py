"""Keep ratios by their artists."""

from __future__ import annotations

import pandas as pd

from analysis.figures.tokens import keep
from analysis.numbers import usage


def test_kept_shares_stand_beside_their_target_and_spread(ax):
    counts = pd.DataFrame({"image_id": [1, 2] * 2, "layer": [0, 0, 1, 1]})
    counts = counts.assign(kept_valid=[4, 2, 1, 0], valid=[4, 2, 4, 2])
    frame = usage.keep_frame(counts, [1.0, 0.5])
    keep.print(frame, ax)
    lines = {line.get_label(): line.get_ydata().tolist() for line in ax.lines}
    assert lines["all tokens"] == [1, 1 / 6] and lines["mean of images"] == [1, 1 / 8]
    assert lines["target"] == [1, 0.5]
    keep.print(usage.keep_frame(counts), ax)  # without targets: no dashes
    assert [line.get_label() for line in ax.lines].count("target") == 1


def test_the_screen_shows_the_same_columns():
    counts = pd.DataFrame({"image_id": [1], "layer": [0], "kept_valid": [1], "valid": [4]})
    chart = keep.screen(usage.keep_frame(counts, [0.5])).to_dict()
    fields = {layer["encoding"]["y"]["field"] for layer in chart["layer"]}
    assert fields == {"low", "pooled", "target"}
    assert set(keep.one_image()["layer"][0]["data"].values()) == {"image"}


def test_before_and_after_stand_side_by_side_in_every_block():
    bars, target = keep.two_sides()["layer"]
    assert bars["encoding"]["color"]["scale"]["domain"] == ["before", "after"]
    assert "after" in str(target["transform"]), "one tick a block"
