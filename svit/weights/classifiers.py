"""Classifiers from files: the official SViT on DeiT, and DeiT itself under any pruning method."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from svit.core.catalogue import PAPER_KEEP_RATIOS, STAGE_RATIOS
from svit.core.config import BackboneConfig
from svit.detectors.base import mismatch
from svit.models.classifier import ViTClassifier
from svit.pruning import build_method
from svit.weights.conversion import rename
from svit.weights.guessing import likely_heads
from svit.weights.name_tables import CLASSIFIERS, Table
from svit.weights.safe_read import CheckpointError
from svit.weights.unwrapping import read_tensors

OWN = r"method\..+"  # what a dense file lacks


def load_classifier(
    path: str | Path, method: str = "", options: Mapping[str, Any] | None = None
) -> ViTClassifier:
    """The classifier in a file, in evaluation mode.

    The official SViT comes with its gates, the paper's keep ratios, and masks drawn at random, as its authors
    evaluate it (`classifier.method.set_inference` chooses otherwise). DeiT is dense unless a method is named;
    what the method owns starts anew.

    Args:
        path: as of `svit.weights.unwrapping.read_tensors`; `pretrained/svit.pth` of the authors, or DeiT's.
        method, options: of `svit.core.catalogue.METHODS`, for files without gates.

    Raises:
        CheckpointError: the file cannot be read, is no classifier, or does not fit.
        ValueError: a method that merges, or wrong options.
    """
    raw = read_tensors(path)
    table = _recognised(raw.state, str(path))
    state, _, _ = rename(table, raw.state, str(path))
    gates = len({key.split(".")[2] for key in state if key.startswith("method.gates.")})
    if gates and method:
        raise CheckpointError(
            f"{path}: has gates of SViT, so its method is known; leave out {method!r}"
        )
    config = _config(state, gates, str(path))
    built = build_method(
        "svit" if gates else method or "dense",
        config.embed_dim,
        config.depth,
        config.heads,
        _official(gates) if gates else options,
    )
    model = ViTClassifier(config, built, len(state["head.weight"]), class_gated=gates > 0)
    own = model.state_dict()
    if gates:
        state["method.thresholds"] = torch.zeros(gates)
    else:  # the method's own parameters keep their beginning
        state |= {key: own[key] for key in own if re.fullmatch(OWN, key)}
    problem = mismatch(own, state)
    if problem:
        raise CheckpointError(f"{path}: does not fit a {table.kind}: {problem}")
    model.load_state_dict(state)
    return model.eval()


def _recognised(state: Mapping[str, Tensor], source: str) -> Table:
    for table in CLASSIFIERS:
        if all(any(re.match(mark, key) for key in state) for mark in table.marks):
            return table
    known = ", ".join(table.about for table in CLASSIFIERS)
    raise CheckpointError(f"{source}: is no classifier known here ({known})")


def _config(state: Mapping[str, Tensor], gates: int, source: str) -> BackboneConfig:
    """Sizes from shapes; the official sparse blocks have torch's eps (reference.md 3)."""
    positions, patch = state["pos_embed"], state["patch_embed.proj.weight"]
    grid = math.isqrt(positions.shape[1] - 1)
    if grid * grid != positions.shape[1] - 1:
        raise CheckpointError(
            f"{source}: {positions.shape[1]} positions are not one and a square (a distilled DeiT has two "
            "beside the square, and no place here for its second head)"
        )
    dim, depth = (
        positions.shape[2],
        len({key.split(".")[1] for key in state if key.startswith("blocks.")}),
    )
    return BackboneConfig(
        embed_dim=dim,
        depth=depth,
        heads=likely_heads(dim),
        mlp_ratio=len(state["blocks.0.mlp.fc1.weight"]) / dim,
        patch=patch.shape[-1],
        pretrain_grid=grid,
        drop_path=0.0,
        norm_eps=1e-5 if gates else 1e-6,
    )


def _official(gates: int) -> dict[str, Any]:
    """What the authors' gates decide and how: nine for themselves, or three that later blocks inherit."""
    if gates == len(STAGE_RATIOS):
        return {"keep_ratios": list(STAGE_RATIOS), "inherit": True, "inference": "sample"}
    return {"keep_ratios": list(PAPER_KEEP_RATIOS), "inference": "sample"}
