"""Run folders: what goes in comes out, a kill loses at most a shard, errors name the fix."""

from __future__ import annotations

import errno
import json
import logging
import os
import resource
import shutil
import signal
import subprocess
import sys
import textwrap
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.runs import PROVENANCE, TARGETS, grid_for, parts, trace_of, write_run

from svit.cli.main import main
from svit.core.types import Detections, TokenGrid, TokenTrace
from svit.runs.head import find_runs
from svit.runs.run import RunError, RunWriter, open_run
from svit.system.files import read_json

ROOT = Path(__file__).resolve().parents[2]


def assert_same(found: object, expected: object) -> None:
    """Every field of two records is equal, dtypes included."""
    for name, value in vars(expected).items():
        if isinstance(value, np.ndarray):
            assert getattr(found, name).dtype == value.dtype
            np.testing.assert_array_equal(getattr(found, name), value)
        else:
            assert getattr(found, name) == value


def test_what_is_written_is_what_is_read(tmp_path):
    run = write_run(tmp_path / "run")
    for image_id in (3, 1, 2):
        given_parts = parts(image_id)
        assert_same(run.trace(image_id), given_parts["trace"])
        assert_same(run.detections(image_id, masks=True), given_parts["detections"])
        assert_same(run.target(image_id), given_parts["target"])
    assert run.image_ids == (3, 1, 2)
    assert [trace.image_id for trace in run.iter_traces()] == [3, 1, 2]
    assert run.provenance == PROVENANCE and run.targets == TARGETS and run.layers == 12
    assert run.finished and len(run.errors) == 0


def measured(image_id: int) -> TokenTrace:
    """The trace of an image with measures, one token of which was not there."""
    trace = parts(image_id)["trace"]
    update = np.random.default_rng(image_id).random(trace.keep.shape).astype(np.float16)
    update[1, 0, 0] = np.nan
    norm = 1e5 * np.ones(trace.keep.shape, np.float32)  # larger than half precision holds
    return replace(trace, measures={"update": update, "norm": norm})


def test_measures_are_read_as_written_and_a_run_without_has_no_column_for_them(tmp_path):
    with RunWriter(tmp_path / "run", PROVENANCE, shard_size=2) as writer:
        for image_id in (3, 1, 2):
            writer.add(measured(image_id))
    run, plain = open_run(tmp_path / "run"), write_run(tmp_path / "plain")
    assert run.measures == ("update", "norm") and plain.measures == ()
    for trace in (run.trace(1), list(run.iter_traces(measures=("update", "norm")))[1]):
        for name, values in measured(1).measures.items():
            np.testing.assert_array_equal(trace.measures[name], values)
            assert trace.measures[name].dtype == np.float32
    assert next(run.iter_traces()).measures == {} == plain.trace(1).measures
    assert open_run(tmp_path / "run", skip_corrupt=True).skipped == ()
    (shard, *_) = sorted((tmp_path / "plain").glob("*.tokens.parquet"))
    assert not {"update", "norm"} & set(pq.read_schema(shard).names)


def test_a_measure_that_cannot_be_is_refused_when_it_is_read(tmp_path):
    trace = measured(1)
    wrong = {"update": np.full(trace.keep.shape, -1.0)}
    with RunWriter(tmp_path / "run", PROVENANCE) as writer:
        writer.add(replace(trace, measures=wrong))
    run = open_run(tmp_path / "run")
    assert run.keep_counts().kept.sum() > 0
    with pytest.raises(RunError, match="update with values that are negative or infinite"):
        run.trace(1)


