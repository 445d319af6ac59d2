"""`svit compare`: wrong options are refused before anything is read or written."""

from __future__ import annotations

from pathlib import Path

import pytest

from svit.cli import main


@pytest.mark.parametrize(
    ("option", "sentence"),
    [
        (["--rows", "svit,evit-preserv"], "near names: evit-preserve"),
        (["--init", "nowhere.safetensors"], "no file nowhere.safetensors"),
    ],
)
def test_wrong_options_are_refused_in_a_sentence(
    option: list[str], sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    out = tmp_path / "out"
    command = ["compare", "--dataset", str(tmp_path), "--out", str(out), *option]
    assert main.main(command) == 2
    assert sentence in capsys.readouterr().err and not out.exists()
