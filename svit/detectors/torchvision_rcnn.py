"""Mask R-CNN from torchvision's parts, made to agree with mmdet 2.28 and detectron2.

What torchvision would do differently is replaced, one small class a matter (reference.md 7):
rounded anchors, smooth L1, RoIAlign without alignment, soft masks; its own resizing is not built.
Classes are 0..K-1 with the background last. Only torchvision's matcher and sampler count otherwise,
the background as 0 and classes from 1: `_truth` shifts for them, `RegionHeads._losses` shifts back.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models.detection.faster_rcnn import TwoMLPHead
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
from torchvision.models.detection.roi_heads import RoIHeads
from torchvision.ops import FeaturePyramidNetwork, batched_nms, box_iou, clip_boxes_to_image
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool

from svit.core.config import Config, DetectorConfig
from svit.core.types import Detections, Target
from svit.data.samples import Sample
from svit.detectors.anchors import ProposalNetwork
from svit.detectors.base import (
    BOX_CELLS,
    BOX_WEIGHTS,
    LEVELS,
    MASK_CELLS,
    NEAR,
    POOLED_LEVELS,
    Detector,
    Maps,
    Near,
    touching,
)
from svit.detectors.pasting import to_source
from svit.detectors.pooling import PyramidRoIAlign, crop_masks, learns_mask
from svit.models import build_backbone
from svit.models.backbone import Backbone
from svit.models.layers import Doubling, cells_of, side_by_side


def parameter_names(mask_convs: int) -> dict[str, str]:
    """Prefix of a name here -> prefix of its canonical (detectron2) name."""
    table = {
        "bottom_up.": "backbone.bottom_up.",
        "rpn.head.conv.0.0.": "proposal_generator.rpn_head.conv.",
        "rpn.head.cls_logits.": "proposal_generator.rpn_head.objectness_logits.",
        "rpn.head.bbox_pred.": "proposal_generator.rpn_head.anchor_deltas.",
        "roi_heads.box_head.fc6.": "roi_heads.box_head.fc1.",
        "roi_heads.box_head.fc7.": "roi_heads.box_head.fc2.",
        "roi_heads.mask_predictor.conv5_mask.": "roi_heads.mask_head.deconv.",
        "roi_heads.mask_predictor.mask_fcn_logits.": "roi_heads.mask_head.predictor.",
    }
    for index in range(4):
        table[f"fpn.inner_blocks.{index}.0."] = f"backbone.fpn_lateral{index + 2}."
        table[f"fpn.layer_blocks.{index}.0."] = f"backbone.fpn_output{index + 2}."
    for index in range(mask_convs):
        table[f"roi_heads.mask_head.{index}.0."] = f"roi_heads.mask_head.mask_fcn{index + 1}."
    return table


class TorchvisionDetector(Detector):
    """Our backbone, then torchvision's FPN, proposal network and region heads."""

    framework = "torchvision"

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        settings = config.detector
        self.names = parameter_names(settings.mask_head_convs)
        self.bottom_up = build_backbone(config.backbone, config.pruning)
        channels = [self.bottom_up.channels] * len(self.bottom_up.strides)
        self.fpn = FeaturePyramidNetwork(channels, settings.fpn_dim, LastLevelMaxPool())
        self.rpn = ProposalNetwork(settings)
        self.roi_heads = RegionHeads(settings)

    @property
    def backbone(self) -> Backbone:
        return self.bottom_up

    def _pyramid(self, maps: Maps) -> Maps:
        """Maps p2..p6 from c2..c5."""
        return OrderedDict(zip(LEVELS, self.fpn(OrderedDict(maps)).values(), strict=True))

    def _losses(
        self, images: Tensor, maps: Maps, samples: Sequence[Sample], targets: Sequence[Target]
    ) -> dict[str, Tensor]:
        pyramid, sizes = self._pyramid(maps), [sample.resized_hw for sample in samples]
        truth = [_truth(target, images.device) for target in targets]
        proposals, losses = self.rpn(ImageList(images, sizes), pyramid, truth)
        _, region_losses = self.roi_heads(pyramid, proposals, sizes, truth)
        return {
            "loss_rpn_cls": losses["loss_objectness"],
            "loss_rpn_loc": losses["loss_rpn_box_reg"],
            **region_losses,
        }

    def _detections(
        self, images: Tensor, maps: Maps, samples: Sequence[Sample], near: Near = None
    ) -> list[Detections]:
        pyramid, sizes = self._pyramid(maps), [sample.resized_hw for sample in samples]
        proposals, _ = self.rpn(ImageList(images, sizes), pyramid)
        if near is not None:
            proposals = touching(proposals, near, lambda boxes: boxes)
        found, _ = self.roi_heads(pyramid, proposals, sizes, near=near)
        return [to_source(**one, sample=sample) for one, sample in zip(found, samples, strict=True)]


