"""Ratio losses: how a gated method is held to its target share of kept tokens (paper 3.3, 4.1)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor


def dynamic_ratio_loss(
    gates: Sequence[Float[Tensor, "batch tokens"]],
    targets: Sequence[float],
    chunk: int = 0,
) -> Float[Tensor, ""]:
    """Eq. 2: mean over layers of (mean keep over batch and tokens - target)^2, without lambda.

    Args:
        gates: keep values in {0, 1} of each gated layer.
        targets: target keep ratio of each gated layer.
        chunk: images that are averaged together; 0 the whole local batch. The official runs average
            over the 4 (T) or 2 (S) images of one device, and the objective depends on that number.
    """
    return _ratio_loss(gates, targets, chunk)


def fixed_ratio_loss(
    gates: Sequence[Float[Tensor, "batch tokens"]], targets: Sequence[float]
) -> Float[Tensor, ""]:
    """Eq. 3: every image is held to the target by itself; equals Eq. 2 with chunks of one image."""
    return _ratio_loss(gates, targets, chunk=1)


def _ratio_loss(gates: Sequence[Tensor], targets: Sequence[float], chunk: int) -> Tensor:
    if len(gates) != len(targets):
        raise ValueError(f"expected {len(targets)} gated layers (one a target), found {len(gates)}")
    keep = torch.stack([gate.float().mean(dim=1) for gate in gates])  # (L, B)
    groups = torch.stack(
        [part.mean(dim=1) for part in keep.split(chunk or keep.shape[1], dim=1)], dim=1
    )
    goal = torch.tensor(targets, device=keep.device, dtype=keep.dtype).unsqueeze(1)
    return (groups - goal).square().mean()
