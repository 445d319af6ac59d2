"""Two runs in one figure: named, in which order, and refused where they cannot be compared."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from matplotlib.style import context
from support.runs import (
    PROVENANCE,
    TARGETS,
    grid_for,
    parts,
    trace_of,
    write_dense,
    write_one_found,
    write_run,
)

from analysis.figures import palette, registry
from analysis.figures.output import DrawOptions, RenderError
from svit.core.types import TokenTrace
from svit.runs.run import RunWriter, open_run

OPTIONS = DrawOptions(limit=2)
FIGURES = registry.entries()
COMPARISONS = ["overlap", "difference", "deltas"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def run(folder):
    return write_run(folder / "one")


@pytest.fixture(scope="module")
def other(folder):
    """A dense run on the same images that finds one object each."""
    return write_one_found(folder / "dense", PROVENANCE)


@pytest.fixture(scope="module")
def bare(folder):
    """Tokens of one image and nothing else."""
    with RunWriter(folder / "bare", {"method": "svit", "targets": TARGETS}) as writer:
        writer.add(parts(1)["trace"])
    return open_run(folder / "bare")


def products(name: str, *runs):
    with context(palette.STYLE):
        return list(FIGURES[name].draw(list(runs), OPTIONS))


def refused(name: str, *runs) -> str:
    with pytest.raises(RenderError) as caught:
        products(name, *runs)
    return str(caught.value)


def test_the_dense_run_is_the_reference_whatever_the_order(run, other):
    tables = [products("misses", *pair)[0].table for pair in ((run, other), (other, run))]
    pd.testing.assert_frame_equal(*tables)
    assert tables[0]["found"].sum() == 3  # the second disc scores below 0.5
    assert products("misses", run)[0].table["dense_found"].isna().all()


def test_a_comparison_names_what_differs(run, other):
    title = products("overlap", run, other)[0].figure.get_suptitle()
    assert title == "one − dense (svit − dense), 3 images"
    assert products("overlap", run, run)[0].figure.get_suptitle() == "one − one, 3 images"


def test_a_mode_that_a_dense_run_has_not_is_no_difference(run, folder):
    dense = write_run(
        folder / "plain", provenance={**PROVENANCE, "method": "dense", "inference": ""}
    )
    title = products("overlap", run, dense)[0].figure.get_suptitle()
    assert title == "one − plain (svit − dense), 3 images"


@pytest.mark.parametrize("name", COMPARISONS)
def test_comparisons_need_two_runs_on_the_same_images(name, run, bare):
    assert "found 1" in refused(name, run)
    assert "saw other images" in refused(name, run, bare)


@pytest.mark.parametrize("name", COMPARISONS)
def test_comparisons_refuse_other_grids(name, run, folder):
    path = folder / f"large-{name}"
    with RunWriter(path, PROVENANCE) as writer:
        for image_id in (3, 1, 2):
            grid = grid_for((120, 150), scale=2.0)
            writer.add(trace_of(image_id, grid, np.zeros(grid.grid_hw)))
    assert "same sizes" in refused(name, run, open_run(path))


@pytest.mark.parametrize("name", ["misses", "deltas"])
def test_what_is_found_is_not_compared_over_other_categories(name, run, folder):
    other = write_run(
        folder / f"cats-{name}", provenance={**PROVENANCE, "class_names": ["disc", "cat"]}
    )
    message = refused(name, run, other)
    assert "other categories ('ball' and 'cat')" in message and str(other.path) in message
    nameless = write_run(folder / f"none-{name}", provenance={**PROVENANCE, "class_names": []})
    assert products(name, run, nameless)


@pytest.mark.parametrize("name", COMPARISONS)
def test_comparisons_refuse_other_depths(name, run, folder):
    path = folder / f"shallow-{name}"
    with RunWriter(path, {**PROVENANCE, "targets": []}) as writer:
        for image_id in (3, 1, 2):
            trace = run.trace(image_id)
            writer.add(TokenTrace(image_id, trace.grid, trace.keep[:4]))
    assert "12 and 4 layers; compare models of equal depth" in refused(name, run, open_run(path))


@pytest.mark.parametrize("name", COMPARISONS)
def test_a_run_without_images_is_no_partner(name, run, folder):
    RunWriter(folder / f"empty-{name}", PROVENANCE).close()
    empty = open_run(folder / f"empty-{name}")
    assert "a run without images cannot be compared" in refused(name, run, empty)


def test_whichever_run_is_first_the_keep_ratio_is_over_the_blocks_that_prune_in_either(folder, run):
    dense = write_dense(folder / "whole", (3, 1, 2))
    one, other = (products("deltas", *pair)[0].table for pair in ((run, dense), (dense, run)))
    np.testing.assert_allclose(one["keep_ratio"], -other["keep_ratio"])
    rows, columns = run.trace(3).grid.valid_hw
    gated = run.trace(3).keep[3:, :rows, :columns].mean()
    assert other["keep_ratio"][0] == pytest.approx(1 - gated)


def test_a_comparison_names_the_number_type_and_nothing_that_is_not_known(run, folder):
    half = write_run(folder / "half", provenance={**PROVENANCE, "dtype": "bfloat16"})
    title = products("overlap", run, half)[0].figure.get_suptitle()
    assert title == "one − half (float32 − bfloat16), 3 images"
    silent = {name: PROVENANCE[name] for name in ("method", "targets", "class_names")}
    title = products("overlap", run, write_run(folder / "silent", provenance=silent))
    assert title[0].figure.get_suptitle() == "one − silent, 3 images"
