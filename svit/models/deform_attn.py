"""Multi-scale deformable attention in plain PyTorch (Deformable DETR; `ops/modules/ms_deform_attn.py` of
github.com/uzh-rpg/svit). Numerically equal to the official op: bilinear sampling, zeros outside.

Two forms of one sum. `sample_and_mix` samples every point and then mixes: the plain form, which trains.
`gather_and_mix` sees that a query's result is a weighted sum of rows of the value table, four a point, and
leaves it to `embedding_bag`, whose kernel reads whole rows: the form for inference on a CPU.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from svit.models.size_cache import SizeCache
from svit.system.products import linear

Shapes = Sequence[tuple[int, int]]


class DeformableAttention(nn.Module):
    """Each query samples a few points of every level and mixes them with learned weights.

    Args:
        dim: channels C of queries and features.
        levels: feature levels sampled.
        heads: attention heads.
        points: sampling points a head and level.
        ratio: channels of the value projection relative to C.
    """

    def __init__(self, dim: int, levels: int, heads: int, points: int, ratio: float) -> None:
        super().__init__()
        self.levels, self.heads, self.points = levels, heads, points
        inner = int(dim * ratio)
        if inner % heads:
            raise ValueError(f"expected value channels divisible by {heads} heads, found {inner}")
        self.sampling_offsets = nn.Linear(dim, heads * levels * points * 2)
        self.attention_weights = nn.Linear(dim, heads * levels * points)
        self.value_proj = nn.Linear(dim, inner)
        self.output_proj = nn.Linear(inner, dim)
        self._tables: SizeCache[CellTable] = SizeCache()
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """A ring of directions, one a head, 1..points cells away; uniform weights (methods.md 2.4)."""
        nn.init.zeros_(self.sampling_offsets.weight)
        angle = torch.arange(self.heads) * (2 * math.pi / self.heads)
        direction = torch.stack([angle.cos(), angle.sin()], dim=-1)
        direction = direction / direction.abs().amax(dim=-1, keepdim=True)
        distance = torch.arange(1, self.points + 1).float()
        ring = direction[:, None, None, :] * distance[None, None, :, None]  # (heads, 1, points, 2)
        with torch.no_grad():
            self.sampling_offsets.bias.copy_(ring.expand(-1, self.levels, -1, -1).flatten())
        nn.init.zeros_(self.attention_weights.weight)
        nn.init.zeros_(self.attention_weights.bias)
        for projection in (self.value_proj, self.output_proj):
            nn.init.xavier_uniform_(projection.weight)
            nn.init.zeros_(projection.bias)

    def forward(
        self,
        query: Float[Tensor, "batch queries dim"],
        reference: Float[Tensor, "queries 2"],
        features: Float[Tensor, "batch cells dim"],
        shapes: Shapes,
    ) -> Float[Tensor, "batch queries dim"]:
        """Sampled and mixed features.

        Args:
            reference: (x, y) of each query in [0, 1].
            features: the cells of all levels, concatenated in raster order.
            shapes: (rows, columns) of each level.
        """
        value = self.value_proj(features).unflatten(2, (self.heads, -1))
        if _gathers(query, shapes):
            mixed = self._gathered(query, reference, value, shapes)
        else:
            locations = self._locations(query, reference, shapes)
            mixed = sample_and_mix(value, shapes, locations, self._weights(query))
        return self.output_proj(mixed)

    def _locations(
        self, query: Tensor, reference: Tensor, shapes: Shapes
    ) -> Float[Tensor, "batch queries heads levels points 2"]:
        """Sampling points (x, y) in [0, 1]; offsets are learned in cells of their level."""
        spread = (*query.shape[:2], self.heads, self.levels, self.points, 2)
        offsets = self.sampling_offsets(query).float().view(spread)
        cells = torch.tensor([(w, h) for h, w in shapes], device=query.device, dtype=offsets.dtype)
        return reference[None, :, None, None, None, :] + offsets / cells[:, None, :]

    def _weights(self, query: Tensor) -> Float[Tensor, "batch queries heads levels points"]:
        spread = (*query.shape[:2], self.heads, self.levels, self.points)
        return self.attention_weights(query).view(*spread[:3], -1).softmax(dim=-1).view(spread)

    def _gathered(
        self, query: Tensor, reference: Tensor, value: Tensor, shapes: Shapes
    ) -> Float[Tensor, "batch queries inner"]:
        """As the plain form, in an order of numbers that long loops run through: x, y and weights apart."""
        key = (tuple(shapes), query.device)
        table = self._tables.get(
            key, lambda: cell_table(shapes, self.heads, self.points, query.device)
        )
        x, y = self._axis(query, 0).float(), self._axis(query, 1).float()
        x = x.add_(reference[:, :1] * table.columns).sub_(0.5)
        y = y.add_(reference[:, 1:] * table.rows).sub_(0.5)
        return gather_and_mix(value, table, x, y, self._flat_weights(query))

    def _axis(self, query: Tensor, axis: int) -> Tensor:
        """Offsets along x (0) or y (1): (batch, queries, heads * levels * points)."""
        offsets = self.sampling_offsets
        return linear(query, offsets.weight[axis::2], offsets.bias[axis::2])

    def _flat_weights(self, query: Tensor) -> Tensor:
        """Softmax over a head's points, in rows of all queries: (batch, queries, heads * levels * points)."""
        scores = self.attention_weights
        logits = (scores.weight @ query.transpose(1, 2)).unflatten(1, (self.heads, -1))
        logits = logits + scores.bias.view(self.heads, -1, 1)
        return logits.softmax(dim=2).flatten(1, 2).transpose(1, 2).contiguous()


