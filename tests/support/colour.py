"""Colours as viewers see them: contrast, CIEDE2000, viewers without red or green cones; tables of them.

PYTHONPATH=.:tests python -m support.colour     every text of the themes, every pair of the palette
"""

from __future__ import annotations

import configparser
import re
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path

import numpy as np
from matplotlib.colors import to_rgb

from analysis.figures import palette
from analysis.pages import parts

ROOT = Path(__file__).resolve().parents[2]
STYLE = Path(parts.__file__).parents[1] / "app.css"
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


def linear(colour: str | tuple[float, ...]) -> np.ndarray:
    """Linear RGB of an sRGB colour."""
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


def contrast(first: str | tuple[float, ...], second: str | tuple[float, ...]) -> float:
    """Contrast ratio of two colours as WCAG 2 has it, from 1 to 21."""
    low, high = sorted(float(XYZ[1] @ linear(colour)) for colour in (first, second))
    return (high + 0.05) / (low + 0.05)


def blended(colour: str, ground: str, opacity: float) -> tuple[float, float, float]:
    """A colour of that opacity over a ground, as a screen mixes them."""
    mixed = opacity * np.array(to_rgb(colour)) + (1 - opacity) * np.array(to_rgb(ground))
    return tuple(mixed.tolist())


def texts() -> Iterator[tuple[str, str, str, float]]:
    """Theme, text, ground and contrast of the words of the app: ink, soft words, what is primary."""
    config = configparser.ConfigParser()
    config.optionxform = str
    config.read(ROOT / ".streamlit" / "config.toml", encoding="utf-8")
    soft = soft_shares()
    for name in ("light", "dark"):
        theme = {**config["theme"], **config[f"theme.{name}"]}
        theme = {key: value.strip('"') for key, value in theme.items()}
        grounds = {"page": theme["backgroundColor"], "sidebar": theme["secondaryBackgroundColor"]}
        for place, ground in grounds.items():
            ink = theme["textColor"]
            yield name, "ink", place, contrast(ink, ground)
            for share in soft:
                colour = blended(ink, ground, share)
                yield name, f"soft words, {share:.0%} of the ink", place, contrast(colour, ground)
            yield name, "primary", place, contrast(theme["primaryColor"], ground)


def soft_shares() -> list[float]:
    """The opacities that the style sheet gives to soft words."""
    text = STYLE.read_text(encoding="utf-8")
    found = re.findall(r"(?<!-)opacity: ([0-9.]+)", text) + re.findall(
        r"fill-opacity: ([0-9.]+)", text
    )
    shares = [
        int(one) / 100
        for one in re.findall(r"(?<!-)color: color-mix\(in srgb, currentColor (\d+)%", text)
    ]
    return sorted({*map(float, found), *shares})


def distances(colours: tuple[str, ...]) -> Iterator[tuple[str, str, dict[str, float]]]:
    """Every pair of colours, and how far apart each viewer sees them."""
    for one, other in combinations(dict.fromkeys(colours), 2):
        yield (
            one,
            other,
            {
                name: difference(lab(seen @ linear(one)), lab(seen @ linear(other)))
                for name, seen in VIEWERS.items()
            },
        )


def main() -> None:
    """Prints both tables."""
    print("| theme | text | ground | contrast |\n| --- | --- | --- | ---: |")
    for theme, text, place, ratio in texts():
        print(f"| {theme} | {text} | {place} | {ratio:.2f} |")
    print(f"\n| colour | other | {' | '.join(VIEWERS)} |\n| --- | --- |{' ---: |' * len(VIEWERS)}")
    for colours in palette.APART:
        for one, other, seen in distances(colours):
            print(f"| {one} | {other} | {' | '.join(f'{value:.1f}' for value in seen.values())} |")


if __name__ == "__main__":
    main()
