"""Cropr: tokens are scored by queries that solve a task of their own, and all of them meet again in the last
block (Bergner, Lippert, Mahendran, CVPR 2025; `segm/cropr.py` of github.com/benbergner/cropr at 2f8b624;
methods.md 13.4).

Learned queries read the tokens by cross-attention and predict, in training only, what is to be seen. A
token's score is the sum of its products with all queries: at inference one vector, and nothing else, is left
of the module. Tokens that are dropped wait unchanged until the last block, which runs on all of them.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from timm.layers import Mlp
from torch import Tensor, nn
from torch.nn import functional as F

from svit.core.catalogue import STAGE_RATIOS
from svit.pruning.base import Method, State, all_tokens, in_stage, run_block, run_masked
from svit.pruning.sampling import best_of


class Scorer(nn.Module):
    """Cross-attention from a square of queries, one a place, to the tokens still there, and a head that is
    used in training alone.

    Args:
        dim: channels C.
        side: rows and columns of the queries.
    """

    def __init__(self, dim: int, side: int) -> None:
        super().__init__()
        self.side = side
        self.queries = nn.Parameter(torch.empty(1, side * side, dim))
        nn.init.trunc_normal_(self.queries, std=dim**-0.5)
        self.norm1 = nn.LayerNorm(dim, eps=1e-6)
        self.mlp = Mlp(dim, 4 * dim)
        self.norm2 = nn.LayerNorm(dim)
        self.head = nn.Linear(dim, 1)
        nn.init.trunc_normal_(self.head.weight, std=0.02)
        nn.init.zeros_(self.head.bias)

    def score(self, tokens: Float[Tensor, "batch tokens dim"]) -> Float[Tensor, "batch tokens"]:
        """Sum over queries of raw products, float32."""
        with torch.autocast(tokens.device.type, enabled=False):
            return tokens.detach().float() @ self.queries.detach().sum(dim=(0, 1)).float()

    def forward(
        self,
        tokens: Float[Tensor, "batch tokens dim"],
        alive: Bool[Tensor, "batch tokens"],
        grid_hw: tuple[int, int],
    ) -> Float[Tensor, "batch tokens"]:
        """Log-odds that each place of the grid shows an object, from the tokens still there."""
        square = self.queries.transpose(1, 2).unflatten(2, (self.side, self.side))
        resized = F.interpolate(square, size=grid_hw, mode="bicubic", align_corners=False)
        queries = resized.flatten(2).transpose(1, 2).expand(len(tokens), -1, -1)
        seen = alive | ~alive.any(dim=1, keepdim=True)  # an image without tokens reads all of them
        values = tokens.unsqueeze(1)
        read = F.scaled_dot_product_attention(
            queries.unsqueeze(1).to(values.dtype), values, values, attn_mask=seen[:, None, None]
        ).squeeze(1)
        return self.head(self.norm2(read + self.mlp(self.norm1(read)))).squeeze(2)


class Cropr(Method):
    """Top-k of learned queries at stages; what was dropped is preserved and comes back in the last block.

    Choices that no source settles for detection, whose code is not public: the task of the queries is the
    share of each token that objects cover (one query a place, resized as position embeddings are, where the
    release has one a patch of a fixed size and segmentation classes); tokens are dropped at the stages of the
    other methods instead of a few after every block, and from the start instead of more and more during the
    first half of training.

    Args:
        keep_ratios: share of all N tokens left after each stage.
        locations: zero-based blocks before which a scorer decides; default 4, 7, 10 in the paper's count.
        fuse: last-layer fusion; without it what was dropped never comes back.
        side: rows and columns of each scorer's queries.
        task_weight: of the scorers' task, summed over them. No gradient of it reaches the tokens.

    Raises:
        ValueError: a ratio outside (0, 1], or locations that do not match; with `fuse` the last block cannot
            decide.
    """

    taught = True

    def __init__(
        self,
        dim: int,
        depth: int,
        heads: int,
        *,
        keep_ratios: Sequence[float] = STAGE_RATIOS,
        locations: Sequence[int] | None = None,
        fuse: bool = True,
        side: int = 14,
        task_weight: float = 1.0,
    ) -> None:
        super().__init__(dim, depth, heads)
        self.decide_at(keep_ratios, locations, staged=True)
        if fuse and self.locations[-1] == depth - 1:
            raise ValueError(
                f"locations: block {depth} runs on all tokens with fuse=true and decides nothing, "
                f"found {self.locations}; leave {depth - 1} out or set fuse=false"
            )
        self.fuse, self.task_weight = fuse, task_weight
        self.scorers = nn.ModuleList(Scorer(dim, side) for _ in self.locations)

    def target_ratios(self) -> list[float]:
        """As of every stage; the last block runs on all tokens with `fuse`."""
        targets = super().target_ratios()
        return [*targets[:-1], 1.0] if self.fuse else targets

    def forward(self, layer: int, block: nn.Module, tokens: Tensor, state: State) -> Tensor:
        """Decides before the first block of a stage; later ones go on with its mask, the last with all."""
        if layer < self.locations[0] or (self.fuse and layer == self.depth - 1):
            return self.run_open_block(layer, block, tokens, state)
        wanted = state.previous
        if layer in self.locations:
            wanted = self._wanted(layer, tokens, state)
        keep = self.probe(layer, wanted, state)
        return run_masked(block, tokens, keep) if self.training else run_block(block, tokens, keep)

    @in_stage("selection")
    def _wanted(self, layer: int, tokens: Tensor, state: State) -> Bool[Tensor, "batch tokens"]:
        """round(ratio * N) of the tokens still there; in training the scorer does its task on them, too."""
        stage = self.locations.index(layer)
        scorer, alive = self.scorers[stage], state.previous
        alive = all_tokens(tokens) if alive is None else alive
        if self.training and state.cover is not None:
            found = scorer(tokens.detach(), alive, state.grid_hw).float()
            loss = F.binary_cross_entropy_with_logits(found, state.cover)
            state.extra.setdefault("task", []).append(loss)
        score = self.score_probes[layer](scorer.score(tokens))
        size = max(1, round(self.keep_ratios[stage] * tokens.shape[1]))
        return best_of(score, torch.full_like(alive.sum(dim=1), size), alive)

    def losses(self, state: State) -> dict[str, Tensor]:
        """The scorers' task, summed over them, weighted.

        Raises:
            ValueError: nobody told what objects cover.
        """
        if state.cover is None:
            raise ValueError(
                "Cropr's queries learn from what objects cover, and no targets were shown: train the "
                "detector (`svit train`, `Detector.losses`), which shows them, not its backbone alone"
            )
        return {"task_loss": self.task_weight * torch.stack(state.extra["task"]).sum()}
