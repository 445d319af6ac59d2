"""The sheet of many models and the same pictures: which pictures, in which order, on one scale."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from support.runs import (
    PROVENANCE,
    grid_for,
    trace_of,
    write_dense,
    write_others,
    write_run,
)

from analysis import render
from analysis.figures.images import gallery
from analysis.figures.objects import focus
from analysis.figures.output import DrawOptions, Product, RenderError
from analysis.numbers import regions, usage
from analysis.sources import labels
from svit.runs.run import Run, RunWriter, open_run

OPTIONS = DrawOptions()
DENSE = {**PROVENANCE, "method": "dense", "targets": [1.0] * 12}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Run]:
    folder = tmp_path_factory.mktemp("gallery")
    first = write_run(folder / "a", range(1, 10), {**PROVENANCE, "row": "svit"})
    second = write_run(folder / "b", range(9, 1, -1), {**DENSE, "seed": 4})
    return [first, second]


def drawn(runs: list[Run], options: DrawOptions = OPTIONS) -> Product:
    (product,) = gallery.draw(runs, options)
    return product


def cells(figure: Figure, columns: int) -> list[list]:
    axes = [ax for ax in figure.axes if ax.get_subplotspec() is not None]
    return [axes[start : start + columns] for start in range(0, len(axes), columns)]


def test_six_pictures_are_evenly_spaced_over_those_all_runs_hold(runs: list[Run]) -> None:
    assert gallery.shared_pictures(runs, OPTIONS) == [2, 3, 5, 6, 8, 9]
    assert gallery.shared_pictures(runs[:1], OPTIONS) == [1, 3, 4, 6, 7, 9]


def test_named_pictures_are_drawn_in_that_order(runs: list[Run]) -> None:
    asked = DrawOptions(images=("7", "3.jpg"))
    assert gallery.shared_pictures(runs, asked) == [7, 3]
    with pytest.raises(RenderError, match="no image '1'"):
        drawn(runs, DrawOptions(images=("1",)))


def test_rows_are_models_and_columns_pictures_on_one_scale(runs: list[Run]) -> None:
    product = drawn(runs)
    rows = cells(product.figure, 6)
    assert len(rows) == 3
    assert [ax.get_title(loc="left") or ax.get_title() for ax in rows[0]] == list("235689")
    assert [row[0].get_ylabel() for row in rows[1:]] == ["svit", "dense\nseed 4"]
    scales = {(m.norm.vmin, m.norm.vmax) for row in rows[1:] for ax in row for m in ax.images[1:]}
    assert scales == {(2.5, 12.5)}  # the paper's nine gates: 3 to 12 layers


def test_rows_that_look_alike_say_what_sets_them_apart(runs: list[Run], tmp_path: Path) -> None:
    sampled = write_run(tmp_path / "s", (3,), {**PROVENANCE, "row": "svit", "inference": "sample"})
    copy = write_run(tmp_path / "copy", (3,), {**PROVENANCE, "row": "svit", "inference": "sample"})
    assert labels.row_names([*runs, sampled]) == [
        *("svit\nthreshold", "dense\nseed 4", "svit\nsample")
    ]
    assert labels.row_names([sampled, copy]) == ["svit\ns", "svit\ncopy"]


def test_trainings_with_other_seeds_are_told_apart(tmp_path: Path) -> None:
    trained = [
        write_run(
            tmp_path / f"svit-seed{seed}" / "run",
            (3,),
            {**PROVENANCE, "row": "svit", "config": {"train": {"seed": seed}}},
        )
        for seed in (0, 1)
    ]
    expected = ["svit\ntrained with seed 0", "svit\ntrained with seed 1"]
    assert labels.row_names(trained) == expected


def test_the_row_that_tells_objects_best_is_first(runs: list[Run]) -> None:
    (product,) = focus.draw(runs, OPTIONS)
    assert product.table["object_auc"].is_monotonic_decreasing
    left, right = product.figure.axes
    shown = [text.get_text() for text in left.get_yticklabels()]
    assert shown == product.table["model"].tolist()
    drawn = [list(line.get_xdata()) for line in right.lines]
    assert drawn == [product.table[name].tolist() for name in regions.REGIONS]


def test_equal_values_of_a_row_hide_none_of_its_marks(runs: list[Run]) -> None:
    (product,) = focus.draw(runs[1:], OPTIONS)
    product.figure.draw_without_rendering()
    for ax in product.figure.axes:
        marks = [line for line in ax.lines if line.get_marker() == "o"]
        heights = [float(ax.transData.transform((0, line.get_ydata()[0]))[1]) for line in marks]
        size = marks[0].get_markersize() * product.figure.dpi / 72
        assert min(abs(np.diff(sorted(heights)))) > size / 2


def test_the_table_holds_the_mean_usage_under_each_map(runs: list[Run]) -> None:
    table = drawn(runs).table
    assert len(table) == 12 and list(table["run"].unique()) == ["svit", "dense\nseed 4"]
    for row in table[table["run"] == "svit"].to_dict("records"):
        assert row["mean_usage"] == usage.usage(runs[0].trace(row["image"])).mean()


def test_runs_of_other_pictures_are_refused(runs: list[Run], tmp_path: Path) -> None:
    other = write_run(tmp_path / "c", (50, 51))
    with pytest.raises(RenderError, match="no picture in common"):
        drawn([*runs, other])


def test_other_pictures_under_the_same_ids_are_refused(runs: list[Run], tmp_path: Path) -> None:
    with RunWriter(tmp_path / "large", PROVENANCE) as writer:
        for image_id in range(1, 10):
            grid = grid_for((240, 300))
            writer.add(trace_of(image_id, grid, np.zeros(grid.grid_hw)))
    with pytest.raises(
        RenderError, match="large hold other .* 1 has 150 x 120 and 300 x 240 pixels"
    ):
        drawn([runs[0], open_run(tmp_path / "large")])
    with pytest.raises(
        RenderError, match="other pictures under the same ids: image 1 shows something"
    ):
        drawn([runs[0], write_others(tmp_path / "others", range(1, 10))])


def test_the_command_draws_it(runs: list[Run], tmp_path: Path) -> None:
    folders = [str(run.path) for run in runs]
    assert render.main(["gallery", *folders, "--out", str(tmp_path)]) == 0
    assert {path.suffix for path in tmp_path.iterdir()} == {".pdf", ".svg", ".png", ".csv"}


def test_the_one_bar_says_what_lies_beyond_it_in_any_map(runs: list[Run], tmp_path: Path) -> None:
    dense = write_dense(tmp_path / "dense", range(1, 10))  # the bar stands beside a map of it
    figure = drawn([dense, runs[0]], DrawOptions(crop=(11, 12))).figure
    words = [text.get_text() for ax in figure.axes for text in ax.get_yticklabels()]
    for ax in figure.axes:
        words += [text.get_text() for bar in ax.child_axes for text in bar.get_yticklabels()]
    assert "≤11" in words
