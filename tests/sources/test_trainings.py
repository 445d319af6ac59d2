"""Training curves: journals read back, and what is drawn of them."""

from __future__ import annotations

import json
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest

from analysis import render
from analysis.figures import palette
from analysis.figures.rates import curves as curve_figures
from analysis.sources import trainings as curves
from analysis.sources.collection import collect
from analysis.sources.labels import training_names
from analysis.sources.trainings import Training, TrainingError
from svit.core.config import to_dict
from svit.core.presets import PRESETS

LINES = [
    {"step": 20, "total_loss": 3.0, "loss_cls": 2.0, "keep_ratio": [1.0, 1.0, 0.9], "rate": 1e-3},
    {"step": 40, "total_loss": 2.0, "loss_cls": 1.5, "keep_ratio": [1.0, 0.6, 0.4], "rate": 5e-4},
    {"step": 40, "box_AP": 12.5, "mask_AP": 10.0, "box_AP50": 30.0},
]


def journal(folder: Path, lines: list[dict], end: str = "\n") -> Path:
    folder.mkdir(parents=True)
    text = "\n".join(map(json.dumps, lines)) + end
    (folder / curves.JOURNAL).write_text(text if lines else "")
    return folder


@pytest.fixture
def training(tmp_path) -> Training:
    journal(tmp_path / "mine", LINES)
    return collect([tmp_path]).trainings[0]


def drawn(trainings: list[Training]):
    with mpl.style.context(palette.STYLE):
        (product,) = curve_figures.draw(trainings, None)
    return product


def shown(axes) -> list:
    return [ax for ax in axes if ax.axison]


@pytest.mark.parametrize("value", ["3", {"a": 1}, [1.0, "x"], True])
def test_a_line_that_holds_no_numbers_is_named(tmp_path, value):
    journal(tmp_path / "mine", [*LINES, {"step": 60, "total_loss": value}])
    with pytest.raises(
        TrainingError, match=r"metrics.json, line 4: expected a number as 'total_loss"
    ):
        curves.read_training(tmp_path / "mine" / curves.JOURNAL)


def test_a_journal_is_read_by_hand(training):
    frame = training.frame
    assert frame["step"].tolist() == [20, 40, 40]
    assert frame["keep_ratio_3"].tolist()[:2] == [0.9, 0.4] and frame["keep_ratio_3"].isna()[2]
    assert training.keep_columns == ["keep_ratio_1", "keep_ratio_2", "keep_ratio_3"]
    assert training.loss_columns == ["loss_cls"]
    assert training.ap_columns == ["box_AP", "mask_AP"]


def test_the_long_table_has_every_number_once(training):
    table = curves.long_frame([training], ["mine"])
    assert len(table) == 2 * (1 + 1 + 3 + 1) + 3
    row = table[(table["name"] == "keep_ratio_2") & (table["step"] == 40)]
    assert row["value"].tolist() == [0.6] and set(table["training"]) == {"mine"}


def test_targets_are_those_of_the_configuration(tmp_path, training):
    assert training.targets == [] and training.config is None
    folder = journal(tmp_path / "svit", LINES)
    (folder / curves.CONFIG).write_text(json.dumps(to_dict(PRESETS["svit-plain-nano"])))
    read = {one.path.name: one for one in collect([tmp_path]).trainings}["svit"]
    assert read.targets == [1.0] * 3 + [0.7] * 3 + [0.49] * 3 + [0.343] * 3


@pytest.mark.parametrize("preset", ["ats-preserve-plain-nano", "vit-plain-nano"])
def test_methods_that_decide_in_stages_have_no_target_a_block(preset, tmp_path):
    folder = journal(tmp_path / "a", LINES)
    (folder / curves.CONFIG).write_text(json.dumps(to_dict(PRESETS[preset])))
    assert collect([tmp_path]).trainings[0].targets == []


def test_a_last_line_without_its_end_does_not_count(tmp_path):
    journal(tmp_path / "a", LINES[:2], end='\n{"step": 60, "total')
    assert len(collect([tmp_path]).trainings[0].lines) == 2


@pytest.mark.parametrize("line", ["[1]", "{}", '{"step": "x"}', "{"])
def test_a_wrong_line_is_named(line, tmp_path, capsys):
    journal(tmp_path / "a", LINES[:1], end=f"\n{line}\n")
    with pytest.raises(TrainingError, match=r"line 2: .*leave the folder out"):
        collect([tmp_path])
    assert render.main(["curves", str(tmp_path)]) == 2
    assert str(tmp_path / "a" / curves.JOURNAL) in capsys.readouterr().err


