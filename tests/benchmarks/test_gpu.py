"""The questions to a GPU, tried on the CPU with small models."""

from __future__ import annotations

import json

import pytest

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


def test_what_no_longer_fits_is_named(tmp_path):
    gpu.main(["--device", "cpu", "--tiny", "--minutes", "-1", "--out", str(tmp_path / "gpu")])
    found = json.loads((tmp_path / "gpu.json").read_text())
    assert all(found[name] == "left out: the time was over" for name in gpu.SECTIONS)
