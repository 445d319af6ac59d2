"""A-ViT: a token halts once its halting scores add up to one (Yin et al., CVPR 2022; github.com/NVlabs/A-ViT
at 120c9cb; methods.md 13.2).

The first channel of a token is its halting score, through a sigmoid; nothing is added to the network. A
token whose scores of the blocks so far pass 1 - epsilon takes part no more. A ponder loss rewards early
halting, and a prior says how deep tokens should go on average.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Bool
from torch import Tensor, nn

from svit.core.catalogue import PAPER_KEEP_RATIOS
from svit.pruning.base import Method, State, all_tokens, in_stage, run_block, run_masked

EPSILON = 0.01  # of adaptive computation time
LEAST = 1e-6  # share of halting mass a block counts as having, so that its logarithm is finite


@dataclass
class Halting:
    """How the tokens of a forward halt; float32.

    Attributes:
        spent: (B, N), sum of the halting scores of the blocks a token ran in.
        ponder: (B, N), number of these blocks, and what was left to one when the token halted.
        shares: of each block, (B, N): the score of tokens that go on, what is left to those that halt.
        maps: of each block, the map (B, N, C) after it. Shares and maps only in training.
    """

    spent: Tensor
    ponder: Tensor
    shares: list[Tensor] = field(default_factory=list)
    maps: list[Tensor] = field(default_factory=list)


class AViT(Method):
    """Halting by the first channel; the number of tokens follows the image, and none comes back.

    What is different on a map without a class token. The authors average the class token over depths,
    weighted by its halting shares. A map must be what the blocks left where nothing halts, so here the
    *value* of a token is its last one, and its *gradient* that of such an average: a score learns whether its
    token had better stopped. The prior is the keep ratios of the other methods, as shares of tokens that halt
    after each block, where the authors have a Gaussian around depth 9 and normalise mean scores; shares add
    up to one by themselves. Their mean runs over all images (the release leaves the first one out, and is NaN
    for a single one).

    Args:
        keep_ratios: share of all N tokens that is to run in each deciding block: the prior. How many do is
            learned.
        locations: zero-based blocks before which tokens may halt; default the last `len(keep_ratios)`.
        gate_scale, gate_centre: gamma and beta of the score sigmoid(gamma * first channel - beta); the
            authors' for the tiny model (beta is 75 for the small one).
        ponder_weight: of the mean number of blocks a token takes.
        prior_weight: of the Kullback-Leibler divergence from the prior.

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
        gate_scale: float = 10.0,
        gate_centre: float = 30.0,
        ponder_weight: float = 5e-4,
        prior_weight: float = 0.1,
    ) -> None:
        super().__init__(dim, depth, heads)
        self.decide_at(keep_ratios, locations)
        self.gate_scale, self.gate_centre = gate_scale, gate_centre
        self.ponder_weight, self.prior_weight = ponder_weight, prior_weight

    @property
    def compares_scores(self) -> bool:
        """A token runs while its scores leave something over."""
        return True

    def forward(self, layer: int, block: nn.Module, tokens: Tensor, state: State) -> Tensor:
        """The block on the tokens that still run; their halting scores are read from what it made of them."""
        if layer == 0 or "halting" not in state.extra:
            zeros = torch.zeros_like(tokens[..., 0], dtype=torch.float32)
            state.extra["halting"] = Halting(zeros, zeros)
        keep = self.probe(layer, self._running(layer, tokens, state), state)
        run = run_masked if self.training else run_block
        updated = run(block, tokens, keep)
        self._spend(layer, updated, keep, state)
        if self.training and layer == self.depth - 1:
            return _averaged_gradient(updated, state.extra["halting"])
        return updated

    @in_stage("selection")
    def _running(self, layer: int, tokens: Tensor, state: State) -> Bool[Tensor, "batch tokens"]:
        """Tokens whose scores have not passed 1 - epsilon; those that halted before stay where they are."""
        alive = all_tokens(tokens) if state.previous is None else state.previous
        if layer not in self.locations:
            return alive
        left = 1 - EPSILON - state.extra["halting"].spent.detach()
        return (self.score_probes[layer](left) > 0) & alive

    @in_stage("selection")
    def _spend(self, layer: int, updated: Tensor, keep: Tensor, state: State) -> None:
        """Adds the block's halting scores; the last one that a token runs in takes what is left to one."""
        halting = state.extra["halting"]
        score = (updated[..., 0].float() * self.gate_scale - self.gate_centre).sigmoid() * keep
        before, halting.spent = halting.spent, halting.spent + score
        if self.training:
            passed = (halting.spent > 1 - EPSILON) | (layer == self.depth - 1)
            # one that may not halt before its block decides has nothing left to share
            open_ones = keep & (before <= 1 - EPSILON)
            rest = (1 - before) * (passed & open_ones)
            halting.ponder = halting.ponder + keep + rest
            halting.shares.append(torch.where(passed, rest, score * open_ones))
            halting.maps.append(updated)

    def losses(self, state: State) -> dict[str, Tensor]:
        """The ponder loss and the divergence of mean halting shares from the prior, both weighted."""
        halting = state.extra["halting"]
        goes_on = torch.tensor([*self.target_ratios(), 0.0], device=halting.spent.device)
        goal = (goes_on[:-1] - goes_on[1:]).clamp(min=0)
        found = torch.stack(halting.shares).mean(dim=(1, 2)).clamp(min=LEAST)
        prior = (goal * (goal.clamp(min=LEAST).log() - found.log())).sum()
        return {
            "ponder_loss": self.ponder_weight * halting.ponder.mean(),
            "halting_loss": self.prior_weight * prior,
        }


def _averaged_gradient(updated: Tensor, halting: Halting) -> Tensor:
    """The last values with the gradient of each token's average over depths, weighted by its shares."""
    shares = torch.stack(halting.shares).unsqueeze(-1)
    average = (shares * torch.stack(halting.maps)).sum(dim=0) + (1 - shares.sum(dim=0)) * updated
    average = average.to(updated.dtype)
    return average + (updated - average).detach()