def test_a_line_that_is_not_utf8_is_named_and_one_cut_amid_a_character_does_not_count(tmp_path):
    folder = journal(tmp_path / "a", LINES[:1])
    whole = (folder / curves.JOURNAL).read_bytes()
    (folder / curves.JOURNAL).write_bytes(whole + '{"é'.encode()[:-1])
    assert len(collect([tmp_path]).trainings[0].lines) == 1
    (folder / curves.JOURNAL).write_bytes(whole + b'{"step": 2, "\xff": 1}\n')
    with pytest.raises(TrainingError, match=r"line 2: .*UnicodeDecodeError.*leave the folder out"):
        collect([tmp_path])


def test_a_configuration_of_another_version_is_named(tmp_path):
    folder = journal(tmp_path / "a", LINES)
    (folder / curves.CONFIG).write_text("nonsense: 1\n")
    with pytest.raises(TrainingError, match=r"config.yaml.*leave the folder out"):
        drawn(collect([tmp_path]).trainings)


def test_equal_folder_names_are_told_apart_by_their_parents(tmp_path):
    for name in ("dense", "svit"):
        journal(tmp_path / name / "training", LINES)
    assert training_names(collect([tmp_path]).trainings) == ["dense/training", "svit/training"]


def test_one_training_shows_the_parts_of_its_loss_its_aps_and_every_pruning_block(training):
    figure = drawn([training]).figure
    losses, aps, rate, keep = shown(figure.axes)
    total, part = losses.get_lines()
    assert total.get_ydata().tolist() == [3, 2] and part.get_ydata().tolist() == [2, 1.5]
    assert part.get_label() == "cls"
    box, mask = aps.get_lines()
    assert box.get_xydata().tolist() == [[40, 12.5]] and mask.get_markerfacecolor() == "white"
    assert rate.get_ylabel() == "learning rate"
    second, third = keep.get_lines()  # block 1 keeps everything throughout
    assert second.get_label() == "2" and second.get_ydata().tolist() == [1, 0.6]
    assert third.get_ydata().tolist() == [0.9, 0.4]


def test_dots_at_the_end_are_the_targets(tmp_path):
    folder = journal(tmp_path / "svit", [LINES[0] | {"keep_ratio": [1.0] * 3 + [0.8] * 9}])
    (folder / curves.CONFIG).write_text(json.dumps(to_dict(PRESETS["svit-plain-nano"])))
    keep = shown(drawn(collect([tmp_path]).trainings).figure.axes)[-1]
    dots = [line for line in keep.get_lines() if line.get_marker() == "o"]
    assert [dot.get_ydata()[0] for dot in dots] == [0.7] * 3 + [0.49] * 3 + [0.343] * 3


def test_several_trainings_share_panels_and_are_named(tmp_path):
    for name in ("one", "two"):
        journal(tmp_path / name, LINES)
    journal(tmp_path / "dense", [LINES[0] | {"keep_ratio": [1.0, 1.0]}])
    product = drawn(collect([tmp_path]).trainings)
    axes = shown(product.figure.axes)
    assert [line.get_label() for line in axes[0].get_lines()] == ["dense", "one", "two"]
    titles = [ax.get_title(loc="left") for ax in axes]
    assert titles[-2:] == [
        "one: blocks",
        "two: blocks",
    ]  # a panel of keep ratios for each that prunes
    assert set(product.table["training"]) == {"dense", "one", "two"}


def test_twenty_four_lines_look_different():
    styles = curve_figures._styles(24)
    assert len({tuple(style.values()) for style in styles}) == 24


def test_a_training_that_has_not_begun_is_left_out_or_named(tmp_path, capsys):
    journal(tmp_path / "new", [])
    assert render.main(["curves", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert str(tmp_path / "new") in error and "no line in metrics.json yet" in error
    journal(tmp_path / "old", LINES)
    assert set(drawn(collect([tmp_path]).trainings).table["training"]) == {"old"}


def test_the_command_writes_and_the_sheet_shows_them(tmp_path):
    journal(tmp_path / "in" / "mine", LINES)
    out = tmp_path / "out"
    assert render.main(["curves", str(tmp_path / "in"), "--out", str(out)]) == 0
    table = pd.read_csv(out / "curves.csv")
    assert np.isclose(table["value"].max(), 30) and (out / "curves.pdf").stat().st_size > 500
    assert render.main(["all", str(tmp_path / "in"), "--out", str(out)]) == 0
    page = (out / "index.md").read_text()
    assert "## trainings" in page and "trainings/curves.png" in page
    assert "kept / all tokens of the batch" in page
