"""Weights under other people's names: tables that lead every key to its canonical name. Data only.

Canonical names are detectron2's for a `GeneralizedRCNN` with FPN; below `backbone.bottom_up.` they
are the official dense ViT-Adapter's. A key goes through the first rule of its table that matches it
whole; a key no rule knows is an error. `svit.weights.conversion` applies the tables.

Sources of the names: github.com/uzh-rpg/svit at d2472c1 (`change_key_name.py` and its state dicts;
methods.md 3), github.com/czczup/ViT-Adapter (`detection/mmdet_custom/models/backbones`) and
github.com/facebookresearch/deit.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

VIT = "backbone.bottom_up."
GATES = rf"{re.escape(VIT)}method\..+"  # what a sparse model has and a dense file cannot hold


@dataclass(frozen=True)
class Rule:
    """Where a key goes.

    Attributes:
        pattern: regular expression of the whole foreign key.
        target: canonical name with group references; None drops the tensor on purpose.
        why: the reason for dropping it.
        optional: dropped, for that reason, only where the model has no such parameter.
    """

    pattern: str
    target: str | None
    why: str = ""
    optional: bool = False


@dataclass(frozen=True)
class Join:
    """Tensors stored in parts, concatenated along rows: `stem` captures what the parts share."""

    parts: tuple[str, ...]
    stem: str
    into: str


@dataclass(frozen=True)
class Fold:
    """A factor a channel after a linear layer: it multiplies the rows of its weight and bias."""

    scale: str
    into: str


@dataclass(frozen=True)
class Table:
    """How one kind of file names things.

    Attributes:
        kind: short name, printed and stored.
        about: what the kind is, in words.
        marks: patterns of which each must begin some key.
        rules: tried in order; the first that matches a whole key decides.
        absent: patterns that begin no key.
        joins, folds: what happens to renamed tensors, in this order.
        lacks: canonical names (patterns) that files of this kind never hold.
        pruning: method and options such files belong to, where the preset has others.
        note: what users of such weights must know.
    """

    kind: str
    about: str
    marks: tuple[str, ...]
    rules: tuple[Rule, ...]
    absent: tuple[str, ...] = ()
    joins: tuple[Join, ...] = ()
    folds: tuple[Fold, ...] = ()
    lacks: tuple[str, ...] = (GATES,)
    pruning: tuple[str, dict[str, Any]] | None = None
    note: str = ""


_ADAPTER = (
    Rule(r"backbone\.(pos_embed|level_embed|patch_embed\.proj\.\w+)", rf"{VIT}\1"),
    Rule(r"backbone\.((?:spm|interactions|up|norm[1-4])\..+)", rf"{VIT}\1"),
)

_MMDET_HEADS = (
    *(
        Rule(rf"neck\.lateral_convs\.{i}\.conv\.(\w+)", rf"backbone.fpn_lateral{i + 2}.\1")
        for i in range(4)
    ),
    *(
        Rule(rf"neck\.fpn_convs\.{i}\.conv\.(\w+)", rf"backbone.fpn_output{i + 2}.\1")
        for i in range(4)
    ),
    Rule(r"rpn_head\.rpn_conv\.(\w+)", r"proposal_generator.rpn_head.conv.\1"),
    Rule(r"rpn_head\.rpn_cls\.(\w+)", r"proposal_generator.rpn_head.objectness_logits.\1"),
    Rule(r"rpn_head\.rpn_reg\.(\w+)", r"proposal_generator.rpn_head.anchor_deltas.\1"),
    Rule(r"roi_head\.bbox_head\.shared_fcs\.0\.(\w+)", r"roi_heads.box_head.fc1.\1"),
    Rule(r"roi_head\.bbox_head\.shared_fcs\.1\.(\w+)", r"roi_heads.box_head.fc2.\1"),
    Rule(r"roi_head\.bbox_head\.fc_cls\.(\w+)", r"roi_heads.box_predictor.cls_score.\1"),
    Rule(r"roi_head\.bbox_head\.fc_reg\.(\w+)", r"roi_heads.box_predictor.bbox_pred.\1"),
    *(
        Rule(
            rf"roi_head\.mask_head\.convs\.{i}\.conv\.(\w+)",
            rf"roi_heads.mask_head.mask_fcn{i + 1}.\1",
        )
        for i in range(4)
    ),
    Rule(r"roi_head\.mask_head\.upsample\.(\w+)", r"roi_heads.mask_head.deconv.\1"),
    Rule(r"roi_head\.mask_head\.conv_logits\.(\w+)", r"roi_heads.mask_head.predictor.\1"),
)

_DENSE_BLOCKS = (Rule(r"backbone\.(blocks\.\d+\.(?:norm[12]|attn|mlp)\..+)", rf"{VIT}\1"),)

# torch's TransformerEncoderLayer: 144 names change; q, k, v keep order and layout (reference.md 5)
_TORCH_LAYER = r"backbone\.(blocks\.\d+)\.TransformerEncoderLayer\."
_SPARSE_BLOCKS = (
    Rule(_TORCH_LAYER + r"(norm[12]\.\w+)", rf"{VIT}\1.\2"),
    Rule(_TORCH_LAYER + r"self_attn\.in_proj_(weight|bias)", rf"{VIT}\1.attn.qkv.\2"),
    Rule(_TORCH_LAYER + r"self_attn\.out_proj\.(\w+)", rf"{VIT}\1.attn.proj.\2"),
    Rule(_TORCH_LAYER + r"linear([12])\.(\w+)", rf"{VIT}\1.mlp.fc\2.\3"),
)

_GATES = (
    Rule(r"backbone\.selective_modules\.(\d+)\.norm\.(\w+)", rf"{VIT}method.gates.\1.norm.\2"),
    Rule(r"backbone\.selective_modules\.(\d+)\.mlp\.(fc[12]\.\w+)", rf"{VIT}method.gates.\1.\2"),
)

# czczup's names, BEiT's, and timm's
_SCALES = r"blocks\.\d+\.(?:gamma_?[12]|ls[12]\.gamma)"
_LAYER_SCALE = (Rule(rf"backbone\.({_SCALES})", rf"{VIT}\1"),)
_FOLD_LAYER_SCALE = (
    Fold(r"(.+\.blocks\.\d+)\.(?:gamma_?1|ls1\.gamma)", r"\1.attn.proj"),
    Fold(r"(.+\.blocks\.\d+)\.(?:gamma_?2|ls2\.gamma)", r"\1.mlp.fc2"),
)

# Evo-ViT keeps its attention beside the blocks and q, k apart from v (methods.md 3.3)
_EVO_BLOCKS = (
    Rule(r"backbone\.norms\.(\d+)\.(\w+)", rf"{VIT}blocks.\1.norm1.\2"),
    Rule(r"backbone\.qks\.(\d+)\.qk\.(\w+)", rf"{VIT}blocks.\1.attn.qk.\2"),
    Rule(r"backbone\.vs\.(\d+)\.v\.(\w+)", rf"{VIT}blocks.\1.attn.v.\2"),
    Rule(r"backbone\.projs\.(\d+)\.(\w+)", rf"{VIT}blocks.\1.attn.proj.\2"),
    Rule(r"backbone\.(blocks\.\d+\.(?:norm2|mlp)\..+)", rf"{VIT}\1"),
    Rule(r"backbone\.cls_token", rf"{VIT}method.class_token"),
)
_JOIN_EVO = (
    Join(("attn.qk", "attn.v"), r"(.+\.blocks\.\d+)\.attn\.qk\.(weight|bias)", r"\1.attn.qkv.\2"),
)

_NO_NORM = "final norm: the adapter reads unnormalised tokens"
_NO_CLASS = "class token: the method owns none"

_DEIT = (
    Rule(r"(pos_embed|patch_embed\.proj\.\w+|blocks\.\d+\.(?:norm[12]|attn|mlp)\..+)", rf"{VIT}\1"),
    Rule(rf"({_SCALES})", rf"{VIT}\1"),
    Rule(r"norm\.(\w+)", rf"{VIT}norm.\1", _NO_NORM, True),
    Rule(r"cls_token", rf"{VIT}method.class_token", _NO_CLASS, True),
    Rule(r"(?:head|fc_norm)\..+", None, "ImageNet classifier"),
    Rule(r"mask_token", None, "stands for patches that the pretraining hid"),
    Rule(r"dist_token|head_dist\..+", None, "distillation token and its classifier"),
)

# pattern of a foreign key -> what the model has that no model here can have
UNSUPPORTED = {
    r"(?:.+\.)?(?:reg_tokens?|register_tokens?|storage_tokens)": "register tokens (DINOv2 reg, DINOv3)",
    r"(?:.+\.)?norm_pre\..+": "a norm before the first block (CLIP)",
    r".+\.mlp\.(?:w\d+|fc1_[gx])\..+": "gated MLPs (SwiGLU: DINOv2 giant, EVA-02)",
    r".+\.attn\.[qk]_norm\..+": "normalised queries and keys",
    r".+\.attn\.(?:rel_pos_\w+|relative_position\w+)|rel_pos_bias\..+": "relative positions (BEiT, ViTDet)",
    r".+\.attn\.[qv]_bias": "biases of queries and values apart from their weights (BEiT, EVA)",
}

# pattern of a canonical name -> why it is dropped where the model has no such parameter
SPARED = {
    rf"{re.escape(VIT)}norm\.\w+": _NO_NORM,
    rf"{re.escape(VIT)}method\.class_token": _NO_CLASS,
}
_CANONICAL = (
    *(Rule(f"({pattern})", r"\1", why, True) for pattern, why in SPARED.items()),
    Rule(r"(backbone\.(?:bottom_up|fpn_lateral[2-5]|fpn_output[2-5])\..+)", r"\1"),
    Rule(r"(proposal_generator\.rpn_head\..+)", r"\1"),
    Rule(r"(roi_heads\.(?:box_head|box_predictor|mask_head)\..+)", r"\1"),
    Rule(r"pixel_(?:mean|std)", None, "the data settings hold the normalisation"),
    Rule(
        r"proposal_generator\.anchor_generator\.cell_anchors\.\d+",
        None,
        "anchors follow from the settings",
    ),
)

_OFFICIAL = "github.com/uzh-rpg/svit"
_INHERIT = ("svit", {"keep_ratios": [0.7, 0.49, 0.343], "inherit": True})

TABLES = (
    Table("canonical", "detectron2 names", (r"backbone\.bottom_up\.",), _CANONICAL),
    Table(
        "evo",
        f"Evo-ViT-Adapter of {_OFFICIAL}",
        (r"backbone\.qks\.",),
        (*_ADAPTER, *_EVO_BLOCKS, *_MMDET_HEADS),
        joins=_JOIN_EVO,
        # renamed from a dense file it has no class token; trained it has
        lacks=(rf"{re.escape(VIT)}method\.class_token",),
        pruning=("evovit", {}),
        note="keep ratios are not stored in such files and decide what is pruned: the paper's are a guess; "
        "set pruning.options where the training had others",
    ),
    Table(
        "inherit",
        f"SViT-Adapter with inherited masks (3 gates) of {_OFFICIAL}",
        (r"backbone\.selective_modules\.2\.", _TORCH_LAYER),
        (*_ADAPTER, *_SPARSE_BLOCKS, *_GATES, *_MMDET_HEADS),
        absent=(r"backbone\.selective_modules\.3\.",),
        lacks=(),
        pruning=_INHERIT,
        note="keep ratios are not stored in such files; the guess has the paper's 0.7, 0.49, 0.343",
    ),
    Table(
        "sparse",
        f"SViT-Adapter of {_OFFICIAL}",
        (r"backbone\.selective_modules\.", _TORCH_LAYER),
        (*_ADAPTER, *_SPARSE_BLOCKS, *_GATES, *_MMDET_HEADS),
        lacks=(),
    ),
    Table(
        "dense-revised",
        f"dense ViT-Adapter under sparse block names (`revised_*` cache of {_OFFICIAL})",
        (_TORCH_LAYER,),
        (*_ADAPTER, *_SPARSE_BLOCKS, *_MMDET_HEADS),
        note="such caches are not renewed when their source changes; the dense original is safer",
    ),
    Table(
        "dense-layer-scale",
        "ViT-Adapter with layer scale of github.com/czczup/ViT-Adapter",
        (r"backbone\.blocks\.\d+\.(?:gamma_?1|ls1\.gamma)$",),
        (*_ADAPTER, *_DENSE_BLOCKS, *_LAYER_SCALE, *_MMDET_HEADS),
        folds=_FOLD_LAYER_SCALE,
        note="weights trained with windowed attention (czczup's T and S) need fine-tuning with the global "
        "attention used here",
    ),
    Table(
        "dense",
        f"dense ViT-Adapter of {_OFFICIAL}",
        (r"backbone\.blocks\.\d+\.attn\.qkv\.",),
        (*_ADAPTER, *_DENSE_BLOCKS, *_MMDET_HEADS),
    ),
    Table(
        "deit",
        "plain vision transformer (DeiT, timm)",
        (r"blocks\.\d+\.attn\.qkv\.", r"patch_embed\.proj\."),
        _DEIT,
        folds=_FOLD_LAYER_SCALE,
        lacks=(rf"(?!{re.escape(VIT)}(?:pos_embed|patch_embed|blocks)\b).+",),
    ),
)

# classifiers, whose canonical names are DeiT's (github.com/uzh-rpg/svit, `classification/selective_vit.py`)
_LAYER = r"(blocks\.\d+)\.TransformerEncoderLayer\."
_SAME = Rule(r"(cls_token|pos_embed|patch_embed\.proj\.\w+|(?:norm|head)\.\w+)", r"\1")
CLASSIFIERS = (
    Table(
        "svit-classifier",
        f"SViT on DeiT of {_OFFICIAL} (classification)",
        (r"selective_modules\.", r"blocks\.\d+\.TransformerEncoderLayer\."),
        (
            _SAME,
            Rule(_LAYER + r"(norm[12]\.\w+)", r"\1.\2"),
            Rule(_LAYER + r"self_attn\.in_proj_(weight|bias)", r"\1.attn.qkv.\2"),
            Rule(_LAYER + r"self_attn\.out_proj\.(\w+)", r"\1.attn.proj.\2"),
            Rule(_LAYER + r"linear([12])\.(\w+)", r"\1.mlp.fc\2.\3"),
            Rule(r"selective_modules\.(\d+)\.norm\.(\w+)", r"method.gates.\1.norm.\2"),
            Rule(r"selective_modules\.(\d+)\.mlp\.(fc[12]\.\w+)", r"method.gates.\1.\2"),
        ),
    ),
    Table(
        "deit-classifier",
        "DeiT or timm's vision transformer with its classifier",
        (r"blocks\.\d+\.attn\.qkv\.", r"cls_token", r"head\."),
        (_SAME, Rule(r"(blocks\.\d+\.(?:norm[12]|attn|mlp)\..+)", r"\1")),
    ),
)
