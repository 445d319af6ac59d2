"""The comparison with an earlier commit: both trees answer, and operators are told apart."""

from __future__ import annotations

import contextlib
import json
import subprocess

import pytest
import torch

from benchmarks import ROOT, before_after
from svit.core.presets import load_config
from svit.detectors import build_detector
from svit.probing.recorder import edit


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


@pytest.mark.parametrize(("sparse", "share"), [(False, 1), (True, 0.66)])
def test_a_case_has_all_tokens_or_the_papers_share_whatever_untrained_gates_say(sparse, share):
    torch.manual_seed(0)
    detector = build_detector(load_config("svit-adapter-t", ["framework=torchvision"])).eval()
    image = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    sizes, kept = [], []

    def masks(layer, keep):
        chosen = torch.ones_like(keep)
        if sparse:
            order = torch.rand(keep.shape, generator=torch.Generator().manual_seed(layer))
            count = round(0.7 ** (layer // 3) * keep.shape[1])
            chosen = torch.zeros_like(keep).scatter(1, order.argsort(dim=1)[:, :count], True)
        kept.append(float(chosen.float().mean()))
        return chosen

    with torch.inference_mode():
        for edits in (contextlib.nullcontext(), edit(detector, masks=masks)):
            with edits:
                maps = detector.backbone(image).values()
            sizes.append(sum(float(level.double().abs().mean()) for level in maps))
    case = before_after.Case("svit-adapter-t", (64, 64), sparse=sparse)
    with before_after.Worker(ROOT, case) as worker:
        assert worker.output_size == pytest.approx(sizes[1], rel=1e-6)
    assert worker.output_size != pytest.approx(sizes[0], rel=1e-4)  # the gates' own
    assert sum(kept) / len(kept) == pytest.approx(share, abs=0.1)


@pytest.mark.parametrize(
    ("how", "what"),
    [
        ([], "backbone, dense, float32"),
        (
            ["--part", "network", "--sparse", "--detections", "7"],
            "network, sparse, float32, 7 detections",
        ),
        (["--part", "training", "--images", "2"], "training, float32, 2 images"),
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
