"""Bipartite soft matching: which tokens merge into which (ToMe 3; Bolya et al., ICLR 2023).

Rows of an image are parted into sources and destinations. Each source finds the destination most like it,
and the sources most like theirs merge; several may share one destination.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F

from svit.pruning.base import Kept, gather_kept
from svit.pruning.merging import Carriers


@dataclass(frozen=True)
class Matches:
    """Each source's destination.

    Attributes:
        sources: which rows they are; padded where images have unequal numbers.
        into: int64 (B, A), the row of its destination.
        likeness: float32 (B, A), minus infinity in padding and where there is no destination.
    """

    sources: Kept
    into: Int[Tensor, "batch sources"]
    likeness: Float[Tensor, "batch sources"]

    def merge(self, chosen: Bool[Tensor, "batch sources"], rows: int) -> Int[Tensor, "batch rows"]:
        """Which row each of `rows` rows goes into: a chosen source into its destination, the rest nowhere."""
        stay = torch.arange(rows, device=self.into.device).expand(len(self.into), -1)
        chosen = chosen & (self.likeness > float("-inf"))
        return stay.scatter(
            1, self.sources.index, torch.where(chosen, self.into, self.sources.index)
        )

    def best(self, count: Int[Tensor, " batch"]) -> Bool[Tensor, "batch sources"]:
        """The `count` sources of each image that are most like their destinations."""
        order = self.likeness.argsort(dim=1, descending=True, stable=True)
        return order.argsort(dim=1) < count.unsqueeze(1)


def parity(source: Carriers) -> Bool[Tensor, "batch rows"]:
    """Every second row is a source, the first one included, in raster order of the carriers."""
    row = torch.arange(source.rows, device=source.group.device)
    return (row % 2 == 0) & present(source)


def windows(source: Carriers, grid_hw: tuple[int, int]) -> Bool[Tensor, "batch rows"]:
    """All rows but the first of each window of 2 x 2 tokens, in raster order of the carriers.

    Destinations then lie evenly in rows and columns, where parity makes stripes on grids of an even number of
    columns (ToMeSD, Bolya & Hoffman 2023, whose grids need not divide either).
    """
    columns, across = grid_hw[1], -(-grid_hw[1] // 2)
    index = source.kept.rows.squeeze(-1)
    window = index // columns // 2 * across + index % columns // 2
    window = torch.where(present(source), window, across * -(-grid_hw[0] // 2))  # padding apart
    row = torch.arange(source.rows, device=index.device).expand_as(window)
    size = int(across * -(-grid_hw[0] // 2)) + 1
    first = torch.full((len(window), size), source.rows, device=index.device)
    first = first.scatter_reduce(1, window, row, "amin")
    return (first.gather(1, window) != row) & present(source)


def present(source: Carriers) -> Bool[Tensor, "batch rows"]:
    """Rows that are no padding."""
    seen = source.kept.present
    return torch.ones_like(source.size, dtype=torch.bool) if seen is None else seen


def match(
    metric: Float[Tensor, "batch rows dim"], sources: Bool[Tensor, "batch rows"], source: Carriers
) -> Matches:
    """The destination of the largest cosine for each source.

    Args:
        metric: what is compared; rows of zeros are like nothing (cosine 0), never NaN.
        sources: the other rows present are destinations.
    """
    unit = F.normalize(metric.detach().float(), dim=-1)
    return matched(gather_kept(unit, sources), gather_kept(unit, ~sources & present(source)))


def matched(first: Kept, second: Kept) -> Matches:
    """The row of `second` with the largest product for each row of `first`."""
    alike = first.rows @ second.rows.transpose(1, 2)  # (B, sources, destinations)
    if second.present is not None:
        alike = alike.masked_fill(~second.present.unsqueeze(1), float("-inf"))
    if not alike.shape[2]:  # nowhere to go
        nowhere = alike.new_full(alike.shape[:2], float("-inf"))
        return Matches(first, first.index, nowhere)
    likeness, place = alike.max(dim=2)
    if first.present is not None:
        likeness = likeness.masked_fill(~first.present, float("-inf"))
    return Matches(first, second.index.gather(1, place), likeness)


def surplus(source: Carriers, target: int) -> Int[Tensor, " batch"]:
    """How many carriers of each image are more than `target`."""
    return (source.keep.sum(dim=1) - target).clamp(min=0)
