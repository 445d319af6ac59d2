"""The dense model: every block uses every token (DeiT inside ViT-Adapter, paper Table 5, first row)."""

from __future__ import annotations

from torch import Tensor, nn

from svit.pruning.base import Method, State


class Dense(Method):
    """Keeps everything, and says so through the probes; edits prune it like any other method."""

    def forward(self, layer: int, block: nn.Module, tokens: Tensor, state: State) -> Tensor:
        """The block on all tokens."""
        return self.run_open_block(layer, block, tokens, state)