def _gathers(query: Tensor, shapes: Shapes) -> bool:
    """Whether `gather_and_mix` serves: no gradient, a CPU, and two corners along each side of a level."""
    if torch.is_grad_enabled() or query.device.type != "cpu":
        return False
    return min(side for shape in shapes for side in shape) > 1


def sample_and_mix(
    value: Float[Tensor, "batch cells heads channels"],
    shapes: Shapes,
    locations: Float[Tensor, "batch queries heads levels points 2"],
    weights: Float[Tensor, "batch queries heads levels points"],
) -> Float[Tensor, "batch queries inner"]:
    """Weighted sum of bilinear samples over levels and points; the heads end up side by side."""
    batch, queries, heads = weights.shape[:3]
    grids = (2 * locations - 1).permute(3, 0, 2, 1, 4, 5).flatten(1, 2)  # (L, B*heads, Q, P, 2)
    sampled = []
    for level, cells in enumerate(value.split([h * w for h, w in shapes], dim=1)):
        image = cells.permute(0, 2, 3, 1).reshape(batch * heads, -1, *shapes[level])
        # half precision is too coarse for coordinates, and grid_sample wants one dtype
        sampled.append(
            F.grid_sample(image.float(), grids[level], "bilinear", "zeros", align_corners=False)
        )
    points = torch.cat(sampled, dim=-1)  # (B*heads, channels, Q, L*P)
    mix = weights.permute(0, 2, 1, 3, 4).reshape(batch * heads, 1, queries, -1)
    mixed = (points * mix).sum(dim=-1)
    return mixed.view(batch, -1, queries).transpose(1, 2).to(value.dtype)


@dataclass(frozen=True)
class CellTable:
    """Where the levels lie in a table with one row a (cell, head); one entry for each head, level and point.

    Attributes:
        columns, rows: the level's size, float32.
        first: the table's row of the level's first cell for this head, float32 (exact below 2 ** 24).
        down: int32 rows from a cell to the one below it.
        right: rows from a cell to the next one, the number of heads.
        points: points of all levels that a head mixes.
    """

    columns: Float[Tensor, " entries"]
    rows: Float[Tensor, " entries"]
    first: Float[Tensor, " entries"]
    down: Int[Tensor, " entries"]
    right: int
    points: int


def cell_table(shapes: Shapes, heads: int, points: int, device: torch.device) -> CellTable:
    """The table of these levels, concatenated in raster order, heads side by side."""
    starts = [sum(h * w for h, w in shapes[:level]) for level in range(len(shapes))]
    levels = [(w, h, start * heads) for (h, w), start in zip(shapes, starts)]
    entries = torch.tensor(levels, device=device).repeat_interleave(points, dim=0).repeat(heads, 1)
    columns, rows, first = entries.t().contiguous()
    first = first + torch.arange(heads, device=device).repeat_interleave(len(shapes) * points)
    down = (columns * heads).int()
    sides = columns.float(), rows.float(), first.float()
    return CellTable(*sides, down, heads, len(shapes) * points)


def gather_and_mix(
    value: Float[Tensor, "batch cells heads channels"],
    table: CellTable,
    x: Float[Tensor, "batch queries entries"],
    y: Float[Tensor, "batch queries entries"],
    weights: Float[Tensor, "batch queries entries"],
) -> Float[Tensor, "batch queries inner"]:
    """`sample_and_mix` as sums of table rows, one a corner, for points in cells (centre of the first: 0).

    Not differentiable in x and y where a point hits a cell's centre. Every side of a level has two cells.
    """
    batch, cells, heads, channels = value.shape
    left, right_share, left_share = _corners(x, table.columns)
    top, bottom_share, top_share = _corners(y, table.rows)
    index = (top * table.columns).add_(left).mul_(heads).add_(table.first).int()
    index += (torch.arange(batch, device=index.device) * (cells * heads)).int()[:, None, None]
    rows, mixed = value.reshape(-1, channels).float(), None
    for start, vertical in ((index, top_share), (index + table.down, bottom_share)):
        vertical = vertical * weights
        for place, share in ((start, left_share), (start + heads, right_share)):
            share = (share * vertical).view(-1, table.points)
            place = place.view(-1, table.points)
            sums = F.embedding_bag(place, rows, mode="sum", per_sample_weights=share)
            mixed = sums if mixed is None else mixed.add_(sums)
    return mixed.view(*weights.shape[:2], -1).to(value.dtype)


def _corners(at: Tensor, cells: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The first of two neighbouring cells inside the level, and the shares of the second and the first.

    A share is max(0, 1 - distance): it vanishes beyond one cell outside, so that no point needs a test.
    """
    first = at.floor().clamp_(min=0).minimum(cells - 2)
    away = at - first
    second_share = (away - 1).abs_().neg_().add_(1).clamp_(min=0)
    # a point that is not a number keeps its share but must not address memory
    return first.nan_to_num_(0.0), second_share, away.abs_().neg_().add_(1).clamp_(min=0)
