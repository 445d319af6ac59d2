"""Groups of merged tokens on disk: stored where they change, checked when read, absent where none merge."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.runs import PROVENANCE, merged_trace

from svit.core.types import TokenTrace
from svit.runs import check
from svit.runs.run import RunError, RunWriter, open_run


def assert_same(found: TokenTrace, expected: TokenTrace) -> None:
    assert found.group.dtype == np.int32
    np.testing.assert_array_equal(found.group, expected.group)
    np.testing.assert_array_equal(found.keep, expected.keep)


def test_groups_are_read_as_written_and_stored_where_they_change(tmp_path):
    trace = merged_trace(1)
    with RunWriter(tmp_path / "run", PROVENANCE) as writer:
        writer.add(trace)
    run = open_run(tmp_path / "run")
    assert_same(run.trace(1), trace)
    assert_same(next(run.iter_traces(scores=False)), trace)
    stored = pq.read_table(next((tmp_path / "run").glob("*.tokens.parquet")))["group"].to_pylist()
    assert [one is None for one in stored] == [True, False, True, False]
    np.testing.assert_array_equal(trace.carried, ~trace.keep)
    check.check_shard(run.path, run._shards[0], run.layers)


def test_a_run_without_merges_has_no_column_for_them_and_its_content_is_as_before(tmp_path):
    alone = replace(merged_trace(2), group=None)
    own = np.broadcast_to(
        np.arange(alone.grid.tokens).reshape(alone.grid.grid_hw), alone.keep.shape
    )
    plain = replace(alone, keep=np.ones_like(alone.keep), group=own)
    assert plain.group is None and not plain.carried.any()  # every token carries itself
    with RunWriter(tmp_path / "plain", PROVENANCE) as writer:
        writer.add(plain)
    assert (
        "group"
        not in pq.read_table(next((tmp_path / "plain").glob("*.tokens.parquet"))).column_names
    )


def test_how_shards_are_cut_changes_no_content_of_a_run_that_merges_in_some_images(tmp_path):
    plain = replace(merged_trace(2), group=None)
    for name, size in (("one", 2), ("two", 1)):
        with RunWriter(tmp_path / name, PROVENANCE, shard_size=size) as writer:
            writer.add(merged_trace(1))
            writer.add(plain)
    one, two = (open_run(tmp_path / name) for name in ("one", "two"))
    assert one.shards == 1 and two.shards == 2 and one.content_hash() == two.content_hash()
    assert two.trace(2).group is None and one.trace(2).group is None


@pytest.mark.parametrize(
    ("offset", "reason"),
    [(10_000, "outside of"), (1, "another token carries"), (None, "of 3 bytes, its grid needs")],
)
def test_groups_that_cannot_be_are_refused_when_they_are_read(tmp_path, offset, reason):
    with RunWriter(tmp_path / "run", PROVENANCE) as writer:
        writer.add(merged_trace(1))
    path = next((tmp_path / "run").glob("*.tokens.parquet"))
    table = pq.read_table(path)
    rows = table.to_pylist()
    offsets = np.frombuffer(rows[1]["group"], "<i4").copy()
    offsets[1] = 0 if offset is None else offset
    rows[1]["group"] = b"abc" if offset is None else offsets.tobytes()
    pq.write_table(pa.Table.from_pylist(rows, schema=table.schema), path)
    manifest = tmp_path / "run" / "manifest-00000.json"
    entry = json.loads(manifest.read_text())
    entry["shards"][0]["bytes"]["tokens"] = path.stat().st_size
    del entry["sha256"]
    manifest.write_text(json.dumps(entry))
    with pytest.raises(RunError, match=reason):
        open_run(tmp_path / "run").trace(1)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda group: group.__setitem__((1, 0, 1), 99), "a carrier outside of"),
        (lambda group: group.__setitem__((1, 0, 0), 5), "a carrier that another token carries"),
        (lambda group: group.__setitem__((0, 0, 1), 0), "a used token that another one carries"),
    ],
)
def test_a_trace_takes_no_groups_that_cannot_be(change, reason) -> None:
    trace = merged_trace()
    group = trace.group.copy()
    change(group)
    with pytest.raises(ValueError, match=reason):
        replace(trace, group=group)


def test_a_token_is_carried_only_where_its_carrier_is_used() -> None:
    trace = merged_trace()
    keep = trace.keep.copy()
    keep[2, 0, 0] = False  # pruned, with all that it carries
    found = replace(trace, keep=keep).carried
    assert found[1, 0, 1:].all() and not found[1, 0, 0] and not found[2].any()
