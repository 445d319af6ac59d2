"""ToMe: token merging (Bolya et al., ICLR 2023) in its dense form (methods.md 13.1), as ATC's authors put it
into ViT-Adapter (Haurum et al., ECCV 2024; github.com/JoakimHaurum/ATC, MIT, `MMDet_setup`). Where it differs
from theirs: carriers keep raster order between merges, so that parity means the same in every stage.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from svit.core.catalogue import STAGE_RATIOS
from svit.pruning.base import in_stage
from svit.pruning.matching import Matches, match, parity, surplus, windows
from svit.pruning.merging import Carriers, Group, MergeState, MergingMethod, grid_of
from svit.pruning.options import check_choice

PARTITIONS = ("parity", "windows")


class ToMe(MergingMethod):
    """Merges the pairs of tokens whose keys are most alike, down to the keep ratios; it has no parameters.

    The metric is the key of the block, averaged over heads. With `parity` at most half of the tokens that
    enter a block can merge there, with `windows` all but one in each window of 2 x 2 tokens; ratios that
    ask for more are refused, never clipped. (Under an edit that leaves more tokens than planned, as many
    merge as can.)

    Args:
        keep_ratios: share of all N tokens that remain behind each deciding block.
        locations: zero-based deciding blocks; default 4, 7, 10 in the paper's count.
        partition: "parity" of the raster order (the paper), or "windows": destinations are the first token
            of each 2 x 2.
        proportional: proportional attention (`MergingMethod`).

    Raises:
        ValueError: a ratio outside (0, 1], one that no merge reaches, an unknown partition, or locations that
            do not match.
    """

    def __init__(
        self,
        dim: int,
        depth: int,
        heads: int,
        *,
        keep_ratios: Sequence[float] = STAGE_RATIOS,
        locations: Sequence[int] | None = None,
        partition: str = "parity",
        proportional: bool = True,
    ) -> None:
        super().__init__(dim, depth, heads, proportional=proportional)
        check_choice("partition", partition, PARTITIONS)
        self.partition = partition
        self.decide_at(keep_ratios, locations, staged=True)
        self.check_steps(self.keep_ratios)

    def reaches(self, entering: float) -> float:
        """Half of what enters a block, or a quarter of the grid."""
        return 0.5 * entering if self.partition == "parity" else min(0.25, entering)

    def decide(
        self, layer: int, key: Tensor, rows: Tensor, source: Carriers, state: MergeState
    ) -> Group:
        """The groups after the pairs that are most alike have merged."""
        found = self.matches(layer, key, self._sources(source, state), source, state)
        count = surplus(source, self.target(layer, source))
        return source.joined(found.merge(found.best(count), source.rows))

    @in_stage("selection")
    def matches(
        self, layer: int, key: Tensor, sources: Tensor, source: Carriers, state: MergeState
    ) -> Matches:
        """The destination whose key is most like that of each source.

        Args:
            sources: bool (B, K).
        """
        return match(key.mean(dim=1), sources, source)

    def _sources(self, source: Carriers, state: MergeState) -> Tensor:
        if self.partition == "parity":
            return parity(source)
        return windows(source, grid_of(state))
