"""The benchmark: forced masks, fair rounds, stages that add up, and reports that follow from the numbers."""

from __future__ import annotations

import json
from argparse import ArgumentParser
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from support import tiny_detectors

from svit.cli import benchmark as command
from svit.core.catalogue import ROWS
from svit.core.presets import load_config
from svit.core.types import FrameId
from svit.detectors import build_detector
from svit.probing.recorder import edit, record
from svit.pruning.attention import Attention
from svit.speed import benchmark
from svit.speed import report as benchmark_report
from svit.speed.benchmark_cases import (
    Settings,
    explicit_attention,
    keep_schedule,
    random_masks,
    set_attention,
    sharing_copy,
    variants,
)
from svit.system import timing
from svit.system.products import fused_attention

CPU = torch.device("cpu")
SMALL = """\
backbone: {embed_dim: 24, prior_dim: 4, depth: 4}
detector: {fpn_dim: 8, box_head_dim: 16, mask_head_dim: 8, classes: 3, rpn_post_nms_test: 30}
"""


# what is compared


@given(share=st.floats(0, 1), tokens=st.integers(1, 60), batch=st.integers(1, 3))
def test_forced_masks_keep_exactly_the_rounded_count_of_each_image(share, tokens, batch) -> None:
    everything = torch.ones(batch, tokens, dtype=torch.bool)
    keep = random_masks([share])(0, everything)
    assert keep.sum(dim=1).tolist() == [round(share * tokens)] * batch


def test_forced_masks_are_the_same_every_time_and_differ_by_layer_and_seed() -> None:
    everything = torch.ones(1, 50, dtype=torch.bool)
    first, again = random_masks([0.5, 0.5], 1), random_masks([0.5, 0.5], 1)
    assert torch.equal(first(0, everything), again(0, everything))
    assert not torch.equal(first(0, everything), first(1, everything))
    assert not torch.equal(first(0, everything), random_masks([0.5, 0.5], 2)(0, everything))


def test_nested_masks_bring_nothing_back() -> None:
    everything = torch.ones(2, 50, dtype=torch.bool)
    masks = random_masks([0.7, 0.7, 0.3], nested=True)
    first, same, last = (masks(layer, everything) for layer in range(3))
    assert torch.equal(first, same) and last.sum() == 30 and not (last & ~first).any()


def test_a_base_ratio_gives_the_papers_schedule() -> None:
    paper = [1.0] * 3 + [0.7] * 3 + [0.49] * 3 + [0.343] * 3
    assert keep_schedule("0.7", paper) == pytest.approx(paper)
    assert keep_schedule("paper", paper) == paper
    assert keep_schedule("dense", paper) == [1.0] * 12
    assert keep_schedule("learned", paper) is None


@pytest.mark.parametrize("keep", ["papper", "0", "1.5", "nan"])
def test_an_impossible_keep_ratio_is_refused(keep: str) -> None:
    with pytest.raises(ValueError, match="keep: expected learned, paper, dense or a ratio"):
        keep_schedule(keep, [1.0])


def test_copies_share_weights_but_not_hooks() -> None:
    detector = tiny_detectors.build("torchvision").eval()
    twin = sharing_copy(detector)
    pairs = zip(detector.parameters(), twin.parameters(), strict=True)
    assert all(a is b for a, b in pairs)
    images = torch.randn(1, 3, 64, 64)
    with (
        edit(twin, masks=random_masks([0.5] * 4)),
        record(twin) as edited,
        record(detector) as free,
        torch.no_grad(),
    ):
        twin.backbone(images)
        detector.backbone(images)
    assert (edited.keep().sum(axis=(2, 3)) == 8).all()
    assert (free.keep().sum(axis=(2, 3))[:, 0] == 16).all()


def test_a_dense_model_is_measured_once_whatever_the_keep_ratios(tmp_path: Path) -> None:
    chosen = Settings(
        ("vit-plain-nano", "svit-plain-nano"), keep=("paper", "0.5"), framework="torchvision"
    )
    with ExitStack() as edits:
        labels = [variant.label for variant in variants(chosen, CPU, edits)]
    sparse = ["svit-plain-nano paper fused", "svit-plain-nano 0.5 fused"]
    assert labels == ["vit-plain-nano fused", *sparse]


