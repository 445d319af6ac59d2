"""What an image costs: tokens against its complexity, and where its multiply-accumulates go.

Costs come from `svit.core.macs`: one MAC is two FLOPs; the box head counts the configured number of
proposals (an upper bound), the mask head the recorded detections.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd

from analysis.numbers.usage import gated_layers, keep_ratios
from svit.core import macs
from svit.core.config import Config, PruningConfig
from svit.core.coverage import covered_share, edge_density
from svit.core.statistics import Interval
from svit.core.types import ImageId, TokenTrace
from svit.runs.run import Run

COMPLEXITY = ("objects", "area", "edges")


def complexity_frame(run: Run, pictures: bool = True) -> pd.DataFrame:
    """One row an image: how many tokens it got and how complex it is.

    Args:
        pictures: without, `edges` is not measured, which takes most of the time.

    Columns: image_id; `keep_ratio` = mean over gated layers of kept valid / valid tokens;
    `objects` = annotated objects without crowds; `area` = pixels that at least one of them covers /
    pixels of the image; `edges` = `coverage.edge_density` of the stored picture. NaN where the run
    holds no annotations or no picture.
    """
    table = pd.DataFrame(list(_complexities(run)), columns=["image_id", "keep_ratio", *COMPLEXITY])
    return with_edges(table, edge_frame(run)) if pictures else table


def _complexities(run: Run) -> Iterator[dict]:
    gated = gated_layers(run.layers, run.targets)
    for trace, target in run.samples("trace", "target"):
        row = dict.fromkeys(COMPLEXITY, np.nan)
        if target is not None:
            row["objects"] = float((~target.crowd).sum())
            row["area"] = covered_share(target)
        ratio = float(keep_ratios(trace)[gated].mean())
        yield {"image_id": trace.image_id, "keep_ratio": ratio, **row}


def edge_frame(run: Run, most: int | None = None) -> pd.DataFrame:
    """`coverage.edge_density` of the stored pictures: image_id, edges; images without one are left out.

    Args:
        most: of so many images at most, evenly spaced as recorded; all without.
    """
    count = len(run) if most is None else min(most, len(run))
    ids = [run.image_ids[place * len(run) // count] for place in range(count)]
    pairs = zip(ids, run.samples("picture", ids=ids), strict=True)
    rows = [(one, edge_density(picture)) for one, (picture,) in pairs if picture is not None]
    return pd.DataFrame(rows, columns=["image_id", "edges"])


def with_edges(table: pd.DataFrame, edges: pd.DataFrame) -> pd.DataFrame:
    """A `complexity_frame` with the edges of some of its images."""
    known = edges.set_index("image_id")["edges"].astype(float)
    return table.assign(edges=table["image_id"].map(known))


def spearman(first: pd.Series, second: pd.Series, draws: int = 1000, seed: int = 0) -> Interval:
    """Spearman's rank correlation: Pearson's of the ranks, equal values sharing their mean rank.

    Pairs with a missing value are left out. The interval is the 2.5 and 97.5 percentile over drawing
    images with replacement, ranks taken anew in each draw. NaN with fewer than three pairs or where
    one side is constant (draws in which that happens are left out).
    """
    values = pd.DataFrame({"first": first, "second": second}).dropna().to_numpy(float)
    # sorted once: a draw only changes how often each value is there
    places = [np.unique(column, return_inverse=True)[1].ravel() for column in values.T]
    value = _rank_correlation(places)
    if np.isnan(value):
        return Interval(float("nan"), float("nan"), float("nan"), 0)
    random = np.random.default_rng(seed)
    picks = random.integers(len(values), size=(draws, len(values)))
    drawn = [_rank_correlation([place[pick] for place in places]) for pick in picks]
    low, high = np.nanpercentile(drawn, [2.5, 97.5])
    return Interval(value, float(low), float(high), draws)


def _rank_correlation(places: Sequence[np.ndarray]) -> float:
    """Of two columns, each as the places of its values among the different ones."""
    counts = [np.bincount(place) for place in places]
    if len(places[0]) < 3 or any(np.count_nonzero(one) < 2 for one in counts):
        return float("nan")
    ranks = [_ranks(*column) for column in zip(places, counts, strict=True)]
    return float(np.corrcoef(ranks)[0, 1])


def _ranks(place: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Ranks from 0; equal values share their mean rank."""
    return (np.cumsum(counts) - (counts + 1) / 2)[place]


