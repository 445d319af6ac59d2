"""A detector as a folder that Hugging Face users know: `config.json`, `model.safetensors` and a card.

The weights are a checkpoint of ours, with the settings inside; `config.json` repeats them for people and
programs. Every verb that takes weights takes such a folder (`svit.weights.unwrapping`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from svit.core.catalogue import METHODS
from svit.core.config import Config, to_dict
from svit.core.version import __version__
from svit.detectors.base import Detector
from svit.system.files import write_text
from svit.system.text import counted
from svit.weights import checkpoint
from svit.weights.loading import class_names, load_detector
from svit.weights.safe_read import CheckpointError
from svit.weights.unwrapping import DESCRIPTION, WEIGHTS

CARD = "README.md"


def from_pretrained(folder: str | Path, framework: str = "auto") -> Detector:
    """The detector in a folder of `save_pretrained`, in evaluation mode.

    Args:
        framework: auto, torchvision or detectron2.

    Raises:
        CheckpointError: no such folder (nothing is downloaded), a file is missing or damaged, or
            `config.json` was changed by hand.
    """
    folder = Path(folder)
    if not (folder / DESCRIPTION).is_file():
        raise CheckpointError(
            f"{folder}: is no folder with a {DESCRIPTION}. Nothing is downloaded from here: fetch "
            f"it first, as `hf download {folder} --local-dir DIR`, or make one: `svit convert FILE DIR`"
        )
    return load_detector(folder, framework).eval()


def save_pretrained(
    detector: Detector,
    folder: str | Path,
    extra: Mapping[str, Any] | None = None,
    *,
    force: bool = False,
) -> None:
    """Writes a detector as a folder with `config.json`, `model.safetensors` (`format: pt`) and a card.

    Args:
        extra: facts for the card and the weights, JSON values, as where the detector comes from.
        force: replace the three files where they are there.

    Raises:
        CheckpointError: one of them is there, or cannot be written.
    """
    folder, names = Path(folder), class_names(detector)
    there = [name for name in (DESCRIPTION, WEIGHTS, CARD) if (folder / name).exists()]
    if there and not force:
        raise CheckpointError(f"{folder}: holds {there[0]} already; choose another (or force=True)")
    facts = {**({"class_names": names} if names else {}), **(extra or {})}
    write_folder(folder, detector.canonical_state_dict(), detector.config, facts)


def refuse_to_replace(folder: Path, config: Config, facts: Mapping[str, Any]) -> None:
    """Keeps a folder from taking the place of one that was made from something else.

    Raises:
        CheckpointError, FileError: what is there belongs to others, or differs in what is named.
    """
    if folder.is_dir() and (folder / WEIGHTS).exists():
        checkpoint.refuse_to_replace(folder / WEIGHTS, config, facts)
    elif not folder.is_dir() or any(not path.name.startswith(".") for path in folder.iterdir()):
        raise CheckpointError(f"{folder} is there already: choose a new or empty folder")


def write_folder(
    folder: Path,
    state: Mapping[str, Tensor],
    config: Config,
    facts: Mapping[str, Any],
    *,
    half: bool = False,
) -> None:
    """Writes the three files; `facts` go into the weights and onto the card.

    Raises:
        CheckpointError: they cannot be written.
    """
    names = list(facts.get("class_names", ()))
    checkpoint.write(folder / WEIGHTS, state, config, facts, half=half)
    try:
        write_text(folder / DESCRIPTION, json.dumps(_description(config, names), indent=2) + "\n")
        write_text(folder / CARD, _card(folder, config, names, facts))
    except OSError as error:
        raise CheckpointError(f"{folder}: cannot be written ({error})") from error


def _description(config: Config, names: list[str]) -> dict[str, Any]:
    labels = {
        "id2label": {str(label): name for label, name in enumerate(names)},
        "label2id": {name: label for label, name in enumerate(names)},
    }
    return {
        "model_type": "svit",
        "architectures": ["Detector"],
        "library_name": "svit-workbench",
        "svit_version": __version__,
        **(labels if names else {}),
        "settings": to_dict(config),
    }


def _card(folder: Path, config: Config, names: list[str], facts: Mapping[str, Any]) -> str:
    neck = "ViT-Adapter" if config.backbone.neck == "adapter" else "a plain ViT"
    classes = counted(config.detector.classes, "classes") + (
        f": {', '.join(names)}" if names else ""
    )
    told = [f"- {name}: {value}" for name, value in facts.items() if name != "class_names"]
    body = f"""\
---
library_name: svit-workbench
pipeline_tag: image-segmentation
tags: [instance-segmentation, object-detection, token-pruning]
---
# {config.name}

Mask R-CNN on {neck}, {config.backbone.embed_dim} wide, {config.backbone.depth} blocks; token pruning:
{METHODS[config.pruning.method].paper}. It finds {classes}.

```python
import svit

detector = svit.from_pretrained("{folder.name}")
```

Or `svit record --weights {folder.name} --images photos/ --out runs/mine`. `config.json` holds every setting.

"""
    origin = "## Where it comes from\n\n" + "\n".join(told) + "\n\n" if told else ""
    return (
        body
        + origin
        + "Data, licence and measured numbers are not known to the program that wrote this card: add them.\n"
    )