def test_variants_that_no_table_could_tell_apart_are_refused() -> None:
    chosen = Settings(("vit-plain-nano", "vit-plain-nano"), framework="torchvision")
    with ExitStack() as edits, pytest.raises(ValueError, match="two variants are named 'vit-plain"):
        variants(chosen, CPU, edits)


def test_models_that_see_other_colours_are_not_shown_the_same_pictures(tmp_path: Path) -> None:
    other = tmp_path / "other.yaml"
    other.write_text("preset: vit-plain-nano\ndata: {mean_rgb: [127, 127, 127]}\n")
    settings = Settings(("vit-plain-nano", str(other)), framework="torchvision")
    with ExitStack() as edits:
        assert len(variants(settings, CPU, edits)) == 2  # noise has no colours
        with pytest.raises(ValueError, match="images: these models see pictures by other means"):
            variants(replace(settings, images=tmp_path), CPU, edits)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"parts": ("heads",)}, "found heads"),
        ({"batches": (1, 0)}, "found 1, 0"),
        ({"rounds": 0}, "and 0"),
    ],
)
def test_settings_that_cannot_be_are_refused_before_a_model_is_built(given, words) -> None:
    with pytest.raises(ValueError, match=words):
        Settings(("vit-plain-nano",), **given)


# how it is measured


@pytest.mark.parametrize("masked", [False, True])
def test_explicit_attention_equals_fused(masked: bool) -> None:
    tokens, attention = torch.randn(2, 5, 8), Attention(8, 2)
    mask = torch.rand(2, 5) < 0.7 if masked else None
    mask = None if mask is None else mask | (torch.arange(5) == 0)
    fused = attention(tokens, mask)
    set_attention(attention, "explicit")
    assert attention.kernel is explicit_attention
    torch.testing.assert_close(attention(tokens, mask), fused, atol=1e-5, rtol=1e-5)


def test_explicit_attention_adds_the_sizes_of_merged_tokens_as_fused_does() -> None:
    tokens, attention = torch.randn(2, 5, 8), Attention(8, 2)
    projected, sizes = attention.project(tokens), torch.tensor([[1.0, 2, 1, 3, 1]] * 2).log()
    sizes[1, 4] = float("-inf")
    fused = attention.mix(*projected, sizes)
    set_attention(attention, "explicit")
    torch.testing.assert_close(attention.mix(*projected, sizes), fused, atol=1e-5, rtol=1e-5)


def test_forced_ratios_of_a_method_that_merges_are_merges(tmp_path: Path) -> None:
    chosen = Settings(("tome-plain-nano",), keep=("learned", "0.8"), framework="torchvision")
    kept = []
    with ExitStack() as edits:
        for variant in variants(chosen, CPU, edits):
            with torch.no_grad(), record(variant.detector) as tape:
                variant.detector.backbone(torch.randn(1, 3, 160, 160))
            groups = tape.carriers()[0].reshape(12, -1)
            assert (tape.keep()[0].reshape(12, -1) == (groups == np.arange(100))).all()
            kept.append([len(np.unique(group)) for group in groups[::3]])
    assert kept == [[100, 70, 49, 34], [100, 80, 64, 51]]


@pytest.mark.parametrize(
    ("model", "keep", "words"),
    [("tome", "0.4", "can merge them down to 0.5"), ("algm", "0.7", "merges by thresholds")],
)
def test_ratios_that_a_merging_method_cannot_be_forced_to_are_refused(model, keep, words) -> None:
    chosen = Settings((f"{model}-plain-nano",), keep=(keep,), framework="torchvision")
    with ExitStack() as edits, pytest.raises(ValueError, match=words):
        variants(chosen, CPU, edits)


