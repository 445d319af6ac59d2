"""The synthetic world: closed shapes among clutter with the same contrast and colours, as COCO folders.

A scene is a ground of textured regions, clutter that is no closed class shape (strokes, arcs,
specks, lobed and blurred blobs, lattices), and 1 to 8 objects of eight classes with exact visible
masks. Neither local contrast nor an unusual colour betrays an object: clutter has crisp edges too,
and an object takes colours near the image's mean that still differ from the ground right around it.

A scene is a function of its seed alone, and a COCO image id *is* that seed: `scene(image_id)` draws
the picture again. Bytes are the same for one release of numpy and Pillow; others may differ.
"""

from __future__ import annotations

import json
import math
import multiprocessing
import os
import shutil
import signal
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont
from pycocotools import mask as coco_mask

CLASSES = ("circle", "square", "triangle", "star", "ring", "cross", "hexagon", "heart")
VAL_SEEDS = 10**9  # validation seeds begin here, training seeds end here
VERSION = 1  # of the drawing: a change of any scene makes another data set

_FINE = 3  # stencils are drawn this much finer, then averaged: smooth edges
_HOLE = 0.58  # inner radius of a ring over its outer one
_VISIBLE = 0.55  # an object keeps at least this share of its full area
_SMALLEST = 100  # visible pixels, at 256 x 256
_APART = 70.0  # weighted colour distance between an object and most of the ground around it
_LUMINANCE = np.sqrt(np.float32([0.7, 1.5, 0.8]))  # eyes see green best
_PART = 50  # images in one unit of work
_QUALITY = 92
_MARKER = "shapes.json"


class ShapesError(RuntimeError):
    """A data set cannot be written into this folder; the message names the folder and the fix."""


@dataclass(frozen=True)
class Scene:
    """A picture and what is in it.

    Attributes:
        image: uint8 (size, size, 3), RGB.
        labels: int64 (n,), indices into `CLASSES`.
        masks: bool (n, size, size), the visible pixels; no two masks share one.
    """

    image: np.ndarray
    labels: np.ndarray
    masks: np.ndarray


@dataclass(frozen=True)
class _Mood:
    """What sets one kind of scene apart. Lengths are pixels of a 256 x 256 picture."""

    share: float
    objects: tuple[int, int]
    sides: tuple[float, float]  # of the square with the object's area
    clutter: tuple[int, int]
    regions: tuple[int, int]
    texture: tuple[float, float]  # how far a ground's second colour is from its first, 0 to 1


_MOODS = (
    _Mood(0.3, (1, 1), (30, 150), (0, 4), (0, 1), (0.05, 0.5)),  # nearly empty
    _Mood(0.35, (2, 5), (24, 150), (4, 9), (1, 3), (0.2, 0.8)),
    _Mood(0.35, (6, 8), (20, 100), (7, 13), (2, 4), (0.3, 0.9)),  # crowded
)


# --- outlines -------------------------------------------------------------------------------------


def _regular(corners: int, inner: float = 1.0) -> np.ndarray:
    """Corners of a regular polygon; with `inner` < 1 every second one is drawn in: a star."""
    turn = 2 * np.pi * np.arange(corners) / corners
    radius = np.where(np.arange(corners) % 2, inner, 1.0)
    return np.stack([np.cos(turn), np.sin(turn)], 1) * radius[:, None]


def _cross() -> np.ndarray:
    arm = 0.33
    corner = [(arm, 1), (arm, arm), (1, arm)]
    quarter = [np.linalg.matrix_power([[0, -1], [1, 0]], n) for n in range(4)]
    return np.concatenate([np.array(corner[::-1]) @ turn.T for turn in quarter])


def _heart() -> np.ndarray:
    """The well-known curve 16 sin^3 t, 13 cos t - 5 cos 2t - 2 cos 3t - cos 4t, centred."""
    t = np.linspace(0, 2 * np.pi, 49)[:-1]
    y = 13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t)
    return np.stack([16 * np.sin(t) ** 3, -y - 2.5], 1)


