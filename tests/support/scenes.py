"""Small COCO data sets and detectors with random weights, for tests of whole passes over images."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from svit.core.config import Config, PruningConfig
from svit.core.presets import PRESETS
from svit.data.coco import CocoDataset
from svit.data.shapes import write_dataset
from svit.detectors import build_detector
from svit.detectors.base import Detector

SVIT = {"keep_ratios": [0.6] * 9, "inference": "topk"}
IMAGES = 4


def nano(method: str = "svit", detections: int = 3, **options) -> Config:
    """The nano preset for pictures of 64 pixels and a few detections."""
    preset = PRESETS["svit-plain-nano"]
    options = {**SVIT, **options} if method == "svit" else options
    return replace(
        preset,
        framework="torchvision",
        pruning=PruningConfig(method, options),
        data=replace(preset.data, short_side=64, long_side=96),
        detector=replace(preset.detector, max_detections=detections),
    )


def detector(method: str = "svit", seed: int = 0, **options) -> Detector:
    torch.manual_seed(seed)
    return build_detector(nano(method, **options)).eval()


def shapes(folder: Path) -> CocoDataset:
    """Shapes of 64 pixels, written into the folder on the first call."""
    if not (folder / "annotations").is_dir():
        write_dataset(folder, 0, IMAGES, seed=3, size=64, workers=1, progress=False)
    json = folder / "annotations" / "instances_val2017.json"
    return CocoDataset(json, folder / "val2017", nano().data)


def photos_with_damage(path: Path) -> Path:
    """A folder of three pictures, the second of which is cut off."""
    path.mkdir()
    for number in range(3):
        pixels = np.random.default_rng(number).integers(0, 255, (50, 70, 3), np.uint8)
        Image.fromarray(pixels).save(path / f"{number}.png")
    (path / "1.png").write_bytes((path / "1.png").read_bytes()[:200])
    return path
