"""Measuring fairly: interleaved rounds, stages, peak memory, and what the machine can do now."""

from __future__ import annotations

import json
import platform
import re
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import wraps
from itertools import accumulate
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch.profiler import ProfilerActivity, profile

Work = Callable[[], object]


def synchronise(device: torch.device) -> None:
    """Waits for what the device still has to do; a CPU has nothing."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def interleave(
    variants: Mapping[str, Work], rounds: int, device: torch.device, warmup: int = 2
) -> pd.DataFrame:
    """Runs all variants in turn, round after round, so that a drift of the machine meets them alike.

    Each round starts with the next variant.

    Returns:
        One row a call: variant, round, wall_s, cpu_s (of all threads of this process).

    Raises:
        ValueError: no variant, or less than one round.
    """
    if not variants or rounds < 1:
        raise ValueError(f"expected variants and at least 1 round, found {len(variants)}, {rounds}")
    for work in variants.values():
        for _ in range(warmup):
            work()
    names, rows = list(variants), []
    for turn in range(rounds):
        start = turn % len(names)
        for name in names[start:] + names[:start]:
            rows.append({"variant": name, "round": turn, **_timed(variants[name], device)})
    return pd.DataFrame(rows)


def _timed(work: Work, device: torch.device) -> dict[str, float]:
    synchronise(device)
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    synchronise(device)
    return {"wall_s": time.perf_counter() - wall, "cpu_s": time.process_time() - cpu}


def compare(times: pd.DataFrame, reference: str, column: str = "wall_s") -> pd.DataFrame:
    """Median and quartiles of each variant, and of its speed-up over the reference.

    The speed-up is the reference's time over the variant's in the same round: rounds pair what ran
    under equal conditions, so its spread is smaller than that of the times.

    Raises:
        ValueError: the reference was not measured.
    """
    table = times.pivot(index="round", columns="variant", values=column)
    if reference not in table:
        raise ValueError(f"no variant {reference!r} was measured (found: {', '.join(table)})")
    ratios = table.rdiv(table[reference], axis=0)
    shares = {"q25": 0.25, "median": 0.5, "q75": 0.75}
    columns = {f"{column}_{name}": table.quantile(share) for name, share in shares.items()}
    prefix = "" if column == "wall_s" else f"{column}_"
    columns |= {f"{prefix}speedup_{name}": ratios.quantile(share) for name, share in shares.items()}
    order = list(dict.fromkeys(times["variant"]))
    return pd.DataFrame(columns).loc[order].rename_axis("variant").reset_index()


class Stages:
    """Seconds each stage needed by itself: what modules nested in it took is theirs.

    Attributes:
        seconds: stage -> seconds of all calls so far.
        calls: stage -> calls entered.
    """

    def __init__(self, device: torch.device) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self.calls: dict[str, int] = defaultdict(int)
        self._device = device
        self._open: list[tuple[str, float]] = []

    def enter(self, stage: str) -> None:
        """Opens a stage within the open one; from now on time is booked to it."""
        self._credit()
        self.calls[stage] += 1
        self._open.append((stage, time.perf_counter()))

    @property
    def current(self) -> str:
        """The innermost open stage."""
        return self._open[-1][0]

    def leave(self) -> None:
        """Closes the innermost stage; time is booked to the one around it again."""
        self._credit()
        self._open.pop()
        if self._open:
            self._open[-1] = (self._open[-1][0], time.perf_counter())

    def timed(self, function: Callable[..., Any], stage: str) -> Callable[..., Any]:
        """The function, its calls booked on the stage."""

        @wraps(function)
        def run(*args: Any, **kwargs: Any) -> Any:
            self.enter(stage)
            try:
                return function(*args, **kwargs)
            finally:
                self.leave()

        return run

    def _credit(self) -> None:
        """Books the time since the last border to the innermost open stage."""
        synchronise(self._device)
        if self._open:
            stage, since = self._open[-1]
            self.seconds[stage] += time.perf_counter() - since


@contextmanager
def watched(
    parts: Sequence[tuple[Callable[..., Any], str]], device: torch.device
) -> Iterator[Stages]:
    """Times methods of objects, such as `module.forward`, under a stage's name each; several may share one.

    Inside the `with` each stands in its object's own dictionary, where Python looks first.
    """
    stages = Stages(device)
    with ExitStack() as ends:
        for method, stage in parts:
            owner, name = method.__self__, method.__name__
            setattr(owner, name, stages.timed(method, stage))
            ends.callback(delattr, owner, name)
        yield stages


def peak_memory(work: Work, device: torch.device) -> int:
    """Bytes of tensors that one call holds at most beyond what was held before.

    Counted by the allocator, so it is the same every time; buffers inside libraries are not in it.
    """
    if device.type == "cuda":
        synchronise(device)
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        work()
        return torch.cuda.max_memory_allocated(device) - before
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
        work()
    with tempfile.NamedTemporaryFile(suffix=".json") as file:
        profiled.export_chrome_trace(file.name)
        events = json.loads(Path(file.name).read_text(encoding="utf-8"))["traceEvents"]
    changes = [event["args"] for event in events if event["name"] == "[memory]"]
    changes.sort(key=lambda change: change["Ev Idx"])
    return max(accumulate((change["Bytes"] for change in changes), initial=0))


def machine(device: torch.device, side: int = 2048, megabytes: int = 256) -> dict[str, Any]:
    """What this machine is and, at this moment, can do at best.

    `matmul_gflops` is a float32 product of two (side, side) matrices, two operations a MAC;
    `copy_gbs` counts each copied byte twice, read and written. Best of 3.
    """
    a = torch.randn(side, side, device=device)
    source = torch.zeros(megabytes * 2**18, device=device)  # 4 bytes each
    target = torch.empty_like(source)
    product = min(_timed(lambda: a @ a, device)["wall_s"] for _ in range(3))
    copy = min(_timed(lambda: target.copy_(source), device)["wall_s"] for _ in range(3))
    gpu = torch.cuda.get_device_name(device) if device.type == "cuda" else None
    return {
        "cpu": cpu_name(),
        "gpu": gpu,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "matmul_gflops": 2 * side**3 / product / 1e9,
        "copy_gbs": 2 * source.numel() * 4 / copy / 1e9,
    }


def cpu_name() -> str:
    """The processor as the system names it."""
    info = Path("/proc/cpuinfo")
    text = info.read_text(encoding="utf-8", errors="replace") if info.exists() else ""
    found = re.search(r"^model name\s*:\s*(.+)$", text, flags=re.MULTILINE)
    return found.group(1) if found else platform.processor()
