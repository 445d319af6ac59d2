"""What may be asked of an attribution."""

from __future__ import annotations

from dataclasses import dataclass

from svit.core.attribution import MASKS, ORDERS
from svit.core.ranges import COUNT, COUNT_OR_NONE, RATIO, SHARE, Range

ALLOWED = {
    "steps": Range(2, whole=True),
    "draws": COUNT,
    "searches": COUNT_OR_NONE,
    "budget": COUNT,
    "batch": COUNT,
    "keep": RATIO,
    "least": SHARE,
}


class AttributionError(ValueError):
    """Nothing can be explained; the message says what can."""


@dataclass(frozen=True)
class Options:
    """What is asked.

    Attributes:
        orders: of `ORDERS`; those that the model gives nothing for are left out.
        layers: zero-based blocks in which tokens are taken away; None for those that prune (of a dense model
            all after the first quarter).
        masks: what they are taken from, "own" or "all" (`Explanation.masks`); None: the own masks of what is
            found with them with a score of at least `least`, all tokens for the rest.
        steps: of a curve, equal shares of the uses.
        draws: random orders, and random sets beside the smallest one.
        searches: for the smallest set, with seeds of their own.
        budget: forwards a search.
        keep: share of score and of IoU with all tokens that suffices.
        forced: whether pruned tokens are given back block by block.
        least: score from which something counts as found.
        seed: of the draws.
        batch: trials a forward at most.
    """

    orders: tuple[str, ...] = ORDERS
    layers: tuple[int, ...] | None = None
    masks: str | None = None
    steps: int = 10
    draws: int = 4
    searches: int = 3
    budget: int = 64
    keep: float = 0.9
    forced: bool = True
    least: float = 0.5
    seed: int = 0
    batch: int = 16

    def __post_init__(self) -> None:
        unknown = [one for one in self.orders if one not in ORDERS]
        if unknown or not self.orders:
            told = unknown or "none"
            raise AttributionError(f"orders: expected some of {', '.join(ORDERS)}, found {told}")
        if self.masks not in (None, *MASKS):
            raise AttributionError(f"masks: expected own or all, found {self.masks!r}")
        for name, allowed in ALLOWED.items():
            if (value := getattr(self, name)) not in allowed:
                raise AttributionError(f"{name}: expected {allowed}, found {value!r}")
