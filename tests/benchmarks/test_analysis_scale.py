"""The scale benchmark on a handful of images: what it generates, measures and reports."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks import analysis_scale, generated_runs
from svit.runs.run import open_run


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return generated_runs.write_everything(tmp_path_factory.mktemp("scale") / "run", 7)


def test_generated_runs_keep_what_their_targets_say(folder):
    run = open_run(folder)
    counts = run.keep_counts().groupby("layer")[["kept_valid", "valid"]].sum()
    np.testing.assert_allclose(
        counts["kept_valid"] / counts["valid"], generated_runs.TARGETS, atol=0.12
    )
    grids = {run.trace(image_id).grid.grid_hw for image_id in run.image_ids}
    assert (50, 84) in grids and (68, 50) in grids and len(grids) == 6


def test_generated_runs_hold_annotations_detections_and_pictures(folder):
    run = open_run(folder)
    assert run.images["objects"].notna().all() and (run.images["detections"] >= 30).all()
    assert run.picture(0).shape == (480, 639, 3)


def test_other_seeds_have_the_same_scenes_and_other_masks(folder, tmp_path):
    first = open_run(folder)
    other = open_run(generated_runs.write_everything(tmp_path / "run", 2, seed=1))
    np.testing.assert_array_equal(first.target(1).masks, other.target(1).masks)
    assert (first.trace(1).keep != other.trace(1).keep).any()


def test_what_is_measured_is_reported(folder):
    paper = {"images": 7, "disk_mb": 1.0, **analysis_scale.measure_paper(folder)}
    figure = {"figure": "keep", "images": 7}
    figure |= analysis_scale.measure_figure("keep", [str(folder)])
    assert paper["seconds"] > 0 and paper["peak_mb"] > 10 and figure["cpu_seconds"] > 0
    place = {"load_before": 0.5, **analysis_scale.environment()}
    page = analysis_scale.report({"environment": place, "paper": [paper], "figures": [figure]})
    assert "| 7 | " in page and "| keep | 7 | " in page and "load 0.5" in page


def test_a_figure_that_cannot_be_drawn_stops_the_benchmark(tmp_path):
    with pytest.raises(SystemExit, match="keep could not be drawn"):
        analysis_scale.measure_figure("keep", [str(tmp_path)])


@pytest.mark.slow
def test_memory_holds_a_shard_and_the_counts_however_large_the_run(tmp_path):
    small, large = analysis_scale.paper_rows([500, 20_000], tmp_path)
    assert (
        large["peak_mb"] < small["peak_mb"] + 50
    )  # the packed masks of 19,500 images are 120 MB, unpacked 980
