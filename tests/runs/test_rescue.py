"""Answers about missed objects lie beside a run and are no part of it."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.runs import write_run

from svit.cli.check import problems_of
from svit.runs.frames import videos_of
from svit.runs.head import RunError
from svit.runs.rescue import (
    Rescue,
    read_part,
    read_rescue,
    rescue_path,
    spans,
    write_part,
)

NONE = float("nan")


def row(image_id, place, before, after, random=(NONE, 0.6)) -> dict:
    return {
        **{"image_id": image_id, "object": place, "before": before, "after": after, "added": 4},
        **{"random": list(random), "random_added": [4, 4]},
    }


ROWS = [row(1, 0, 0.3, 0.8), row(1, 1, NONE, NONE, (NONE, NONE)), row(3, 0, 0.45, 0.2)]


def facts_of(run, blocks=(4, 5), **changes) -> dict:
    asked = {"draws": 2, "score": 0.5, "iou": 0.5, "kind": "box", "seed": 0}
    return {"blocks": list(blocks), **asked, "created": run.created, **changes}


@pytest.fixture
def run(tmp_path):
    return write_run(tmp_path / "run")


def test_parts_of_all_ranks_are_read_together(run):
    for rank, rows in enumerate((ROWS[:2], ROWS[1:])):
        write_part(rescue_path(run.path, (4, 5), rank), facts_of(run), rows)
    found = read_rescue(run.path)
    assert found.facts["blocks"] == [4, 5]
    assert found.frame[["image_id", "object"]].to_numpy().tolist() == [[1, 0], [1, 1], [3, 0]]
    answers = found.found()
    assert answers["rescued"].tolist() == [True, False, False]
    assert answers["chance"].tolist() == [0.5, 0, 0.5]


def test_the_run_stays_what_it_was_and_is_whole(run):
    before = run.content_hash()
    write_part(rescue_path(run.path, (4, 5)), facts_of(run), ROWS)
    assert run.content_hash() == before and not list(problems_of(run.path))


def test_a_lower_score_can_be_asked_of_the_same_answers_and_a_higher_one_not(run):
    found = Rescue(facts_of(run), read_back(run, ROWS).frame)
    assert found.found(0.4)["object"].tolist() == [0, 1]  # the third is found with .45
    assert found.found(0.0)["image_id"].tolist() == [1]  # the only one that nothing finds at all
    with pytest.raises(ValueError, match="at most 0.5, below which objects were asked about"):
        found.found(0.7)


def read_back(run, rows, **more) -> Rescue:
    write_part(rescue_path(run.path, (4, 5)), facts_of(run), rows, **more)
    return read_rescue(run.path)


def test_the_count_has_an_interval_over_images_and_chance_beside_it(run):
    parts = read_back(run, ROWS).summary(run.image_ids, draws=50)
    assert {name: one.value for name, one in parts.items()} == {
        **{"rescued": 1.0, "chance": 1.0, "difference": 0.0}
    }
    assert parts["difference"].low < 0 < parts["difference"].high
    told = read_rescue(run.path).sentence(run.image_ids)
    assert told.startswith(
        "1 of 3 missed objects come back when their tokens are kept in blocks 4–5"
    )
    assert "1.0 with as many at random (2 draws each)" in told


def test_one_picture_has_no_interval_and_one_object_a_singular(run):
    alone = Rescue(facts_of(run, draws=1), read_back(run, [row(1, 0, 0.3, 0.8, (NONE,))]).frame)
    assert alone.sentence([1]) == (
        "1 of 1 missed object comes back when its tokens are kept in blocks 4–5, 0.0 with as many at random "
        "(1 draw): a difference of +1.0 objects (one picture tells no interval)"
    )


def test_a_run_without_missed_objects_has_an_answer_too(run):
    found = read_back(run, [])
    assert found.found().empty and found.summary(run.image_ids, 5)["rescued"].value == 0
    read_back(run, [], texts=True)
    assert pq.read_schema(rescue_path(run.path, (4, 5))).field("image_id").type == pa.string()


def test_the_most_blocks_are_read_unless_others_are_named(run):
    assert read_rescue(run.path) is None
    for blocks in ((4, 5), (4, 5, 6)):
        write_part(rescue_path(run.path, blocks), facts_of(run, blocks), ROWS)
    assert read_rescue(run.path).facts["blocks"] == [4, 5, 6]
    assert read_rescue(run.path, (4, 5)).facts["blocks"] == [4, 5]
    assert read_rescue(run.path, (7,)) is None


def test_files_are_named_by_their_blocks():
    assert spans((4, 5, 6)) == "4-6" and spans((4,)) == "4" and spans((7, 4, 8)) == "4_7-8"


def test_damage_and_mix_ups_are_told_with_the_file(run, tmp_path):
    path = rescue_path(run.path, (4, 5))
    write_part(path, facts_of(run, created="2020-01-01"), ROWS)
    with pytest.raises(RunError, match=r"rescue-4-5-00000.parquet is of a run recorded 2020-01-01"):
        read_part(path)
    pq.write_table(pa.table({"object": np.arange(3)}), path)
    with pytest.raises(RunError, match="holds no rescue of missed objects: delete it"):
        read_part(path)
    path.write_bytes(b"nothing")
    assert [str(path) in problem for problem in problems_of(run.path)] == [True]


def test_frames_of_one_video_are_no_separate_scenes(run):
    """Two videos of four frames, one with all objects that come back: they are drawn together."""
    found = read_back(run, [row(one, 0, 0.3, 0.8, (NONE, NONE)) for one in (1, 2, 3, 4)])
    ids = list(range(1, 9))
    apart, together = (
        found.summary(ids, videos=videos)["rescued"]
        for videos in (None, {one: "ab"[one > 4] for one in ids})
    )
    assert apart.value == together.value == 4
    assert together.bounds == (0, 8)  # neither, or one of them twice
    assert 0 < apart.low < apart.high < 8
    alone = found.sentence([1, 2, 3, 4], dict.fromkeys([1, 2, 3, 4], "a"))
    assert alone.endswith("a difference of +4.0 objects (one video tells no interval)")


def test_images_have_videos_only_where_all_are_frames():
    frames = pd.DataFrame({"image_id": [1, 2], "video": ["a", "a"], "frame": [0, 1]})
    assert videos_of(frames, (1, 2)) == {1: "a", 2: "a"}
    assert videos_of(frames, (1, 2, 3)) is None
    assert videos_of(frames.iloc[:0], ()) is None
