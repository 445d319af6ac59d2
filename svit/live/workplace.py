"""A loaded model that one can touch: forwards with counterfactual masks, their cost, and keeping them.

    session = Session.load(Path("demo/svit-plain-nano.safetensors"))
    picture = drawn(5_000_000)
    before = session.run(picture)
    after = session.run(picture, (NoReactivation(), Brush((4, 5), None, on=False)))
    session.keep(after, picture, Path("runs/what-if"))

Edits (`svit.probing.edits`, `svit.probing.equal_counts`), pictures (`svit.live.pictures`) and the session
(`svit.live.session`) stand here by name.
The app holds one `Workplace`: one model in memory, one job at a time.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from svit.data.reading import ImageError
from svit.live.pictures import MAX_BYTES, Picture, drawn, recorded, uploaded
from svit.live.session import AFTER, BEFORE, Latency, Outcome, Session
from svit.probing.edits import (
    Brush,
    Edit,
    EditError,
    KeepBox,
    KeepRatio,
    NoReactivation,
    Remove,
    Shift,
    Transplant,
    tokens_in,
)
from svit.probing.equal_counts import Control
from svit.runs.run import RunError
from svit.system.home import home
from svit.weights.safe_read import CheckpointError

__all__ = [
    "AFTER",
    "BEFORE",
    "Brush",
    "Busy",
    "CheckpointError",
    "Control",
    "Edit",
    "EditError",
    "ImageError",
    "KeepBox",
    "KeepRatio",
    "Latency",
    "MAX_BYTES",
    "NoReactivation",
    "Outcome",
    "Picture",
    "Remove",
    "RunError",
    "Session",
    "Shift",
    "Transplant",
    "Workplace",
    "checkpoints",
    "drawn",
    "new_run",
    "recorded",
    "tokens_in",
    "uploaded",
]


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
