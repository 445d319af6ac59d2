"""A small golden case of our own: frozen numbers of a toy SViT Mask R-CNN, for machines without SVIT_GOLDEN.

The weights are noise keyed by parameter name, so they need no file. The numbers were frozen when the same
code equalled the official implementation (tests/*/test_golden_*.py); running this file
writes them anew, which only a deliberate change of the numerics justifies.
"""

from __future__ import annotations

import math
import zlib
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from svit.core.config import Config
from svit.core.presets import PRESETS
from svit.data.samples import Sample
from svit.detectors import HAS_DETECTRON2, build_detector
from svit.detectors.base import Detector
from svit.probing.recorder import record

FILE = Path(__file__).parent / "small_golden.safetensors"
FRAMEWORKS = [
    "torchvision",
    pytest.param("detectron2", marks=pytest.mark.detectron2),
]


def noise(name: str, tensor: Tensor) -> Tensor:
    """Values that depend on the name and shape alone, of a size that keeps activations near one."""
    generator = torch.Generator().manual_seed(zlib.crc32(name.encode()))
    drawn = torch.randn(tensor.shape, generator=generator)
    if not tensor.is_floating_point() or name.endswith("thresholds"):
        return torch.zeros_like(tensor)
    if name.endswith("running_var"):
        return 1 + 0.1 * drawn.abs()
    if name.endswith("gamma"):
        return 0.3 + 0.1 * drawn
    if name.endswith(("pos_embed", "level_embed", "sampling_offsets.bias")):
        return drawn
    if tensor.ndim >= 2:
        gain = 4.0 if ".gates." in name else 1.0
        return gain * drawn / math.sqrt(math.prod(tensor.shape[1:]))
    return 1 + 0.1 * drawn if name.endswith("weight") else 0.02 * drawn


def config(framework: str) -> Config:
    preset = PRESETS["svit-adapter-nano"]
    return replace(
        preset,
        framework=framework,
        backbone=replace(preset.backbone, embed_dim=24, prior_dim=4, deform_ratio=1.0),
        detector=replace(preset.detector, score_threshold=0.0, max_detections=20, fpn_dim=16),
    )


def toy(framework: str) -> Detector:
    detector = build_detector(config(framework)).eval()
    state = detector.canonical_state_dict()
    detector.load_canonical({name: noise(name, value) for name, value in state.items()})
    return detector


def numbers(framework: str) -> dict[str, Tensor]:
    detector = toy(framework)
    image = torch.randn(3, 90, 120, generator=torch.Generator().manual_seed(7))
    with record(detector) as tape:
        found = detector.predict([Sample("toy", image, (180, 240))])[0]
    with torch.no_grad():
        maps = detector.backbone(torch.nn.functional.pad(image[None], (0, 8, 0, 6)))
    return {
        "keep": torch.tensor(tape.keep()[0]).to(torch.uint8),
        **{name: value[0, ::4].contiguous() for name, value in maps.items()},
        "boxes": torch.tensor(found.boxes_xyxy),
        "scores": torch.tensor(found.scores),
        "labels": torch.tensor(found.labels),
        "mask_areas": torch.tensor(found.masks.sum(axis=(1, 2))),
    }


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_the_toy_model_gives_the_frozen_numbers(framework: str) -> None:
    frozen, now = load_file(FILE), numbers(framework)
    assert torch.equal(now["keep"], frozen["keep"])
    assert torch.equal(now["labels"], frozen["labels"])
    for name in ("c2", "c3", "c4", "c5", "scores"):
        assert (now[name] - frozen[name]).abs().max() <= 1e-4 * frozen[name].abs().max(), name
    torch.testing.assert_close(now["boxes"], frozen["boxes"], atol=0.01, rtol=0)
    assert (now["mask_areas"] - frozen["mask_areas"]).abs().max() <= 3


def test_the_frozen_case_prunes_and_detects_something() -> None:
    frozen = load_file(FILE)
    ratios = frozen["keep"].float().mean(dim=(1, 2))
    assert (ratios[:3] == 1).all() and 0.05 < ratios[3:].mean() < 0.95
    assert len(frozen["scores"]) == 20 and frozen["mask_areas"].max() > 50


if __name__ == "__main__":
    assert not HAS_DETECTRON2 or torch.equal(
        numbers("detectron2")["labels"], numbers("torchvision")["labels"]
    )
    save_file(numbers("torchvision"), FILE)
    print(f"wrote {FILE}")
