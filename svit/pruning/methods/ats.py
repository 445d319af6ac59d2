"""ATS: adaptive token sampling (Fayyaz et al., ECCV 2022; github.com/adaptivetokensampling/ATS; dense
adaptation: SViT paper 4.1, methods.md 11).

Inside a deciding block each patch is scored by the class token's attention times the norm of its value. The
scores' cumulative distribution is read at equally spaced levels; the distinct patches hit are kept for good,
so peaked distributions keep few tokens. Selected rows attend to all tokens that entered.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from svit.core.catalogue import STAGE_RATIOS
from svit.pruning.attention import KEY_VALUE, QUERY
from svit.pruning.base import Fitted, State, all_tokens, gather_kept, in_stage, scatter_kept
from svit.pruning.class_token import ClassTokenMethod, TokenSequence
from svit.pruning.options import preserves


class ATS(ClassTokenMethod):
    """Parameter-free inverse-transform sampling; the number of kept tokens follows the image.

    The recorded mask of a deciding block stands for its queries and its MLP; its keys are all tokens that
    entered. A dropped token's last value is the block's input, for its attention output is never computed.

    Args:
        keep_ratios: share of all N tokens meant to survive each stage.
        locations: zero-based deciding blocks; default 4, 7, 10 in the paper's count.
        retain: "remove" zeroes dropped tokens, "preserve" leaves them in the map (paper Table 2).

    The number of levels of stage s is `levels[s]` * N: a buffer that starts at the keep ratios (which keeps
    fewer, because levels share patches) and is calibrated on training images (`svit.probing.calibrate`).

    Raises:
        ValueError: a ratio outside (0, 1], an unknown `retain`, or locations that do not match.
    """

    fits = Fitted("levels", compares=False)

    def __init__(
        self,
        dim: int,
        depth: int,
        heads: int,
        *,
        keep_ratios: Sequence[float] = STAGE_RATIOS,
        locations: Sequence[int] | None = None,
        retain: str = "remove",
    ) -> None:
        super().__init__(dim, depth, heads)
        self.decide_at(keep_ratios, locations, staged=True)
        self.preserve = preserves(retain)
        self.register_buffer("levels", torch.tensor(self.keep_ratios))

    def forward(self, layer: int, block: nn.Module, tokens: Tensor, state: State) -> Tensor:
        """Samples first: only kept tokens get queries and an MLP, all living ones are keys and values."""
        alive = all_tokens(tokens) if state.previous is None else state.previous
        source, wanted = self.assemble(tokens, alive, state), alive
        key, value = self._keys_and_values(block, source)
        if layer in self.locations:
            score = self._score(block, source, key, value, tokens.shape[1])
            wanted = self._sample(layer, score, alive)
        keep = self.probe(layer, wanted, state)
        if self.called_back(wanted, keep, alive):
            source = self.assemble(tokens, alive | keep, state)
            key, value = self._keys_and_values(block, source)
        kept = gather_kept(tokens, keep)
        rows = torch.cat([source.tokens[:, : source.patches_from], kept.rows], dim=1)
        (query,) = block.attn.project(block.norm1(rows), QUERY)
        rows = rows + block.drop_path(block.attn.mix(query, key, value, source.mask))
        updated = block.feed_forward(rows)
        state.class_token = updated[:, :1]
        old = tokens if self.preserve else torch.zeros_like(tokens)
        return scatter_kept(old, kept, updated[:, 1:])

    @staticmethod
    def _keys_and_values(block: nn.Module, source: TokenSequence) -> tuple[Tensor, Tensor]:
        """Of all tokens that entered; queries are projected once the selection is known."""
        return block.attn.project(block.norm1(source.tokens), KEY_VALUE)

    @in_stage("selection")
    def _score(
        self, block: nn.Module, source: TokenSequence, key: Tensor, value: Tensor, size: int
    ) -> Float[Tensor, "batch tokens"]:
        """sum_heads A[class -> j] * |v_j|, float32 (ATS eq. 5), 0 where dropped."""
        (query,) = block.attn.project(block.norm1(source.tokens[:, :1]), QUERY)
        attention = self.class_attention(block, source, query, key).sum(dim=1)
        norm = value.float().square().sum(dim=(1, 3)).sqrt()[:, source.patches_from :]
        return self.to_raster(source, attention * norm, size).detach()

    @in_stage("selection")
    def _sample(self, layer: int, score: Tensor, alive: Tensor) -> Tensor:
        """The tokens that survive a deciding block: its levels, read off this score."""
        count = round(float(self.levels[self.locations.index(layer)]) * score.shape[1])
        return inverse_transform_sample(score, alive, count)


def inverse_transform_sample(
    score: Float[Tensor, "batch tokens"], alive: Bool[Tensor, "batch tokens"], count: int
) -> Bool[Tensor, "batch tokens"]:
    """The distinct living tokens nearest to equally spaced levels of the cumulative score.

    Levels run from the smallest positive value of the min-max normalised cumulative sum to 1; between two
    neighbours the nearer wins, ties go to the lower-scored one. `searchsorted` replaces the release's
    count x N distance matrix at O(N log N) (methods.md 11.2, 11.4). Images with one living token, or with
    all-zero scores, keep what they have.

    Args:
        count: number of levels, at least 2.
    """
    order = score.masked_fill(~alive, -1.0).argsort(dim=1, stable=True)
    sorted_score = score.double().gather(1, order).clamp(min=0)
    living = alive.gather(1, order)
    cumulative = (sorted_score * living).cumsum(dim=1)
    lowest = cumulative.masked_fill(~living, float("inf")).amin(dim=1, keepdim=True)
    span = cumulative[:, -1:] - lowest
    distribution = ((cumulative - lowest) / span.clamp(min=1e-300)).clamp(min=0) * living
    positive = distribution.masked_fill(distribution <= 0, float("inf"))
    first = positive.amin(dim=1, keepdim=True).clamp(max=1.0)
    steps = torch.linspace(0, 1, max(2, count), dtype=torch.float64, device=score.device)
    hits = _nearest(distribution, first + steps * (1 - first))
    chosen = torch.zeros_like(alive).scatter(1, order.gather(1, hits), True) & alive
    return torch.where(span > 0, chosen, alive)


def _nearest(ascending: Tensor, levels: Tensor) -> Tensor:
    """Index of the value nearest to each level in each ascending row; ties to the lower index."""
    right = torch.searchsorted(ascending.contiguous(), levels.contiguous())
    right = right.clamp(max=ascending.shape[1] - 1)
    left = (right - 1).clamp(min=0)
    nearer = (levels - ascending.gather(1, left)) <= (ascending.gather(1, right) - levels)
    return torch.where(nearer, left, right)
