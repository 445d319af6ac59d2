"""One palette by meaning: colours that must be told apart are, by everybody; words can be read."""

from __future__ import annotations

import re
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from matplotlib.colors import to_rgb

from analysis.figures import palette

ANALYSIS = Path(palette.__file__).parents[1]
GROUNDS = {"paper": "#ffffff", "dark page": "#0e1117"}
VIEWERS = {  # Machado, Oliveira, Fernandes 2009, severity 1, on linear RGB
    "three cones": np.eye(3),
    "deuteranope": np.array(
        [
            [0.367322, 0.860646, -0.227968],
            [0.280085, 0.672501, 0.047413],
            [-0.011820, 0.042940, 0.968881],
        ]
    ),
    "protanope": np.array(
        [
            [0.152286, 1.052583, -0.204868],
            [0.114503, 0.786281, 0.099216],
            [-0.003882, -0.048116, 1.051998],
        ]
    ),
}
XYZ = np.array(
    [
        [0.4124564, 0.3575761, 0.1804375],
        [0.2126729, 0.7151522, 0.0721750],
        [0.0193339, 0.1191920, 0.9503041],
    ]
)


def linear(colour: str) -> np.ndarray:
    values = np.array(to_rgb(colour))
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def lab(rgb: np.ndarray) -> np.ndarray:
    """CIELAB (D65) of linear RGB."""
    shares = XYZ @ np.clip(rgb, 0, 1) / XYZ.sum(axis=1)
    x, y, z = np.where(shares > (6 / 29) ** 3, np.cbrt(shares), shares * 841 / 108 + 4 / 29)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def difference(first: np.ndarray, second: np.ndarray) -> float:
    """CIEDE2000 (Sharma, Wu, Dalal 2005) of two CIELAB colours."""
    (light, a, b), (light_2, a_2, b_2) = first, second
    chroma = (np.hypot(a, b) + np.hypot(a_2, b_2)) / 2
    stretch = 1.5 - 0.5 * np.sqrt(chroma**7 / (chroma**7 + 25.0**7))
    c, c_2 = np.hypot(a * stretch, b), np.hypot(a_2 * stretch, b_2)
    hue, hue_2 = (np.degrees(np.arctan2(y, x * stretch)) % 360 for x, y in ((a, b), (a_2, b_2)))
    turn = (hue_2 - hue + 180) % 360 - 180 if c * c_2 else 0.0
    middle = np.radians(hue + turn / 2 if c * c_2 else hue + hue_2)
    weight = 1 - 0.17 * np.cos(middle - np.radians(30)) + 0.24 * np.cos(2 * middle)
    weight += 0.32 * np.cos(3 * middle + np.radians(6)) - 0.2 * np.cos(4 * middle - np.radians(63))
    bright, mean = (light + light_2) / 2 - 50, (c + c_2) / 2
    by_light = (light_2 - light) / (1 + 0.015 * bright**2 / np.sqrt(20 + bright**2))
    by_chroma = (c_2 - c) / (1 + 0.045 * mean)
    by_hue = 2 * np.sqrt(c * c_2) * np.sin(np.radians(turn) / 2) / (1 + 0.015 * mean * weight)
    angle = np.radians(60 * np.exp(-(((np.degrees(middle) % 360 - 275) / 25) ** 2)))
    blue = -2 * np.sqrt(mean**7 / (mean**7 + 25.0**7)) * np.sin(angle)
    return float(np.sqrt(by_light**2 + by_chroma**2 + by_hue**2 + blue * by_chroma * by_hue))


def contrast(first: str, second: str) -> float:
    low, high = sorted(float(XYZ[1] @ linear(colour)) for colour in (first, second))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize(
    ("first", "second", "expected"),  # of the table in Sharma, Wu, Dalal 2005
    [
        ((50, 2.6772, -79.7751), (50, 0, -82.7485), 2.0425),
        ((50, 2.5, 0), (73, 25, -18), 27.1492),
        ((60.2574, -34.0099, 36.2677), (60.4626, -34.1751, 39.4387), 1.2644),
        ((22.7233, 20.0904, -46.6940), (23.0331, 14.9730, -42.5619), 2.0373),
    ],
)
def test_the_difference_is_that_of_the_published_table(first, second, expected):
    assert difference(np.array(first), np.array(second)) == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("viewer", VIEWERS)
@pytest.mark.parametrize("colours", palette.APART, ids=lambda colours: "-".join(colours)[:40])
def test_what_stands_in_one_chart_is_told_apart(viewer: str, colours: tuple[str, ...]):
    seen = {colour: lab(VIEWERS[viewer] @ linear(colour)) for colour in colours}
    for one, other in combinations(seen, 2):
        assert difference(seen[one], seen[other]) >= 11, (one, other)


def test_words_are_read_on_their_grounds():
    assert contrast(palette.INK, GROUNDS["paper"]) >= 7
    assert contrast(palette.SOFT, GROUNDS["paper"]) >= 4.5
    assert contrast(palette.SOFT, GROUNDS["dark page"]) >= 4
    assert contrast(palette.PALE, GROUNDS["dark page"]) >= 4.5
    assert contrast(palette.SLATE, GROUNDS["paper"]) >= 4.5


def test_a_colour_has_one_meaning():
    groups = [
        "USED",
        "LATER",
        "NEXT",
        "NEVER",
        "PRUNED",
        "CARRIED",
        "BELOW",
        "INSIDE",
        "CONTOUR",
        "BACKGROUND",
        "FOUND",
        "MISSED",
    ]
    groups += ["GAINED", "LOST", "ONLY_FIRST", "ONLY_SECOND", "HERE", "HOVER", "BLOCKS", "CHOOSING"]
    named = [getattr(palette, name) for name in groups] + list(palette.LINES)
    assert len(named) == len(set(named))


ALLOWED = {  # file -> why it holds colours of its own
    "figures/palette.py": "the palette",
    "figures/canvas/token_maps.py": "veil and ground, no meaning",
    "figures/rates/stages.py": "fourteen stages of the network",
    "pages/parts/compare/charts.py": "twelve modules of the network",
    "pages/parts/shell.py": "inks of the dark theme",
}


def test_colours_stand_in_the_palette():
    found = {
        path.relative_to(ANALYSIS).as_posix()
        for path in ANALYSIS.rglob("*.py")
        if re.search(r'"#[0-9a-fA-F]{6}"', path.read_text(encoding="utf-8"))
    }
    assert found <= set(ALLOWED), "colours without a meaning"
