"""ATC: agglomerative token clustering (Haurum et al., ECCV 2024, arXiv 2409.11923 3;
github.com/JoakimHaurum/ATC, MIT, `MMDet_setup`), in the place and with the metric of ToMe.

Tokens are clustered from the bottom up until as many are left as the keep ratio says; no pair is excluded, so
any ratio is reached in one block, and there are no parameters. It runs image by image on the CPU, in scipy,
O(n²) or more for n tokens: what that costs is "selection" in `svit benchmark`.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from svit.core.catalogue import STAGE_RATIOS
from svit.pruning.base import in_stage
from svit.pruning.matching import present
from svit.pruning.merging import Carriers, Group, MergeState, MergingMethod
from svit.pruning.options import check_choice

LINKAGES = ("average", "complete", "single")


class ATC(MergingMethod):
    """Clusters keys, averaged over heads, by the distance 1 - cosine.

    The first token of a cluster in raster order carries it.

    Args:
        keep_ratios: share of all N tokens that remain behind each deciding block.
        locations: zero-based deciding blocks; default 4, 7, 10 in the paper's count.
        linkage: distance of two clusters: that of their nearest members ("single"), of their farthest
            ("complete"), or the mean over pairs ("average").
        proportional: proportional attention (`MergingMethod`).

    Raises:
        ValueError: a ratio outside (0, 1] or above one before, an unknown linkage, locations that do not
            match, or scipy is not installed.
    """

    def __init__(
        self,
        dim: int,
        depth: int,
        heads: int,
        *,
        keep_ratios: Sequence[float] = STAGE_RATIOS,
        locations: Sequence[int] | None = None,
        linkage: str = "average",
        proportional: bool = True,
    ) -> None:
        super().__init__(dim, depth, heads, proportional=proportional)
        check_choice("linkage", linkage, LINKAGES)
        if importlib.util.find_spec("scipy") is None:
            raise ValueError("atc clusters with scipy: python -m pip install 'svit-workbench[atc]'")
        self.linkage = linkage
        self.decide_at(keep_ratios, locations, staged=True)
        self.check_steps(self.keep_ratios)

    @in_stage("selection")
    def decide(
        self, layer: int, key: Tensor, rows: Tensor, source: Carriers, state: MergeState
    ) -> Group:
        """The groups after clustering."""
        unit = F.normalize(key.detach().float().mean(dim=1), dim=-1)
        distance = (1 - unit @ unit.transpose(1, 2)).cpu().double().numpy()
        into = np.tile(np.arange(source.rows), (len(unit), 1))
        for image, seen in enumerate(present(source).sum(dim=1).tolist()):
            near = distance[image, :seen, :seen]
            into[image, :seen] = clusters(near, self.target(layer, source), self.linkage)
        return source.joined(torch.from_numpy(into).to(source.group.device))


def clusters(
    distance: Float[np.ndarray, "rows rows"], count: int, linkage: str
) -> Int[np.ndarray, " rows"]:
    """The first row of each row's cluster, for `count` clusters (as many as rows where there are fewer)."""
    from scipy.cluster.hierarchy import linkage as linked

    size = len(distance)
    if size <= count:
        return np.arange(size)
    merges = linked(distance[np.triu_indices(size, k=1)], linkage)[: size - count, :2].astype(int)
    first = list(range(size))  # of each node of the tree: its first row
    for one, other in merges:
        first.append(min(first[one], first[other]))
    for node in range(len(first) - 1, size - 1, -1):  # from the top down: that of the whole cluster
        one, other = merges[node - size]
        first[one] = first[other] = first[node]
    return np.array(first[:size])
