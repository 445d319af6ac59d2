"""One process, several on this machine, or torchrun's: who takes part, and how numbers are shared.

Environment variables are those of torch.distributed.run (RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR,
MASTER_PORT), so `torchrun -m svit train ...` and `svit train --num-gpus N ...` run the same code.

`launch` starts processes itself rather than by `torch.distributed.launcher.elastic_launch`: the oldest torch
that we admit kills workers 30 seconds after a signal, whatever is not saved by then is lost, and nothing
lengthens it (the option came in 2026: https://github.com/pytorch/pytorch/pull/172596).
"""

from __future__ import annotations

import itertools
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from types import FrameType
from typing import TypeVar
from urllib.parse import urlsplit

import torch
import torch.distributed as dist
from torch import Tensor
from torch import multiprocessing as mp

from svit.system.allocator import keep_freed_memory
from svit.system.signals import INTERRUPTED, handling, interrupting

log = logging.getLogger("svit.training")

Task = TypeVar("Task")
GRACE_SECONDS = 30.0  # what the other processes get to end by themselves when one has failed
PATIENCE = timedelta(minutes=30)  # how long a process waits for the others before it gives up


class LaunchError(RuntimeError):
    """Processes could not be started or joined as asked."""


@dataclass(frozen=True)
class Ranks:
    """This process among those that train together.

    Attributes:
        rank: zero-based number of this process over all machines.
        world: number of processes.
        device: where this process computes.
    """

    rank: int
    world: int
    device: torch.device

    @property
    def is_first(self) -> bool:
        """The process that writes files and talks."""
        return self.rank == 0

    def mean(self, values: Tensor) -> Tensor:
        """The elementwise mean over all processes, the same in each."""
        if self.world == 1:
            return values
        dist.all_reduce(values)
        return values / self.world

    def total(self, count: int) -> int:
        """The sum of a count over all processes, the same in each."""
        counted = torch.tensor(float(count), dtype=torch.float64, device=self.device)
        return round(float(self.mean(counted)) * self.world)

    def agree(self, problem: str) -> str:
        """The first process's text, in all: empty, or why they all have to stop."""
        if self.world == 1:
            return problem
        shelf = [problem]
        dist.broadcast_object_list(shelf, device=self.device)
        return shelf[0]


@contextmanager
def joined(device: str = "cpu") -> Iterator[Ranks]:
    """Joins the group that the environment describes (alone without one) and leaves it at the end.

    Args:
        device: "cpu", "cuda" (the local rank's), or one like "cuda:1".

    Raises:
        LaunchError: CUDA is asked for and not there.
    """
    world = int(os.environ.get("WORLD_SIZE", "1"))
    place = _device(device)
    if world == 1:
        yield Ranks(0, 1, place)
        return
    join = not dist.is_initialized()
    if join:
        dist.init_process_group("nccl" if place.type == "cuda" else "gloo", timeout=PATIENCE)
    try:
        yield Ranks(dist.get_rank(), dist.get_world_size(), place)
    finally:
        if join:
            dist.destroy_process_group()


def _device(name: str) -> torch.device:
    device = torch.device(name)
    if device.type != "cuda":
        return device
    if not torch.cuda.is_available():
        raise LaunchError("this torch sees no CUDA device; use --device cpu, or ask `svit doctor`")
    if device.index is None:
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    torch.cuda.set_device(device)
    return device


@dataclass(frozen=True)
class Layout:
    """How many processes share a task, and where they meet.

    Attributes:
        processes: on this machine.
        machines: with as many processes each.
        machine_rank: zero-based number of this machine.
        address: where machine 0 listens, as tcp://HOST:PORT; "auto" serves one machine.
    """

    processes: int = 1
    machines: int = 1
    machine_rank: int = 0
    address: str = "auto"


def launch(run: Callable[[Task], int], task: Task, layout: Layout) -> int:
    """Runs `run(task)` here, or in as many local processes as the layout says. Returns: the exit code.

    Raises:
        LaunchError: the numbers do not fit, or several machines have no common address.
    """
    _check(layout)
    if "WORLD_SIZE" in os.environ or layout.processes * layout.machines == 1:
        return run(task)
    environment = _environment(layout)
    context = mp.start_processes(
        _child, (run, task, environment), layout.processes, join=False, start_method="spawn"
    )
    return _wait(context)


def _check(layout: Layout) -> None:
    if layout.processes < 1 or not 0 <= layout.machine_rank < layout.machines:
        raise LaunchError(
            "expected --num-gpus of at least 1 and --machine-rank below --num-machines, "
            f"found {layout.processes}, {layout.machine_rank} and {layout.machines}"
        )
    if layout.machines > 1 and layout.address == "auto":
        raise LaunchError("several machines need one address: --dist-url tcp://MACHINE0:PORT")


def _environment(layout: Layout) -> dict[str, str]:
    """What torchrun would set, but for the ranks of the single processes."""
    host, port = "127.0.0.1", None
    if layout.address != "auto":
        url = urlsplit(layout.address)
        host, port = url.hostname, url.port
        if url.scheme != "tcp" or host is None or port is None:
            raise LaunchError(f"--dist-url: expected tcp://HOST:PORT, found {layout.address}")
    return {
        "MASTER_ADDR": host,
        "MASTER_PORT": str(port or _free_port()),
        "WORLD_SIZE": str(layout.processes * layout.machines),
        "FIRST_RANK": str(layout.processes * layout.machine_rank),
        "LOCAL_WORLD_SIZE": str(layout.processes),
    }


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _child(
    local_rank: int,
    run: Callable[[Task], int],
    task: Task,
    environment: dict[str, str],
) -> None:
    rank = int(environment["FIRST_RANK"]) + local_rank
    os.environ.update(environment, RANK=str(rank), LOCAL_RANK=str(local_rank))
    share = len(os.sched_getaffinity(0)) // int(environment["LOCAL_WORLD_SIZE"])
    torch.set_num_threads(max(1, share))
    keep_freed_memory()
    # how it was started itself is handed on otherwise: what reads ahead would import everything anew
    mp.set_start_method(None, force=True)
    try:
        with interrupting():
            code = run(task)
    except KeyboardInterrupt:
        code = INTERRUPTED
    if code:
        sys.exit(code)


def _wait(context: mp.ProcessContext) -> int:
    """Waits for the processes and hands SIGINT and SIGTERM on: they save, however long it takes."""
    stopped: list[int] = []

    def forward(number: int, frame: FrameType | None) -> None:
        stopped.append(number)
        for process in context.processes:
            if process.is_alive():
                process.terminate()

    with handling(forward):
        try:
            while not context.join(timeout=1.0, grace_period=GRACE_SECONDS):
                pass
        except mp.ProcessRaisedException as error:
            raise LaunchError(_message(str(error))) from error
        except mp.ProcessExitedException as error:
            if error.exit_code > 0:
                return error.exit_code
            if stopped and error.exit_code == -signal.SIGTERM:  # it had nothing to save yet
                return INTERRUPTED
            raise LaunchError(f"{error}; out of memory is the usual reason") from error
        finally:  # whatever ends the wait, no process outlives it
            for process in context.processes:
                process.kill()
    return 0


def _message(trace: str) -> str:
    """The words of the error at the end of a formatted traceback."""
    after_last_frame = trace.rpartition('\n  File "')[2].splitlines()[1:]
    lines = itertools.dropwhile(lambda line: line.startswith(" "), after_last_frame)
    return "\n".join(lines).partition(": ")[2].strip()
