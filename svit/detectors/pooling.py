"""RoIAlign as in mmdet and detectron2: features of boxes from an FPN, mask targets from bitmaps.

Unlike `torchvision.ops.MultiScaleRoIAlign` it is pixel-aligned and takes as many samples as a box
needs; torchvision's defaults put pooled features off by up to 7 (reference.md 7).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torchvision.ops import roi_align

CANONICAL_LEVEL = 4  # stride 16
CELLS_FOR_MATRICES = 64 * 64  # up to here pooling is a cheap pair of matrix products on a CPU
MOST_AT_ONCE = 2**23  # numbers between the two products, an image on average


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
                pooled[chosen] = _pool(values, regions[chosen], self.cells, 1 / stride)
        return pooled


def _pool(values: Tensor, regions: Tensor, cells: int, scale: float) -> Tensor:
    """RoIAlign of regions ordered by image: torchvision's kernel, or its equal where that is faster.

    torchvision's CPU kernel takes sample by sample, and one core adds up its backward. On large maps the
    matrices would multiply mostly zeros.
    """
    _, channels, height, width = values.shape
    small = height * width <= CELLS_FOR_MATRICES
    between = len(regions) * cells * width * channels
    if small and between <= MOST_AT_ONCE * len(values) and values.device.type == "cpu":
        return pool_by_matrices(values, regions, cells, scale)
    return roi_align(values, regions, cells, scale, sampling_ratio=0, aligned=True)


def pool_by_matrices(
    values: Float[Tensor, "batch channels height width"],
    regions: Float[Tensor, "boxes 5"],
    cells: int,
    scale: float,
) -> Float[Tensor, "boxes channels cells cells"]:
    """RoIAlign as rows · map · columns: an average over a grid of bilinear samples is separable.

    Fastest where the map's channels lie together in memory (`torch.channels_last`).

    Args:
        values: the map.
        regions: (image, x0, y0, x1, y1) in pixels, images ascending.
        cells: side of the pooled region.
        scale: cells of the map per pixel.
    """
    height, width = values.shape[-2:]
    counts = regions[:, 0].long().bincount(minlength=len(values)).tolist()
    start, end = (regions[:, 1:] * scale - 0.5).split(2, dim=1)
    across = sample_weights(start[:, 0], end[:, 0], cells, width).unsqueeze(1)
    down = sample_weights(start[:, 1], end[:, 1], cells, height)
    pooled = []
    for image, rows, columns in zip(
        values.permute(0, 2, 3, 1), down.split(counts), across.split(counts), strict=True
    ):
        strips = rows.flatten(0, 1) @ image.flatten(1)  # (boxes · cells, width · C)
        pooled.append(columns @ strips.view(len(rows), cells, *image.shape[1:]))
    return torch.cat(pooled).permute(0, 3, 1, 2)


def sample_weights(
    start: Float[Tensor, " boxes"], end: Float[Tensor, " boxes"], cells: int, length: int
) -> Float[Tensor, "boxes cells length"]:
    """How much each of `length` cells of a map's axis counts in each pooled cell of each box.

    A pooled cell is the mean of as many evenly spaced samples as it is map cells wide, rounded up;
    a sample reads linearly between its neighbours, repeats the border and is 0 beyond one cell from it.
    """
    step = ((end - start) / cells).view(-1, 1, 1)
    samples = step.ceil().clamp(min=1)
    number = torch.arange(int(samples.max()), device=start.device)
    cell = torch.arange(cells, device=start.device).view(1, -1, 1)
    place = start.view(-1, 1, 1) + (cell + (number + 0.5) / samples) * step
    counts = (number < samples) & (step > 0) & (place >= -1) & (place <= length)
    place = place.clamp(0, length - 1).unsqueeze(3)
    nearness = (1 - (place - torch.arange(length, device=start.device)).abs()).clamp(min=0)
    return (nearness * (counts / samples).unsqueeze(3)).sum(dim=2)


def with_image_index(boxes: Sequence[Float[Tensor, "_ 4"]]) -> Float[Tensor, "boxes 5"]:
    """All boxes in one tensor, the index of their image in front: the form `roi_align` takes."""
    counts = torch.tensor([len(some) for some in boxes], device=boxes[0].device)
    index = torch.arange(len(boxes), device=boxes[0].device).repeat_interleave(counts)
    return torch.cat([index.unsqueeze(1).to(boxes[0].dtype), torch.cat(list(boxes))], dim=1)


def learns_mask(
    label: Int[Tensor, " regions"],
    match: Int[Tensor, " regions"],
    has_mask: Bool[Tensor, " objects"],
) -> Bool[Tensor, " regions"]:
    """Which regions show an object (label above 0) that a mask was annotated for."""
    positive = label > 0
    return positive if has_mask.all() else positive & has_mask[match]


def crop_masks(
    masks: Bool[Tensor, "objects height width"],
    boxes: Float[Tensor, "boxes 4"],
    match: Int[Tensor, " boxes"],
    side: int,
) -> Float[Tensor, "boxes side side"]:
    """What bitmaps show inside boxes: 0 or 1, cropped and cut at 0.5 as in mmdet (reference.md 8).

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
