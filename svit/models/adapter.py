"""ViT-Adapter: a convolutional prior that exchanges information with a plain ViT (Chen et al., ICLR 2023;
`mmdet_custom/models/backbones/{vit_adapter,adapter_modules}.py` of github.com/uzh-rpg/svit).

Around each quarter of the blocks an injector adds prior features to the tokens and an extractor reads the
tokens back into the prior. Both see all tokens, also those a pruning method skips in the blocks.
Exact specification: methods.md 2.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from timm.layers import DropPath
from torch import Tensor, nn
from torch.nn import functional as F

from svit.core.config import BackboneConfig
from svit.core.costs import GROUPS
from svit.models.deform_attn import DeformableAttention, Shapes
from svit.models.layers import Folding, doubled
from svit.models.size_cache import SizeCache
from svit.models.vit import ViT
from svit.pruning.base import Method
from svit.system.products import linear, matmul

EXTRA_EXTRACTORS = 2
RESIZED = (4.0, 2.0, 0.5)  # factors from the token grid to strides 4, 8 and 32


@dataclass(frozen=True)
class Geometry:
    """Grids of one image size: `prior` holds strides 8, 16, 32; `tokens` is the stride-16 grid.

    `resizing` holds, by factor, the matrices that resize rows and columns of the token grid.
    """

    prior: Shapes
    tokens: tuple[int, int]
    prior_reference: Float[Tensor, "cells 2"]
    token_reference: Float[Tensor, "tokens 2"]
    resizing: dict[float, tuple[Tensor, Tensor]]


def geometry(grid_hw: tuple[int, int], device: torch.device) -> Geometry:
    """Shapes and cell centres for a token grid of even sides."""
    rows, columns = grid_hw
    prior = [(2 * rows, 2 * columns), (rows, columns), (rows // 2, columns // 2)]
    centres = [cell_centres(shape, device) for shape in prior]
    resizing = {
        factor: (interpolation(rows, factor, device), interpolation(columns, factor, device))
        for factor in RESIZED
    }
    return Geometry(prior, grid_hw, torch.cat(centres), centres[1], resizing)


def interpolation(side: int, factor: float, device: torch.device) -> Float[Tensor, "new old"]:
    """The matrix of torch's linear interpolation along one axis, cell centres kept in place."""
    unit = torch.eye(side, device=device).unsqueeze(0)
    return F.interpolate(unit, scale_factor=factor, mode="linear", align_corners=False)[0].t()


def resize(
    image: Float[Tensor, "batch dim rows columns"], matrices: tuple[Tensor, Tensor]
) -> Float[Tensor, "batch dim new_rows new_columns"]:
    """Bilinear resizing, columns then rows, which keeps a channels-last image in that order.

    `F.interpolate` would turn it, and every sum with other maps would walk memory across.
    """
    rows, columns = (matrix.to(image.dtype) for matrix in matrices)
    with torch.autocast(image.device.type, enabled=False):
        wider = columns @ image.permute(0, 2, 3, 1)  # (B, rows, new_columns, C)
        taller = [matmul(rows, one.flatten(1)).unflatten(1, wider.shape[2:]) for one in wider]
        batch = torch.stack(taller) if len(taller) > 1 else taller[0].unsqueeze(0)  # no copy of one
        return batch.permute(0, 3, 1, 2)


def cell_centres(shape: tuple[int, int], device: torch.device) -> Float[Tensor, "cells 2"]:
    """Centres (x, y) of the cells of a (rows, columns) grid in [0, 1], raster order."""
    rows, columns = shape
    y = (torch.arange(rows, device=device) + 0.5) / rows
    x = (torch.arange(columns, device=device) + 0.5) / columns
    return torch.stack([x.repeat(rows), y.repeat_interleave(columns)], dim=-1)


def as_image(
    tokens: Float[Tensor, "batch tokens channels"], shape: tuple[int, int]
) -> Float[Tensor, "batch channels rows columns"]:
    """Tokens in raster order as an image, without a copy."""
    return tokens.transpose(1, 2).unflatten(2, shape)


