"""A run counted in one pass over its packed bits: pruning, reactivation and usage of all images.

Same numbers as the functions of `analysis.numbers.usage` on its traces, without unpacking tokens image by
image: COCO val is a matter of seconds. Memory holds one shard.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow as pa

from analysis.numbers import usage as metrics
from svit.runs.run import Run

COUNTS = ("tokens", "pruned", "later", "next", "never")
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
    """What a run amounts to.

    Attributes:
        counts: int64, a row a layer, columns `COUNTS` (see `metrics.LayerStates`), valid tokens only.
        usage: valid rows and columns -> usage of the images of that shape.
    """

    counts: pd.DataFrame
    usage: dict[Side, Usage]

    @property
    def images(self) -> int:
        return sum(group.images for group in self.usage.values())

    def reactivation(self) -> pd.DataFrame:
        """As `metrics.reactivation_frame`."""
        return metrics.with_shares(self.counts)

    def mean_usage(self, shape: Side = (50, 80)) -> np.ndarray:
        """As `metrics.mean_usage`: resampling is linear, so sums are resampled, once a shape."""
        total = np.zeros(shape)
        for group in self.usage.values():
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
    """Counts a run.

    Raises:
        RunError: a shard is damaged.
    """
    counts = np.zeros((len(COUNTS), run.layers), np.int64)
    usage: dict[Side, Usage] = {}
    for table in run.iter_bits():
        for grid_hw, valid_hw, bits in _grids(table, run.layers):
            mask = np.zeros(grid_hw, bool)
            mask[: valid_hw[0], : valid_hw[1]] = True
            counts += _counts(bits, np.packbits(mask))
            before = usage.get(valid_hw, Usage(np.zeros(valid_hw, np.int64), 0))
            total = _usage(bits, grid_hw)[: valid_hw[0], : valid_hw[1]]
            usage[valid_hw] = Usage(before.total + total, before.images + len(bits))
    return Census(pd.DataFrame(dict(zip(COUNTS, counts, strict=True))), usage)


def _grids(table: pa.Table, layers: int) -> Iterator[tuple[Side, Side, np.ndarray]]:
    """The images of a shard by geometry: grid, valid grid, bits uint8 (images, layers, bytes)."""
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
        starts = ends[:-1:layers][members.ravel() == number]
        size = -(-int(shape[0] * shape[1]) // 8)
        places = starts[:, None] + np.arange(layers * size)
        bits = data[places].reshape(len(starts), layers, size)
        yield tuple(shape[:2].tolist()), tuple(shape[2:].tolist()), bits


def _counts(bits: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """int64 (`COUNTS`, layers) over images with one geometry; `valid` masks the bytes of a layer."""
    pruned = ~bits & valid
    after, following = np.zeros_like(bits), np.zeros_like(bits)
    after[:, :-1] = np.bitwise_or.accumulate(bits[:, ::-1], axis=1)[:, ::-1][:, 1:]
    following[:, :-1] = bits[:, 1:]
    tokens = np.full(bits.shape[1], len(bits) * int(_ONES[valid].sum()))
    states = (pruned, pruned & after, pruned & following, pruned & ~after)
    return np.stack([tokens, *(_ONES[state].sum(axis=(0, 2), dtype=np.int64) for state in states)])


def _usage(bits: np.ndarray, grid_hw: Side) -> np.ndarray:
    """int64 grid: sum over images and layers."""
    tokens = grid_hw[0] * grid_hw[1]
    used = np.unpackbits(bits.reshape(-1, bits.shape[-1]), axis=1, count=tokens)
    return used.sum(axis=0, dtype=np.int64).reshape(grid_hw)
