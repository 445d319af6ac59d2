"""Evo-ViT: slow and fast tokens by accumulated class attention (Xu et al., AAAI 2022; the detection adapter
`mmdet_custom/models/backbones/evo_vit_adapter.py` of github.com/uzh-rpg/svit; methods.md 10).

Before every pruned block all patches are sorted by a running average of the attention the class token paid
them; the best go through the block, the others stay in the map unchanged.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from svit.core.catalogue import PAPER_KEEP_RATIOS
from svit.pruning.base import State, all_tokens, in_stage, scatter_kept
from svit.pruning.class_token import ClassTokenMethod
from svit.pruning.sampling import best_of, floor_share


class EvoViT(ClassTokenMethod):
    """Per-block top-k of a global class attention; preserved by design, reactivation possible in theory.

    In practice the same tokens win again (paper Table 1, note 2): processed tokens share unit attention over
    fewer keys, so their scores rise against the stale ones.

    Args:
        keep_ratios: share of all N tokens that pass each pruned block; rounded down, at least one token.
        locations: zero-based pruned blocks; default the last `len(keep_ratios)`.
        tradeoff: weight of the newest attention in the running average (the adapter's scalar 0.5; block 1
            always replaces).

    Raises:
        ValueError: a ratio outside (0, 1] or locations that do not match.
    """

    def __init__(
        self,
        dim: int,
        depth: int,
        heads: int,
        *,
        keep_ratios: Sequence[float] = PAPER_KEEP_RATIOS,
        locations: Sequence[int] | None = None,
        tradeoff: float = 0.5,
    ) -> None:
        super().__init__(dim, depth, heads)
        self.decide_at(keep_ratios, locations)
        self.tradeoff = tradeoff

    def forward(self, layer: int, block: nn.Module, tokens: Tensor, state: State) -> Tensor:
        """The block on the best tokens so far; its class attention updates their running average."""
        keep = self.probe(layer, self._wanted(layer, tokens, state), state)
        sequence = self.assemble(tokens, keep, state)
        query, key, value = self.project(block, sequence)
        attention = self.class_attention(block, sequence, query, key).sum(dim=1)
        updated = block.feed_forward(self.attend(block, sequence, query, key, value))
        self._remember(self.to_raster(sequence, attention, tokens.shape[1]), keep, state)
        state.class_token = updated[:, :1]
        return scatter_kept(tokens, sequence.kept, updated[:, 1:])

    @in_stage("selection")
    def _wanted(self, layer: int, tokens: Tensor, state: State) -> Tensor:
        everything = all_tokens(tokens)
        score = state.extra.get("attention")
        if layer not in self.locations or score is None:
            return everything
        size = tokens.shape[1]
        count = floor_share(self.keep_ratios[self.locations.index(layer)], size)
        return best_of(score, torch.full((len(tokens),), count, device=tokens.device), everything)

    @in_stage("selection")
    def _remember(
        self, attention: Float[Tensor, "batch tokens"], keep: Tensor, state: State
    ) -> None:
        """S <- (1 - b) S + b A on processed tokens; the others keep their S (methods.md 10.1)."""
        old = state.extra.get("attention")
        if old is None:
            state.extra["attention"] = attention.detach()
            return
        mixed = (1 - self.tradeoff) * old + self.tradeoff * attention.detach()
        state.extra["attention"] = torch.where(keep, mixed, old)
