"""What pruning methods cost: MACs of their blocks and of choosing tokens, from the tokens each block kept.

Formulas: methods.md 12.1. T_in and T_out are tokens that enter and leave a block, C channels. A row of
`svit.core.catalogue` names a method's formulas; `svit.core.macs` adds them up with the rest of the network.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

PAPER_KEEP_RATIOS = (0.7, 0.7, 0.7, 0.49, 0.49, 0.49, 0.343, 0.343, 0.343)
GROUPS = 4  # quarters of the blocks; most methods decide at the start of the later three


class Body(Protocol):
    """What the formulas read of a `svit.core.config.BackboneConfig`."""

    embed_dim: int
    depth: int
    heads: int
    mlp_ratio: float


Options = Mapping[str, Any]
BlockFormula = Callable[[np.ndarray, np.ndarray, Body, Options], np.ndarray]
SelectionFormula = Callable[[np.ndarray, int, Body, Options], float]


@dataclass(frozen=True)
class Cost:
    """What a pruning method costs.

    Attributes:
        blocks: (tokens leaving each block, tokens entering it, body, options) -> MACs of each block; arrays
            are float64 (layers,).
        selection: (tokens leaving each block, N, body, options) -> MACs of choosing tokens.
    """

    blocks: BlockFormula
    selection: SelectionFormula


def plain_blocks(
    leaving: np.ndarray, entering: np.ndarray, body: Body, options: Options
) -> np.ndarray:
    """12 n C² + 2 n² C (at the usual MLP ratio of 4): the whole block runs on the n kept tokens."""
    linear = (4 + 2 * body.mlp_ratio) * body.embed_dim**2  # a token of QKV, projection and MLP
    return leaving * linear + 2 * leaving**2 * body.embed_dim


def stream_blocks(
    leaving: np.ndarray, entering: np.ndarray, body: Body, options: Options
) -> np.ndarray:
    """12 n C² + 2 n N C: the n tokens computed again look at all N, of which the first block tells."""
    linear = (4 + 2 * body.mlp_ratio) * body.embed_dim**2
    return leaving * linear + 2 * leaving * entering[0] * body.embed_dim


def evovit_blocks(
    leaving: np.ndarray, entering: np.ndarray, body: Body, options: Options
) -> np.ndarray:
    """A plain block with a class token more; its sorts and copies of rows are no MACs."""
    return plain_blocks(leaving + 1, entering, body, options)


def packaged_blocks(
    leaving: np.ndarray, entering: np.ndarray, body: Body, options: Options
) -> np.ndarray:
    """A plain block with a package token more after every block that dropped tokens."""
    return plain_blocks(leaving + np.cumsum(leaving < entering), entering, body, options)


def merging_blocks(
    leaving: np.ndarray, entering: np.ndarray, body: Body, options: Options
) -> np.ndarray:
    """4 T_in C² + 2 T_in² C + 8 T_out C²: tokens merge between attention and MLP; means are no MACs."""
    dim = body.embed_dim
    attention = 4 * entering * dim**2 + 2 * entering**2 * dim
    return attention + 2 * body.mlp_ratio * leaving * dim**2


def evit_blocks(
    leaving: np.ndarray, entering: np.ndarray, body: Body, options: Options
) -> np.ndarray:
    """As of merging blocks, with a class token; with `fuse` each deciding block leaves one token more, which
    all behind its attention run on."""
    before, behind = _fused_around(len(leaving), body, options)
    return merging_blocks(leaving + 1 + behind, entering + 1 + before, body, options)


def ats_blocks(
    leaving: np.ndarray, entering: np.ndarray, body: Body, options: Options
) -> np.ndarray:
    """(2 T_in + T_out) C² + 2 T_out T_in C + 9 T_out C² with a class token: keys of all rows that
    enter, queries of the selected ones, which the class token's row alone decides (11.4)."""
    dim, before, after = body.embed_dim, entering + 1, leaving + 1
    attention = (2 * before + after) * dim**2 + 2 * after * before * dim
    return attention + (1 + 2 * body.mlp_ratio) * after * dim**2


def no_selection(leaving: np.ndarray, tokens: int, body: Body, options: Options) -> float:
    """Draws, norms and comparisons with what was stored are no MACs."""
    return 0.0


def class_rows(leaving: np.ndarray, tokens: int, body: Body, options: Options) -> float:
    """The class token's query meets the keys of each block: fused attention does not tell where it looks."""
    return float(sum(leaving + 1) * body.embed_dim)


def fusing(leaving: np.ndarray, tokens: int, body: Body, options: Options) -> float:
    """As `class_rows` in deciding blocks, fused tokens among the keys; the sum that makes one is over N."""
    before, _ = _fused_around(len(leaving), body, options)
    stages = list(_stages(body, options))
    keys = np.array(_entering(leaving, tokens, body, options)) + 1 + before[stages]
    sums = len(stages) * tokens if options.get("fuse") else 0
    return float((sum(keys) + sums) * body.embed_dim)


def sampled_rows(leaving: np.ndarray, tokens: int, body: Body, options: Options) -> float:
    """As `class_rows` in deciding blocks, with a query of its own: the others' wait for the choice."""
    entering = _entering(leaving, tokens, body, options)
    return float(sum(body.embed_dim**2 + (n + 1) * body.embed_dim for n in entering))


