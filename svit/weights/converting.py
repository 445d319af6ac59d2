"""Weights of any known origin written for this workbench or for detectron2: checked as a whole first."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from svit.core.config import Config, to_dict
from svit.core.version import __version__
from svit.detectors import build_detector
from svit.system.claims import refuse_others
from svit.system.files import FileError, reason, replacing
from svit.weights import checkpoint, pretrained
from svit.weights.conversion import Converted, Report, group, named
from svit.weights.safe_read import CheckpointError, read_file

SEED = 0  # of the parts that a file lacks
FORMAT = "svit-detectron2-1"


def convert_file(
    source: str | Path,
    destination: str | Path,
    *,
    config: Config | None = None,
    half: bool = False,
    ema: bool = False,
    partial: bool = False,
    force: bool = False,
) -> Report:
    """Writes weights of any known origin in the format that the destination's name says.

    `.safetensors` is a checkpoint of ours; `.pth` is detectron2's `{"model": ...}`; a name without an
    ending is a folder as `svit.from_pretrained` reads it. Names, shapes and values are checked against the
    model first.

    Args:
        config: the model, whose settings are stored; what the file lacks is drawn from `SEED`, so that the
            same file gives the same bytes. None guesses settings from the file and keeps to what it holds.
        half: floats as float16.
        ema: take the averaged copy of a file that holds both.
        partial: write a file that lacks parts of a detector, too.
        force: replace what is there.

    Raises:
        CheckpointError: the file cannot be read, does not fit the model, is not a whole detector, or
            `destination` is there or cannot be written.
        FileError: `destination` is a checkpoint of another origin.
    """
    source, destination = Path(source), Path(destination)
    _kind(destination)  # a refusal now, not after the work
    found = checkpoint.read_foreign(source, ema=ema)
    with torch.random.fork_rng(devices=[]):  # the caller's random numbers stay as they were
        torch.manual_seed(SEED)
        detector = build_detector(config or found.config)
    fit = checkpoint.load_into(detector, found, allow_missing=[".+"])
    missing = [name for name in fit.missing if not re.fullmatch(checkpoint.UNUSED, name)]
    if missing and not partial:
        raise CheckpointError(_incomplete(source, missing, config))
    if config is None:
        stay = f"{len(missing)} tensors of a detector stay missing: a training begins them anew"
        report, more = found.report, (stay,) if missing else ()
        guessed = (report.guessed,) if report.guessed else ()
        report = replace(report, notes=(*guessed, *report.notes, *more))
    else:  # the model's, whole
        found, report = found._replace(state=detector.canonical_state_dict(), config=config), fit
        missing = []
    found = found._replace(report=report)
    extra = _origin(found, source, half)
    if not force:
        _refuse_to_replace(source, destination, found.config, extra)
    _write(destination, found, extra, half, missing)
    return report


def _kind(destination: Path) -> str:
    """The ending that says what is written; "" for a folder."""
    ending = "" if destination.is_dir() else destination.suffix
    if ending not in ("", ".safetensors", ".pth"):
        raise CheckpointError(
            f"{destination}: expected a name that ends in .safetensors, in .pth (for detectron2), or has no "
            "ending (a folder)"
        )
    return ending


def _incomplete(source: Path, missing: list[str], config: Config | None) -> str:
    groups = named((f"{n} of {name}" for name, n in Counter(map(group, missing)).most_common()), 4)
    then = (
        "stays missing, and a training begins it anew" if config is None else "is drawn at random"
    )
    return (
        f"{source}: is not a whole detector, {len(missing)} tensors are missing ({groups}). --partial writes "
        f"it all the same: what is missing {then}"
    )


def _origin(found: Converted, source: Path, half: bool) -> dict[str, Any]:
    """What a converted checkpoint says of itself."""
    names = found.report.class_names
    return {
        **({"class_names": list(names)} if names else {}),
        "converted_from": found.report.kind,
        "source": source.name,
        "source_sha256": checkpoint.fingerprint(found.state),
        "half": half,
    }


def _refuse_to_replace(
    source: Path, destination: Path, config: Config, extra: Mapping[str, Any]
) -> None:
    """Nothing is lost: only what was made of the same facts is written again."""
    if not destination.exists():
        return
    if destination.samefile(source):
        raise CheckpointError(
            f"{destination}: is the source itself; choose another name (or --force)"
        )
    try:
        if _kind(destination) == ".pth":
            _refuse_other(destination, _about(config, extra))
        elif _kind(destination):
            checkpoint.refuse_to_replace(destination, config, extra)
        else:
            pretrained.refuse_to_replace(destination, config, extra)
    except (CheckpointError, FileError) as error:
        raise type(error)(f"{error}\n--force replaces it") from error


def _refuse_other(path: Path, about: dict[str, Any]) -> None:
    found, _ = read_file(path)
    if not isinstance(found, Mapping) or found.get("format") != FORMAT:
        raise CheckpointError(f"{path} is there already: choose another name")
    there = {name: value for name, value in found.items() if name != "model"}
    refuse_others(path, there, about, what="checkpoint")


def _about(config: Config, extra: Mapping[str, Any]) -> dict[str, Any]:
    return {"format": FORMAT, "svit_version": __version__, "config": to_dict(config), **extra}


def _write(
    destination: Path, found: Converted, extra: dict[str, Any], half: bool, missing: list[str]
) -> None:
    state, config, report = found
    if _kind(destination) == ".pth":
        _write_detectron2(destination, state, config, extra, half)
    elif _kind(destination):
        lacks = (*report.lacks, *map(re.escape, missing)) if missing else report.lacks
        checkpoint.write(destination, state, config, extra, lacks=lacks, half=half)
    elif missing:
        raise CheckpointError(
            f"{destination}: a folder holds a whole detector; name a .safetensors"
        )
    else:
        pretrained.write_folder(destination, state, config, extra, half=half)


def _write_detectron2(
    path: Path, state: Mapping[str, Tensor], config: Config, extra: dict[str, Any], half: bool
) -> None:
    """Tensors and plain values alone: `weights_only=True` reads it, and so does detectron2."""
    content = {"model": checkpoint.portable(state, half), **_about(config, extra)}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as part, part.open("wb") as file:
            torch.save(content, file)
    except (OSError, RuntimeError) as error:  # torch hides what the system said of the disk
        why = reason(path.parent, error) if isinstance(error, OSError) else error
        raise CheckpointError(f"{path}: cannot be written ({why})") from error