def _unit_area(corners: np.ndarray, hole: float = 0.0) -> np.ndarray:
    """The outline scaled to enclose area 1, less a hole of that relative size."""
    x, y = corners.T
    area = 0.5 * abs(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1)))
    return corners / math.sqrt(area * (1 - hole**2))


_OUTLINES = {
    "circle": _unit_area(_regular(64)),
    "square": _unit_area(_regular(4)),
    "triangle": _unit_area(_regular(3)),
    "star": _unit_area(_regular(10, inner=0.45)),
    "ring": _unit_area(_regular(64), hole=_HOLE),
    "cross": _unit_area(_cross()),
    "hexagon": _unit_area(_regular(6)),
    "heart": _unit_area(_heart()),
}


def _rotated(points: np.ndarray, angle: float) -> np.ndarray:
    cos, sin = math.cos(angle), math.sin(angle)
    return points @ np.array([[cos, sin], [-sin, cos]])


def _along(corners: np.ndarray, count: int = 40) -> np.ndarray:
    """Points evenly spread along a closed outline, (count, 2)."""
    closed = np.concatenate([corners, corners[:1]])
    walked = np.concatenate([[0], np.hypot(*np.diff(closed, axis=0).T).cumsum()])
    stops = np.linspace(0, walked[-1], count, endpoint=False)
    return np.stack([np.interp(stops, walked, axis) for axis in closed.T], 1)


# --- materials ------------------------------------------------------------------------------------


def _noise(random: np.random.Generator, height: int, width: int, cell: float) -> np.ndarray:
    """Smooth noise in 0..1, float32 (height, width), with bumps of about `cell` pixels."""
    grid = random.random((math.ceil(height / cell) + 1, math.ceil(width / cell) + 1), np.float32)
    smooth = Image.fromarray(grid).resize((width, height), Image.Resampling.BICUBIC)
    return np.asarray(smooth)


def _cloud(random: np.random.Generator, height: int, width: int, cell: float) -> np.ndarray:
    """Noise of three scales."""
    octaves = [_noise(random, height, width, max(1.5, cell / 3**n)) for n in range(3)]
    return 0.5 * octaves[0] + 0.3 * octaves[1] + 0.2 * octaves[2]


