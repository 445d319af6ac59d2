"""Random numbers and top-k: how scores become hard keep decisions, and masks others of equal count."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


def best_of(
    score: Float[Tensor, "batch tokens"],
    count: Int[Tensor, " batch"],
    candidates: Bool[Tensor, "batch tokens"],
) -> Bool[Tensor, "batch tokens"]:
    """The `count` highest-scored candidates of each image (all of them where there are fewer)."""
    ranked = score.masked_fill(~candidates, float("-inf")).argsort(
        dim=1, descending=True, stable=True
    )
    places = torch.arange(score.shape[1], device=score.device).expand_as(ranked)
    rank = torch.empty_like(ranked).scatter(1, ranked, places)
    return (rank < count.unsqueeze(1)) & candidates


def top_tokens(score: Float[Tensor, "batch tokens"], ratio: float) -> Bool[Tensor, "batch tokens"]:
    """The round(ratio * N) highest-scored tokens of each image, at least one."""
    return highest(score, max(1, round(ratio * score.shape[1])))


def highest(score: Float[Tensor, "batch tokens"], count: int) -> Bool[Tensor, "batch tokens"]:
    """The `count` highest-scored tokens of each image."""
    index = score.topk(count, dim=1).indices
    return torch.zeros_like(score, dtype=torch.bool).scatter(1, index, True)


def floor_share(ratio: float, size: int) -> int:
    """floor(ratio * size), at least one, in whole thousandths: 0.7 * 10 is 7, not the 6 of floating point."""
    return max(1, size * round(ratio * 1000) // 1000)


def logistic_noise(like: Tensor) -> Tensor:
    """log(u) - log(1 - u), float32, finite at both ends."""
    uniform = torch.rand_like(like, dtype=torch.float32).clamp(1e-7, 1 - 1e-7)
    return torch.logit(uniform)


def uniform(like: Tensor, seeds: Sequence[int] | None, salt: int) -> Tensor:
    """Uniform numbers (B, N); with seeds each image draws the same ones whatever its batch."""
    if seeds is None:
        return torch.rand_like(like)
    rows = []
    for seed in seeds:
        generator = torch.Generator().manual_seed((seed * 1_000_003 + salt) % 2**63)
        rows.append(torch.rand(like.shape[1], generator=generator))
    return torch.stack(rows).to(like.device)


def permuted(
    keep: Bool[Tensor, "batch tokens"],
    valid: Bool[Tensor, "batch tokens"],
    draws: Float[Tensor, "batch tokens"],
) -> Bool[Tensor, "batch tokens"]:
    """The mask with the valid positions of each image permuted, and its padding positions likewise.

    Equal draws give the same permutation whatever the mask.

    Args:
        valid: tokens that show image pixels.
        draws: uniform numbers in [0, 1), one a position; their order is the permutation.
    """
    here, there = moves(valid, draws)
    return torch.zeros_like(keep).scatter(1, there, keep.gather(1, here))


def moves(
    valid: Bool[Tensor, "batch tokens"], draws: Float[Tensor, "batch tokens"]
) -> tuple[Int[Tensor, "batch tokens"], Int[Tensor, "batch tokens"]]:
    """The permutation of `permuted`: the positions in some order, and where each of them goes."""
    padding = (~valid).float()
    here = padding.argsort(dim=1, stable=True)  # valid positions first
    return here, (padding + draws).argsort(dim=1, stable=True)


def lowest(
    keep: Bool[Tensor, "batch tokens"],
    scores: Float[Tensor, "batch tokens"],
    valid: Bool[Tensor, "batch tokens"],
) -> Bool[Tensor, "batch tokens"]:
    """As many tokens as `keep` has, those with the lowest scores; valid and padding ones separately."""
    groups = (valid, ~valid)
    return torch.stack(
        [best_of(-scores, (keep & group).sum(dim=1), group) for group in groups]
    ).any(dim=0)