def test_streams_give_every_image_what_looking_it_up_gives(tmp_path):
    with RunWriter(tmp_path / "run", PROVENANCE, shard_size=2) as writer:
        for image_id in (5, 3, 1, 4, 2):
            given_parts = parts(image_id)
            if image_id == 3:
                del given_parts["target"], given_parts["detections"], given_parts["image"]
            if image_id == 1:
                given_parts["target"] = given_parts["target"].__class__(
                    np.zeros((0, 4)), np.zeros(0, int), np.zeros((0, 120, 150), bool)
                )
            writer.add(**given_parts)
    run = open_run(tmp_path / "run")
    streams = (run.iter_targets(), run.iter_detections(masks=True), run.iter_pictures())
    seen = 0
    for image_id, target, found, picture in zip(run.image_ids, *streams, strict=True):
        seen += 1
        if image_id == 3:
            assert target is None and found is None and picture is None
            continue
        assert_same(target.decoded(), run.target(image_id))
        assert_same(found, run.detections(image_id, masks=True))
        np.testing.assert_array_equal(picture, run.picture(image_id))
    assert seen == 5
    assert all(found is None or found.masks is None for found in run.iter_detections())
    assert all(trace.scores is None for trace in run.iter_traces(scores=False))
    for trace in run.iter_traces():
        assert_same(trace, run.trace(trace.image_id))


def test_labels_and_chosen_pictures_are_those_of_the_whole_records(tmp_path):
    run = write_run(tmp_path / "run", (3, 1, 2))
    for image_id, (annotated, labels, scores) in zip(run.image_ids, run.iter_labels(), strict=True):
        found = run.detections(image_id)
        np.testing.assert_array_equal(annotated, run.target(image_id).labels)
        np.testing.assert_array_equal(labels, found.labels)
        np.testing.assert_array_equal(scores, found.scores)
    pictures = list(run.iter_pictures(among={1}))
    assert [picture is None for picture in pictures] == [True, False, True]
    np.testing.assert_array_equal(pictures[1], run.picture(1))


def test_samples_are_the_parts_of_each_image_streamed_or_looked_up(tmp_path):
    run = write_run(tmp_path / "run", range(70), shard_size=16)
    every = list(run.samples("trace", "target"))
    assert [trace.image_id for trace, _ in every] == list(run.image_ids)
    for ids in ([5, 40], [40, 5], [7], [*range(60)], []):  # looked up, in any order, streamed
        found = list(run.samples("trace", "detections", "picture", ids=ids, masks=True))
        assert [trace.image_id for trace, _, _ in found] == ids
        for trace, seen, picture in found[:3]:
            np.testing.assert_array_equal(trace.keep, run.trace(trace.image_id).keep)
            assert_same(seen, run.detections(trace.image_id, masks=True))
            np.testing.assert_array_equal(picture, run.picture(trace.image_id))
    with pytest.raises(KeyError, match="no image 99"):
        list(run.samples("target", ids=[99]))


def test_samples_leave_out_images_that_lack_a_known_part(tmp_path):
    with RunWriter(tmp_path / "run", PROVENANCE) as writer:
        for image_id in (3, 1, 2):
            made = parts(image_id)
            if image_id == 1:
                del made["target"]
            writer.add(**made)
    run = open_run(tmp_path / "run")
    assert [target is None for (target,) in run.samples("target")] == [False, True, False]
    found = run.samples("trace", "target", known=["target"], ids=[1, 2])
    assert [trace.image_id for trace, _ in found] == [2]


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    rows=st.integers(1, 7),
    columns=st.integers(1, 7),
    layers=st.integers(1, 4),
    scored=st.booleans(),
    seed=st.integers(0, 999),
)
def test_any_grid_survives_the_packing(tmp_path, rows, columns, layers, scored, seed):
    rng = np.random.default_rng(seed)
    grid = TokenGrid((rows * 16, columns * 16), (rows * 16, columns * 16), (rows + 1, columns + 2))
    keep = rng.random((layers, *grid.grid_hw)) < 0.5
    scores = rng.normal(size=keep.shape).astype(np.float16) if scored else None
    folder = tmp_path / "run"
    shutil.rmtree(folder, ignore_errors=True)
    with RunWriter(folder, {}) as writer:
        writer.add(TokenTrace(7, grid, keep, scores))
    assert_same(open_run(folder).trace(7), TokenTrace(7, grid, keep, scores))


