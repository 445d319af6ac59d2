"""Several runs on the same images: hand-made masks and detections, and runs read as a whole or one by one."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from support.runs import PROVENANCE, grid_for, parts, write_dense, write_permuted, write_run

from analysis.numbers import comparison
from svit.core.config import to_dict
from svit.core.presets import load_config
from svit.core.types import TokenTrace
from svit.runs.pairing import MismatchError
from svit.runs.run import RunWriter, open_run

GRID = grid_for((32, 64))  # 2 x 4 tokens, none of them padding


def trace(*masks: str) -> TokenTrace:
    """Layers of 8 tokens each, "1" used."""
    keep = np.array([[sign == "1" for sign in mask] for mask in masks]).reshape(-1, 2, 4)
    return TokenTrace(1, GRID, keep)


def test_lives_tell_used_gone_later_and_next_apart():
    codes = comparison.lives(trace("11110000", "01000000", "11000001")).reshape(3, 8)
    used, never, later, following = range(4)
    assert codes[0, :4].tolist() == [used] * 4
    assert codes[0, 7] == later and codes[1, 7] == following and codes[1, 0] == following
    assert (codes[:, 5] == never).all() and (codes[2, 2:7] == never).all()


def test_sides_users_and_unanimous_blocks_agree_with_counting():
    one, other = trace("11110000", "10000000"), trace("11001100", "10000001")
    assert comparison.sides(one, other)[0].ravel().tolist() == [3, 3, 1, 1, 2, 2, 0, 0]
    assert comparison.users([one, other])[0].ravel().tolist() == [2, 2, 1, 1, 1, 1, 0, 0]
    assert comparison.unanimous([one, other]).ravel().tolist() == [2, 2, 1, 1, 1, 1, 2, 1]


def test_other_depths_and_grids_are_refused(tmp_path):
    long = write_run(tmp_path / "long", (1,))
    with RunWriter(tmp_path / "short", PROVENANCE) as writer:
        writer.add(trace("11111111"))
    with pytest.raises(MismatchError, match="12 and 1 layers"):
        comparison.traces_of([long, open_run(tmp_path / "short")], 1)


def test_images_looked_up_and_streamed_have_the_same_numbers(tmp_path):
    run = write_run(tmp_path / "run", range(1, 19))
    whole = comparison.image_frame(run, run.image_ids, range(3, 12), score=0.5)
    few = comparison.image_frame(run, [5, 2], range(3, 12), score=0.5)  # of 18: looked up
    expected = whole[whole["image_id"].isin([2, 5])].reset_index(drop=True)
    pd.testing.assert_frame_equal(few, expected)
    kept = [run.trace(i).keep[3:, :8, :10].mean() for i in (2, 5)]
    assert few["keep_ratio"].tolist() == pytest.approx(kept)
    assert few["objects"].tolist() == [2, 2] and few["found"].tolist() == [1, 1]  # the second: 0.4


def test_differences_are_to_the_first_run(tmp_path):
    first, other = write_dense(tmp_path / "dense"), write_run(tmp_path / "run", (1, 2, 3))
    frames = [comparison.image_frame(run, (1, 2, 3), range(3, 12)) for run in (first, other)]
    changes = comparison.change_frame(*frames).set_index("image_id")
    assert changes["found"].tolist() == [0, 2, 0]  # the dense run finds nothing in image 2
    assert (changes["keep_ratio"] < 0).all()
    largest = comparison.largest_first(changes.reset_index(), "found")
    assert largest["image_id"].iloc[0] == 2
    summary = comparison.summary_frame(frames, draws=50)
    assert summary["found"].tolist() == [4, 6] and summary["found_change"].iloc[0] == 0


def test_outcomes_say_what_became_of_every_object():
    made = parts(1)
    every, first, second = made["detections"], made["detections"][:1], made["detections"][1:]
    frame = comparison.outcome_frame([first, second, every], made["target"])
    changes = frame.pivot(index="object", columns="run", values="change").to_numpy().tolist()
    assert changes == [["both", "lost", "both"], ["neither", "new", "new"]]


def test_a_partner_shares_images_is_readable_and_has_the_method(tmp_path):
    run = write_run(tmp_path / "a", (1, 2))
    write_run(tmp_path / "b", (7,))
    write_run(tmp_path / "c", (2, 3))
    write_dense(tmp_path / "d", (2,))
    (tmp_path / "e").mkdir()
    paths = [tmp_path / name for name in "aebcd"]
    assert comparison.partner(run, paths) == tmp_path / "c"
    assert comparison.partner(run, paths, "dense") == tmp_path / "d"
    assert comparison.partner(run, paths[:3]) is None


def test_a_run_whose_labels_mean_other_things_is_no_partner_for_objects(tmp_path):
    run, other = write_run(tmp_path / "a", (1, 2)), write_permuted(tmp_path / "b").path
    assert comparison.partner(run, [other], "dense") is None
    assert comparison.partner(run, [other], overlaid=True) == other


def test_a_run_that_states_no_targets_decides_where_it_left_tokens_out(tmp_path):
    gated, dense = write_run(tmp_path / "gated", (1,)), write_dense(tmp_path / "dense", (1,))
    made = parts(1)
    keep = np.ones_like(made["trace"].keep)
    keep[1, 0, 0] = False
    with RunWriter(tmp_path / "silent", {**PROVENANCE, "targets": []}) as writer:
        writer.add(TokenTrace(1, made["trace"].grid, keep))
    silent = open_run(tmp_path / "silent")
    assert comparison.deciding_layers([gated, dense]) == list(range(3, 12))
    assert comparison.deciding_layers([gated, silent]) == [1, *range(3, 12)]
    assert comparison.deciding_layers([dense, silent]) == [1]
    assert comparison.deciding_layers([dense]) == list(range(12))


def test_what_a_run_did_not_record_is_not_told_as_none(tmp_path):
    with RunWriter(tmp_path / "bare", PROVENANCE) as writer:
        writer.add(parts(1)["trace"])
    frames = [
        comparison.image_frame(run, (1,), range(3, 12))
        for run in (write_run(tmp_path / "run", (1,)), open_run(tmp_path / "bare"))
    ]
    summary = comparison.summary_frame(frames, draws=5)
    assert summary["objects"].tolist()[0] == 2 and summary["found"].tolist()[0] == 2
    assert summary.loc[1, ["objects", "found", "found_share"]].isna().all()


def test_images_named_by_texts_stand_as_people_count(tmp_path):
    run = write_run(tmp_path / "run", ("10", "2", "1"))
    assert comparison.common_ids([run, run]) == ["1", "2", "10"]


def test_a_network_whose_detections_are_not_recorded_is_not_cheaper_for_it(tmp_path):
    config = to_dict(load_config("svit-plain-nano"))
    made, told = parts(1), {**PROVENANCE, "config": config}
    for name, found in (("bare", None), ("whole", made["detections"])):
        with RunWriter(tmp_path / name, told) as writer:
            writer.add(made["trace"], found)
    bare, whole = (open_run(tmp_path / name) for name in ("bare", "whole"))
    assert comparison.image_frame(whole, (1,), range(12))["gmacs"].notna().all()
    assert comparison.image_frame(bare, (1,), range(12))["gmacs"].isna().all()
    with pytest.raises(comparison.CostError, match="no detections of image 1"):
        comparison.cost_frame(bare, [made["trace"]])
