"""SIGKILL at any file event: opening to write, flushing, renaming, removing, making a folder."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import pyarrow.parquet as pq
from PIL import Image
from support.trainings import forked

from svit.training import training_checkpoints
from svit.weights import checkpoint

_CHANGES = ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "shutil.rmtree")


def events_of(action: Callable[[], object], folder: Path, note: Path) -> int:
    """Runs the action in a process of its own. Returns: how many events it has below the folder."""
    assert forked(_run, action, folder, 0, note) == 0
    return int(note.read_text())


def killed_at(number: int, action: Callable[[], object], folder: Path) -> None:
    """Kills the action right before its event of this number; what it was writing is cut in half."""
    assert forked(_run, action, folder, number, None) == -signal.SIGKILL


def _run(action: Callable[[], object], folder: Path, kill_at: int, note: Path | None) -> None:
    seen = 0
    begun: set[str] = set()  # written from their start, and not renamed since

    def happens(path: object) -> None:
        nonlocal seen
        if str(path).startswith(str(folder)) and "tfevents" not in str(path):
            seen += 1
            if seen == kill_at:
                _die(begun)

    def hook(name: str, values: tuple) -> None:  # audit hooks stay: only for a process of its own
        writes = name == "open" and values[2] & (os.O_WRONLY | os.O_RDWR)
        if writes or name in _CHANGES:
            happens(values[0])
            begun.discard(str(values[0]))
        if writes and (values[2] & os.O_TRUNC or str(values[0]).endswith("-part")):
            begun.add(str(values[0]))

    fsync = os.fsync

    def flushed(descriptor: int) -> None:
        happens(os.readlink(f"/proc/self/fd/{descriptor}"))
        fsync(descriptor)

    sys.addaudithook(hook)
    os.fsync = flushed
    action()
    if note is not None:
        done, kill_at = seen, 0
        note.write_text(str(done))


def _die(begun: set[str]) -> None:
    for path in filter(os.path.isfile, list(begun)):
        os.truncate(path, os.stat(path).st_size // 2)
    os.kill(os.getpid(), signal.SIGKILL)


def files_below(folder: Path) -> list[str]:
    """Names of all files, hidden ones too; those of TensorBoard carry the time and are left out."""
    paths = (path for path in folder.rglob("*") if path.is_file())
    return sorted(str(path.relative_to(folder)) for path in paths if "tfevents" not in path.name)


def assert_whole(folder: Path) -> None:
    """Every file under a final name can be read to its end."""
    for path in filter(Path.is_file, folder.rglob("[!.]*")):
        if (
            path.name == "metrics.json"
        ):  # a journal: its last line may be cut, and is forgotten then
            for line in path.read_text().splitlines(keepends=True):
                assert not line.endswith("\n") or json.loads(line)
        elif path.suffix in _READERS:
            _READERS[path.suffix](path)
        elif path.suffix in (".csv", ".md", ".yaml") or path.name == training_checkpoints.MARKER:
            assert path.stat().st_size


_READERS: dict[str, Callable[[Path], object]] = {
    ".json": lambda path: json.loads(path.read_bytes()),
    ".parquet": pq.read_table,
    ".jpg": lambda path: Image.open(path).load(),
    ".png": lambda path: Image.open(path).load(),
    ".svg": ElementTree.parse,
    ".pdf": lambda path: path.read_bytes().rindex(b"%%EOF"),
    ".pth": lambda path: (
        training_checkpoints.read(path)
        if path.name.startswith("model_")
        else checkpoint.read_foreign(path)
    ),
    ".safetensors": checkpoint.read,
}
