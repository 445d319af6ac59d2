"""Intervals of numbers over images, by drawing the images anew. No torch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Interval:
    """A value in AP points with its bootstrap interval.

    Attributes:
        value: on the images as they are.
        low, high: percentiles of the draws, e.g. 2.5 and 97.5 for 95 %.
        draws: how often the images were drawn.
    """

    value: float
    low: float
    high: float
    draws: int

    @property
    def bounds(self) -> tuple[float, float]:
        """(low, high) of the interval."""
        return self.low, self.high

    def __str__(self) -> str:
        return f"{self.value:.1f} [{self.low:.1f}, {self.high:.1f}]"


def bootstrap(
    statistic: Callable[[np.ndarray], float],
    images: int,
    draws: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> Interval:
    """Percentile interval of a statistic of image weights under drawing images with replacement."""
    random = np.random.default_rng(seed)
    counts = random.multinomial(images, np.full(images, 1 / images), size=draws)
    values = [statistic(weights) for weights in counts]
    low, high = np.percentile(values, [50 * (1 - level), 50 * (1 + level)])
    return Interval(statistic(np.ones(images, np.int64)), float(low), float(high), draws)
