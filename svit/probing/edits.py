"""Counterfactual masks: what of a model's decisions is to be different in one forward.

Each edit is a small frozen record; several compose from left to right, block by block:

    edits = (Shift(0.5), Brush((5, 6), ((3, 4), (3, 5)), on=True), NoReactivation())

Edits see and change keep masks bool (B, N) and keep scores float (B, N); B images of a batch, N tokens
of the padded grid in raster order. `svit.probing.apply_edits.applied` puts them on a detector;
`svit.probing.equal_counts` holds those that keep the number of tokens, and
`svit.probing.interventions` those that have a name. Records count layers from 0 like the arrays they
change; every sentence for people counts blocks from 1.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Bool
from torch import Tensor

from svit.core.types import TokenGrid
from svit.data.samples import Sample
from svit.probing.calibrate import threshold_for
from svit.pruning.base import Method
from svit.system.text import blocks

Token = tuple[int, int]  # row and column in the padded grid
Masks = dict[int, Tensor]


class EditError(ValueError):
    """An edit does not fit the model or the picture; the message says what would."""


@dataclass(frozen=True)
class Decided:
    """The masks of one batch as a model decided them.

    Attributes:
        keep: block -> bool (B, N).
        scores: block -> float (B, N) keep log-odds, gated blocks only.
        nested: whether what decided them lets no token come back that a block left out.
        groups: block -> int64 (B, N), the carrier of each token, of methods that merge.
    """

    keep: Masks
    scores: Masks = field(default_factory=dict)
    nested: bool = False
    groups: Masks = field(default_factory=dict)


@dataclass(frozen=True)
class Forward:
    """One forward of a batch, and what it has shown so far; edits read it.

    Attributes:
        samples: the images.
        grids: geometry of their tokens.
        valid: bool (B, N), tokens that show image pixels.
        seeds: of random numbers, one an image.
        method: of the model, with its traits and targets.
        removes: whether what a block does not use is lost to the blocks behind it.
        deadline: `time.monotonic()` at which the forward is given up.
        scores: block -> keep log-odds (B, N) after edits.
        used: block -> mask (B, N) after edits.
        groups: block -> carriers (B, N) after edits, of methods that merge.
    """

    samples: Sequence[Sample]
    grids: tuple[TokenGrid, ...]
    valid: Bool[Tensor, "batch tokens"]
    seeds: list[int]
    method: Method
    removes: bool = False
    deadline: float = math.inf
    scores: Masks = field(default_factory=dict)
    used: Masks = field(default_factory=dict)
    groups: Masks = field(default_factory=dict)

    def part(self, layer: int) -> Bool[Tensor, "batch tokens"]:
        """Tokens that are not pruned in a block: used ones and those that they carry."""
        used = self.used[layer]
        return used | used.gather(1, self.groups[layer]) if layer in self.groups else used

    @property
    def grid_hw(self) -> tuple[int, int]:
        """Token rows and columns of the padded batch."""
        return self.grids[0].grid_hw


@dataclass(frozen=True)
class Edit:
    """One change; subclasses override what they change."""

    removes: ClassVar[bool] = False

    @property
    def key(self) -> str:
        """Equal for edits that do the same."""
        return repr(self)

    def check(self, forward: Forward) -> None:
        """Raises EditError when the edit does not fit the model or the grid."""

    def prepared(self, decide: Callable[[], Decided], forward: Forward) -> Edit:
        """The edit that acts in the forward.

        Args:
            decide: runs the forward of its own that tells which masks to start from.
        """
        return self

    def scores(self, layer: int, scores: Tensor, forward: Forward) -> Tensor:
        """The keep log-odds (B, N) that a block decides by, from those it would."""
        return scores

    def masks(self, layer: int, keep: Tensor, forward: Forward) -> Tensor:
        """The mask (B, N) that a block uses, from the one it would."""
        return keep

    def groups(self, layer: int, group: Tensor, forward: Forward) -> Tensor:
        """The carriers (B, N) that a block uses, from those it would; asked before `masks`, and only of
        methods that merge."""
        return group

    @property
    def sentence(self) -> str:
        """What it does, for people and for provenance; blocks count from 1 as in the paper."""
        raise NotImplementedError


@dataclass(frozen=True)
class Shift(Edit):
    """Moves the threshold of every gate: positive numbers prune more. Unit: log-odds of keeping."""

    by: float

    def check(self, forward: Forward) -> None:
        """Raises EditError for a model that compares no score with a threshold."""
        if not forward.method.compares_scores:
            told = "this model compares no score with a threshold"
            raise EditError(f"{told}; set its keep ratio instead")

    def scores(self, layer: int, scores: Tensor, forward: Forward) -> Tensor:
        """The log-odds less `by`."""
        return scores - self.by if self.by else scores

    @property
    def sentence(self) -> str:
        return f"thresholds moved by {self.by:+.2f} log-odds"


@dataclass(frozen=True)
class KeepRatio(Edit):
    """Fits the threshold of every gated block to this picture, so that it keeps a share of its tokens.

    A block with target t keeps t ** (log base / log b), b the target of the first stage that prunes:
    base, base², base³ for the paper's schedule. `calibrate.threshold_for` over the valid tokens, of
    methods that do not reactivate over those still there.
    """

    base: float

    def check(self, forward: Forward) -> None:
        """Raises EditError for a base outside (0, 1] or a model that prunes nothing."""
        if not 0 < self.base <= 1:
            raise EditError(f"keep ratio: expected a share in (0, 1], found {self.base}")
        if min(forward.method.target_ratios()) >= 1:
            raise EditError("this model prunes nothing, so it has no ratio to set")

    def masks(self, layer: int, keep: Tensor, forward: Forward) -> Tensor:
        """Tokens above the threshold fitted to each image; raises EditError without scores."""
        targets = forward.method.target_ratios()
        if targets[layer] >= 1:
            return keep
        if not forward.scores:
            raise EditError("this model decides without scores, so its keep ratio cannot be set")
        if layer not in forward.scores:  # the method goes on with the mask of an earlier block
            return keep
        first = next(target for target in targets if target < 1)
        target = targets[layer] ** (math.log(self.base) / math.log(first))
        may = torch.ones_like(forward.valid)
        if not forward.method.traits.reactivates and layer - 1 in forward.used:
            may = forward.used[layer - 1]  # padding does not come back either
        scores, ranked = forward.scores[layer].float(), may & forward.valid
        counted = forward.valid.sum(dim=1).tolist()
        fitted = [_threshold(*image, target) for image in zip(scores, ranked, counted, strict=True)]
        return (scores > scores.new_tensor(fitted).unsqueeze(1)) & may

    @property
    def sentence(self) -> str:
        return f"thresholds fitted to this picture for a base keep ratio of {self.base:.2f}"


@dataclass(frozen=True)
class Brush(Edit):
    """Turns tokens on or off in some blocks.

    Attributes:
        layers: zero-based blocks.
        tokens: rows and columns in the padded grid; None for all.
        on: whether they are used.
        padding: whether all tokens means those that show no pixels, too.
    """

    layers: tuple[int, ...]
    tokens: tuple[Token, ...] | None
    on: bool
    padding: bool = False

    def check(self, forward: Forward) -> None:
        """Raises EditError for blocks or tokens that the model does not have."""
        check_layers(self.layers, forward)
        rows, columns = forward.grid_hw
        for row, column in self.tokens or ():
            if not (0 <= row < rows and 0 <= column < columns):
                raise EditError(f"token {row}/{column} lies outside of {rows} x {columns}")

    def masks(self, layer: int, keep: Tensor, forward: Forward) -> Tensor:
        """The mask with the tokens on or off."""
        if layer not in self.layers:
            return keep
        place = self._place(forward)
        return keep | place if self.on else keep & ~place

    def _place(self, forward: Forward) -> Bool[Tensor, "batch tokens"]:
        if self.tokens is None:
            return torch.ones_like(forward.valid) if self.padding else forward.valid
        return _marked([self.tokens] * len(forward.grids), forward)

    @property
    def sentence(self) -> str:
        what = "all tokens" if self.tokens is None else _some(self.tokens)
        return f"{what} {'on' if self.on else 'off'} in {blocks(self.layers)}"


@dataclass(frozen=True)
class KeepBox(Edit):
    """Keeps every token that shows a part of a box (x0, y0, x1, y1) in source pixels.

    Attributes:
        layers: zero-based blocks.
        name: what to call what lies in the box.
    """

    box_xyxy: tuple[float, float, float, float]
    layers: tuple[int, ...]
    name: str = "object"

    def check(self, forward: Forward) -> None:
        """Raises EditError for blocks that the model does not have."""
        check_layers(self.layers, forward)

    def masks(self, layer: int, keep: Tensor, forward: Forward) -> Tensor:
        """The mask with the tokens of the box on."""
        if layer not in self.layers:
            return keep
        places = [tokens_in(grid, self.box_xyxy) for grid in forward.grids]
        return keep | _marked(places, forward)

    @property
    def sentence(self) -> str:
        corners = ", ".join(f"{side:.0f}" for side in self.box_xyxy)
        return f"tokens of the {self.name} at ({corners}) on in {blocks(self.layers)}"


@dataclass(frozen=True)
class NoReactivation(Edit):
    """A token that a block left out stays out of all later blocks: M_l <- M_l * M_{l-1} (paper 4.1)."""

    def masks(self, layer: int, keep: Tensor, forward: Forward) -> Tensor:
        """The mask without what the block before left out."""
        return keep & forward.part(layer - 1) if layer else keep

    @property
    def sentence(self) -> str:
        return "no reactivation"


@dataclass(frozen=True)
class Remove(NoReactivation):
    """Pruned tokens are set to zero behind the block instead of preserved, and never come back
    (paper Table 2). An adapter may still write into their places."""

    removes: ClassVar[bool] = True

    @property
    def sentence(self) -> str:
        return "pruned tokens removed instead of preserved"


def nests(method: Method, edits: Sequence[Edit] = ()) -> bool:
    """Whether no token comes back that a block left out: by the method, or because an edit forbids it.

    A method that prunes nothing forbids nothing.
    """
    traits = method.traits
    own = traits.selection != "none" and not traits.reactivates
    return own or any(isinstance(one, NoReactivation) for one in edits)


def tokens_in(grid: TokenGrid, box_xyxy: Sequence[float]) -> tuple[Token, ...]:
    """The valid tokens that show a part of a box in source pixels."""
    left, top, right, bottom = box_xyxy
    sides = {token: grid.token_box(*token) for token in np.ndindex(*grid.valid_hw)}
    return tuple(
        token
        for token, (x0, y0, x1, y1) in sides.items()
        if x0 < right and x1 > left and y0 < bottom and y1 > top
    )


def _some(tokens: Sequence[Token], limit: int = 4) -> str:
    named = ", ".join(f"{row + 1}/{column + 1}" for row, column in tokens[:limit])
    more = f" and {len(tokens) - limit} more" if len(tokens) > limit else ""
    return f"token{'' if len(tokens) == 1 else 's'} {named}{more} (row/column from 1)"


def check_layers(layers: Sequence[int], forward: Forward) -> None:
    """Raises EditError unless they are zero-based blocks of the model, at least one."""
    wrong = [layer + 1 for layer in layers if not 0 <= layer < forward.method.depth]
    if wrong or not layers:
        raise EditError(
            f"this model has blocks 1 to {forward.method.depth}, found {wrong or 'no block'}"
        )


def alone(group: Tensor) -> Tensor:
    """Every token its own carrier."""
    return torch.arange(group.shape[1], device=group.device).expand_as(group)


def _marked(places: Sequence[Sequence[Token]], forward: Forward) -> Bool[Tensor, "batch tokens"]:
    """True at the tokens of each image."""
    marked, columns = torch.zeros_like(forward.valid), forward.grid_hw[1]
    for row, tokens in zip(marked, places, strict=True):
        row[[line * columns + column for line, column in tokens]] = True
    return marked


def _threshold(scores: Tensor, may: Tensor, counted: int, target: float) -> float:
    """What lets a share of the counted tokens of one image pass, of those that may; infinite if none may."""
    ranked = scores[may].cpu().numpy()
    if not len(ranked):
        return math.inf
    return threshold_for(ranked, np.full(len(ranked), 1 / counted), target)[0]
