"""The questions to a GPU, tried on the CPU with small models."""

from __future__ import annotations

import json

import pandas as pd
import pytest
import torch

from benchmarks import gpu


def test_the_papers_ratios_are_read_from_its_claims():
    assert gpu.papers_speedup("svit", "tiny", "backbone") == pytest.approx(34.69 / 27.61)
    assert gpu.papers_speedup("ats-remove", "small", "network") == pytest.approx(11.63 / 11.70)
    assert gpu.papers_speedup("vit", "tiny", "network") == 1


def test_a_trial_answers_every_question_in_one_file(tmp_path, monkeypatch):
    monkeypatch.setattr(gpu, "TABLE5", ("vit", "svit"))
    gpu.main(["--device", "cpu", "--tiny", "--out", str(tmp_path / "gpu")])
    found = json.loads((tmp_path / "gpu.json").read_text())
    assert found["golden"] == "left out: no --golden folder was given"
    assert {row["attention"] for row in found["table5"]} == {"fused", "explicit"}
    assert {row["part"] for row in found["table5"]} == {"backbone", "network"}
    assert {row["detections"] for row in found["table5"] if row["part"] == "network"} == {5}
    assert [row["batch"] for row in found["batches"]] == [1, 1, 2, 2]
    assert len(found["bfloat16"]) == 2 and len(found["recording"]) == 2
    assert all(row["images_a_second"] > 0 for row in found["training"])
    text = (tmp_path / "gpu.md").read_text()
    assert "## Table5" in text and "| svit-adapter-nano |" in text


def test_a_section_that_fails_is_told_and_ends_no_other(tmp_path, monkeypatch):
    def broken(_):
        raise KeyError("no such tensor")

    sections = {"golden": broken, "training": lambda _: pd.DataFrame({"images_a_second": [2.0]})}
    monkeypatch.setattr(gpu, "SECTIONS", sections)
    assert gpu.main(["--device", "cpu", "--tiny", "--out", str(tmp_path / "gpu")]) == 1
    found = json.loads((tmp_path / "gpu.json").read_text())
    assert found["golden"] == "failed: KeyError: 'no such tensor'"
    assert found["training"] == [{"images_a_second": 2.0}]


def test_no_gpu_is_told_before_anything_is_measured(tmp_path, capsys):
    if torch.cuda.is_available():
        pytest.skip("there is one")
    with pytest.raises(SystemExit):
        gpu.main(["--out", str(tmp_path / "gpu")])
    assert "expected a GPU" in capsys.readouterr().err and not list(tmp_path.iterdir())


def test_what_no_longer_fits_is_named(tmp_path):
    gpu.main(["--device", "cpu", "--tiny", "--minutes", "-1", "--out", str(tmp_path / "gpu")])
    found = json.loads((tmp_path / "gpu.json").read_text())
    assert all(found[name] == "left out: the time was over" for name in gpu.SECTIONS)
