"""Training checkpoints on disk: written whole or not at all, read back with a fallback, compared.

Names and keys are detectron2's (`model_0004999.pth` after iteration 4999, `last_checkpoint`, "model",
"optimizer", "iteration"). The files hold tensors and plain Python alone: `weights_only=True` reads them.
"""

from __future__ import annotations

import pickle
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from svit.system import files
from svit.system.files import FileError, replacing

FORMAT = "svit-training-1"
MARKER = "last_checkpoint"
KEPT = 2  # the newest one may turn out damaged; the one before is the spare

FACTS = {  # what a training follows from beside its settings -> what is said where it is another
    "dataset": "the training data: other images, classes or annotations, or another --exif",
    "annotations": "the training data: other boxes, areas, masks or classes of some objects",
    "teacher": "train.distil: the maps of other dense weights",
}

Snapshot = dict[str, Any]


class SnapshotError(FileError):
    """A training checkpoint cannot be written or read; the message names the file."""


class DamagedWarning(UserWarning):
    """A training checkpoint was passed over because it cannot be read."""


def expected_bytes(parameters: int, averaged: bool) -> int:
    """Size of a checkpoint: float32 parameters, AdamW's two moments of each, and where kept their average."""
    return parameters * 4 * (4 if averaged else 3)


def prepare_folder(folder: Path, snapshot_bytes: int) -> None:
    """Makes the output folder and proves that checkpoints will fit, before any time is spent.

    Args:
        snapshot_bytes: expected size of a checkpoint; there must be room for one more than are kept,
            those that are there already included.

    Raises:
        FileError: the folder cannot be made or written, or the disk is too full.
    """
    held = len(paths(folder))  # of a training to be resumed: each makes room for a newer one
    files.prepare_folder(folder, max(1, KEPT + 1 - held) * snapshot_bytes)


def write(folder: Path, snapshot: Snapshot) -> Path:
    """Writes a checkpoint, then the marker, then removes all but the newest `KEPT`.

    Raises:
        SnapshotError: the disk refused; older checkpoints are untouched.
    """
    path = folder / f"model_{snapshot['iteration']:07d}.pth"
    try:
        with replacing(path) as part, part.open("wb") as file:
            torch.save({"format": FORMAT, **snapshot}, file)
        files.write_text(folder / MARKER, path.name)
        for old in paths(folder)[KEPT:]:
            old.unlink()
    except (OSError, RuntimeError) as error:
        # torch's writer makes a RuntimeError about positions of what the system said of the disk
        reason = error.__context__ if isinstance(error.__context__, OSError) else error
        kept = ", ".join(old.name for old in paths(folder)) or "none"
        raise SnapshotError(
            f"cannot write {path} ({reason}); checkpoints still there: {kept}. Make room and resume"
        ) from error
    return path


def other_facts(there: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What of `FACTS` a checkpoint or result and a training do not share, in words; those written before
    there was a hash of all annotations are silent about it."""
    known = {"annotations": now["annotations"], **there}
    return [said for name, said in FACTS.items() if known.get(name) != now.get(name)]


def paths(folder: Path) -> list[Path]:
    """Training checkpoints in the folder, newest first."""
    return sorted(folder.glob("model_[0-9]*.pth"), reverse=True)


def newest(folder: Path) -> tuple[Path, Snapshot] | None:
    """The newest checkpoint that can be read, a warning for each that cannot; None without any.

    Raises:
        SnapshotError: there are checkpoints and none can be read.
    """
    damaged = []
    for path in paths(folder):
        try:
            return path, read(path)
        except SnapshotError as error:
            warnings.warn(f"{error}; trying the one before", DamagedWarning, stacklevel=2)
            damaged.append(path.name)
    if damaged:
        raise SnapshotError(
            f"no checkpoint in {folder} can be read (damaged: {', '.join(damaged)})"
        )
    return None


def read(path: Path) -> Snapshot:
    """A checkpoint on the CPU.

    Raises:
        SnapshotError: the file is damaged or not one of ours.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            broken = archive.testzip()  # checks every checksum, which torch does not
        snapshot = None if broken else torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, zipfile.BadZipFile, pickle.UnpicklingError) as error:
        raise SnapshotError(f"{path} is damaged ({error})") from error
    if broken:
        raise SnapshotError(f"{path} is damaged ({broken} does not match its checksum)")
    if not isinstance(snapshot, dict) or snapshot.get("format") != FORMAT:
        raise SnapshotError(f"{path} is no training checkpoint of the format {FORMAT}")
    return snapshot
