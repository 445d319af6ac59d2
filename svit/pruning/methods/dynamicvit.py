"""DynamicViT: a predictor drops tokens stage by stage, for good (Rao et al., NeurIPS 2021;
github.com/raoyongming/DynamicViT; dense adaptation: SViT paper 4.1, methods.md 7).

Before blocks 4, 7 and 10 a local-global predictor scores the tokens that are left. Training draws hard Gumbel
decisions that multiply the earlier ones; inference keeps a fixed number, the best round(ratio * N).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from svit.core.catalogue import STAGE_RATIOS
from svit.pruning.base import (
    Method,
    State,
    all_tokens,
    in_stage,
    run_block,
    run_masked,
    straight_through,
)
from svit.pruning.gates import build_gate
from svit.pruning.losses import fixed_ratio_loss
from svit.pruning.options import preserves
from svit.pruning.sampling import best_of, logistic_noise


class DynamicViT(Method):
    """Predictors at stages, inherited decisions, fixed counts at inference.

    Choices that no source settles for detection: the ratio loss is Eq. 3 with lambda 4 (the original's 2 was
    tuned for classification), no distillation, and dropped rows are frozen in training as at inference.

    Args:
        keep_ratios: share of all N tokens left after each stage.
        locations: zero-based blocks before which a predictor decides; default 4, 7, 10 in the paper's count.
        retain: "remove" zeroes dropped tokens, "preserve" leaves them in the map (paper Table 2).
        ratio_weight: lambda of Eq. 3.
        bias: initial log-odds of the predictors; None starts even, as the authors do.

    Raises:
        ValueError: a ratio outside (0, 1], an unknown `retain`, or locations that do not match.
    """

    def __init__(
        self,
        dim: int,
        depth: int,
        heads: int,
        *,
        keep_ratios: Sequence[float] = STAGE_RATIOS,
        locations: Sequence[int] | None = None,
        retain: str = "remove",
        ratio_weight: float = 4.0,
        bias: float | None = None,
    ) -> None:
        super().__init__(dim, depth, heads)
        self.decide_at(keep_ratios, locations, staged=True)
        self.preserve = preserves(retain)
        self.ratio_weight = ratio_weight
        self.noise_scale = 1.0
        self.gates = nn.ModuleList(
            build_gate("local_global", dim, heads, bias) for _ in self.locations
        )

    def forward(self, layer: int, block: nn.Module, tokens: Tensor, state: State) -> Tensor:
        """Decides before the first block of a stage; the later ones go on with its mask."""
        if layer < self.locations[0]:
            return self.run_open_block(layer, block, tokens, state)
        if layer in self.locations:
            wanted, soft = self._decide(layer, tokens, state)
        else:
            wanted, soft = state.previous, state.extra["soft"]
        keep = self.probe(layer, wanted, state)
        if not self.training:
            return run_block(block, tokens, keep, preserve=self.preserve)
        gate = straight_through(keep, soft)
        if layer in self.locations:
            state.gates[layer] = gate
        return run_masked(block, tokens, keep, gate, preserve=self.preserve)

    @in_stage("selection")
    def _decide(self, layer: int, tokens: Tensor, state: State) -> tuple[Tensor, Tensor]:
        """The new decision and its soft form; tokens dropped before stay dropped."""
        stage = self.locations.index(layer)
        alive = state.previous if state.previous is not None else all_tokens(tokens)
        log_probabilities = self.gates[stage](tokens, alive)
        log_odds = self.score_probes[layer](log_probabilities[..., 0] - log_probabilities[..., 1])
        if self.training:
            noisy = log_odds + self.noise_scale * logistic_noise(log_odds)
            soft = noisy.sigmoid() * alive
            state.extra["soft"] = soft
            return (noisy > 0) & alive, soft
        size = max(1, round(self.keep_ratios[stage] * tokens.shape[1]))
        count = torch.full_like(alive.sum(dim=1), size)
        state.extra["soft"] = log_odds.sigmoid()
        return best_of(log_odds, count, alive), state.extra["soft"]

    def losses(self, state: State) -> dict[str, Tensor]:
        """Eq. 3 over the deciding blocks, times lambda."""
        gates = [state.gates[layer] for layer in self.locations]
        return {"ratio_loss": self.ratio_weight * fixed_ratio_loss(gates, self.keep_ratios)}
