"""The measurement on moving shapes: every line once, paired over videos, and gone on with."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import moving
from svit.data.shapes import write_dataset


def test_the_results_hold_every_line_and_a_second_call_measures_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_dataset(tmp_path / "set", 0, 2, 0, 64, workers=1, progress=False, frames=2)
    call = [str(tmp_path / "set"), "--work", str(tmp_path / "work"), "--ratios", "0.25"]
    moving.main([*call, "--out", str(tmp_path / "found.md")])
    text = (tmp_path / "found.md").read_text()
    assert "2 videos of 2 frames" in text and "--val 2 --frames 2" in text
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    assert len(rows) == (2 + 5) + (2 + 4 + 3 + 2 + 1)  # each minus those below and the dense model
    cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]
    assert [row[2] for row in cells[2:7]] == ["1.000", *["0.625"] * 4]  # (1 + 0.25) / 2
    macs = [float(row[3]) for row in cells[2:7]]
    assert macs[0] > macs[1] and len({*macs[1:]}) == 1
    monkeypatch.setattr(moving, "evaluate", None)  # measuring now would fail
    moving.main([*call, "--out", str(tmp_path / "again.md")])
    assert (tmp_path / "again.md").read_text() == text
