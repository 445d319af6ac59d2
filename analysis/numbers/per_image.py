"""From a number about a whole run to the images and objects behind it: frames with a row an image or object.

Pooled numbers keep the definitions of `analysis.numbers.usage`, `regions` and `matching`; here they also
stand for single images, so that they have a spread and a bar can be opened.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pandas as pd
from PIL import Image

from analysis.numbers import regions as objects
from analysis.numbers.run_counts import COUNTS
from analysis.numbers.usage import layer_states, valid_keep, with_shares
from svit.core.coverage import Truth
from svit.core.types import ImageId, TokenGrid, TokenTrace
from svit.runs.run import Run

LOW, HIGH = 0.05, 0.95  # quantiles over images
LATER_RGB, PRUNED_RGB = (0, 200, 224), (255, 255, 255)
COVER = 0.72  # opacity of what covers pruned tokens in a crop


def spread_frame(states: pd.DataFrame) -> pd.DataFrame:
    """From `Census.by_image`: one row a layer, the pooled counts and shares of `Census.reactivation`
    and `used_share`, `wait_share` = (later - next) / tokens; of each share but the last also the 5 % and
    95 % quantile over images, as *_low and *_high."""
    names = list(COUNTS)
    frame = with_shares(states.groupby("layer")[names].sum().reset_index(drop=True))
    frame["used_share"] = 1 - frame["pruned_share"]
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


def region_images(samples: Iterable[tuple[TokenTrace, Truth]]) -> pd.DataFrame:
    """`objects.region_frame` of every image on its own, with its image_id; empty without samples."""
    parts = [
        objects.region_frame([(trace, target)]).assign(image_id=trace.image_id)
        for trace, target in samples
    ]
    names = ["region", "layer", "block", "used", "tokens", "share", "image_id"]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=names)


def region_spread(regions: pd.DataFrame) -> pd.DataFrame:
    """From `region_images`: the columns of `objects.region_frame` over all images, and `low`, `high`, the
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
    """`matching.share_frame` with `low` and `high`, two standard errors around the mean, within 0..1;
    `outcome` is "found" or "missed"."""
    error = 2 * shares["error"].fillna(0)
    low, high = (shares["mean"] - error).clip(0, 1), (shares["mean"] + error).clip(0, 1)
    outcome = shares["found"].map({True: "found", False: "missed"})
    return shares.assign(low=low, high=high, outcome=outcome)


def pruned_misses(errors: pd.DataFrame) -> pd.DataFrame:
    """Rows of `matching.error_frame`: missed objects that some layer used by less than half of their
    tokens; those that the dense run finds come first, then the earliest drop."""
    rows = errors[~errors["found"].astype(bool) & errors["fate"].isin(("rescued", "lost"))]
    rows = rows.sort_values(["dropped", "image_id", "object"])
    easy = rows["dense_found"].fillna(False).astype(bool)
    return pd.concat([rows[easy], rows[~easy]], ignore_index=True)


def crop(
    picture: np.ndarray,
    grid: TokenGrid,
    box_xyxy: np.ndarray,
    keep: np.ndarray | None = None,
    later: np.ndarray | None = None,
    side: int = 128,
) -> np.ndarray:
    """A square cut of a picture around a box, with a rim of a third of the box on each side.

    Args:
        picture: uint8 RGB of any size that spans the image.
        box_xyxy: in source pixels.
        keep, later: bool (valid rows, valid columns): pruned tokens are covered white, those of them a
            later layer uses cyan, as in `figures.layer_tokens`.
        side: of the result in pixels.

    Returns: uint8 (side, side, 3), pink at the box's outline, grey beyond the image.
    """
    left, top, right, bottom = np.asarray(box_xyxy, float)
    reach = max(right - left, bottom - top, 1.0) * (0.5 + 1 / 3)
    places = (np.arange(side) + 0.5) / side * 2 * reach - reach
    x, y = (left + right) / 2 + places, (top + bottom) / 2 + places
    height, width = grid.image_hw
    inside = ((y >= 0) & (y < height))[:, None] & ((x >= 0) & (x < width))[None, :]
    out = _sampled(picture, grid, x, y)
    if keep is not None:
        rows = np.clip((y * grid.scale_yx[0] / grid.patch).astype(int), 0, keep.shape[0] - 1)
        columns = np.clip((x * grid.scale_yx[1] / grid.patch).astype(int), 0, keep.shape[1] - 1)
        for mask, colour in ((~keep, PRUNED_RGB), (later, LATER_RGB)):
            if mask is not None:
                covered = mask[np.ix_(rows, columns)]
                base = _sampled(picture, grid, x, y)[covered]
                out[covered] = (1 - COVER) * base + COVER * np.array(colour)
    out[~inside] = 128
    _outline(out, x, y, (left, top, right, bottom), 2 * reach / side)
    return out.astype(np.uint8)


def _sampled(picture: np.ndarray, grid: TokenGrid, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The picture at source coordinates, float (len(y), len(x), 3), reduced before where it is larger."""
    height, width = grid.image_hw
    step = max((x[1] - x[0]) * picture.shape[1] / width, 1.0)
    size = [max(1, round(length / step)) for length in picture.shape[1::-1]]
    small = np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.BILINEAR))
    rows = np.clip((y / height * small.shape[0]).astype(int), 0, small.shape[0] - 1)
    columns = np.clip((x / width * small.shape[1]).astype(int), 0, small.shape[1] - 1)
    return small[np.ix_(rows, columns)].astype(float)


def _outline(
    out: np.ndarray, x: np.ndarray, y: np.ndarray, box: tuple[float, ...], step: float
) -> None:
    left, top, right, bottom = box
    across, down = (x > left - step) & (x < right + step), (y > top - step) & (y < bottom + step)
    core = (x > left + step) & (x < right - step), (y > top + step) & (y < bottom - step)
    line = np.outer(down, across) & ~np.outer(core[1], core[0])
    out[line] = (255, 92, 174)


def states_at(trace: TokenTrace, block: int) -> tuple[np.ndarray, np.ndarray]:
    """Which valid tokens a block uses, and which pruned ones a later layer uses: two bool maps."""
    return valid_keep(trace)[block - 1], layer_states(trace).later[block - 1]


def objects_of(frame: pd.DataFrame, by: str, group: str) -> pd.DataFrame:
    """The objects behind a bar of `objects.group_frame`: image_id, object and `value` = usage, largest
    first.

    Args:
        frame: `objects.object_frame`.
        by: "size" or "class".
    """
    rows = frame[frame[by] == group][["image_id", "object", "usage"]]
    return _largest(rows.rename(columns={"usage": "value"}))
