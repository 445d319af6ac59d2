"""From boxes and small soft masks in the resized image to detections in source pixels.

Agrees with mmdet 2.28 and detectron2 (reference.md 7, rows `order` and `mask`): masks are sampled
at pixel centres and cut at 0.5; boxes are scaled, clipped and dropped when nothing is left.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F
from torchvision.ops import clip_boxes_to_image

from svit.core.rle import CodedMasks
from svit.core.types import Detections
from svit.data.samples import Sample

MASK_THRESHOLD = 0.5


def paste_masks(
    masks: Float[Tensor, "boxes side side"],
    boxes: Float[Tensor, "boxes 4"],
    image_hw: tuple[int, int],
) -> CodedMasks:
    """Soft masks stretched over their boxes, at least 0.5, zero elsewhere.

    One box at a time: only the pixels around it are sampled and encoded, a tenth of the work of whole images.
    """
    corners = torch.cat([boxes[:, :2].floor() - 1, boxes[:, 2:].ceil() + 1], dim=1)
    regions = clip_boxes_to_image(corners, image_hw).int().tolist()
    parts = []
    for mask, box, region in zip(masks, boxes, regions, strict=True):
        left, top, right, bottom = region
        grid = torch.stack(
            torch.meshgrid(
                _positions(left, right, box[0], box[2]),
                _positions(top, bottom, box[1], box[3]),
                indexing="xy",
            ),
            dim=-1,
        )
        sampled = F.grid_sample(mask[None, None], grid[None], align_corners=False)[0, 0]
        parts.append((left, top, (sampled >= MASK_THRESHOLD).cpu().numpy()))
    return CodedMasks.pasted(parts, image_hw)


def _positions(first: int, last: int, start: Tensor, end: Tensor) -> Float[Tensor, " pixels"]:
    """Centres of the pixels first..last-1 in `grid_sample` units: -1 at `start`, 1 at `end`."""
    centres = torch.arange(first, last, device=start.device, dtype=torch.float32) + 0.5
    return (centres - start) / (end - start) * 2 - 1


def to_source(
    boxes: Float[Tensor, "boxes 4"],
    scores: Float[Tensor, " boxes"],
    labels: Int[Tensor, " boxes"],
    masks: Float[Tensor, "boxes side side"],
    sample: Sample,
) -> Detections:
    """Detections of one image in source pixels.

    Args:
        boxes: (x0, y0, x1, y1) in pixels of the resized image.
        masks: probabilities inside the boxes.
    """
    height, width = sample.image_hw
    scale = (width / sample.resized_hw[1], height / sample.resized_hw[0])
    scaled = clip_boxes_to_image(boxes * boxes.new_tensor(scale * 2), sample.image_hw)
    present = (scaled[:, 2:] > scaled[:, :2]).all(dim=1)
    scaled, scores, labels, masks = (part[present] for part in (scaled, scores, labels, masks))
    coded = paste_masks(masks, scaled, sample.image_hw)
    return Detections(*(part.cpu().numpy() for part in (scaled, scores, labels)), coded)
