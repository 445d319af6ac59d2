"""The compute ledger: multiply-accumulates (MACs) of every module from the tokens each block kept.

Formulas: methods.md 12.1; those of pruned blocks and of choosing tokens stand in `svit.core.costs`.
Convolutions, linear layers, attention products and deformable sampling count;
normalisation, activations, softmax, additions and resizing do not. One MAC is two FLOPs.
Counters that watch operators miss fused attention or sampling, so this ledger is the number the
workbench reports; a test holds it against `torch.utils.flop_counter`. Nothing here needs torch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
import pandas as pd

from svit.core.catalogue import METHODS
from svit.core.config import BackboneConfig, DetectorConfig, PruningConfig
from svit.core.costs import GROUPS, Cost

FLOPS_PER_MAC = 2
NO_OPTIONS: Mapping[str, Any] = MappingProxyType({})
EXTRACTORS = GROUPS + 2  # one after each quarter of the blocks, two more after the last
BILINEAR = 5  # MACs a sampled channel: four corners and one weight
ANCHORS = 3  # a location
STRIDES = (4, 8, 16, 32)  # of the maps that a neck makes
HEAD_PARTS = ("fpn", "rpn", "box_head", "mask_head")  # what a ledger holds beside the backbone


def ledger(
    backbone: BackboneConfig,
    detector: DetectorConfig | None,
    pruning: PruningConfig,
    grid_hw: tuple[int, int],
    kept: Sequence[float] | np.ndarray,
    proposals: float | None = None,
    detections: float = 0,
) -> pd.Series:
    """MACs of each module for one image.

    Args:
        detector: None leaves the heads out.
        grid_hw: padded token rows and columns.
        kept: tokens each block used (layers,), padding included; of methods that select inside a
            block (EViT, ATS) the tokens that leave it. Costs are quadratic: average ledgers, never
            counts.
        proposals: boxes the box head saw; None is the configured number, an upper bound.
        detections: boxes the mask head saw.

    Returns:
        Module name -> MACs. The sum is the whole network; `HEAD_PARTS` are not the backbone.

    Raises:
        ValueError: a method without a formula, or another number of layers.
    """
    parts = {**_patch_embed(backbone, grid_hw), **_pruned(backbone, pruning, grid_hw, kept)}
    parts |= _NECKS[backbone.neck](backbone, grid_hw)
    if detector is not None:
        limit = detector.rpn_post_nms_test
        parts |= _heads(
            backbone, detector, grid_hw, limit if proposals is None else proposals, detections
        )
    return pd.Series(parts, dtype=float, name="macs")


def block_macs(
    backbone: BackboneConfig,
    method: str,
    tokens: int,
    kept: Sequence[float] | np.ndarray,
    options: Mapping[str, Any] = NO_OPTIONS,
) -> np.ndarray:
    """MACs of each ViT block: float64 (layers,). `kept` as in `ledger`; `tokens` is N with padding;
    `options` are the method's, where they are not its own.

    Raises:
        ValueError: a method without a formula, or another number of layers.
    """
    leaving = np.asarray(kept, dtype=float)
    if leaving.shape != (backbone.depth,):
        raise ValueError(
            f"expected kept tokens of {backbone.depth} layers, found shape {leaving.shape}"
        )
    entering = np.concatenate([[float(tokens)], leaving[:-1]])
    return _cost(method).blocks(leaving, entering, backbone, options)


def _cost(method: str) -> Cost:
    if method not in METHODS:
        known = ", ".join(sorted(METHODS))
        raise ValueError(
            f"no cost formula for method {method!r} (known: {known}); add a row to svit/core/catalogue.py"
        )
    return METHODS[method].cost


def _pruned(
    backbone: BackboneConfig, pruning: PruningConfig, grid_hw: tuple[int, int], kept: Any
) -> dict[str, float]:
    tokens = grid_hw[0] * grid_hw[1]
    blocks = block_macs(backbone, pruning.method, tokens, kept, pruning.options).sum()
    choosing = _cost(pruning.method).selection
    selection = choosing(np.asarray(kept, float), tokens, backbone, pruning.options)
    return {"blocks": float(blocks), "selection": float(selection)}


def _patch_embed(backbone: BackboneConfig, grid_hw: tuple[int, int]) -> dict[str, float]:
    return {"patch_embed": grid_hw[0] * grid_hw[1] * 3 * backbone.patch**2 * backbone.embed_dim}


def _adapter(backbone: BackboneConfig, grid_hw: tuple[int, int]) -> dict[str, float]:
    """ViT-Adapter's part around the blocks: all tokens, and a prior at strides 8, 16 and 32."""
    tokens, dim = grid_hw[0] * grid_hw[1], backbone.embed_dim
    prior = 21 * tokens / 4
    hidden = int(dim * backbone.ffn_ratio)
    feed_forward = prior * (2 * dim * hidden + 9 * hidden)
    extractor = _deformable(backbone, 1, prior, tokens) + feed_forward
    return {
        "prior": _spatial_prior(backbone, tokens),
        "injectors": GROUPS * _deformable(backbone, 3, tokens, prior),
        "extractors": EXTRACTORS * extractor,
        "up": 4 * tokens * 4 * dim**2,
    }


