"""What every export shares: its error, and how tokens look on a picture."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np

from svit.core.types import ImageId, TokenGrid, TokenTrace
from svit.runs.run import Run

Write = Callable[
    [Path], list[Path]
]  # an export into a folder that is there. Returns: what was written

PRUNED, CARRIED, USED = 0, 1, 2  # of a token in a block


class ExportError(ValueError):
    """A run lacks what an export needs, or the program it is for is not installed."""


def check_pictures(run: Run) -> None:
    """Raises ExportError unless every image has its picture."""
    if missing := run.without_picture():
        raise ExportError(
            f"{run.path}: image {missing[0]!r} has no picture; record with --thumbnail"
        )


def states(trace: TokenTrace) -> np.ndarray:
    """uint8 (layers, rows, columns): `PRUNED`, `CARRIED` or `USED`."""
    return np.where(trace.keep, USED, np.where(trace.carried, CARRIED, PRUNED)).astype(np.uint8)


def on_picture(grid: TokenGrid, tokens: np.ndarray, picture_hw: tuple[int, int]) -> np.ndarray:
    """A number a token as a number a pixel of a picture of any size, so that one lies over the other.

    Args:
        tokens: (rows, columns) of the padded grid.
        picture_hw: size of the picture, whatever it was scaled to.

    Returns: of shape `picture_hw` and the same dtype; a pixel has the number of the token at its middle.
    """
    rows, columns = (
        ((np.arange(side) + 0.5) * resized / side // grid.patch).astype(int)
        for side, resized in zip(picture_hw, grid.resized_hw, strict=True)
    )
    return tokens[rows[:, None], columns]


def file_stem(place: int, image_id: ImageId) -> str:
    """A file's name of an image that no other image of the run has."""
    return f"{place:06d}-" + re.sub(r"[^\w.-]", "_", str(image_id))[-80:]
