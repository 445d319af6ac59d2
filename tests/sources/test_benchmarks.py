"""Benchmarks read back: what was timed, what may share an axis, and what counts for a claim."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from support.summaries import SHAPES, provenance, write_benchmark, write_result

from analysis import render
from analysis.figures.rates import tradeoff_speed
from analysis.paper import claims, tables
from analysis.sources import benchmarks
from analysis.sources.benchmarks import SpeedError
from analysis.sources.collection import Collection, collect
from analysis.sources.evaluations import find_evaluations

A100 = "NVIDIA A100-SXM4-40GB"
SVIT, DENSE = "svit-adapter-s paper fused", "vit-adapter-s fused"
GATES = "svit-adapter-s dense fused"  # all tokens through them
MODELS = ["vit-adapter-s", "svit-adapter-s"]
CLAIMS = {claim.id: claim for claim in claims.load_claims()}


def by_name(folder: Path) -> dict[str, benchmarks.Speed]:
    return {one.variant: one for one in collect([folder]).speeds}


def test_images_a_second_are_of_the_median_round_by_hand(tmp_path):
    write_benchmark(tmp_path / "b", {SVIT: [0.5, 0.25, 0.2, 0.25, 1.0]}, MODELS, batch=2)
    (one,) = collect([tmp_path]).speeds
    assert one.images_per_second == 2 / 0.25
    assert one.quartiles == (2 / 0.5, 2 / 0.25)
    (row,) = benchmarks.frame([one]).to_dict("records")
    assert (row["images_per_second"], row["rounds"], row["batch"]) == (8, 5, 2)


def test_a_name_says_model_keep_ratio_and_whether_it_was_recorded(tmp_path):
    names = [SVIT, DENSE, "svit-adapter-s 0.5 fused recorded", "svit-adapter-s dense fused"]
    keep = ("paper", "0.5", "dense")
    write_benchmark(tmp_path / "b", dict.fromkeys(names, [1.0]), MODELS, keep=keep)
    found = [
        (s.model, s.keep, s.recorded, s.base_ratio, s.dense) for s in collect([tmp_path]).speeds
    ]
    assert found == [
        ("svit-adapter-s", "paper", False, 0.7, False),
        ("vit-adapter-s", "", False, 1.0, True),
        ("svit-adapter-s", "0.5", True, 0.5, False),
        ("svit-adapter-s", "dense", False, 1.0, True),
    ]
    assert by_name(tmp_path)[SVIT].facts.size == "small"


def test_what_a_preset_is_is_made_out_once(tmp_path):
    write_benchmark(tmp_path / "b", {SVIT: [1.0]}, MODELS)
    one = by_name(tmp_path)[SVIT]
    assert one.facts is one.facts  # a ledger asks for it thousands of times


def test_a_checkpoint_has_no_known_ratio(tmp_path):
    write_benchmark(tmp_path / "b", {"mine paper fused": [1.0]}, ["weights/mine.safetensors"])
    (one,) = collect([tmp_path]).speeds
    assert one.model == "mine" and np.isnan(one.base_ratio)
    assert one.facts.method == "unknown"


def test_how_much_faster_is_paired_round_by_round(tmp_path):
    write_benchmark(tmp_path / "b", {SVIT: [1.0, 2.0], DENSE: [1.5, 2.0]}, MODELS)
    found = by_name(tmp_path)
    assert found[SVIT].faster_than(found[DENSE]).tolist() == [50, 0]


def test_only_one_benchmark_and_one_condition_share_an_axis(tmp_path):
    both = {SVIT: [1.0], DENSE: [2.0], f"{SVIT} recorded": [3.0]}
    write_benchmark(tmp_path / "a", both, MODELS)
    write_benchmark(tmp_path / "b", both, MODELS)
    write_benchmark(tmp_path / "c", both, MODELS, gpu=A100)
    groups = benchmarks.conditions(collect([tmp_path]).speeds)
    assert [len(group) for group in groups.values()] == [2, 2, 2]  # recorded ones left out
    words = {condition for _, condition in groups}
    assert words == {
        "network, 800x1088, batch 1, float32, fused, a CPU, 2 threads",
        f"network, 800x1088, batch 1, float32, fused, {A100}",
    }


@pytest.mark.parametrize(
    "text", ["{", '{"times": [], "summary": []}', '{"summary": [{"variant": "x"}]}', "[]"]
)
def test_a_broken_benchmark_is_named(text, tmp_path, capsys):
    (tmp_path / "benchmark.json").write_text(text)
    with pytest.raises(SpeedError, match="leave the folder out") as caught:
        collect([tmp_path])
    assert str(tmp_path / "benchmark.json") in str(caught.value)
    assert render.main(["tables", str(tmp_path)]) == 2
    assert "svit benchmark" in capsys.readouterr().err


def test_a_variant_of_no_model_in_the_settings_is_refused(tmp_path):
    write_benchmark(tmp_path / "b", {"stranger paper fused": [1.0]}, MODELS)
    with pytest.raises(SpeedError, match="'stranger paper fused' is of none"):
        collect([tmp_path])


def ledger(folder: Path, *ids: str) -> pd.DataFrame:
    sources = Collection(speeds=collect([folder]).speeds)
    return claims.ledger(sources, [CLAIMS[name] for name in ids]).reset_index(drop=True)


SPEEDUP, ABSOLUTE = "abstract.faster-whole", "t5.svit.small.fps-whole"


def test_on_the_papers_gpu_a_speed_confirms_or_contradicts(tmp_path):
    seconds = {SVIT: [1 / 15.75] * 4, DENSE: [1.34 / 15.75] * 4}
    write_benchmark(tmp_path / "b", seconds, MODELS, gpu=A100)
    found = ledger(tmp_path, SPEEDUP, ABSOLUTE)
    assert found["verdict"].tolist() == ["confirmed", "confirmed"]
    assert found["measured"].tolist() == pytest.approx([34, 15.75])
    slow = {SVIT: [1.0] * 4, DENSE: [1.1] * 4}
    write_benchmark(tmp_path / "slow" / "b", slow, MODELS, gpu=A100)
    found = ledger(tmp_path / "slow", SPEEDUP, ABSOLUTE)
    assert found["verdict"].tolist() == ["contradicted", "contradicted"]


def test_another_machine_shows_a_direction_of_the_ratio_and_nothing_of_the_speed(tmp_path):
    write_benchmark(tmp_path / "b", {SVIT: [1.0, 1.0], DENSE: [1.2, 1.22]}, MODELS)
    found = ledger(tmp_path, SPEEDUP)
    assert found["verdict"].tolist() == ["not tested"] * 2
    assert found["direction"].tolist()[1] == "same" and found["measured"][1] == pytest.approx(21)
    assert "2 threads" in found["of"][1] and DENSE in found["of"][1]
    assert "measured" not in ledger(tmp_path, ABSOLUTE)


def test_quicker_by_less_than_the_rounds_differ_is_unclear(tmp_path):
    write_benchmark(tmp_path / "b", {SVIT: [1.0, 1.0], DENSE: [0.9, 1.15]}, MODELS)
    assert ledger(tmp_path, SPEEDUP)["direction"].tolist()[1] == "unclear"


def test_all_tokens_through_the_gates_stand_in_for_dense_but_never_test_a_claim(tmp_path):
    seconds = {SVIT: [1.0], "svit-adapter-s dense fused": [1.34]}
    write_benchmark(tmp_path / "b", seconds, MODELS[1:], keep=("paper", "dense"), gpu=A100)
    found = ledger(tmp_path, SPEEDUP)
    assert set(found["verdict"]) == {"not tested"} and found["measured"][1] == pytest.approx(34)


def nano_results(folder: Path) -> None:
    nano = {"size": "nano", "neck": "pyramid", "classes": SHAPES, "images": 100}
    for name, choices in (
        ("svit", {}),
        ("half", {"base": 0.5}),
        ("random", {"facts": {"intervention": "random"}}),
        ("dense", {"method": "dense"}),
    ):
        write_result(folder / name, 50, 47, **nano, **choices)


def timed_results(folder: Path) -> None:
    """Results of models that are named svit-nano and dense-nano, and their speeds."""
    nano_results(folder)
    names = ["svit-nano paper fused", "svit-nano 0.5 fused", "dense-nano fused"]
    write_benchmark(
        folder / "bench",
        dict(zip(names, ([1.0], [0.5], [2.0]), strict=True)),
        ["svit-nano", "dense-nano"],
        keep=("paper", "0.5"),
    )


def test_a_speed_belongs_to_results_of_its_model_and_ratio(tmp_path, monkeypatch):
    timed_results(tmp_path)
    known = benchmarks.PRESETS | {"svit-nano": benchmarks.PRESETS["svit-plain-nano"]}
    monkeypatch.setattr(benchmarks, "PRESETS", known)
    pairs = benchmarks.of_results(find_evaluations(tmp_path), collect([tmp_path]).speeds)
    ((condition, found),) = pairs.items()
    assert condition.startswith("bench: network, 800x1088, batch 1")
    assert sorted((one.path.name, speed.images_per_second) for one, speed in found) == [
        *[("dense", 0.5), ("half", 2.0), ("svit", 1.0)]
    ]


@pytest.mark.parametrize(
    ("sides", "timed", "of"),
    [
        ((800, 1333), "224x224", False),
        ((800, 1333), "640x640", False),
        ((800, 1333), "800x1333", True),
        ((800, 1333), "800x1344", True),  # as padded
        ((800, 1333), "1344x800", True),
        ((800, 1333), "800x1088", True),  # the long side of most pictures is shorter than it may be
        ((800, 1333), "608x1344", True),  # of a wide picture, which the long side limits
        ((800, 1333), "800x1376", False),
        ((800, 1333), "64x800", False),  # neither side is as long as it may be
        ((512, 512), "1024x1024", False),
        ((1024, 1024), "1024x1024", True),
        (None, "800x1333", False),
    ],
)
def test_a_speed_belongs_to_results_on_pictures_of_its_size(tmp_path, sides, timed, of):
    config = provenance("dense")["config"]
    if sides is None:
        del config["data"]
    else:
        config["data"] |= dict(zip(("short_side", "long_side"), sides, strict=True))
    write_result(tmp_path / "dense", method="dense", facts={"config": config})
    write_benchmark(tmp_path / "b", {"dense-tiny fused": [0.1]}, ["dense-tiny"], size=timed)
    found = collect([tmp_path])
    assert bool(benchmarks.of_results(found.results, found.speeds)) == of


def test_a_speed_in_other_numbers_is_no_speed_of_a_result(tmp_path):
    write_result(tmp_path / "dense", method="dense", facts={"dtype": "bfloat16"})
    write_benchmark(tmp_path / "b", {"dense-tiny fused": [0.1]}, ["dense-tiny"])
    found = collect([tmp_path])
    assert found.speeds and not benchmarks.of_results(found.results, found.speeds)


def test_the_tradeoff_shows_measured_speed_in_a_figure_of_its_own(tmp_path, monkeypatch):
    timed_results(tmp_path / "in")
    for name in ("tradeoff", "tradeoff-speed"):
        assert render.main([name, str(tmp_path / "in"), "--out", str(tmp_path / "out")]) == 0
    table = pd.read_csv(tmp_path / "out" / "tradeoff-speed-mask.csv")
    assert table.set_index("variant")["images_per_second"].to_dict() == {
        "svit-nano 0.5 fused": 2.0,
        "dense-nano fused": 0.5,  # the paper's ratios of an unknown preset are not known
    }
    assert "images_per_second" not in pd.read_csv(tmp_path / "out" / "tradeoff-mask.csv")


def test_a_speed_at_another_share_of_tokens_is_refused_and_told(tmp_path, capsys):
    """A benchmark forces its ratios; gates kept half a percent of all tokens more, or less, than that."""
    nano_results(tmp_path)
    for name, kept in (("alike", 0.628), ("unlike", 0.6)):
        times = {"svit-nano 0.5 fused": [0.5]}
        write_benchmark(tmp_path / name, times, ["svit-nano"], keep=("0.5",), kept=kept)
    found = collect([tmp_path])
    (condition,) = benchmarks.of_results(found.results, found.speeds)
    assert condition.startswith("alike")
    (row,) = benchmarks.unlike(found.results, found.speeds).to_dict(orient="records")
    assert (row["kept"], row["timed"]) == (0.625, 0.6)
    only = [str(tmp_path / name) for name in ("half", "unlike")]
    assert render.main(["tradeoff-speed", *only]) == 2
    assert "keeps 62.5% of the tokens and was timed at 60.0%" in capsys.readouterr().err


def test_measured_speed_stands_in_the_tables_page_only_apart(tmp_path):
    write_benchmark(tmp_path / "b", {SVIT: [0.125], DENSE: [0.25]}, MODELS)
    assert render.main(["tables", str(tmp_path), "--out", str(tmp_path / "out")]) == 0
    page = (tmp_path / "out" / "tables.md").read_text()
    assert "## Measured speed" in page and tables.SPEED_CAPTION in page
    table = pd.read_csv(tmp_path / "out" / "measured-speed.csv")
    assert table["images_per_second"].tolist() == [8, 4]
    assert set(pd.read_csv(tmp_path / "out" / "table-5.csv")["FPS whole, measured"]) == {"–"}


def test_the_shipped_benchmark_is_read():
    folder = Path(__file__).resolve().parents[2] / "results"
    found = collect([folder]).speeds
    assert found and all(one.images_per_second > 0 for one in found)
    summary = json.loads((found[0].path / "benchmark.json").read_text())["summary"]
    (row,) = [r for r in summary if r["variant"] == found[0].variant and r["part"] == found[0].part]
    assert found[0].images_per_second == pytest.approx(row["batch"] / row["wall_s_median"])


def test_benchmarks_in_folders_of_one_name_stay_apart(tmp_path):
    for day, seconds in (("monday", 1.0), ("friday", 2.0)):
        both = {SVIT: [seconds] * 3, GATES: [3.0] * 3}
        write_benchmark(tmp_path / day / "benchmark", both, MODELS, keep=("paper", "dense"))
    write_result(tmp_path / "svit", method="svit", size="small", facts={"config": named(SVIT)})
    found = collect([tmp_path])
    assert set(benchmarks.speedups(found.speeds)["benchmark"]) == {
        *("friday/benchmark", "monday/benchmark")
    }
    timed = benchmarks.speed_frames(found.results, found.speeds)
    assert [name.split(":")[0] for name in timed] == ["friday/benchmark", "monday/benchmark"]
    assert sorted(one["images_per_second"][0] for one in timed.values()) == [0.5, 1.0]


def named(variant: str) -> dict:
    """The configuration of a result whose preset a benchmark timed."""
    config = provenance("svit", "small")["config"]
    return {**config, "name": variant.split()[0]}


def test_one_round_tells_no_spread_and_no_direction(tmp_path):
    both = {SVIT: [1.0], DENSE: [1.5], GATES: [1.6]}
    write_benchmark(tmp_path / "b", both, MODELS, keep=("paper", "dense"))
    assert np.isnan(by_name(tmp_path)[SVIT].quartiles).all()
    assert benchmarks.speedups(collect([tmp_path]).speeds)[["low", "high"]].isna().all(axis=None)
    row = ledger(tmp_path, SPEEDUP).iloc[1]
    assert row["measured"] == pytest.approx(50) and row["direction"] == "unclear"
    assert row["noise"] == ""


def test_a_benchmark_that_does_not_tell_what_it_kept_says_so(tmp_path):
    write_benchmark(tmp_path / "b", {SVIT: [1.0] * 3}, MODELS, kept=None)
    write_result(tmp_path / "svit", method="svit", size="small", facts={"config": named(SVIT)})
    found = collect([tmp_path])
    assert not benchmarks.of_results(found.results, found.speeds)
    assert tradeoff_speed.refused(found).endswith("and was timed at an unknown share.")
