"""How files get into a run folder whole or not at all, and what its JSON files must hold.

    RUN/run.json               format, version, provenance; written once
    RUN/manifest-00000.json    finished shards, failed images of a rank; replaced after each shard
    RUN/writer-00000.lock      only while a process of that rank writes

`svit.runs.run` is the door to a run, `svit.runs.shards` the tables in it.
"""

from __future__ import annotations

import json
import logging
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, BinaryIO, TextIO

FORMAT, VERSION = "svit-run", 1
_MANIFEST_KEYS = {"rank", "world", "finished", "layers", "shards", "errors"}
_DIFFERENCES_SHOWN = 20

logger = logging.getLogger(__name__)


class RunError(RuntimeError):
    """A run folder cannot be read or written; the message names the file and the fix."""


@contextmanager
def explained(folder: Path) -> Iterator[None]:
    """Turns errors of the file system into a `RunError` that says what is safe and what to do."""
    try:
        yield
    except OSError as error:
        raise RunError(
            f"cannot write into {folder}: {error.strerror or error}. Shards entered before are "
            "intact: make room or choose a folder that can be written, then run the same command "
            "again to go on"
        ) from error


def write_atomic(path: Path, write: Callable[[BinaryIO], object], rank: int = 0) -> int:
    """Writes beside, fsyncs, renames and fsyncs the folder. Returns: bytes written.

    Raises:
        OSError: it names `path`, also where the system's own names none (a full disk) or the part.
    """
    part = path.with_name(f".{path.name}-{rank:05}.part")
    try:
        with open(part, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
            size = file.tell()
        os.replace(part, path)
    except BaseException as error:
        part.unlink(missing_ok=True)
        if isinstance(error, OSError) and str(error.filename) in ("None", str(part)):
            error.filename = str(path)
        raise
    _sync_folder(path.parent)
    return size


def remove_parts(folder: Path, rank: int) -> None:
    """Deletes what a killed writer of this rank left unfinished."""
    for part in folder.glob(f".*-{rank:05}.part"):
        part.unlink()


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_text(path: Path, text: str, rank: int = 0) -> None:
    """Writes a text file whole or not at all."""
    write_atomic(path, lambda file: file.write(text.encode()), rank)


def write_json(path: Path, value: dict[str, Any], rank: int, indent: int | None = None) -> None:
    """Writes a JSON object atomically."""
    write_text(path, json.dumps(value, indent=indent, ensure_ascii=False), rank)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RunError(
            f"{path} is half-written or damaged ({error}): copy it again, or record anew"
        ) from error
    if not isinstance(value, dict):
        raise RunError(f"{path}: expected a JSON object, found a {type(value).__name__}")
    return value


def plain_json(provenance: dict[str, Any]) -> dict[str, Any]:
    """The provenance as it comes back from JSON.

    Raises:
        ValueError: it holds more than plain JSON values.
    """
    try:
        return json.loads(json.dumps(provenance, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise ValueError(f"expected a provenance of plain JSON values: {error}") from error


def claim(folder: Path, provenance: dict[str, Any], rank: int) -> None:
    """Writes the head of a new run, or makes sure that an old one is of the same provenance.

    Raises:
        RunError: it is of another (the differences are listed), or lost its head.
    """
    path = folder / "run.json"
    if not path.exists():
        if next(folder.glob("shard-*.parquet"), None):
            raise RunError(f"{folder} holds shards of a run without its run.json: choose another")
        created = datetime.now(timezone.utc).isoformat(timespec="seconds")
        head = {"format": FORMAT, "version": VERSION, "created": created}
        write_json(path, {**head, "provenance": provenance}, rank, indent=1)
    old, new = _flat(read_head(folder)["provenance"]), _flat(provenance)
    names = [name for name in {**old, **new} if old.get(name, ...) != new.get(name, ...)]
    if names:
        lines = [f"  {name}: {_show(old, name)} there, {_show(new, name)} now" for name in names]
        raise RunError(
            f"{path} is of another run: choose another folder or repeat its settings. "
            "Differences:\n" + "\n".join(lines[:_DIFFERENCES_SHOWN])
        )


def _show(values: dict[str, Any], name: str) -> str:
    return repr(values[name]) if name in values else "nothing"


def _flat(value: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested dictionaries as one with dotted names."""
    flat: dict[str, Any] = {}
    for name, item in value.items():
        nested = isinstance(item, dict) and item
        flat |= _flat(item, f"{prefix}{name}.") if nested else {f"{prefix}{name}": item}
    return flat


def read_head(folder: Path) -> dict[str, Any]:
    """run.json: `created` and `provenance`.

    Raises:
        RunError: not a run, of another version, or damaged.
    """
    path = folder / "run.json"
    if not path.is_file():
        raise RunError(
            f"{folder} is not a recorded run (it has no run.json): record one with "
            "`svit record --out RUN`"
        )
    head = _read_json(path)
    if head.get("format") != FORMAT:
        raise RunError(f"{path}: expected format {FORMAT!r}, found {head.get('format')!r}")
    if head.get("version") != VERSION:
        raise RunError(
            f"{path} has format version {head.get('version')}, this program reads {VERSION}: "
            "update the program, or record anew"
        )
    if not {"created", "provenance"} <= head.keys():
        raise RunError(f"{path} lacks its provenance: copy it again, or record anew")
    return head


def manifest_path(folder: Path, rank: int) -> Path:
    """The file that lists what one rank has finished."""
    return folder / f"manifest-{rank:05}.json"


def read_manifests(folder: Path) -> dict[int, dict[str, Any]]:
    """Manifests by rank, in order.

    Raises:
        RunError: one is damaged.
    """
    manifests = {}
    for path in sorted(folder.glob("manifest-*.json")):
        manifest = _read_json(path)
        missing = _MANIFEST_KEYS - manifest.keys()
        if missing:
            lacking = ", ".join(sorted(missing))
            raise RunError(f"{path} lacks {lacking}: copy it again, or record anew")
        manifests[manifest["rank"]] = manifest
    return manifests


class Lock:
    """Keeps other writers of a rank out of a run folder while this process lives.

    The kernel drops the lock (flock) with its process, so what a dead process left is told from
    what a living one holds without guessing by its number. POSIX only; reading needs no lock.

    Raises:
        RunError: another process holds it, or another host left it.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = self._locked()
        host, left = socket.gethostname(), self._file.read().split()
        if left and left[0] != host:
            self._file.close()
            raise RunError(
                f"{path}: process {left[-1]} on {left[0]} writes here; if it has ended, "
                "delete the file"
            )
        if left:
            logger.warning("%s: process %s died while writing; its run goes on", path, left[-1])
        self._file.truncate(0)
        self._file.write(f"{host} {os.getpid()}\n")
        self._file.flush()

    def _locked(self) -> TextIO:
        import fcntl

        while True:
            file = open(self._path, "a+")  # noqa: SIM115 - open as long as the lock is held
            file.seek(0)
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                owner = (file.read().split() or ["unknown"])[-1]
                file.close()
                raise RunError(
                    f"{self._path}: process {owner} writes into this run: wait for it or choose "
                    "another folder"
                ) from error
            same = self._path.exists() and os.path.samestat(
                os.fstat(file.fileno()), self._path.stat()
            )
            if same:
                return file
            file.close()  # its owner finished and removed it between our two steps

    def release(self) -> None:
        """Removes the lock file and lets others in; a second call does nothing."""
        if not self._file.closed:
            self._path.unlink(missing_ok=True)
            self._file.close()