class SpatialPrior(nn.Module):
    """A small convolutional pyramid: strides 4 (as image), 8, 16, 32 (as tokens)."""

    def __init__(self, width: int, dim: int) -> None:
        super().__init__()
        self.stem = Folding(
            *_conv_bn_relu(3, width, 2),
            *_conv_bn_relu(width, width, 1),
            *_conv_bn_relu(width, width, 1),
            nn.MaxPool2d(3, stride=2, padding=1),
        )
        self.conv2 = Folding(*_conv_bn_relu(width, 2 * width, 2))
        self.conv3 = Folding(*_conv_bn_relu(2 * width, 4 * width, 2))
        self.conv4 = Folding(*_conv_bn_relu(4 * width, 4 * width, 2))
        self.fc1 = nn.Conv2d(width, dim, 1)
        self.fc2 = nn.Conv2d(2 * width, dim, 1)
        self.fc3 = nn.Conv2d(4 * width, dim, 1)
        self.fc4 = nn.Conv2d(4 * width, dim, 1)

    def forward(self, images: Tensor) -> tuple[Tensor, list[Tensor]]:
        """c1 (B, C, h/4, w/4) and the tokens (B, cells, C) of strides 8, 16 and 32."""
        # on a CPU pooling and what follows read rows of channels: no copies in between
        if images.device.type == "cpu":
            images = images.contiguous(memory_format=torch.channels_last)
        c1 = self.stem(images)
        c2 = self.conv2(c1)
        c3 = self.conv3(c2)
        c4 = self.conv4(c3)
        levels = ((self.fc2, c2), (self.fc3, c3), (self.fc4, c4))
        tokens = [_pointwise(fc, c).flatten(1, 2) for fc, c in levels]
        return _pointwise(self.fc1, c1).permute(0, 3, 1, 2), tokens


def _pointwise(conv: nn.Conv2d, image: Tensor) -> Float[Tensor, "batch rows columns dim"]:
    """A 1x1 convolution as the matrix product it is; the result is in the order of tokens."""
    return linear(image.permute(0, 2, 3, 1), conv.weight.flatten(1), conv.bias)


def _conv_bn_relu(inputs: int, outputs: int, stride: int) -> list[nn.Module]:
    conv = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
    return [conv, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)]


class Injector(nn.Module):
    """Adds prior features to the tokens: x + gamma * attention; gamma starts at 0."""

    def __init__(self, config: BackboneConfig) -> None:
        super().__init__()
        dim = config.embed_dim
        self.query_norm = nn.LayerNorm(dim, eps=1e-6)
        self.feat_norm = nn.LayerNorm(dim, eps=1e-6)
        self.attn = DeformableAttention(
            dim, 3, config.deform_heads, config.deform_points, config.deform_ratio
        )
        self.gamma = nn.Parameter(torch.zeros(dim))

    def forward(self, tokens: Tensor, prior: Tensor, where: Geometry) -> Tensor:
        """Tokens (B, N, C) after they read the prior (B, cells, C)."""
        attended = self.attn(
            self.query_norm(tokens), where.token_reference, self.feat_norm(prior), where.prior
        )
        return torch.addcmul(tokens, self.gamma, attended)


class _DepthwiseConv(nn.Module):
    """One depthwise 3x3 convolution shared by the three prior levels, each on its own grid."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dwconv = nn.Conv2d(dim, dim, 3, padding=1, groups=dim)

    def forward(self, prior: Tensor, shapes: Shapes) -> Tensor:
        """(B, cells, C) to the same; a raster of tokens already is a channels-last image."""
        levels = prior.split([h * w for h, w in shapes], dim=1)
        images = (as_image(level, shape) for level, shape in zip(levels, shapes))
        return torch.cat([self.dwconv(image).flatten(2).transpose(1, 2) for image in images], dim=1)


class ConvFeedForward(nn.Module):
    """Linear, depthwise convolution, GELU, linear."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden)
        self.dwconv = _DepthwiseConv(hidden)
        self.fc2 = nn.Linear(hidden, dim)

    def forward(self, prior: Tensor, shapes: Shapes) -> Tensor:
        """(B, cells, C) to the same; `shapes` are (rows, columns) of the levels in it."""
        return self.fc2(F.gelu(self.dwconv(self.fc1(prior), shapes)))


class Extractor(nn.Module):
    """Reads the tokens back into the prior, then a convolutional feed-forward network."""

    def __init__(self, config: BackboneConfig) -> None:
        super().__init__()
        dim = config.embed_dim
        self.query_norm = nn.LayerNorm(dim, eps=1e-6)
        self.feat_norm = nn.LayerNorm(dim, eps=1e-6)
        self.attn = DeformableAttention(
            dim, 1, config.deform_heads, config.deform_points, config.deform_ratio
        )
        self.ffn = ConvFeedForward(dim, int(dim * config.ffn_ratio))
        self.ffn_norm = nn.LayerNorm(dim, eps=1e-6)
        self.drop_path = DropPath(config.drop_path)

    def forward(self, prior: Tensor, tokens: Tensor, where: Geometry) -> Tensor:
        """The prior (B, cells, C) after it read the tokens (B, N, C)."""
        prior = prior + self.attn(
            self.query_norm(prior), where.prior_reference, self.feat_norm(tokens), [where.tokens]
        )
        return prior + self.drop_path(self.ffn(self.ffn_norm(prior), where.prior))


