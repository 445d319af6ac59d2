"""SViT: selective vision transformer (paper 3.3; `mmdet_custom/models/backbones/selective_vit_adapter.py`
of github.com/uzh-rpg/svit).

Before a gated block a 2-layer perceptron scores every token of the dense map, also those pruned before. The
block runs on the kept tokens only; pruned tokens stay in the map unchanged and may come back in any later
block. A loss on the batch-averaged keep ratio (Eq. 2) lets complex images keep more tokens than simple ones.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from svit.core.catalogue import PAPER_KEEP_RATIOS
from svit.pruning.base import (
    Block,
    Fitted,
    Method,
    State,
    in_stage,
    run_block,
    run_masked,
    straight_through,
)
from svit.pruning.gates import build_gate
from svit.pruning.losses import dynamic_ratio_loss, fixed_ratio_loss
from svit.pruning.options import check_choice
from svit.pruning.sampling import best_of, logistic_noise, top_tokens, uniform


class SViT(Method):
    """Gates before blocks, preserved and reactivated tokens.

    Args:
        keep_ratios: target share of kept tokens of each gated block, of all N tokens.
        locations: zero-based blocks with a gate; default the last `len(keep_ratios)` blocks, or with
            `inherit` the first block of each later group.
        inherit: no reactivation (paper 4.1): M_l <- M_l * M_{l-1}; the mask of a gated block is reused
            until the next gate, so equal targets share one gate.
        ratio_loss: "dynamic" (Eq. 2) or "fixed" (Eq. 3).
        ratio_weight: lambda of Eq. 2.
        ratio_chunk: images averaged together in Eq. 2; 0 the local batch.
        inference: "sample" draws Bernoulli masks (what the official release does at test time),
            "threshold" keeps where keeping is likelier, "calibrated" keeps above per-block thresholds fitted
            on training images, "topk" keeps the round(ratio * N) best of each image.
        gate: "mlp" (the paper's), "local_global" (DynamicViT's predictor, Fig. 3b) or "head_weighted"
            (SPViT's).
        bias: initial log-odds of the gates; None is torch's default as in the release.

    Raises:
        ValueError: a ratio outside (0, 1], an unknown mode, or locations that do not match.
    """

    modes = ("sample", "threshold", "calibrated", "topk")
    fits = Fitted("thresholds", compares=True, mode="calibrated")

    def __init__(
        self,
        dim: int,
        depth: int,
        heads: int,
        *,
        keep_ratios: Sequence[float] = PAPER_KEEP_RATIOS,
        locations: Sequence[int] | None = None,
        inherit: bool = False,
        ratio_loss: str = "dynamic",
        ratio_weight: float = 4.0,
        ratio_chunk: int = 0,
        inference: str = "threshold",
        gate: str = "mlp",
        bias: float | None = None,
    ) -> None:
        super().__init__(dim, depth, heads)
        self.decide_at(keep_ratios, locations, staged=inherit)
        check_choice("ratio_loss", ratio_loss, ("dynamic", "fixed"))
        self.inherit = inherit
        self.ratio_loss, self.ratio_weight, self.ratio_chunk = ratio_loss, ratio_weight, ratio_chunk
        self.noise_scale = 1.0  # of the Gumbel noise in training; the trainer may lower it
        self.set_inference(inference)
        self.gates = nn.ModuleList(build_gate(gate, dim, heads, bias) for _ in self.locations)
        self.register_buffer("thresholds", torch.zeros(len(self.locations)))

    @property
    def compares_scores(self) -> bool:
        """In all modes but "topk", which ranks."""
        return self.inference != "topk"

    def forward(self, layer: int, block: nn.Module, tokens: Tensor, state: State) -> Tensor:
        """Before a gated block its gate decides; training blends the rows by the gate (Eq. 1)."""
        if layer not in self.locations:
            return self._without_gate(layer, block, tokens, state)
        index = self.locations.index(layer)
        log_odds = self._log_odds(index, layer, tokens, state)
        wanted, soft = self._decide(index, log_odds, state)
        if self.inherit and state.previous is not None:
            wanted = wanted & state.previous
            soft = soft * state.previous
        keep = self.probe(layer, wanted, state)
        if self.training:
            state.gates[layer] = straight_through(keep, soft)
        return self.run_kept(layer, block, tokens, keep, state)

    def _without_gate(self, layer: int, block: nn.Module, tokens: Tensor, state: State) -> Tensor:
        """Blocks without a gate use all tokens; with `inherit` later ones reuse the last mask."""
        if not self.inherit or layer < self.locations[0]:
            return self.run_open_block(layer, block, tokens, state)
        keep = self.probe(layer, state.previous, state)
        return self.run_kept(layer, block, tokens, keep, state)

    def run_kept(
        self, layer: int, block: Block, tokens: Tensor, keep: Tensor, state: State
    ) -> Tensor:
        """The block on the kept tokens; in training blended by the gate where the block has one."""
        if self.training:
            return run_masked(block, tokens, keep, state.gates.get(layer))
        return run_block(block, tokens, keep)

    @in_stage("selection")
    def _log_odds(
        self, index: int, layer: int, tokens: Tensor, state: State
    ) -> Float[Tensor, "batch tokens"]:
        # with reactivation every token is a candidate, so the gate's average runs over all of them
        policy = state.previous if self.inherit else None
        log_probabilities = self.gates[index](tokens, policy)
        return self.score_probes[layer](log_probabilities[..., 0] - log_probabilities[..., 1])

    @in_stage("selection")
    def _decide(
        self, index: int, log_odds: Float[Tensor, "batch tokens"], state: State
    ) -> tuple[Bool[Tensor, "batch tokens"], Float[Tensor, "batch tokens"]]:
        """The hard decision and, for its gradient, the soft one."""
        if self.training:
            # the difference of two Gumbel variables is logistic: hard Gumbel-softmax at tau = 1 (Eq. 1)
            noisy = log_odds + self.noise_scale * logistic_noise(log_odds)
            return noisy > 0, noisy.sigmoid()
        soft = log_odds.sigmoid()
        if self.inference == "sample":
            return uniform(log_odds, state.seeds, index) < soft, soft
        if self.inference == "topk":
            return self._best(index, log_odds, state), soft
        threshold = self.thresholds[index] if self.inference == "calibrated" else 0.0
        return log_odds > threshold, soft

    def _best(
        self, index: int, log_odds: Float[Tensor, "batch tokens"], state: State
    ) -> Bool[Tensor, "batch tokens"]:
        """The target number of tokens, of those that may still be used: all of them, or with `inherit` the
        ones kept so far."""
        if not self.inherit or state.previous is None:
            return top_tokens(log_odds, self.keep_ratios[index])
        count = max(1, round(self.keep_ratios[index] * log_odds.shape[1]))
        counts = torch.full((len(log_odds),), count, device=log_odds.device)
        return best_of(log_odds, counts, state.previous)

    def decide_beside(
        self, index: int, rows: Float[Tensor, "batch extra dim"], state: State
    ) -> Float[Tensor, "batch extra"]:
        """The gate's score of such a token alone, and the decision of all others."""
        log_probabilities = self.gates[index](rows)
        log_odds = log_probabilities[..., 0] - log_probabilities[..., 1]
        wanted, soft = self._decide(index, log_odds, state)
        return straight_through(wanted, soft) if self.training else wanted.to(soft.dtype)

    def losses(self, state: State) -> dict[str, Tensor]:
        """Eq. 2, or Eq. 3 with a fixed rate, over the gated blocks, times lambda."""
        gates = [state.gates[layer] for layer in self.locations]
        if self.ratio_loss == "fixed":
            loss = fixed_ratio_loss(gates, self.keep_ratios)
        else:
            loss = dynamic_ratio_loss(gates, self.keep_ratios, self.ratio_chunk)
        return {"ratio_loss": self.ratio_weight * loss}