def test_bits_are_raster_order_with_the_first_token_highest(tmp_path):
    grid = TokenGrid((32, 48), (32, 48), (2, 6))
    keep = np.zeros((1, 2, 6), bool)
    keep[0, 0, 0] = keep[0, 1, 5] = True
    with RunWriter(tmp_path / "run", {}) as writer:
        writer.add(TokenTrace(1, grid, keep))
    (file,) = (tmp_path / "run").glob("*.tokens.parquet")
    (row,) = pq.read_table(file).to_pylist()
    assert row["bits"] == bytes([0b1000_0000, 0b0001_0000])
    assert (row["kept"], row["kept_valid"], row["valid"], row["tokens"]) == (2, 1, 6, 12)


def test_counts_and_images_come_as_frames(tmp_path):
    run = write_run(tmp_path / "run")
    counts = run.keep_counts()
    assert list(counts.columns) == ["image_id", "layer", "kept", "kept_valid", "valid", "tokens"]
    assert len(counts) == 3 * 12
    trace = parts(1)["trace"]
    row = counts[(counts.image_id == 1) & (counts.layer == 5)].iloc[0]
    assert row.kept == trace.keep[5].sum()
    assert row.kept_valid == trace.keep[5][trace.grid.valid_mask()].sum()
    assert run.images.image_id.tolist() == [3, 1, 2]
    assert run.images.file_name.tolist() == ["3.jpg", "1.jpg", "2.jpg"]
    assert run.images.detections.tolist() == [2, 2, 2]
    assert run.images.complexity.tolist() == [3.0, 1.0, 2.0]


def test_parts_that_were_not_recorded_are_none(tmp_path):
    with RunWriter(tmp_path / "run", {}, picture_side=0) as writer:
        writer.add(parts(1)["trace"], image=parts(1)["image"])
    run = open_run(tmp_path / "run")
    assert run.detections(1) is None and run.target(1) is None and run.picture(1) is None
    assert run.images.detections.isna().all()


def test_no_detection_and_boxes_without_masks_are_not_nothing(tmp_path):
    empty = Detections(np.zeros((0, 4)), np.zeros(0), np.zeros(0), np.zeros((0, 120, 150), bool))
    with RunWriter(tmp_path / "run", {}) as writer:
        writer.add(parts(1)["trace"], empty)
        writer.add(parts(2)["trace"], replace(parts(2)["detections"], coded=None))
    run = open_run(tmp_path / "run")
    assert len(run.detections(1)) == 0
    assert run.detections(1, masks=True).masks.shape == (0, 120, 150)
    assert run.detections(2, masks=True).masks is None


def test_pictures_are_close_and_of_limited_side(tmp_path):
    run = write_run(tmp_path / "run", picture_side=100)
    picture = run.picture(1)
    assert picture.shape == (80, 100, 3) and picture.dtype == np.uint8
    full = write_run(tmp_path / "full", picture_side=640).picture(1)
    difference = np.abs(full.astype(int) - parts(1)["image"])
    assert difference.mean() < 4  # JPEG at quality 90


def test_a_copied_folder_is_complete(tmp_path):
    content = write_run(tmp_path / "run").content_hash()
    shutil.move(tmp_path / "run", tmp_path / "copy")
    copy = open_run(tmp_path / "copy")
    assert copy.picture(3) is not None and copy.content_hash() == content


def test_string_ids_and_numpy_ids_are_plain_afterwards(tmp_path):
    with RunWriter(tmp_path / "names", {}) as writer:
        writer.add(parts("cat.jpg", 1)["trace"])
    assert open_run(tmp_path / "names").image_ids == ("cat.jpg",)
    with RunWriter(tmp_path / "numbers", {}) as writer:
        writer.add(replace(parts(1)["trace"], image_id=np.int64(9)))
        with pytest.raises(ValueError, match="ids of one kind"):
            writer.add(parts("cat.jpg", 1)["trace"])
    assert open_run(tmp_path / "numbers").trace(9).image_id == 9


