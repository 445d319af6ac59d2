"""The dense model: every block uses every token (DeiT inside ViT-Adapter, paper Table 5, first row)."""

from __future__ import annotations

from torch import Tensor, nn

from svit.pruning.base import Method, State, Traits, all_tokens, run_block


class Dense(Method):
    """Keeps everything, and says so through the probes; an edited probe prunes it all the same."""

    traits = Traits("none", dynamic_rate=False, preserves=True, reactivates=False, source="DeiT")

    def forward(self, layer: int, block: nn.Module, tokens: Tensor, state: State) -> Tensor:
        everything = all_tokens(tokens)
        keep = self.probe(layer, everything, state)
        # no hook answered: skip the gather (comparing values would cost a device synchronisation)
        return block(tokens) if keep is everything else run_block(block, tokens, keep)
