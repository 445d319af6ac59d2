"""The report of the app's speed: medians beside targets, memory's slope. The browser is not driven here."""

from __future__ import annotations

import pandas as pd
import pytest

from benchmarks import app_speed

ROWS = pd.DataFrame(
    [
        *({"measure": "open Image", "seconds": s, "whole": s + 1} for s in (1.0, 3.0, 2.5)),
        *({"measure": "slider", "seconds": s} for s in (0.1, 0.2, 0.6)),
        *({"measure": "memory", "turn": turn, "mb": 300 + 0.5 * turn} for turn in range(10)),
    ]
)


def test_every_measure_has_its_median_and_its_target():
    table = app_speed.summary(ROWS).set_index("measure")
    assert list(table.index) == ["open Image", "slider"]
    assert table["median"].tolist() == [2.5, 0.2] and table["target"].tolist() == [2.0, 0.4]
    assert table["whole"].iloc[0] == 3.5 and table["repeats"].tolist() == [3, 3]


def test_memory_that_grows_is_called_growing():
    grown = app_speed.growth(ROWS)
    assert grown["slope_mb"] == pytest.approx(0.5) and grown["last_mb"] == 304.5
    for slope, word in ((0.5, "growing"), (0.001, "flat")):
        told = app_speed.text({"cores": 2}, app_speed.summary(ROWS), {**grown, "slope_mb": slope})
        assert f"interaction: {word}" in told


def test_a_missed_target_is_told():
    lines = app_speed.text({}, app_speed.summary(ROWS), app_speed.growth(ROWS)).splitlines()
    verdicts = {
        line.split("|")[1].strip(): line.split("|")[-2].strip() for line in lines if "|" in line
    }
    assert verdicts["open Image"] == "no" and verdicts["slider"] == "yes"
