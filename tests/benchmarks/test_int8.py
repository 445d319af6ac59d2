"""Linears in int8: near to float32 but not equal, gates spared, slices of a weight kept apart."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from benchmarks import int8
from svit.cli.main import main
from svit.system import products

DEMO = Path(__file__).resolve().parents[2] / "demo"


def test_products_are_rounded_to_eight_bits_and_spared_ones_not() -> None:
    wide, spared, values = nn.Linear(32, 64), nn.Linear(32, 8), torch.randn(50, 32)
    with torch.no_grad():
        exact = [F.linear(values, wide.weight[rows]) for rows in (slice(0, 32), slice(0, 64))]
        kept = spared(values)
        with int8.Int8(spared):
            found = [F.linear(values, wide.weight[rows], None) for rows in (slice(32), slice(64))]
            assert torch.equal(spared(values), kept)
    for one, other in zip(found, exact, strict=True):
        assert 0 < (one - other).abs().max() < 0.03 * other.abs().max()


def test_both_precisions_of_a_model_stand_in_one_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(products.VARIABLE, "mkl")  # so that it is put back
    words = ["--train", "0", "--val", "2", "--workers", "1"]
    assert main(["dataset", "shapes", "--out", str(tmp_path / "shapes"), *words]) == 0
    model, out = DEMO / "svit-plain-nano.safetensors", tmp_path / "int8.md"
    int8.main([str(tmp_path / "shapes"), str(model), "--limit", "2", "--out", str(out)])
    rows = [line.split(" | ") for line in out.read_text("utf-8").splitlines()[-2:]]
    assert [row[2] for row in rows] == ["box", "mask"]
    for row in rows:
        before, after = (float(cell.split(" ")[0]) for cell in row[3:5])
        assert before > 20 and abs(after - before) < 10
