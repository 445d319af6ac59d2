"""SIGINT and SIGTERM: what is open is saved, and the exit code says so. No torch."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType

INTERRUPTED = 130  # exit code after either signal: all is saved, the same command goes on
_STOPPING = (signal.SIGINT, signal.SIGTERM)
log = logging.getLogger("svit.training")


@contextmanager
def handling(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Lets `handler` take SIGINT and SIGTERM inside the `with`, where Python allows: the main thread."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, handler) for number in _STOPPING}
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)


@contextmanager
def stop_requests() -> Iterator[list[int]]:
    """A list that grows with every SIGINT and SIGTERM."""
    received: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        received.append(number)
        log.warning("%s: saving after this step", signal.Signals(number).name)

    with handling(note):
        yield received


@contextmanager
def interrupting() -> Iterator[None]:
    """The first SIGINT or SIGTERM raises KeyboardInterrupt, so that every `with` saves what it holds.
    Later ones do not disturb that: a terminal and a launcher send the same signal each."""

    received: list[int] = []

    def stop(number: int, frame: FrameType | None) -> None:
        received.append(number)
        if len(received) == 1:
            raise KeyboardInterrupt

    with handling(stop):
        yield


def follow_parent(worker: int) -> None:
    """For processes that read ahead (`worker_init_fn` of a DataLoader): a signal to a whole group, as of
    Ctrl-C, `timeout` or a batch system, reaches them too. They go on until their parent has saved and
    ends them, or is gone. A parent that stops while it takes a batch over hangs up, which is no error."""
    sys.excepthook = _unless_hung_up
    signal.pthread_sigmask(signal.SIG_BLOCK, _STOPPING)
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()


def _unless_hung_up(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    """Errors of a data set reach the parent by other ways: this hook hears of the rest alone."""
    if not issubclass(kind, (ConnectionError, EOFError)):
        sys.__excepthook__(kind, error, trace)


def _end_with(parent: int) -> None:
    """Torch's own check for a parent that was killed waits for a pipe that nobody reads."""
    while os.getppid() == parent:
        sent = signal.sigtimedwait(_STOPPING, 1.0)
        if sent is not None and sent.si_pid == parent:
            os._exit(0)
    os._exit(1)
