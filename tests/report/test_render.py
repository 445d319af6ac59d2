"""The figure command: names, files, bytes, numbers and what it says when something is missing."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.style import context
from support.runs import PROVENANCE, parts, write_run
from support.summaries import SHAPES, write_result

from analysis import render
from analysis.figures import palette
from analysis.figures.output import DrawOptions, Product, RenderError
from analysis.numbers import usage as metrics
from analysis.sources.collection import Collection
from analysis.sources.labels import file_name
from svit.runs.run import RunWriter, open_run

ROOT = Path(__file__).resolve().parents[2]
ENDINGS = ("pdf", "svg", "png", "csv")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return write_run(tmp_path_factory.mktemp("runs") / "discs")


def files(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


STEMS = {  # of a figure on image 3
    "heatmap": "heatmap-3",
    "layers": "layers-3",
    "overlay": "overlay-block8-3",
    "reactivation": "reactivation",
    "usage-map": "usage-map",
}


@pytest.mark.parametrize("name", STEMS)
def test_every_figure_of_the_paper_writes_four_files_and_prints_them(name, run, tmp_path, capsys):
    assert render.main([name, str(run.path), "--out", str(tmp_path), "--limit", "1"]) == 0
    stem = STEMS[name]
    assert files(tmp_path) == {f"{stem}.{ending}" for ending in ENDINGS}
    printed = capsys.readouterr().out.split()
    assert printed == [str(tmp_path / f"{stem}.{ending}") for ending in ENDINGS]
    assert all(path.stat().st_size > 500 for path in tmp_path.iterdir())


def test_two_renderings_are_the_same_bytes(run, tmp_path):
    """In two processes, with other hash seeds and clocks."""
    for number in ("1", "2"):
        command = [sys.executable, "-m", "analysis.render", "heatmap", str(run.path)]
        command += ["--image", "1", "--out", str(tmp_path / number)]
        environment = {**os.environ, "PYTHONHASHSEED": number}
        subprocess.run(command, cwd=ROOT, env=environment, check=True, capture_output=True)
    for name in files(tmp_path / "1"):
        assert (tmp_path / "1" / name).read_bytes() == (tmp_path / "2" / name).read_bytes(), name


def test_the_csv_of_a_heatmap_holds_the_counts_and_their_places(run, tmp_path):
    render.main(["heatmap", str(run.path), "--out", str(tmp_path), "--image", "2.jpg"])
    table = pd.read_csv(tmp_path / "heatmap-2.csv")
    trace = run.trace(2)
    usage = metrics.usage(trace)
    assert len(table) == usage.size
    token = table[(table.row == 3) & (table.column == 4)].iloc[0]
    assert token.usage == usage[3, 4]
    assert tuple(token[["left", "top", "right", "bottom"]]) == trace.grid.token_box(3, 4)


def products(name: str, run, *arguments: str) -> list[Product]:
    options = render.draw_options(render.parser().parse_args([name, str(run.path), *arguments]))
    entry = render.FIGURES[name]
    (subject,) = entry.takes.subjects(Collection([run]))
    with context(palette.STYLE):
        return list(entry.draw(subject.given, options))


def test_the_table_of_layers_names_the_states(run):
    (product,) = products("layers", run, "--image", "1")
    table = product.table
    states = metrics.layer_states(run.trace(1))
    shape = states.used[0].shape
    for layer in (0, 4, 11):
        column = table[f"block_{layer + 1}"].to_numpy().reshape(shape)
        np.testing.assert_array_equal(column == "used", states.used[layer])
        np.testing.assert_array_equal(column == "never", states.never[layer])
        np.testing.assert_array_equal(column == "next", states.next[layer])


def test_files_carry_their_provenance(run, tmp_path):
    render.main(["reactivation", str(run.path), "--out", str(tmp_path)])
    assert "framework torchvision" in (tmp_path / "reactivation.svg").read_text()
    assert b"framework torchvision" in (tmp_path / "reactivation.png").read_bytes()


def test_without_out_the_folder_is_named_after_the_run(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    render.main(["reactivation", str(run.path)])
    assert len(files(tmp_path / "figures" / "discs")) == 4


def test_names_from_data_become_safe_and_distinct_file_names():
    names = [file_name(image_id) for image_id in (7, "a.jpg", "../a.jpg", "x/a.jpg")]
    assert names[:2] == ["7", "a.jpg"]
    assert len(set(names)) == 4 and not any("/" in name for name in names)


def refused(arguments: list[str], capsys) -> str:
    assert render.main(arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    return error


def test_an_unknown_image_is_named_with_some_that_exist(run, capsys):
    error = refused(["heatmap", str(run.path), "--image", "77"], capsys)
    assert "no image '77'" in error and "3, 1, 2" in error


def test_a_folder_that_is_no_run_is_named(tmp_path, capsys):
    assert "not a recorded run" in refused(["heatmap", str(tmp_path)], capsys)


def test_an_empty_run_says_how_to_fill_it(tmp_path, capsys):
    RunWriter(tmp_path / "run", PROVENANCE).close()
    assert "svit record --out" in refused(["heatmap", str(tmp_path / "run")], capsys)


def test_a_dense_run_beside_others_is_named_not_drawn(run, tmp_path):
    with RunWriter(tmp_path / "dense", {**PROVENANCE, "method": "dense"}) as writer:
        trace = run.trace(1)
        writer.add(type(trace)(1, trace.grid, np.ones_like(trace.keep)))
    options = DrawOptions()
    with context(palette.STYLE):
        (product,) = render.FIGURES["reactivation"].draw(
            [run, open_run(tmp_path / "dense")], options
        )
    upper, lower = product.figure.subfigs
    assert len(upper.axes) == 2 and not lower.axes
    assert lower.get_suptitle().endswith("no layer prunes a token")


def test_a_dense_run_has_no_reactivation_but_layers(tmp_path, capsys):
    trace = parts(1)["trace"]
    dense = type(trace)(1, trace.grid, np.ones_like(trace.keep))
    with RunWriter(tmp_path / "run", {**PROVENANCE, "targets": [1.0] * 12}) as writer:
        writer.add(dense)  # no picture, no detections either
    out = ["--out", str(tmp_path / "out")]
    error = refused(["reactivation", str(tmp_path / "run"), *out], capsys)
    assert "no layer prunes a token" in error
    run = open_run(tmp_path / "run")
    (strip,) = products("layers", run)
    titled = [ax.get_title(loc="left") for ax in strip.figure.axes]
    assert "block 1  100% kept" in titled and "block 12  100% kept" in titled
    (heatmap,) = products("heatmap", run)
    assert (heatmap.table.usage == 12).all()


def test_a_corrupt_shard_is_an_error_or_is_skipped(tmp_path, capsys):
    write_run(tmp_path / "run", shard_size=1)
    shard = tmp_path / "run" / "shard-00000-000000.tokens.parquet"
    shard.write_bytes(shard.read_bytes()[:-9])
    arguments = ["reactivation", str(tmp_path / "run"), "--out", str(tmp_path / "out")]
    assert "--skip-corrupt" in refused(arguments, capsys)
    assert render.main([*arguments, "--skip-corrupt"]) == 0
    assert shard.name in (tmp_path / "out" / "reactivation.svg").read_text()  # said in the file


def test_an_unfinished_run_is_noted(tmp_path, capsys):
    with pytest.raises(KeyboardInterrupt), RunWriter(tmp_path / "run", PROVENANCE) as writer:
        writer.add(**parts(1))
        raise KeyboardInterrupt
    render.main(["reactivation", str(tmp_path / "run"), "--out", str(tmp_path / "out")])
    assert "unfinished, 1 image so far" in capsys.readouterr().err


def test_an_output_that_cannot_be_written_is_an_error(run, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    error = refused(["reactivation", str(run.path), "--out", str(tmp_path / "file")], capsys)
    assert str(tmp_path / "file") in error


def test_help_lists_every_name_and_examples(capsys):
    with pytest.raises(SystemExit) as caught:
        render.main(["--help"])
    assert caught.value.code == 0
    text = capsys.readouterr().out
    assert all(name in text and entry.summary in text for name, entry in render.FIGURES.items())
    assert all(f"  {name}  " in text for name in render.FIGURES), "names run into their text"
    assert "examples:" in text and "--image 79841" in text
    assert (
        Path("demo/runs/svit-plain-nano").is_dir() and "heatmap demo/runs/svit-plain-nano" in text
    )


def test_an_unknown_name_lists_the_known_ones(run, capsys):
    with pytest.raises(SystemExit) as caught:
        render.main(["heat", str(run.path)])
    assert caught.value.code == 2 and "heatmap" in capsys.readouterr().err


NANO = {"size": "nano", "neck": "pyramid", "classes": SHAPES, "images": 100}


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """A dense result and one model at two ratios, one of them with two seeds."""
    folder = tmp_path_factory.mktemp("results")
    write_result(folder / "dense", 52, 49, method="dense", macs=2e9, **NANO)
    for seed in (0, 1):
        write_result(folder / f"seed{seed}", 50 + seed, 47, macs=1.4e9, seed=seed, **NANO)
    write_result(folder / "half", 46, 44, base=0.5, macs=1e9, **NANO)
    return folder


def test_the_tradeoff_marks_dense_and_has_the_numbers_of_all_results(results, tmp_path):
    assert render.main(["tradeoff", str(results), "--out", str(tmp_path)]) == 0
    assert {f"tradeoff-{kind}.csv" for kind in ("box", "mask")} < files(tmp_path)
    table = pd.read_csv(tmp_path / "tradeoff-box.csv")
    assert sorted(table.base_ratio) == [0.5, 0.7, 0.7, 1.0]
    assert table[table.dense].box_ap.tolist() == [52]
    assert sorted(table.gmacs_backbone) == [1.0, 1.4, 1.4, 2.0]


def test_results_of_other_images_never_share_an_axis(results, tmp_path, capsys):
    write_result(tmp_path / "other", **{**NANO, "images": 99})
    error = refused(["tradeoff", str(results), str(tmp_path / "other")], capsys)
    assert "different images" in error and str(tmp_path / "other") in error


def test_a_figure_says_when_the_folders_hold_nothing_for_it(run, results, capsys):
    assert "needs a recorded run" in refused(["heatmap", str(results)], capsys)
    assert "needs results of `svit evaluate`" in refused(["tradeoff", str(run.path)], capsys)


def test_the_colour_limits_can_be_cropped_as_the_authors_did(run, capsys):
    (product,) = products("heatmap", run, "--limit", "1", "--crop", "7", "12")
    drawn = product.figure.axes[1].get_images()[1]
    assert drawn.norm.boundaries[0] == 6.5 and drawn.norm.boundaries[-1] == 12.5
    (product,) = products("heatmap", run, "--limit", "1")
    assert product.figure.axes[1].get_images()[1].norm.boundaries[0] == 2.5
    error = refused(["heatmap", str(run.path), "--crop", "7", "13"], capsys)
    assert "0 <= LOW < HIGH <= 12, found 7 13" in error


def test_the_usage_map_has_the_shape_asked_for_and_the_mean_of_all_images(run):
    (product,) = products("usage-map", run, "--shape", "6x9")
    values = product.table.usage.to_numpy().reshape(6, 9)
    np.testing.assert_allclose(
        values,
        np.mean(
            [metrics.resample(metrics.usage(one), (6, 9)) for one in run.iter_traces()], axis=0
        ),
    )
    drawn = product.figure.axes[0].get_images()[0]
    np.testing.assert_array_equal(drawn.get_array(), values)
    assert drawn.get_clim() == (3, 12)


def test_several_runs_are_labelled_and_never_averaged(run, tmp_path):
    other = write_run(tmp_path / "more", range(10, 14), {**PROVENANCE, "method": "random"})
    options = DrawOptions()
    with context(palette.STYLE):
        (product,) = render.FIGURES["reactivation"].draw([run, other], options)
        (maps,) = render.FIGURES["usage-map"].draw([run, other], options)
    assert product.table.run.nunique() == 2 and len(product.table) == 24
    assert product.table[product.table.run.str.startswith("more")].tokens.unique() == [4 * 80]
    titles = [ax.get_title(loc="left").split(":")[0] for ax in maps.figure.axes[:2]]
    assert titles == ["discs", "more"]


def test_runs_of_different_depth_share_no_usage_map(run, tmp_path):
    with RunWriter(tmp_path / "shallow", {**PROVENANCE, "targets": []}) as writer:
        trace = parts(1)["trace"]
        writer.add(type(trace)(1, trace.grid, trace.keep[:4]))
    options = DrawOptions()
    with pytest.raises(RenderError, match=r"\[4, 12\] layers: draw them one by one"):
        list(render.FIGURES["usage-map"].draw([run, open_run(tmp_path / "shallow")], options))


@pytest.mark.parametrize(
    ("option", "value"), [("--limit", "0"), ("--score", "nan"), ("--alpha", "1.5")]
)
def test_an_option_out_of_range_is_named(option, value, run, capsys):
    error = refused(["heatmap", str(run.path), option, value], capsys)
    assert f"{option}: expected" in error and value in error


def test_an_overlay_shows_the_block_asked_for(run, capsys):
    (product,) = products("overlay", run, "--limit", "1", "--block", "5")
    assert product.name == "overlay-block5-3"
    states = metrics.layer_states(run.trace(3))
    np.testing.assert_array_equal(product.table.later, states.later[4].ravel())
    assert "expected 1 to 12, found 13" in refused(
        ["overlay", str(run.path), "--block", "13"], capsys
    )


def test_all_makes_a_sheet_that_links_every_file(run, results, tmp_path, monkeypatch, capsys):
    few = {name: render.FIGURES[name] for name in ("reactivation", "tradeoff")}
    monkeypatch.setattr(render, "FIGURES", few)
    dense = parts(1)["trace"]
    with RunWriter(tmp_path / "dense", PROVENANCE) as writer:
        writer.add(type(dense)(1, dense.grid, np.ones_like(dense.keep)))
    folders = [str(run.path), str(tmp_path / "dense"), str(results)]
    assert render.main(["all", *folders, "--out", str(tmp_path / "out")]) == 0
    printed = capsys.readouterr().out.split()
    assert printed == [str(tmp_path / "out" / f"index.{ending}") for ending in ("html", "md")]
    for page in printed:
        text = Path(page).read_text()
        assert "Pruned tokens of each block" in text  # the definition
        assert "no layer prunes a token" in text  # of the dense run: why it is not drawn
        assert "discs/reactivation.csv" in text and "results/tradeoff-box.png" in text
        assert "Table 5" in text and "not tested" in text
    links = re.findall(r'(?:href|src)="([^"#][^"]*)"', Path(printed[0]).read_text())
    assert len(links) > 10 and all((tmp_path / "out" / link).is_file() for link in links)


def test_an_empty_run_among_others_is_noted_in_the_sheet(run, tmp_path, monkeypatch):
    monkeypatch.setattr(render, "FIGURES", {"reactivation": render.FIGURES["reactivation"]})
    RunWriter(tmp_path / "empty", PROVENANCE).close()
    out = tmp_path / "out"
    assert render.main(["all", str(tmp_path / "empty"), str(run.path), "--out", str(out)]) == 0
    assert "holds no images yet" in (out / "index.md").read_text()


@pytest.mark.parametrize("name", ["tables", "claims"])
def test_the_paper_beside_measured_is_written_as_text_and_csv(name, results, tmp_path, capsys):
    assert render.main([name, str(results), "--out", str(tmp_path)]) == 0
    assert files(tmp_path) == {Path(line).name for line in capsys.readouterr().out.split()}
    assert len((tmp_path / f"{name}.md").read_text()) > 2000
    table = pd.read_csv(tmp_path / {"tables": "table-5.csv", "claims": "claims.csv"}[name])
    assert len(table) > 10
    measured = table.filter(like=", measured").to_numpy() if name == "tables" else []
    assert {str(value) for row in measured for value in row} <= {"–", "nan"}  # of shapes: none


def test_rendering_leaves_torch_and_streamlit_unloaded():
    code = "import sys, analysis.render; sys.exit(bool({'torch', 'streamlit'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


def test_parts_of_the_sheet_never_share_a_folder(run, tmp_path):
    others = [write_run(tmp_path / name) for name in ("a.b", "a-b", "A b", "all-runs")]
    places = render.section_folders(Collection([run, *others]))
    assert len(set(map(str.lower, places))) == len(places) == 10
    assert places[:3] == ["discs", "a.b", "a-b"] and places[4:6] == ["all-runs", "all-runs-2"]
    assert places[6:8] == ["discs-and-a-b", "discs-and-a-b-2"]
