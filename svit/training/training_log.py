"""What a training tells while it runs: `metrics.json`, TensorBoard events, a progress bar.

`metrics.json` holds one JSON object a line (detectron2's habit). Numbers are means over the steps since
the line before. A line ends with every checkpoint of the schedule; one that is begun goes into a checkpoint
between them. So a resumed run writes the same lines as an unbroken one, but for the seconds.
"""

from __future__ import annotations

import itertools
import json
import logging
import os
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from svit.system.files import json_lines, write_whole

METRICS = "metrics.json"
PERIOD = 20  # steps a line
SPOKEN_SECONDS = 30.0  # without a terminal a line of text takes the place of the bar

log = logging.getLogger("svit.training")


@contextmanager
def logged(folder: Path) -> Iterator[None]:
    """Also writes what the trainer says into `log.txt`."""
    handler = logging.FileHandler(folder / "log.txt", encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    log.addHandler(handler)
    try:
        yield
    finally:
        log.removeHandler(handler)
        handler.close()


class Journal:
    """Collects the numbers of every step and writes them down now and then.

    Args:
        folder: where `metrics.json` and TensorBoard's events go.
        step: finished steps of an earlier run.
        total: steps of the whole training.
        batch: images a step over all processes.
        period: steps from checkpoint to checkpoint.
        begun: of the earlier run, as its checkpoint has it; empty where a line ended with it. Lines after
            the one before will be written again, so they go.

    Raises:
        FileError: a line of the earlier run is damaged.
    """

    def __init__(
        self, folder: Path, step: int, total: int, batch: int, period: int, begun: dict[str, Any]
    ) -> None:
        self._line: int = begun.get("after", step)
        self._sums = {name: _summed(value) for name, value in begun.get("sums", {}).items()}
        self._counts: Counter[str] = Counter(begun.get("counts", {}))
        self._state: dict[str, Any] = {}
        self._step, self._total, self._first, self._batch = step, total, step, batch
        self._period = period
        self._begin = self._spoken = time.monotonic()
        kept = _forget_after(folder / METRICS, self._line)
        self._noted = {line["step"] for line in kept if "total_loss" not in line}
        self._file = (folder / METRICS).open("a", encoding="utf-8")
        self._board = _board(folder, self._line)
        self._bar = tqdm(total=total, initial=step, unit="step", disable=None, smoothing=0.05)

    def add(
        self, step: int, means: Mapping[str, float | np.ndarray], state: Mapping[str, float]
    ) -> None:
        """Notes step number `step` (finished ones, from 1).

        Args:
            means: numbers or arrays to be averaged over the line, `data_seconds` and
                `compute_seconds` among them; a step may leave some out.
            state: values of this very moment, written as they are.
        """
        for name, value in means.items():
            self._sums[name] = self._sums.get(name, 0.0) + value
        self._counts.update(means.keys())
        self._step, self._state = step, dict(state)
        self._bar.set_postfix(loss=f"{means['total_loss']:.3f}", refresh=False)
        self._bar.update(1)
        if step == self._total or not step % PERIOD or not step % self._period:
            self.flush()

    def flush(self) -> None:
        """Writes the line of the steps since the last one, if there were any."""
        if not self._sums:
            return
        means = {name: _plain(value / self._counts[name]) for name, value in self._sums.items()}
        seconds = means["data_seconds"] + means["compute_seconds"]
        line = {"step": self._step, **means, "images_per_second": self._batch / seconds}
        self.note({**line, **self._state})
        self._tell(line)
        self._sums, self._counts, self._line = {}, Counter(), self._step

    @property
    def begun(self) -> dict[str, Any]:
        """The line that has not ended: the step it begins after, sums and counts, as plain values."""
        sums = {name: _plain(value) for name, value in self._sums.items()}
        return {"after": self._line, "sums": sums, "counts": dict(self._counts)}

    def noted(self, step: int) -> bool:
        """Whether an evaluation of this step was written by the earlier run."""
        return step in self._noted

    def sync(self) -> None:
        """Brings the lines to the disk, before a checkpoint that takes them for written."""
        os.fsync(self._file.fileno())

    def note(self, line: Mapping[str, Any]) -> None:
        """Writes one object at once, as evaluations do; it must have a `step`."""
        self._file.write(json.dumps(line) + "\n")
        self._file.flush()
        if self._board is not None:
            _draw(self._board, line)

    def _tell(self, line: Mapping[str, Any]) -> None:
        """Where there is no terminal for the bar, says a line now and then."""
        step, loss = line["step"], f"{line['total_loss']:.3f}"
        now = time.monotonic()
        if self._bar.disable and (now - self._spoken > SPOKEN_SECONDS or step == self._total):
            left = (now - self._begin) / max(1, step - self._first) * (self._total - step)
            speed = f"{line['images_per_second']:.1f} images/s"
            left_text = tqdm.format_interval(left)
            log.info("step %d/%d, loss %s, %s, %s left", step, self._total, loss, speed, left_text)
            self._spoken = now

    def close(self) -> None:
        """Writes what is left and closes all files."""
        self.flush()
        self._bar.close()
        self._file.close()
        if self._board is not None:
            self._board.close()


def _forget_after(path: Path, step: int) -> list[dict[str, Any]]:
    """Drops lines of steps that will run again, and a last one that a kill cut off. Returns: the others."""
    if not path.exists():
        return []
    found = json_lines(path, "delete the line: only the curve has need of it")
    kept = list(itertools.takewhile(lambda line: int(line["step"]) <= step, found))
    text = path.read_bytes().splitlines(keepends=True)
    write_whole(path, lambda file: file.writelines(text[: len(kept)]))
    return kept


def _board(folder: Path, step: int) -> Any:
    """TensorBoard's writer, or None with a word in the log where it is not installed."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        log.info(
            "TensorBoard is not installed (pip install tensorboard); %s has all numbers", METRICS
        )
        return None
    return SummaryWriter(str(folder), purge_step=step + 1)


def _summed(value: Any) -> Any:
    """The inverse of `_plain`."""
    return np.array(value) if isinstance(value, list) else value


def _plain(value: Any) -> Any:
    """Python numbers and lists, which JSON can hold."""
    return value.tolist() if isinstance(value, np.ndarray) else float(value)


def _draw(board: Any, line: Mapping[str, Any]) -> None:
    for name, value in line.items():
        if isinstance(value, list):
            for index, part in enumerate(value):
                board.add_scalar(f"{name}/{index}", part, line["step"])
        elif name != "step":
            board.add_scalar(name, value, line["step"])
