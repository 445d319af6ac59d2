"""Figures of measured speed: what is divided by what, what is drawn, and what is refused."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from support.summaries import write_benchmark

from analysis import render
from analysis.figures.rates import speed, stages
from analysis.sources.benchmarks import speedups
from analysis.sources.collection import collect

PAPER, ALL = "svit-adapter-s paper fused", "svit-adapter-s dense fused"
MODELS = ["svit-adapter-s"]


@pytest.fixture
def folder(tmp_path):
    """Two sizes of one benchmark and one of another, of which one line cannot be drawn."""
    known = {"keep": ("dense", "paper"), "gmacs": {ALL: 30.0, PAPER: 20.0}, "part": "backbone"}
    small, large = {ALL: [1.0, 1.2], PAPER: [1.25, 1.2]}, {ALL: [3.0, 3.0], PAPER: [2.0, 2.5]}
    write_benchmark(tmp_path / "a", small, MODELS, size="224x224", tokens=196, **known)
    write_benchmark(tmp_path / "b", large, MODELS, size="640x640", tokens=1600, **known)
    write_benchmark(tmp_path / "c", {PAPER: [1.0]}, MODELS)  # nothing to compare with
    return tmp_path


def test_speed_up_is_paired_by_round_with_the_same_models_dense_variant(folder):
    table = speedups(collect([folder]).speeds)
    assert table["benchmark"].tolist() == ["a", "b"] and table["tokens"].tolist() == [196, 1600]
    assert np.allclose(table["speedup"], [np.median([0.8, 1.0]), np.median([1.5, 1.2])])
    assert np.allclose(table["limit"], 1.5) and np.allclose(table["of_limit"], [0.6, 0.9])


def test_lines_lie_where_the_table_says_over_their_limit(folder):
    table, ax = speedups(collect([folder]).speeds), plt.figure().subplots()
    speed.print(table, ax, inks=speed.colours(table))
    drawn = {
        tuple(line.get_xdata()): line.get_ydata() for line in ax.lines if len(line.get_xdata())
    }
    assert drawn[(196,)][0] in (0.9, 1.5) and drawn[(1600,)][0] in (1.35, 1.5)
    assert [label.get_text() for label in ax.get_xticklabels()] == ["196", "1600"]


def test_stage_bars_end_at_the_median_time_and_show_the_least_in_full_colour(folder):
    (one,) = (one for one in collect([folder / "b"]).speeds if one.variant == PAPER)
    ax = stages.print([one], plt.figure().subplots())
    ends = sorted(bar.get_x() + bar.get_width() for bar in ax.patches)
    assert np.allclose(ends, [843.75, 1687.5, 1968.75, 2250])  # 2,250 ms: three quarters blocks
    full = sum(bar.get_width() for bar in ax.patches if bar.get_alpha() is None)
    assert np.isclose(full, 2250 / 2)


def test_the_command_draws_both_with_their_numbers(folder, tmp_path):
    out = tmp_path / "out"
    for name in ("speed", "stages"):
        assert render.main([name, str(folder), "--out", str(out)]) == 0
    assert (out / "speed.pdf").stat().st_size > 500
    assert sorted(path.stem for path in out.glob("*.csv")) == [
        *("speed", "stages-a", "stages-b", "stages-c")
    ]
    sums = pd.read_csv(out / "stages-b.csv").groupby("variant")["milliseconds"].sum()
    assert np.isclose(sums[ALL], 3000)


def test_no_two_lines_of_a_panel_look_alike(tmp_path):
    """Seven benchmarks and three variants: colours and marks once had one round of six, both together."""
    times = {
        ALL: [2.0],
        PAPER: [1.0],
        "svit-adapter-s 0.5 fused": [0.5],
        "svit-adapter-s 0.6 fused": [0.7],
    }
    for number in range(6):
        keep = ("dense", "paper", "0.5", "0.6")
        write_benchmark(tmp_path / f"run {number}", times, MODELS, keep=keep)
    table, ax = speedups(collect([tmp_path]).speeds), plt.figure().subplots()
    speed.print(table, ax, inks=speed.colours(table))
    looks = [(one[0].get_color(), one[0].get_marker()) for one in ax.containers]
    assert len(looks) == 18 == len(set(looks))
    names = [text.get_text() for text in ax.texts]
    assert len(set(names)) == 18 and all("run" in name for name in names)


def test_ticks_leave_room_for_their_numbers():
    assert speed.told_apart([64, 196, 400, 784, 1600, 2500, 4200]) == [
        64,
        196,
        400,
        784,
        1600,
        4200,
    ]


def test_a_benchmark_without_a_dense_variant_says_how_to_get_one(folder, capsys):
    assert render.main(["speed", str(folder / "c")]) == 2
    assert "--keep dense,paper" in capsys.readouterr().err
