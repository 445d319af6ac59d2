"""The figure command: names, files, bytes, numbers and what it says when something is missing."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.style import context
from runs import PROVENANCE, parts, write_run

from analysis import figures, metrics, render
from svit.store import RunWriter, open_run

ROOT = Path(__file__).resolve().parents[1]
ENDINGS = ("pdf", "svg", "png", "csv")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return write_run(tmp_path_factory.mktemp("runs") / "discs")


def files(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


@pytest.mark.parametrize("name", list(render.FIGURES))
def test_every_name_writes_four_files_and_prints_them(name, run, tmp_path, capsys):
    assert render.main([name, str(run.path), "--out", str(tmp_path), "--limit", "1"]) == 0
    stem = name if name == "reactivation" else f"{name}-3"
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


def products(name: str, run, *arguments: str) -> list[render.Product]:
    options = render._parser().parse_args([name, str(run.path), *arguments])
    with context(figures.STYLE):
        return list(render.FIGURES[name].draw(run, options))


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
    names = [render._file_name(image_id) for image_id in (7, "a.jpg", "../a.jpg", "x/a.jpg")]
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


def test_an_unfinished_run_is_noted(tmp_path, capsys):
    with pytest.raises(KeyboardInterrupt), RunWriter(tmp_path / "run", PROVENANCE) as writer:
        writer.add(**parts(1))
        raise KeyboardInterrupt
    render.main(["reactivation", str(tmp_path / "run"), "--out", str(tmp_path / "out")])
    assert "unfinished, 1 images so far" in capsys.readouterr().err


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
    assert "examples:" in text and "--image 79841" in text


def test_an_unknown_name_lists_the_known_ones(run, capsys):
    with pytest.raises(SystemExit) as caught:
        render.main(["heat", str(run.path)])
    assert caught.value.code == 2 and "heatmap" in capsys.readouterr().err


def test_rendering_leaves_torch_and_streamlit_unloaded():
    code = "import sys, analysis.render; sys.exit(bool({'torch', 'streamlit'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0
