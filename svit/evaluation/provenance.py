"""Where numbers come from: what a recorded run and an evaluation say about themselves.

`of_run` holds only what the content depends on, so that an interrupted job goes on under the same
provenance; `of_command` adds what merely describes one call.
"""

from __future__ import annotations

import platform
import shlex
import subprocess
import sys
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from torch import nn

from svit.core.config import to_dict
from svit.core.version import __version__
from svit.detectors.base import Detector
from svit.weights import checkpoint

PACKAGES = ("torch", "torchvision", "timm", "numpy", "pycocotools", "detectron2")


def of_run(
    detector: Detector, data_sha256: str, class_names: Sequence[str] = (), **choices: Any
) -> dict[str, Any]:
    """Everything the masks and detections follow from, as plain JSON values.

    Args:
        data_sha256: of the images, see `svit.data.samples.fingerprint`.
        class_names: of their labels, or of the model's.
        choices: what the caller chose beside the model, such as `intervention` or `batch`.
    """
    method = detector.backbone.method
    return {
        "config": to_dict(detector.config),
        "framework": detector.framework,
        "method": detector.config.pruning.method,
        "inference": method.inference,
        "seed": detector.seed,
        "targets": method.target_ratios(),
        "class_names": list(class_names),
        "weights_sha256": checkpoint.fingerprint(detector.canonical_state_dict()),
        "data_sha256": data_sha256,
        "device": device_name(detector),
        "versions": versions(),
        "commit": commit(),
        **choices,
    }


def of_module(
    module: nn.Module, data_sha256: str, class_names: Sequence[str] = (), **choices: Any
) -> dict[str, Any]:
    """As `of_run`, of a model that is not ours: what it does not tell is "unknown", never a guess.

    Args:
        choices: what was told or chosen, such as `host` or `batch`; `cost` is "unknown" unless counted.
    """
    return {
        "framework": "torch",
        "method": "unknown",
        "targets": "unknown",
        "cost": "unknown",
        "class_names": list(class_names),
        "weights_sha256": checkpoint.fingerprint(module.state_dict()),
        "data_sha256": data_sha256,
        "device": device_name(module),
        "versions": versions("transformers"),
        "commit": commit(),
        **choices,
    }


def of_command() -> dict[str, Any]:
    """This call of the program: command line and threads."""
    # the program's own place says nothing; what a user typed after it does
    command = shlex.join([Path(sys.argv[0]).name.replace("__main__.py", "svit"), *sys.argv[1:]])
    return {"command": command, "threads": torch.get_num_threads()}


def device_name(model: nn.Module) -> str:
    """ "cpu", or the model of the GPU that a model lies on."""
    device = next(model.parameters()).device
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def versions(*more: str) -> dict[str, str]:
    """Versions of this program, of Python and of the packages numbers depend on, where installed."""
    found = {"svit": __version__, "python": platform.python_version()}
    for name in (*PACKAGES, *more):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def commit() -> str:
    """Commit of the checkout this package lies in, with "+" after local changes; "" outside of one."""
    root = Path(__file__).resolve().parents[2]
    head = _git(root, "rev-parse", "--show-toplevel", "HEAD").splitlines()
    if len(head) != 2 or Path(head[0]).resolve() != root:
        return ""  # installed elsewhere: a repository around it is not ours
    return head[1] + ("+" if _git(root, "status", "--porcelain", "--untracked-files=no") else "")


def _git(root: Path, *words: str) -> str:
    try:
        done = subprocess.run(["git", *words], cwd=root, capture_output=True, text=True)
    except OSError:  # no git here
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
