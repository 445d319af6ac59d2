"""Frames kept beside a run: made once, and anew where the run or the code is another."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from support.runs import write_run

from analysis.numbers import budget, per_image
from analysis.sources import aggregates
from svit.runs.run import Run, open_run


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setattr(aggregates, "LEAST", 3)
    return write_run(tmp_path / "run", (1, 2, 3))


def counted(run: Run, made: list[str]) -> pd.DataFrame:
    def make() -> list[pd.DataFrame]:
        made.append("again")
        samples = run.samples("trace", "target", known=["target"])
        return per_image.use_of_objects(samples, run.class_names)

    return aggregates.kept(run, ["regions", "objects"], make)


def test_frames_are_made_once_and_read_back_as_they_were(run):
    made: list[str] = []
    first, second = counted(run, made), counted(open_run(run.path), made)
    assert made == ["again"]
    for one, other in zip(first, second, strict=True):
        pd.testing.assert_frame_equal(one, other)


def test_another_run_or_other_code_is_counted_anew_and_takes_the_place(run, monkeypatch):
    made: list[str] = []
    counted(run, made)
    counted(write_run(run.path.parent / "other" / "run", (3, 2, 1)), made)  # of the same name
    monkeypatch.setattr(aggregates, "_code", lambda: "newer")
    counted(run, made)
    assert len(made) == 3
    files = list((run.path.parent / ".counted" / "run").iterdir())
    assert sorted(path.name.split(".")[0] for path in files) == ["objects", "regions"]


def test_a_damaged_file_is_counted_anew(run):
    made: list[str] = []
    counted(run, made)
    for path in (run.path.parent / ".counted" / "run").iterdir():
        path.write_bytes(b"PAR1 and no more")
    counted(run, made)
    assert len(made) == 2


def test_small_runs_leave_no_files(run, monkeypatch):
    monkeypatch.setattr(aggregates, "LEAST", 4)
    counted(run, [])
    assert [path.name for path in run.path.parent.iterdir()] == ["run"]


def test_where_nothing_can_be_written_it_is_counted(run):
    (run.path.parent / ".counted").write_text("a file")
    made: list[str] = []
    counted(run, made), counted(run, made)
    assert len(made) == 2


def test_edges_of_some_pictures_are_those_of_all(run):
    whole = budget.complexity_frame(run)
    some = budget.edge_frame(run, 2)
    assert some["image_id"].tolist() == [1, 2]
    assert whole["edges"].notna().all()
    part = budget.with_edges(budget.complexity_frame(run, pictures=False), some)
    assert (
        part["edges"].tolist()[:2] == whole["edges"].tolist()[:2]
        and part["edges"].isna().sum() == 1
    )
    pd.testing.assert_frame_equal(part.drop(columns="edges"), whole.drop(columns="edges"))
