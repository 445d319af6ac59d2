"""SPViT: soft pruning, dropped tokens travel on as one package token (Kong et al., ECCV 2022; methods.md 8).

Before blocks 4, 7 and 10 a classifier that weighs attention heads scores the tokens still there. What it
drops is not thrown away: the mean of the dropped tokens, weighted by their scores, is a token more from
there on. The official code (PeiyanFlying/SPViT) has no licence; this file follows the paper's idea.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from svit.core.catalogue import STAGE_RATIOS
from svit.pruning.base import Block, State, in_stage
from svit.pruning.methods.svit import SViT


@dataclass
class Packages:
    """The package tokens of a forward, which lie beside the map.

    Attributes:
        rows: (B, P, C), one a deciding block that was passed.
        present: bool (B, P), False where an image dropped nothing then.
    """

    rows: Tensor
    present: Tensor

    def beside(self, block: Block) -> Block:
        """The block on rows and packages together; it returns the rows and remembers the packages."""

        def run(rows: Tensor, key_mask: Tensor | None = None) -> Tensor:
            size = rows.shape[1]
            own = rows.new_ones(rows.shape[:2], dtype=torch.bool) if key_mask is None else key_mask
            seen = torch.cat([own, self.present], dim=1)
            updated = block(torch.cat([rows, self.rows.to(rows.dtype)], dim=1), key_mask=seen)
            self.rows = updated[:, size:]
            return updated[:, :size]

        return run


class SPViT(SViT):
    """Gates at stages, inherited decisions, and a package of what each stage drops.

    Choices that no source settles for detection: a package has no place on the map, so dropped tokens are
    preserved there as they were; the ratio loss is Eq. 3 with lambda 4, as DynamicViT's here; no
    distillation. The package is a mean (in the release the division is commented out, and a map has many
    more tokens than 196). The search of ratios by latency is left out.

    Args:
        keep_ratios: share of all N tokens left after each stage.
        locations: zero-based blocks before which a classifier decides; default 4, 7, 10 in the paper's count.
        ratio_weight: lambda of Eq. 3.
        inference: as of `svit.pruning.methods.svit.SViT`; the release samples.
        bias: initial log-odds of the classifiers; None starts even.

    Raises:
        ValueError: a ratio outside (0, 1], an unknown mode, or locations that do not match.
    """

    def __init__(
        self,
        dim: int,
        depth: int,
        heads: int,
        *,
        keep_ratios: Sequence[float] = STAGE_RATIOS,
        locations: Sequence[int] | None = None,
        ratio_weight: float = 4.0,
        inference: str = "threshold",
        bias: float | None = None,
    ) -> None:
        super().__init__(
            dim,
            depth,
            heads,
            keep_ratios=keep_ratios,
            locations=locations,
            inherit=True,
            ratio_loss="fixed",
            ratio_weight=ratio_weight,
            inference=inference,
            gate="head_weighted",
            bias=bias,
        )

    def forward(self, layer: int, block: Block, tokens: Tensor, state: State) -> Tensor:
        """As SViT without reactivation; `run_kept` packs what a deciding block drops."""
        state.extra["alive"] = state.previous
        return super().forward(layer, block, tokens, state)

    def run_kept(
        self, layer: int, block: Block, tokens: Tensor, keep: Tensor, state: State
    ) -> Tensor:
        """The block on kept tokens and packages; a deciding block makes a new package first."""
        if layer in self.locations:
            self._pack(tokens, keep, state)
        return super().run_kept(layer, state.extra["packages"].beside(block), tokens, keep, state)

    def _log_odds(
        self, index: int, layer: int, tokens: Tensor, state: State
    ) -> Float[Tensor, "batch tokens"]:
        state.extra["log_odds"] = super()._log_odds(index, layer, tokens, state)
        return state.extra["log_odds"]

    @in_stage("selection")
    def _pack(self, tokens: Tensor, keep: Bool[Tensor, "batch tokens"], state: State) -> None:
        """Adds the mean of the tokens dropped now, weighted by their probability of being kept."""
        alive, before = state.extra["alive"], state.extra.get("packages")
        dropped = ~keep if alive is None else alive & ~keep
        weight = state.extra["log_odds"].sigmoid() * dropped
        total = weight.sum(dim=1, keepdim=True).clamp(min=1e-8)
        package = (weight / total).to(tokens.dtype).unsqueeze(1) @ tokens
        present = dropped.any(dim=1, keepdim=True)
        if before is not None:
            package = torch.cat([before.rows, package.to(before.rows.dtype)], dim=1)
            present = torch.cat([before.present, present], dim=1)
        state.extra["packages"] = Packages(package, present)
