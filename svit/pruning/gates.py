"""Gating networks that score each token (paper 3.2 and Fig. 3). Class index 0 keeps, 1 prunes.

All return log-probabilities (B, N, 2) in float32, also under autocast (methods.md 15.5).
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn


class MLPGate(nn.Module):
    """The 2-layer perceptron of SViT: LayerNorm, C -> C/4, GELU, C/4 -> 2 (paper Fig. 3a, Eq. 1).

    Args:
        dim: channels C.
        bias: initial log-odds of keeping. None leaves torch's default initialisation, as the authors do.
    """

    def __init__(self, dim: int, bias: float | None = None) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim, eps=1e-5)
        self.fc1 = nn.Linear(dim, dim // 4)
        self.act = nn.GELU()
        self.fc2 = nn.Linear(dim // 4, 2)
        if bias is not None:
            self._start_open(bias)

    def _start_open(self, bias: float) -> None:
        """Near-constant scores around `bias`, so that training starts close to the dense model."""
        nn.init.normal_(self.fc1.weight, std=self.fc1.in_features**-0.5)
        nn.init.normal_(self.fc2.weight, std=0.1)
        nn.init.zeros_(self.fc1.bias)
        with torch.no_grad():
            self.fc2.bias.copy_(torch.tensor([bias / 2, -bias / 2]))

    def forward(
        self,
        tokens: Float[Tensor, "batch tokens dim"],
        policy: Float[Tensor, "batch tokens"] | None = None,
    ) -> Float[Tensor, "batch tokens 2"]:
        """Scores of each token by itself; the policy is not looked at."""
        with torch.autocast(tokens.device.type, enabled=False):
            hidden = self.act(self.fc1(self.norm(tokens.float())))
            return self.fc2(hidden).log_softmax(dim=-1)


class LocalGlobalGate(nn.Module):
    """DynamicViT's predictor: half of the channels per token, half averaged over kept tokens.

    LayerNorm, C -> C, GELU; the averaged half is broadcast and concatenated; C -> C/2 -> C/4 -> 2
    (paper Fig. 3b; `models/dyvit.py` of github.com/raoyongming/DynamicViT).

    Args:
        dim: channels C.
        bias: initial log-odds of keeping; None starts even, as the authors do.
    """

    def __init__(self, dim: int, bias: float | None = None) -> None:
        super().__init__()
        self.embed = nn.Sequential(nn.LayerNorm(dim, eps=1e-5), nn.Linear(dim, dim), nn.GELU())
        self.score = _scoring_head(dim)
        initialise_predictor(self, self.score[-1], bias)

    def forward(
        self,
        tokens: Float[Tensor, "batch tokens dim"],
        policy: Float[Tensor, "batch tokens"] | None = None,
    ) -> Float[Tensor, "batch tokens 2"]:
        """Args: policy: tokens that count in the average, in {0, 1}; None counts all."""
        with torch.autocast(tokens.device.type, enabled=False):
            mixed = mix_local_and_global(self.embed(tokens.float()), policy)
            return self.score(mixed).log_softmax(dim=-1)


class HeadWeightedGate(nn.Module):
    """SPViT's multi-head classifier: a local-global score a head, weighted by how much each head matters.

    One small predictor is shared by all heads, as in the released code (methods.md 8.2); the paper's text
    has one a head (`shared=False`).

    Args:
        dim: channels C.
        bias: initial log-odds of keeping; None starts even.
        heads: attention heads h; each scores its C/h channels.
        shared: one predictor for all heads.
    """

    def __init__(
        self, dim: int, bias: float | None = None, *, heads: int, shared: bool = True
    ) -> None:
        super().__init__()
        self.heads, width = heads, dim // heads
        count = 1 if shared else heads
        self.embed = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(width, eps=1e-5), nn.Linear(width, width), nn.GELU())
            for _ in range(count)
        )
        self.score = nn.ModuleList(_scoring_head(width) for _ in range(count))
        hidden = max(1, heads // 2)
        self.weight = nn.Sequential(
            nn.Linear(heads, hidden), nn.GELU(), nn.Linear(hidden, heads), nn.Sigmoid()
        )
        for score in self.score:
            initialise_predictor(self, score[-1], bias)

    def forward(
        self,
        tokens: Float[Tensor, "batch tokens dim"],
        policy: Float[Tensor, "batch tokens"] | None = None,
    ) -> Float[Tensor, "batch tokens 2"]:
        """Args: policy: tokens that count in the average of each head, in {0, 1}; None counts all."""
        with torch.autocast(tokens.device.type, enabled=False):
            parts = tokens.float().unflatten(2, (self.heads, -1))
            weight = self.weight(parts.mean(dim=-1)).unsqueeze(-1)  # (B, N, heads, 1)
            scores = [self._head(head, parts[:, :, head], policy) for head in range(self.heads)]
            mixed = (torch.stack(scores, dim=2) * weight).sum(dim=2) / weight.sum(dim=2)
            return mixed.log_softmax(dim=-1)

    def _head(self, head: int, part: Tensor, policy: Tensor | None) -> Tensor:
        index = head % len(self.embed)
        mixed = mix_local_and_global(self.embed[index](part), policy)
        return self.score[index](mixed).log_softmax(dim=-1)


def mix_local_and_global(
    hidden: Float[Tensor, "batch tokens dim"], policy: Float[Tensor, "batch tokens"] | None
) -> Float[Tensor, "batch tokens dim"]:
    """The first half of the channels as it is, the second averaged over the tokens of the policy.

    The divisor is at least 1: an image that keeps nothing has an average of zero, not NaN.
    """
    local, spread = hidden.chunk(2, dim=-1)
    weight = torch.ones_like(hidden[..., :1]) if policy is None else policy.float().unsqueeze(-1)
    average = (spread * weight).sum(dim=1, keepdim=True) / weight.sum(dim=1, keepdim=True).clamp(
        min=1
    )
    return torch.cat([local, average.expand_as(spread)], dim=-1)


def _scoring_head(dim: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(dim, dim // 2),
        nn.GELU(),
        nn.Linear(dim // 2, dim // 4),
        nn.GELU(),
        nn.Linear(dim // 4, 2),
    )


def initialise_predictor(predictor: nn.Module, last: nn.Linear, bias: float | None) -> None:
    """Truncated normal weights of 0.02 and zero biases (DynamicViT), the last bias from `bias`."""
    for module in predictor.modules():
        if isinstance(module, nn.Linear):
            nn.init.trunc_normal_(module.weight, std=0.02)
            nn.init.zeros_(module.bias)
    if bias is not None:
        with torch.no_grad():
            last.bias.copy_(torch.tensor([bias / 2, -bias / 2]))


GATES = ("mlp", "local_global", "head_weighted")


def build_gate(kind: str, dim: int, heads: int, bias: float | None) -> nn.Module:
    """A gate of a kind in `GATES`; all are called as gate(tokens, policy).

    Raises:
        ValueError: unknown kind.
    """
    if kind == "mlp":
        return MLPGate(dim, bias)
    if kind == "local_global":
        return LocalGlobalGate(dim, bias)
    if kind == "head_weighted":
        return HeadWeightedGate(dim, bias, heads=heads)
    raise ValueError(f"gate: expected one of {', '.join(GATES)}, found {kind!r}")
