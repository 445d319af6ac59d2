"""The trade-off of speed and AP: models against a line through dense ones."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.summaries import trained, write_benchmark, write_result

from analysis.paper import claims
from analysis.paper.timed import RANDOM
from analysis.sources import benchmarks
from analysis.sources.collection import Collection, collect

CLAIMS = {claim.id: claim for claim in claims.load_claims()}
TRADEOFF = "s4.3.tradeoff-box"
SPEEDS = {"dense-tiny fused": 0.05, "dense-small fused": 0.1, "svit-small paper fused": 0.08}


def write(folder: Path, svit: float, half: float = 0.1, speeds: dict[str, float] = SPEEDS) -> Path:
    """Two dense sizes at 45 and 48 AP, 20 and 10 images a second; a sparse one at 12.5."""
    for name, box, size, method in (
        ("tiny", 45.0, "tiny", "dense"),
        ("small", 48.0, "small", "dense"),
        ("svit", svit, "small", "svit"),
    ):
        write_result(folder / name, box, 40, half=half, **trained(method, size))
    seconds = {name: [value] * 3 for name, value in speeds.items()}
    write_benchmark(folder / "bench", seconds, ["dense-tiny", "dense-small", "svit-small"])
    return folder


@pytest.fixture(autouse=True)
def _known(monkeypatch: pytest.MonkeyPatch) -> None:
    """The sparse model is a preset at the paper's ratios."""
    known = benchmarks.PRESETS | {"svit-small": benchmarks.PRESETS["svit-adapter-s"]}
    monkeypatch.setattr(benchmarks, "PRESETS", known)


def measured(folder: Path) -> dict:
    found = claims.ledger(collect([folder]), [CLAIMS[TRADEOFF]])
    (row,) = found.dropna(subset="measured").to_dict("records")
    return row


def test_a_model_above_the_line_through_dense_ones_has_the_better_tradeoff(tmp_path: Path) -> None:
    row = measured(write(tmp_path, 48.0))
    # at 12.5 images a second the line is at 48 - 3 * 2.5 / 10 = 47.25
    assert row["measured"] == pytest.approx(0.75) and row["direction"] == "same"
    assert measured(write(tmp_path / "below", 46.0))["direction"] == "opposite"
    assert measured(write(tmp_path / "wide", 48.0, half=1.0))["direction"] == "unclear"


def test_the_tradeoff_of_several_trainings_is_their_mean_and_not_the_last_ones(
    tmp_path: Path,
) -> None:
    equal = SPEEDS | {"svit-small paper fused": 0.1}
    write(tmp_path, 52.0, speeds=equal)
    write_result(tmp_path / "svit1", 44.0, 40, half=0.1, **trained("svit", "small", seed=1))
    row = measured(tmp_path)
    assert row["measured"] == pytest.approx(0.0)  # 48 of the dense model at its speed
    assert (row["seeds"], row["by_seed"]) == (2, "0: 4.00, 1: -4.00")
    assert row["direction"] == "unclear" and "seeds disagree" in row["reason"]
    # sampled masks of one training are no further training
    again = trained("svit", "small", seed=1)
    write_result(tmp_path / "svit1-sampled", 46.0, 40, half=0.1, **again)
    assert measured(tmp_path)["by_seed"] == "0: 4.00, 1: -3.00"
    write_result(tmp_path / "dense1", 50.0, 40, half=0.1, **trained("dense", "small", seed=1))
    assert measured(tmp_path)["measured"] == pytest.approx(-0.5)  # of a mean of 49


def test_the_tradeoff_takes_no_training_by_another_recipe_for_a_seed(tmp_path: Path) -> None:
    write(tmp_path, 52.0, speeds=SPEEDS | {"svit-small paper fused": 0.1})
    other = trained("svit", "small")
    other["facts"]["config"]["train"]["distil"] = 1.0
    write_result(tmp_path / "distilled", 44.0, 40, half=0.1, **other)
    row = measured(tmp_path)  # the least over what was trained
    assert (row["measured"], row["seeds"]) == (pytest.approx(-4.0), 1)


def test_one_dense_size_is_no_line(tmp_path: Path) -> None:
    few = {name: value for name, value in SPEEDS.items() if "tiny" not in name}
    found = claims.ledger(collect([write(tmp_path, 48.0, speeds=few)]), [CLAIMS[TRADEOFF]])
    assert "measured" not in found and "two sizes" in found["reason"][0]


def test_speeds_of_random_weights_say_that_heads_are_arbitrary(tmp_path: Path) -> None:
    names = ["vit-adapter-s", "svit-adapter-s"]
    seconds = {"vit-adapter-s fused": [1.2] * 3, "svit-adapter-s paper fused": [1.0] * 3}
    write_benchmark(tmp_path / "b", seconds, names)
    sources = Collection(speeds=collect([tmp_path]).speeds)
    found = claims.ledger(sources, [CLAIMS["abstract.faster-whole"]])
    assert found["reason"].iloc[-1].endswith(RANDOM) and found["noise"].iloc[-1].startswith("quart")
