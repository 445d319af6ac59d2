"""Two runs on the same images: where they use the same tokens, and how far their numbers differ.

Runs that did not see the same images alike are refused (`pairing`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import combinations

import numpy as np
import pandas as pd

from analysis.numbers.usage import keep_ratios, resample, usage, valid_keep
from svit.core.finding import match
from svit.core.statistics import Interval, bootstrap
from svit.core.types import ImageId, TokenTrace
from svit.runs.pairing import MismatchError, check_classes, check_pair
from svit.runs.run import Run

Pair = tuple[TokenTrace, TokenTrace]


def pairs(first: Run, second: Run) -> Iterator[Pair]:
    """The traces of both runs, image by image in the order of the first; refuses as `check_pair`.

    Raises:
        MismatchError: also when an image has another grid.
    """
    check_pair(first, second)
    others = second.samples("trace", ids=first.image_ids)
    for one, (other,) in zip(first.iter_traces(scores=False), others, strict=True):
        _check_grids(first, second, one, other)
        yield one, other


def pair(first: Run, second: Run, image_id: ImageId) -> Pair:
    """Both traces of one image.

    Raises:
        MismatchError: their grids differ.
        KeyError: a run has no such image.
    """
    one, other = first.trace(image_id), second.trace(image_id)
    _check_grids(first, second, one, other)
    return one, other


def _check_grids(first: Run, second: Run, one: TokenTrace, other: TokenTrace) -> None:
    if one.grid != other.grid:
        raise MismatchError(
            f"image {one.image_id!r} has {_grid(one)} in {first.path} and {_grid(other)} in "
            f"{second.path}; record both with the same sizes"
        )


def _grid(trace: TokenTrace) -> str:
    (rows, columns), (height, width) = trace.grid.grid_hw, trace.grid.resized_hw
    return f"{rows}x{columns} tokens of {trace.grid.patch} pixels on {height}x{width}"


def agreement_frame(traces: Iterable[Pair], spread: bool = False) -> pd.DataFrame:
    """Overlap of the active sets of two runs per layer, over the valid tokens of all images.

    Columns: layer, block; tokens; first, second = tokens each uses; both = used by both; `iou` =
    both / (first + second - both), 1 where neither uses a token; `chance` = the same formula when
    `both` is what masks with the same counts in every image share on average if placed at random
    (first · second / tokens, summed over images); `excess` = (iou - chance) / (1 - chance): 0 is
    chance, 1 the same tokens, NaN where chance is 1. No pairs give an empty frame.

    Args:
        spread: adds `iou_low` and `iou_high`, the 5 % and 95 % quantile of single images' IoU.

    Raises:
        ValueError: pairs differ in their number of layers.
    """
    totals: np.ndarray | None = None
    single: list[np.ndarray] = []
    for one, other in traces:
        counts = _counts(one, other)
        if totals is not None and totals.shape != counts.shape:
            raise ValueError(f"expected {totals.shape[1]} layers, found {one.layers}")
        totals = counts if totals is None else totals + counts
        single.append(_iou(counts[3], counts[1] + counts[2]))
    totals = np.zeros((5, 0)) if totals is None else totals
    names = ("tokens", "first", "second", "both")
    frame = pd.DataFrame({name: row.astype(int) for name, row in zip(names, totals)})
    frame = frame.rename_axis("layer").reset_index()
    frame.insert(1, "block", frame["layer"] + 1)
    used = totals[1] + totals[2]
    frame["iou"], frame["chance"] = (_iou(shared, used) for shared in totals[3:])
    room = (1 - frame["chance"]).where(frame["chance"] < 1 - 1e-12)
    frame["excess"] = (frame["iou"] - frame["chance"]) / room
    if spread and single:
        frame["iou_low"], frame["iou_high"] = np.quantile(np.stack(single), (0.05, 0.95), axis=0)
    return frame


def between_frame(runs: Mapping[str, Run], draws: int = 1000, seed: int = 0) -> pd.DataFrame:
    """Agreement of each two of several runs on the same images, as of rates, seeds and methods.

    Args:
        runs: by the name that tells them apart.

    Returns:
        A row a pair: first, second; images; `iou` and `chance` of `agreement_frame`, over all blocks in which
        both leave out a token of any image; `excess` = (iou - chance) / (1 - chance) with low and high of its
        95 % percentile interval over images; all NaN where there is no such block.

    Raises:
        MismatchError: two of them cannot be compared.
    """
    rows = []
    for (name, first), (other, second) in combinations(runs.items(), 2):
        counts = np.stack([_counts(one, two) for one, two in pairs(first, second)])
        prune = (counts[:, 1:3] < counts[:, :1]).any(axis=0).all(axis=0)  # (layers,)
        counts = counts[:, :, prune].sum(axis=2)
        row = {"first": name, "second": other, "images": len(counts)}
        if not prune.any():
            nothing = ("iou", "chance", "excess", "low", "high")
            rows.append(row | dict.fromkeys(nothing, float("nan")))
            continue
        total = counts.sum(axis=0)
        iou, chance = (float(_iou(shared, total[1] + total[2])) for shared in total[3:])
        drawn = bootstrap(partial(_excess, counts), len(counts), draws, seed)
        row |= {"iou": iou, "chance": chance, "excess": drawn.value}
        rows.append(row | {"low": drawn.low, "high": drawn.high})
    names = ["first", "second", "images", "iou", "chance", "excess", "low", "high"]
    return pd.DataFrame(rows, columns=names)


def _excess(counts: np.ndarray, weights: np.ndarray) -> float:
    total = weights @ counts
    iou, chance = (float(_iou(shared, total[1] + total[2])) for shared in total[3:])
    return (iou - chance) / (1 - chance) if chance < 1 - 1e-12 else float("nan")


def _counts(one: TokenTrace, other: TokenTrace) -> np.ndarray:
    """Of an image (5, layers): valid tokens, used by each and by both, and by both on average at random."""
    a, b = valid_keep(one), valid_keep(other)
    first, second, both = (part.sum(axis=(1, 2)) for part in (a, b, a & b))
    tokens = np.full(len(a), a[0].size)
    return np.stack([tokens, first, second, both, first * second / tokens])


def _iou(both: np.ndarray, used: np.ndarray) -> np.ndarray:
    union = used - both
    return np.where(union > 0, both / np.where(union > 0, union, 1), 1.0)


def usage_difference(one: TokenTrace, other: TokenTrace) -> np.ndarray:
    """Layers that use each valid token in the first run minus in the second.

    Returns: int64 (valid rows, valid columns) in -layers..layers.
    """
    return usage(one) - usage(other)


def mean_difference(traces: Iterable[Pair], shape: tuple[int, int] = (50, 80)) -> np.ndarray:
    """`usage_difference` averaged over images, each resampled as `Census.mean_usage` does.

    Returns: float64 of `shape`; NaN without pairs.
    """
    total, images = np.zeros(shape), 0
    for one, other in traces:
        total += resample(usage_difference(one, other), shape)
        images += 1
    return total / images if images else np.full(shape, np.nan)


def delta_frame(
    first: Run,
    second: Run,
    layers: Sequence[int] | None = None,
    **rule,
) -> pd.DataFrame:
    """One row an image, first minus second (refuses as `pairs` and `check_classes`).

    Args:
        layers: zero-based ones that `keep_ratio` averages over, the same of both runs
            (`comparison.deciding_layers`); None for all.
        rule: `iou`, `kind`, `score` of `finding.match`.

    Returns:
        Columns image_id and, each also as first_* and second_*: `keep_ratio` = mean over these
        layers of kept valid / valid tokens; `usage` = mean layers that use a valid token; `found` =
        annotated objects found / annotated objects without crowds, NaN in an image without objects,
        detections or annotations.
    """
    check_classes(first, second)
    rows = []
    found = zip(_found_shares(first, first, rule), _found_shares(first, second, rule), strict=True)
    for traces, shares in zip(pairs(first, second), found, strict=True):
        row: dict = {"image_id": traces[0].image_id}
        for name, trace, share in zip(("first", "second"), traces, shares, strict=True):
            ratios = keep_ratios(trace)
            chosen = slice(None) if layers is None else list(layers)
            row[f"{name}_keep_ratio"] = float(ratios[chosen].mean())
            row[f"{name}_usage"] = float(ratios.sum())
            row[f"{name}_found"] = share
        rows.append(row)
    frame = pd.DataFrame(rows)
    for name in DELTAS:
        frame[name] = frame[f"first_{name}"] - frame[f"second_{name}"]
    return frame


DELTAS = ("keep_ratio", "usage", "found")


def _found_shares(first: Run, run: Run, rule: dict) -> Iterator[float]:
    """Column `found` of `delta_frame` for a run, in the order of the first's images."""
    masks = rule.get("kind") == "mask"
    for found, target in run.samples("detections", "target", ids=first.image_ids, masks=masks):
        if found is None or target is None or target.crowd.all():
            yield float("nan")
        else:
            hits = match(found, target, **rule).detection[~target.crowd]
            yield float((hits >= 0).mean())


def paired_interval(
    deltas: pd.Series, draws: int = 2000, seed: int = 0, videos: np.ndarray | None = None
) -> Interval:
    """Mean of per-image differences with its 95 % percentile bootstrap interval over images.

    Images without a difference (NaN) are left out; without any, all is NaN.

    Args:
        videos: int (deltas,), as of `svit.core.statistics.bootstrap`: those of frames are drawn whole.
    """
    known = deltas.notna().to_numpy()
    values = deltas.to_numpy(float)[known]
    if not len(values):
        return Interval(float("nan"), float("nan"), float("nan"), 0)
    return bootstrap(
        lambda weights: float(weights @ values / weights.sum()),
        len(values),
        draws,
        seed,
        videos=None if videos is None else videos[known],
    )
