"""Freed memory that stays with the process: counted by the pages that the system has to clear."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from svit.system import allocator

COUNT = """
import resource, sys
import numpy as np
from svit.system.allocator import keep_freed_memory

if sys.argv[1] == "kept" and not keep_freed_memory():
    sys.exit(3)
def faults():
    for _ in range(10):
        np.empty(80 << 20, dtype=np.uint8).fill(1)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
print(-faults() + faults())
"""


def pages_cleared(how: str) -> int:
    free = {name: value for name, value in os.environ.items() if name not in allocator.VARIABLES}
    words = [sys.executable, "-c", COUNT, how]
    found = subprocess.run(words, capture_output=True, text=True, env=free, check=False)
    if found.returncode == 3:
        pytest.skip("not glibc's allocator")
    assert not found.returncode, found.stderr
    return int(found.stdout)


def test_blocks_that_are_freed_and_asked_for_again_are_not_cleared_anew() -> None:
    assert pages_cleared("kept") < pages_cleared("as it is") / 10


def test_who_sets_up_malloc_in_the_environment_stays_in_charge(monkeypatch) -> None:
    monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", "1000000")
    assert not allocator.keep_freed_memory()


def test_other_allocators_are_left_as_they_are(monkeypatch) -> None:
    monkeypatch.setattr(allocator, "_mallopt", lambda: None)
    assert not allocator.keep_freed_memory()
