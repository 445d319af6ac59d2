"""docs/run-format.md says what is written: its tables are the schema, its code reads the shipped run."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from svit.runs.rescue import COLUMNS as RESCUE
from svit.runs.run import open_run
from svit.runs.shards import COLUMNS, GEOMETRY, MEASURES, OPTIONAL

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "run-format.md").read_text(encoding="utf-8")
RUN = ROOT / "demo" / "runs" / "svit-plain-nano"
FILES = str(RUN / "*.tokens.parquet")
TOKEN = 17


def code(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


def there() -> list[bool]:
    """Token 17 of every block of every image, in the order of ids."""
    run = open_run(RUN)
    traces = sorted(run.iter_traces(scores=False), key=lambda trace: trace.image_id)
    return [bool(layer.ravel()[TOKEN]) for trace in traces for layer in trace.keep]


@pytest.mark.parametrize(("kind", "title"), [("tokens", "token"), ("images", "image")])
def test_the_tables_of_the_page_are_the_columns_that_are_written(kind: str, title: str) -> None:
    section = PAGE.partition(f"## The {title} table")[2].partition("\n## ")[0]
    named = re.findall(r"^\| `(\w+)`", section, re.MULTILINE)
    columns = [name for name in COLUMNS[kind] if name not in GEOMETRY]
    assert named == ["image_id", *columns, *OPTIONAL[kind]]
    assert all(f"`{name}`" in PAGE for name in GEOMETRY)


def test_the_rescue_table_of_the_page_has_the_columns_that_are_written() -> None:
    section = PAGE.partition("## The rescue table")[2].partition("\n## ")[0]
    named = re.findall(r"^\| `(\w+)` \| (.*?) \|", section, re.MULTILINE)
    kinds = {"list of float32": "list<item: float>", "float32": "float"}
    kinds |= {"list of int32": "list<item: int32>", "int32": "int32"}
    assert named.pop(0) == ("image_id", "int64 or string")
    told = {name: kinds[kind] for name, kind in named}
    assert told == {name: str(kind).replace("element", "item") for name, kind in RESCUE.items()}


def test_the_page_tells_the_kind_of_number_of_every_measure() -> None:
    words = {"<f2": "float16", "<f4": "float32"}
    assert all(f"| `{name}` | binary, {words[kind]} |" in PAGE for name, kind in MEASURES.items())


def test_the_reader_of_the_page_reads_the_masks_that_open_run_reads() -> None:
    space: dict = {}
    exec(code("python")[0], space)
    found = dict(space["masks_of"](RUN))
    run = open_run(RUN)
    assert tuple(found) == run.image_ids
    for trace in run.iter_traces(scores=False):
        np.testing.assert_array_equal(found[trace.image_id], trace.keep)


def test_duckdb_reads_a_token_by_the_expression_of_the_page() -> None:
    duckdb = pytest.importorskip("duckdb")
    rows = duckdb.execute(code("sql")[0], {"token": TOKEN, "files": FILES}).fetchall()
    assert [bool(row[3]) for row in rows] == there()
    assert [row[2] for row in rows] == open_run(RUN).keep_counts().sort_values(
        ["image_id", "layer"]
    ).kept.tolist()


def test_polars_reads_a_token_by_the_expression_of_the_page() -> None:
    polars = pytest.importorskip("polars")
    space: dict = {}
    exec(code("python")[1], space)
    frame = polars.read_parquet(FILES).sort("image_id", "layer")
    assert frame.select(space["used"](TOKEN)).to_series().to_list() == there()
