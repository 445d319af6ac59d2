"""Gating networks that score each token (paper §3.2 and Fig. 3). Class index 0 keeps, 1 prunes.

All return log-probabilities (B, N, 2) in float32, also under autocast (methods.md §15.5).
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

    def forward(self, tokens: Float[Tensor, "batch tokens dim"]) -> Float[Tensor, "batch tokens 2"]:
        with torch.autocast(tokens.device.type, enabled=False):
            hidden = self.act(self.fc1(self.norm(tokens.float())))
            return self.fc2(hidden).log_softmax(dim=-1)
