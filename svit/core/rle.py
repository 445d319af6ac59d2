"""Object masks as COCO's compressed run-length codes, and what can be told without unpacking them.

A code lists the lengths of runs of zeros and ones in turn, column by column from the top left, in the
text format of pycocotools (`maskApi.c`, `rleToString`). A run folder stores masks this way; a photograph's
mask is some hundred runs instead of 300,000 pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from pycocotools import mask as coco_mask

MOST_CHARACTERS = 7  # of a number: 35 bits
_AT_ONCE = 1 << 26  # pixels that are encoded


@dataclass(frozen=True)
class CodedMasks:
    """The masks of one image.

    Attributes:
        codes: one a mask.
        image_hw: height and width of each.
    """

    codes: tuple[bytes, ...]
    image_hw: tuple[int, int]

    @classmethod
    def of(cls, masks: np.ndarray) -> CodedMasks:
        """Encodes masks.

        Args:
            masks: bool (n, height, width).
        """
        height, width = masks.shape[1:]
        # some at a time: a second copy of all that a large field holds would be gigabytes
        step = max(1, _AT_ONCE // max(1, height * width))
        codes: list[bytes] = []
        for start in range(0, len(masks), step):
            part = masks[start : start + step].transpose(1, 2, 0)
            coded = coco_mask.encode(np.asfortranarray(part, dtype=np.uint8))
            codes += (code["counts"] for code in coded)
        return cls(tuple(codes), (height, width))

    @classmethod
    def pasted(
        cls, parts: Sequence[tuple[int, int, np.ndarray]], image_hw: tuple[int, int]
    ) -> CodedMasks:
        """Masks that are empty outside of a rectangle each, encoded without the rest of the image.

        Args:
            parts: left, top and bool (rows, columns) of each.
        """
        found = [
            {"size": list(image_hw), "counts": _pasted_runs(*part, image_hw)} for part in parts
        ]
        coded = coco_mask.frPyObjects(found, *image_hw) if found else []
        return cls(tuple(code["counts"] for code in coded), image_hw)

    def __len__(self) -> int:
        return len(self.codes)

    def __getitem__(self, chosen: np.ndarray) -> CodedMasks:
        """Those that an index array or boolean mask picks."""
        indices = np.arange(len(self))[chosen]
        return CodedMasks(tuple(self.codes[index] for index in indices), self.image_hw)

    def coco(self) -> list[dict]:
        """As the functions of `pycocotools.mask` take them."""
        return [{"size": list(self.image_hw), "counts": code} for code in self.codes]

    def json(self) -> list[dict]:
        """As COCO's json files hold them: size, and counts as text."""
        return [one | {"counts": one["counts"].decode("ascii")} for one in self.coco()]

    def decoded(self) -> np.ndarray:
        """bool (n, height, width)."""
        if not self.codes:
            return np.zeros((0, *self.image_hw), bool)
        planes = coco_mask.decode(self.coco())  # (height, width, n), 0 or 1
        return np.ascontiguousarray(planes.transpose(2, 0, 1)).view(bool)

    def union(self) -> CodedMasks:
        """One mask: the pixels that any covers."""
        if not self.codes:
            return CodedMasks.of(np.zeros((1, *self.image_hw), bool))
        return CodedMasks((coco_mask.merge(self.coco())["counts"],), self.image_hw)

    def areas(self) -> np.ndarray:
        """Pixels of each mask. Returns: int64 (n,)."""
        return np.asarray(coco_mask.area(self.coco()), np.int64).reshape(-1)

    def boxes_xywh(self) -> np.ndarray:
        """The smallest box around each mask. Returns: float64 (n, 4), left, top, width, height."""
        return np.asarray(coco_mask.toBbox(self.coco())).reshape(-1, 4)

    def segments(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Vertical pieces of the masks: number of the mask, ascending, column x and rows top <= y < bottom,
        none across columns.

        Returns: four of int64 (pieces,).

        Raises:
            ValueError: a code is damaged (`run_lengths`).
        """
        height = self.image_hw[0]
        lengths, runs = joined_runs(self.codes)
        rank = np.arange(len(lengths)) - np.repeat(np.cumsum(runs) - runs, runs)
        turns = _sums(lengths, rank == 0)
        ones = np.flatnonzero(rank % 2)
        starts, ends, masks = turns[ones - 1], turns[ones], np.repeat(np.arange(len(self)), runs)
        filled = ends > starts
        starts, ends, masks = starts[filled], ends[filled], masks[ones][filled]
        first, last = starts // height, (ends - 1) // height
        counts = last - first + 1
        piece = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        column = np.repeat(first, counts) + piece
        top = np.maximum(np.repeat(starts, counts) - column * height, 0)
        bottom = np.minimum(np.repeat(ends, counts) - column * height, height)
        return np.repeat(masks, counts), column, top, bottom


def _pasted_runs(left: int, top: int, part: np.ndarray, image_hw: tuple[int, int]) -> list[int]:
    """Lengths of the runs of zeros and ones in turn, of the whole image."""
    height, width = image_hw
    columns = np.zeros((part.shape[1] + 2, height), bool)  # an empty one before and behind
    columns[1:-1, top : top + part.shape[0]] = part.T
    flat = columns.ravel()
    turns = np.flatnonzero(flat[1:] != flat[:-1]) + 1 + (left - 1) * height
    runs = np.diff(np.concatenate([[0], turns, [height * width]])).tolist()
    return runs if runs[-1] or len(runs) == 1 else runs[:-1]


def run_lengths(code: bytes) -> np.ndarray:
    """Lengths of the runs of zeros and ones in turn: int64 (n,) pixels (`maskApi.c`, `rleFrString`).

    A character holds five bits of a number, lowest first, and in bit 5 whether more follow; the last one's
    bit 4 is the sign. From the fourth number on each is the difference to the one two before.

    Raises:
        ValueError: not a text of that kind; at most seven characters make a number.
        TypeError: not bytes.
    """
    return joined_runs([code])[0]


def joined_runs(codes: Sequence[bytes]) -> tuple[np.ndarray, np.ndarray]:
    """`run_lengths` of several codes after each other, and how many each has: many times faster than one by
    one. Raises as it does."""
    letters = np.frombuffer(b"".join(codes), np.uint8).astype(np.int64) - 48
    sizes = np.array([len(code) for code in codes], np.int64)
    if not len(letters):
        return letters, sizes
    wrong = (letters < 0) | (letters > 63)
    if wrong.any():
        raise ValueError(
            f"expected groups of 6 bits, found character code {letters[wrong][0] + 48}"
        )
    more, stops = letters & 0x20 != 0, np.cumsum(sizes)
    if more[stops[sizes > 0] - 1].any():
        raise ValueError("the text stops in the middle of a number")
    ends = np.flatnonzero(~more)
    firsts = np.searchsorted(ends, stops - sizes)  # of each code among all numbers
    counts = np.diff(np.append(firsts, len(ends)))
    numbers = _numbers(letters, ends)
    rank = np.arange(len(numbers)) - np.repeat(firsts, counts)
    for parity in (1, 2):
        chain = np.flatnonzero((rank >= parity) & (rank % 2 == parity % 2))
        numbers[chain] = _sums(numbers[chain], rank[chain] == parity)
    return numbers, counts


def _numbers(letters: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """The signed numbers whose last letters are at `ends`."""
    starts = np.concatenate([[0], ends[:-1] + 1])
    sizes = ends - starts + 1
    if sizes.max() > MOST_CHARACTERS:
        raise ValueError(
            f"expected at most {MOST_CHARACTERS} characters a number, found {sizes.max()}"
        )
    place = np.arange(len(letters)) - np.repeat(starts, sizes)
    numbers = np.add.reduceat((letters & 0x1F) << (5 * place), starts)
    numbers -= np.where(letters[ends] & 0x10, np.int64(1) << (5 * sizes), 0)
    return numbers


def _sums(values: np.ndarray, begins: np.ndarray) -> np.ndarray:
    """Running sums that start anew where `begins` is true, which it is at the first value."""
    sums = np.cumsum(values)
    before = (sums - values)[begins]
    return sums - before[np.cumsum(begins) - 1]
