"""Throughput over batch size: what is a line, and what a benchmark of one batch says."""

from __future__ import annotations

import json

import pytest
from support.summaries import write_benchmark

from analysis import render
from analysis.figures.output import RenderError
from analysis.figures.rates import throughput
from analysis.sources.collection import collect

DENSE, PAPER = "svit-adapter-s dense fused", "svit-adapter-s paper fused"


@pytest.fixture
def folder(tmp_path):
    """One benchmark of two variants at three sizes of batches, as `--batch 1,2,4` writes it."""
    parts = []
    for batch in (1, 2, 4):
        times = {DENSE: [1.0 * batch, 1.2 * batch], PAPER: [0.5 * batch**0.5, 0.6 * batch**0.5]}
        path = write_benchmark(
            tmp_path / str(batch), times, ["svit-adapter-s"], keep=("dense", "paper"), batch=batch
        )
        parts.append(json.loads((path / "benchmark.json").read_text()))
        (path / "benchmark.json").unlink()
    whole = parts[0]
    for name in ("times", "summary", "stages"):
        whole[name] = [row for part in parts for row in part[name]]
    (tmp_path / "all").mkdir()
    (tmp_path / "all" / "benchmark.json").write_text(json.dumps(whole))
    return tmp_path


def test_a_line_is_a_variant_over_batches_with_its_quartiles(folder, ax):
    table = throughput.frame(collect([folder]).speeds)
    assert table["batch"].tolist() == [1, 2, 4] * 2
    throughput.print(table, ax)
    dense, paper = (bars[0] for bars in ax.containers)
    assert dense.get_ydata().tolist() == pytest.approx([1 / 1.1] * 3)
    assert paper.get_ydata().tolist() == pytest.approx([batch**0.5 / 0.55 for batch in (1, 2, 4)])
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["1", "2", "4"]
    assert (table["low"] < table["images_per_second"]).all()


def test_the_command_draws_it(folder, tmp_path):
    assert render.main(["throughput", str(folder), "--out", str(tmp_path / "out")]) == 0
    assert (tmp_path / "out" / "throughput.png").stat().st_size > 5000


def test_a_benchmark_of_one_batch_says_how_to_measure_several(tmp_path):
    write_benchmark(tmp_path / "one", {DENSE: [1.0]}, ["svit-adapter-s"], keep=("dense",))
    with pytest.raises(RenderError, match="--batch 1,2,4"):
        throughput.frame(collect([tmp_path]).speeds)
