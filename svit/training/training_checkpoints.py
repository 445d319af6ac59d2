"""Training checkpoints on disk: written whole or not at all, read back with a fallback, compared.

Names and keys are detectron2's (`model_0004999.pth` after iteration 4999, `last_checkpoint`, "model",
"optimizer", "iteration"). The files hold tensors and plain Python alone: `weights_only=True` reads them.
"""

from __future__ import annotations

import fcntl
import pickle
import shutil
import warnings
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from svit.weights.checkpoint import replacing

FORMAT = "svit-training-1"
MARKER = "last_checkpoint"
KEPT = 2  # the newest one may turn out damaged; the one before is the spare

Snapshot = dict[str, Any]


class SnapshotError(RuntimeError):
    """A training checkpoint cannot be written or read; the message names the file."""


class DamagedWarning(UserWarning):
    """A training checkpoint was passed over because it cannot be read."""


def prepare_folder(folder: Path, snapshot_bytes: int) -> None:
    """Makes the output folder and proves that checkpoints will fit, before any time is spent.

    Args:
        snapshot_bytes: expected size of a checkpoint; there must be room for one more than are kept,
            those that are there already included.

    Raises:
        SnapshotError: the folder cannot be made or written, or the disk is too full.
    """
    probe = folder / ".probe"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with replacing(probe) as temporary:
            temporary.write_bytes(b"probe")
        probe.unlink()
        free = shutil.disk_usage(folder).free
    except OSError as error:
        raise SnapshotError(
            f"cannot write into {folder} ({error.strerror}); choose another --out folder"
        ) from error
    held = len(paths(folder))  # of a training to be resumed: each makes room for a newer one
    needed = max(1, KEPT + 1 - held) * snapshot_bytes
    if free < needed:
        raise SnapshotError(
            f"{folder}: checkpoints need {needed / 2**20:.0f} MiB and {free / 2**20:.0f} MiB are free; "
            "free some space or choose another --out folder"
        )


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keeps a second training out of the folder; the system lifts the lock however this one ends.

    Raises:
        SnapshotError: another training holds it.
    """
    with (folder / ".lock").open("w") as lock:
        try:
            fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # not inherited by worker processes
        except OSError as error:
            raise SnapshotError(f"another training is writing into {folder}") from error
        yield


def write(folder: Path, snapshot: Snapshot) -> Path:
    """Writes a checkpoint, then the marker, then removes all but the newest `KEPT`.

    Raises:
        SnapshotError: the disk refused; older checkpoints are untouched.
    """
    path = folder / f"model_{snapshot['iteration']:07d}.pth"
    try:
        for left_by_a_kill in folder.glob(".model_*.tmp"):
            left_by_a_kill.unlink()
        with replacing(path) as temporary, temporary.open("wb") as file:
            torch.save({"format": FORMAT, **snapshot}, file)
        with replacing(folder / MARKER) as temporary:
            temporary.write_text(path.name)
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


def differences(saved: dict[str, Any], now: dict[str, Any], prefix: str = "") -> list[str]:
    """One line a setting that differs between two nested configurations, with its dotted name."""
    lines = []
    for key in sorted({*saved, *now}):
        old, new = saved.get(key, "absent"), now.get(key, "absent")
        if isinstance(old, dict) and isinstance(new, dict):
            lines += differences(old, new, f"{prefix}{key}.")
        elif old != new:
            lines.append(f"{prefix}{key}: {old!r} in the checkpoint, {new!r} now")
    return lines