def _truth(target: Target, device: torch.device) -> dict[str, Tensor]:
    """A target as torchvision takes it: background is 0, the first class 1."""
    return {
        "boxes": torch.from_numpy(target.boxes_xyxy.copy()).to(device),
        "labels": torch.from_numpy(target.labels + 1).to(device),
        "masks": torch.from_numpy(target.masks.copy()).to(device),
        "has_mask": torch.from_numpy(target.has_mask.copy()).to(device),
    }


class BoxPredictor(nn.Module):
    """Logits of K classes and the background (last), box deltas of the K classes."""

    def __init__(self, dim: int, classes: int) -> None:
        super().__init__()
        self.cls_score = nn.Linear(dim, classes + 1)
        self.bbox_pred = nn.Linear(dim, 4 * classes)

    def forward(self, features: Float[Tensor, "boxes dim"]) -> tuple[Tensor, Tensor]:
        """Logits (boxes, K + 1) and deltas (boxes, K, 4)."""
        return self.cls_score(features), self.bbox_pred(features).unflatten(1, (-1, 4))


class MaskPredictor(MaskRCNNPredictor):
    """torchvision's mask predictor; in training asked for one class a box, since no other has a loss."""

    def __init__(self, inputs: int, width: int, classes: int) -> None:
        super().__init__(inputs, width, classes)
        general, self.conv5_mask = self.conv5_mask, Doubling(inputs, width)
        self.conv5_mask.load_state_dict(general.state_dict())  # torchvision's start

    def of_classes(
        self, features: Float[Tensor, "boxes inputs _ _"], labels: Int[Tensor, " boxes"]
    ) -> Float[Tensor, "boxes side side"]:
        """Logits of each box's own class 0..K-1; only they are put side by side, not the features."""
        cells, last = cells_of(self.conv5_mask, features).relu(), self.mask_fcn_logits
        logits = cells.flatten(1, -2) @ last.weight[labels].flatten(2)
        logits = side_by_side(logits.view(cells.shape[:-1]))
        return logits + last.bias[labels].view(-1, 1, 1)


