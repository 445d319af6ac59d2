"""The life of a video's tokens by its artists."""

from __future__ import annotations

import numpy as np
import pytest
from support.runs import write_run, write_videos

from analysis.figures.output import DrawOptions, RenderError
from analysis.figures.videos import frames
from analysis.tokens import frames as numbers


@pytest.fixture
def run(tmp_path):
    return write_videos(tmp_path / "run")


def test_each_video_is_a_product_with_its_frames_and_tokens(run) -> None:
    first, second = frames.draw(run, DrawOptions())
    assert (first.name, second.name) == ("frames-a", "frames-b")
    parts = second.table["part"].value_counts()
    told = numbers.told(run, numbers.videos(run)[1])
    assert parts["frames"] == 4 and parts["tokens"] == told.counts.size
    tokens = second.table[second.table["part"] == "tokens"]
    assert tokens["computed_in_frames"].tolist() == told.counts.ravel().tolist()
    assert second.table["image_id"].dropna().tolist() == [10, 11, 12, 13]


def test_chosen_images_choose_their_videos_and_the_limit_counts_videos(run) -> None:
    assert [one.name for one in frames.draw(run, DrawOptions(images=("12",)))] == ["frames-b"]
    assert [one.name for one in frames.draw(run, DrawOptions(limit=1))] == ["frames-a"]


def test_the_line_is_the_share_of_each_frame(run, ax) -> None:
    told = numbers.told(run, numbers.videos(run)[0])
    frames.print(told.frames, ax)
    mean, any_block = ax.lines
    np.testing.assert_allclose(mean.get_ydata(), told.frames["share"])
    np.testing.assert_allclose(any_block.get_ydata(), told.frames["any"])
    assert mean.get_xdata().tolist() == [0, 1, 2, 3]


def test_dots_lie_at_the_middles_and_grow_with_time(run, ax) -> None:
    told = numbers.told(run, numbers.videos(run)[0])
    frames.tracks(told.middles, ax)
    (dots,) = ax.collections
    np.testing.assert_allclose(dots.get_offsets(), told.middles[["x", "y"]])
    sizes = dots.get_sizes()
    assert (np.diff(sizes[:: len(sizes) // 4]) > 0).all()


def test_a_video_without_annotations_has_no_dots(ax, run) -> None:
    told = numbers.told(run, numbers.videos(run)[0])
    frames.tracks(told.middles[:0], ax)
    assert not len(ax.collections[0].get_offsets())


def test_a_run_of_pictures_is_refused_with_what_would_do(tmp_path) -> None:
    with pytest.raises(RenderError, match="no frames of videos.*--frames 16"):
        next(frames.draw(write_run(tmp_path / "pictures"), DrawOptions()))
