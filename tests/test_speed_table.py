"""The tables of several benchmarks hold their numbers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import speed_table

ROOT = Path(__file__).resolve().parents[1]


def test_a_folder_without_benchmarks_says_how_to_make_one(tmp_path):
    with pytest.raises(FileNotFoundError, match="svit benchmark"):
        speed_table.read(tmp_path)


def test_the_committed_report_is_what_the_committed_benchmarks_say(tmp_path):
    speed_table.main(["--out", str(tmp_path / "speed.md")])
    committed = (ROOT / "results" / "speed.md").read_text(encoding="utf-8")
    assert (tmp_path / "speed.md").read_text(encoding="utf-8") == committed


def test_rows_hold_the_medians_and_the_recorded_variants_stand_apart(tmp_path):
    found = speed_table.read(ROOT / "results" / "benchmark")
    table = speed_table.speedups(found)
    assert not table["variant"].str.endswith(speed_table.RECORDED).any()
    file = ROOT / "results" / "benchmark" / "t-backbone" / "benchmark.json"
    row = json.loads(file.read_text(encoding="utf-8"))["summary"][0]
    mine = table[(table["benchmark"] == "t-backbone") & (table["variant"] == row["variant"])]
    assert mine["wall s"].iloc[0] == f"{row['wall_s_median']:.3f}"
    assert set(speed_table.recording(found)["clock"]) == {"wall", "cpu"}
