"""Numbers about token use: arrays and frames in, arrays and frames out.

Every ratio states its formula and denominator. Only valid tokens count (those that show image
pixels); padding never does, while training's ratio loss (paper Eq. 2) sees it: the two differ
slightly. Layers are zero-based, `block` in frames is the paper's number, layer + 1. Definitions:
paper 4.2 and Figs. 4-6; methods.md 6.7.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from svit.core.types import TokenTrace


@dataclass(frozen=True)
class LayerStates:
    """What becomes of every valid token of an image at every layer; bool (layers, rows, columns).

    used + carried + pruned = all, never + later = pruned, next is part of later. At the last layer later
    is empty.

    Attributes:
        used: took part in the block by itself.
        carried: was merged into another token, which took part.
        pruned: did neither.
        later: pruned here and used in at least one later layer (cyan in paper Fig. 5b).
        next: pruned here and used in the very next layer.
        never: pruned here and in all later layers.
    """

    used: np.ndarray
    carried: np.ndarray
    pruned: np.ndarray
    later: np.ndarray
    next: np.ndarray
    never: np.ndarray


def valid_keep(trace: TokenTrace) -> np.ndarray:
    """The keep masks without padding. Returns: bool (layers, valid rows, valid columns)."""
    rows, columns = trace.grid.valid_hw
    return trace.keep[:, :rows, :columns]


def valid_part(trace: TokenTrace) -> np.ndarray:
    """Tokens that are not pruned, without padding: those that took part by themselves or carried.

    Returns: bool (layers, valid rows, valid columns).
    """
    rows, columns = trace.grid.valid_hw
    return (trace.keep | trace.carried)[:, :rows, :columns]


def valid_measure(trace: TokenTrace, name: str) -> np.ndarray:
    """A measure as `update` without padding. Returns: float32 (layers, valid rows, valid columns), NaN where
    a token is not in a block."""
    rows, columns = trace.grid.valid_hw
    return trace.measures[name][:, :rows, :columns]


def reach(values: np.ndarray) -> float:
    """Upper end of a colour scale from 0: the 98 % quantile of what is known, positive."""
    known = np.abs(values[np.isfinite(values)])
    return float(np.quantile(known, 0.98)) or 1.0 if known.size else 1.0


def carriers(trace: TokenTrace, layer: int) -> np.ndarray:
    """Who carries each valid token at a layer: a raster index of the padded grid, its own for a used token.

    Returns: int64 (valid rows, valid columns); -1 where a token is pruned.
    """
    own = np.arange(trace.grid.tokens).reshape(trace.grid.grid_hw)
    group = own if trace.group is None else trace.group[layer]
    rows, columns = trace.grid.valid_hw
    return np.where(trace.keep[layer] | trace.carried[layer], group, -1)[:rows, :columns]


def usage(trace: TokenTrace) -> np.ndarray:
    """Number of layers that used each valid token: sum over layers of M (paper Figs. 1 and 4). Layers
    in which another one carried it do not count.

    Returns: int64 (valid rows, valid columns) in 0..layers.
    """
    return valid_keep(trace).sum(axis=0)


def usage_limits(layers: int, targets: Sequence[float] = ()) -> tuple[int, int]:
    """Smallest and largest possible usage: layers that never prune (target 1), and all layers.

    For the paper's twelve blocks with nine gates 3..12; without targets, or for a dense model,
    0..layers.
    """
    always = sum(target >= 1 for target in targets)
    return (always if always < layers else 0), layers


def count_words(limits: tuple[int, int], counts: np.ndarray) -> list[str]:
    """What each colour of a scale of `usage` stands for; the ends say so where they stand for more.

    Args:
        limits: smallest and largest count with a colour of its own.
        counts: all that are drawn on the scale.
    """
    words = [str(count) for count in range(limits[0], limits[1] + 1)]
    if counts.size and counts.min() < limits[0]:
        words[0] = f"≤{words[0]}"
    if counts.size and counts.max() > limits[1]:
        words[-1] = f"≥{words[-1]}"
    return words


def gated_layers(layers: int, targets: Sequence[float] = ()) -> list[int]:
    """Layers with a target below 1; all of them without targets or in a dense model."""
    gated = [layer for layer in range(min(layers, len(targets))) if targets[layer] < 1]
    return gated or list(range(layers))


def layer_states(trace: TokenTrace) -> LayerStates:
    """The state of every valid token at every layer."""
    used, part = valid_keep(trace), valid_part(trace)
    pruned = ~part
    # used in some layer after l: running "or" from the back, shifted by one layer
    after = np.zeros_like(used)
    after[:-1] = np.logical_or.accumulate(used[::-1])[::-1][1:]
    following = np.zeros_like(used)
    following[:-1] = used[1:]
    states = (pruned & after, pruned & following, pruned & ~after)
    return LayerStates(used, part & ~used, pruned, *states)


def keep_ratios(trace: TokenTrace) -> np.ndarray:
    """Kept valid tokens / valid tokens, per layer. Returns: float64 (layers,) in [0, 1]."""
    return valid_keep(trace).mean(axis=(1, 2))


def keep_frame(counts: pd.DataFrame, targets: Sequence[float] = ()) -> pd.DataFrame:
    """Keep ratios of a run per layer, from `Run.keep_counts()`.

    Columns: layer, block; `pooled` = sum of kept valid / sum of valid tokens over all images;
    `mean`, `low`, `high` = mean, 5 % and 95 % quantile over images of kept valid / valid; `target`
    (NaN without). An empty run gives an empty frame.
    """
    ratios = counts.assign(ratio=counts["kept_valid"] / counts["valid"])
    groups = ratios.groupby("layer", sort=True)
    frame = pd.DataFrame(
        {
            "pooled": groups["kept_valid"].sum() / groups["valid"].sum(),
            "mean": groups["ratio"].mean(),
            "low": groups["ratio"].quantile(0.05),
            "high": groups["ratio"].quantile(0.95),
        }
    ).reset_index()
    frame.insert(1, "block", frame["layer"] + 1)
    frame["target"] = [_target(targets, layer) for layer in frame["layer"]]
    return frame


def image_keep_frame(trace: TokenTrace, targets: Sequence[float] = ()) -> pd.DataFrame:
    """Keep ratios of one image: layer, block, ratio (see `keep_ratios`), target (NaN without)."""
    ratios = keep_ratios(trace)
    layers = np.arange(trace.layers)
    wanted = [_target(targets, layer) for layer in layers]
    return pd.DataFrame({"layer": layers, "block": layers + 1, "ratio": ratios, "target": wanted})


def _target(targets: Sequence[float], layer: int) -> float:
    return float(targets[layer]) if layer < len(targets) else float("nan")


def with_shares(counts: pd.DataFrame) -> pd.DataFrame:
    """Adds layer, block and shares to counts per layer of `tokens`, `pruned`, `later`, `next`, `never`.

    Of all valid tokens: `pruned_share`, `later_share`, `next_share`, `never_share` (and `carried_share` where
    `carried` is counted) = count / tokens.
    Of the pruned: `later_of_pruned`, `next_of_pruned`, `never_of_pruned` = count / pruned, NaN where
    nothing is pruned; later + never = 1. Of the reactivated: `next_of_later` = next / later, the
    immediate share, NaN where nothing is reactivated.
    """
    frame = counts.rename_axis("layer").reset_index()
    frame.insert(1, "block", frame["layer"] + 1)
    for name in ("pruned", "later", "next", "never", *(["carried"] if "carried" in frame else [])):
        frame[f"{name}_share"] = frame[name] / frame["tokens"]
    for name in ("later", "next", "never"):
        frame[f"{name}_of_pruned"] = _ratio(frame[name], frame["pruned"])
    frame["next_of_later"] = _ratio(frame["next"], frame["later"])
    return frame


def used_share(frame: pd.DataFrame) -> pd.Series:
    """Used / tokens, from the other shares of `with_shares`: what is neither pruned nor carried."""
    return 1 - frame["pruned_share"] - frame.get("carried_share", 0)


def _ratio(part: pd.Series, whole: pd.Series) -> pd.Series:
    return part / whole.where(whole > 0)


def immediate_share(frame: pd.DataFrame) -> float:
    """Share of reactivations that come in the very next layer, pooled over layers and tokens.

    Sum of next / sum of later of `Census.reactivation`, in [0, 1]; NaN without reactivation. The
    last layer but one counts too, although there every reactivation is immediate.
    """
    later = frame["later"].sum()
    return float(frame["next"].sum() / later) if later else float("nan")


def resample(values: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Bilinear resampling of a map (rows, columns) between cell centres, edges repeated."""
    rows, columns = (_weights(old, new) for old, new in zip(values.shape, shape, strict=True))
    return rows @ values @ columns.T


def _weights(old: int, new: int) -> np.ndarray:
    """(new, old) matrix whose row i weighs the old cells around the centre of new cell i."""
    centres = np.clip((np.arange(new) + 0.5) * old / new - 0.5, 0, old - 1)
    distance = np.abs(centres[:, None] - np.arange(old)[None, :])
    return np.clip(1 - distance, 0, None)
