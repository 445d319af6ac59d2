"""Tokens on objects and off them, counted image by image: usage, and what becomes of pruned tokens.

Sums over images give what the paper says of maps (Figs. 1, 4) and of reactivated areas (Fig. 5b); drawing
the images anew gives the intervals. Regions: `svit.core.coverage`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from analysis.numbers.regions import GOALS
from analysis.numbers.usage import gated_layers, layer_states, usage
from svit.core.coverage import regions
from svit.runs.run import Run


@dataclass(frozen=True)
class ObjectCounts:
    """Counts of every annotated image; tokens that show crowd annotations alone are left out.

    Attributes:
        usage: int64 (images, `GOALS`, 2, layers + 1), tokens of the goal and others by how many layers used
            them.
        pruned: int64 (images, 2, 2), on objects and off them: tokens pruned in blocks that prune, and those
            of them that a later layer uses; the last layer, after which nothing comes, left out.
    """

    usage: np.ndarray
    pruned: np.ndarray

    @property
    def images(self) -> int:
        """How many were counted."""
        return len(self.usage)


def count_objects(run: Run) -> ObjectCounts:
    """Counts the annotated images of a run.

    Raises:
        RunError: a shard is damaged.
    """
    maps, fates = [], []
    gated = [layer for layer in gated_layers(run.layers, run.targets) if layer < run.layers - 1]
    for trace, target in run.samples("trace", "target", known=["target"]):
        found = regions(target, trace.grid)
        counted = ~found.left_out
        sides = [
            (getattr(found, goal) & counted, ~getattr(found, goal) & counted) for goal in GOALS
        ]
        values = usage(trace)
        maps.append(
            [
                [np.bincount(values[side], minlength=run.layers + 1) for side in pair]
                for pair in sides
            ]
        )
        states = layer_states(trace)
        fates.append(
            [[_sum(one, gated, side) for one in (states.pruned, states.later)] for side in sides[0]]
        )
    shape = (0, len(GOALS), 2, run.layers + 1)
    return ObjectCounts(
        np.array(maps, np.int64) if maps else np.zeros(shape, np.int64),
        np.array(fates, np.int64).reshape(-1, 2, 2),
    )


def _sum(state: np.ndarray, layers: list[int], side: np.ndarray) -> int:
    return int(state[layers][:, side].sum())