def scoring_all(
    a_token: Callable[[Body, Options], float], ratios: Sequence[float] = PAPER_KEEP_RATIOS
) -> SelectionFormula:
    """Every deciding block scores all N tokens, also those pruned before (paper 3.2).

    Args:
        a_token: (body, options) -> MACs of the score of one token.
        ratios: the method's keep ratios unless told otherwise.
    """

    def selection(leaving: np.ndarray, tokens: int, body: Body, options: Options) -> float:
        deciding = len(options.get("keep_ratios", ratios))
        return deciding * tokens * a_token(body, options)

    return selection


def class_query(leaving: np.ndarray, tokens: int, body: Body, options: Options) -> float:
    """The class token's query in each deciding block, taken through the keys' weights, meets all N tokens."""
    deciding = len(options.get("keep_ratios", PAPER_KEEP_RATIOS))
    return deciding * (2 * body.embed_dim**2 + tokens * body.embed_dim)


def matching(leaving: np.ndarray, tokens: int, body: Body, options: Options) -> float:
    """The keys of sources, averaged over heads, meet those of destinations in each deciding block: half and
    half of the tokens there, or with `windows` all against a quarter of the grid."""
    return _pairs(leaving, tokens, body, options) * (body.embed_dim // body.heads)


def placing(leaving: np.ndarray, tokens: int, body: Body, options: Options) -> float:
    """Places of the same sources and destinations, a line's or the grid's, and a square of distance."""
    return _pairs(leaving, tokens, body, options) * (3 if options.get("pairs") == "near" else 2)


def _pairs(leaving: np.ndarray, tokens: int, body: Body, options: Options) -> float:
    """Sources times destinations, summed over deciding blocks."""
    entering = _entering(leaving, tokens, body, options)
    if options.get("partition") == "windows":
        return float(sum((n - tokens / 4) * tokens / 4 for n in entering))
    return float(sum(-(-n // 2) * (n // 2) for n in entering))


def clustering(leaving: np.ndarray, tokens: int, body: Body, options: Options) -> float:
    """The keys of all tokens in each deciding block, averaged over heads, meet each other."""
    keys = body.embed_dim // body.heads
    return float(sum(n**2 * keys for n in _entering(leaving, tokens, body, options)))


def global_matching(leaving: np.ndarray, tokens: int, body: Body, options: Options) -> float:
    """In the second deciding block half of the tokens meet the other half; sums of windows are no MACs."""
    given = options.get("locations")
    second = body.depth * 5 // 12 - 1 if given is None else given[1]
    count = leaving[second - 1]
    return float(-(-count // 2) * (count // 2) * body.embed_dim)


def _stages(body: Body, options: Options) -> Sequence[int]:
    """The deciding blocks of methods that decide once a stage, one a keep ratio: by default the first ones of
    the later quarters."""
    given, ratios = options.get("locations"), options.get("keep_ratios")
    if given is not None:
        return given
    stages = GROUPS - 1 if ratios is None else len(ratios)
    return [body.depth // GROUPS * (stage + 1) for stage in range(stages)]


def _fused_around(depth: int, body: Body, options: Options) -> tuple[np.ndarray, np.ndarray]:
    """Fused tokens before the attention and before the MLP of each block, int (depth,)."""
    made = np.zeros(depth, int)
    if options.get("fuse"):
        made[list(_stages(body, options))] = 1
    behind = np.cumsum(made)
    return behind - made, behind


def _entering(leaving: np.ndarray, tokens: int, body: Body, options: Options) -> list[float]:
    """Tokens that enter each of these blocks."""
    return [tokens if block == 0 else leaving[block - 1] for block in _stages(body, options)]


def gate_macs(body: Body, options: Options) -> float:
    """MACs a token of a gate of `svit.pruning.gates`: the kind that the option `gate` names."""
    return _GATES[options.get("gate", "mlp")](body)


def packaging(body: Body, options: Options) -> float:
    """MACs a token of SPViT's classifier and of the sum that makes a package."""
    return _head_weighted(body) + body.embed_dim


def predictor(body: Body, options: Options) -> float:
    """MACs a token of DynamicViT's predictor."""
    return _local_global(body.embed_dim)


def one_query(body: Body, options: Options) -> float:
    """MACs a token of a product with one vector."""
    return body.embed_dim


def _local_global(dim: int) -> float:
    """C -> C, then C -> C/2 -> C/4 -> 2, a token."""
    return dim**2 + dim * (dim // 2) + (dim // 2) * (dim // 4) + (dim // 4) * 2


def _head_weighted(body: Body) -> float:
    """A local-global predictor on each head's channels, and the perceptron that weighs heads."""
    heads = body.heads
    return heads * _local_global(body.embed_dim // heads) + 2 * heads * max(1, heads // 2)


_GATES: dict[str, Callable[[Body], float]] = {
    "mlp": lambda body: (body.embed_dim + 2) * (body.embed_dim // 4),
    "local_global": lambda body: _local_global(body.embed_dim),
    "head_weighted": _head_weighted,
}
