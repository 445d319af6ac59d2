"""What is no object: a ground of textured regions, and clutter that is no closed class shape."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import numpy as np
from PIL import Image, ImageFilter

from svit.data.shapes.materials import (
    KINDS,
    cloud,
    colours,
    contrasting,
    coordinate,
    direction,
    ink,
    material,
    noise,
    object_kind,
    pixels,
)
from svit.data.shapes.outlines import FINE, Pen, flat, regular, rotated, stencil


def ground(
    random: np.random.Generator, size: int, regions: tuple[int, int], texture: tuple[float, float]
) -> Image.Image:
    """A ground, `size` pixels square.

    Args:
        regions: least and most parts with another texture.
        texture: how far a second colour is from the first one, from and to, 0 to 1.
    """
    canvas = _ground_material(random, size, texture)
    for _ in range(random.integers(regions[0], regions[1] + 1)):
        region = Image.fromarray(_region(random, size))
        canvas.paste(_ground_material(random, size, texture), mask=region)
    shade = cloud(random, size, size, 150 * size / 256)
    shade *= random.uniform(20, 110)
    dark = ink(colours(random, 1)[0] / 4)
    canvas.paste(dark, mask=Image.fromarray(shade.clip(0, 255).astype(np.uint8)))
    return canvas


def _ground_material(
    random: np.random.Generator, size: int, texture: tuple[float, float]
) -> Image.Image:
    pair = colours(random, 2)
    pair[1] = pair[0] + random.uniform(*texture) * (pair[1] - pair[0])
    return material(random, KINDS[random.integers(5)], (size, size), pair, size / 256)


def _region(random: np.random.Generator, size: int) -> np.ndarray:
    """Where the ground has another texture: uint8 (size, size), edges from crisp to vague."""
    unit = size / 256
    if random.random() < 0.5:
        level = (noise(random, size, size, size / random.uniform(1.5, 4)) - 0.5) * 120 * unit
    else:
        towards = direction(random)
        band = unit * random.uniform(15, 60)
        level = band - np.abs(coordinate(towards, size, size) - unit * random.uniform(-80, 80))
    level /= unit * math.exp(random.uniform(0, math.log(30)))
    level += 0.5
    return (np.clip(level, 0, 1, out=level) * 255).astype(np.uint8)


def add_clutter(
    random: np.random.Generator, canvas: Image.Image, count: int, mean: np.ndarray
) -> None:
    """Paints `count` things that are no objects in colours as objects have them.

    Args:
        mean: the mean colour of the ground, (3,).
    """
    unit = canvas.width / 256
    for name in random.choice(list(_CLUTTER), count):
        side = round(unit * math.exp(random.uniform(math.log(30), math.log(130))))
        thing = stencil(side, partial(_CLUTTER[name], random, unit=unit * FINE))
        if name == "vague blob":
            thing = thing.filter(ImageFilter.GaussianBlur(unit * random.uniform(3, 8)))
        corner = random.integers(-side // 3, canvas.width - side * 2 // 3, 2)
        around = pixels(canvas, corner + side / 2 + regular(24) * side / 3)
        pair = contrasting(random, around, mean)
        filling = material(random, object_kind(random), (side, side), pair, unit)
        canvas.paste(filling, (int(corner[0]), int(corner[1])), thing)


def _stroke(random: np.random.Generator, pen: Pen, side: int, unit: float) -> None:
    bends = random.normal(0, random.uniform(0.05, 0.5), 14)
    turns = bends.cumsum() + random.uniform(0, 2 * math.pi)
    path = np.stack([np.cos(turns), np.sin(turns)], 1).cumsum(0)
    path = (path - path.min(0)) / np.ptp(path, axis=0).max() * 0.8 + 0.1
    width = round(unit * random.uniform(2, 8))
    pen.line(flat(path * side), fill=255, width=width, joint="curve")


def _arc(random: np.random.Generator, pen: Pen, side: int, unit: float) -> None:
    start, span = random.uniform(0, 360), random.uniform(60, 230)
    box = (0.05 * side, 0.05 * side, 0.95 * side, random.uniform(0.6, 0.95) * side)
    pen.arc(box, start, start + span, fill=255, width=round(unit * random.uniform(2, 8)))


def _specks(random: np.random.Generator, pen: Pen, side: int, unit: float) -> None:
    centres = side * (0.5 + 0.17 * random.standard_normal((random.integers(10, 60), 2)))
    for (x, y), radius in zip(centres, unit * random.uniform(0.8, 3.0, len(centres)), strict=True):
        pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=255)


def _blob(random: np.random.Generator, pen: Pen, side: int, unit: float) -> None:
    """A long lobed blob."""
    turn = np.linspace(0, 2 * math.pi, 60, endpoint=False)
    waves = [
        random.uniform(0.1, 0.3) * np.cos(n * turn + random.uniform(0, 6.3)) for n in (2, 3, 5)
    ]
    radius = 1 + np.sum(waves, 0)
    points = np.stack([np.cos(turn), random.uniform(0.3, 0.55) * np.sin(turn)], 1) * radius[:, None]
    points = rotated(points, random.uniform(0, 2 * math.pi))
    pen.polygon(flat(side * (0.5 + 0.45 * points / np.abs(points).max())), fill=255)


def _lattice(random: np.random.Generator, pen: Pen, side: int, unit: float) -> None:
    angle, reach = random.uniform(0, math.pi), 0.33 * side
    step, width = unit * random.uniform(5, 12), round(unit * random.uniform(1.2, 3.5))
    for turn in (angle, angle + math.pi / 2)[: random.integers(1, 3)]:
        for offset in np.arange(-reach, reach, step):
            ends = side / 2 + rotated(np.array([(-reach, offset), (reach, offset)]), turn)
            pen.line(flat(ends), fill=255, width=width)


_CLUTTER: dict[str, Callable[[np.random.Generator, Pen, int, float], None]] = {
    "stroke": _stroke,
    "arc": _arc,
    "specks": _specks,
    "blob": _blob,
    "vague blob": _blob,  # blurred after drawing
    "lattice": _lattice,
}
