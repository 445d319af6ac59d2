"""Dense with an artificial class token that nothing reads: a start for methods that rank by its attention.

A detector has no use for a class token, so EViT, Evo-ViT and ATS meet theirs as a random vector when they
are finetuned. A dense training with the token beside the patches gives it what the paper's DeiT has from
ImageNet: a place in every block's attention, learnt through the patches that attend to it.
"""

from __future__ import annotations

from torch import Tensor, nn

from svit.pruning.base import State, all_tokens, scatter_kept
from svit.pruning.class_token import ClassTokenMethod


class IdleToken(ClassTokenMethod):
    """Keeps every patch and carries a class token along; edits prune it like any other method."""

    def forward(self, layer: int, block: nn.Module, tokens: Tensor, state: State) -> Tensor:
        """The block on class token and all patches."""
        keep = self.probe(layer, all_tokens(tokens), state)
        sequence = self.assemble(tokens, keep, state)
        updated = block(sequence.tokens, sequence.mask)
        state.class_token = updated[:, :1]
        return scatter_kept(tokens, sequence.kept, updated[:, sequence.patches_from :])
