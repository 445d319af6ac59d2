"""EViT: keep the patches the class token attends to most (Liang et al., ICLR 2022;
github.com/youweiliang/evit; dense adaptation: SViT paper 4.1, methods.md 9).

Inside blocks 4, 7 and 10, between self-attention and the MLP, the patches with the smallest mean attention
from the class token are dropped for good; optionally one fused token carries their weighted sum on.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from svit.pruning.base import State, all_tokens, gather_kept, in_stage, scatter_kept
from svit.pruning.class_token import ClassTokenMethod, TokenSequence
from svit.pruning.options import check_ratios, gated_blocks, preserves
from svit.pruning.sampling import best_of


class EViT(ClassTokenMethod):
    """Class-attention top-k inside three blocks; the same in training and inference.

    The recorded mask of a deciding block stands for its MLP half: its self-attention still sees every token
    that entered. Choices that no source settles: no fused token by default (it would duplicate preserved
    information), and a preserved token keeps its value after self-attention, which is already computed.

    Args:
        keep_ratio: share kept of the tokens that enter a deciding block; counts are rounded up.
        locations: zero-based deciding blocks; default 4, 7, 10 in the paper's count.
        retain: "remove" zeroes dropped tokens, "preserve" leaves them in the map (paper Table 2).
        fuse: carry the attention-weighted sum of dropped tokens as one extra token.

    Raises:
        ValueError: a ratio outside (0, 1], an unknown `retain`, or impossible locations.
    """

    def __init__(
        self,
        dim: int,
        depth: int,
        heads: int,
        *,
        keep_ratio: float = 0.7,
        locations: Sequence[int] | None = None,
        retain: str = "remove",
        fuse: bool = False,
    ) -> None:
        super().__init__(dim, depth, heads)
        check_ratios([keep_ratio])
        stages = 3 if locations is None else len(locations)
        self.locations, self.staged = gated_blocks(locations, stages, depth, stages=True), True
        self.keep_ratios = [keep_ratio ** (stage + 1) for stage in range(stages)]
        self.keep_ratio, self.preserve, self.fuse = keep_ratio, preserves(retain), fuse

    def set_keep_ratios(self, ratios: Sequence[float]) -> None:
        """Refused with a ValueError: counts follow from `keep_ratio` and what enters a block."""
        raise ValueError("EViT keeps one share of what enters a block: set its option keep_ratio")

    def forward(self, layer: int, block: nn.Module, tokens: Tensor, state: State) -> Tensor:
        """Self-attention runs on all living tokens, the MLP on those that the block keeps."""
        alive = all_tokens(tokens) if state.previous is None else state.previous
        sequence = self.assemble(tokens, alive, state)
        projected, score, wanted = self.project(block, sequence), None, alive
        if layer in self.locations:
            score = self._score(block, sequence, projected, tokens.shape[1])
            wanted = self._best(score, alive)
        keep = self.probe(layer, wanted, state)
        if self.called_back(wanted, keep, alive):  # it takes part in both halves
            sequence = self.assemble(tokens, alive | keep, state)
            projected = self.project(block, sequence)
        attended = self.attend(block, sequence, *projected)
        front, patches = attended.tensor_split([sequence.patches_from], dim=1)
        held = scatter_kept(self._canvas(tokens), sequence.kept, patches)
        if score is not None and self.fuse:
            front = torch.cat([front, self._fused(held, score, alive & ~keep)], dim=1)
        return self._feed_forward(block, front, held, keep, state)

    @in_stage("selection")
    def _score(
        self, block: nn.Module, sequence: TokenSequence, projected: tuple[Tensor, ...], size: int
    ) -> Tensor:
        """Attention of the class token to each patch, averaged over heads: (B, N), 0 where dropped."""
        query, key, _ = projected
        attention = self.class_attention(block, sequence, query, key).mean(dim=1)
        return self.to_raster(sequence, attention, size)

    @in_stage("selection")
    def _best(self, score: Tensor, alive: Tensor) -> Tensor:
        """ceil(ratio * n) of the n living tokens (in whole thousandths, so that 0.7 * 10 is 7)."""
        thousandths = round(self.keep_ratio * 1000)
        count = (alive.sum(dim=1) * thousandths + 999) // 1000
        return best_of(score, count, alive)

    def _canvas(self, tokens: Tensor) -> Tensor:
        return tokens if self.preserve else torch.zeros_like(tokens)

    def _feed_forward(
        self, block: nn.Module, front: Tensor, held: Tensor, keep: Tensor, state: State
    ) -> Tensor:
        """The MLP half, on the class token, fused tokens and kept patches only."""
        kept = gather_kept(held, keep)
        updated = block.feed_forward(torch.cat([front, kept.rows], dim=1))
        front, patches = updated.tensor_split([front.shape[1]], dim=1)
        state.class_token = front[:, :1]
        if front.shape[1] > 1:
            state.extra["fused"] = front[:, 1:]
        return scatter_kept(self._canvas(held), kept, patches)

    @staticmethod
    def _fused(held: Tensor, score: Tensor, dropped: Tensor) -> Tensor:
        """Sum over dropped tokens of score * token, not normalised, as released: (B, 1, C)."""
        weight = (score * dropped).to(held.dtype)
        return (weight.unsqueeze(1) @ held).to(held.dtype)
