"""Tokens given back to blocks: those of an object, and beside them as many at random.

One forward asks about several objects; each has rows of its own, 1 + draws copies of its picture.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from svit.probing.edits import Edit, EditError, Forward, check_layers, nests, tokens_in
from svit.pruning.sampling import best_of, uniform
from svit.system.text import blocks, counted

SALT = 2000  # apart from the numbers of methods and of `equal_counts`


@dataclass(frozen=True, eq=False)
class GiveBack(Edit):
    """Keeps the tokens that show a part of a box in the first row of each group of 1 + draws rows; in the
    others as many as that switches on in the block, at random among those that are off.

    Each row draws one order of tokens for all blocks, so that a token given back tends to stay, as those of
    a box do. Where what a block leaves out is lost to the next (methods that remove, or never call back),
    only tokens that were there in the block before are given back or drawn.

    Attributes:
        boxes_xyxy: one a group, in source pixels.
        layers: zero-based blocks.
        draws: of other tokens, beside each box.
        seeds: of the draws, one a row.
        added: block -> tokens that were switched on, int64 (rows,); filled by the forward.
    """

    boxes_xyxy: Sequence[Sequence[float]]
    layers: tuple[int, ...]
    draws: int
    seeds: Sequence[int]
    added: dict[int, Tensor] = field(default_factory=dict)

    def check(self, forward: Forward) -> None:
        """Raises EditError for blocks the model lacks, or another number of rows."""
        check_layers(self.layers, forward)
        rows = len(self.boxes_xyxy) * (1 + self.draws)
        if len(forward.samples) != rows or len(self.seeds) != rows:
            raise EditError(
                f"expected {rows} rows and seeds, {1 + self.draws} an object; found "
                f"{len(forward.samples)} and {len(self.seeds)}"
            )

    def masks(self, layer: int, keep: Tensor, forward: Forward) -> Tensor:
        """The mask with tokens on, (B, N)."""
        if layer not in self.layers:
            return keep
        may = forward.valid & ~keep
        if layer and (forward.removes or nests(forward.method)):
            may &= forward.part(layer - 1)
        own = self._of_boxes(forward) & may[:: 1 + self.draws]  # (objects, N)
        count = own.sum(dim=1).repeat_interleave(1 + self.draws)
        drawn = best_of(uniform(keep.float(), self.seeds, SALT), count, may)
        drawn[:: 1 + self.draws] = own
        self.added[layer] = drawn.sum(dim=1)
        return keep | drawn

    def _of_boxes(self, forward: Forward) -> Tensor:
        """bool (objects, N): tokens of each box."""
        columns = forward.grid_hw[1]
        marked = torch.zeros_like(forward.valid[:: 1 + self.draws])
        for row, box, grid in zip(
            marked, self.boxes_xyxy, forward.grids[:: 1 + self.draws], strict=True
        ):
            row[[line * columns + column for line, column in tokens_in(grid, box)]] = True
        return marked

    @property
    def sentence(self) -> str:
        things = counted(len(self.boxes_xyxy), "objects")
        return (
            f"tokens of {things} on in {blocks(self.layers)}, beside {self.draws} random draws each"
        )
