"""Previous frame: in a video those tokens are computed again where the frame before showed objects.

The idea of Video Patch Pruning (Glandorf et al., CVPR Workshops 2026, arXiv:2604.00827): what the last frame
led to says where to look in the next. Theirs scores tokens by a trained head from features of the last frame
that are matched to the new ones, and prunes what is left out; ours has no parameters, reads the detections
themselves and reuses what blocks stored, as all stream methods do. Written from the paper; nothing of its
code was used.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Bool
from torch import Tensor

from svit.core.catalogue import PAPER_KEEP_RATIOS
from svit.core.types import Detections, TokenGrid
from svit.pruning.base import all_tokens, in_stage
from svit.pruning.sampling import top_tokens
from svit.pruning.streams import Stored, Stream, StreamMethod


class PreviousFrame(StreamMethod):
    """Per-block choice of the tokens in and around the boxes that were found in the frame before.

    A token's score is the largest over the detections of score * 2 ** -(gap / reach), where gap is the
    distance in tokens of its middle from the box, 0 inside. A frame after one in which nothing was found is
    computed whole, as is every frame of a backbone by itself, which detects nothing.

    Args:
        keep_ratios: share of all N tokens that each deciding block computes again, rounded, at least one.
        locations: zero-based deciding blocks; default the last `len(keep_ratios)`.
        reach: distance in tokens over which what a detection counts for falls by half; above 0.

    Raises:
        ValueError: a ratio outside (0, 1], a reach that is not above 0, or locations that do not match.
    """

    looks_back = True

    def __init__(
        self,
        dim: int,
        depth: int,
        heads: int,
        *,
        keep_ratios: Sequence[float] = PAPER_KEEP_RATIOS,
        locations: Sequence[int] | None = None,
        reach: float = 2.0,
    ) -> None:
        super().__init__(dim, depth, heads)
        self.decide_at(keep_ratios, locations)
        if not reach > 0:
            raise ValueError(f"reach: expected a number above 0, found {reach!r}")
        self.reach = reach

    @in_stage("selection")
    def wanted(
        self, layer: int, tokens: Tensor, stored: Stored, stream: Stream
    ) -> Bool[Tensor, "1 tokens"]:
        """The tokens nearest to what was found, by how sure it was."""
        if stream.hints is None:
            return all_tokens(tokens)
        score = self.score_probes[layer](stream.hints.to(tokens.device))
        return top_tokens(score, self.keep_ratios[self.locations.index(layer)])

    def notice(self, found: Detections, grid: TokenGrid) -> None:
        """Keeps the scores of the tokens for the next frame."""
        hints = nearness(found, grid, self.reach)
        self.stream.hints = None if hints is None else torch.from_numpy(hints.reshape(1, -1))


def nearness(found: Detections, grid: TokenGrid, reach: float) -> np.ndarray | None:
    """The scores of `PreviousFrame`: float32 (rows, columns) of the padded grid; None of no detection."""
    if not len(found):
        return None
    across = np.tile(grid.scale_yx[::-1], 2) / grid.patch  # tokens a source pixel: x, y, x, y
    boxes = found.boxes_xyxy * across
    row, column = np.indices(grid.grid_hw)[:, None] + 0.5
    left, top, right, bottom = boxes.T[:, :, None, None]
    aside = np.maximum(np.maximum(left - column, column - right), 0)
    above = np.maximum(np.maximum(top - row, row - bottom), 0)
    worth = found.scores[:, None, None] * 2.0 ** (-np.hypot(aside, above) / reach)
    return worth.max(axis=0).astype(np.float32)
