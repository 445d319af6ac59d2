"""A body for other patches or another stored grid, from which a training starts: its embeddings resampled.

With patches half as wide an object covers twice as many tokens a side, so the maps of a plain neck move up by
one level: what made stride 8 of 16-pixel tokens makes stride 4 of 8-pixel ones.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import replace

from timm.layers import resample_abs_pos_embed, resample_patch_embed
from torch import Tensor

from svit.models.backbone import STRIDES
from svit.weights.conversion import Converted
from svit.weights.name_tables import VIT

PATCHES, POSITIONS = f"{VIT}patch_embed.proj.weight", f"{VIT}pos_embed"
_LEVEL = re.compile(rf"({re.escape(VIT)}pyramid\.)(c\d)(\..+)")


def resampled(converted: Converted, own: Mapping[str, Tensor]) -> Converted:
    """Patch and position embedding in the model's sizes; a note of the report tells of each.

    Patches by the pseudo-inverse of a bicubic resize (Beyer et al., FlexiViT, CVPR 2023), positions bicubic
    without antialias, as the forward does it: both timm's.

    Args:
        own: the model's tensors by canonical name.
    """
    state, notes = dict(converted.state), []
    theirs, ours = state.get(PATCHES), own[PATCHES]
    if theirs is not None and theirs.shape[2:] != ours.shape[2:]:
        state[PATCHES] = resample_patch_embed(theirs, list(ours.shape[2:]))
        old, new = theirs.shape[-1], ours.shape[-1]
        notes.append(f"its patches of {old} pixels are resampled to {new}")
        state = _levels_up(state) if old == 2 * new else state
    theirs, ours = state.get(POSITIONS), own[POSITIONS]
    if theirs is not None and theirs.shape != ours.shape:
        old, new = (math.isqrt(one.shape[1] - 1) for one in (theirs, ours))
        state[POSITIONS] = resample_abs_pos_embed(theirs, [new, new], [old, old], antialias=False)
        notes.append(f"its positions of {old}x{old} tokens are resampled to {new}x{new}")
    report = replace(converted.report, notes=(*converted.report.notes, *notes))
    return converted._replace(state=state, report=report)


def _levels_up(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The plain neck of the next coarser level for each; that of the finest has no place any more."""
    levels = list(STRIDES)
    found = {name: tensor for name, tensor in state.items() if not _LEVEL.fullmatch(name)}
    for level, source in zip(levels, [*levels[1:], levels[-1]], strict=True):
        for name, tensor in state.items():
            if (parts := _LEVEL.fullmatch(name)) and parts[2] == source:
                found[f"{parts[1]}{level}{parts[3]}"] = tensor
    return found