def test_the_kernel_of_attention_is_set_for_one_model_alone() -> None:
    detector = tiny_detectors.build("torchvision")
    twin = sharing_copy(detector)
    set_attention(twin, "explicit")
    kernels = [
        {part.kernel for part in model.modules() if isinstance(part, Attention)}
        for model in (detector, twin)
    ]
    assert kernels == [{fused_attention()}, {explicit_attention}]
    with pytest.raises(ValueError, match="fused or explicit"):
        set_attention(twin, "flash")


# what it says


def test_the_crossing_lies_between_the_sizes_around_it() -> None:
    assert benchmark_report.crossing([100, 300], [0.9, 1.1]) == pytest.approx(200)
    assert benchmark_report.crossing([300, 100], [1.1, 0.9]) == pytest.approx(200)
    assert benchmark_report.crossing([100, 300], [1.2, 1.1]) == 100
    assert benchmark_report.crossing([100, 300], [1.2, 0.8]) is None
    assert benchmark_report.crossing([], []) is None


def test_a_crossing_is_told_of_sizes_that_a_variant_was_measured_at_each_by_itself() -> None:
    rows = [
        ("64x64", "coarse", 16, 1.0),
        ("64x64", "fine", 64, 0.5),  # smaller patches: more tokens of the same pictures
        ("128x128", "coarse", 64, 1.0),
        ("128x128", "fine", 256, 1.5),
        ("32x512", "coarse", 64, 1.0),  # as many tokens as the square
        ("32x512", "fine", 256, 2.5),
    ]
    summary = pd.DataFrame(rows, columns=["size", "variant", "tokens", "speedup_median"])
    table = benchmark_report.crossover(summary.assign(part="backbone", batch=1))
    fine = table[table["fine"].notna()]
    assert fine["fine"].tolist() == [0.5, 1.5, 2.5] and fine["tokens"].tolist() == [64, 256, 256]
    (said,) = benchmark_report._crossings(table)
    assert said == ("- backbone, batch 1, fine: faster from 160 tokens on (measured 64 to 256)")


@pytest.mark.parametrize(
    ("stages", "share", "gpu", "words"),
    [
        ({"roi heads": 0.5, "rpn": 0.2, "blocks": 0.3}, 0.2, False, "heads dominate "),
        ({"extractors": 0.6, "blocks": 0.4}, 0.5, False, "adapter dominates .*arithmetic-bound"),
        ({"blocks": 0.9}, 0.05, True, "blocks dominate .*launch-bound"),
        ({"blocks": 0.9}, 0.05, False, "small operators"),
        ({"blocks": 0.4, "fpn": 0.3, "injectors": 0.3}, 0.2, True, "nothing dominates"),
    ],
)
def test_the_verdict_follows_from_shares_and_rate(stages, share, gpu, words) -> None:
    sentence = benchmark_report.verdict(stages, share, gpu)
    assert pd.Series([sentence]).str.contains(words).all(), sentence