def _axes(random: np.random.Generator, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Two perpendicular coordinates in pixels at a random angle, each float32 (height, width)."""
    angle = random.uniform(0, 2 * math.pi)
    x = np.arange(width, dtype=np.float32)[None] - width / 2
    y = np.arange(height, dtype=np.float32)[:, None] - height / 2
    cos, sin = np.float32(math.cos(angle)), np.float32(math.sin(angle))
    return x * cos + y * sin, y * cos - x * sin


def _pattern(
    random: np.random.Generator, kind: str, height: int, width: int, unit: float
) -> np.ndarray:
    """How much of the second colour each pixel takes: 0..1, float32 (height, width)."""
    if kind == "cloud":
        return _cloud(random, height, width, unit * random.uniform(12, 60))
    if kind == "grain":
        return _noise(random, height, width, unit * random.uniform(1.5, 5))
    along, across = _axes(random, height, width)
    if kind == "gradient":
        return along / np.float32(math.hypot(height, width)) + 0.5
    pitch = np.float32(2 * math.pi / (unit * random.uniform(6, 20)))
    if kind == "stripes":
        wave = np.sin(along * pitch)
    elif kind == "checker":
        wave = np.sin(along * pitch) * np.sin(across * pitch)
    else:  # dots
        wave = np.cos(along * pitch) + np.cos(across * pitch) - 1
    return wave * np.float32(random.uniform(0.5, 2.5)) + 0.5


_KINDS = ("cloud", "grain", "stripes", "checker", "dots", "gradient")


def _material(
    random: np.random.Generator, kind: str, hw: tuple[int, int], colours: np.ndarray, unit: float
) -> Image.Image:
    """A picture of two colours (2, 3) mixed by a pattern."""
    share = np.clip(_pattern(random, kind, *hw, unit) * 255, 0, 255).astype(np.uint8)
    picture = Image.new("RGB", hw[::-1], _ink(colours[0]))
    picture.paste(_ink(colours[1]), mask=Image.fromarray(share))
    return picture


def _ink(colour: np.ndarray) -> tuple[int, int, int]:
    red, green, blue = (int(value) for value in colour)
    return red, green, blue


def _colours(random: np.random.Generator, count: int) -> np.ndarray:
    """Colours 0..255, float32 (count, 3): all hues, soft and strong, neither black nor white."""
    hue = random.random((count, 1), np.float32)
    wheel = np.abs((hue + np.float32([0, 2 / 3, 1 / 3])) % 1 * 6 - 3) - 1
    strong = random.uniform(0.15, 0.9, (count, 1)).astype(np.float32)
    bright = random.uniform(0.25, 0.97, (count, 1)).astype(np.float32)
    return 255 * bright * (1 - strong + strong * np.clip(wheel, 0, 1))


def _contrasting(random: np.random.Generator, around: np.ndarray, mean: np.ndarray) -> np.ndarray:
    """Two colours (2, 3) far from most of `around` (n, 3), yet rather near the mean colour (3,)."""
    offered = _colours(random, 30)
    gaps = np.linalg.norm((offered[:, None] - around[None]) * _LUMINANCE, axis=2)
    gap = np.partition(gaps, gaps.shape[1] // 8, axis=1)[:, gaps.shape[1] // 8]
    good = np.flatnonzero(gap >= _APART)
    if len(good) < 2:
        return offered[np.argsort(-gap)[:2]]
    nearest = good[np.argsort(np.linalg.norm(offered[good] - mean, axis=1))]
    return offered[random.permutation(nearest[: max(2, len(nearest) // 5)])[:2]]


# --- the ground -----------------------------------------------------------------------------------


def _ground(random: np.random.Generator, mood: _Mood, size: int) -> Image.Image:
    unit = size / 256
    canvas = _ground_material(random, mood, size)
    for _ in range(random.integers(mood.regions[0], mood.regions[1] + 1)):
        region = Image.fromarray(_region(random, size))
        canvas.paste(_ground_material(random, mood, size), mask=region)
    shade = _cloud(random, size, size, 150 * unit) * random.uniform(20, 110)
    dark = _ink(_colours(random, 1)[0] / 4)
    canvas.paste(dark, mask=Image.fromarray(shade.clip(0, 255).astype(np.uint8)))
    return canvas


def _ground_material(random: np.random.Generator, mood: _Mood, size: int) -> Image.Image:
    colours = _colours(random, 2)
    colours[1] = colours[0] + random.uniform(*mood.texture) * (colours[1] - colours[0])
    return _material(random, _KINDS[random.integers(5)], (size, size), colours, size / 256)


def _region(random: np.random.Generator, size: int) -> np.ndarray:
    """Where the ground has another texture: uint8 (size, size), edges from crisp to vague."""
    unit = size / 256
    if random.random() < 0.5:
        level = (_noise(random, size, size, size / random.uniform(1.5, 4)) - 0.5) * 120 * unit
    else:
        along, _ = _axes(random, size, size)
        band = unit * random.uniform(15, 60)
        level = band - np.abs(along - unit * random.uniform(-80, 80))
    softness = unit * math.exp(random.uniform(0, math.log(30)))
    return (np.clip(level / softness + 0.5, 0, 1) * 255).astype(np.uint8)


# --- clutter: stencils that are no closed class shape ---------------------------------------------

_Pen = ImageDraw.ImageDraw


def _stroke(random: np.random.Generator, pen: _Pen, side: int, unit: float) -> None:
    bends = random.normal(0, random.uniform(0.05, 0.5), 14)
    turns = bends.cumsum() + random.uniform(0, 2 * math.pi)
    path = np.stack([np.cos(turns), np.sin(turns)], 1).cumsum(0)
    path = (path - path.min(0)) / np.ptp(path, axis=0).max() * 0.8 + 0.1
    width = round(unit * random.uniform(2, 8))
    pen.line(_flat(path * side), fill=255, width=width, joint="curve")


def _arc(random: np.random.Generator, pen: _Pen, side: int, unit: float) -> None:
    start, span = random.uniform(0, 360), random.uniform(60, 230)
    box = (0.05 * side, 0.05 * side, 0.95 * side, random.uniform(0.6, 0.95) * side)
    pen.arc(box, start, start + span, fill=255, width=round(unit * random.uniform(2, 8)))


def _specks(random: np.random.Generator, pen: _Pen, side: int, unit: float) -> None:
    centres = side * (0.5 + 0.17 * random.standard_normal((random.integers(10, 60), 2)))
    for (x, y), radius in zip(centres, unit * random.uniform(0.8, 3.0, len(centres)), strict=True):
        pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=255)


def _blob(random: np.random.Generator, pen: _Pen, side: int, unit: float) -> None:
    """A long lobed blob."""
    turn = np.linspace(0, 2 * math.pi, 60, endpoint=False)
    waves = [
        random.uniform(0.1, 0.3) * np.cos(n * turn + random.uniform(0, 6.3)) for n in (2, 3, 5)
    ]
    radius = 1 + np.sum(waves, 0)
    points = np.stack([np.cos(turn), random.uniform(0.3, 0.55) * np.sin(turn)], 1) * radius[:, None]
    points = _rotated(points, random.uniform(0, 2 * math.pi))
    pen.polygon(_flat(side * (0.5 + 0.45 * points / np.abs(points).max())), fill=255)


def _lattice(random: np.random.Generator, pen: _Pen, side: int, unit: float) -> None:
    angle, reach = random.uniform(0, math.pi), 0.33 * side
    step, width = unit * random.uniform(5, 12), round(unit * random.uniform(1.2, 3.5))
    for turn in (angle, angle + math.pi / 2)[: random.integers(1, 3)]:
        for offset in np.arange(-reach, reach, step):
            ends = side / 2 + _rotated(np.array([(-reach, offset), (reach, offset)]), turn)
            pen.line(_flat(ends), fill=255, width=width)


_CLUTTER: dict[str, Callable[[np.random.Generator, _Pen, int, float], None]] = {
    "stroke": _stroke,
    "arc": _arc,
    "specks": _specks,
    "blob": _blob,
    "vague blob": _blob,  # blurred after drawing
    "lattice": _lattice,
}


def _flat(points: np.ndarray) -> list[float]:
    """x, y, x, y, ... as Pillow takes them fastest."""
    return points.ravel().tolist()


def _stencil(side: int, draw: Callable[[_Pen, int], None]) -> Image.Image:
    """Draws on a fine square and averages it down: coverage 0..255, mode L, `side` pixels."""
    fine = Image.new("L", (side * _FINE, side * _FINE))
    draw(ImageDraw.Draw(fine), side * _FINE)
    return fine.reduce(_FINE)


def _add_clutter(
    random: np.random.Generator, canvas: Image.Image, count: int, mean: np.ndarray
) -> None:
    unit = canvas.width / 256
    for name in random.choice(list(_CLUTTER), count):
        side = round(unit * math.exp(random.uniform(math.log(30), math.log(130))))
        draw = partial(_CLUTTER[name], random, unit=unit * _FINE)
        stencil = _stencil(side, draw)
        if name == "vague blob":
            stencil = stencil.filter(ImageFilter.GaussianBlur(unit * random.uniform(3, 8)))
        corner = random.integers(-side // 3, canvas.width - side * 2 // 3, 2)
        middle = corner + side / 2
        around = _pixels(canvas, middle + _regular(24) * side / 3)
        colours = _contrasting(random, around, mean)
        material = _material(random, _object_kind(random), (side, side), colours, unit)
        canvas.paste(material, (int(corner[0]), int(corner[1])), stencil)


# --- objects --------------------------------------------------------------------------------------


def _object_kind(random: np.random.Generator) -> str:
    """Half of the materials are smooth: large objects then have little contrast inside."""
    return "gradient" if random.random() < 0.5 else _KINDS[random.integers(5)]


def _pixels(canvas: Image.Image, points: np.ndarray) -> np.ndarray:
    """Colours float32 (n, 3) at points (n, 2) as x, y; outside, those of the nearest pixel."""
    places = np.clip(points, 0, canvas.width - 1).astype(int).tolist()
    return np.float32([canvas.getpixel(place) for place in places])


class _Painter:
    """Puts objects on a canvas and keeps the books of who owns which pixel."""

    def __init__(
        self, random: np.random.Generator, canvas: Image.Image, mean: np.ndarray, bias: bool
    ) -> None:
        self.random, self.canvas, self.mean, self.bias = random, canvas, mean, bias
        self.size, self.unit = canvas.width, canvas.width / 256
        self.owner = np.full((self.size, self.size), -1, np.int8)
        self.labels: list[int] = []
        self.needed: list[float] = []  # visible pixels each object has to keep

    def add(self, label: int, side: float) -> None:
        """Paints an object where it hides no other too much, or nothing where there is no place."""
        name, random = CLASSES[label], self.random
        outline = _rotated(_OUTLINES[name], random.uniform(0, 2 * math.pi)) * side
        reach = math.ceil(np.abs(outline).max()) + 2
        stencil = _stencil(2 * reach, lambda pen, fine: _draw_object(pen, fine, outline, name))
        solid = np.asarray(stencil) >= 128
        needed = max(_VISIBLE * solid.sum(), _SMALLEST * self.unit**2)
        for _ in range(30):
            centre = self._position(reach)
            if self._fits(solid, centre - reach, needed):
                self._paint(name, stencil, solid, centre, outline)
                self.labels.append(label)
                self.needed.append(needed)
                return

    def _position(self, reach: int) -> np.ndarray:
        """Integer centre x, y; at most a small part of the object lies outside the picture."""
        least, most = 0.7 * reach, self.size - 0.7 * reach
        if not self.bias:
            return self.random.uniform(least, most, 2).astype(int)
        wish = self.random.normal(self.size / 2, 0.16 * self.size, 2)
        return np.clip(wish, least, most).astype(int)

    def _window(self, solid: np.ndarray, corner: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The owners below a stencil and the stencil itself, both cut at the picture's border."""
        x, y = (int(v) for v in corner)
        inside = solid[max(0, -y) : self.size - y, max(0, -x) : self.size - x]
        return self.owner[max(0, y) : y + len(solid), max(0, x) : x + len(solid)], inside

    def _fits(self, solid: np.ndarray, corner: np.ndarray, needed: float) -> bool:
        owners, inside = self._window(solid, corner)
        if inside.sum() < needed:
            return False
        hidden = self._counts(owners[inside])
        return bool((self._counts(self.owner) - hidden >= self.needed).all())

    def _counts(self, owners: np.ndarray) -> np.ndarray:
        """How many of the pixels belong to each object, (objects,)."""
        return np.array([np.count_nonzero(owners == n) for n in range(len(self.labels))])

    def _paint(
        self,
        name: str,
        stencil: Image.Image,
        solid: np.ndarray,
        centre: np.ndarray,
        outline: np.ndarray,
    ) -> None:
        reach = stencil.width // 2
        near = _along(outline) * (1 + 3 * self.unit / reach)
        near = near if name != "ring" else np.concatenate([near, near * (_HOLE - 0.1)])
        colours = _contrasting(self.random, _pixels(self.canvas, centre + near), self.mean)
        kind = _object_kind(self.random)
        material = _material(self.random, kind, (2 * reach, 2 * reach), colours, self.unit)
        corner = centre - reach
        self.canvas.paste(material, (int(corner[0]), int(corner[1])), stencil)
        owners, inside = self._window(solid, corner)
        owners[inside] = len(self.labels)

    def masks(self) -> np.ndarray:
        return self.owner[None] == np.arange(len(self.labels), dtype=np.int8)[:, None, None]


def _draw_object(pen: _Pen, fine: int, outline: np.ndarray, name: str) -> None:
    pen.polygon(_flat(outline * _FINE + fine / 2), fill=255)
    if name == "ring":
        pen.polygon(_flat(outline * _HOLE * _FINE + fine / 2), fill=0)


def scene(seed: int, size: int = 256, centre_bias: bool = True) -> Scene:
    """Draws one scene.

    Args:
        seed: not negative; the scene depends on nothing else.
        size: side of the picture in pixels; everything in it grows along.
        centre_bias: objects gather around the middle as photographs have it (paper Fig. 6).

    Returns: a scene with at least one object.
    """
    random = np.random.default_rng(seed)
    mood = _MOODS[random.choice(len(_MOODS), p=[mood.share for mood in _MOODS])]
    canvas = _ground(random, mood, size)
    mean = np.asarray(canvas.reduce(16), np.float32).mean((0, 1))
    _add_clutter(random, canvas, int(random.integers(mood.clutter[0], mood.clutter[1] + 1)), mean)
    painter = _Painter(random, canvas, mean, centre_bias)
    for _ in range(random.integers(mood.objects[0], mood.objects[1] + 1)):
        side = size / 256 * math.exp(random.uniform(*np.log(mood.sides)))
        painter.add(int(random.integers(len(CLASSES))), side)
    return Scene(_grainy(random, canvas), np.array(painter.labels, np.int64), painter.masks())


def _grainy(random: np.random.Generator, canvas: Image.Image) -> np.ndarray:
    """The picture with noise as a camera's: up to 8 of 255 each way."""
    grain = random.integers(0, 256, (canvas.height, canvas.width, 1), np.uint8) - np.float32(127.5)
    grain = (grain * np.float32(random.uniform(0, 8 / 127.5))).astype(np.int16)
    return np.clip(np.asarray(canvas) + grain, 0, 255).astype(np.uint8)


# --- a data set -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Part:
    """One unit of work: images `seeds`, written whole before their annotations are."""

    out: Path
    split: str
    seeds: range
    size: int
    centre_bias: bool

    @property
    def file(self) -> Path:
        return self.out / "parts" / f"{self.split}-{self.seeds.start:012d}.json"


def write_dataset(
    out: Path | str,
    train: int,
    val: int,
    seed: int,
    size: int = 256,
    centre_bias: bool = True,
    workers: int = 2,
    progress: bool = True,
) -> None:
    """Writes `{train,val}2017/` and `annotations/instances_{train,val}2017.json` as COCO has them.

    Training images have the seeds `seed`, `seed + 1`, ...; validation images the same plus
    `VAL_SEEDS`: whatever the seeds, no validation image is in a training set. The bytes depend on
    the arguments alone, not on `workers`. A call that was interrupted goes on when it is repeated;
    a finished data set is left as it is.

    Args:
        out: folder to write; new, empty, or begun by the same call.
        train: number of training images.
        val: number of validation images.
        seed: of the first training image; `seed + max(train, val)` must not pass `VAL_SEEDS`.
        size: side of the pictures in pixels.
        centre_bias: see `scene`.
        workers: processes; with 1 everything happens in this one.
        progress: shows a bar.

    Raises:
        ValueError: an argument is out of range.
        ShapesError: the folder holds something else, or cannot be written.
    """
    out = Path(out)
    if min(train, val, seed) < 0 or seed + max(train, val) > VAL_SEEDS or size < 64 or workers < 1:
        raise ValueError(
            f"expected train, val, seed >= 0, seed + images <= {VAL_SEEDS}, size >= 64, "
            f"workers >= 1; found {train=}, {val=}, {seed=}, {size=}, {workers=}"
        )
    recipe = {"train": train, "val": val, "seed": seed, "size": size, "centre_bias": centre_bias}
    splits = {
        "train2017": range(seed, seed + train),
        "val2017": range(VAL_SEEDS + seed, VAL_SEEDS + seed + val),
    }
    try:
        _claim(out, {"generator": "svit shapes", "version": VERSION, **recipe})
        missing = {split: seeds for split, seeds in splits.items() if not _done(out, split, seeds)}
        _write_splits(out, missing, recipe, workers, progress)
    except OSError as error:
        raise ShapesError(
            f"{out}: {error.strerror or error}; what is finished stays: repeat the command when "
            "there is room and the folder may be written"
        ) from error


def _write_splits(
    out: Path, splits: dict[str, range], recipe: dict[str, Any], workers: int, progress: bool
) -> None:
    for folder in ("annotations", "parts", *splits) if splits else ():
        (out / folder).mkdir(exist_ok=True)
    parts = [
        _Part(out, split, seeds[start : start + _PART], recipe["size"], recipe["centre_bias"])
        for split, seeds in splits.items()
        for start in range(0, len(seeds), _PART)
    ]
    _write_parts([part for part in parts if not part.file.exists()], workers, progress)
    for split in splits:
        _join(out, split, [part.file for part in parts if part.split == split], recipe)
    if (out / "parts").exists():
        shutil.rmtree(out / "parts")


def _claim(out: Path, recipe: dict[str, Any]) -> None:
    """Marks an empty folder as this data set; refuses a folder that holds anything else."""
    marker = out / _MARKER
    out.mkdir(parents=True, exist_ok=True)
    if not marker.exists():
        found = sorted(path.name for path in out.iterdir())
        if found:
            raise ShapesError(
                f"{out} holds {', '.join(found[:3])} and no {_MARKER}: this is no shapes data set, "
                "choose a new or empty folder"
            )
        _write(marker, _as_json(recipe))
    there = json.loads(marker.read_text(encoding="utf-8"))
    if there != recipe:
        keys = [key for key in {**there, **recipe} if there.get(key) != recipe.get(key)]
        lines = [f"{key}: {there.get(key)} there, {recipe.get(key)} asked" for key in keys]
        raise ShapesError(
            f"{out} holds another shapes data set ({'; '.join(lines)}): choose another folder, "
            "or delete this one"
        )


def _done(out: Path, split: str, seeds: range) -> bool:
    if not _annotations(out, split).exists():
        return False
    return {_file_name(seed) for seed in seeds} <= {path.name for path in (out / split).iterdir()}


def _annotations(out: Path, split: str) -> Path:
    return out / "annotations" / f"instances_{split}.json"


def _file_name(seed: int) -> str:
    return f"{seed:012d}.jpg"


def _write_parts(parts: list[_Part], workers: int, progress: bool) -> None:
    from tqdm import tqdm  # only a data set that is written needs it, not a scene

    total = sum(len(part.seeds) for part in parts)
    with tqdm(total=total, unit="image", disable=None if progress else True) as bar:
        for done in _spread(parts, min(workers, len(parts))):
            bar.update(done)


def _spread(parts: list[_Part], workers: int) -> Iterator[int]:
    """Images written, part by part. Leaving early, by Ctrl-C too, stops the processes."""
    if workers <= 1:
        yield from map(_write_part, parts)
        return
    # not fork: a copy of a process in which torch has threads may hang
    context = multiprocessing.get_context("spawn")
    with context.Pool(workers, signal.signal, (signal.SIGINT, signal.SIG_IGN)) as pool:
        yield from pool.imap_unordered(_write_part, parts)


def _write_part(part: _Part) -> int:
    records = []
    for seed in part.seeds:
        drawn = scene(seed, part.size, part.centre_bias)
        _write(part.out / part.split / _file_name(seed), _jpeg(drawn.image))
        records.append({"image": _image_record(seed, part.size), "objects": _objects(drawn)})
    _write(part.file, _as_json(records))
    return len(part.seeds)


def _image_record(seed: int, size: int) -> dict[str, Any]:
    return {
        "id": seed,
        "file_name": _file_name(seed),
        "height": size,
        "width": size,
        "license": 1,
    }


def _objects(drawn: Scene) -> list[dict[str, Any]]:
    """COCO annotations of a scene, still without ids."""
    runs = coco_mask.encode(np.asfortranarray(drawn.masks.transpose(1, 2, 0), np.uint8))
    boxes, areas = coco_mask.toBbox(runs).tolist(), coco_mask.area(runs).tolist()
    return [
        {
            "category_id": int(label) + 1,
            "bbox": box,
            "area": area,
            "iscrowd": 0,
            "segmentation": {"size": run["size"], "counts": run["counts"].decode("ascii")},
        }
        for label, box, area, run in zip(drawn.labels, boxes, areas, runs, strict=True)
    ]


def _join(out: Path, split: str, parts: list[Path], recipe: dict[str, Any]) -> None:
    """Makes one COCO file of the parts, with annotations numbered from 1."""
    records = [record for part in parts for record in json.loads(part.read_bytes())]
    objects = [
        {"image_id": record["image"]["id"], **found}
        for record in records
        for found in record["objects"]
    ]
    whole = {
        "info": {
            "description": f"SViT workbench shapes, {split}",
            "version": str(VERSION),
            **recipe,
        },
        "licenses": [
            {
                "id": 1,
                "name": "CC0 1.0",
                "url": "https://creativecommons.org/publicdomain/zero/1.0/",
            }
        ],
        "images": [record["image"] for record in records],
        "annotations": [{"id": number, **found} for number, found in enumerate(objects, 1)],
        "categories": [
            {"id": number, "name": name, "supercategory": "shape"}
            for number, name in enumerate(CLASSES, 1)
        ],
    }
    _write(_annotations(out, split), _as_json(whole))


def _jpeg(image: np.ndarray) -> bytes:
    """JPEG without colour subsampling: edges between colours stay crisp."""
    buffer = BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=_QUALITY, subsampling=0)
    return buffer.getvalue()