def test_parts_that_disagree_are_refused_and_leave_no_trace(tmp_path):
    one = parts(1)
    with RunWriter(tmp_path / "run", {}) as writer:
        with pytest.raises(ValueError, match=r"detection masks of \(120, 150\)"):
            wrong = replace(one["detections"], coded=np.zeros((2, 8, 8), bool))
            writer.add(one["trace"], wrong)
        with pytest.raises(ValueError, match="uint8"):
            writer.add(one["trace"], image=one["image"].astype(float))
        writer.add(one["trace"])
        with pytest.raises(ValueError, match="already recorded"):
            writer.add(one["trace"])
        with pytest.raises(ValueError, match="expected 12 layers as before, found 2"):
            writer.add(replace(parts(2)["trace"], keep=one["trace"].keep[:2], scores=None))
    assert open_run(tmp_path / "run").image_ids == (1,)


def test_an_image_that_is_not_there_is_named(tmp_path):
    with pytest.raises(KeyError, match="no image 99"):
        write_run(tmp_path / "run").trace(99)


# --- interruption


KILLED = """
    import os, signal, sys
    sys.path.insert(0, "tests")
    from support.runs import PROVENANCE, parts
    from svit.runs.run import RunWriter
    with RunWriter(sys.argv[1], PROVENANCE, shard_size=3) as writer:
        for image_id in range(1, 11):
            if image_id == 9:
                os.kill(os.getpid(), signal.SIGKILL)
            writer.add(**parts(image_id))
"""


def killed_run(folder: Path) -> None:
    command = [sys.executable, "-c", textwrap.dedent(KILLED), str(folder)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True)
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()


def test_a_slow_recording_writes_its_shard_before_it_is_full(tmp_path: Path) -> None:
    with RunWriter(tmp_path / "run", PROVENANCE, shard_size=64, shard_seconds=0.0) as writer:
        writer.add(**parts(1))
        assert open_run(tmp_path / "run").image_ids == (1,)


def test_a_killed_and_resumed_run_equals_an_unbroken_one(tmp_path, caplog):
    killed_run(tmp_path / "run")
    run = open_run(tmp_path / "run")
    assert run.image_ids == (1, 2, 3, 4, 5, 6) and not run.finished  # 7 and 8 were in memory
    with caplog.at_level(logging.WARNING), RunWriter(tmp_path / "run", PROVENANCE, 3) as writer:
        assert "died while writing" in caplog.text
        for image_id in range(1, 11):
            if image_id not in writer.done:
                writer.add(**parts(image_id))
    unbroken = write_run(tmp_path / "unbroken", range(1, 11), shard_size=3)
    resumed = open_run(tmp_path / "run")
    assert resumed.finished and resumed.image_ids == unbroken.image_ids
    assert resumed.content_hash() == unbroken.content_hash()
    names = {path.name for path in (tmp_path / "unbroken").iterdir()}
    assert {path.name for path in (tmp_path / "run").iterdir()} == names  # no part, no lock left


def test_an_exception_keeps_what_was_added(tmp_path):
    with pytest.raises(ZeroDivisionError), RunWriter(tmp_path / "run", {}) as writer:
        writer.add(**parts(1))
        1 / 0  # noqa: B018
    run = open_run(tmp_path / "run")
    assert run.image_ids == (1,) and not run.finished


def test_content_hash_sees_every_part_and_ignores_order_and_timing(tmp_path):
    reference = write_run(tmp_path / "a", (1, 2)).content_hash()
    assert write_run(tmp_path / "b", (2, 1), shard_size=1).content_hash() == reference
    changes = {
        "extra": {"complexity": 1.0, "seconds": 99.0},  # equal: only the timing differs
        "detections": None,
        "target": None,
        "file_name": "other",
        "image": parts(2)["image"],
        "trace": replace(parts(1)["trace"], keep=~parts(1)["trace"].keep),
    }
    for name, value in changes.items():
        with RunWriter(tmp_path / name, PROVENANCE) as writer:
            writer.add(**{**parts(1), name: value})
            writer.add(**parts(2))
        same = open_run(tmp_path / name).content_hash() == reference
        assert same == (name == "extra"), name


