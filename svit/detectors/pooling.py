"""RoIAlign as in mmdet and detectron2: features of boxes from an FPN, mask targets from bitmaps.

Unlike `torchvision.ops.MultiScaleRoIAlign` it is pixel-aligned and takes as many samples as a box
needs; torchvision's defaults put pooled features off by up to 7 (reference.md 7).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.ops import roi_align

from svit.system.products import matmul

CANONICAL_LEVEL = 4  # stride 16
CELLS_FOR_MATRICES = 64 * 64  # in training, maps up to here are a cheap pair of matrix products
CHANNELS_FOR_BAGS = 128  # otherwise, bags are faster from here on (results/equal-forms.md)
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
        """Pooled features of all boxes, image after image, float32 in every precision of the maps.

        Args:
            maps: one a stride.
            boxes: (x0, y0, x1, y1) in pixels of the padded images, one tensor an image.
        """
        regions = with_image_index(boxes)
        levels = self.levels(regions[:, 1:])
        maps = [values.float() for values in maps]
        pooled = regions.new_zeros(len(regions), maps[0].shape[1], self.cells, self.cells)
        if (
            pooled.device.type == "cpu" and not torch.is_grad_enabled()
        ):  # the mask head is faster so
            pooled = pooled.contiguous(memory_format=torch.channels_last)
        for index, (values, stride) in enumerate(zip(maps, self.strides, strict=True)):
            chosen = (levels == index).nonzero().squeeze(1)
            if len(chosen):
                with torch.autocast(values.device.type, enabled=False):
                    pooled[chosen] = _pool(values, regions[chosen], self.cells, 1 / stride)
        return pooled


def _pool(values: Tensor, regions: Tensor, cells: int, scale: float) -> Tensor:
    """RoIAlign of regions ordered by image: torchvision's kernel, or its equals where these are faster.

    torchvision's CPU kernel takes sample by sample, and one core adds up its backward: in training, small
    maps are left to matrices (on large ones these would multiply mostly zeros). Bags have no quick
    backward, and what they prepare for each pooled cell pays over many channels.
    """
    _, channels, height, width = values.shape
    between = len(regions) * cells * width * channels
    if values.device.type == "cpu" and torch.is_grad_enabled() and values.requires_grad:
        small = height * width <= CELLS_FOR_MATRICES
        if small and between <= MOST_AT_ONCE * len(values):
            return pool_by_matrices(values, regions, cells, scale)
    elif values.device.type == "cpu" and channels >= CHANNELS_FOR_BAGS:
        return pool_by_bags(values, regions, cells, scale)
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
        strips = matmul(rows.flatten(0, 1), image.flatten(1))  # (boxes · cells, width · C)
        pooled.append(columns @ strips.view(len(rows), cells, *image.shape[1:]))
    return torch.cat(pooled).permute(0, 3, 1, 2)


def pool_by_bags(
    values: Float[Tensor, "batch channels height width"],
    regions: Float[Tensor, "boxes 5"],
    cells: int,
    scale: float,
) -> Float[Tensor, "boxes channels cells cells"]:
    """RoIAlign as weighted sums of the map's rows: each pooled cell reads every map cell below it once.

    The samples of a pooled cell share their neighbours (4 x 4 samples read 64 corners but at most 36 map
    cells), and boxes that take equally many samples are summed in one call.

    Args:
        values: the map; no copy is made where its channels lie together in memory.
        regions: (image, x0, y0, x1, y1) in pixels.
        cells: side of the pooled region.
        scale: cells of the map per pixel.

    Returns:
        Channels-last in memory.
    """
    _, channels, height, width = values.shape
    table = values.permute(0, 2, 3, 1).reshape(-1, channels)
    start, end = (regions[:, 1:] * scale - 0.5).split(2, dim=1)
    samples = ((end - start) / cells).ceil().clamp(min=1).long()
    pooled = values.new_zeros(len(regions), cells, cells, channels)
    for across, down in samples.unique(dim=0).tolist():
        chosen = ((samples[:, 0] == across) & (samples[:, 1] == down)).nonzero().squeeze(1)
        first, last = start[chosen], end[chosen]
        column, column_weight = _read_cells(first[:, 0], last[:, 0], cells, width)
        row, row_weight = _read_cells(first[:, 1], last[:, 1], cells, height)
        row = row + (regions[chosen, 0].long() * height).view(-1, 1, 1)
        index = row[:, :, None, :, None] * width + column[:, None, :, None, :]
        weight = row_weight[:, :, None, :, None] * column_weight[:, None, :, None, :]
        sums = F.embedding_bag(
            index.flatten(3).flatten(0, 2),
            table,
            mode="sum",
            per_sample_weights=weight.flatten(3).flatten(0, 2),
        )
        pooled[chosen] = sums.view(len(chosen), cells, cells, channels)
    return pooled.permute(0, 3, 1, 2)


def _read_cells(
    start: Float[Tensor, " boxes"], end: Float[Tensor, " boxes"], cells: int, length: int
) -> tuple[Int[Tensor, "boxes cells read"], Float[Tensor, "boxes cells read"]]:
    """Which cells of a map's axis each pooled cell reads, and how much each counts: `sample_weights`
    without its zeros."""
    place, counts, samples = _samples(start, end, cells, length, as_kernel=True)
    low = place[:, :, :1].floor()
    reach = int((place.amax(dim=2, keepdim=True) - low).max().floor()) + 2
    read = low + torch.arange(reach, device=start.device)
    nearness = (1 - (place.unsqueeze(3) - read.unsqueeze(2)).abs()).clamp(min=0)
    weights = (nearness * (counts / samples).unsqueeze(3)).sum(dim=2)
    return read.clamp(max=length - 1).long(), weights


def sample_weights(
    start: Float[Tensor, " boxes"], end: Float[Tensor, " boxes"], cells: int, length: int
) -> Float[Tensor, "boxes cells length"]:
    """How much each of `length` cells of a map's axis counts in each pooled cell of each box.

    A pooled cell is the mean of as many evenly spaced samples as it is map cells wide, rounded up;
    a sample reads linearly between its neighbours, repeats the border and is 0 beyond one cell from it.
    """
    place, counts, samples = _samples(start, end, cells, length)
    place = place.unsqueeze(3)
    nearness = (1 - (place - torch.arange(length, device=start.device)).abs()).clamp(min=0)
    return (nearness * (counts / samples).unsqueeze(3)).sum(dim=2)


def _samples(
    start: Float[Tensor, " boxes"],
    end: Float[Tensor, " boxes"],
    cells: int,
    length: int,
    as_kernel: bool = False,
) -> tuple[
    Float[Tensor, "boxes cells samples"],
    Bool[Tensor, "boxes cells samples"],
    Float[Tensor, "boxes 1 1"],
]:
    """Where the samples of each pooled cell lie on an axis, within it; which count; how many they are.

    Args:
        as_kernel: round as torchvision's kernel does, which is 100 times nearer to it on large maps;
            what is trained keeps the other order, on which every weight so far depends.
    """
    step = ((end - start) / cells).view(-1, 1, 1)
    samples = step.ceil().clamp(min=1)
    number = torch.arange(int(samples.max()), device=start.device)
    cell = torch.arange(cells, device=start.device).view(1, -1, 1)
    if as_kernel:
        place = start.view(-1, 1, 1) + cell * step + (number + 0.5) * step / samples
    else:
        place = start.view(-1, 1, 1) + (cell + (number + 0.5) / samples) * step
    counts = (number < samples) & (step > 0) & (place >= -1) & (place <= length)
    return place.clamp(0, length - 1), counts, samples


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
