"""Boundary IoU beside mask IoU (Cheng et al., CVPR 2021): do masks agree where they end? No torch.

The boundary of a mask is what lies within `DILATION` of the image's diagonal of the outside, where the image
ends, too. A detection overlaps an object by the smaller of mask IoU and boundary IoU, so large objects are
judged by their contour; crowds by the mask alone.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from svit.core.rle import CodedMasks

DILATION = 0.02  # of the diagonal, as the paper


def boundary(mask: np.ndarray) -> np.ndarray:
    """The pixels of a mask, bool (height, width), that an erosion takes: by squares, as often as `DILATION`
    of the diagonal has pixels, at least once. Returns: bool (height, width)."""
    reach = max(1, round(DILATION * float(np.hypot(*mask.shape))))
    band = np.zeros_like(mask)
    rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    if len(rows):
        box = (slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1))
        band[box] = mask[box] & ~_filled(_filled(mask[box], reach).T, reach).T
    return band


def _filled(mask: np.ndarray, reach: int) -> np.ndarray:
    """Pixels with nothing but the mask within `reach` above and below."""
    sums = np.pad(mask, ((reach + 1, reach), (0, 0))).cumsum(axis=0, dtype=np.int32)
    side = 2 * reach + 1
    return sums[side:] - sums[:-side] == side


class BoundaryEval(COCOeval):
    """COCO's evaluation by boundaries; indices as it takes them for "segm"."""

    def __init__(self, truth: COCO, found: COCO) -> None:
        super().__init__(truth, found, "segm")
        self.bands = COCOeval(truth, found, "segm")

    def _prepare(self) -> None:
        super()._prepare()
        self.bands.params = self.params
        for name in ("_gts", "_dts"):
            groups = getattr(self, name)
            setattr(self.bands, name, {key: _banded(group) for key, group in groups.items()})

    def computeIoU(self, imgId: Any, catId: int) -> Any:
        """IoU (detections, objects) of an image and class; an empty list where there are none."""
        whole = super().computeIoU(imgId, catId)
        if not len(whole):
            return whole
        narrow = self.bands.computeIoU(imgId, catId)
        crowd = [one["iscrowd"] for one in self._gts[imgId, catId]]
        return np.where(np.array(crowd, bool), whole, np.minimum(whole, narrow))


def _banded(group: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Annotations whose segmentations, compressed codes, are those of their boundaries."""
    return [{**one, "segmentation": _band(one["segmentation"])} for one in group]


def _band(code: dict[str, Any]) -> dict[str, Any]:
    mask = coco_mask.decode(code).astype(bool)
    return CodedMasks.of(boundary(mask)[None]).coco()[0]
