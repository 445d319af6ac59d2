"""Settings of weights that hold none: what names and shapes show, and of the rest those of a preset."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from svit.core.config import Config, ConfigError, PruningConfig
from svit.core.presets import PRESETS
from svit.weights.name_tables import VIT, Table
from svit.weights.safe_read import CheckpointError

THRESHOLDS = f"{VIT}method.thresholds"
# So400m, H, g, SigLIP's g and G (Zhai et al., CVPR 2022) have 16 heads; others have heads of 64 channels
_SIXTEEN_HEADS = (1152, 1280, 1408, 1536, 1664)
_INJECTOR = f"{VIT}interactions.0.injector.attn."
_EXTRACTOR = f"{VIT}interactions.0.extractor.ffn."

# settings that shapes show: (section, setting, tensor, value of its shape)
_SHAPES: tuple[tuple[str, str, str, Callable[[torch.Size], float]], ...] = (
    ("backbone", "embed_dim", f"{VIT}patch_embed.proj.weight", lambda shape: shape[0]),
    ("backbone", "patch", f"{VIT}patch_embed.proj.weight", lambda shape: shape[2]),
    ("backbone", "pretrain_grid", f"{VIT}pos_embed", lambda shape: math.isqrt(shape[1] - 1)),
    ("backbone", "mlp_ratio", f"{VIT}blocks.0.mlp.fc1.weight", lambda shape: shape[0] / shape[1]),
    ("backbone", "prior_dim", f"{VIT}spm.stem.0.weight", lambda shape: shape[0]),
    # rows are heads x 3 levels x 4 points x 2 coordinates
    (
        "backbone",
        "deform_heads",
        f"{_INJECTOR}sampling_offsets.weight",
        lambda shape: shape[0] // 24,
    ),
    (
        "backbone",
        "deform_ratio",
        f"{_INJECTOR}value_proj.weight",
        lambda shape: shape[0] / shape[1],
    ),
    ("backbone", "ffn_ratio", f"{_EXTRACTOR}fc1.weight", lambda shape: shape[0] / shape[1]),
    ("detector", "classes", "roi_heads.box_predictor.cls_score.weight", lambda shape: shape[0] - 1),
    ("detector", "fpn_dim", "backbone.fpn_lateral2.weight", lambda shape: shape[0]),
    ("detector", "box_head_dim", "roi_heads.box_head.fc1.weight", lambda shape: shape[0]),
    ("detector", "mask_head_dim", "roi_heads.mask_head.mask_fcn1.weight", lambda shape: shape[0]),
)

# settings that are numbers of modules: (section, setting, pattern of one tensor of each)
_COUNTS = (
    ("backbone", "depth", rf"{re.escape(VIT)}blocks\.\d+\.norm1\.weight"),
    ("detector", "mask_head_convs", r"roi_heads\.mask_head\.mask_fcn\d+\.weight"),
)


def guess(
    table: Table, state: Mapping[str, Tensor], source: str
) -> tuple[Config, str, tuple[str, ...]]:
    """The preset of the same family and width with every setting that the shapes show, a sentence on where
    the others are from, and notes.

    Args:
        table: that led to the names.
        state: under canonical names, patch and position embedding among them.
        source: how messages call it.

    Raises:
        CheckpointError: shapes that no model here can have.
    """
    facts = {section: _facts(section, state) for section in ("backbone", "detector")}
    base, guessed, notes = _nearest(state, facts)
    try:
        backbone = replace(base.backbone, **facts["backbone"])
    except ConfigError as error:
        raise CheckpointError(f"{source}: {error}") from error
    detector = replace(base.detector, **facts["detector"])
    config = replace(base, backbone=backbone, detector=detector)
    if table.pruning:
        config = replace(
            config, name=f"{base.name}-{table.kind}", pruning=PruningConfig(*table.pruning)
        )
    return config, guessed, (*notes, *_gate_notes(config, state))


def likely_heads(width: int) -> int:
    """How many attention heads a plain ViT of this width most likely has: no shape shows it."""
    return 16 if width in _SIXTEEN_HEADS else max(1, width // 64)


def _facts(section: str, state: Mapping[str, Tensor]) -> dict[str, float]:
    facts = {
        setting: value(state[name].shape)
        for owner, setting, name, value in _SHAPES
        if owner == section and name in state
    }
    counts = {
        setting: count(pattern, state) for owner, setting, pattern in _COUNTS if owner == section
    }
    return {**facts, **{setting: number for setting, number in counts.items() if number}}


def _nearest(
    state: Mapping[str, Tensor], facts: Mapping[str, Mapping[str, float]]
) -> tuple[Config, str, tuple[str, ...]]:
    """The preset of the family and width with most of the facts, a sentence that says so, and notes.

    Args:
        facts: section -> setting -> what shapes show.
    """
    method = "svit" if THRESHOLDS in state else "vit"
    neck = "plain" if any(".pyramid." in name for name in state) else "adapter"
    family, width = f"{method}-{neck}", facts["backbone"]["embed_dim"]
    agreed = {
        name: _agreed(preset, facts)
        for name, preset in PRESETS.items()
        if name.startswith(family) and preset.backbone.embed_dim == width
    }
    if agreed:
        first, *others = [name for name, number in agreed.items() if number == max(agreed.values())]
        return PRESETS[first], _told(first, others), ()
    base = PRESETS[f"{family}-s"]
    heads = likely_heads(width)
    backbone = replace(base.backbone, embed_dim=width, heads=heads)
    note = f"no preset is {width} wide: guessed {heads} heads of {width // heads} channels"
    base = replace(base, name=f"{family}-{width}", backbone=backbone)
    return base, _told(f"{family}-s", ()), (note,)


def _agreed(preset: Config, facts: Mapping[str, Mapping[str, float]]) -> int:
    """How many of the facts a preset has."""
    return sum(
        getattr(getattr(preset, section), setting) == value
        for section, found in facts.items()
        for setting, value in found.items()
    )


def _told(name: str, others: Sequence[str]) -> str:
    alike = f", though {' and '.join(others)} would fit as well" if others else ""
    return (
        "it holds no settings: what shapes do not show (attention heads, size of pictures, anchors, limits, "
        f"a method without weights) is that of the preset {name}{alike}; --model (of convert: --preset) "
        "says otherwise"
    )


def _gate_notes(config: Config, state: Mapping[str, Tensor]) -> tuple[str, ...]:
    gates = len(state.get(THRESHOLDS, ()))
    ratios = config.pruning.options.get("keep_ratios", ())
    if gates == len(ratios):
        return ()
    return (
        f"the file has {gates} gates and the guess {len(ratios)} keep ratios: "
        "set pruning.options.keep_ratios and pruning.options.locations",
    )


def count(pattern: str, names: Iterable[str]) -> int:
    """How many names match as a whole."""
    return sum(bool(re.fullmatch(pattern, name)) for name in names)
