"""Files written whole or not at all, and folders that one writer has at a time.

A file is written beside its place under a hidden name, flushed, renamed, and its folder flushed: after a
kill or a power cut the old file is there or the new one. What a killed writer left is told from what a
living one holds by its lock (flock), which the kernel drops with the process. Writing needs POSIX;
reading needs no lock. Whose a folder is, `svit.system.claims` tells.
"""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import os
import shutil
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

SEAL = "sha256"  # entry of a JSON file: what the rest of it must hash to
_PART = ".svit-part"  # ends the hidden name of a file that is not whole yet
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_NO_FOLDER = {errno.EEXIST, errno.ENOTDIR}

logger = logging.getLogger(__name__)


class FileError(RuntimeError):
    """A file or folder cannot be written, read or taken; the message names it and the fix."""


@contextmanager
def explained(
    folder: Path, kind: type[FileError] = FileError, otherwise: str = ""
) -> Iterator[None]:
    """Turns errors of the file system into a `kind` that says what to do; so other `FileError`s.

    Args:
        folder: where is written.
        otherwise: a sentence about what is safe and how to go on.
    """
    try:
        yield
    except FileError as error:
        if isinstance(error, kind):
            raise
        raise kind(str(error)) from error
    except OSError as error:
        words = f"cannot write into {folder}: {reason(folder, error)}"
        raise kind(f"{words}. {otherwise}" if otherwise else words) from error


def reason(folder: Path, error: OSError) -> str:
    """Why nothing can be written into a folder, and the way on."""
    what = error.strerror or str(error)
    if error.errno in _NO_FOLDER:
        place = next((path for path in (folder, *folder.parents) if path.is_file()), folder)
        return f"{place} is a file, not a folder; choose another folder"
    if error.errno in _FULL:
        return f"{what}; make room or choose another folder"
    return f"{what}; choose another folder, one that can be written"


def prepare_folder(folder: Path, needed_bytes: int = 0) -> None:
    """Makes a folder, removes what killed writers left in it, and proves that it can be written.

    Args:
        needed_bytes: room there must be.

    Raises:
        FileError: it cannot be made or written, or the disk is too full.
    """
    with explained(folder):
        folder.mkdir(parents=True, exist_ok=True)
        remove_leftovers(folder)
        probe = folder / f".probe-{os.getpid()}{_PART}"
        with _held(probe) as file:
            file.write(b"probe")
            _sync(probe)
            probe.unlink(missing_ok=True)
        free = shutil.disk_usage(folder).free
    if free < needed_bytes:
        raise FileError(
            f"{folder} needs {needed_bytes / 2**20:.0f} MiB and {free / 2**20:.0f} MiB are free; free "
            "some space or choose another folder"
        )


def remove_leftovers(folder: Path) -> None:
    """Deletes the unfinished files of writers that are no more; those of living ones stay."""
    for part in folder.glob(f".*{_PART}"):
        try:
            with _held(part, wait=False):
                part.unlink()
        except BlockingIOError:
            continue


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A path beside `path` to write to; it takes the place of `path` once the block ends well.

    Of several that write the same file the others wait.

    Raises:
        OSError: it names `path`, also where the system's own names none (a full disk) or the part.
    """
    part = path.with_name(f".{path.name}{_PART}")
    try:
        with _held(part) as file:
            file.truncate(0)
            try:
                yield part
                _sync(part)
                os.replace(part, path)
            except BaseException:
                part.unlink(missing_ok=True)
                raise
        _sync(path.parent)
    except OSError as error:
        if str(error.filename) in ("None", str(part)):
            error.filename = str(path)
        raise


def move(source: Path, target: Path) -> None:
    """Renames a file for good, over one that is there, also into another folder of the same disk."""
    os.replace(source, target)
    for folder in {source.parent, target.parent}:
        _sync(folder)


def write_whole(path: Path, write: Callable[[BinaryIO], object]) -> int:
    """Writes a file whole or not at all by `write(file)`. Returns: bytes written.

    Raises:
        OSError: see `replacing`.
    """
    with replacing(path) as part, part.open("wb") as file:
        write(file)
        file.flush()
        size = file.tell()
    return size


def file_hash(path: Path) -> str | None:
    """SHA-256 of a file's bytes, in hexadecimal; None of one that cannot be read."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return None


def write_text(path: Path, text: str) -> None:
    """Writes a text file whole or not at all, in UTF-8."""
    write_whole(path, lambda file: file.write(text.encode()))


