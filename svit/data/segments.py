"""Object masks of COCO annotations: polygons, run lengths as a list, run lengths as text; no torch.

pycocotools decodes them, but trusts its input: run lengths that stop short leave the rest of a mask
uninitialised. Hence the checks here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask


def are_run_lengths(segmentation: Mapping[str, Any], image_hw: tuple[int, int]) -> bool:
    """Whether they are well formed, made for this size, and no longer than the picture."""
    size = segmentation.get("size")
    if not isinstance(size, Sequence) or tuple(size) != image_hw:
        return False
    try:
        counts = run_counts(segmentation.get("counts"))
    except (TypeError, ValueError, OverflowError):
        return False
    return min(counts, default=0) >= 0 and sum(counts) <= image_hw[0] * image_hw[1]


def filled_up(segmentation: Mapping[str, Any], image_hw: tuple[int, int]) -> Mapping[str, Any]:
    """Run lengths that cover the whole picture; what stops short goes on as background."""
    counts = run_counts(segmentation["counts"])
    rest = image_hw[0] * image_hw[1] - sum(counts)
    if rest == 0:
        return segmentation
    # an odd number of runs ends with background
    full = [*counts[:-1], counts[-1] + rest] if len(counts) % 2 else [*counts, rest]
    encoded = coco_mask.frPyObjects({"size": list(image_hw), "counts": full}, *image_hw)
    return {"size": list(image_hw), "counts": encoded["counts"].decode("ascii")}


def run_counts(counts: Any) -> list[int]:
    """Run lengths in pixels, background first, of COCO's list form or of its text form.

    Raises:
        ValueError: not whole numbers, or a text that is none of COCO's.
        TypeError: neither a list nor a text.
    """
    if not isinstance(counts, list | tuple):
        return _text_counts(counts.encode("ascii") if isinstance(counts, str) else counts)
    if any(count != int(count) for count in counts):
        raise ValueError("run lengths are whole numbers")
    return [int(count) for count in counts]


def _text_counts(text: bytes) -> list[int]:
    """The text holds a number in groups of 5 bits, lowest first: chr(48 + bits + 32 * more to come).

    Numbers are signed; from the fourth on they are differences to the run two before. Format:
    `rleFrString` of pycocotools' common/maskApi.c.
    """
    counts: list[int] = []
    value = shift = 0
    for code in memoryview(text):
        bits = code - 48
        if not 0 <= bits < 64 or shift > 30:
            raise ValueError(f"expected groups of 6 bits, at most 7 a number, found code {code}")
        value |= (bits & 31) << shift
        shift += 5
        if bits & 32:
            continue
        signed = value - (1 << shift) if bits & 16 else value
        counts.append(signed + counts[-2] if len(counts) > 2 else signed)
        value = shift = 0
    if shift:
        raise ValueError("the text stops in the middle of a number")
    return counts


def run_lengths(segmentation: Any, image_hw: tuple[int, int]) -> dict[str, Any]:
    """Polygons or run lengths of one object as pycocotools' compressed run lengths."""
    if isinstance(segmentation, Mapping):
        if isinstance(segmentation["counts"], list):
            return coco_mask.frPyObjects(dict(segmentation), *image_hw)
        return dict(segmentation)
    return coco_mask.merge(coco_mask.frPyObjects(segmentation, *image_hw))


def decode_masks(segmentations: Iterable[Any], image_hw: tuple[int, int]) -> np.ndarray:
    """Bitmaps of the objects of one picture: bool (objects, height, width)."""
    encoded = [run_lengths(segmentation, image_hw) for segmentation in segmentations]
    if not encoded:
        return np.zeros((0, *image_hw), dtype=bool)
    decoded = coco_mask.decode(encoded)  # (height, width, objects), 0 or 1
    return np.ascontiguousarray(decoded.transpose(2, 0, 1)).view(bool)
