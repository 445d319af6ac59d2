"""Every setting and option that cannot be is refused before any work: what was found, what may be."""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from svit.cli.main import VERBS, main
from svit.core.config import ConfigError
from svit.core.presets import load_config
from svit.core.ranges import COUNT, PART, POSITIVE, RATIO, SHARE, Range, Several
from svit.evaluation.passes import PassOptions
from svit.pruning import build_method

SETTINGS = [
    (
        "backbone.patch=14",
        "backbone.patch: expected a power of two, as neck pyramid needs it, found 14",
    ),
    ("train.rate=nan", "train.rate: expected a number above 0, found nan"),
    ("train.rate=-1", "train.rate: expected a number above 0, found -1.0"),
    ("train.iterations=-1", "train.iterations: expected a whole number from 0, found -1"),
    ("train.betas=[0.9]", "train.betas: expected a list of 2, each a number from 0 below 1"),
    ("train.betas=[0.9,1.0]", "train.betas: expected a list of 2, each a number from 0 below 1"),
    ("train.weight_decay=inf", "train.weight_decay: expected a number from 0, found inf"),
    ("train.batch=0", "train.batch: expected a whole number from 1, found 0"),
    ("data.std_rgb=[0,1,1]", "data.std_rgb: expected a list of 3, each a number above 0"),
    ("data.short_side=0", "data.short_side: expected a whole number from 1, found 0"),
    ("detector.score_threshold=nan", "detector.score_threshold: expected a number from 0 to 1"),
    ("detector.classes=0", "detector.classes: expected a whole number from 1, found 0"),
    ("backbone.drop_path=1", "backbone.drop_path: expected a number from 0 below 1, found 1.0"),
    (
        "pruning.options.keep_ratios=2",
        "pruning.options.keep_ratios: expected a list, each a number",
    ),
    ("pruning.options.bias=inf", "pruning.options.bias: expected a number or none, found 'inf'"),
    ("pruning.options.inherit=3", "pruning.options.inherit: expected true or false, found 3"),
]
OPTIONS = [
    (["evaluate", "--limit", "0"], "--limit: expected a whole number from 1, found '0'"),
    (["evaluate", "--draws", "0"], "--draws: expected a whole number from 2, found '0'"),
    (["evaluate", "--batch", "1.5"], "--batch: expected a whole number from 1, found '1.5'"),
    (["record", "--thumbnail", "-5"], "--thumbnail: expected a whole number from 0, found '-5'"),
    (["record", "--out", ""], "--out: expected a name, found ''"),
    (["record", "--threads", "-4"], "--threads: expected a whole number from 1 to 1024"),
    (["record", "--device", "gpu"], "--device: expected cpu, cuda or cuda:N, found 'gpu'"),
    (["record", "--device", "cuda:99"], "--device: 'cuda:99': this machine has"),
    (["record", "--random-weights", "-1"], "--random-weights: expected a whole number from 0"),
    (["train", "--max-steps", "-1"], "--max-steps: expected a whole number from 1, found '-1'"),
    (["train", "--num-gpus", "0"], "expected a whole number from 1 to 1024, found '0'"),
    (["benchmark", "--rounds", "0"], "--rounds: expected a whole number from 1, found '0'"),
    (["compare", "--jobs", "0"], "--jobs: expected a whole number from 1 to 1024, found '0'"),
    (["compare", "--steps", "0"], "--steps: expected a whole number from 1, found '0'"),
    (["compare", "--calibrate-on", "0"], "--calibrate-on: expected a whole number from 1"),
    (["compare", "--seeds", "0,one"], "--seeds: expected a whole number from 0"),
    (["compare", "--rows", "svit,svit"], "--rows: names svit more than once, found 'svit,svit'"),
    (["evaluate", "--seed", "-1"], "--seed: expected a whole number from 0"),
    (["evaluate", "--seed", "1,0,1"], "--seed: names 1 more than once, found '1,0,1'"),
    (["evaluate", "--inference", "topk,topk"], "--inference: names topk more than once"),
    (["evaluate", "--intervene", "off, off"], "--intervene: names off more than once"),
    (["record", "--threads", "100000"], "--threads: expected a whole number from 1 to 1024"),
    (["train", "--workers", "5000"], "--workers: expected a whole number from 0 to 1024"),
    *(
        (
            ["benchmark", "--sizes", f"64x64,{size}"],
            f"--sizes: expected sizes like 640x640, height x width in pixels, found '{size}'",
        )
        for size in ("640", "640x", "0x64", "axb")
    ),
    (["calibrate", "--images", "0"], "--images: expected a whole number from 1, found '0'"),
    (["app", "--port", "70000"], "--port: expected a whole number from 1 to 65535, found '70000'"),
    (["demo", "--images", "none"], "--images: expected a whole number from 1, found 'none'"),
    (["dataset", "sheet", "--images", "0"], "--images: expected a whole number from 1, found '0'"),
    (["dataset", "shapes", "--size", "0"], "--size: expected a whole number from 1, found '0'"),
]


