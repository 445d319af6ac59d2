"""Change gate: in a video a token is computed again once it has changed (Eventful Transformers, Dutson et
al., ICCV 2023, 4.1; `policies.py` and `modules.py` of github.com/WISION-Lab/eventful-transformer at fc53c2c,
MIT).

Where theirs gates every linear layer by itself and updates the attention matrix by its changed rows and
columns, ours gates blocks: a token's block runs whole or not at all. No parameters; dense weights run as
they are.
"""

from __future__ import annotations

from collections.abc import Sequence

from jaxtyping import Bool
from torch import Tensor

from svit.core.catalogue import PAPER_KEEP_RATIOS
from svit.pruning.base import in_stage
from svit.pruning.options import check_choice
from svit.pruning.sampling import top_tokens
from svit.pruning.streams import Stored, Stream, StreamMethod


class ChangeGate(StreamMethod):
    """Per-block choice of the tokens that changed most, relative to their norm, since they were last
    computed.

    A token that did not change at all is never computed again, whatever the ratio. The threshold is compared
    with the change, so at 0 every token is computed and the model is the dense one.

    Args:
        keep_ratios: share of all N tokens that each deciding block computes again at most, rounded, at least
            one; in the mode "threshold" it only says which blocks decide.
        locations: zero-based deciding blocks; default the last `len(keep_ratios)`.
        inference: "topk" takes the tokens with the largest changes (theirs: `TokenNormTopK`), "threshold" all
            whose change reaches the threshold (`TokenNormThreshold`).
        threshold: least ||x - x'|| / ||x'|| of a token that is computed again; not negative.

    Raises:
        ValueError: a ratio outside (0, 1], an unknown mode, a negative threshold, or locations that do not
        match.
    """

    modes = ("topk", "threshold")

    def __init__(
        self,
        dim: int,
        depth: int,
        heads: int,
        *,
        keep_ratios: Sequence[float] = PAPER_KEEP_RATIOS,
        locations: Sequence[int] | None = None,
        inference: str = "topk",
        threshold: float = 0.2,
    ) -> None:
        super().__init__(dim, depth, heads)
        self.decide_at(keep_ratios, locations)
        check_choice("inference", inference, self.modes)
        self.set_inference(inference)
        if threshold < 0:
            raise ValueError(f"threshold: expected a number from 0, found {threshold!r}")
        self.threshold = threshold

    @property
    def compares_scores(self) -> bool:
        """In the mode "threshold"."""
        return self.inference == "threshold"

    @in_stage("selection")
    def wanted(
        self, layer: int, tokens: Tensor, stored: Stored, stream: Stream
    ) -> Bool[Tensor, "1 tokens"]:
        """The tokens with the largest changes, or with large ones."""
        change = self.score_probes[layer](stored.change(tokens))
        if self.compares_scores:
            return change >= self.threshold
        ratio = self.keep_ratios[self.locations.index(layer)]
        return top_tokens(change, ratio) & (change > 0)
