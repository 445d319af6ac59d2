"""Backbones: image in, feature maps of strides 4, 8, 16 and 32 out."""

from __future__ import annotations

from svit.core.config import BackboneConfig, PruningConfig
from svit.models.adapter import ViTAdapter
from svit.models.backbone import Backbone
from svit.models.pyramid import ViTPyramid
from svit.pruning import build_method

NECKS: dict[str, type[ViTAdapter] | type[ViTPyramid]] = {
    "adapter": ViTAdapter,
    "pyramid": ViTPyramid,
}


def build_backbone(backbone: BackboneConfig, pruning: PruningConfig) -> Backbone:
    """A ViT with the configured neck and pruning method, freshly initialised.

    Raises:
        ValueError: unknown pruning method or option (near names are listed).
    """
    method = build_method(
        pruning.method, backbone.embed_dim, backbone.depth, backbone.heads, pruning.options
    )
    return NECKS[backbone.neck](backbone, method)
