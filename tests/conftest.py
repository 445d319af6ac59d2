"""What every test file shares: one thread, no windows, and markers that skip with a reason."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

# before torch or matplotlib are imported anywhere: workers share two cores, and figures have no screen
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("SVIT_LINEAR", "mkl")  # not what a busy machine measures; both are tested
os.environ["MPLBACKEND"] = "Agg"

# the same examples in every run, and no clock: a busy machine is no failure
settings.register_profile("workbench", derandomize=True, deadline=None, database=None)
settings.load_profile("workbench")

pytest_plugins = ["support.in_browser"]  # fixtures for the tests that drive the app in Chromium


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skips what this machine cannot run. The reasons are listed in tests/README.md."""
    missing = {  # marker -> its check and the reason; a check runs only where the marker is used
        "detectron2": (_has_detectron2, "detectron2 is not installed"),
        "gpu": (_has_cuda, "no CUDA device"),
    }
    for name, (present, reason) in missing.items():
        marked = [item for item in items if item.get_closest_marker(name)]
        if marked and not present():
            for item in marked:
                item.add_marker(pytest.mark.skip(reason=reason))


def _has_detectron2() -> bool:
    return importlib.util.find_spec("detectron2") is not None


def _has_cuda() -> bool:
    import torch

    return torch.cuda.is_available()


@pytest.fixture(autouse=True)
def no_figure_left_open() -> Iterator[None]:
    """Closes figures a test leaves behind; matplotlib is not imported for it."""
    yield
    if "matplotlib.pyplot" in sys.modules:
        sys.modules["matplotlib.pyplot"].close("all")


@pytest.fixture
def forked_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Spares the imports of processes that `svit.system.processes.launch` spawns."""
    from torch import multiprocessing as mp

    start = mp.start_processes

    def fork(*args: object, **options: object) -> object:
        return start(*args, **{**options, "start_method": "fork"})

    monkeypatch.setattr(mp, "start_processes", fork)


@pytest.fixture(scope="session")
def coco_tiny() -> Path:
    """Folder of a few COCO photographs (`val2017/`, `annotations/instances_val2017.json`)."""
    folder = os.environ.get("SVIT_COCO_TINY")
    if not folder:
        pytest.skip("set SVIT_COCO_TINY to a folder of COCO photographs in COCO's layout")
    return Path(folder)