class RegionHeads(RoIHeads):
    """torchvision's matching, sampling and coding of regions; losses and classes as in mmdet."""

    def __init__(self, settings: DetectorConfig) -> None:
        strides = [LEVELS[name] for name in POOLED_LEVELS]
        canonical, classes = settings.roi_canonical_size, settings.classes
        width = settings.mask_head_dim
        super().__init__(
            PyramidRoIAlign(BOX_CELLS, strides, canonical),
            TwoMLPHead(settings.fpn_dim * BOX_CELLS**2, settings.box_head_dim),
            BoxPredictor(settings.box_head_dim, classes),
            fg_iou_thresh=0.5,
            bg_iou_thresh=0.5,
            batch_size_per_image=settings.roi_samples,
            positive_fraction=settings.roi_positive_fraction,
            bbox_reg_weights=BOX_WEIGHTS,
            score_thresh=settings.score_threshold,
            nms_thresh=settings.nms_threshold,
            detections_per_img=settings.max_detections,
            mask_roi_pool=PyramidRoIAlign(MASK_CELLS, strides, canonical),
            mask_head=MaskRCNNHeads(
                settings.fpn_dim, [width] * settings.mask_head_convs, dilation=1
            ),
            mask_predictor=MaskPredictor(width, width, classes),
        )
        self.classes = classes
        _initialise(self)

    def forward(
        self,
        features: Maps,
        proposals: list[Tensor],
        image_shapes: list[tuple[int, int]],
        targets: list[dict[str, Tensor]] | None = None,
        near: Near = None,
    ) -> tuple[list[dict[str, Tensor]], dict[str, Tensor]]:
        """Nothing and losses in training; detections in resized pixels and no losses otherwise."""
        maps = [features[name] for name in POOLED_LEVELS]
        if self.training:
            return [], self._losses(maps, proposals, targets)
        return self._detect(maps, proposals, image_shapes, near), {}

    def box_outputs(
        self, maps: Sequence[Tensor], boxes: Sequence[Tensor]
    ) -> tuple[Float[Tensor, "boxes classes_and_background"], Float[Tensor, "boxes classes 4"]]:
        """Class logits and deltas of all boxes, float32."""
        logits, deltas = self.box_predictor(self.box_head(self.box_roi_pool(maps, boxes)))
        return logits.float(), deltas.float()

    def mask_logits(
        self,
        maps: Sequence[Tensor],
        boxes: Sequence[Tensor],
        labels: Int[Tensor, " boxes"],
    ) -> Float[Tensor, "boxes side side"]:
        """Mask logits of each box for its class 0..K-1, float32."""
        features = self.mask_head(self.mask_roi_pool(maps, boxes))
        if self.training:
            return self.mask_predictor.of_classes(features, labels)
        logits = self.mask_predictor(features)
        return logits[torch.arange(len(labels), device=labels.device), labels].float()

    def _losses(
        self, maps: list[Tensor], proposals: list[Tensor], targets: list[dict[str, Tensor]]
    ) -> dict[str, Tensor]:
        boxes, matches, labels, wanted = self.select_training_samples(proposals, targets)
        logits, deltas = self.box_outputs(maps, boxes)
        shifted, wanted = torch.cat(labels) - 1, torch.cat(wanted)  # background is -1 here only
        positive = (shifted >= 0).nonzero().squeeze(1)
        classes = shifted.remainder(self.classes + 1)  # ... and becomes the last
        count = max(len(classes), 1)
        distance = F.l1_loss(deltas[positive, classes[positive]], wanted[positive], reduction="sum")
        return {
            "loss_cls": F.cross_entropy(logits, classes, reduction="sum") / count,
            "loss_box_reg": distance / count,
            "loss_mask": self._mask_loss(maps, boxes, matches, labels, targets),
        }

    def _mask_loss(
        self,
        maps: list[Tensor],
        boxes: list[Tensor],
        matches: list[Tensor],
        labels: list[Tensor],
        targets: list[dict[str, Tensor]],
    ) -> Tensor:
        """Cross entropy over positive regions of objects with a mask only; zero without any."""
        positive = [
            learns_mask(label, match, target["has_mask"])
            for label, match, target in zip(labels, matches, targets, strict=True)
        ]
        boxes = [some[chosen] for some, chosen in zip(boxes, positive, strict=True)]
        classes = torch.cat(
            [label[chosen] - 1 for label, chosen in zip(labels, positive, strict=True)]
        )
        logits = self.mask_logits(maps, boxes, classes)
        if not len(classes):
            return logits.sum()  # of nothing: zero, with a gradient for every parameter
        wanted = [
            crop_masks(target["masks"], some, match[chosen], logits.shape[-1])
            for target, some, match, chosen in zip(targets, boxes, matches, positive, strict=True)
        ]
        return F.binary_cross_entropy_with_logits(logits, torch.cat(wanted))

    def _detect(
        self,
        maps: list[Tensor],
        proposals: list[Tensor],
        image_shapes: list[tuple[int, int]],
        near: Near,
    ) -> list[dict[str, Tensor]]:
        logits, deltas = self.box_outputs(maps, proposals)
        counts = [len(boxes) for boxes in proposals]
        scores = logits.softmax(dim=1)[:, :-1].split(counts)
        found = [
            self._select(*one)
            for one in zip(proposals, deltas.split(counts), scores, image_shapes, strict=True)
        ]
        if near is not None:
            found = [_meant(*one) for one in zip(found, near, strict=True)]
        labels = torch.cat([one["labels"] for one in found])
        masks = self.mask_logits(maps, [one["boxes"] for one in found], labels).sigmoid()
        counts = [len(one["labels"]) for one in found]
        return [
            {**one, "masks": part} for one, part in zip(found, masks.split(counts), strict=True)
        ]

    def _select(
        self,
        proposals: Float[Tensor, "proposals 4"],
        deltas: Float[Tensor, "proposals classes 4"],
        scores: Float[Tensor, "proposals classes"],
        image_hw: tuple[int, int],
    ) -> dict[str, Tensor]:
        """The best detections of one image after NMS within each class, best first."""
        chosen, label = (scores > self.score_thresh).nonzero(as_tuple=True)
        boxes = self.box_coder.decode_single(deltas[chosen, label], proposals[chosen])
        boxes, scores = clip_boxes_to_image(boxes, image_hw), scores[chosen, label]
        keep = batched_nms(boxes, scores, label, self.nms_thresh)[: self.detections_per_img]
        return {"boxes": boxes[keep], "scores": scores[keep], "labels": label[keep]}


def _meant(found: dict[str, Tensor], near: Float[Tensor, "boxes 4"]) -> dict[str, Tensor]:
    """Detections of an image that overlap one of the boxes."""
    kept = (box_iou(found["boxes"], near) >= NEAR).any(dim=1)
    return {name: values[kept] for name, values in found.items()}


def _initialise(heads: RegionHeads) -> None:
    """detectron2's start of the region heads, so that both frameworks train alike."""
    for layer in (heads.box_head.fc6, heads.box_head.fc7):
        nn.init.kaiming_uniform_(layer.weight, a=1)  # "Xavier" of Caffe2
    for layer, spread in (
        (heads.box_predictor.cls_score, 0.01),
        (heads.box_predictor.bbox_pred, 0.001),
        (heads.mask_predictor.mask_fcn_logits, 0.001),
    ):
        nn.init.normal_(layer.weight, std=spread)
    for name, parameter in heads.named_parameters():
        if name.endswith("bias"):
            nn.init.zeros_(parameter)
