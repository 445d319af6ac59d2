"""In which order tokens are taken away: by what the model does with them, and by what knows nothing of it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from svit.core.attribution import Thing
from svit.core.types import TokenGrid
from svit.detectors.base import image_seed
from svit.probing.attribution.signals import Signals
from svit.probing.equal_counts import central


def amounts(
    signals: Signals, layers: Sequence[int], wanted: Sequence[str]
) -> dict[str, np.ndarray]:
    """Of the orders that follow from what the model does, the number of each token, float (tokens,): the mean
    over the blocks of the range that have it. Orders that the model gives nothing for are missing."""
    scores = signals.trace.scores
    gates = [] if scores is None else [scores[layer].ravel().astype(float) for layer in layers]
    found = {
        "gates": [one for one in gates if np.isfinite(one).all()],
        "usage": [signals.trace.keep[layer].ravel().astype(float) for layer in layers],
        "attention": _of(signals.attention, layers),
        "update": _of(signals.update, layers),
    }
    return {name: np.mean(found[name], axis=0) for name in wanted if found.get(name)}


def _of(measure: dict[int, torch.Tensor], layers: Sequence[int]) -> list[np.ndarray]:
    return [measure[layer].double().cpu().numpy() for layer in layers if layer in measure]


def ranked(values: np.ndarray, universe: np.ndarray, seed: int) -> np.ndarray:
    """The universe's tokens, the largest value first; equal ones in an order that is drawn."""
    shuffled = np.random.default_rng(seed).permutation(universe)
    return shuffled[np.argsort(-values[shuffled], kind="stable")]


def at_random(universe: np.ndarray, image_id: int | str, seed: int, draw: int) -> np.ndarray:
    """A permutation of the universe that depends on the image, the seed and the draw alone."""
    return np.random.default_rng([image_seed(image_id, seed), draw]).permutation(universe)


def by_picture_centre(grid: TokenGrid, universe: np.ndarray) -> np.ndarray:
    """The nearest to the middle of the picture first (`equal_counts.central`)."""
    return universe[np.argsort(central(grid).ravel()[universe], kind="stable")]


def by_object_centre(grid: TokenGrid, universe: np.ndarray, thing: Thing) -> np.ndarray:
    """The nearest to the middle of the object's box first: a control that knows where the object is."""
    left, top, right, bottom = thing.box_xyxy
    middle = np.array([(top + bottom) / 2, (left + right) / 2]) * grid.scale_yx
    places = (np.stack(np.divmod(universe, grid.grid_hw[1]), axis=1) + 0.5) * grid.patch
    return universe[np.argsort(np.hypot(*(places - middle).T), kind="stable")]


def prefix(order: np.ndarray, weight_of: np.ndarray, least: float) -> np.ndarray:
    """The shortest beginning of an order whose tokens have together at least so many uses."""
    if least <= 0:
        return order[:0]
    total = np.cumsum(weight_of[order])
    return order[: int(np.searchsorted(total, least - 1e-9)) + 1]
