"""State dicts as other projects name them, built from our own random models.

The renames are written here a second time, in the other direction, so that a wrong table is seen.
"""

from __future__ import annotations

import re
from dataclasses import replace

import torch
from torch import Tensor

from svit.core.config import Config
from svit.core.presets import PRESETS
from svit.models import build_backbone

WIDTH, CLASSES = 24, 5
HEADS = {  # mmdet's head -> detectron2's, and a shape of a suitable size
    "neck.lateral_convs.0.conv": ("backbone.fpn_lateral2", (8, WIDTH, 1, 1)),
    "neck.lateral_convs.3.conv": ("backbone.fpn_lateral5", (8, WIDTH, 1, 1)),
    "neck.fpn_convs.2.conv": ("backbone.fpn_output4", (8, 8, 3, 3)),
    "rpn_head.rpn_conv": ("proposal_generator.rpn_head.conv", (8, 8, 3, 3)),
    "rpn_head.rpn_cls": ("proposal_generator.rpn_head.objectness_logits", (3, 8, 1, 1)),
    "rpn_head.rpn_reg": ("proposal_generator.rpn_head.anchor_deltas", (12, 8, 1, 1)),
    "roi_head.bbox_head.shared_fcs.0": ("roi_heads.box_head.fc1", (16, 392)),
    "roi_head.bbox_head.shared_fcs.1": ("roi_heads.box_head.fc2", (16, 16)),
    "roi_head.bbox_head.fc_cls": ("roi_heads.box_predictor.cls_score", (CLASSES + 1, 16)),
    "roi_head.bbox_head.fc_reg": ("roi_heads.box_predictor.bbox_pred", (4 * CLASSES, 16)),
    "roi_head.mask_head.convs.0.conv": ("roi_heads.mask_head.mask_fcn1", (8, 8, 3, 3)),
    "roi_head.mask_head.convs.3.conv": ("roi_heads.mask_head.mask_fcn4", (8, 8, 3, 3)),
    "roi_head.mask_head.upsample": ("roi_heads.mask_head.deconv", (8, 8, 2, 2)),
    "roi_head.mask_head.conv_logits": ("roi_heads.mask_head.predictor", (CLASSES, 8, 1, 1)),
}


def small(preset: str) -> Config:
    """The preset with a backbone of a few thousand numbers."""
    config = PRESETS[preset]
    backbone = replace(config.backbone, embed_dim=WIDTH, heads=3, prior_dim=4, deform_heads=2)
    return replace(config, backbone=replace(backbone, deform_ratio=0.5, pretrain_grid=3))


def canonical(preset: str) -> dict[str, Tensor]:
    """Random weights of a small model under our own names."""
    torch.manual_seed(0)
    config = small(preset)
    model = build_backbone(config.backbone, config.pruning)
    state = {
        f"backbone.bottom_up.{name}": _noise(value) for name, value in model.state_dict().items()
    }
    state.pop("backbone.bottom_up.method.thresholds", None)  # no other project has it
    for name, shape in HEADS.values():
        state[f"{name}.weight"], state[f"{name}.bias"] = torch.randn(shape), torch.randn(shape[0])
    return state


def _noise(value: Tensor) -> Tensor:
    return torch.randn(value.shape) if value.is_floating_point() else value


def dense(preset: str = "vit-adapter-nano") -> dict[str, Tensor]:
    """Official dense names."""
    heads = {ours: theirs for theirs, (ours, _) in HEADS.items()}
    state = {}
    for name, tensor in canonical(preset).items():
        stem, _, last = name.rpartition(".")
        old = f"{heads[stem]}.{last}" if stem in heads else name.replace(".bottom_up", "")
        state[old] = tensor
    return state


def revised(name: str) -> str:
    """The official rename of a dense key for the sparse model (reference.md 5)."""
    name = re.sub(r"(blocks\.\d+\.)", r"\1TransformerEncoderLayer.", name)
    for old, new in (
        ("attn.qkv.weight", "self_attn.in_proj_weight"),
        ("attn.qkv.bias", "self_attn.in_proj_bias"),
        ("attn.proj", "self_attn.out_proj"),
        ("mlp.fc1", "linear1"),
        ("mlp.fc2", "linear2"),
    ):
        name = name.replace(old, new)
    return name


def sparse(gates: int = 9) -> dict[str, Tensor]:
    """Official sparse names."""
    state = {}
    for name, tensor in dense("svit-adapter-nano").items():
        gate = re.fullmatch(r"backbone\.method\.gates\.(\d+)\.(norm|fc1|fc2)\.(\w+)", name)
        if gate is None:
            state[revised(name)] = tensor
        elif int(gate[1]) < gates:
            part = gate[2] if gate[2] == "norm" else f"mlp.{gate[2]}"
            state[f"backbone.selective_modules.{gate[1]}.{part}.{gate[3]}"] = tensor
    return state


def evo() -> dict[str, Tensor]:
    """Official Evo-ViT names: attention beside the blocks, q and k apart from v."""
    state = {"backbone.cls_token": torch.randn(1, 1, WIDTH)}
    for name, tensor in dense().items():
        block = re.fullmatch(r"backbone\.blocks\.(\d+)\.(norm1|attn\.qkv|attn\.proj)\.(\w+)", name)
        if block is None:
            state[name] = tensor
        elif block[2] == "attn.qkv":
            state[f"backbone.qks.{block[1]}.qk.{block[3]}"] = tensor[: 2 * WIDTH]
            state[f"backbone.vs.{block[1]}.v.{block[3]}"] = tensor[2 * WIDTH :]
        else:
            place = {"norm1": "norms", "attn.proj": "projs"}[block[2]]
            state[f"backbone.{place}.{block[1]}.{block[3]}"] = tensor
    return state


def layer_scale() -> dict[str, Tensor]:
    """czczup's names: dense, and two factors a block."""
    state = dense()
    for layer in range(12):
        for factor in ("gamma1", "gamma2"):
            state[f"backbone.blocks.{layer}.{factor}"] = torch.randn(WIDTH)
    return state


def deit(rows: int = 10) -> dict[str, Tensor]:
    """DeiT's and timm's names, with `rows` rows of positions."""
    parts = ("patch_embed", "blocks")
    start = "backbone.bottom_up."
    state = {
        name.removeprefix(start): tensor
        for name, tensor in canonical("vit-adapter-nano").items()
        if name.removeprefix(start).startswith(parts)
    }
    state["pos_embed"], state["cls_token"] = torch.randn(1, rows, WIDTH), torch.randn(1, 1, WIDTH)
    state["norm.weight"], state["norm.bias"] = torch.randn(WIDTH), torch.randn(WIDTH)
    state["head.weight"], state["head.bias"] = torch.randn(7, WIDTH), torch.randn(7)
    return state