class Interaction(nn.Module):
    """Injector before and extractor (the last time three of them) after a quarter of the blocks."""

    def __init__(self, config: BackboneConfig, extras: int) -> None:
        super().__init__()
        self.injector = Injector(config)
        self.extractor = Extractor(config)
        self.extra_extractors = nn.ModuleList(Extractor(config) for _ in range(extras))

    def extractors(self) -> Sequence[Extractor]:
        """In the order in which they run; each reads the tokens and returns the prior (B, cells, C)."""
        return [self.extractor, *self.extra_extractors]


class ViTAdapter(ViT):
    """The paper's backbone: ViT-Adapter whose blocks run on the tokens a pruning method keeps."""

    def __init__(self, config: BackboneConfig, method: Method) -> None:
        super().__init__(config, method)
        dim = config.embed_dim
        self.level_embed = nn.Parameter(torch.zeros(3, dim))
        self.spm = SpatialPrior(config.prior_dim, dim)
        extras = [0] * (GROUPS - 1) + [EXTRA_EXTRACTORS]
        self.interactions = nn.ModuleList(Interaction(config, extra) for extra in extras)
        self.up = nn.ConvTranspose2d(dim, dim, 2, stride=2)
        for level in range(1, 5):
            self.add_module(f"norm{level}", nn.BatchNorm2d(dim))
        self._geometries: SizeCache[Geometry] = SizeCache()
        self._initialise_neck()

    def _initialise_neck(self) -> None:
        for part in (self.up, self.spm, self.interactions):
            part.apply(_initialise_module)
        for module in self.modules():
            if isinstance(module, DeformableAttention):
                module.reset_parameters()
        nn.init.normal_(self.level_embed)

    def forward(self, images: Float[Tensor, "batch 3 height width"]) -> dict[str, Tensor]:
        """Maps c2..c5 (B, C, height / stride, width / stride) of strides 4, 8, 16 and 32.

        Raises:
            ValueError: a side that `divisor` does not divide.
        """
        self._check(images)
        grid_hw = self.grid_hw(images)
        where = self._geometries.get(
            (grid_hw, images.device), lambda: geometry(grid_hw, images.device)
        )
        c1, prior = self._prior(images)
        tokens = self.embed(images, grid_hw)
        state = self._begin(tokens, self.class_position(), grid_hw)
        size = len(self.blocks) // GROUPS
        for group, interaction in enumerate(self.interactions):
            tokens = interaction.injector(tokens, prior, where)
            tokens = self.run_blocks(range(group * size, (group + 1) * size), tokens, state)
            for extractor in interaction.extractors():
                prior = extractor(prior, tokens, where)
        self._finish(state)
        return self._maps(c1, prior, tokens, where)

    def _prior(self, images: Tensor) -> tuple[Tensor, Tensor]:
        c1, levels = self.spm(images)
        prior = torch.cat([level + self.level_embed[i] for i, level in enumerate(levels)], dim=1)
        if self.training and self.config.prior_dropout:
            shown = torch.rand(len(images), 1, 1, device=images.device) >= self.config.prior_dropout
            prior, c1 = prior * shown, c1 * shown.unsqueeze(-1)
        return c1, prior

    def _maps(
        self, c1: Tensor, prior: Tensor, tokens: Tensor, where: Geometry
    ) -> dict[str, Tensor]:
        """Prior levels plus the resized token map, each batch-normalised (methods.md 2.6)."""
        levels = prior.split([h * w for h, w in where.prior], dim=1)
        c2, c3, c4 = (as_image(level, shape) for level, shape in zip(levels, where.prior))
        x = as_image(tokens, where.tokens)
        large = resize(x, where.resizing[4.0])  # our own: summed in place, a fresh map costs more
        return {
            "c2": self.norm1(large.add_(doubled(self.up, c2)).add_(c1)),
            "c3": self.norm2(c2 + resize(x, where.resizing[2.0])),
            "c4": self.norm3(c3 + x),
            "c5": self.norm4(c4 + resize(x, where.resizing[0.5])),
        }


def _initialise_module(module: nn.Module) -> None:
    """ViT-Adapter's initialisation of parts that are not pre-trained (methods.md 2.8)."""
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        nn.init.zeros_(module.bias)
    elif isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
        fan_out = math.prod(module.kernel_size) * module.out_channels // module.groups
        nn.init.normal_(module.weight, std=math.sqrt(2.0 / fan_out))
        if module.bias is not None:
            nn.init.zeros_(module.bias)
