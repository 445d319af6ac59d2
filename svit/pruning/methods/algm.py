"""ALGM: adaptive local-then-global merging (Norouzi et al., CVPR 2024, 3; github.com/tue-mps/algm-segmenter).

In an early block windows of 2 x 2 tokens that are alike become one token each; in a middle block the pairs
that are most alike, wherever they lie, merge by bipartite matching. Both by a threshold on cosines of the
tokens behind the attention, so the count follows the image. The release takes the least count of the batch;
here every image has its own. It asks for a square grid; here windows that the border cuts never merge.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from svit.pruning.base import Fitted, in_stage
from svit.pruning.matching import Matches, match, parity
from svit.pruning.merging import Carriers, Group, MergeState, MergingMethod, grid_of

LOCAL = 0.88  # mean cosine from which a window becomes one token
KEEP_RATIOS = (0.7, 0.56)


class ALGM(MergingMethod):
    """Windows whose six pairs have a mean cosine of at least `thresholds[0]` merge, later pairs with a cosine
    of at least mean + `thresholds[1]` * standard deviation over the image's sources.

    The thresholds are a buffer: 0.88 and 1 / number of the block, as published. Calibration on training
    images (`svit.probing.calibrate`) fits them to the keep ratios; pairs merge at most half of their block's
    tokens.

    Args:
        keep_ratios: share of all N tokens meant to remain behind each of the two blocks, on average over
            images; nothing but calibration reads it.
        locations: the two zero-based blocks; default 1 and 5 of 12 in the paper's count.
        proportional: proportional attention (`MergingMethod`); the release attends without.

    Raises:
        ValueError: a ratio outside (0, 1], or not two blocks that match.
    """

    fits = Fitted("thresholds", compares=False, published=True)

    def __init__(
        self,
        dim: int,
        depth: int,
        heads: int,
        *,
        keep_ratios: Sequence[float] = KEEP_RATIOS,
        locations: Sequence[int] | None = None,
        proportional: bool = False,
    ) -> None:
        super().__init__(dim, depth, heads, proportional=proportional)
        if len(keep_ratios) > 2:
            told = "expected at most 2 keep ratios (one for windows, one for pairs)"
            raise ValueError(f"{told}, found {len(keep_ratios)}")
        self.decide_at(
            keep_ratios, algm_blocks(depth) if locations is None else locations, staged=True
        )
        self.register_buffer("thresholds", torch.tensor([LOCAL, 1 / (self.locations[1] + 1)]))

    @in_stage("selection")
    def decide(
        self, layer: int, key: Tensor, rows: Tensor, source: Carriers, state: MergeState
    ) -> Group:
        """The groups after windows or pairs have merged."""
        if layer == self.locations[0]:
            return self._windows(rows, source, grid_of(state))
        found = match(rows, parity(source), source)
        alike = found.likeness >= self._limit(found).unsqueeze(1)
        return source.joined(found.merge(alike, source.rows))

    def _limit(self, found: Matches) -> Float[Tensor, " batch"]:
        """Mean + factor * deviation of the likeness of the image's own sources."""
        known = found.likeness > float("-inf")
        count = known.sum(dim=1)
        values = found.likeness.masked_fill(~known, 0)
        mean = values.sum(dim=1) / count.clamp(min=1)
        offset = (values - mean.unsqueeze(1)).masked_fill(~known, 0)
        deviation = (offset.square().sum(dim=1) / (count - 1).clamp(min=1)).sqrt()
        return mean + self.thresholds[1] * deviation

    def _windows(self, rows: Tensor, source: Carriers, grid_hw: tuple[int, int]) -> Group:
        """The first token of each window that is alike carries all four."""
        own = torch.arange(source.group.shape[1], device=rows.device).expand_as(source.group)
        blank = rows.new_zeros(*own.shape, rows.shape[2])
        tokens = _fours(source.spread(rows.detach(), blank), grid_hw)  # (B, windows, 4, C)
        whole = _fours(source.keep.unsqueeze(-1), grid_hw).squeeze(-1).all(dim=2)
        places = _fours(own.unsqueeze(-1), grid_hw).squeeze(-1)
        alike = whole & (mean_cosine(tokens) >= self.thresholds[0])
        carrier = torch.where(alike.unsqueeze(-1), places[..., :1], places)
        moved = own.scatter(1, places.flatten(1), carrier.flatten(1))
        return torch.where(source.keep, moved, source.group)


def algm_blocks(depth: int) -> list[int]:
    """Zero-based: the first block, and the fifth of twelve."""
    return [0, max(1, depth * 5 // 12 - 1)]


def mean_cosine(tokens: Float[Tensor, "batch windows n dim"]) -> Float[Tensor, "batch windows"]:
    """Mean cosine over the pairs of each window: (|sum of units|² - sum of |unit|²) / n(n-1)."""
    unit, count = F.normalize(tokens.float(), dim=-1), tokens.shape[2]
    pairs = unit.sum(dim=2).square().sum(dim=-1) - unit.square().sum(dim=(2, 3))
    return pairs / (count * (count - 1))


def _fours(
    values: Float[Tensor, "batch tokens dim"], grid_hw: tuple[int, int]
) -> Float[Tensor, "batch windows 4 dim"]:
    """The tokens of every whole window of 2 x 2."""
    rows, columns = grid_hw
    grid = values.unflatten(1, grid_hw)[:, : rows // 2 * 2, : columns // 2 * 2]
    parts = grid.unflatten(2, (-1, 2)).unflatten(1, (-1, 2)).transpose(2, 3)
    return parts.flatten(3, 4).flatten(1, 2)
