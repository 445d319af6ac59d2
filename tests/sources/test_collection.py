"""What the figure command finds in folders: each thing once, named, in pairs."""

from __future__ import annotations

import pytest
from support.runs import write_run
from support.summaries import write_benchmark, write_result

from analysis import render
from analysis.figures.output import DrawOptions
from analysis.figures.tokens import keep
from analysis.sources import labels
from analysis.sources.collection import PAIR, CollectionError, collect, stamp
from analysis.sources.evaluations import EvaluationError
from analysis.sources.labels import folder_names


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return write_run(tmp_path_factory.mktemp("runs") / "discs")


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    folder = tmp_path_factory.mktemp("results")
    for name in ("a", "b"):
        write_result(folder / name)
    write_benchmark(folder / "speed", {"svit-adapter-s paper fused": [1.0]}, ["svit-adapter-s"])
    (folder / "training").mkdir()
    (folder / "training" / "metrics.json").write_text('{"step": 20, "total_loss": 1.0}\n')
    return folder


def test_pairs_are_the_first_run_with_each_other_one(run, tmp_path):
    others = [write_run(tmp_path / name) for name in ("b", "c")]
    pairs = PAIR.subjects(collect([run.path, tmp_path]))
    assert [(pair.given[1].path.name, pair.name) for pair in pairs] == [
        ("b", "discs-and-b"),
        ("c", "discs-and-c"),
    ]
    out = ["--out", str(tmp_path / "out")]
    assert render.main(["deltas", str(run.path), *(str(other.path) for other in others), *out]) == 0
    for name in ("discs-and-b", "discs-and-c"):
        assert (tmp_path / "out" / name / "deltas.png").is_file()


def test_folders_that_overlap_count_once(run, results):
    found = collect([results, results / "a", results / "speed", run.path, run.path.parent])
    assert len(found.results) == 2 and len(found.speeds) == len(found.trainings) == 1
    assert [one.path.name for one in found.runs] == [run.path.name]


def test_runs_of_equal_names_have_folders_of_their_own(run, tmp_path):
    other = write_run(tmp_path / "discs", [8])
    assert folder_names([run, other]) == ["discs-1", "discs-2"]
    third = write_run(tmp_path / "discs-1", [8])  # called as the first would be
    assert folder_names([run, other, third]) == ["discs-1-1", "discs-2", "discs-1"]


def test_a_broken_summary_is_named(tmp_path):
    (tmp_path / "summary.json").write_text('{"box": {}}')
    with pytest.raises(EvaluationError, match="leave the folder out") as caught:
        collect([tmp_path])
    assert str(tmp_path / "summary.json") in str(caught.value)


def test_a_folder_with_nothing_in_it_is_named(results, tmp_path):
    with pytest.raises(CollectionError, match="holds neither runs") as caught:
        collect([results, tmp_path])
    assert str(tmp_path) in str(caught.value)


@pytest.mark.parametrize("name", ["accuracy.json", "plan.json", "images.csv", "matches.npz"])
def test_what_appears_beside_known_results_is_noticed(tmp_path, name):
    line = write_result(tmp_path / "row" / "learned")
    before = stamp([tmp_path], [])
    folder = line.parent if name in ("plan.json", "accuracy.json") else line
    (folder / name).write_text("{}")
    assert stamp([tmp_path], []) != before


def test_runs_in_folders_of_one_name_are_told_apart_wherever_they_stand_together(tmp_path):
    runs = [write_run(tmp_path / day / "discs", (1, 2)) for day in ("monday", "friday")]
    told = ["monday/discs", "friday/discs"]
    assert labels.places(runs) == told
    (product,) = keep.draw(runs, DrawOptions())
    assert [name.split(":")[0] for name in product.table["run"].unique()] == told
    titles = [ax.get_title() for ax in product.figure.axes]
    assert [title.split(":")[0] for title in titles] == told
    assert labels.versus(*runs) == "monday/discs − friday/discs"
    assert labels.row_names(runs) == ["svit\nmonday/discs", "svit\nfriday/discs"]
    assert labels.places([runs[0], runs[0]]) == ["discs", "discs"]