def test_failed_images_are_listed_and_tried_again(tmp_path):
    with RunWriter(tmp_path / "run", {}) as writer:
        writer.add(**parts(1))
        writer.add_error(2, "cannot decode", "bad.jpg")
        writer.add_error(np.int64(3), "truncated", "worse.jpg")
        assert writer.failed == 2
    errors = open_run(tmp_path / "run").errors
    assert errors.values.tolist() == [
        [2, "bad.jpg", "cannot decode"],
        [3, "worse.jpg", "truncated"],
    ]
    with RunWriter(tmp_path / "run", {}) as writer:
        assert writer.done == {1}
        writer.add(**parts(2))
    assert open_run(tmp_path / "run").errors.image_id.tolist() == [3]


def test_errors_alone_survive_a_kill_as_shards_do(tmp_path):
    writer = RunWriter(tmp_path / "run", {}, shard_size=2)
    for image_id in (1, 2, 3):
        writer.add_error(image_id, "bad")
    assert open_run(tmp_path / "run").errors.image_id.tolist() == [1, 2]  # before closing
    writer.close()
    assert len(open_run(tmp_path / "run").errors) == 3


# --- several writers


def test_another_provenance_is_refused_with_the_differences(tmp_path):
    write_run(tmp_path / "run")
    other = {**PROVENANCE, "seed": 1, "config": {"name": "svit-adapter-nano"}, "device": "cpu"}
    with pytest.raises(RunError) as caught:
        RunWriter(tmp_path / "run", other)
    message = str(caught.value)
    assert "run.json belongs to another run" in message
    assert "seed: 0 there, 1 now" in message
    assert "config.backbone.depth: 12 there, nothing now" in message
    assert "device: nothing there, 'cpu' now" in message
    assert "framework" not in message


def test_tuples_and_lists_are_the_same_provenance(tmp_path):
    RunWriter(tmp_path / "run", {"sizes": (1, 2)}).close()
    RunWriter(tmp_path / "run", {"sizes": [1, 2]}).close()


def test_provenance_must_be_plain_json(tmp_path):
    with pytest.raises(ValueError, match="plain JSON"):
        RunWriter(tmp_path / "run", {"weights": Path("x")})
    assert not (tmp_path / "run").exists()


def test_two_writers_are_refused_and_the_first_goes_on(tmp_path):
    with RunWriter(tmp_path / "run", PROVENANCE) as writer:
        with pytest.raises(RunError, match=f"process {os.getpid()} writes into this folder"):
            RunWriter(tmp_path / "run", PROVENANCE)
        writer.add(**parts(1))
    RunWriter(tmp_path / "run", PROVENANCE).close()  # free again


def test_the_lock_of_another_host_is_respected(tmp_path):
    RunWriter(tmp_path / "run", {}).close()
    lock = tmp_path / "run" / "writer-00000.lock"
    lock.write_text("elsewhere 77\n")
    with pytest.raises(RunError, match="process 77 on elsewhere writes here.*delete"):
        RunWriter(tmp_path / "run", {})
    lock.unlink()
    RunWriter(tmp_path / "run", {}).close()


def test_ranks_write_their_own_shards_and_merge(tmp_path):
    with RunWriter(tmp_path / "run", PROVENANCE, rank=0, world=2) as first:
        first.add(**parts(1))
        with RunWriter(tmp_path / "run", PROVENANCE, rank=1, world=2) as second:
            second.add(**parts(2))
        assert not open_run(tmp_path / "run").finished
        first.add(**parts(3))
    run = open_run(tmp_path / "run")
    assert run.finished and run.image_ids == (1, 3, 2)
    assert run.content_hash() == write_run(tmp_path / "one", (1, 2, 3)).content_hash()
    with RunWriter(tmp_path / "run", PROVENANCE, rank=1, world=2) as again:
        assert again.done == {1, 2, 3}


