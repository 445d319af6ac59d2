"""The eight classes as outlines of area 1, and smooth stencils of whatever is drawn."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw

CLASSES = ("circle", "square", "triangle", "star", "ring", "cross", "hexagon", "heart")
FINE = 3  # stencils are drawn this much finer, then averaged: smooth edges
HOLE = 0.58  # inner radius of a ring over its outer one

Pen = ImageDraw.ImageDraw


def regular(corners: int, inner: float = 1.0) -> np.ndarray:
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


OUTLINES = {
    "circle": _unit_area(regular(64)),
    "square": _unit_area(regular(4)),
    "triangle": _unit_area(regular(3)),
    "star": _unit_area(regular(10, inner=0.45)),
    "ring": _unit_area(regular(64), hole=HOLE),
    "cross": _unit_area(_cross()),
    "hexagon": _unit_area(regular(6)),
    "heart": _unit_area(_heart()),
}


def rotated(points: np.ndarray, angle: float) -> np.ndarray:
    """Points (n, 2) turned about the origin by an angle in radians."""
    cos, sin = math.cos(angle), math.sin(angle)
    return points @ np.array([[cos, sin], [-sin, cos]])


def along(corners: np.ndarray, count: int = 40) -> np.ndarray:
    """Points evenly spread along a closed outline, (count, 2)."""
    closed = np.concatenate([corners, corners[:1]])
    walked = np.concatenate([[0], np.hypot(*np.diff(closed, axis=0).T).cumsum()])
    stops = np.linspace(0, walked[-1], count, endpoint=False)
    return np.stack([np.interp(stops, walked, axis) for axis in closed.T], 1)


def flat(points: np.ndarray) -> list[float]:
    """x, y, x, y, ... as Pillow takes them fastest."""
    return points.ravel().tolist()


def stencil(side: int, draw: Callable[[Pen, int], None]) -> Image.Image:
    """Draws on a fine square and averages it down: coverage 0..255, mode L, `side` pixels."""
    fine = Image.new("L", (side * FINE, side * FINE))
    draw(ImageDraw.Draw(fine), side * FINE)
    return fine.reduce(FINE)


def object_stencil(name: str, outline: np.ndarray, side: int) -> Image.Image:
    """The stencil of an object of class `name` in the middle of a square.

    Args:
        outline: its corners in pixels, (n, 2), with the origin in the object's middle.
        side: of the square in pixels.
    """

    def draw(pen: Pen, fine: int) -> None:
        pen.polygon(flat(outline * FINE + fine / 2), fill=255)
        if name == "ring":
            pen.polygon(flat(outline * HOLE * FINE + fine / 2), fill=0)

    return stencil(side, draw)