def _as_json(content: Any) -> bytes:
    return json.dumps(content, separators=(",", ":")).encode()


def _write(path: Path, content: bytes) -> None:
    """Writes a file whole or not at all."""
    beside = path.with_name(path.name + ".unfinished")
    beside.write_bytes(content)
    os.replace(beside, path)


# --- a sheet to look at ---------------------------------------------------------------------------

_INKS = ("#ff5d5d", "#ffd23f", "#58e07a", "#4fd8ff", "#ff8df0", "#ffffff", "#ffa24c", "#b79bff")


def contact_sheet(scenes: Sequence[Scene], columns: int) -> Image.Image:
    """Scenes side by side, every object outlined and named in the colour of its class."""
    size, gap = scenes[0].image.shape[0], 6
    rows = math.ceil(len(scenes) / columns)
    sheet = Image.new("RGB", (columns * (size + gap) + gap, rows * (size + gap) + gap), "white")
    for index, drawn in enumerate(scenes):
        row, column = divmod(index, columns)
        sheet.paste(_outlined(drawn), (gap + column * (size + gap), gap + row * (size + gap)))
    return sheet


def _outlined(drawn: Scene) -> Image.Image:
    picture = Image.fromarray(drawn.image)
    for label, mask in zip(drawn.labels, drawn.masks, strict=True):
        solid = Image.fromarray(mask.astype(np.uint8) * 255)
        edge = np.asarray(solid.filter(ImageFilter.MaxFilter(3))) > np.asarray(solid)
        picture.paste(_INKS[label], mask=Image.fromarray(edge.astype(np.uint8) * 255))
    for label, mask in zip(drawn.labels, drawn.masks, strict=True):
        _name_tag(ImageDraw.Draw(picture), mask, int(label))
    return picture


def _name_tag(pen: _Pen, mask: np.ndarray, label: int) -> None:
    font = ImageFont.load_default(size=10)
    x, y = int(np.flatnonzero(mask.any(0))[0]), max(0, int(np.flatnonzero(mask.any(1))[0]) - 12)
    x = min(x, mask.shape[1] - 44)
    pen.rectangle(pen.textbbox((x, y), CLASSES[label], font=font), fill="#202020")
    pen.text((x, y), CLASSES[label], fill=_INKS[label], font=font)
