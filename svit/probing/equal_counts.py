"""Masks of equal count: as many tokens in every block as a model decided to use, but others.

A comparison with them tells what the choice of tokens is worth apart from their number. Counts of each
image and block stay exactly, and those of its image (valid) and padding tokens separately.

A control has the abilities of what it stands beside. Where tokens that were dropped never come back, a
random draw holds for all blocks: one permutation of an image's positions, under which masks that only shrink
go on to do so. Every chain of subsets with the same counts is then as likely as any other. The shuffled masks
are one, too, so `random` and `shuffle` are two draws of the same there.

Merges have controls of equal groups: `random` and `shuffle` permute the positions of the groups with those of
their carriers, so that sizes and nesting stay. Under the other kinds as many carriers are elsewhere, and
every other token goes to the nearest of them on the grid.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import torch
from torch import Tensor

from svit.core.coverage import object_cover, regions
from svit.core.types import Target, TokenGrid
from svit.probing.edits import (
    Decided,
    Edit,
    EditError,
    Forward,
    Masks,
    alone,
    check_layers,
    nests,
)
from svit.pruning.sampling import lowest, moves, permuted, uniform
from svit.system.text import blocks

Maker = Callable[[int], Tensor]  # zero-based block -> bool (B, N)
SALT = 1000  # apart from the small numbers that methods salt their own draws with


@dataclass(frozen=True)
class Control(Edit):
    """As many tokens in every block as decided before it, at other places.

    The masks it starts from are those of a forward with the edits to the left, or of another model that
    lends its own (`apply_edits.applied`).

    Attributes:
        kind: one of `CONTROLS`; `svit.probing.interventions` says what each does.
        seed: number of the draw.
        layers: zero-based blocks that get them; None for all.
    """

    kind: str = "random"
    seed: int = 0
    layers: tuple[int, ...] | None = None

    def check(self, forward: Forward) -> None:
        """Raises EditError for an unknown kind, blocks the model lacks, blocks before which others decide
        what never comes back, invert where tokens are removed, and an oracle without ground truth."""
        if self.kind not in CONTROLS:
            raise EditError(f"control: expected one of {', '.join(CONTROLS)}, found {self.kind!r}")
        if self.layers is not None:
            check_layers(self.layers, forward)
            self._check_earlier(forward)
        if self.kind == "invert" and forward.removes:
            raise EditError(
                "invert needs a model that preserves pruned tokens, and this one removes them: it has "
                "no scores of what is gone (pruning.options.retain=preserve)"
            )
        if self.kind == "oracle" and any(one.target is None for one in forward.samples):
            raise EditError("the oracle needs images with ground truth (a COCO data set)")

    def _check_earlier(self, forward: Forward) -> None:
        """Refuses masks that would call back what a block that is not named leaves out for good."""
        method, last = forward.method, max(self.layers)
        earlier = [one for one in method.locations if one < last and one not in self.layers]
        keeps = self.kind == "learned" or method.traits.merges
        if earlier and not keeps and (forward.removes or nests(method)):
            raise EditError(
                f"{self.kind} in {blocks(self.layers)}: tokens that {blocks(earlier)} left out never come "
                "back in this model, and some of them would be drawn; name these blocks, too"
            )

    def prepared(self, decide: Callable[[], Decided], forward: Forward) -> Edit:
        """The masks made of those decided; raises EditError for invert in a block without scores."""
        decided = decide()
        layers = decided.keep if self.layers is None else self.layers
        seeds = [seed + self.seed for seed in forward.seeds]
        make = _MAKERS[self.kind](decided, forward, seeds)
        made = {layer: make(layer) for layer in layers}
        if not forward.method.traits.merges:
            return Fixed(made)
        return Fixed(
            made, {layer: self._carriers(decided, layer, made, forward, seeds) for layer in layers}
        )

    def _carriers(
        self, decided: Decided, layer: int, made: Masks, forward: Forward, seeds: list[int]
    ) -> Tensor:
        """The groups that go with a mask that was made."""
        if not decided.groups:  # a model that merges nothing lends its masks
            return alone(made[layer])
        if self.kind == "learned":
            return decided.groups[layer]
        if self.kind in ("random", "shuffle"):
            salt = SALT + (self.kind == "random")
            return _moved_groups(decided, layer, forward, seeds, salt)
        return _nearest(made[layer], forward.grid_hw[1])

    @property
    def sentence(self) -> str:
        where = "" if self.layers is None else f" in {blocks(self.layers)}"
        draw = f", draw {self.seed}" if self.kind in DRAWN else ""
        return f"{_WORDS[self.kind]} masks at equal counts{where}{draw}"


@dataclass(frozen=True, eq=False)
class Fixed(Edit):
    """Masks that are made already, block -> bool (B, N), and of merging models carriers, block -> int64
    (B, N); other blocks decide by themselves."""

    made: Masks
    carriers: Masks = field(default_factory=dict)

    def groups(self, layer: int, group: Tensor, forward: Forward) -> Tensor:
        """The carriers made for the block."""
        return self.carriers.get(layer, group)

    def masks(self, layer: int, keep: Tensor, forward: Forward) -> Tensor:
        """The mask made for the block."""
        return self.made.get(layer, keep)


def _learned(decided: Decided, forward: Forward, seeds: list[int]) -> Maker:
    return lambda layer: decided.keep[layer]


def _random(decided: Decided, forward: Forward, seeds: list[int]) -> Maker:
    # a removed token is gone whoever decided: a block would compute on zeros
    anew = not (forward.removes or decided.nested)
    return lambda layer: _moved(decided, layer, forward, seeds, SALT + 1 + layer * anew)


def _shuffle(decided: Decided, forward: Forward, seeds: list[int]) -> Maker:
    return lambda layer: _moved(decided, layer, forward, seeds, SALT)


def _moved(decided: Decided, layer: int, forward: Forward, seeds: list[int], salt: int) -> Tensor:
    keep = decided.keep[layer]
    return permuted(keep, forward.valid, uniform(keep.float(), seeds, salt))


def _moved_groups(
    decided: Decided, layer: int, forward: Forward, seeds: list[int], salt: int
) -> Tensor:
    """The groups under the permutation that moves the masks: where a token goes, its carrier's place goes."""
    group = torch.where(decided.keep[layer], alone(decided.groups[layer]), decided.groups[layer])
    here, there = moves(forward.valid, uniform(group.float(), seeds, salt))
    goes = torch.empty_like(here).scatter(1, here, there)
    return torch.empty_like(group).scatter(1, there, goes.gather(1, group.gather(1, here)))


