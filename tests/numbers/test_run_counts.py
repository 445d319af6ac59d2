"""The fast count of a run against the plain metrics, image by image."""

from __future__ import annotations

import pickle
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.runs import PROVENANCE, reactivation_of, write_run

from analysis.numbers import usage
from analysis.numbers.run_counts import Census, census, count_shard, merged
from svit.core.types import TokenGrid, TokenTrace
from svit.runs.run import RunError, RunWriter, open_run

ROOT = Path(__file__).resolve().parents[2]


def trace(image_id: int, valid: tuple[int, int], padding: tuple[int, int], layers: int = 4):
    """Random masks; what is kept in the padding must not count."""
    grid_hw = (valid[0] + padding[0], valid[1] + padding[1])
    pixels = (valid[0] * 16, valid[1] * 16)
    rng = np.random.default_rng(image_id)
    keep = rng.random((layers, *grid_hw)) < rng.random((layers, 1, 1))
    return TokenTrace(image_id, TokenGrid(pixels, pixels, grid_hw), keep)


def recorded(folder, traces, **options):
    with RunWriter(folder, PROVENANCE, **options) as writer:
        for item in traces:
            writer.add(item)
    return open_run(folder)


def test_the_hand_case_is_counted_by_hand(tmp_path):
    keep = np.ones((3, 2, 4), bool)  # two columns of padding, always kept
    keep[0, :, :2] = [[1, 0], [0, 0]]
    keep[1, :, :2] = [[1, 1], [0, 0]]
    keep[2, :, :2] = [[0, 1], [1, 0]]
    run = recorded(tmp_path, [TokenTrace(1, TokenGrid((32, 32), (32, 32), (2, 4)), keep)])
    counted = census(run)
    rows = counted.reactivation().to_dict("list")
    assert rows["tokens"] == [4, 4, 4] and rows["pruned"] == [3, 2, 2]
    assert rows["later"] == [2, 1, 0] and rows["next"] == [1, 1, 0] and rows["never"] == [1, 1, 2]
    np.testing.assert_array_equal(counted.usage[2, 2].total, [[2, 2], [1, 0]])
    assert usage.immediate_share(counted.reactivation()) == pytest.approx(2 / 3)


sizes = st.lists(
    st.tuples(*[st.integers(1, 5)] * 2, *[st.integers(0, 2)] * 2), min_size=1, max_size=7
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(sizes, st.integers(1, 4))
def test_any_run_counts_as_its_traces_do(tmp_path_factory, shapes, shard_size):
    traces = [trace(n, (a, b), (c, d)) for n, (a, b, c, d) in enumerate(shapes)]
    run = recorded(tmp_path_factory.mktemp("run"), traces, shard_size=shard_size)
    counted = census(run)
    frame = counted.reactivation()
    pd.testing.assert_frame_equal(frame, reactivation_of(traces))
    maps = [usage.resample(usage.usage(one), (5, 8)) for one in traces]
    np.testing.assert_allclose(counted.mean_usage((5, 8)), np.mean(maps, axis=0))
    assert (frame.next <= frame.later).all() and (frame.later <= frame.pruned).all()
    assert frame.later.iloc[-1] == 0
    shares = (frame.later_of_pruned + frame.never_of_pruned).dropna()
    np.testing.assert_allclose(shares, 1)
    kept = run.keep_counts().groupby("layer")["kept_valid"].sum()
    np.testing.assert_array_equal(frame.tokens - frame.pruned, kept)


def assert_equal(counted: Census, expected: Census) -> None:
    """All that can be asked of two counts, to the bit; shards may be cut otherwise."""
    assert counted.image_ids == expected.image_ids
    pd.testing.assert_frame_equal(counted.by_image(), expected.by_image())
    pd.testing.assert_frame_equal(counted.reactivation(), expected.reactivation())
    np.testing.assert_array_equal(counted.mean_usage((5, 8)), expected.mean_usage((5, 8)))
    assert counted.orientations() == expected.orientations()


@settings(max_examples=15, suppress_health_check=[HealthCheck.too_slow])
@given(sizes, st.integers(1, 4), st.data())
def test_any_cut_into_shards_merged_in_any_order_is_the_same(
    tmp_path_factory, shapes, shard_size, data
):
    traces = [trace(n, (a, b), (c, d)) for n, (a, b, c, d) in enumerate(shapes)]
    whole = census(recorded(tmp_path_factory.mktemp("whole"), traces, shard_size=len(traces)))
    run = recorded(tmp_path_factory.mktemp("cut"), traces, shard_size=shard_size)
    parts = [count_shard(run, number) for number in data.draw(st.permutations(range(run.shards)))]
    while len(parts) > 1:
        some = data.draw(st.integers(2, len(parts)))
        parts = [*parts[some:], merged([merged([]), *parts[:some]])]
    assert_equal(parts[0], whole)


def of_two_ranks(folder: Path):
    """Both recorded image 7, the second otherwise."""
    for rank in (0, 1):
        with RunWriter(folder, PROVENANCE, rank=rank, world=2, shard_size=1) as writer:
            writer._done.clear()  # as if both had begun before either had written
            for number in (rank, 7):
                made = trace(number, (2, 3), (0, 1))
                writer.add(TokenTrace(number, made.grid, made.keep ^ bool(rank)))
    return open_run(folder)


def test_an_image_recorded_by_two_ranks_counts_once(tmp_path):
    run = of_two_ranks(tmp_path)
    counted = census(run)
    assert counted.images == len(run) == 3
    expected = reactivation_of(run.iter_traces())
    pd.testing.assert_frame_equal(counted.reactivation(), expected)
    last_first = merged(count_shard(run, number) for number in reversed(range(run.shards)))
    assert_equal(last_first, counted)


def test_a_shard_counted_twice_is_refused(tmp_path):
    run = of_two_ranks(tmp_path)
    with pytest.raises(ValueError, match=r"found \[1\] in several"):
        merged(count_shard(run, number) for number in (0, 1, 1))


def test_dask_counts_a_run_by_the_code_of_the_page(tmp_path):
    pytest.importorskip("dask")
    page = (ROOT / "docs" / "scale.md").read_text(encoding="utf-8")
    (code,) = (
        text for text in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if "dask" in text
    )
    space: dict = {}
    exec(code, space)
    run = of_two_ranks(tmp_path)
    assert_equal(space["counted_by_dask"](tmp_path), census(run))
    assert_equal(census(pickle.loads(pickle.dumps(run))), census(run))  # as other processes get it


def test_orientations_are_shares_of_images(tmp_path):
    shapes = [(2, 3), (2, 3), (4, 3), (3, 3)]
    run = recorded(tmp_path, [trace(n, shape, (0, 1)) for n, shape in enumerate(shapes)])
    assert census(run).orientations() == {"wide": 0.5, "tall": 0.25, "square": 0.25}


def test_an_empty_run_gives_empty_numbers(tmp_path):
    counted = census(recorded(tmp_path, []))
    assert counted.images == 0 and len(counted.reactivation()) == 0
    assert np.isnan(counted.mean_usage((2, 3))).all() and counted.orientations() == {}


def test_a_damaged_shard_is_named_and_can_be_left_out(tmp_path):
    write_run(tmp_path, shard_size=1)
    shard = tmp_path / "shard-00000-000001.tokens.parquet"
    content = bytearray(shard.read_bytes())
    content[60] ^= 0xFF
    shard.write_bytes(content)
    with pytest.raises(RunError, match="shard-00000-000001"):
        census(open_run(tmp_path))
    assert census(open_run(tmp_path, skip_corrupt=True)).images == 2
