"""RoIAlign as in mmdet and detectron2: features of boxes from an FPN, mask targets from bitmaps.

Unlike `torchvision.ops.MultiScaleRoIAlign` it is pixel-aligned and takes as many samples as a box
needs; torchvision's defaults put pooled features off by up to 7 (reference.md §7).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torchvision.ops import roi_align

CANONICAL_LEVEL = 4  # stride 16


class PyramidRoIAlign(nn.Module):
    """Features of boxes, each read from the level that suits its size.

    Args:
        cells: side of the pooled region.
        strides: pixels per cell of each map, ascending powers of two.
        canonical_size: a box of this side, in pixels, reads the map of stride 16.
    """

    def __init__(self, cells: int, strides: Sequence[int], canonical_size: int) -> None:
        super().__init__()
        self.cells, self.strides, self.canonical_size = cells, tuple(strides), canonical_size
        self.lowest, self.highest = (side.bit_length() - 1 for side in (strides[0], strides[-1]))

    def levels(self, boxes: Float[Tensor, "boxes 4"]) -> Int[Tensor, " boxes"]:
        """Index of each box's map: floor(4 + log2(sqrt(area) / canonical_size)) (FPN, Eq. 1)."""
        sides = boxes[:, 2:] - boxes[:, :2]
        size = (sides[:, 0] * sides[:, 1]).sqrt()
        level = torch.floor(CANONICAL_LEVEL + torch.log2(size / self.canonical_size + 1e-8))
        return level.clamp(self.lowest, self.highest).long() - self.lowest

    def forward(
        self,
        maps: Sequence[Float[Tensor, "batch channels _ _"]],
        boxes: Sequence[Float[Tensor, "_ 4"]],
    ) -> Float[Tensor, "boxes channels cells cells"]:
        """Pooled features of all boxes, image after image.

        Args:
            maps: one a stride.
            boxes: (x0, y0, x1, y1) in pixels of the padded images, one tensor an image.
        """
        regions = with_image_index(boxes)
        levels = self.levels(regions[:, 1:])
        pooled = regions.new_zeros(len(regions), maps[0].shape[1], self.cells, self.cells)
        for index, (values, stride) in enumerate(zip(maps, self.strides, strict=True)):
            chosen = (levels == index).nonzero().squeeze(1)
            if len(chosen):
                pooled[chosen] = roi_align(
                    values, regions[chosen], self.cells, 1 / stride, sampling_ratio=0, aligned=True
                )
        return pooled


def with_image_index(boxes: Sequence[Float[Tensor, "_ 4"]]) -> Float[Tensor, "boxes 5"]:
    """All boxes in one tensor, the index of their image in front: the form `roi_align` takes."""
    counts = torch.tensor([len(some) for some in boxes], device=boxes[0].device)
    index = torch.arange(len(boxes), device=boxes[0].device).repeat_interleave(counts)
    return torch.cat([index.unsqueeze(1).to(boxes[0].dtype), torch.cat(list(boxes))], dim=1)


def crop_masks(
    masks: Bool[Tensor, "objects height width"],
    boxes: Float[Tensor, "boxes 4"],
    match: Int[Tensor, " boxes"],
    side: int,
) -> Float[Tensor, "boxes side side"]:
    """What bitmaps show inside boxes: 0 or 1, cropped and cut at 0.5 as in mmdet (reference.md §8).

    Args:
        masks: bool, all objects of an image; never copied, however many boxes match one object.
        match: object of each box.
        side: cells of a crop.
    """
    if not len(match):
        return boxes.new_zeros(0, side, side)
    regions = torch.cat([match.unsqueeze(1).to(boxes.dtype), boxes], dim=1)
    cropped = roi_align(masks.unsqueeze(1).to(boxes.dtype), regions, side, 1.0, 0, aligned=True)
    return (cropped.squeeze(1) >= 0.5).to(boxes.dtype)
