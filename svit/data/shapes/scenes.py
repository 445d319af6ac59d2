"""A whole scene: the ground, its clutter, and objects with the books of who owns which pixel."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from PIL import Image

from svit.data.shapes.materials import contrasting, material, object_kind, pixels
from svit.data.shapes.outlines import CLASSES, HOLE, OUTLINES, along, object_stencil, rotated
from svit.data.shapes.scenery import add_clutter, ground

_VISIBLE = 0.55  # an object keeps at least this share of its full area
SMALLEST = 100  # visible pixels, at 256 x 256


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


def scene(seed: int, size: int = 256, centre_bias: bool = True) -> Scene:
    """Draws one scene.

    Args:
        seed: not negative; the scene depends on nothing else.
        size: side of the picture in pixels; everything in it grows along.
        centre_bias: objects gather around the middle as photographs have it (paper Fig. 6).

    Returns: a scene with at least one object.
    """
    random = np.random.default_rng(seed)
    _, painter = painted(random, size, centre_bias)
    grain, strength = grain_of(random, size)
    image = grainy(painter.canvas, grain, strength)
    return Scene(image, np.array(painter.labels, np.int64), painter.masks())


def painted(
    random: np.random.Generator, size: int, centre_bias: bool
) -> tuple[Image.Image, Painter]:
    """The ground with its clutter, and a painter who has put all objects on a copy of it; arguments as of
    `scene`."""
    mood = _MOODS[random.choice(len(_MOODS), p=[mood.share for mood in _MOODS])]
    canvas = ground(random, size, mood.regions, mood.texture)
    mean = np.asarray(canvas.reduce(16), np.float32).mean((0, 1))
    add_clutter(random, canvas, int(random.integers(mood.clutter[0], mood.clutter[1] + 1)), mean)
    painter = Painter(random, canvas.copy(), mean, centre_bias)
    for _ in range(random.integers(mood.objects[0], mood.objects[1] + 1)):
        side = size / 256 * math.exp(random.uniform(*np.log(mood.sides)))
        painter.add(int(random.integers(len(CLASSES))), side)
    return canvas, painter


def grain_of(random: np.random.Generator, size: int) -> tuple[np.ndarray, np.float32]:
    """Noise as a camera's, float32 (size, size) in -127.5..127.5, and what it is multiplied with: up to 8 of
    255 each way."""
    return raw_grain(random, size), np.float32(random.uniform(0, 8 / 127.5))


def raw_grain(random: np.random.Generator, size: int) -> np.ndarray:
    """Noise of full strength: float32 (size, size) in -127.5..127.5."""
    return random.integers(0, 256, (size, size), np.uint8) - np.float32(127.5)


def grainy(canvas: Image.Image, grain: np.ndarray, strength: np.float32) -> np.ndarray:
    """The picture with noise, alike in all colours: uint8 (size, size, 3)."""
    grain = (grain * strength).astype(np.int16)
    picture = np.asarray(canvas).astype(np.int16)
    for channel in range(3):  # numpy is slow where the innermost axis has three elements
        picture[..., channel] += grain
    return np.clip(picture, 0, 255, out=picture).astype(np.uint8)


@dataclass(frozen=True)
class Thing:
    """An object as it was painted.

    Attributes:
        label: index into `CLASSES`.
        stencil: its coverage 0..255, mode L, a square.
        filling: its pixels, RGB, of the same size.
        corner: int64 (2,), x and y of the square's first pixel in the picture.
    """

    label: int
    stencil: Image.Image
    filling: Image.Image
    corner: np.ndarray

    @property
    def solid(self) -> np.ndarray:
        """bool (side, side), the pixels that are the object's."""
        return np.asarray(self.stencil) >= 128


class Painter:
    """Puts objects on a canvas and keeps the books of who owns which pixel.

    Args:
        mean: the mean colour of the picture, (3,).
        bias: as `centre_bias` of `scene`.

    Attributes:
        canvas: the picture.
        things: the objects painted so far, the hindmost first.
    """

    def __init__(
        self, random: np.random.Generator, canvas: Image.Image, mean: np.ndarray, bias: bool
    ) -> None:
        self.random, self.canvas, self.mean, self.bias = random, canvas, mean, bias
        self.size, self.unit = canvas.width, canvas.width / 256
        self.things: list[Thing] = []
        self._owner = np.full((self.size, self.size), -1, np.int8)
        self._needed: list[float] = []  # visible pixels each object has to keep

    @property
    def labels(self) -> list[int]:
        """Of the things."""
        return [thing.label for thing in self.things]

    def add(self, label: int, side: float) -> None:
        """Paints an object where it hides no other too much, or nothing where there is no place."""
        outline = rotated(OUTLINES[CLASSES[label]], self.random.uniform(0, 2 * math.pi)) * side
        reach = math.ceil(np.abs(outline).max()) + 2
        stencil = object_stencil(CLASSES[label], outline, 2 * reach)
        solid = np.asarray(stencil) >= 128
        needed = max(_VISIBLE * solid.sum(), SMALLEST * self.unit**2)
        for _ in range(30):
            centre = self._position(reach)
            if self._fits(solid, centre - reach, needed):
                filling = self._filling(CLASSES[label], reach, centre, outline)
                self.put(Thing(label, stencil, filling, centre - reach))
                self._needed.append(needed)
                return

    def masks(self) -> np.ndarray:
        """The visible pixels of each object, bool (n, size, size)."""
        return self._owner[None] == np.arange(len(self.things), dtype=np.int8)[:, None, None]

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
        return self._owner[max(0, y) : y + len(solid), max(0, x) : x + len(solid)], inside

    def _fits(self, solid: np.ndarray, corner: np.ndarray, needed: float) -> bool:
        owners, inside = self._window(solid, corner)
        if inside.sum() < needed:
            return False
        hidden = self._counts(owners[inside])
        return bool((self._counts(self._owner) - hidden >= self._needed).all())

    def _counts(self, owners: np.ndarray) -> np.ndarray:
        """How many of the pixels belong to each object, (objects,)."""
        return np.array([np.count_nonzero(owners == n) for n in range(len(self.things))])

    def put(self, thing: Thing) -> None:
        """Paints a thing where it lies, over all others; outside of the picture nothing."""
        self.canvas.paste(thing.filling, tuple(thing.corner.tolist()), thing.stencil)
        if (thing.corner < self.size).all():
            owners, inside = self._window(thing.solid, thing.corner)
            owners[inside] = len(self.things)
        self.things.append(thing)

    def _filling(
        self, name: str, reach: int, centre: np.ndarray, outline: np.ndarray
    ) -> Image.Image:
        near = along(outline) * (1 + 3 * self.unit / reach)
        near = near if name != "ring" else np.concatenate([near, near * (HOLE - 0.1)])
        colours = contrasting(self.random, pixels(self.canvas, centre + near), self.mean)
        kind = object_kind(self.random)
        return material(self.random, kind, (2 * reach, 2 * reach), colours, self.unit)
