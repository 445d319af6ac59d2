"""A run counted in one pass over its packed bits: pruning, reactivation and usage, image by image.

Tokens are not unpacked: COCO val is a matter of seconds. Memory holds one shard and the counts. Shards
are counted apart and merged in any order, so other machines may share them (docs/scale.md).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
import pyarrow as pa

from analysis.numbers import usage as metrics
from svit.core.types import ImageId
from svit.runs import shards
from svit.runs.run import Run

COUNTS = ("tokens", "pruned", "later", "next", "never", "carried")
_ONES = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1).sum(axis=1, dtype=np.uint8)

Side = tuple[int, int]


@dataclass(frozen=True)
class Usage:
    """The usage maps of all images with one shape of valid tokens.

    Attributes:
        total: int64 (valid rows, valid columns), sum over images and layers of M.
        images: how many.
    """

    total: np.ndarray
    images: int


@dataclass(frozen=True)
class Census:
    """What a run, or some of its shards, amounts to.

    Attributes:
        shards: number of a shard -> ids of its images and their counts, as below.
        usage: valid rows and columns -> usage of the images of that shape.
    """

    shards: dict[int, tuple[tuple[ImageId, ...], np.ndarray]]
    usage: dict[Side, Usage]

    @cached_property
    def image_ids(self) -> tuple[ImageId, ...]:
        """In recorded order."""
        return tuple(one for number in sorted(self.shards) for one in self.shards[number][0])

    @cached_property
    def counts(self) -> np.ndarray:
        """int64 (images, layers, `COUNTS`), see `metrics.LayerStates`; valid tokens only."""
        parts = [self.shards[number][1] for number in sorted(self.shards)]
        return np.concatenate(parts) if parts else np.zeros((0, 0, len(COUNTS)), np.int64)

    @property
    def images(self) -> int:
        """How many were counted."""
        return len(self.image_ids)

    def reactivation(self) -> pd.DataFrame:
        """Pruning and reactivation per layer, pooled over all valid tokens (paper Fig. 5a).

        Columns: layer, block; `COUNTS`, `carried` where tokens merge; and their shares
        (`metrics.with_shares`). A run without images gives an empty frame.
        """
        return metrics.with_shares(self._counted(self.counts.sum(axis=0)))

    def _counted(self, counts: np.ndarray) -> pd.DataFrame:
        """The columns that a run has something to count for, from rows of `COUNTS`."""
        frame = pd.DataFrame(counts, columns=list(COUNTS))
        return frame if self.counts[..., -1].any() else frame.drop(columns="carried")

    def by_image(self) -> pd.DataFrame:
        """One row an image and layer: image_id, layer, block, `COUNTS`, shares of `metrics.with_shares`,
        and `used_share` = used / tokens."""
        images, layers, kinds = self.counts.shape
        rows = self._counted(self.counts.reshape(-1, kinds))
        frame = metrics.with_shares(rows).drop(columns=["layer", "block"])
        frame["used_share"] = metrics.used_share(frame)
        frame.insert(0, "image_id", [one for one in self.image_ids for _ in range(layers)])
        frame.insert(1, "layer", np.tile(np.arange(layers), images))
        frame.insert(2, "block", frame["layer"] + 1)
        return frame

    def mean_usage(self, shape: Side = (50, 80)) -> np.ndarray:
        """Usage map averaged over images (paper Fig. 6): cut to valid tokens, resampled, averaged.

        Resampling is bilinear between token centres, edges repeated; aspect ratios are not kept. It is
        linear, so sums are resampled, once a shape.

        Returns: float64 of `shape`; NaN without images.
        """
        total = np.zeros(shape)
        for _, group in sorted(self.usage.items()):  # so that no rounding tells of the cuts
            total += metrics.resample(group.total, shape)
        return total / self.images if self.images else np.full(shape, np.nan)

    def orientations(self) -> dict[str, float]:
        """Share of images whose valid grid is wide, tall or square; empty without images."""
        found = {"wide": 0, "tall": 0, "square": 0}
        for (rows, columns), group in self.usage.items():
            name = "square" if rows == columns else "wide" if columns > rows else "tall"
            found[name] += group.images
        return {name: count / self.images for name, count in found.items() if self.images}


def census(run: Run) -> Census:
    """Counts a run, shard by shard.

    Raises:
        RunError: a shard is damaged.
    """
    return merged(count_shard(run, number) for number in range(run.shards))


def count_shard(run: Run, number: int) -> Census:
    """Counts one shard; it depends on nothing but the files of the run. Of an image that several ranks
    recorded the first record counts, so shards share no image.

    Raises:
        RunError: the shard is damaged.
    """
    table = run.bits(number)
    counts = np.zeros((len(table) // run.layers, run.layers, len(COUNTS)), np.int64)
    usage: dict[Side, Usage] = {}
    for members, grid_hw, valid_hw, bits in _grids(table, run.layers):
        mask = np.zeros(grid_hw, bool)
        mask[: valid_hw[0], : valid_hw[1]] = True
        carried = _carried(table, run.layers, members, bits)
        counts[members] = _counts(bits, carried, np.packbits(mask))
        total = _usage(bits, grid_hw)[: valid_hw[0], : valid_hw[1]]
        _add(usage, valid_hw, Usage(total, len(bits)))
    image_ids = tuple(table["image_id"].to_pylist()[:: run.layers])
    return Census({number: (image_ids, counts)}, usage)


def merged(parts: Iterable[Census]) -> Census:
    """The census of all shards of these parts; associative, in any order.

    Raises:
        ValueError: a shard is in two parts.
    """
    shards: dict[int, tuple[tuple[ImageId, ...], np.ndarray]] = {}
    usage: dict[Side, Usage] = {}
    for part in parts:
        twice = sorted(shards.keys() & part.shards.keys())
        if twice:
            raise ValueError(f"expected each shard in one part, found {twice} in several")
        shards |= part.shards
        for valid_hw, group in part.usage.items():
            _add(usage, valid_hw, group)
    return Census(shards, usage)


def _add(usage: dict[Side, Usage], valid_hw: Side, group: Usage) -> None:
    before = usage.get(valid_hw)
    if before is not None:
        group = Usage(before.total + group.total, before.images + group.images)
    usage[valid_hw] = group


def _grids(table: pa.Table, layers: int) -> Iterator[tuple[np.ndarray, Side, Side, np.ndarray]]:
    """The images of a shard by geometry: their places in it, grid, valid grid, bits uint8 (images,
    layers, bytes)."""
    if not len(table):
        return  # all of its images were recorded by another rank too
    names = ("grid_h", "grid_w", "valid_h", "valid_w")
    sides = np.stack([table[name].to_numpy()[::layers] for name in names], axis=1)
    column = table["bits"].combine_chunks()
    column = column.chunk(0) if isinstance(column, pa.ChunkedArray) else column
    ends = np.frombuffer(column.buffers()[1], np.int32)[column.offset :][: len(column) + 1]
    data = np.frombuffer(column.buffers()[2], np.uint8)
    shapes, members = np.unique(sides, axis=0, return_inverse=True)
    for number, shape in enumerate(shapes):
        places = np.flatnonzero(members.ravel() == number)
        starts = ends[:-1:layers][places]
        size = -(-int(shape[0] * shape[1]) // 8)
        bits = data[starts[:, None] + np.arange(layers * size)].reshape(len(starts), layers, size)
        yield places, tuple(shape[:2].tolist()), tuple(shape[2:].tolist()), bits


def _carried(table: pa.Table, layers: int, places: np.ndarray, bits: np.ndarray) -> np.ndarray:
    """Bits of the tokens that others carry, as those of the used ones; nothing where none merge."""
    found = np.zeros_like(bits)
    if "group" not in table.column_names:
        return found
    stored = list(shards.binary(table["group"]))
    tokens = table["grid_h"].to_numpy() * table["grid_w"].to_numpy()
    for image, place in enumerate(places * layers):
        count = int(tokens[place])
        group = shards.groups_from(stored[place : place + layers], count)
        if group is not None:
            keep = np.unpackbits(bits[image], axis=1, count=count).astype(bool)
            found[image] = np.packbits(np.take_along_axis(keep, group, axis=1) & ~keep, axis=1)
    return found


def _counts(bits: np.ndarray, carried: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """int64 (images, layers, `COUNTS`) of images with one geometry; `valid` masks the bytes of a layer."""
    pruned = ~(bits | carried) & valid
    after, following = np.zeros_like(bits), np.zeros_like(bits)
    after[:, :-1] = np.bitwise_or.accumulate(bits[:, ::-1], axis=1)[:, ::-1][:, 1:]
    following[:, :-1] = bits[:, 1:]
    tokens = np.full(bits.shape[:2], int(_ONES[valid].sum()))
    states = (pruned, pruned & after, pruned & following, pruned & ~after, carried & valid)
    sums = (_ONES[state].sum(axis=2, dtype=np.int64) for state in states)
    return np.stack([tokens, *sums], axis=-1)


def _usage(bits: np.ndarray, grid_hw: Side) -> np.ndarray:
    """int64 grid: sum over images and layers."""
    tokens = grid_hw[0] * grid_hw[1]
    used = np.unpackbits(bits.reshape(-1, bits.shape[-1]), axis=1, count=tokens)
    return used.sum(axis=0, dtype=np.int64).reshape(grid_hw)
