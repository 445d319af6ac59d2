"""Multi-scale deformable attention in plain PyTorch (Deformable DETR; `ops/modules/ms_deform_attn.py` of
github.com/uzh-rpg/svit). Numerically equal to the official op: bilinear sampling, zeros outside."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

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
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """A ring of directions, one a head, 1..points cells away; uniform weights (methods.md §2.4)."""
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
        batch, queries, _ = query.shape
        spread = (batch, queries, self.heads, self.levels, self.points)
        value = self.value_proj(features).unflatten(2, (self.heads, -1))
        offsets = self.sampling_offsets(query).float().view(*spread, 2)
        weights = self.attention_weights(query).view(batch, queries, self.heads, -1)
        weights = weights.softmax(dim=-1).view(spread)
        cells = torch.tensor([(w, h) for h, w in shapes], device=query.device, dtype=offsets.dtype)
        locations = reference[None, :, None, None, None, :] + offsets / cells[:, None, :]
        return self.output_proj(sample_and_mix(value, shapes, locations, weights))


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