def _nearest(keep: Tensor, columns: int) -> Tensor:
    """The nearest kept token of each token on the grid, itself for a kept one; of equals the first."""
    index = alone(keep)
    place = torch.stack([index // columns, index % columns], dim=-1).float()
    apart = torch.cdist(place, place).masked_fill(~keep.unsqueeze(1), float("inf"))
    return torch.where(keep | ~keep.any(dim=1, keepdim=True), index, apart.argmin(dim=2))


def _invert(decided: Decided, forward: Forward, seeds: list[int]) -> Maker:
    def inverted(layer: int) -> Tensor:
        if layer not in decided.scores:
            told = f"the method gives none for block {layer + 1}"
            raise EditError(f"invert needs scores, and {told}")
        return lowest(decided.keep[layer], decided.scores[layer], forward.valid)

    return inverted


def _oracle(decided: Decided, forward: Forward, seeds: list[int]) -> Maker:
    pairs = zip(forward.samples, forward.grids, strict=True)
    maps = [torch.from_numpy(importance(sample.target, grid).ravel()) for sample, grid in pairs]
    shown = torch.stack(maps).to(forward.valid.device)
    # one draw an image for all layers: among equals a token that stays is as good as one that comes
    order = uniform(shown, seeds, SALT).argsort(dim=1, stable=True)
    ranked = (-shown).gather(1, order).argsort(dim=1, stable=True)
    place = order.gather(1, ranked).argsort(dim=1).float()  # rank of each token, 0 shows most
    return lambda layer: lowest(decided.keep[layer], place, forward.valid)


def _centre(decided: Decided, forward: Forward, seeds: list[int], square: bool = False) -> Maker:
    places = [torch.from_numpy(central(grid, square=square).ravel()) for grid in forward.grids]
    place = torch.stack(places).to(forward.valid.device)
    return lambda layer: lowest(decided.keep[layer], place, forward.valid)


_MAKERS: dict[str, Callable[[Decided, Forward, list[int]], Maker]] = {
    "learned": _learned,
    "random": _random,
    "shuffle": _shuffle,
    "invert": _invert,
    "oracle": _oracle,
    "centre": _centre,
    "centre-square": partial(_centre, square=True),
}
_NAMES = ("learned", "random", "shuffled", "inverted", "oracle", "central", "central square")
_WORDS = dict(zip(_MAKERS, _NAMES, strict=True))
CONTROLS = tuple(_MAKERS)
DRAWN = ("random", "shuffle", "oracle")  # those that depend on random numbers


def importance(target: Target, grid: TokenGrid) -> np.ndarray:
    """Share of each token that objects (no crowds) cover, in whole hundredths, plus a half hundredth
    where the outline of one passes (`svit.core.coverage.regions`).

    Hundredths, because a token that an outline grazes differs from a full one by a pixel or two.

    Args:
        target: ground truth whose masks span the image, at any resolution.

    Returns: float64 (rows, columns) of the padded grid in [0, 1.005]; padding tokens show nothing.
    """
    covered = object_cover(target, grid)
    shares = covered[1].astype(np.float64).round(2)
    shown = np.zeros(grid.grid_hw)
    rows, columns = grid.valid_hw
    shown[:rows, :columns] = shares + 0.005 * regions(target, grid, covered).contour
    return shown


def central(grid: TokenGrid, *, square: bool = False) -> np.ndarray:
    """Tokens by the distance of their middle from that of the picture, 0 for the nearest.

    Of equally distant ones those come first that are nearer by the other distance; among the rest tokens that
    lie opposite each other follow each other, in raster order, so that no side is preferred by more than one.

    Args:
        square: by Chebyshev's distance, whose discs are squares, instead of Euclid's.

    Returns: float32 (rows, columns) of the padded grid, every whole number once.
    """
    row, column = np.indices(grid.grid_hw).reshape(2, -1)
    # in half resized pixels, so that equal distances are equal numbers
    down = (2 * row + 1) * grid.patch - grid.resized_hw[0]
    right = (2 * column + 1) * grid.patch - grid.resized_hw[1]
    distances = [down**2 + right**2, np.maximum(abs(down), abs(right))]
    near, far = reversed(distances) if square else distances
    height, width = grid.valid_hw
    place = row * width + column
    opposite = np.minimum(place, height * width - 1 - place)
    order = np.lexsort((column, row, opposite, far, near))
    return order.argsort().reshape(grid.grid_hw).astype(np.float32)
