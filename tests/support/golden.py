"""Access to the official implementation's numbers (environment variable SVIT_GOLDEN names their folder)."""

from __future__ import annotations

import importlib.util
import os
from functools import cache
from pathlib import Path
from types import ModuleType

import pytest
from safetensors.torch import load_file
from torch import Tensor

from svit.core.presets import PRESETS
from svit.models import build_backbone
from svit.models.backbone import Backbone

FOLDER = Path(os.environ.get("SVIT_GOLDEN", ""))
needs_golden = pytest.mark.skipif(
    not os.environ.get("SVIT_GOLDEN"), reason="set SVIT_GOLDEN to the folder of official numbers"
)
MAPS = {"c2": "backbone.f1", "c3": "backbone.f2", "c4": "backbone.f3", "c5": "backbone.f4"}


@cache
def _weights() -> ModuleType:
    spec = importlib.util.spec_from_file_location("golden_weights", FOLDER / "weights.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def golden(name: str) -> dict[str, Tensor]:
    """All tensors of one golden file."""
    return load_file(FOLDER / f"golden_{name}.safetensors")


def randn(key: str, shape: tuple[int, ...]) -> Tensor:
    """The reference's keyed noise."""
    return _weights().randn(key, shape)


def official_state(name: str) -> dict[str, Tensor]:
    """The deterministic synthetic weights of a configuration under official (mmdet) names."""
    return _weights().fill(_weights().load_manifest(FOLDER / f"manifest_{name}.json"))


def golden_backbone(name: str) -> Backbone:
    """Our backbone holding the synthetic weights."""
    from svit.weights.checkpoint import convert_state

    config = PRESETS[name]
    model = build_backbone(config.backbone, config.pruning)
    prefix = "backbone.bottom_up."
    state = {
        key.removeprefix(prefix): value
        for key, value in convert_state(official_state(name)).state.items()
        if key.startswith(prefix)
    }
    missing, unexpected = model.load_state_dict(state, strict=False)
    assert not unexpected and set(missing) <= {"method.thresholds"}, (missing, unexpected)
    return model
