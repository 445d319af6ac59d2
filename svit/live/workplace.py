"""A loaded model that one can touch: forwards with counterfactual masks, their cost, and keeping them.

    model = session.Session.load(Path("demo/svit-plain-nano.safetensors"))
    picture = pictures.drawn(5_000_000)
    before = model.run(picture)
    after = model.run(picture, (edits.NoReactivation(), edits.Brush((4, 5), None, on=False)))
    model.keep(after, picture, Path("runs/what-if"))

The app holds one `Workplace`: one model in memory, one job at a time. Its page opens this module only, and
finds the others that it needs here, by their own names.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError, safe_open

from svit.live import explaining as explaining
from svit.live import pictures as pictures
from svit.live import session as session
from svit.live.session import Session
from svit.probing import edits as edits
from svit.probing import equal_counts as equal_counts
from svit.probing import transplants as transplants
from svit.system.home import home


class Busy(RuntimeError):
    """Another job holds the model."""


class Workplace:
    """One model in memory, one job at a time, whoever asks.

    Args:
        wait_s: how long a job waits for its turn.
    """

    def __init__(self, wait_s: float = 10.0) -> None:
        self.wait_s = wait_s
        self._lock = threading.Lock()
        self._loaded: tuple[tuple[Path, int], Session] | None = None

    def holds(self, path: Path) -> bool:
        """Whether this checkpoint is in memory as the file is now."""
        return self._loaded is not None and self._loaded[0] == _stamp(path)

    @contextmanager
    def session(self, path: Path) -> Iterator[Session]:
        """The session of a checkpoint, loaded if another one is in memory, for the `with` only.

        Raises:
            Busy: another job did not end in time.
            CheckpointError: the file cannot be read.
        """
        if not self._lock.acquire(timeout=self.wait_s):
            raise Busy(
                f"another session has been using the model for {self.wait_s:.0f} seconds; one job "
                "runs at a time, so try again when it has finished"
            )
        try:
            if not self.holds(path):
                self._loaded = None  # the old one goes before the new one comes
                self._loaded = (_stamp(path), Session.load(path))
            yield self._loaded[1]
        finally:
            self._lock.release()


def _stamp(path: Path) -> tuple[Path, int]:
    return path.resolve(), path.stat().st_mtime_ns


def checkpoints(folders: Iterable[Path]) -> list[Path]:
    """Our checkpoints below the folders and the shipped ones; links that lead out are not followed."""
    found = []
    for folder in (home() / "demo", *folders):
        root = folder.resolve()
        found += [
            path
            for path in sorted(folder.rglob("*.safetensors"))
            if path.resolve().is_relative_to(root)
        ]
    return list({path.resolve(): path for path in found}.values())


def settings_name(path: Path) -> str:
    """Name of the settings of a checkpoint of ours, of which only the head is read; "" without one."""
    try:
        with safe_open(path, framework="pt") as file:
            return str(json.loads(file.metadata()["config"])["name"])
    except (SafetensorError, OSError, KeyError, TypeError, ValueError):
        return ""


def new_run(root: Path, name: str) -> Path:
    """The folder of a new run right below `root`.

    Raises:
        ValueError: the name is not plain letters, digits, dots, dashes and underscores, or is taken.
    """
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}", name):
        raise ValueError(
            f"expected a name of letters, digits, dots, dashes and underscores, found {name!r}"
        )
    path = root / name
    if path.exists() or path.is_symlink():
        raise ValueError(f"{path} is there already; choose another name")
    return path
