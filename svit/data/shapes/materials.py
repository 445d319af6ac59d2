"""Colours and textures of the synthetic world. Lengths are pixels; `unit` is that of 256 x 256 pictures."""

from __future__ import annotations

import math

import numpy as np
from PIL import Image

KINDS = ("cloud", "grain", "stripes", "checker", "dots", "gradient")

_APART = 70.0  # weighted colour distance between an object and most of the ground around it
_LUMINANCE = np.sqrt(np.float32([0.7, 1.5, 0.8]))  # eyes see green best
_SHARES = Image.fromarray(np.arange(256, dtype=np.uint8)[None])


def noise(random: np.random.Generator, height: int, width: int, cell: float) -> np.ndarray:
    """Smooth noise in 0..1, float32 (height, width), with bumps of about `cell` pixels."""
    grid = random.random((math.ceil(height / cell) + 1, math.ceil(width / cell) + 1), np.float32)
    smooth = Image.fromarray(grid).resize((width, height), Image.Resampling.BICUBIC)
    return np.asarray(smooth)


def cloud(random: np.random.Generator, height: int, width: int, cell: float) -> np.ndarray:
    """Noise of three scales."""
    total = 0.5 * noise(random, height, width, max(1.5, cell))
    total += 0.3 * noise(random, height, width, max(1.5, cell / 3))
    total += 0.2 * noise(random, height, width, max(1.5, cell / 9))
    return total


def direction(random: np.random.Generator) -> tuple[np.float32, np.float32]:
    """A random unit vector x, y."""
    angle = random.uniform(0, 2 * math.pi)
    return np.float32(math.cos(angle)), np.float32(math.sin(angle))


def coordinate(towards: tuple[np.float32, np.float32], height: int, width: int) -> np.ndarray:
    """Pixels from the middle along a unit vector x, y: float32 (height, width)."""
    x = np.arange(width, dtype=np.float32)[None] - width / 2
    y = np.arange(height, dtype=np.float32)[:, None] - height / 2
    return x * towards[0] + y * towards[1]


def _pattern(
    random: np.random.Generator, kind: str, height: int, width: int, unit: float
) -> np.ndarray:
    """How much of the second colour each pixel takes: 0..1 and beyond, float32 (height, width)."""
    if kind == "cloud":
        return cloud(random, height, width, unit * random.uniform(12, 60))
    if kind == "grain":
        return noise(random, height, width, unit * random.uniform(1.5, 5))
    towards = direction(random)
    if kind == "gradient":
        return coordinate(towards, height, width) / np.float32(math.hypot(height, width)) + 0.5
    pitch = np.float32(2 * math.pi / (unit * random.uniform(6, 20)))
    wave = coordinate(towards, height, width)
    wave *= pitch
    if kind == "stripes":
        np.sin(wave, out=wave)
    else:
        across = coordinate((-towards[1], towards[0]), height, width)
        across *= pitch
        if kind == "checker":
            wave = np.sin(wave, out=wave) * np.sin(across, out=across)
        else:  # dots
            wave = np.cos(wave, out=wave) + np.cos(across, out=across) - 1
    wave *= np.float32(random.uniform(0.5, 2.5))
    wave += 0.5
    return wave


def material(
    random: np.random.Generator, kind: str, hw: tuple[int, int], colours: np.ndarray, unit: float
) -> Image.Image:
    """A picture of two colours (2, 3) mixed by a pattern of one of `KINDS`."""
    share = _pattern(random, kind, *hw, unit) * 255
    picture = Image.fromarray(np.clip(share, 0, 255, out=share).astype(np.uint8))
    # a palette of all 256 mixtures is several times faster than mixing each pixel
    mixtures = Image.new("RGB", _SHARES.size, ink(colours[0]))
    mixtures.paste(ink(colours[1]), mask=_SHARES)
    picture.putpalette(mixtures.tobytes())
    return picture.convert("RGB")


def object_kind(random: np.random.Generator) -> str:
    """Half of the materials are smooth: large objects then have little contrast inside."""
    return "gradient" if random.random() < 0.5 else KINDS[random.integers(5)]


def ink(colour: np.ndarray) -> tuple[int, int, int]:
    """A colour as Pillow takes it."""
    red, green, blue = (int(value) for value in colour)
    return red, green, blue


def colours(random: np.random.Generator, count: int) -> np.ndarray:
    """Colours 0..255, float32 (count, 3): all hues, soft and strong, neither black nor white."""
    hue = random.random((count, 1), np.float32)
    wheel = np.abs((hue + np.float32([0, 2 / 3, 1 / 3])) % 1 * 6 - 3) - 1
    strong = random.uniform(0.15, 0.9, (count, 1)).astype(np.float32)
    bright = random.uniform(0.25, 0.97, (count, 1)).astype(np.float32)
    return 255 * bright * (1 - strong + strong * np.clip(wheel, 0, 1))


def contrasting(random: np.random.Generator, around: np.ndarray, mean: np.ndarray) -> np.ndarray:
    """Two colours (2, 3) far from most of `around` (n, 3), yet rather near the mean colour (3,)."""
    offered = colours(random, 30)
    apart = (offered.T[:, :, None] - around.T[:, None]) * _LUMINANCE[:, None, None]
    apart *= apart  # (3, 30, n)
    gaps = np.sqrt(apart.sum(0))
    gap = np.partition(gaps, gaps.shape[1] // 8, axis=1)[:, gaps.shape[1] // 8]
    good = np.flatnonzero(gap >= _APART)
    if len(good) < 2:
        return offered[np.argsort(-gap)[:2]]
    nearest = good[np.argsort(np.linalg.norm(offered[good] - mean, axis=1))]
    return offered[random.permutation(nearest[: max(2, len(nearest) // 5)])[:2]]


def pixels(canvas: Image.Image, points: np.ndarray) -> np.ndarray:
    """Colours float32 (n, 3) at points (n, 2) as x, y; outside, those of the nearest pixel."""
    places, access = np.clip(points, 0, canvas.width - 1).astype(int).tolist(), canvas.load()
    return np.float32([access[x, y] for x, y in places])