def test_overhead_compares_calls_of_one_round() -> None:
    rows = [("a", 0, 1.0), ("a recorded", 0, 1.1), ("a", 1, 2.0), ("a recorded", 1, 2.2)]
    times = pd.DataFrame(rows, columns=["variant", "round", "wall_s"]).assign(
        part="x", size="y", batch=1
    )
    times["cpu_s"] = [1.0, 1.2, 2.0, 2.4]
    table = benchmark_report.overhead(times).set_index("clock")
    assert table["variant"].tolist() == ["a", "a"]
    for clock, added in (("wall", 0.1), ("cpu", 0.2)):
        shares = table.loc[clock, ["q25", "median", "q75"]]
        assert shares.tolist() == pytest.approx([added] * 3)


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A benchmark of two tiny models as the command runs it."""
    folder, parser = tmp_path_factory.mktemp("benchmark"), ArgumentParser()
    for name, ratios in (("vit", ""), ("svit", "pruning: {options: {keep_ratios: [0.5, 0.5]}}")):
        (folder / f"{name}.yaml").write_text(f"preset: {name}-adapter-nano\n{SMALL}{ratios}\n")
    command.add_arguments(parser)
    models = f"{folder / 'vit.yaml'},{folder / 'svit.yaml'}"
    words = f"--models {models} --keep paper --sizes 64x64,64x100 --rounds 2 --recording"
    kinds = "--sdpa fused --framework torchvision --batch 1,2"
    args = parser.parse_args([*words.split(), *kinds.split(), "--out", str(folder / "out")])
    assert command.run(args) == 0
    return folder / "out"


def test_the_summary_holds_each_variant_part_and_size(report: Path) -> None:
    table = pd.read_csv(report / "summary.csv")
    assert len(table) == 2 * 2 * 2 * 4 and not table.duplicated(benchmark_report.CASE).any()
    assert table.groupby("size")["tokens"].unique().map(list).to_dict() == {
        "64x64": [16],
        "64x100": [4 * 8],  # padded to 128
    }
    pruned = table[table["variant"].str.startswith("svit")]
    assert pruned["kept_share"].unique() == pytest.approx([0.75])  # two of four blocks keep half
    assert (table[table["part"] == "network"]["proposals"] > 0).all()
    assert (table["peak_mb"] > 0).all() and (table["wall_s_median"] > 0).all()


def test_the_share_of_the_limit_is_speed_up_over_the_ratio_of_macs(report: Path) -> None:
    table = pd.read_csv(report / "summary.csv")
    first = table.groupby(["part", "size", "batch"])["gmacs"].transform("first")
    assert (table["mac_limit"] - first / table["gmacs"]).abs().max() < 1e-9
    share = table["speedup_median"] / table["mac_limit"]
    assert (table["share_of_limit"] - share).abs().max() < 1e-9
    backbone = table[(table["part"] == "backbone") & (table["variant"] == "svit paper fused")]
    assert (backbone["mac_limit"] > 1).all()


def test_stage_shares_add_up_and_name_every_stage(report: Path) -> None:
    stages = pd.read_csv(report / "stages.csv")
    totals = stages.groupby(benchmark_report.CASE)["share"].sum()
    assert (totals - 1).abs().max() < 1e-9
    known = {"spatial prior", "injectors", "extractors", "blocks", "fusion", "embedding"}
    known |= {
        "gates",
        "selection",
        "gather and scatter",
        "fpn",
        "rpn",
        "roi heads",
        "post-processing",
    }
    assert set(stages[stages["variant"] == "svit paper fused"]["stage"]) == known | {"other"}
    assert (stages["seconds"] > 0).all()


@pytest.mark.parametrize("name", [row.name for row in ROWS if row.traits.selection != "none"])
def test_of_every_method_choosing_is_a_stage_apart_from_the_blocks(name: str) -> None:
    """Every block's two halves count as blocks, also where a method looks between them."""
    detector = build_detector(load_config(f"{name}-plain-nano", ["framework=torchvision"])).eval()
    parts = benchmark._parts(detector)
    with timing.watched(parts, CPU) as stages, torch.no_grad():
        for number in (0, 1):  # of a video's first frame methods that carry state take all tokens
            detector.backbone.show_frames([FrameId(0, number)])
            detector.backbone(torch.randn(1, 3, 64, 64))
    halves = 2 * detector.backbone.method.depth
    assert stages.calls["blocks"] >= halves and stages.calls["selection"] > 0
    assert not any(part.__name__ in vars(part.__self__) for part, _ in parts)


def test_json_and_markdown_tell_the_same_and_name_the_machine(report: Path) -> None:
    result = json.loads((report / "benchmark.json").read_text())
    assert {"summary", "stages", "times", "crossover", "recording"} <= set(result)
    assert result["environment"]["matmul_gflops"] > 0 and result["environment"]["copy_gbs"] > 0
    assert len(result["verdicts"]) == 2 * 2 * 2 * 2  # the recorded twins have none of their own
    text = (report / "benchmark.md").read_text()
    assert all(words in text for words in result["verdicts"].values())
    assert "| svit paper fused |" in text and "## Recording" in text
    assert not list(report.glob(".*"))  # nothing half-written is left