def _deformable(backbone: BackboneConfig, levels: int, queries: float, cells: float) -> float:
    """Value and output projections, offsets and weights, and sampling of the value channels."""
    dim, inner = backbone.embed_dim, int(backbone.embed_dim * backbone.deform_ratio)
    points = backbone.deform_heads * levels * backbone.deform_points
    projections = cells * dim * inner + queries * inner * dim
    sampling = BILINEAR * queries * points * (inner // backbone.deform_heads)
    return projections + queries * dim * 3 * points + sampling


def _spatial_prior(backbone: BackboneConfig, tokens: int) -> float:
    width, dim = backbone.prior_dim, backbone.embed_dim
    stem = 64 * tokens * 9 * (3 * width + 2 * width**2)  # at half the picture's resolution
    convolutions = 9 * width**2 * (4 * tokens * 2 + tokens * 8 + tokens / 4 * 16)
    to_tokens = width * dim * (16 * tokens + 4 * tokens * 2 + tokens * 4 + tokens / 4 * 4)
    return stem + convolutions + to_tokens


def _pyramid(backbone: BackboneConfig, grid_hw: tuple[int, int]) -> dict[str, float]:
    """Transposed convolutions (2x2, stride 2) towards the maps that are finer than a patch."""
    total = 0
    for stride in STRIDES:
        cells, size = grid_hw[0] * grid_hw[1], backbone.patch
        while size > stride:
            total += cells * 4 * backbone.embed_dim**2
            cells, size = 4 * cells, size // 2
    return {"pyramid": total}


_NECKS = {"adapter": _adapter, "pyramid": _pyramid}


def _heads(
    backbone: BackboneConfig,
    detector: DetectorConfig,
    grid_hw: tuple[int, int],
    proposals: float,
    detections: float,
) -> dict[str, float]:
    height, width = (side * backbone.patch for side in grid_hw)
    cells = [(height // stride) * (width // stride) for stride in STRIDES]
    coarsest = -(-(height // 32) // 2) * -(
        -(width // 32) // 2
    )  # the fifth level skips every second cell
    fpn, locations = detector.fpn_dim, sum(cells) + coarsest
    return {
        "fpn": sum(cells) * (backbone.embed_dim * fpn + 9 * fpn**2),
        "rpn": locations * (9 * fpn**2 + fpn * ANCHORS * 5),
        "box_head": proposals * _box_head(detector),
        "mask_head": detections * _mask_head(detector),
    }


def _box_head(detector: DetectorConfig) -> float:
    """Two linear layers on 7x7 cells, then classes with background and a box for each class."""
    hidden = detector.box_head_dim
    return 49 * detector.fpn_dim * hidden + hidden**2 + hidden * (5 * detector.classes + 1)


def _mask_head(detector: DetectorConfig) -> float:
    """3x3 convolutions on 14x14 cells, a transposed one to 28x28, a 1x1 for the classes."""
    width = detector.mask_head_dim
    inputs = [detector.fpn_dim, *[width] * detector.mask_head_convs]
    convolutions = sum(9 * channels * width for channels in inputs[:-1])
    return 196 * (convolutions + 4 * inputs[-1] * width) + 784 * width * detector.classes
