"""Self-attention whose parts a pruning method can reach: projections, the class-token row, selected queries.

It lives beside the methods, one floor below the models that use it, because methods name its parts.
"""

from __future__ import annotations

from collections.abc import Callable

from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from svit.pruning.base import in_stage
from svit.system.products import linear

Kernel = Callable[..., Tensor]
QUERY, QUERY_KEY, KEY_VALUE = slice(0, 1), slice(0, 2), slice(1, 3)


class Attention(nn.Module):
    """Multi-head self-attention with its class-token row in reach.

    Attributes:
        kernel: mixes values by queries and keys, each (B, heads, N, dim / heads), where `attn_mask` is True,
            or with its numbers added to the logits; torch's `scaled_dot_product_attention`, or another one
            to measure.
    """

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)
        self.kernel: Kernel = F.scaled_dot_product_attention

    @in_stage("blocks")
    def project(
        self, tokens: Float[Tensor, "batch tokens dim"], parts: slice = slice(0, 3)
    ) -> tuple[Tensor, ...]:
        """Queries, keys and values (or the slice of them asked for), each (B, heads, N, dim / heads)."""
        dim = tokens.shape[2]
        rows = slice(parts.start * dim, parts.stop * dim)
        mixed = linear(tokens, self.qkv.weight[rows], self.qkv.bias[rows])
        return (
            mixed.unflatten(2, (-1, self.heads, dim // self.heads)).permute(2, 0, 3, 1, 4).unbind(0)
        )

    def merge(self, mixed: Float[Tensor, "batch heads tokens head_dim"]) -> Tensor:
        """Head outputs side by side, projected: (B, N, dim)."""
        return self.proj(mixed.transpose(1, 2).flatten(2))

    def class_row(
        self,
        query: Float[Tensor, "batch heads 1 head_dim"],
        key: Float[Tensor, "batch heads tokens head_dim"],
        key_mask: Bool[Tensor, "batch tokens"] | None = None,
    ) -> Float[Tensor, "batch heads tokens"]:
        """Attention probabilities of one token, float32, without the N x N matrix: O(N C)."""
        scale = query.shape[-1] ** -0.5
        logits = (query.float() * scale @ key.float().transpose(-1, -2)).squeeze(2)
        if key_mask is not None:
            logits = logits.masked_fill(~key_mask.unsqueeze(1), float("-inf"))
        return logits.softmax(dim=-1)

    def forward(
        self,
        tokens: Float[Tensor, "batch tokens dim"],
        key_mask: Bool[Tensor, "batch tokens"] | None = None,
    ) -> Float[Tensor, "batch tokens dim"]:
        """Every token attends to the tokens where `key_mask` is True (all without one)."""
        return self.mix(*self.project(tokens), key_mask)

    @in_stage("blocks")
    def mix(
        self, query: Tensor, key: Tensor, value: Tensor, key_mask: Tensor | None = None
    ) -> Float[Tensor, "batch queries dim"]:
        """Attention of projected queries to the keys where `key_mask` is True, projected. Instead of a mask
        it may be numbers (B, keys) of the queries' type, which are added to the logits of the keys."""
        mask = None if key_mask is None else key_mask[:, None, None, :]
        return self.merge(self.kernel(query, key, value, attn_mask=mask))
