"""One prepared image, and how several become a padded batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from svit.core.types import ImageId, Target, TokenGrid


@dataclass(frozen=True)
class Sample:
    """An image that is resized and normalised but not yet padded.

    Attributes:
        image_id: as the data set names it.
        image: float32 (3, height, width), RGB, normalised.
        image_hw: height and width of the source image in pixels (after any EXIF rotation).
        target: ground truth in the frame of `image`; None at inference.
    """

    image_id: ImageId
    image: Float[Tensor, "3 height width"]
    image_hw: tuple[int, int]
    target: Target | None = None

    @property
    def resized_hw(self) -> tuple[int, int]:
        return int(self.image.shape[1]), int(self.image.shape[2])

    def padded_hw(self, multiple: int = 32) -> tuple[int, int]:
        """Size of the picture alone after `pad_batch`; pictures that share it do not change each other."""
        height, width = self.resized_hw
        return -(-height // multiple) * multiple, -(-width // multiple) * multiple

    def grid(self, padded_hw: tuple[int, int], patch: int) -> TokenGrid:
        """The token geometry once the image lies in a batch of the padded size."""
        grid_hw = (padded_hw[0] // patch, padded_hw[1] // patch)
        return TokenGrid(self.image_hw, self.resized_hw, grid_hw, patch)


def pad_batch(
    samples: Sequence[Sample], multiple: int = 32
) -> Float[Tensor, "batch 3 height width"]:
    """Images zero-padded right and below to one size that `multiple` divides (zeros are the mean colour).

    This is the only place where pictures are padded (reference.md 6: pad after normalisation).
    """
    batch = samples[0].image.new_zeros(len(samples), 3, *padded_hw(samples, multiple))
    for row, sample in zip(batch, samples):
        row[:, : sample.image.shape[1], : sample.image.shape[2]] = sample.image
    return batch


def padded_hw(samples: Sequence[Sample], multiple: int = 32) -> tuple[int, int]:
    """Height and width of the batch that `pad_batch` makes, in resized pixels."""
    height, width = (max(sample.resized_hw[side] for sample in samples) for side in (0, 1))
    return -(-height // multiple) * multiple, -(-width // multiple) * multiple


def valid_tokens(grids: Sequence[TokenGrid], device: torch.device) -> Bool[Tensor, "batch tokens"]:
    """Tokens of a padded batch that show image pixels, in raster order; one grid an image."""
    masks = [torch.from_numpy(grid.valid_mask().ravel()) for grid in grids]
    return torch.stack(masks).to(device)


def to_device(sample: Sample, device: torch.device | str) -> Sample:
    """The sample with its image on the device."""
    image = sample.image.to(device, non_blocking=True)
    return Sample(sample.image_id, image, sample.image_hw, sample.target)
