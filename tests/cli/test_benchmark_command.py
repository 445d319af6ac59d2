"""`svit benchmark`: what its options mean."""

from __future__ import annotations

import argparse
from dataclasses import fields
from pathlib import Path

from svit.cli import benchmark, main
from svit.speed.benchmark_cases import Settings


def test_every_setting_has_an_option_of_the_same_default() -> None:
    parser = argparse.ArgumentParser()
    benchmark.add_arguments(parser)
    given = vars(parser.parse_args(["--models", "a,b", "--out", "x"]))
    assert Settings(**{field.name: given[field.name] for field in fields(Settings)}) == Settings(
        ("a", "b")
    )


def test_an_unknown_part_is_refused_in_a_sentence(tmp_path: Path, capsys) -> None:
    words = ["benchmark", "--models", "vit-plain-nano", "--parts", "heads", "--out", str(tmp_path)]
    assert main.main(words) == 2
    assert "expected backbone, network, found heads" in capsys.readouterr().err


def test_an_out_that_is_a_file_is_told_before_anything_is_measured(
    tmp_path: Path, capsys, monkeypatch
) -> None:
    monkeypatch.setattr(benchmark, "benchmark", None)  # measuring would fail otherwise
    (tmp_path / "file").touch()
    words = ["benchmark", "--models", "vit-plain-nano", "--out", str(tmp_path / "file")]
    assert main.main(words) == 2
    assert "file is a file, not a folder; choose another" in capsys.readouterr().err