@pytest.mark.parametrize(("before", "after"), [(3, 2), (2, 3), (1, 2), (2, 1)])
def test_another_number_of_ranks_goes_on_with_a_run(tmp_path, before, after):
    def record(rank, world, images):
        with RunWriter(tmp_path / "run", PROVENANCE, rank=rank, world=world) as writer:
            for image_id in range(rank, images, world):
                if image_id == 5:
                    writer.add_error(5, "cannot be read", "5.jpg")
                elif image_id not in writer.done:
                    writer.add(**parts(image_id))
        return open_run(tmp_path / "run").finished

    assert [record(rank, before, 6) for rank in range(before)] == [False] * (before - 1) + [True]
    *_, but_last, last = [True, *(record(rank, after, 8) for rank in reversed(range(after)))]
    assert last and (after < 3 or not but_last)
    run = open_run(tmp_path / "run")
    assert len(run) == 7 and run.errors["image_id"].tolist() == [5]
    whole = write_run(tmp_path / "whole", [0, 1, 2, 3, 4, 6, 7])
    assert run.content_hash() == whole.content_hash()


def test_an_image_of_two_ranks_counts_once(tmp_path, caplog):
    for rank in (0, 1):
        with RunWriter(tmp_path / "run", PROVENANCE, rank=rank, world=2) as writer:
            writer._done.clear()  # as if both had begun together
            writer.add(**parts(1))
            writer.add(**parts(10 + rank))
    run = open_run(tmp_path / "run")
    assert "1 image recorded by several ranks" in caplog.text
    assert run.image_ids == (1, 10, 11)
    assert len(run.keep_counts()) == 3 * 12 and len(run.images) == 3
    assert [trace.image_id for trace in run.iter_traces()] == [1, 10, 11]
    assert len(list(run.iter_targets())) == len(list(run.iter_pictures())) == 3


# --- bad folders


def broken(tmp_path: Path, edit) -> str:
    """What `open_run` says after `edit(folder)` spoilt a run of three shards."""
    write_run(tmp_path / "run", shard_size=1)
    edit(tmp_path / "run")
    with pytest.raises(RunError) as caught:
        open_run(tmp_path / "run")
    return str(caught.value)


def set_head(folder: Path, **values) -> None:
    """Changes entries of run.json as someone would who means it: without its seal."""
    head = read_json(folder / "run.json", "")
    (folder / "run.json").write_text(json.dumps({**head, **values}))


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-50])


TOKENS, IMAGES = "shard-00000-000001.tokens.parquet", "shard-00000-000001.images.parquet"


@pytest.mark.parametrize(
    ("edit", "named", "fix"),
    [
        (lambda f: (f / "run.json").unlink(), "has no run.json", "svit record"),
        (lambda f: set_head(f, version=99), "format version 99, this program reads 1", "update"),
        (lambda f: set_head(f, format="zip"), "expected format 'svit-run', found 'zip'", ""),
        (lambda f: truncate(f / "run.json"), "run.json is half-written", "copy it again"),
        (lambda f: (f / "run.json").write_text("[]"), "expected a JSON object", ""),
        (lambda f: truncate(f / "manifest-00000.json"), "manifest-00000.json is half", "copy it"),
        (lambda f: (f / "manifest-00000.json").write_text("{}"), "expected the entries", "copy"),
        (lambda f: (f / TOKENS).unlink(), f"{TOKENS}: the file is missing", "skip_corrupt=True"),
        (lambda f: truncate(f / IMAGES), f"{IMAGES}: expected", "Copy the file again"),
    ],
)
def test_a_bad_folder_says_what_and_how_to_mend(tmp_path, edit, named, fix):
    message = broken(tmp_path, edit)
    assert named in message and fix in message and str(tmp_path) in message


