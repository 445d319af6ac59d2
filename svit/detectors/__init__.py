"""Mask R-CNN around a backbone: one interface, two frameworks."""

from __future__ import annotations

import importlib
import importlib.util
from dataclasses import replace

from svit.core.config import Config, ConfigError
from svit.detectors.base import Detector
from svit.system.products import route

HAS_DETECTRON2 = importlib.util.find_spec("detectron2") is not None
DETECTRON2_INSTALL = (
    "python -m pip install --no-build-isolation "
    "'git+https://github.com/facebookresearch/detectron2.git'"
)
FRAMEWORKS = {  # name -> module and class; a framework is imported when it is chosen
    "detectron2": ("svit.detectors.detectron2_rcnn", "Detectron2Detector"),
    "torchvision": ("svit.detectors.torchvision_rcnn", "TorchvisionDetector"),
}


def build_detector(config: Config) -> Detector:
    """The Mask R-CNN of a configuration, freshly initialised; its `config.framework` is resolved.

    Raises:
        ConfigError: see `resolve_framework`.
    """
    framework, _ = resolve_framework(config.framework)
    module, name = FRAMEWORKS[framework]
    cls = getattr(importlib.import_module(module), name)
    detector = cls(replace(config, framework=framework))
    route(detector)
    return detector


def resolve_framework(name: str) -> tuple[str, str]:
    """The framework that a setting means here, and the reason as a sentence.

    `auto` is detectron2 where it can be imported and torchvision elsewhere.

    Raises:
        ConfigError: unknown name, or detectron2 is asked for and cannot be imported; the message
            tells how to install it.
    """
    if name not in ("auto", *FRAMEWORKS):
        raise ConfigError(f"framework: expected auto, detectron2 or torchvision, found {name!r}")
    if name == "torchvision":
        return name, "torchvision was asked for."
    problem = _detectron2_problem()
    if name == "auto" and problem:
        return "torchvision", f"auto chose torchvision because detectron2 {problem}."
    if problem:
        raise ConfigError(
            f"framework: detectron2 {problem}. Install it after torch with\n"
            f"  {DETECTRON2_INSTALL}\n"
            "or choose framework=torchvision; checkpoints load into either."
        )
    reason = "was asked for" if name == "detectron2" else "is installed and auto prefers it"
    return "detectron2", f"detectron2 {reason}."


def _detectron2_problem() -> str:
    """Why detectron2 cannot be used, or an empty string."""
    if not HAS_DETECTRON2:
        return "is not installed"
    try:
        importlib.import_module(FRAMEWORKS["detectron2"][0])
    except (ImportError, OSError) as error:  # typically: compiled against another torch
        return f"is installed but cannot be imported ({type(error).__name__}: {error})"
    return ""
