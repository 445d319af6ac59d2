"""Small models of other libraries with random weights: what `svit.probing.attach` is tried on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

Size = tuple[int, int]
SMALL = {
    "hidden_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 3,
    "intermediate_size": 96,
}


def timm_model(name: str, size: Size, **options: Any) -> nn.Module:
    import timm

    model = timm.create_model(name, img_size=size, depth=3, num_classes=0, **options)
    return awake(model)


def awake(model: nn.Module) -> nn.Module:
    """Weights large enough for tokens to differ; layer scales near zero would hide the blocks."""
    for name, parameter in model.named_parameters():
        if "gamma" in name or "lambda" in name:
            nn.init.constant_(parameter, 0.5)
        elif parameter.ndim > 1:
            nn.init.normal_(parameter, std=0.08)
    return model.eval()


def hugging(kind: str, size: Size, **options: Any) -> nn.Module:
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    config = getattr(transformers, f"{kind}Config")(image_size=size, **SMALL, **options)
    return awake(getattr(transformers, f"{kind}Model")(config))


def sam(size: Size, **options: Any) -> nn.Module:
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    config = transformers.SamVisionConfig(
        image_size=max(size), mlp_dim=96, window_size=2, global_attn_indexes=[1], **SMALL, **options
    )
    return awake(transformers.SamVisionModel(config))


def vitdet_of_detectron2(size: Size) -> nn.Module:
    from detectron2.modeling.backbone import vit

    return awake(
        vit.ViT(
            img_size=max(size),
            patch_size=16,
            embed_dim=48,
            depth=3,
            num_heads=3,
            window_size=2,
            window_block_indexes=(0, 2),
            use_rel_pos=True,
        )
    )


def torchvision_vit(size: Size) -> nn.Module:
    import torchvision

    return awake(torchvision.models.VisionTransformer(max(size), 16, 3, 3, 48, 96))


HOSTS: dict[str, Callable[[Size], nn.Module]] = {
    "timm ViT": lambda size: timm_model("vit_tiny_patch16_224", size),
    "timm DeiT": lambda size: timm_model("deit_tiny_distilled_patch16_224", size),
    "timm DINOv2": lambda size: timm_model("vit_small_patch14_reg4_dinov2", size, patch_size=16),
    "timm EVA": lambda size: timm_model("eva02_tiny_patch14_224", size, patch_size=16),
    "timm SAM": lambda size: timm_model(
        "samvit_base_patch16",
        size,
        embed_dim=48,
        num_heads=3,
        window_size=2,
        global_attn_indexes=(1,),
    ),
    "ViT": lambda size: hugging("ViT", size),
    "DINOv2": lambda size: hugging("Dinov2", max(size), patch_size=16),
    "DINOv2 registers": lambda size: hugging("Dinov2WithRegisters", max(size), patch_size=16),
    "VitDet": lambda size: hugging(
        "VitDet",
        max(size),
        window_size=2,
        window_block_indices=[0, 2],
        use_relative_position_embeddings=True,
    ),
    "SAM": sam,
    "detectron2 ViTDet": vitdet_of_detectron2,
    "torchvision ViT": torchvision_vit,
}
SQUARE = ("SAM", "torchvision ViT")  # they take no other pictures


class Grouped(nn.Module):
    """Blocks on tokens in groups of 2x2, as in Hiera; folded, each is an item of the batch, as in RF-DETR."""

    def __init__(self, fold: bool) -> None:
        super().__init__()
        self.fold = fold
        self.embed = nn.Conv2d(3, 48, 16, 16)
        layer = [nn.TransformerEncoderLayer(48, 3, 96, batch_first=True) for _ in range(2)]
        for one in layer:
            one.attention = one.self_attn
        self.blocks = nn.ModuleList(layer)

    def forward(self, pictures: Tensor) -> Tensor:
        tokens = self.embed(pictures)
        batch, dim, rows, columns = tokens.shape
        tokens = tokens.view(batch, dim, rows // 2, 2, columns // 2, 2).permute(0, 2, 4, 3, 5, 1)
        tokens = tokens.reshape(-1, 4, dim) if self.fold else tokens.reshape(batch, -1, dim)
        for block in self.blocks:
            tokens = block(tokens)
        return tokens


def ungrouped(tokens: Tensor, grid: Size) -> Tensor:
    """Tokens of `Grouped` in raster order: (B, N, C)."""
    rows, columns = grid
    parts = tokens.reshape(-1, rows // 2, columns // 2, 2, 2, tokens.shape[-1])
    return parts.permute(0, 1, 3, 2, 4, 5).reshape(len(parts), rows * columns, -1)


class Pruning(nn.Module):
    """A timm ViT that drops tokens behind its first block, and tells its probes which."""

    def __init__(self, size: Size, keep: Tensor, probes: list[nn.Module]) -> None:
        super().__init__()
        self.vit, self.keep = timm_model("vit_tiny_patch16_224", size), keep
        self.probes = nn.ModuleList(probes)

    def forward(self, pictures: Tensor) -> Tensor:
        vit = self.vit
        tokens = vit.blocks[0](vit._pos_embed(vit.patch_embed(pictures)))
        for probe in self.probes:
            probe(self.keep)
        index = self.keep.nonzero()[:, 1].view(len(tokens), -1) + 1
        rows = torch.cat([tokens[:, :1], tokens.gather(1, index[..., None].expand(-1, -1, 192))], 1)
        for block in list(vit.blocks)[1:]:
            rows = block(rows)
        return rows


class Merging(nn.Module):
    """A timm ViT with neighbours merged behind every attention, told as ToMe tells it."""

    def __init__(self, size: Size, trace_source: bool = True) -> None:
        super().__init__()
        self.vit = timm_model("vit_tiny_patch16_224", size)
        self._tome_info = {"source": None, "trace_source": trace_source}
        for block in self.vit.blocks:
            block.forward = lambda tokens, block=block: self._merged(block, tokens)

    def _merged(self, block: nn.Module, tokens: Tensor) -> Tensor:
        tokens = tokens + block.attn(block.norm1(tokens))
        batch, rows = tokens.shape[:2]
        # the last row joins the second, one merge a block
        merge = torch.eye(rows - 1, rows).expand(batch, -1, -1).clone()
        merge[:, 1, rows - 1] = 1
        told = self._tome_info["source"]
        before = torch.eye(rows).expand(batch, -1, -1) if told is None else told
        sizes = before.sum(-1, keepdim=True)
        tokens = merge @ (tokens * sizes) / (merge @ sizes)
        self._tome_info["source"] = merge @ before
        return tokens + block.mlp(block.norm2(tokens))

    def forward(self, pictures: Tensor) -> Tensor:
        self._tome_info["source"] = None
        return self.vit(pictures)


class Unfolding(nn.Module):
    """Cuts pictures without a convolution; its blocks run fused and show no attention in evaluation.

    Args:
        side: of a token in pixels.
        unused: whether a convolution that looks like a patch embedding stands beside its blocks.
    """

    def __init__(self, side: int = 16, unused: bool = False) -> None:
        super().__init__()
        self.side = side
        if unused:
            self.other = nn.Conv2d(3, 32, 16, 16)
        self.embed = nn.Linear(3 * side * side, 32)
        self.blocks = nn.ModuleList(
            nn.TransformerEncoderLayer(32, 2, 64, batch_first=True) for _ in range(2)
        )

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        cut = nn.functional.unfold(pictures, self.side, stride=self.side)
        tokens = self.embed(cut.transpose(-2, -1))
        for block in self.blocks:
            tokens = block(tokens)
        return tokens
