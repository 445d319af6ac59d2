"""Clocks: variants in turn, speed-ups within a round, nested stages, memory held at once."""

from __future__ import annotations

import time

import pandas as pd
import pytest
import torch
from torch import nn

from svit.system import timing

CPU = torch.device("cpu")


def test_variants_take_turns_and_every_round_starts_with_the_next() -> None:
    called: list[str] = []
    works = {name: lambda name=name: called.append(name) for name in "ab"}
    times = timing.interleave(works, rounds=3, device=CPU, warmup=1)
    assert called == ["a", "b"] + ["a", "b", "b", "a", "a", "b"]
    assert times.groupby("variant").size().tolist() == [3, 3]


def test_speed_up_is_the_median_of_paired_ratios() -> None:
    rows = [
        ("a", 0, 2.0),
        ("b", 0, 1.0),
        ("a", 1, 8.0),
        ("b", 1, 2.0),
        ("a", 2, 3.0),
        ("b", 2, 1.0),
    ]
    times = pd.DataFrame(rows, columns=["variant", "round", "wall_s"])
    table = timing.compare(times, "a").set_index("variant")
    assert table.loc["b", "speedup_median"] == 3.0  # of 2, 4 and 3
    assert table.loc["b", ["speedup_q25", "speedup_q75"]].tolist() == [2.5, 3.5]
    assert table.loc["a", "speedup_median"] == 1.0
    with pytest.raises(ValueError, match="no variant 'c'"):
        timing.compare(times, "c")


def test_a_nested_stage_takes_its_time_from_the_one_around_it() -> None:
    class Sleep(nn.Module):
        def __init__(self, seconds: float, inner: nn.Module | None = None) -> None:
            super().__init__()
            self.seconds, self.inner = seconds, inner or nn.Identity()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            time.sleep(self.seconds)
            return self.inner(x)

    inner = Sleep(0.03)
    outer = Sleep(0.01, inner)
    with timing.watched([(outer.forward, "outer"), (inner.forward, "inner")], CPU) as stages:
        start = time.perf_counter()
        outer(torch.ones(1))
        elapsed = time.perf_counter() - start
    assert stages.seconds["inner"] >= 0.03 and stages.seconds["outer"] >= 0.01
    assert sum(stages.seconds.values()) <= elapsed
    assert stages.calls == {"outer": 1, "inner": 1}
    assert "forward" not in {**vars(outer), **vars(inner)}


def test_peak_memory_counts_what_is_held_at_once() -> None:
    x = torch.ones(1000, 1000)

    def work() -> torch.Tensor:
        first = x + 1
        second = first + 1
        del first
        third = second + 1
        return third.sum()

    assert timing.peak_memory(work, CPU) == pytest.approx(2 * x.nbytes, rel=0.01)
