"""SViT workbench: see, measure and understand token pruning in detectors.

The names that a user needs, each loaded from its room at the first touch; `import svit` loads no torch.

Models:
    load_config, build_detector, load_detector; from_pretrained, save_pretrained: a folder as on Hugging Face;
    METHODS: every pruning method by name.
Pictures:
    read_image, prepare: one photograph to a detector's input; ImageFiles, CocoDataset: many.
One forward:
    record, edit: token masks read from it, written into it; intervene: the same by name, as "shuffle";
    attach: what the blocks of any other torch module do to its tokens; prune: the same module on fewer.
A data set:
    record_run, evaluate, with PassOptions and Scoring; train.
Recorded runs:
    open_run, RunWriter; TokenGrid, TokenTrace, Detections, Target: what they hold.
"""

from __future__ import annotations

import importlib

from svit.core.version import __version__ as __version__

_HOMES = {
    "CocoDataset": "svit.data.coco",
    "Detections": "svit.core.types",
    "ImageFiles": "svit.data.folder",
    "METHODS": "svit.core.catalogue",
    "PassOptions": "svit.evaluation.passes",
    "RunWriter": "svit.runs.writer",
    "Scoring": "svit.evaluation.evaluate",
    "Target": "svit.core.types",
    "TokenGrid": "svit.core.types",
    "TokenTrace": "svit.core.types",
    "attach": "svit.probing.attach",
    "build_detector": "svit.detectors",
    "edit": "svit.probing.recorder",
    "evaluate": "svit.evaluation.evaluate",
    "from_pretrained": "svit.weights.pretrained",
    "intervene": "svit.probing.interventions",
    "load_config": "svit.core.presets",
    "load_detector": "svit.weights.loading",
    "open_run": "svit.runs.run",
    "prepare": "svit.data.images",
    "prune": "svit.probing.prune",
    "read_image": "svit.data.images",
    "record": "svit.probing.recorder",
    "record_run": "svit.evaluation.record",
    "save_pretrained": "svit.weights.pretrained",
    "train": "svit.training.train",
}
__all__ = ["__version__", *_HOMES]  # noqa: PLE0604


def __getattr__(name: str) -> object:
    """Loads a name of the face from its room (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module 'svit' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