def write_json(
    path: Path, value: dict[str, Any], indent: int | None = None, *, sealed: bool = False
) -> None:
    """Writes a JSON object whole or not at all.

    Args:
        sealed: adds its SHA-256 as the entry `sha256`, which `read_json` compares and takes out.
    """
    seal = {SEAL: _sha256(value)} if sealed else {}
    write_text(path, json.dumps({**value, **seal}, indent=indent, ensure_ascii=False))


def read_json(path: Path, remedy: str, kind: type[FileError] = FileError) -> dict[str, Any]:
    """The JSON object in a file, without its seal.

    Args:
        remedy: what to do about a damaged one, as "record anew".

    Raises:
        FileError: of the given kind: it cannot be read, holds something else, or does not fit its seal.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise kind(f"{path} is half-written or damaged ({error}): {remedy}") from error
    if not isinstance(value, dict):
        found = type(value).__name__
        raise kind(f"{path}: expected a JSON object, found a {found}: {remedy}")
    seal = value.pop(SEAL, None)
    if seal not in (None, _sha256(value)):
        raise kind(
            f"{path} was changed after it was written (its {SEAL} does not fit): {remedy}; "
            f"if the change was meant, delete the entry {SEAL!r}"
        )
    return value


def json_lines(
    path: Path, remedy: str, kind: type[Exception] = FileError
) -> Iterator[dict[str, Any]]:
    """The JSON objects of a file that holds one a line, each with its whole number `step`. A last line
    without its end is what a kill, or a writer at work, leaves: it does not count.

    Args:
        remedy: what to do about a damaged one, as "delete the line".

    Raises:
        FileError: or an error of the given kind: a line holds something else.
    """
    # bytes: what a kill leaves may end amid a character
    for number, line in enumerate(path.read_bytes().splitlines(keepends=True), 1):
        if not line.endswith(b"\n"):
            break
        try:
            found = json.loads(line)
            int(found["step"])
        except (ValueError, KeyError, TypeError) as error:
            raise kind(
                f"{path}, line {number}: expected an object with a step, found {line[:40]!r} "
                f"({type(error).__name__}: {error}); {remedy}"
            ) from error
        yield found


def _sha256(value: dict[str, Any]) -> str:
    """Of a JSON object, whatever the order of its keys and its white space."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def plain_json(value: dict[str, Any]) -> dict[str, Any]:
    """The value as it comes back from JSON.

    Raises:
        ValueError: it holds more than plain JSON values.
    """
    try:
        return json.loads(json.dumps(value, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise ValueError(f"expected a provenance of plain JSON values: {error}") from error


class Lock:
    """Keeps other writers out of a folder while this process lives; a file in it says who writes.

    Raises:
        FileError: another process holds it, or another host left it.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._file = _held(path, wait=False)
        except BlockingIOError as error:
            owner = (path.read_text().split() or ["unknown"])[-1] if path.exists() else "unknown"
            raise FileError(
                f"{path}: process {owner} writes into this folder: wait for it or choose another"
            ) from error
        # a worker process that outlives a killed parent must not go on holding its lock
        os.register_at_fork(after_in_child=self._file.close)
        host, left = socket.gethostname(), self._file.read().decode().split()
        if left and left[0] != host:
            self._file.close()
            raise FileError(
                f"{path}: process {left[-1]} on {left[0]} writes here; if it has ended, "
                "delete the file"
            )
        if left:
            logger.warning("%s: process %s died while writing; its work goes on", path, left[-1])
        self._file.truncate(0)
        self._file.write(f"{host} {os.getpid()}\n".encode())
        self._file.flush()

    def release(self) -> None:
        """Removes the lock file and lets others in; a second call does nothing."""
        if not self._file.closed:
            self._path.unlink(missing_ok=True)
            self._file.close()

    def __enter__(self) -> Lock:
        return self

    def __exit__(self, *error: object) -> None:
        self.release()


def _held(path: Path, wait: bool = True) -> BinaryIO:
    """The file of this name, made where there is none, open from its start and locked.

    Raises:
        BlockingIOError: another holds it, without `wait`.
    """
    import fcntl  # only writing needs it

    while True:
        file = open(path, "a+b")  # noqa: SIM115 - open as long as the lock is held
        try:
            fcntl.flock(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
            if path.exists() and os.path.samestat(os.fstat(file.fileno()), path.stat()):
                file.seek(0)
                return file
        except BaseException:
            file.close()
            raise
        file.close()  # its owner renamed or removed it between our two steps


def _sync(path: Path) -> None:
    """Flushes a file, or the names in a folder, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
