"""AP against cost: what is a line, a dot, an interval, a name, and what the axis leaves out."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from matplotlib.style import context
from support.summaries import SHAPES, trained, write_result

from analysis.figures import palette
from analysis.figures.rates import tradeoff, tradeoff_screen
from analysis.figures.rates.points import Points
from analysis.sources.evaluations import find_evaluations

NANO = {"size": "nano", "neck": "pyramid", "classes": SHAPES}


def written(folder: Path, aps: dict[tuple[str, float], list[float]], **choices) -> pd.DataFrame:
    """The frame of results: (method, base keep ratio) -> AP of each seed."""
    for (method, base), values in aps.items():
        for seed, ap in enumerate(values):
            name = f"{method}-{base}-{seed}"
            write_result(folder / name, ap, ap - 4, method=method, base=base, seed=seed, **choices)
    return tradeoff.frame(find_evaluations(folder))


@pytest.fixture
def table(tmp_path: Path) -> pd.DataFrame:
    aps = {("svit", 0.5): [46.0, 48.0], ("svit", 0.7): [49.0, 50.0], ("svit", 0.9): [51.0]}
    aps |= {("evit", 0.7): [47.0], ("ats", 0.7): [46.5], ("random", 0.7): [45.0]}
    return written(tmp_path, aps | {("dense", 1.0): [52.0], ("magnitude", 0.7): [20.0]}, **NANO)


def lines(ax) -> list[list[float]]:
    return [list(line.get_ydata()) for line in ax.lines if len(line.get_xdata()) > 1]


def test_a_line_joins_the_means_of_a_kind_and_seeds_lie_around_them(table, ax):
    tradeoff.print(Points(table, "box"), ax, named=["svit, threshold"])
    assert [47, 49.5, 51] in lines(ax)
    seeds = next(line for line in ax.lines if sorted(line.get_ydata()) == [46, 48, 49, 50])
    assert seeds.get_alpha() < 0.5
    assert [text.get_text() for text in ax.texts] == ["dense 52.0"]
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["svit"]


def test_a_training_with_more_sampled_masks_weighs_no_more(tmp_path):
    for training, aps in ((0, [40.0, 40.0, 40.0]), (1, [60.0])):
        for seed, ap in enumerate(aps):
            config = trained("random", "nano", seed=training, neck="pyramid", classes=SHAPES)
            write_result(tmp_path / f"{training}{seed}", ap, ap - 4, seed=seed, **config)
    points = Points(tradeoff.frame(find_evaluations(tmp_path)), "box")
    assert points.means["ap"].tolist() == [50]


def test_a_few_curves_are_named_among_the_points_and_the_axis_ends_with_them(table):
    figure = tradeoff.compose(table, "box")
    low, high = figure.axes[0].get_xlim()
    assert low > 0.45 and high < 0.95


def test_a_curve_has_the_same_dashes_over_every_cost(table):
    curves = [table[table["series"] == "svit, threshold"].assign(series=name) for name in "ab"]
    curves[0] = curves[0].assign(gmacs_backbone=curves[0]["gmacs_backbone"] + 1)
    both = pd.concat(curves, ignore_index=True)
    over = [Points(both, "box", cost).dashes for cost in ("base_ratio", "gmacs_backbone")]
    assert over[0] == over[1] and over[0]["a"] != over[0]["b"]


def test_models_are_called_as_the_rows_of_a_comparison(tmp_path):
    facts = {"inference": "calibrated"}
    options = {"facts": facts, "ratio_loss": "fixed", **NANO}
    written(tmp_path / "a", {("svit", 0.7): [45.0]}, **options)
    table = written(tmp_path / "b", {("svit", 0.7): [45.0]}, **NANO)
    table = pd.concat([table, tradeoff.frame(find_evaluations(tmp_path / "a"))], ignore_index=True)
    names = Points(table, "box").rows["name"].tolist()
    assert names == ["svit", "svit-fixed, dial"]


def test_intervals_are_those_of_the_summary_not_twice_their_half(tmp_path, ax):
    path = write_result(tmp_path / "a" / "one", 50, **NANO)
    summary = json.loads((path / "summary.json").read_text())
    summary["box"]["AP_interval"] = [49.9, 53]
    (path / "summary.json").write_text(json.dumps(summary))
    points = Points(tradeoff.frame(find_evaluations(tmp_path)), "box")
    tradeoff.print(points, ax)
    (bar,) = [one for one in ax.collections if hasattr(one, "get_segments")]
    assert bar.get_segments()[0][:, 1].tolist() == [49.9, 53]


def test_a_dense_model_is_a_level_with_its_interval(table, ax):
    tradeoff.print(Points(table, "box"), ax)
    assert [52, 52] in lines(ax)
    assert [round(patch.get_height(), 6) for patch in ax.patches] == [0.8]


def test_kinds_at_one_ratio_have_a_panel_with_a_row_each_best_family_first(table, ax):
    points = Points(table, "box")
    assert points.shared == 0.7 and points.curves == ["svit, threshold"]
    tradeoff.print_ranked(points, ax)
    rows = [label.get_text() for label in ax.get_yticklabels()]
    assert rows == ["svit", "evit-remove", "ats-remove", "random", "magnitude"]
    colours = [label.get_color() for label in ax.get_yticklabels()]
    assert colours == [palette.FAMILIES[name.split("-")[0]] for name in rows]


def test_a_kind_far_below_does_not_stretch_the_axis_and_is_told(table, ax):
    points = Points(table, "box")
    assert points.reach[0] > 40
    tradeoff.print_ranked(points, ax)
    assert "20.0" in [text.get_text() for text in ax.texts]


def test_what_the_paper_prints_is_hollow_and_for_its_own_data_only(tmp_path, ax):
    aps = {("svit", 0.7): [45.0], ("dense", 1.0): [46.0]}
    points = Points(written(tmp_path / "coco", aps), "mask")
    assert points.printed["paper"].tolist() == [40.7]
    tradeoff.print(points, ax)
    hollow = [line for line in ax.lines if line.get_markerfacecolor() == "white"]
    assert [line.get_ydata().tolist() for line in hollow] == [[40.7]]
    assert not len(Points(written(tmp_path / "shapes", aps, classes=SHAPES), "mask").printed)


def test_the_screen_has_the_same_points_names_and_reach(table):
    points = Points(table, "box")
    chart = tradeoff_screen.screen(points, "base keep ratio").to_dict()
    data = [rows for rows in chart["datasets"].values()]
    assert any(
        {"place", "name"} <= set(rows[0]) and rows[0]["name"] == "svit" for rows in data if rows
    )
    assert list(points.reach) in [
        layer["encoding"]["y"]["scale"]["domain"]
        for layer in chart["layer"]
        if "scale" in layer.get("encoding", {}).get("y", {})
    ]
    assert "tri" in json.dumps(tradeoff_screen.screen_ranked(points).to_dict())


def test_twenty_kinds_are_named_apart(tmp_path):
    aps = {("svit", base / 100): [40 + base / 10] for base in range(50, 90, 10)}
    table = written(tmp_path, aps, **NANO)
    many = [
        table.assign(series=f"kind {number:02}, threshold", model=f"kind {number:02}").assign(
            box_ap=table["box_ap"] + number / 100
        )
        for number in range(20)
    ]
    with context(palette.STYLE):
        figure = tradeoff.compose(pd.concat(many), "box")
        figure.draw_without_rendering()
    places = sorted(
        text.get_window_extent().y0 for text in figure.axes[0].texts if "kind" in text.get_text()
    )
    assert len(places) == 20 and min(np.diff(places)) > 0


def test_results_of_a_single_ratio_have_no_panel_over_ratios(tmp_path):
    table = written(tmp_path, {("svit", 0.7): [45.0], ("dense", 1.0): [46.0]}, **NANO)
    assert [ax.get_xlabel() for ax in tradeoff.compose(table, "box").axes] == [
        "GMACs of the backbone"
    ]
    assert isinstance(tradeoff.compose(table, "box"), Figure)


def test_what_the_paper_prints_stands_beside_kinds_of_its_own_ratio_alone(tmp_path: Path) -> None:
    aps = {("svit", 0.7): [45.0], ("svit", 0.5): [44.0], ("evovit", 0.5): [43.0]}
    points = Points(written(tmp_path / "half", aps), "box")
    assert points.shared == 0.5 and len(points.printed) == 1
    assert points.printed_at_shared.empty
    other = Points(written(tmp_path / "paper", {**aps, ("evovit", 0.7): [44.0]}), "box")
    assert other.shared == 0.7 and len(other.printed_at_shared) == 2
