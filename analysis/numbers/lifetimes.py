"""How tokens move between used and pruned from layer to layer, and how long they stay.

Only valid tokens count. A method that prunes for good never returns a token; SViT may (paper 4.2). A token
that another one carries is not pruned: it counts as used here, since its content takes part.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pandas as pd

from analysis.numbers.usage import valid_part
from svit.core.types import TokenTrace

STEPS = ("stay", "drop", "return", "away")  # used-used, used-pruned, pruned-used, pruned-pruned


def transition_frame(traces: Iterable[TokenTrace], spread: bool = False) -> pd.DataFrame:
    """What tokens do between a layer and the next, pooled over images.

    Columns: layer, block (the earlier of the two), counts `stay` (used in both), `drop` (used, then
    pruned), `return` (pruned, then used), `away` (pruned in both); `tokens`, their sum; shares
    stay_share, ... = count / tokens; the rows of the transition matrix
    drop_of_used = drop / (stay + drop), stay_of_used = 1 - that, return_of_pruned = return / (return
    + away), away_of_pruned = 1 - that: NaN where no token is in that state. One row fewer than
    layers; no traces give an empty frame.

    Args:
        spread: adds `*_low` and `*_high` of drop_of_used and return_of_pruned, the 5 % and 95 %
            quantile of single images' rates; NaN where no image has one.

    Raises:
        ValueError: traces differ in their number of layers.
    """
    single: list[np.ndarray] = []
    for trace in traces:
        single.append(_steps(valid_part(trace)))
        if single[0].shape != single[-1].shape:
            raise ValueError(f"expected {single[0].shape[1] + 1} layers, found {trace.layers}")
    counts = np.stack(single) if single else np.zeros((0, 4, 0), int)
    frame = with_rates(pd.DataFrame(dict(zip(STEPS, counts.sum(axis=0), strict=True))))
    if spread:
        stay, drop, back, away = counts.transpose(1, 0, 2).astype(float)
        for name, part, rest in (("drop_of_used", drop, stay), ("return_of_pruned", back, away)):
            whole = pd.DataFrame(part + rest)
            rates = pd.DataFrame(part) / whole.where(whole > 0)
            for end, quantile in (("low", 0.05), ("high", 0.95)):
                frame[f"{name}_{end}"] = rates.quantile(quantile).to_numpy()
    return frame


def _steps(keep: np.ndarray) -> np.ndarray:
    """Counts (4, layers - 1) of `STEPS`."""
    now, then = keep[:-1], keep[1:]
    steps = (now & then, now & ~then, ~now & then, ~(now | then))
    return np.stack([step.sum(axis=(1, 2)) for step in steps])


def with_rates(counts: pd.DataFrame) -> pd.DataFrame:
    """Adds layer, block, tokens, shares and matrix rows to counts of `STEPS`."""
    frame = counts.rename_axis("layer").reset_index()
    frame.insert(1, "block", frame["layer"] + 1)
    frame["tokens"] = frame[list(STEPS)].sum(axis=1)
    for name in STEPS:
        frame[f"{name}_share"] = frame[name] / frame["tokens"]
    for state, names in (("used", ("stay", "drop")), ("pruned", ("return", "away"))):
        total = frame[list(names)].sum(axis=1)
        for name in names:
            frame[f"{name}_of_{state}"] = frame[name] / total.where(total > 0)
    return frame


def life_frame(traces: Iterable[TokenTrace]) -> pd.DataFrame:
    """How long tokens stay in one state without a break, pooled over images.

    Columns: length in layers 1..L; counts of unbroken spells of that length: `used`; `pruned_ended`
    by a return; `pruned_last`, which run to the last layer; and the three as shares of their own sum
    (used_share, ...; NaN where it is zero). No traces give an empty frame.

    Raises:
        ValueError: traces differ in their number of layers.
    """
    names = ("used", "pruned_ended", "pruned_last")
    totals: np.ndarray | None = None
    for trace in traces:
        counts = _spells(valid_part(trace).reshape(trace.layers, -1))
        if totals is not None and totals.shape != counts.shape:
            raise ValueError(f"expected {totals.shape[1]} layers, found {trace.layers}")
        totals = counts if totals is None else totals + counts
    totals = np.zeros((3, 0), int) if totals is None else totals
    frame = pd.DataFrame(dict(zip(names, totals, strict=True)))
    frame.insert(0, "length", np.arange(1, len(frame) + 1))
    for name in names:
        total = frame[name].sum()
        frame[f"{name}_share"] = frame[name] / (total if total else np.nan)
    return frame


def _spells(keep: np.ndarray) -> np.ndarray:
    """Counts (3, layers) of spells by length: used, pruned and ended, pruned to the end.

    Args:
        keep: bool (layers, tokens).
    """
    layers, tokens = keep.shape
    counts = np.zeros((3, layers + 1), int)
    length = np.ones(tokens, int)
    for layer in range(1, layers):
        ends = keep[layer] != keep[layer - 1]
        for row, state in enumerate((keep[layer - 1], ~keep[layer - 1])):
            counts[row] += np.bincount(length[ends & state], minlength=layers + 1)
        length = np.where(ends, 1, length + 1)
    counts[0] += np.bincount(length[keep[-1]], minlength=layers + 1)
    counts[2] += np.bincount(length[~keep[-1]], minlength=layers + 1)
    return counts[:, 1:]


def return_counts(trace: TokenTrace) -> np.ndarray:
    """How often each valid token came back: layers that use it right after one that did not.

    Returns: int64 (valid rows, valid columns).
    """
    keep = valid_part(trace)
    return (~keep[:-1] & keep[1:]).sum(axis=0)


def return_frame(traces: Iterable[TokenTrace]) -> pd.DataFrame:
    """Tokens by how often they returned, pooled over images.

    Columns: returns 0, 1, ... up to the most seen; tokens; share = tokens / all valid tokens; pruned
    = tokens of them that some layer pruned. No traces give an empty frame.
    """
    totals = np.zeros((2, 0), int)
    for trace in traces:
        returns, touched = return_counts(trace).ravel(), ~valid_part(trace).all(axis=0).ravel()
        size = max(totals.shape[1], int(returns.max()) + 1)
        counts = np.stack(
            [np.bincount(part, minlength=size) for part in (returns, returns[touched])]
        )
        counts[:, : totals.shape[1]] += totals
        totals = counts
    frame = pd.DataFrame({"tokens": totals[0], "pruned": totals[1]})
    frame.insert(0, "returns", np.arange(len(frame)))
    frame["share"] = frame["tokens"] / max(int(totals[0].sum()), 1)
    return frame


def reuse_frame(traces: Iterable[TokenTrace]) -> pd.DataFrame:
    """Overlap of the tokens that pairs of layers use, pooled over valid tokens of all images.

    Columns: first, second (blocks, first < second; those that keep every token of every image are left
    out), both = tokens that both use, either = tokens that either uses; iou = both / either, 1 where
    neither uses a token; chance = the same formula when `both` is what masks with the same counts in
    every image share on average if placed at random. No traces give an empty frame.
    """
    both = total = None
    for trace in traces:
        keep = valid_part(trace).reshape(trace.layers, -1).astype(np.float64)
        used = keep.sum(axis=1)
        parts = np.stack([keep @ keep.T, np.outer(used, used) / keep.shape[1]])
        sums = np.stack([used, np.full_like(used, keep.shape[1])])
        both, total = (parts, sums) if both is None else (both + parts, total + sums)
    if both is None:
        return pd.DataFrame(columns=["first", "second", "both", "either", "iou", "chance"])
    shown = np.flatnonzero(total[0] < total[1])
    low, high = (shown[places] for places in np.triu_indices(len(shown), 1))
    used = total[0][low] + total[0][high]
    together, random = both[:, low, high]
    frame = pd.DataFrame({"first": low + 1, "second": high + 1, "both": together.astype(int)})
    frame["either"] = (used - together).astype(int)
    for name, shared in (("iou", together), ("chance", random)):
        union = used - shared
        frame[name] = np.where(union > 0, shared / np.where(union > 0, union, 1), 1.0)
    return frame
