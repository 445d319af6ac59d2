"""Masks and groups of another model or run, lent for one picture."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from svit.core.types import TokenTrace
from svit.probing.edits import Edit, EditError, Forward, alone, check_layers
from svit.system.text import blocks


@dataclass(frozen=True, eq=False)
class Transplant(Edit):
    """Uses the masks of another model or run on the same picture.

    Attributes:
        trace: its masks.
        source: what to call it.
        layers: zero-based blocks that get them; None for all.
    """

    trace: TokenTrace
    source: str
    layers: tuple[int, ...] | None = None

    @property
    def key(self) -> str:
        """With a digest of the masks in place of the masks."""
        digest = hashlib.sha256(np.packbits(self.trace.keep))
        if self.trace.group is not None:
            digest.update(self.trace.group)
        digest = digest.hexdigest()
        return f"Transplant({self.source!r}, {self.layers}, {self.trace.grid}, {digest})"

    def check(self, forward: Forward) -> None:
        """Raises EditError for several images, another depth, another grid or other blocks."""
        if self.layers is not None:
            check_layers(self.layers, forward)
        if len(forward.grids) != 1:
            raise EditError(
                f"{self.source} lends the masks of one picture, found {len(forward.grids)}"
            )
        mine, theirs = forward.grids[0], self.trace.grid
        if self.trace.layers != forward.method.depth:
            raise EditError(
                f"{self.source} has {self.trace.layers} blocks and this model {forward.method.depth}; "
                "masks fit models of equal depth only"
            )
        if (mine.grid_hw, mine.valid_hw) != (theirs.grid_hw, theirs.valid_hw):
            raise EditError(
                f"{self.source} saw the picture as {theirs.valid_hw} tokens and this model sees it as "
                f"{mine.valid_hw}; masks fit equal grids only"
            )
        if self.trace.group is not None:
            check_merges(self.source, forward)

    def groups(self, layer: int, group: Tensor, forward: Forward) -> Tensor:
        """The carriers of the trace; every token its own where nothing is merged in it."""
        if self.layers is not None and layer not in self.layers:
            return group
        if self.trace.group is None:
            return alone(group)
        lent = torch.tensor(self.trace.group[layer].reshape(1, -1), device=group.device)
        return lent.to(group.dtype)

    def masks(self, layer: int, keep: Tensor, forward: Forward) -> Tensor:
        """The mask of the trace."""
        if self.layers is not None and layer not in self.layers:
            return keep
        return torch.tensor(self.trace.keep[layer].reshape(1, -1), device=keep.device)

    @property
    def sentence(self) -> str:
        where = "" if self.layers is None else f" in {blocks(self.layers)}"
        return f"masks of {self.source}{where}"


def check_merges(source: str, forward: Forward) -> None:
    """Raises EditError unless the model merges tokens, as what lends it masks does."""
    if not forward.method.traits.merges:
        raise EditError(
            f"{source} merges tokens and this model merges none, so its masks are no masks here; the "
            "same weights run with merges as pruning.method=tome"
        )
