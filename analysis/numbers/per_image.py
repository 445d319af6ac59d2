"""From a number about a whole run to the images and objects behind it: frames with a row an image or object.

Pooled numbers keep the definitions of `analysis.numbers.usage`, `regions` and `matching`; here they also
stand for single images, so that they have a spread and a bar can be opened.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd

from analysis.numbers.regions import REGIONS, framed, object_usage, region_counts
from analysis.numbers.run_counts import COUNTS
from analysis.numbers.usage import layer_states, used_share, valid_part, with_shares
from svit.core.coverage import Truth, object_cover, regions
from svit.core.types import ImageId, TokenTrace
from svit.runs.run import Run

LOW, HIGH = 0.05, 0.95  # quantiles over images


def spread_frame(states: pd.DataFrame) -> pd.DataFrame:
    """From `Census.by_image`: one row a layer, the pooled counts and shares of `Census.reactivation`
    and `used_share`, `wait_share` = (later - next) / tokens; of each share but the last also the 5 % and
    95 % quantile over images, as *_low and *_high."""
    names = [name for name in COUNTS if name in states]
    frame = with_shares(states.groupby("layer")[names].sum().reset_index(drop=True))
    frame["used_share"] = used_share(frame)
    groups = states.groupby("layer")
    for name in [column for column in frame.columns if column.endswith(("_share", "_of_pruned"))]:
        frame[f"{name}_low"] = groups[name].quantile(LOW).to_numpy()
        frame[f"{name}_high"] = groups[name].quantile(HIGH).to_numpy()
    frame["wait_share"] = frame["later_share"] - frame["next_share"]
    return frame


def images_by(states: pd.DataFrame, block: int, share: str) -> pd.DataFrame:
    """The images behind a bar: image_id and `value`, the image's own share (a column of `Census.by_image`)
    at a block, largest first; images without one (NaN) are left out."""
    rows = states[states["block"] == block][["image_id", share]].dropna()
    return _largest(rows.rename(columns={share: "value"}))


def _largest(rows: pd.DataFrame) -> pd.DataFrame:
    return rows.sort_values("value", ascending=False, kind="stable").reset_index(drop=True)


def use_of_objects(
    samples: Iterable[tuple[TokenTrace, Truth]], class_names: Sequence[str] = ()
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """`regions.region_frame` of every image on its own, with its image_id, and `regions.object_frame`, in one
    pass: what an object covers is computed once. Empty without samples."""
    ids, counts, rows = [], [], []
    for trace, target in samples:
        covered = object_cover(target, trace.grid)
        ids.append(trace.image_id)
        counts.append(region_counts(trace, regions(target, trace.grid, covered)))
        rows += object_usage(trace, target, covered[0], class_names)
    return _region_rows(ids, counts), framed(rows)


def _region_rows(
    ids: Sequence[ImageId], counts: Sequence[tuple[np.ndarray, np.ndarray]]
) -> pd.DataFrame:
    """The columns of `regions.region_frame` with image_id, from `regions.region_counts` of each image."""
    names = ["region", "layer", "block", "used", "tokens", "share", "image_id"]
    if not ids:
        return pd.DataFrame(columns=names)
    used = np.stack([one for one, _ in counts])
    images, kinds, layers = used.shape
    frame = pd.DataFrame({"region": np.tile(np.repeat(REGIONS, layers), images)})
    frame["layer"] = np.tile(np.arange(layers), images * kinds)
    frame["block"] = frame["layer"] + 1
    frame["used"] = used.ravel()
    frame["tokens"] = np.repeat(np.stack([one for _, one in counts]).ravel(), layers)
    frame["share"] = frame["used"] / frame["tokens"].where(frame["tokens"] > 0)
    frame["image_id"] = np.repeat(np.array(ids), kinds * layers)
    return frame


def region_spread(regions: pd.DataFrame) -> pd.DataFrame:
    """From `use_of_objects`: the columns of `regions.region_frame` over all images, and `low`, `high`, the
    5 % and 95 % quantile over images of the image's own share."""
    groups = regions.groupby(["region", "layer"], sort=False)
    frame = groups[["used", "tokens"]].sum()
    frame["share"] = frame["used"] / frame["tokens"].where(frame["tokens"] > 0)
    frame["low"], frame["high"] = groups["share"].quantile(LOW), groups["share"].quantile(HIGH)
    frame = frame.reset_index()
    frame.insert(2, "block", frame["layer"] + 1)
    return frame


def region_usage(regions: pd.DataFrame, region: str) -> pd.DataFrame:
    """The images behind a region: image_id and `value` = layers that use one of its tokens on average
    (used summed over layers / tokens), largest first; images without such tokens are left out."""
    rows = regions[(regions["region"] == region) & (regions["tokens"] > 0)]
    groups = rows.groupby("image_id", sort=False)
    value = groups["used"].sum() / groups["tokens"].first()
    return _largest(value.rename("value").reset_index())


def scored_ids(run: Run, other: Run | None = None) -> list[ImageId]:
    """Images with annotations and detections in a run, and with detections in the other, in recorded
    order: those that `matching.error_frame` can be made of."""
    known = run.images
    counted = known["detections"].notna() & known["objects"].notna()
    if other is not None:
        there = other.images
        counted &= known["image_id"].isin(there.loc[there["detections"].notna(), "image_id"])
    return known.loc[counted, "image_id"].tolist()


def reference_rates(fates: pd.DataFrame) -> pd.DataFrame:
    """Cells of `matching.fate_frame` with objects, and `dense_rate` = dense_missed / objects (NaN
    without a second run); counts as floats."""
    frame = fates[fates["objects"] > 0]
    frame = frame.astype({"dense_missed": "Float64", "only_here": "Float64"})
    frame = frame.astype({"dense_missed": float, "only_here": float})
    return frame.assign(dense_rate=frame["dense_missed"] / frame["objects"])


def share_bands(shares: pd.DataFrame) -> pd.DataFrame:
    """`matching.share_frame` with `low` and `high`, two standard errors around the mean, within 0..1
    (NaN of a single object); `outcome` is "found" or "missed"."""
    error = 2 * shares["error"]
    low, high = (shares["mean"] - error).clip(0, 1), (shares["mean"] + error).clip(0, 1)
    outcome = shares["found"].map({True: "found", False: "missed"})
    return shares.assign(low=low, high=high, outcome=outcome)


def states_at(trace: TokenTrace, block: int) -> tuple[np.ndarray, np.ndarray]:
    """Which valid tokens take part in a block, and which pruned ones a later layer uses: two bool maps."""
    return valid_part(trace)[block - 1], layer_states(trace).later[block - 1]


def objects_of(frame: pd.DataFrame, by: str, group: str) -> pd.DataFrame:
    """The objects behind a bar of `regions.group_frame`: image_id, object and `value` = usage, largest
    first.

    Args:
        frame: `regions.object_frame`.
        by: "size" or "class".
    """
    rows = frame[frame[by] == group][["image_id", "object", "usage"]]
    return _largest(rows.rename(columns={"usage": "value"}))