@pytest.mark.parametrize(("override", "sentence"), SETTINGS)
def test_a_setting_that_cannot_be_is_named_with_what_was_found_and_what_may_be(
    override: str, sentence: str
) -> None:
    with pytest.raises((ConfigError, ValueError)) as raised:
        config = load_config("svit-plain-nano", [override])
        build_method(config.pruning.method, 96, 12, 3, config.pruning.options)
    assert sentence in str(raised.value)


def test_a_training_of_no_length_is_refused() -> None:
    with pytest.raises(ConfigError, match="train.epochs: expected epochs or iterations above 0"):
        load_config("svit-adapter-t", ["train.epochs=0"])


def test_epochs_that_iterations_of_the_preset_would_overrule_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("preset: svit-plain-nano\ntrain:\n  epochs: 3\n")
    for settings in (("svit-plain-nano", ["train.epochs=3"]), (str(file), [])):
        with pytest.raises(ConfigError, match="no effect beside train.iterations=5000"):
            load_config(*settings)
    told = load_config("svit-plain-nano", ["train.epochs=3", "train.iterations=0"]).train
    assert (told.epochs, told.iterations) == (3, 0)
    assert load_config("svit-adapter-t", ["train.epochs=3"]).train.epochs == 3


@pytest.mark.parametrize(("words", "sentence"), OPTIONS)
def test_an_option_that_cannot_be_is_named_with_what_was_found_and_what_may_be(
    words: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as raised:
        main(words)
    assert raised.value.code == 2 and sentence in capsys.readouterr().err


@pytest.mark.parametrize("verb", VERBS)
def test_no_verb_takes_a_bare_int_or_float(verb: str) -> None:
    import argparse
    import importlib

    parser = argparse.ArgumentParser()
    importlib.import_module(VERBS[verb].module).add_arguments(parser)
    assert [action.dest for action in parser._actions if action.type in (int, float)] == []


def test_every_number_of_the_settings_says_what_it_may_be() -> None:
    config = load_config("svit-plain-nano")
    for section in ("backbone", "detector", "data", "train"):
        for item in dataclasses.fields(getattr(config, section)):
            value = getattr(getattr(config, section), item.name)
            if not isinstance(value, (str, bool)):
                assert "allowed" in item.metadata, f"{section}.{item.name}"


@pytest.mark.parametrize("choice", [{"batch": 0}, {"limit": 0}, {"workers": -1}])
def test_the_library_refuses_the_same_as_the_command_line(choice: dict) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(choice))}: expected a whole number"):
        PassOptions(**choice)


@given(st.one_of(st.floats(), st.integers(), st.booleans(), st.text(max_size=3), st.none()))
def test_a_range_admits_finite_numbers_between_its_ends_and_nothing_else(value: object) -> None:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    finite = number and math.isfinite(value)
    assert (value in COUNT) == (number and isinstance(value, int) and value >= 1)
    assert (value in POSITIVE) == (finite and value > 0)
    assert (value in SHARE) == (finite and 0 <= value <= 1)
    assert (value in RATIO) == (finite and 0 < value <= 1)
    assert (value in PART) == (finite and 0 <= value < 1)
    assert ([value] in Several(SHARE, 1)) == (value in SHARE)
    assert [value, value] not in Several(SHARE, 1)


def test_a_range_reads_a_text_and_says_itself_where_it_cannot() -> None:
    assert Range(0, 1).parse("0.5") == 0.5
    for text in ("x", "nan", "1e999", "2", ""):
        with pytest.raises(ValueError, match="expected a number from 0 to 1, found"):
            Range(0, 1).parse(text)


@pytest.mark.parametrize(
    ("verb", "option", "more", "name"),
    [
        ("evaluate", "--set", ["--out", "a"], "set"),
        ("record", "--images", ["--out", "a"], "images"),
        ("app", "--runs", [], "runs"),
        ("app", "--pictures", [], "pictures"),
    ],
)
def test_an_option_of_several_values_that_is_given_twice_loses_none(
    verb: str, option: str, more: list[str], name: str
) -> None:
    parser = argparse.ArgumentParser()
    importlib.import_module(VERBS[verb].module).add_arguments(parser)
    found = getattr(parser.parse_args([option, "a=1", "b=2", *more, option, "c=3"]), name)
    assert [str(one) for one in found] == ["a=1", "b=2", "c=3"]
    assert not getattr(parser.parse_args(more), name)
