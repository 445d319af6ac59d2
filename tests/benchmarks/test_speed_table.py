"""The tables of several benchmarks hold their numbers."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from benchmarks import speed_table

ROOT = Path(__file__).resolve().parents[2]


def test_a_folder_without_benchmarks_says_how_to_make_one(tmp_path):
    with pytest.raises(FileNotFoundError, match="svit benchmark"):
        speed_table.read(tmp_path)


def test_the_committed_report_is_what_the_committed_benchmarks_say(tmp_path):
    speed_table.main(["--out", str(tmp_path / "speed.md")])
    committed = (ROOT / "results" / "speed.md").read_text(encoding="utf-8")
    assert (tmp_path / "speed.md").read_text(encoding="utf-8") == committed


def test_the_limit_by_stages_is_below_that_by_macs_where_the_rest_costs_more_a_mac():
    """Blocks halve; the adapter has a third of the MACs and half of the time."""
    least = {"all": {"blocks": 2.0, "adapter": 1.0}, "pruned": {"blocks": 1.0, "adapter": 1.0}}
    seconds = {"blocks": 4.0, "adapter": 4.0, "gathering": 0.01}
    rows = [
        {"variant": name, "stage": stage, "seconds": whole, "least_s": part}
        for name, parts in least.items()
        for stage, part, whole in (
            *((stage, parts[stage], seconds[stage]) for stage in ("blocks", "adapter")),
            ("gathering", 0.0, seconds["gathering"]),
        )
    ]
    found = speed_table.stage_limit(pd.DataFrame(rows), "all", "pruned")
    assert found == pytest.approx(8.01 / 6.01) and found < 3 / 2


def test_a_stage_the_reference_has_not_costs_as_measured():
    rows = [
        {"variant": "dense", "stage": "blocks", "seconds": 4.0, "least_s": 2.0},
        {"variant": "pruned", "stage": "blocks", "seconds": 3.0, "least_s": 1.0},
        {"variant": "pruned", "stage": "gates", "seconds": 0.5, "least_s": 0.1},
    ]
    assert speed_table.stage_limit(pd.DataFrame(rows), "dense", "pruned") == pytest.approx(4 / 2.5)


def test_rows_hold_the_medians_and_the_recorded_variants_stand_apart(tmp_path):
    found = speed_table.read(ROOT / "results" / "benchmark")
    table = speed_table.speedups(found)
    assert not table["variant"].str.endswith(speed_table.RECORDED).any()
    file = ROOT / "results" / "benchmark" / "t-backbone" / "benchmark.json"
    row = json.loads(file.read_text(encoding="utf-8"))["summary"][0]
    mine = table[(table["benchmark"] == "t-backbone") & (table["variant"] == row["variant"])]
    assert mine["wall s"].iloc[0] == f"{row['wall_s_median']:.3f}"
    assert set(speed_table.recording(found)["clock"]) == {"wall", "cpu"}
