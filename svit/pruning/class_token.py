"""What the attention-based methods share: an artificial class token that travels beside the map.

Dense models have no class token, so these methods own one (paper 4.1: "we insert an artificial class token
and find it still works well"). It never enters injector, extractor or detector, is never reported as a patch,
and learns only through the patches that attend to it.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from svit.pruning.base import Kept, Method, State, gather_kept, in_stage


@dataclass(frozen=True)
class TokenSequence:
    """The class token, any extra tokens, and the kept patches of a batch, side by side.

    Attributes:
        tokens: (B, 1 + E + K, C).
        mask: bool (B, 1 + E + K), False for padding; None without any.
        kept: where the patches came from.
    """

    tokens: Tensor
    mask: Tensor | None
    kept: Kept

    @property
    def patches_from(self) -> int:
        """Index of the first patch."""
        return self.tokens.shape[1] - self.kept.index.shape[1]


class ClassTokenMethod(Method):
    """A method with an artificial class token, initialised like DeiT's (normal, 0.02)."""

    def __init__(self, dim: int, depth: int, heads: int) -> None:
        super().__init__(dim, depth, heads)
        self.class_token = nn.Parameter(torch.zeros(1, 1, dim))
        nn.init.trunc_normal_(self.class_token, std=0.02)

    def begin(
        self, tokens: Tensor, class_position: Tensor, seeds: list[int] | None = None
    ) -> State:
        """With the class token (B, 1, C) at its position, one an image."""
        state = super().begin(tokens, class_position, seeds)
        state.class_token = (self.class_token + class_position).expand(len(tokens), -1, -1)
        return state

    def assemble(
        self,
        tokens: Float[Tensor, "batch tokens dim"],
        keep: Bool[Tensor, "batch tokens"],
        state: State,
    ) -> TokenSequence:
        """Class token, extra tokens and kept patches in one sequence."""
        kept = gather_kept(tokens, keep)
        fused = [state.extra["fused"]] if "fused" in state.extra else []
        front = torch.cat([state.class_token, *fused], dim=1).to(tokens.dtype)
        rows = torch.cat([front, kept.rows], dim=1)
        if kept.present is None:
            return TokenSequence(rows, None, kept)
        seen = front.new_ones(front.shape[:2], dtype=torch.bool)
        return TokenSequence(rows, torch.cat([seen, kept.present], dim=1), kept)

    @staticmethod
    def project(block: nn.Module, sequence: TokenSequence) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values of the block: scoring and attending share them."""
        return block.attn.project(block.norm1(sequence.tokens))

    @in_stage("selection")
    def class_attention(
        self, block: nn.Module, sequence: TokenSequence, query: Tensor, key: Tensor
    ) -> Float[Tensor, "batch heads kept"]:
        """Attention of the class token to each kept patch in this block: O(N C), no N x N matrix."""
        row = block.attn.class_row(query[:, :, :1], key, sequence.mask)
        return row[..., sequence.patches_from :]

    @staticmethod
    def attend(block: nn.Module, sequence: TokenSequence, *projected: Tensor) -> Tensor:
        """The attention half of the block with its residual, from what `project` returned."""
        return sequence.tokens + block.drop_path(block.attn.mix(*projected, sequence.mask))

    @staticmethod
    def called_back(wanted: Tensor, keep: Tensor, alive: Tensor) -> bool:
        """Whether an edit of `wanted` keeps a token that was dropped before, and so has to take part anew."""
        # values are compared, which waits for the device, only where a hook answered
        return keep is not wanted and bool((keep & ~alive).any())

    @in_stage("selection")
    def to_raster(
        self, sequence: TokenSequence, values: Float[Tensor, "batch kept"], size: int
    ) -> Float[Tensor, "batch tokens"]:
        """Values of the kept patches at their raster positions, 0 elsewhere."""
        if sequence.kept.present is not None:
            values = values * sequence.kept.present
        return values.new_zeros(len(values), size).scatter(1, sequence.kept.index, values)
