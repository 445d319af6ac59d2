"""Selections nobody learned: what a comparison needs beside every learned mask (methods.md 13.5).

They prune the same number of tokens in the same blocks as SViT, preserve the rest and choose anew each time;
with `inherit` random tokens stay dropped. The difference of the two is what reactivation alone is worth.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from svit.core.catalogue import PAPER_KEEP_RATIOS
from svit.pruning.base import Method, State, in_stage, run_block
from svit.pruning.sampling import top_tokens, uniform


class Control(Method):
    """The best round(ratio * N) tokens of each image by a score without parameters.

    Args:
        keep_ratios: share of all N tokens kept in each pruned block.
        locations: zero-based pruned blocks; default the last `len(keep_ratios)`.

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
    ) -> None:
        super().__init__(dim, depth, heads)
        self.decide_at(keep_ratios, locations)

    def forward(self, layer: int, block: nn.Module, tokens: Tensor, state: State) -> Tensor:
        """Ranks tokens before a pruned block and runs it on the best; other blocks run on all."""
        if layer not in self.locations:
            return self.run_open_block(layer, block, tokens, state)
        keep = self.probe(layer, self._wanted(layer, tokens, state), state)
        return run_block(block, tokens, keep)

    @in_stage("selection")
    def _wanted(self, layer: int, tokens: Tensor, state: State) -> Bool[Tensor, "batch tokens"]:
        score = self.score_probes[layer](self.score(layer, tokens, state))
        return top_tokens(score, self.keep_ratios[self.locations.index(layer)])

    def score(self, layer: int, tokens: Tensor, state: State) -> Float[Tensor, "batch tokens"]:
        """What the tokens are ranked by."""
        raise NotImplementedError


class RandomControl(Control):
    """Uniformly random tokens; seeded an image at inference.

    Args:
        keep_ratios, locations: as of every control.
        inherit: one draw for all blocks, so that where ratios fall what was dropped stays dropped; otherwise
            they are drawn anew in every block.
    """

    def __init__(
        self,
        dim: int,
        depth: int,
        heads: int,
        *,
        keep_ratios: Sequence[float] = PAPER_KEEP_RATIOS,
        locations: Sequence[int] | None = None,
        inherit: bool = False,
    ) -> None:
        super().__init__(dim, depth, heads, keep_ratios=keep_ratios, locations=locations)
        self.inherit = inherit

    def score(self, layer: int, tokens: Tensor, state: State) -> Float[Tensor, "batch tokens"]:
        """Uniform numbers in [0, 1)."""
        like = tokens[..., 0].float()
        if not self.inherit:
            return uniform(like, state.seeds, layer)
        if "draw" not in state.extra:
            state.extra["draw"] = uniform(like, state.seeds, 0)
        return state.extra["draw"]


class MagnitudeControl(Control):
    """Tokens of the largest Euclidean norm (the score of SparseViT's windows, methods.md 13.3)."""

    def score(self, layer: int, tokens: Tensor, state: State) -> Float[Tensor, "batch tokens"]:
        """Euclidean norms, float32, without gradient."""
        return torch.linalg.vector_norm(tokens.detach().float(), dim=-1)