def correlation_table(frame: pd.DataFrame, draws: int = 1000, seed: int = 0) -> pd.DataFrame:
    """From `complexity_frame`: quantity, images, rho, low, high of `spearman` with `keep_ratio`."""
    rows = []
    for name in COMPLEXITY:
        interval = spearman(frame[name], frame["keep_ratio"], draws, seed)
        row = {"quantity": name, "images": int(frame[name].notna().sum()), "rho": interval.value}
        rows.append(row | {"low": interval.low, "high": interval.high})
    return pd.DataFrame(rows)


def ledger_row(
    trace: TokenTrace, detections: int, config: Config, gated: list[int]
) -> dict[str, float | ImageId]:
    """MACs of every module for one image, and what pruning could save of them.

    Args:
        detections: how many the image has.
        config: of the recorded model.
        gated: zero-based layers that may prune (`metrics.gated_layers`).

    Returns:
        image_id; the modules of `compute.ledger`; `total`, their sum; `dense` = total with all tokens
        kept and nothing spent on choosing; `reachable` = 1 - (total without a token in any gated layer,
        nothing spent on choosing) / dense: what no pruning of these layers can exceed;
        `reachable_of_backbone`, the same gain / the dense backbone (heads left out); `saved` = 1 - total
        / dense, negative where choosing costs more than it saves; `saved_of_reachable` = saved /
        reachable, NaN where nothing is reachable.

    Raises:
        ValueError: a method without a cost formula, or another number of layers.
    """
    kept = trace.keep.sum(axis=(1, 2)).astype(float)
    size = (config.backbone, config.detector)
    parts = macs.ledger(*size, config.pruning, trace.grid.grid_hw, kept, detections=detections)
    full = np.full(trace.layers, float(trace.grid.tokens))
    empty = full.copy()
    empty[gated] = 0
    plain = PruningConfig("dense")
    dense, least = (
        macs.ledger(*size, plain, trace.grid.grid_hw, tokens, detections=detections)
        for tokens in (full, empty)
    )
    row = {"image_id": trace.image_id, **parts.to_dict()}
    return row | _ends(parts.sum(), dense, least)


ENDS = ("total", "dense", "reachable", "reachable_of_backbone", "saved", "saved_of_reachable")


def _ends(total: float, dense: pd.Series, least: pd.Series) -> dict[str, float]:
    """The entries `ENDS` of `ledger_row`."""
    whole = dense.sum()
    backbone = dense.drop(list(macs.HEAD_PARTS), errors="ignore").sum()
    gain, saved = whole - least.sum(), 1 - total / whole
    of_reachable = saved / (gain / whole) if gain else np.nan
    return dict(zip(ENDS, (total, whole, gain / whole, gain / backbone, saved, of_reachable)))


def module_frame(ledgers: pd.DataFrame) -> pd.DataFrame:
    """From rows of `ledger_row`: module, mean, low, high (5 % and 95 % quantile over images) in MACs, and
    share = mean / mean total. An empty frame stays empty."""
    names = [name for name in ledgers.columns if name not in ("image_id", *ENDS)]
    parts = ledgers[names]
    table = pd.DataFrame(
        {"mean": parts.mean(), "low": parts.quantile(0.05), "high": parts.quantile(0.95)}
    )
    table["share"] = table["mean"] / ledgers["total"].mean() if names else np.nan
    return table.rename_axis("module").reset_index()
