"""Anchors as mmdet 2.28 and detectron2 place them (reference.md 7), and what torchvision says of them."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.rpn import RPNHead

from svit.detectors.base import LEVELS


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
