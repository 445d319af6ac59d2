"""A plain ViT whose maps come from its tokens alone (ViTDet's simple feature pyramid, Li et al., ECCV 2022).

No convolutional path bypasses the blocks, so what a pruning method skips is really missing: the neck on which
token maps mean something even for small models (training.md, "ViT-only pyramid").
"""

from __future__ import annotations

from jaxtyping import Float
from timm.layers import LayerNorm2d
from torch import Tensor, nn

from svit.core.config import BackboneConfig
from svit.models.backbone import STRIDES
from svit.models.layers import Doubling
from svit.models.vit import ViT
from svit.pruning.base import Method


class ViTPyramid(ViT):
    """Plain ViT, a final LayerNorm, and one resampling of the token map for each stride."""

    def __init__(self, config: BackboneConfig, method: Method) -> None:
        super().__init__(config, method)
        dim = config.embed_dim
        self.norm = nn.LayerNorm(dim, eps=1e-6)
        self.pyramid = nn.ModuleDict(
            {name: _resample(dim, config.patch, stride) for name, stride in STRIDES.items()}
        )

    def forward(self, images: Float[Tensor, "batch 3 height width"]) -> dict[str, Tensor]:
        """Maps c2..c5 (B, C, height / stride, width / stride) of strides 4, 8, 16 and 32.

        Raises:
            ValueError: a side that `divisor` does not divide.
        """
        self._check(images)
        grid_hw = self.grid_hw(images)
        tokens = self.embed(images, grid_hw)
        state = self._begin(tokens, self.class_position(), grid_hw)
        tokens = self.run_blocks(range(len(self.blocks)), tokens, state)
        self._finish(state)
        image = self.norm(tokens).transpose(1, 2).unflatten(2, grid_hw)
        return {name: scale(image) for name, scale in self.pyramid.items()}


def _resample(dim: int, patch: int, stride: int) -> nn.Module:
    """From the token map of stride `patch` to a map of `stride`, layer-normalised over channels."""
    steps: list[nn.Module] = []
    while patch > stride:
        steps += [Doubling(dim, dim), LayerNorm2d(dim), nn.GELU()]
        patch //= 2
    if patch < stride:
        steps.append(nn.MaxPool2d(stride // patch))
    if isinstance(steps[-1] if steps else None, nn.GELU):
        steps = steps[:-2]
    return nn.Sequential(*steps, LayerNorm2d(dim))
