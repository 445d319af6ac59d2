"""Counterfactual masks: what of a model's decisions is to be different in one forward.

Each edit is a small frozen record; several compose from left to right, block by block:

    edits = (Shift(0.5), Brush((5, 6), ((3, 4), (3, 5)), on=True), NoReactivation())

Edits see and change keep masks bool (1, N) and keep scores float32 (1, N) of one image; N tokens of
the padded grid in raster order. `svit.probing.apply_edits.applied` puts them on a detector.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from svit.core.types import TokenGrid, TokenTrace
from svit.probing.calibrate import threshold_for
from svit.probing.interventions import SALT, permuted
from svit.pruning.base import Method

Token = tuple[int, int]  # row and column in the padded grid
Masks = dict[int, Tensor]
SHIFTED = ("sample", "threshold", "calibrated")  # inference modes that compare scores with a number
CONTROLS = ("random", "shuffle")


class EditError(ValueError):
    """An edit does not fit the model or the picture; the message says what would."""


@dataclass
class Pass:
    """What one forward has shown so far; edits read it.

    Attributes:
        grid: geometry of the tokens.
        method: of the model, with its traits and targets.
        seed: of this image's random numbers.
        deadline: `time.monotonic()` at which the forward is given up.
        scores: block -> keep log-odds (1, N) after edits.
        used: block -> mask (1, N) after edits.
    """

    grid: TokenGrid
    method: Method
    seed: int
    deadline: float
    scores: Masks = field(default_factory=dict)
    used: Masks = field(default_factory=dict)

    def valid(self, like: Tensor) -> Tensor:
        """Tokens that show image pixels: bool (1, N) on the device of `like`."""
        return torch.from_numpy(self.grid.valid_mask().reshape(1, -1)).to(like.device)


@dataclass(frozen=True)
class Edit:
    """One change; subclasses override what they change."""

    removes: ClassVar[bool] = False

    @property
    def key(self) -> str:
        """Equal for edits that do the same."""
        return repr(self)

    def check(self, seen: Pass) -> None:
        """Raises EditError when the edit does not fit the model or the grid."""

    def settled(self, decide: Callable[[], Masks], seen: Pass) -> Edit:
        """The edit once it knows the masks it starts from; `decide` runs a forward of its own."""
        return self

    def scores(self, layer: int, scores: Tensor, seen: Pass) -> Tensor:
        return scores

    def masks(self, layer: int, keep: Tensor, seen: Pass) -> Tensor:
        return keep

    @property
    def sentence(self) -> str:
        """What it does, for people and for provenance; blocks count from 1 as in the paper."""
        raise NotImplementedError


@dataclass(frozen=True)
class Shift(Edit):
    """Moves the threshold of every gate: positive numbers prune more. Unit: log-odds of keeping."""

    by: float

    def check(self, seen: Pass) -> None:
        if getattr(seen.method, "inference", "") not in SHIFTED:
            told = "this model compares no score with a threshold"
            raise EditError(f"{told}; set its keep ratio instead")

    def scores(self, layer: int, scores: Tensor, seen: Pass) -> Tensor:
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

    def check(self, seen: Pass) -> None:
        if not 0 < self.base <= 1:
            raise EditError(f"keep ratio: expected a share in (0, 1], found {self.base}")
        if min(seen.method.target_ratios()) >= 1:
            raise EditError("this model prunes nothing, so it has no ratio to set")

    def masks(self, layer: int, keep: Tensor, seen: Pass) -> Tensor:
        targets = seen.method.target_ratios()
        if targets[layer] >= 1:
            return keep
        if not seen.scores:
            raise EditError("this model decides without scores, so its keep ratio cannot be set")
        if layer not in seen.scores:  # the method goes on with the mask of an earlier block
            return keep
        first = next(target for target in targets if target < 1)
        target = targets[layer] ** (math.log(self.base) / math.log(first))
        may = seen.valid(keep)
        if not seen.method.traits.reactivates and layer - 1 in seen.used:
            may = may & seen.used[layer - 1]
        scores = seen.scores[layer].float()
        ranked = scores[may].cpu().numpy()
        if not len(ranked):
            return keep & may
        shares = np.full(len(ranked), 1 / seen.grid.valid_mask().sum())
        threshold, _ = threshold_for(ranked, shares, target)
        return (scores > threshold) & (may | ~seen.valid(keep))

    @property
    def sentence(self) -> str:
        return f"thresholds fitted to this picture for a base keep ratio of {self.base:.2f}"


@dataclass(frozen=True)
class Brush(Edit):
    """Turns tokens on or off in some blocks; None for all tokens."""

    layers: tuple[int, ...]
    tokens: tuple[Token, ...] | None
    on: bool

    def check(self, seen: Pass) -> None:
        _check_layers(self.layers, seen)
        rows, columns = seen.grid.grid_hw
        for row, column in self.tokens or ():
            if not (0 <= row < rows and 0 <= column < columns):
                raise EditError(f"token {row}/{column} lies outside of {rows} x {columns}")

    def masks(self, layer: int, keep: Tensor, seen: Pass) -> Tensor:
        if layer not in self.layers:
            return keep
        place = seen.valid(keep) if self.tokens is None else _at(self.tokens, keep, seen)
        return keep | place if self.on else keep & ~place

    @property
    def sentence(self) -> str:
        what = "all tokens" if self.tokens is None else _some(self.tokens)
        return f"{what} {'on' if self.on else 'off'} in {blocks(self.layers)}"


@dataclass(frozen=True)
class KeepBox(Edit):
    """Keeps every token that shows a part of a box (x0, y0, x1, y1) in source pixels."""

    box_xyxy: tuple[float, float, float, float]
    layers: tuple[int, ...]
    name: str = "object"

    def check(self, seen: Pass) -> None:
        _check_layers(self.layers, seen)

    def masks(self, layer: int, keep: Tensor, seen: Pass) -> Tensor:
        if layer not in self.layers:
            return keep
        return keep | _at(tokens_in(seen.grid, self.box_xyxy), keep, seen)

    @property
    def sentence(self) -> str:
        corners = ", ".join(f"{side:.0f}" for side in self.box_xyxy)
        return f"tokens of the {self.name} at ({corners}) on in {blocks(self.layers)}"


@dataclass(frozen=True)
class NoReactivation(Edit):
    """A token that a block left out stays out of all later blocks: M_l <- M_l * M_{l-1} (paper 4.1)."""

    def masks(self, layer: int, keep: Tensor, seen: Pass) -> Tensor:
        return keep & seen.used[layer - 1] if layer else keep

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


@dataclass(frozen=True, eq=False)
class Transplant(Edit):
    """Uses the masks of another model or run on the same picture.

    Attributes:
        trace: its masks.
        source: what to call it.
        layers: blocks that get them; None for all.
    """

    trace: TokenTrace
    source: str
    layers: tuple[int, ...] | None = None

    @property
    def key(self) -> str:
        digest = hashlib.sha256(np.packbits(self.trace.keep)).hexdigest()
        return f"Transplant({self.source!r}, {self.layers}, {self.trace.grid}, {digest})"

    def check(self, seen: Pass) -> None:
        _check_layers(self.layers or (), seen)
        mine, theirs = seen.grid, self.trace.grid
        if self.trace.layers != seen.method.depth:
            raise EditError(
                f"{self.source} has {self.trace.layers} blocks and this model {seen.method.depth}; "
                "masks fit models of equal depth only"
            )
        if (mine.grid_hw, mine.valid_hw) != (theirs.grid_hw, theirs.valid_hw):
            raise EditError(
                f"{self.source} saw the picture as {theirs.valid_hw} tokens and this model sees it as "
                f"{mine.valid_hw}; masks fit equal grids only"
            )

    def masks(self, layer: int, keep: Tensor, seen: Pass) -> Tensor:
        if self.layers is not None and layer not in self.layers:
            return keep
        return torch.tensor(self.trace.keep[layer].reshape(1, -1), device=keep.device)

    @property
    def sentence(self) -> str:
        where = "" if self.layers is None else f" in {blocks(self.layers)}"
        return f"masks of {self.source}{where}"


@dataclass(frozen=True)
class Control(Edit):
    """As many tokens in every block as before, at other places: what masks of that size do by chance.

    "random" draws positions anew for each block; "shuffle" moves each token's life as a whole. Counts
    are those of a forward with the edits to the left; valid and padding tokens apart
    (`svit.probing.interventions`).
    """

    kind: str = "random"
    seed: int = 0

    def check(self, seen: Pass) -> None:
        if self.kind not in CONTROLS:
            raise EditError(f"control: expected {' or '.join(CONTROLS)}, found {self.kind!r}")

    def settled(self, decide: Callable[[], Masks], seen: Pass) -> Edit:
        seeds, each = [seen.seed + self.seed], self.kind == "random"
        moved = {
            layer: permuted(keep, seen.valid(keep), seeds, SALT + (1 + layer) * each)
            for layer, keep in decide().items()
        }
        return Imposed(moved)

    @property
    def sentence(self) -> str:
        name = {"random": "random", "shuffle": "shuffled"}[self.kind]
        return f"{name} masks at equal counts, draw {self.seed}"


@dataclass(frozen=True, eq=False)
class Imposed(Edit):
    """Masks that are fixed already."""

    fixed: Masks

    def masks(self, layer: int, keep: Tensor, seen: Pass) -> Tensor:
        return self.fixed[layer]


def tokens_in(grid: TokenGrid, box_xyxy: Sequence[float]) -> tuple[Token, ...]:
    """The valid tokens that show a part of a box in source pixels."""
    left, top, right, bottom = box_xyxy
    sides = {token: grid.token_box(*token) for token in np.ndindex(*grid.valid_hw)}
    return tuple(
        token
        for token, (x0, y0, x1, y1) in sides.items()
        if x0 < right and x1 > left and y0 < bottom and y1 > top
    )


def blocks(layers: Sequence[int]) -> str:
    """Zero-based blocks in words: "block 4", "blocks 4–12", "blocks 1, 5–6"."""
    parts: list[list[int]] = []
    for layer in sorted(layers):
        if parts and layer == parts[-1][-1] + 1:
            parts[-1].append(layer)
        else:
            parts.append([layer])
    words = [f"{p[0] + 1}" if len(p) == 1 else f"{p[0] + 1}–{p[-1] + 1}" for p in parts]
    return f"block{'' if len(layers) == 1 else 's'} {', '.join(words)}"


def _some(tokens: Sequence[Token], limit: int = 4) -> str:
    named = ", ".join(f"{row}/{column}" for row, column in tokens[:limit])
    more = f" and {len(tokens) - limit} more" if len(tokens) > limit else ""
    return f"token{'' if len(tokens) == 1 else 's'} {named}{more} (row/column)"


def _check_layers(layers: Sequence[int], seen: Pass) -> None:
    wrong = [layer + 1 for layer in layers if not 0 <= layer < seen.method.depth]
    if wrong:
        raise EditError(f"this model has blocks 1 to {seen.method.depth}, found {wrong}")


def _at(tokens: Sequence[Token], keep: Tensor, seen: Pass) -> Tensor:
    place, columns = torch.zeros_like(keep), seen.grid.grid_hw[1]
    place[0, [row * columns + column for row, column in tokens]] = True
    return place
