"""Videos of a run, and what became of their tokens."""

from __future__ import annotations

import numpy as np
import pytest
from support.runs import write_run, write_videos

from analysis.tokens import frames
from svit.runs.frames import COLUMNS, frames_of


def test_frames_come_video_by_video_in_their_order(tmp_path) -> None:
    run = write_videos(tmp_path / "run")
    assert list(run.image_ids)[:4] == [3, 2, 1, 0]
    assert run.frames["image_id"].tolist() == [0, 1, 2, 3, 10, 11, 12, 13]
    found = frames.videos(run)
    assert [(one.name, one.image_ids, one.numbers) for one in found] == [
        ("a", (0, 1, 2, 3), (0, 1, 2, 3)),
        ("b", (10, 11, 12, 13), (0, 1, 2, 3)),
    ]
    assert run.slices == ()


def test_a_run_of_pictures_has_no_frames(tmp_path) -> None:
    run = write_run(tmp_path / "run")
    assert frames.videos(run) == [] and list(run.frames) == COLUMNS and not len(run.frames)
    assert frames_of(run.images.assign(video=None, frame=None)).empty


def test_shares_and_counts_are_those_of_the_masks(tmp_path) -> None:
    run = write_videos(tmp_path / "run")
    told = frames.told(run, frames.videos(run)[1])
    rows, columns = told.grid.valid_hw
    assert told.frames["image_id"].tolist() == [10, 11, 12, 13]
    assert told.frames["share"].tolist() == pytest.approx([1, *[1 / columns] * 3])
    assert told.frames["any"].tolist() == pytest.approx([1, *[1 / columns] * 3])
    expected = np.ones((rows, columns), int)
    expected[:, :3] += 1  # in one later frame each
    np.testing.assert_array_equal(told.counts, expected)


def test_middles_are_those_of_annotated_boxes(tmp_path) -> None:
    run = write_videos(tmp_path / "run")
    told = frames.told(run, frames.videos(run)[0])
    boxes = run.target(0).boxes_xyxy
    first = told.middles[told.middles["frame"] == 0]
    assert first["class"].tolist() == ["disc", "ball"]
    assert first["x"].tolist() == pytest.approx(((boxes[:, 0] + boxes[:, 2]) / 2).tolist())
    assert len(told.middles) == 4 * len(boxes)


def test_only_methods_with_state_over_frames_reuse(tmp_path) -> None:
    assert frames.reuses(write_videos(tmp_path / "gate"))
    assert not frames.reuses(write_videos(tmp_path / "svit", method="svit"))
    assert not frames.reuses(write_videos(tmp_path / "own", method="unknown"))
