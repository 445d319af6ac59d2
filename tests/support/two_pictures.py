"""Two pictures of noise with a disc, of unequal sizes, so that the smaller one gets padding tokens."""

from __future__ import annotations

import numpy as np
import torch

from svit.core.types import Target
from svit.data.samples import Sample


def disc(image_hw: tuple[int, int]) -> Target:
    """One disc left of the middle, with an outline through some tokens and none through others."""
    y, x = np.mgrid[: image_hw[0], : image_hw[1]]
    mask = (y - 30) ** 2 + (x - 28) ** 2 < 26**2
    return Target(np.float32([[2, 4, 54, 56]]), np.array([0]), mask[None])


def noise(name: str, image_hw: tuple[int, int], seed: int) -> Sample:
    pixels = torch.randn(3, *image_hw, generator=torch.Generator().manual_seed(seed))
    return Sample(name, pixels, image_hw, disc(image_hw))


# 24 and 16 of 24 tokens are valid
SAMPLES = [noise("wide", (64, 96), 0), noise("square", (64, 64), 1)]
GRIDS = tuple(sample.grid((64, 96), 16) for sample in SAMPLES)
