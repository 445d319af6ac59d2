"""Moving scenes: the objects of a still scene set in motion before its ground.

Frame 0 is the still scene of the same seed, pixel for pixel. Whatever moves keeps its size, angle and
texture and goes straight on at a constant speed; at the picture's border it turns back, or it leaves for
good. Ground and clutter rest. Grain is drawn anew in every frame, of the scene's own strength, as a camera's.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from svit.data.shapes.scenes import (
    SMALLEST,
    Painter,
    Scene,
    Thing,
    grain_of,
    grainy,
    painted,
    raw_grain,
)

RESTING = 0.25  # share of the objects that stay where they are
LEAVING = 0.5  # share of the moving ones that do not turn back
SPEEDS = (1.0, 8.0)  # pixels a frame at 256 x 256, evenly on a logarithmic scale
SEEN = (
    0.25  # share of an object that shows, below which it is a crowd region: hidden, or nearly gone
)


@dataclass(frozen=True)
class Frame:
    """One picture of a moving scene.

    Attributes:
        scene: as it looks now, without objects of which nothing shows.
        instances: int64 (n,), the place of each object in the still scene: the same in all frames.
        hidden: bool (n,), objects of which too little shows to be asked for.
    """

    scene: Scene
    instances: np.ndarray
    hidden: np.ndarray


@dataclass(frozen=True)
class Path:
    """Where a thing goes: a corner (2,) that moves by `step` pixels (2,) a frame.

    Attributes:
        least, most: float64 (2,), between which its corner turns back; infinite for one that leaves.
    """

    start: np.ndarray
    step: np.ndarray
    least: np.ndarray
    most: np.ndarray

    def at(self, frame: int) -> np.ndarray:
        """int64 (2,), the corner in a frame."""
        place = self.start + frame * self.step
        span = self.most - self.least
        if np.isfinite(span).all():  # a triangle wave
            turned = np.mod(place - self.least, 2 * span)
            place = self.least + np.minimum(turned, 2 * span - turned)
        return np.rint(place).astype(np.int64)


def film(seed: int, frames: int, size: int = 256, centre_bias: bool = True) -> Iterator[Frame]:
    """The frames of a moving scene, one after the other.

    Args:
        seed, size, centre_bias: as of `svit.data.shapes.scene`.
        frames: how many.
    """
    random = np.random.default_rng(seed)
    ground, painter = painted(random, size, centre_bias)
    grain, strength = grain_of(random, size)
    # not of the scene's own numbers, which are those of the still one; [seed, n] is the grain of frame n
    moves = np.random.default_rng([seed, 0, 1])
    paths = [_path(moves, thing, size) for thing in painter.things]
    for number in range(frames):
        if number:
            grain = raw_grain(np.random.default_rng([seed, number]), size)
        now = Painter(random, ground.copy(), painter.mean, centre_bias)
        for thing, path in zip(painter.things, paths, strict=True):
            now.put(replace(thing, corner=path.at(number)))
        yield _seen(now, grainy(now.canvas, grain, strength))


def _path(random: np.random.Generator, thing: Thing, size: int) -> Path:
    rests, leaves = random.random() < RESTING, random.random() < LEAVING
    speed = 0 if rests else size / 256 * math.exp(random.uniform(*np.log(SPEEDS)))
    angle = random.uniform(0, 2 * math.pi)
    step = speed * np.array([math.cos(angle), math.sin(angle)])
    start = thing.corner.astype(float)
    if leaves:
        return Path(start, step, np.full(2, -np.inf), np.full(2, np.inf))
    reach = thing.stencil.width / 2
    # as far out as objects of still scenes lie, or as this one does
    least = np.minimum(start, np.floor(-0.3 * reach))
    most = np.maximum(start + 1, np.ceil(size - 1.7 * reach))
    return Path(start, step, least, most)


def _seen(painter: Painter, image: np.ndarray) -> Frame:
    """What shows of the things, and how much of each."""
    masks = painter.masks()
    areas = masks.sum((1, 2))
    whole = np.array([thing.solid.sum() for thing in painter.things])
    there = np.flatnonzero(areas)
    hidden = areas < np.maximum(SEEN * whole, SMALLEST * painter.unit**2)
    labels = np.array(painter.labels, np.int64)
    return Frame(Scene(image, labels[there], masks[there]), there, hidden[there])