def test_a_folder_that_is_not_there_is_not_a_run(tmp_path):
    with pytest.raises(RunError, match="not a recorded run"):
        open_run(tmp_path / "nowhere")


def flip(path: Path) -> None:
    """Other bytes, same size: only a checksum sees it."""
    data = bytearray(path.read_bytes())
    data[40:60] = bytes(255 - byte for byte in data[40:60])
    path.write_bytes(data)


@pytest.mark.parametrize("spoil", [Path.unlink, truncate, flip])
@pytest.mark.parametrize("file", [TOKENS, IMAGES])
def test_the_rest_of_a_corrupt_run_is_usable_on_request(tmp_path, spoil, file, caplog):
    write_run(tmp_path / "run", shard_size=1)
    spoil(tmp_path / "run" / file)
    run = open_run(tmp_path / "run", skip_corrupt=True)
    assert run.image_ids == (3, 2) and len(run.images) == 2
    assert "1 image left out" in caplog.text and file in caplog.text and file in run.skipped[0]
    assert len(run.keep_counts()) == 2 * 12 and run.content_hash()


def test_wrong_bytes_are_an_error_when_they_are_read(tmp_path):
    write_run(tmp_path / "run", shard_size=1)
    flip(tmp_path / "run" / TOKENS)
    run = open_run(tmp_path / "run")
    with pytest.raises(RunError, match=TOKENS):
        run.trace(1)
    assert run.trace(3).image_id == 3


def test_shards_without_their_head_are_not_overwritten(tmp_path):
    write_run(tmp_path / "run")
    (tmp_path / "run" / "run.json").unlink()
    with pytest.raises(RunError, match="without its run.json"):
        RunWriter(tmp_path / "run", PROVENANCE)


def test_an_empty_run_reads_as_empty(tmp_path):
    RunWriter(tmp_path / "run", PROVENANCE).close()
    run = open_run(tmp_path / "run")
    assert len(run) == 0 and run.finished and run.layers == 0
    assert len(run.images) == 0 and len(run.keep_counts()) == 0 and not list(run.iter_traces())


# --- full and forbidden disks


def test_a_full_disk_is_explained_and_loses_nothing(tmp_path):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    with RunWriter(tmp_path / "run", PROVENANCE, shard_size=2) as writer:
        writer.add(**parts(1))
        writer.add(**parts(2))
        writer.add(**parts(3))
        resource.setrlimit(resource.RLIMIT_FSIZE, (2000, limits[1]))
        try:
            with pytest.raises(RunError, match="cannot write into .*run: .*make room"):
                writer.add(**parts(4))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        assert open_run(tmp_path / "run").image_ids == (1, 2)
        assert not list((tmp_path / "run").glob(".*part"))  # no half shard takes the room
    assert open_run(tmp_path / "run").image_ids == (1, 2, 3, 4)


def test_a_full_disk_ends_the_recording_with_its_shards_intact(tmp_path, monkeypatch):
    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    message = "No space left on device"
    with pytest.raises(RunError, match=message), RunWriter(tmp_path / "run", {}, 1) as writer:
        writer.add(**parts(1))
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", full)
            writer.add(**parts(2))
    assert open_run(tmp_path / "run").image_ids == (1,)
    with RunWriter(tmp_path / "run", {}, 1) as writer:  # the lock is free
        writer.add(**parts(2))
    assert open_run(tmp_path / "run").image_ids == (1, 2)


