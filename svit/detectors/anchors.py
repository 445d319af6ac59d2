"""Anchors as mmdet 2.28 and detectron2 place them (reference.md 7), and torchvision's proposals from them."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.rpn import RegionProposalNetwork, RPNHead
from torchvision.ops import batched_nms, clip_boxes_to_image, nms

from svit.core.config import DetectorConfig
from svit.detectors.base import ASPECT_RATIOS, LEVELS

MANY = 1000  # boxes; above, torchvision suppresses group by group on a CPU, as `best_apart` does
FIRST_LOOK = 2  # times as many boxes as are asked for


class Anchors(AnchorGenerator):
    """Anchors with unrounded sides whose first centre is the corner of the image (offset 0).

    The step is the level's stride; torchvision divides image by map size, wrong for p6 of odd p5.
    """

    def generate_anchors(
        self,
        scales: Sequence[int],
        aspect_ratios: Sequence[float],
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> Float[Tensor, "anchors 4"]:
        """Boxes around (0, 0) of area scale**2, one an aspect ratio h/w, computed in float64."""
        rows = []
        for scale in scales:
            for ratio in aspect_ratios:
                width = math.sqrt(scale**2 / ratio)
                height = ratio * width
                rows.append([-width / 2, -height / 2, width / 2, height / 2])
        return torch.tensor(rows, dtype=dtype, device=device)

    def forward(self, image_list: ImageList, feature_maps: list[Tensor]) -> list[Tensor]:
        """All anchors, levels one after another, once an image."""
        self.set_cell_anchors(torch.float32, feature_maps[0].device)
        grids = [list(values.shape[-2:]) for values in feature_maps]
        strides = [[stride, stride] for stride in LEVELS.values()]
        return [torch.cat(self.grid_anchors(grids, strides))] * len(image_list.image_sizes)


class ProposalHead(RPNHead):
    """torchvision's, whose logits and deltas are float32 in every precision of its maps."""

    def forward(self, x: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Logits and deltas of the anchors of every map."""
        logits, deltas = super().forward(x)
        return [one.float() for one in logits], [one.float() for one in deltas]


class ProposalNetwork(RegionProposalNetwork):
    """torchvision's proposal network with an L1 loss and a ranking by logits as in detectron2.

    A sigmoid would tie large logits. Boxes of any positive size stay (torchvision: above 1e-3).
    """

    def __init__(self, settings: DetectorConfig) -> None:
        super().__init__(
            Anchors(tuple((size,) for size in settings.anchor_sizes), (ASPECT_RATIOS,) * 5),
            ProposalHead(settings.fpn_dim, len(ASPECT_RATIOS)),
            fg_iou_thresh=0.7,
            bg_iou_thresh=0.3,
            batch_size_per_image=settings.rpn_samples,
            positive_fraction=0.5,
            pre_nms_top_n={
                "training": settings.rpn_pre_nms_train,
                "testing": settings.rpn_pre_nms_test,
            },
            post_nms_top_n={
                "training": settings.rpn_post_nms_train,
                "testing": settings.rpn_post_nms_test,
            },
            nms_thresh=0.7,
        )

    def filter_proposals(
        self,
        proposals: Float[Tensor, "batch anchors 4"],
        objectness: Float[Tensor, "anchors_of_all_images 1"],
        image_shapes: list[tuple[int, int]],
        num_anchors_per_level: list[int],
    ) -> tuple[list[Tensor], list[Tensor]]:
        """The best boxes of each image after one NMS a level, with their logits, best first."""
        logits = objectness.detach().reshape(len(proposals), -1)
        counts = torch.tensor(num_anchors_per_level, device=logits.device)
        level_of = torch.arange(len(counts), device=logits.device).repeat_interleave(counts)
        best = self._get_top_n_idx(logits, num_anchors_per_level)
        boxes, scores = [], []
        for index, all_boxes, all_logits, size in zip(
            best, proposals, logits, image_shapes, strict=True
        ):
            chosen, score = clip_boxes_to_image(all_boxes[index], size), all_logits[index]
            present = (chosen[:, 2:] > chosen[:, :2]).all(dim=1).nonzero().squeeze(1)
            chosen, score, level = chosen[present], score[present], level_of[index[present]]
            keep = best_apart(chosen, score, level, self.nms_thresh, self.post_nms_top_n())
            boxes.append(chosen[keep])
            scores.append(score[keep])
        return boxes, scores

    def compute_loss(
        self,
        objectness: Tensor,
        pred_bbox_deltas: Tensor,
        labels: list[Tensor],
        regression_targets: list[Tensor],
    ) -> tuple[Tensor, Tensor]:
        """Cross entropy and L1, both over the number of sampled anchors as in mmdet."""
        positive, negative = (torch.cat(part).bool() for part in self.fg_bg_sampler(labels))
        sampled = positive | negative
        cross_entropy = F.binary_cross_entropy_with_logits(
            objectness.flatten()[sampled], torch.cat(labels)[sampled]
        )
        wanted = torch.cat(regression_targets)[positive]
        distance = F.l1_loss(pred_bbox_deltas[positive], wanted, reduction="sum")
        return cross_entropy, distance / sampled.sum()


def best_apart(
    boxes: Float[Tensor, "boxes 4"],
    scores: Float[Tensor, " boxes"],
    groups: Int[Tensor, " boxes"],
    threshold: float,
    count: int,
) -> Int[Tensor, " at_most_count"]:
    """`torchvision.ops.batched_nms(boxes, scores, groups, threshold)[:count]`, index by index (of equal
    scores, which torchvision leaves in any order, the first).

    Whether a box stays depends on better ones alone. So many boxes are looked at best first, and no
    further than to the last that is asked for: the work grows with the square of their number.
    """
    if len(boxes) <= MANY or boxes.device.type != "cpu":
        return batched_nms(boxes, scores, groups, threshold)[:count]
    order, looked = scores.argsort(descending=True, stable=True), FIRST_LOOK * count
    while True:
        first = order[:looked]
        kept = _kept(boxes[first], scores[first], groups[first], threshold)
        if len(kept) >= count or looked >= len(order):
            return first[kept[:count]]
        looked *= 2


def _kept(boxes: Tensor, scores: Tensor, groups: Tensor, threshold: float) -> Tensor:
    """Places of the boxes that stay, ascending."""
    stays = boxes.new_zeros(len(boxes), dtype=bool)
    for group in groups.unique():
        among = (groups == group).nonzero().squeeze(1)
        stays[among[nms(boxes[among], scores[among], threshold)]] = True
    return stays.nonzero().squeeze(1)
