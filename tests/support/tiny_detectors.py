"""Detectors and samples small enough for many tests."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from svit.core.presets import load_config
from svit.core.types import Target
from svit.data.samples import Sample
from svit.detectors import build_detector
from svit.detectors.base import Detector

FRAMEWORKS = ["torchvision", pytest.param("detectron2", marks=pytest.mark.detectron2)]
SETTINGS = (
    "backbone.embed_dim=24",
    "backbone.depth=4",
    "pruning.options.keep_ratios=[0.7,0.5]",
    "detector.classes=5",
    "detector.fpn_dim=16",
    "detector.box_head_dim=32",
    "detector.mask_head_dim=16",
    "detector.rpn_pre_nms_test=100",
    "detector.rpn_post_nms_test=60",
    "detector.rpn_pre_nms_train=100",
    "detector.rpn_post_nms_train=60",
    "detector.score_threshold=0.0",
)


def settings_of(framework: str, *overrides: str):
    """The tiny configuration for a framework."""
    dense = "pruning.method=dense" in overrides
    chosen = [one for one in SETTINGS if not (dense and one.startswith("pruning"))]
    preset = "vit-plain-nano" if dense else "svit-plain-nano"
    return load_config(preset, [*chosen, f"framework={framework}", *overrides])


def build(framework: str, *overrides: str) -> Detector:
    """A tiny detector with its initial weights."""
    torch.manual_seed(0)
    return build_detector(settings_of(framework, *overrides))


def varied(detector: Detector) -> Detector:
    """The detector with weights that make scores, boxes and masks differ from each other."""
    noise = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for value in detector.canonical_state_dict().values():
            if value.is_floating_point() and value.ndim:
                value += 0.05 * torch.randn(value.shape, generator=noise)
    return detector


def samples(*sizes: tuple[int, int, int]) -> list[Sample]:
    """One sample for each (height, width, objects); the source is twice as large."""
    return [_sample(index, *size) for index, size in enumerate(sizes)]


def _sample(index: int, height: int, width: int, objects: int) -> Sample:
    random = np.random.default_rng(index)
    masks, boxes = np.zeros((objects, height, width), bool), np.zeros((objects, 4), np.float32)
    for mask, box in zip(masks, boxes, strict=True):
        left, top = random.integers(0, width - 32), random.integers(0, height - 32)
        box[:] = left, top, *(random.integers(12, 32, 2) + (left, top))
        x0, y0, x1, y1 = box.astype(int)
        mask[y0:y1, x0:x1] = True
    image = torch.randn(3, height, width, generator=torch.Generator().manual_seed(index))
    target = Target(boxes, random.integers(0, 5, objects), masks)
    return Sample(f"image-{index}", image, (2 * height, 2 * width), target)
