"""Figures beyond the paper: numbers in the artists, labels, and the entries of the command.

What two runs must share to be compared is in `figures/test_pairs.py`."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot, style
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from support.runs import PROVENANCE, TARGETS, parts, write_dense, write_one_found, write_run

from analysis.figures import palette, registry
from analysis.figures.objects import complexity, misses, objectness
from analysis.figures.objects import regions as region_figures
from analysis.figures.output import DrawOptions, RenderError
from analysis.figures.pairs import deltas
from analysis.figures.rates import compute
from analysis.numbers import budget, comparison, matching, regions
from analysis.sources.collection import PAIR, PAIR_OR_RUN, RUN, RUNS
from svit.core.statistics import Interval
from svit.runs.run import RunWriter, open_run

ONE = parts(1)
TRACE, GRID, TARGET = ONE["trace"], ONE["trace"].grid, ONE["target"]
OPTIONS = DrawOptions(limit=2)
WITH_MODEL = {
    **PROVENANCE,
    "config": {"name": "nano", "pruning": {"method": "svit"}, "backbone": {"depth": 12}},
}


@pytest.fixture
def ax():
    with style.context(palette.STYLE):
        yield Figure().subplots()
    assert not pyplot.get_fignums(), "a figure was opened behind the caller's back"


def labels(ax) -> list[str]:
    return [text.get_text() for text in ax.get_legend().get_texts()]


def test_lines_of_regions_hold_the_shares_and_the_target(ax):
    frame = regions.region_frame([(TRACE, TARGET)])
    assert region_figures.print(frame, ax, targets=TARGETS) is ax
    assert labels(ax) == [*regions.REGIONS, "target, all tokens"]
    rows = frame[frame["region"] == "background"]
    np.testing.assert_allclose(ax.lines[2].get_ydata(), rows["share"])
    np.testing.assert_allclose(ax.lines[-1].get_ydata(), TARGETS)


def test_points_of_groups_name_their_size(ax):
    frame = pd.DataFrame(
        {"size": ["small", "large"], "objects": [5, 2], "mean": [7.0, 9], "low": [6, 8.0]}
    ).assign(high=[8, 10.0])
    region_figures.print_groups(frame, ax, by="size", mean=8.0)
    assert [tick.get_text() for tick in ax.get_yticklabels()] == ["small (5)", "large (2)"]
    assert ax.lines[0].get_xdata().tolist() == [7, 9]
    assert ax.yaxis_inverted() and ax.lines[1].get_xdata() == [8, 8]


def test_points_of_objectness_stand_beside_the_baselines(ax):
    table = regions.objectness_table(regions.objectness_frame([(TRACE, TARGET, ONE["image"])]))
    objectness.print(table, ax)
    assert labels(ax) == list(objectness.MAP_NAMES.values())
    dots = [line for line in ax.lines if line.get_marker() == "o"]
    drawn = np.concatenate([line.get_xdata() for line in dots])
    np.testing.assert_allclose(drawn, table["pooled"])


def test_found_and_missed_objects_have_lines_of_their_own(ax):
    frame = pd.DataFrame(
        {"size": "small", "found": [True, True, False, False], "block": [1, 2, 1, 2]}
    ).assign(objects=[4, 4, 1, 1], mean=[1, 0.8, 1, 0.3], error=[0, 0.1, np.nan, np.nan])
    misses.print_shares(frame, ax, size="small")
    assert labels(ax) == ["found (4)", "missed (1)"]
    assert ax.lines[1].get_ydata().tolist() == [1, 0.3]
    misses.print_shares(frame[frame["found"]], ax, size="large")  # nothing of that size: no line


FATES = pd.DataFrame(
    {"size": "small", "fate": list(matching.FATES), "objects": [4, 2, 0], "missed": [1, 1, 0]}
).assign(miss_rate=[0.25, 0.5, np.nan], dense_missed=[2, 0, 0], only_here=[0, 1, 0])


def test_miss_rates_carry_their_counts_and_the_other_run(ax):
    misses.print(FATES, ax, other="dense")
    assert [bar.get_height() for bar in ax.patches] == [0.25, 0.5, 0]
    assert [text.get_text() for text in ax.texts] == ["1/4", "1/2"]
    assert "same objects, dense" in labels(ax)
    levels = [one.get_segments()[0][0][1] for one in ax.collections]
    assert levels == [0.5, 0]


def test_without_another_run_there_is_no_mark(ax):
    misses.print(FATES.assign(dense_missed=pd.NA), ax)
    assert not ax.collections and len(labels(ax)) == 3


def test_a_count_stands_on_its_bar_unless_a_mark_is_in_its_place(ax):
    misses.print(FATES, ax, other="dense")
    assert [text.xy[1] for text in ax.texts] == [0.25, 0.5]  # marks at 0.5 and 0
    ax.clear()
    misses.print(FATES.assign(miss_rate=[0.45, 0.5, np.nan]), ax, other="dense")
    assert [text.xy[1] for text in ax.texts] == [0.5, 0.5]


def test_sizes_stand_in_their_order(ax):
    frame = pd.DataFrame({"size": ["medium", "large", "small"], "objects": [3, 2, 1]})
    region_figures.print_groups(
        frame.assign(mean=[1.0, 2, 3], low=0.0, high=4.0), ax, by="size", mean=2
    )
    names = [tick.get_text() for tick in ax.get_yticklabels()]
    assert names == ["small (1)", "medium (3)", "large (2)"]


def test_equal_images_fill_a_bin_around_zero(ax):
    values = pd.Series([0.0] * 8 + [0.3, -0.1])
    deltas.print(values, Interval(0.02, -0.1, 0.1, 10), ax, label="found")
    tallest = max(ax.patches[1:], key=lambda bar: bar.get_height())
    assert tallest.get_height() == 8
    assert tallest.get_x() == pytest.approx(-tallest.get_width() / 2)
    assert sum(bar.get_height() for bar in ax.patches[1:]) == 10
    deltas.print(pd.Series([0.0] * 3), Interval(0, 0, 0, 10), ax, label="equal")


def test_a_scatter_leaves_out_images_without_the_measure(ax):
    frame = pd.DataFrame({"objects": [1, np.nan, 3], "keep_ratio": [0.5, 0.6, 0.7]})
    complexity.print(frame, ax, name="objects", interval=Interval(1, 0.5, 1, 10))
    assert ax.collections[0].get_offsets().tolist() == [[1, 0.5], [3, 0.7]]
    assert ax.get_title(loc="left").startswith("ρ = +1.00")


def test_a_scatter_where_nothing_varies_says_so(ax):
    frame = pd.DataFrame({"objects": [1, 2, 3], "keep_ratio": [1.0, 1.0, 1.0]})
    interval = budget.spearman(frame["objects"], frame["keep_ratio"])
    complexity.print(frame, ax, name="objects", interval=interval)
    assert ax.get_title(loc="left") == "ρ undefined: nothing varies"


def test_complexity_of_a_run_that_prunes_nothing_is_refused_in_a_sentence(tmp_path):
    run = write_dense(tmp_path / "dense")
    with pytest.raises(RenderError, match="no layer prunes a token"):
        list(FIGURES["complexity"].draw(run, OPTIONS))


def test_modules_stand_largest_first(ax):
    table = pd.DataFrame({"module": ["blocks", "fpn"], "mean": [1e9, 3e9], "share": [0.25, 0.75]})
    table = table.assign(low=table["mean"], high=table["mean"])
    compute.print(table, ax, reachable=0.2, of_backbone=0.5)
    assert [tick.get_text() for tick in ax.get_yticklabels()] == ["fpn", "blocks"]
    assert [bar.get_width() for bar in ax.patches] == [3, 1]
    assert to_rgb(ax.patches[1].get_facecolor()[:3]) == to_rgb(palette.BLOCKS)
    assert "20.0% of the network, 50.0% of the backbone" in ax.get_title(loc="left")


def test_savings_show_mean_and_limit(ax):
    frame = pd.DataFrame({"saved": [0.1, 0.2], "reachable": [0.4, 0.4]})
    compute.print_savings(frame, ax)
    assert labels(ax) == ["mean 15.0%", "limit 40.0%"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def run(folder):
    return write_run(folder / "one", provenance=WITH_MODEL)


@pytest.fixture(scope="module")
def other(folder):
    """A dense run on the same images that finds one object each."""
    return write_one_found(folder / "dense", WITH_MODEL)


def products(name: str, *runs):
    entry = FIGURES[name]
    subject = runs[0] if entry.takes is RUN else list(runs)
    with style.context(palette.STYLE):
        return list(entry.draw(subject, OPTIONS))


# what only some runs hold: tests in test_measures.py, tokens/test_counts.py, tokens/test_groups.py,
# objects/test_attribution.py, objects/test_causes.py, videos/test_frames.py
ELSEWHERE = ("attention", "attention-beside-mask", "updates", "norms", "groups")
ELSEWHERE += ("attribution", "causes", "frames")
FIGURES = {
    name: entry
    for name, entry in registry.entries().items()
    if entry.takes in (RUN, RUNS, PAIR, PAIR_OR_RUN) and name not in ELSEWHERE
}
AN_IMAGE_EACH = ("difference", "heatmap", "layers", "overlay")


@pytest.mark.parametrize("name", FIGURES)
def test_every_entry_draws_and_has_numbers(name, run, other):
    found = products(name, run, other)
    assert len(found) == (2 if name in AN_IMAGE_EACH else 1)
    for product in found:
        assert product.name.startswith(name) and len(product.table)
        product.figure.canvas.draw()
    assert FIGURES[name].definition


def test_the_ledger_of_a_run_counts_its_detections(run):
    table = products("compute", run)[0].table
    given = comparison.config_of(run), list(range(3, 12))
    expected = pd.DataFrame([budget.ledger_row(one, 2, *given) for one in run.iter_traces()])
    pd.testing.assert_frame_equal(table, expected)


def refused(name: str, *runs) -> str:
    with pytest.raises(RenderError) as caught:
        products(name, *runs)
    return str(caught.value)


@pytest.fixture(scope="module")
def bare(folder):
    """Tokens and nothing else."""
    with RunWriter(folder / "bare", {"method": "svit", "targets": TARGETS}) as writer:
        writer.add(TRACE)
    return open_run(folder / "bare")


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("regions", "holds no annotations"),
        ("objectness", "holds no pictures"),
        ("misses", "holds no detections"),
        ("errors", "holds no detections"),
        ("complexity", "neither annotations nor pictures"),
        ("compute", "no configuration"),
    ],
)
def test_a_run_that_lacks_something_says_what(name, reason, bare):
    message = refused(name, bare)
    assert reason in message and str(bare.path) in message


def test_a_method_without_a_formula_is_named(folder):
    provenance = {**WITH_MODEL, "config": {"name": "x", "pruning": {"method": "mine"}}}
    provenance["config"]["backbone"] = {"depth": 12}
    mine = write_run(folder / "mine", provenance=provenance)
    assert "mine" in refused("compute", mine)
