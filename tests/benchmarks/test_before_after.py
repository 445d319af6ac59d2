"""The comparison with an earlier commit: both trees answer, and operators are told apart."""

from __future__ import annotations

import json
import subprocess

import pytest

from benchmarks import ROOT, before_after


def test_every_operator_counts_once():
    found = before_after.by_class(
        {"aten::addmm": 2.0, "aten::mul": 1.0, "aten::grid_sampler_2d": 0.5, "aten::roll": 0.25}
    )
    assert sum(found.values()) == 3.75
    assert (found["matrix products"], found["sampling"], found[before_after.REST]) == (2, 0.5, 0.25)


def test_an_unknown_commit_is_named():
    with (
        pytest.raises(ValueError, match="no-such-commit"),
        before_after.checked_out("no-such-commit"),
    ):
        pass


@pytest.mark.parametrize(
    ("how", "what"),
    [
        ([], "backbone, dense, float32"),
        (
            ["--part", "network", "--sparse", "--detections", "7"],
            "network, sparse, float32, 7 detections",
        ),
        (["--part", "training", "--images", "2"], "training, dense, float32, 2 images"),
    ],
)
def test_the_same_commit_on_both_sides_gives_the_same_outputs(tmp_path, how, what):
    if subprocess.run(
        ["git", "-C", str(ROOT), "rev-parse", "HEAD"], capture_output=True
    ).returncode:
        pytest.skip("not a git checkout")
    words = ["HEAD", "--presets", "svit-plain-nano", "--sizes", "64x64", "--rounds", "2", *how]
    before_after.main([*words, "--out", str(tmp_path / "speed")])
    (case,) = json.loads((tmp_path / "speed.json").read_text())["cases"]
    assert case["before"]["output_size"] == pytest.approx(case["after"]["output_size"], rel=1e-6)
    assert len(case["after"]["cpu_s"]) == 2 and case["after"]["classes"]["matrix products"] > 0
    assert f"| svit-plain-nano | 64x64 | {what} |" in (tmp_path / "speed.md").read_text()
