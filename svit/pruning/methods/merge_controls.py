"""Merges nobody chose: what a comparison needs beside every method that merges what is alike.

They merge as many tokens in the same blocks as ToMe, from the same sources into the same destinations, and
attend alike. `random` pairs anything with anything. `near` pairs a token with the nearest destination on the
grid without looking at either: neighbours are alike, so that it is the harder one to beat. ToMe less `near`
is what comparing tokens is worth apart from pooling neighbours.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from svit.core.catalogue import STAGE_RATIOS
from svit.pruning.base import gather_kept, in_stage
from svit.pruning.matching import Matches, matched, present
from svit.pruning.merging import Carriers, MergeState, grid_of
from svit.pruning.methods.tome import ToMe
from svit.pruning.options import check_choice
from svit.pruning.sampling import uniform

PAIRS = ("random", "near")
SALT = 500  # apart from the block numbers that the choice of sources is salted with


class MergeControl(ToMe):
    """As many merges as ToMe, drawn anew in each deciding block; seeded an image at inference.

    Args:
        keep_ratios, locations, partition, proportional: as of ToMe.
        pairs: "random" destinations, or the one "near" each source; which sources merge is drawn in both.

    Raises:
        ValueError: as of ToMe, or other pairs.
    """

    def __init__(
        self,
        dim: int,
        depth: int,
        heads: int,
        *,
        keep_ratios: Sequence[float] = STAGE_RATIOS,
        locations: Sequence[int] | None = None,
        partition: str = "parity",
        proportional: bool = True,
        pairs: str = "random",
    ) -> None:
        super().__init__(
            dim,
            depth,
            heads,
            keep_ratios=keep_ratios,
            locations=locations,
            partition=partition,
            proportional=proportional,
        )
        check_choice("pairs", pairs, PAIRS)
        self.pairs = pairs

    @in_stage("selection")
    def matches(
        self, layer: int, key: Tensor, sources: Tensor, source: Carriers, state: MergeState
    ) -> Matches:
        """The nearest destination; which sources merge is a draw."""
        index = source.kept.rows.squeeze(-1)
        like = key.new_zeros(source.group.shape, dtype=torch.float32)
        if self.pairs == "near":
            columns = grid_of(state)[1]
            place = torch.stack([index // columns, index % columns], dim=-1).float()
        else:
            place = _on_a_line(
                uniform(like, state.seeds, layer + SALT).gather(1, index),
                ~sources & present(source),
            )
        found = nearest(place, sources, source)
        chance = uniform(like, state.seeds, layer).gather(1, index.gather(1, found.sources.index))
        return replace(found, likeness=chance.masked_fill(found.likeness.isinf(), float("-inf")))


def _on_a_line(draws: Tensor, destinations: Tensor) -> Tensor:
    """Destinations evenly on a line from 0 to 1, sources where a draw says: any is as likely the nearest."""
    count = destinations.sum(dim=1, keepdim=True).clamp(min=1)
    even = (destinations.cumsum(dim=1) - 0.5) / count
    return torch.where(destinations, even, draws).unsqueeze(-1)


def nearest(place: Tensor, sources: Tensor, source: Carriers) -> Matches:
    """The destination at the least distance |a - b| for each source: the largest 2 a·b - |b|².

    Args:
        place: float32 (B, K, axes), where each carrier lies.
    """
    from_here = torch.cat([place, torch.ones_like(place[..., :1])], dim=-1)
    to_there = torch.cat([2 * place, -place.square().sum(dim=-1, keepdim=True)], dim=-1)
    destinations = ~sources & present(source)
    return matched(gather_kept(from_here, sources), gather_kept(to_there, destinations))