def test_an_output_that_cannot_be_a_folder_is_explained(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(
        RunError,
        match="cannot write into .*file/run: .*file is a file, not a folder; choose another folder",
    ):
        RunWriter(tmp_path / "file" / "run", {})


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_folder_is_explained(tmp_path):
    (tmp_path / "run").mkdir(mode=0o500)
    with pytest.raises(RunError, match="Permission denied"):
        RunWriter(tmp_path / "run", {})


# --- finding


def test_runs_are_found_by_their_head_alone(tmp_path):
    write_run(tmp_path / "b")
    write_run(tmp_path / "a")
    (tmp_path / "pictures").mkdir()
    assert [path.name for path in find_runs(tmp_path)] == ["a", "b"]
    assert find_runs(tmp_path / "a") == [tmp_path / "a"]
    assert find_runs(tmp_path / "nowhere") == []


def test_the_description_names_what_made_the_run(tmp_path):
    long = {**PROVENANCE, "weights": "0123456789abcdef" * 4}
    line = write_run(tmp_path / "run", (1,), long).describe()
    assert line.startswith("svit-adapter-nano · framework torchvision · method svit")
    assert "weights 0123456789 ·" in line and "1 image" in line


def test_reading_a_run_leaves_torch_unloaded(tmp_path):
    write_run(tmp_path / "run")
    code = "import sys; from svit.runs.run import open_run; open_run(sys.argv[1]).trace(1); "
    code += "sys.exit('torch' in sys.modules)"
    command = [sys.executable, "-c", code, str(tmp_path / "run")]
    assert subprocess.run(command, cwd=ROOT).returncode == 0


def test_a_run_is_small(tmp_path):
    """At most 4.3 KB an image of 50 x 84 tokens x 12 layers for random masks."""
    grid = grid_for((800, 1333))
    assert grid.grid_hw == (50, 84)
    with RunWriter(tmp_path / "run", {}) as writer:
        for image_id in range(8):
            writer.add(replace(trace_of(image_id, grid, np.zeros(grid.grid_hw)), scores=None))
    size = sum(path.stat().st_size for path in (tmp_path / "run").glob("*.tokens.parquet"))
    assert size / 8 < 12 * 50 * 84 / 8 + 1000


def test_frames_of_a_run_have_no_object_columns_for_numbers(tmp_path):
    frame = write_run(tmp_path / "run").images
    for name in ("image_h", "grid_w", "detections", "complexity"):
        assert pd.api.types.is_numeric_dtype(frame[name]), name


def test_a_run_on_another_filesystem_is_read_where_it_lies(tmp_path: Path) -> None:
    fsspec = pytest.importorskip("fsspec")
    pytest.importorskip("upath")
    here = write_run(tmp_path / "run", (3, 1, 2))
    fsspec.filesystem("memory").put(f"{here.path}/", "/elsewhere/run/", recursive=True)
    assert [str(path) for path in find_runs("memory://elsewhere")] == ["memory://elsewhere/run"]
    there = open_run("memory://elsewhere/run")
    assert there.content_hash() == here.content_hash()
    assert (
        there.images.equals(here.images) and there.trace(1).usage.sum() == here.trace(1).usage.sum()
    )


def test_crowds_are_no_objects_of_an_image(tmp_path: Path) -> None:
    """As in every other count: `svit dataset statistics`, an evaluation's table of images."""
    with RunWriter(tmp_path / "run", PROVENANCE) as writer:
        for image_id, crowd in ((1, [True, False]), (2, [False, False])):
            made = parts(image_id)
            writer.add(**{**made, "target": replace(made["target"], crowd=np.array(crowd))})
        writer.add(**{**parts(3), "target": None})
    assert open_run(tmp_path / "run").images["objects"].tolist() == [1, 2, pd.NA]


def test_a_whole_run_tells_of_images_that_could_not_be_read(tmp_path: Path, capsys) -> None:
    with RunWriter(tmp_path / "run", PROVENANCE) as writer:
        writer.add(**parts(1))
        writer.add_error(2, "cut off", "2.png")
    assert main(["check", str(tmp_path / "run")]) == 0
    assert "ok, 1 image of 12 blocks, 1 image more could not be read, finished" in (
        capsys.readouterr().out
    )
