"""The plain vision transformer: patches, position embedding, pre-norm blocks (DeiT; paper 4, methods.md 2).

Parameter names equal DeiT's and the official dense model's, so their weights load without renaming.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from timm.layers import DropPath, Mlp, PatchEmbed
from torch import Tensor, nn
from torch.nn import functional as F

from svit.core.config import BackboneConfig
from svit.models.backbone import Backbone
from svit.models.size_cache import SizeCache
from svit.pruning.attention import Attention
from svit.pruning.base import Method, State, in_stage


class Block(nn.Module):
    """Pre-norm transformer block: x += MHSA(LN x); x += MLP(LN x), GELU (erf)."""

    def __init__(self, config: BackboneConfig, drop_path: float) -> None:
        super().__init__()
        dim = config.embed_dim
        self.norm1 = nn.LayerNorm(dim, eps=config.norm_eps)
        self.attn = Attention(dim, config.heads)
        self.norm2 = nn.LayerNorm(dim, eps=config.norm_eps)
        self.mlp = Mlp(dim, int(dim * config.mlp_ratio))
        self.drop_path = DropPath(drop_path)

    def attend(self, tokens: Tensor, key_mask: Tensor | None = None) -> Tensor:
        """The attention half with its residual: (B, N, C) to (B, N, C)."""
        return tokens + self.drop_path(self.attn(self.norm1(tokens), key_mask))

    @in_stage("blocks")
    def feed_forward(self, tokens: Tensor) -> Tensor:
        """The MLP half with its residual: (B, N, C) to (B, N, C)."""
        return tokens + self.drop_path(self.mlp(self.norm2(tokens)))

    def forward(
        self,
        tokens: Float[Tensor, "batch tokens dim"],
        key_mask: Bool[Tensor, "batch tokens"] | None = None,
    ) -> Float[Tensor, "batch tokens dim"]:
        """Both halves; keys where `key_mask` is False are invisible, their rows are computed all the same."""
        return self.feed_forward(self.attend(tokens, key_mask))


class ViT(Backbone):
    """Patch embedding, positions and blocks; the necks subclass it.

    `pos_embed` keeps DeiT's row for a class token at index 0; dense and gated models do not use it.
    """

    def __init__(self, config: BackboneConfig, method: Method) -> None:
        super().__init__(config, method)
        dim, grid = config.embed_dim, config.pretrain_grid
        self.pretrain_grid = grid
        self.patch_embed = PatchEmbed(
            grid * config.patch, config.patch, 3, dim, strict_img_size=False
        )
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + grid * grid, dim))
        rates = torch.linspace(0, config.drop_path, config.depth).tolist()
        self.blocks = nn.ModuleList(Block(config, rate) for rate in rates)
        self._positions: SizeCache[Tensor] = SizeCache()
        self._resized_from: Tensor | None = None  # what `_positions` were made of
        _initialise(self)

    def embed(
        self, images: Float[Tensor, "batch 3 height width"], grid_hw: tuple[int, int]
    ) -> Tensor:
        """Tokens (B, N, C) in raster order, with positions; the channels of a token together in memory,
        or every block would bring them together anew."""
        return self.patch_embed(images).contiguous() + self.positions(grid_hw)

    def positions(self, grid_hw: tuple[int, int]) -> Float[Tensor, "1 tokens dim"]:
        """The stored square grid resized to (rows, columns): bicubic, no antialias (methods.md 2.2).

        Without gradient a CPU remembers the last sizes until a value changes: the count of changes that
        torch keeps misses fused optimisers and `.data`.
        """
        stored, known = self.pos_embed, self._resized_from
        if torch.is_grad_enabled() or stored.is_inference() or stored.device.type != "cpu":
            return self._resized(grid_hw)
        if known is None or known.dtype != stored.dtype or not torch.equal(known, stored):
            self._resized_from, self._positions = stored.detach().clone(), SizeCache()
        return self._positions.get(grid_hw, lambda: self._resized(grid_hw))

    def _resized(self, grid_hw: tuple[int, int]) -> Float[Tensor, "1 tokens dim"]:
        side = self.pretrain_grid
        grid = self.pos_embed[:, 1:].reshape(1, side, side, -1).permute(0, 3, 1, 2)
        resized = F.interpolate(grid, size=grid_hw, mode="bicubic", align_corners=False)
        return resized.flatten(2).transpose(1, 2)

    def run_blocks(self, layers: range, tokens: Tensor, state: State) -> Tensor:
        """The dense map after these blocks, each on the tokens the method keeps."""
        for layer in layers:
            tokens = self.method(layer, self.blocks[layer], tokens, state)
        return tokens

    def class_position(self) -> Float[Tensor, "1 1 dim"]:
        """Position embedding of a class token, for methods that own one."""
        return self.pos_embed[:, :1]


def _initialise(vit: ViT) -> None:
    """DeiT's initialisation, but positions start as half a 2-D sine-cosine grid.

    Trained from DeiT weights that difference vanishes; from scratch on small data it spares the model
    learning where tokens lie (training.md, "ViT-only pyramid").
    """
    for module in vit.blocks.modules():
        if isinstance(module, nn.Linear):
            nn.init.trunc_normal_(module.weight, std=0.02)
            nn.init.zeros_(module.bias)
    weight = vit.patch_embed.proj.weight
    nn.init.xavier_uniform_(weight.view(weight.shape[0], -1))
    nn.init.zeros_(vit.patch_embed.proj.bias)
    with torch.no_grad():
        vit.pos_embed[:, 1:] = 0.5 * sine_cosine_grid(vit.pretrain_grid, weight.shape[0])


def sine_cosine_grid(side: int, dim: int) -> Float[Tensor, "cells dim"]:
    """Half of the channels encode the row, half the column, each as sines and cosines of 1..1/10000."""
    frequencies = 10000.0 ** -(torch.arange(dim // 4) / (dim // 4))
    angles = torch.arange(side).unsqueeze(1) * frequencies
    waves = torch.cat([angles.sin(), angles.cos()], dim=1)  # (side, dim / 2)
    rows = waves.unsqueeze(1).expand(-1, side, -1)
    columns = waves.unsqueeze(0).expand(side, -1, -1)
    return torch.cat([rows, columns], dim=2).flatten(0, 1)
