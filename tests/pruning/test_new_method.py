"""A method is one file and one entry of the catalogue: the recipe of notebook 4, carried out in a copy.

The contract tests run there on the new row, and so does the command that renews the documents' table.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOK = ROOT / "notebooks" / "04_write_your_own_method.ipynb"
IMPORTS = '''"""Keeps what is unlike the rest (notebook 4)."""

from __future__ import annotations

import torch

from svit.core.catalogue import PAPER_KEEP_RATIOS
from svit.pruning.base import Method, run_block, run_masked
from svit.pruning.sampling import top_tokens


'''
HELD = ("pruning/test_contract.py", "core/test_catalogue.py", "core/test_macs.py")
ENDS = "    )\n}\n\nROWS"  # of the table of methods


def cell(start: str) -> str:
    """The source of the one code cell that begins with these words."""
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    (found,) = ["".join(c["source"]) for c in cells if "".join(c["source"]).startswith(start)]
    return found


def entry() -> str:
    """The entry that the notebook makes, as the catalogue holds it."""
    made, _, _ = cell('METHODS["distinct"] = ').partition("\n\n")
    made = made.removeprefix('METHODS["distinct"] = ').replace(
        "__main__:", "svit.pruning.methods.distinct:"
    )
    return "".join(f"        {line}\n" for line in made.splitlines()).rstrip("\n") + ",\n"


def run(folder: Path, *words: str) -> subprocess.CompletedProcess:
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    command = [sys.executable, *words]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The package with its tests and the page of comparisons."""
    for name in ("svit", "benchmarks", "tests"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "docs").mkdir()
    for name in ("pyproject.toml", "docs/comparison.md"):
        shutil.copy(ROOT / name, tmp_path / name)
    return tmp_path


def test_one_file_and_one_entry_make_a_method(copy: Path) -> None:
    method, catalogue = copy / "svit/pruning/methods/distinct.py", copy / "svit/core/catalogue.py"
    method.write_text(IMPORTS + cell("class Distinct(Method)") + "\n", encoding="utf-8")
    before = catalogue.read_text(encoding="utf-8")
    assert before.count(ENDS) == 1
    catalogue.write_text(before.replace(ENDS, entry() + ENDS), encoding="utf-8")
    page = copy / "docs" / "comparison.md"
    told = run(copy, "-m", "svit", "presets", "--rows", str(page))
    assert told.returncode == 0, told.stderr
    assert "| distinct | an idea of mine | control | no | yes | yes | mine |" in page.read_text()
    tests = [f"tests/{name}" for name in HELD]
    options = ("-q", "-p", "no:cacheprovider", "-k", "distinct or catalogue")
    held = run(copy, "-m", "pytest", *options, *tests)
    assert held.returncode == 0, held.stdout
    assert int(held.stdout.split(" passed")[0].split()[-1]) > 20
