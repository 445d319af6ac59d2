"""glibc's allocator told to keep what is freed, which every forward asks for again."""

from __future__ import annotations

import ctypes
import os
import sys

MMAP_THRESHOLD, TRIM_THRESHOLD = -3, -1  # of malloc.h
LARGEST = 2**31 - 1
VARIABLES = (
    "MALLOC_MMAP_THRESHOLD_",
    "MALLOC_TRIM_THRESHOLD_",
    "MALLOC_TOP_PAD_",
    "MALLOC_MMAP_MAX_",
)


def keep_freed_memory() -> bool:
    """Lets this process take its large blocks from the heap and keep them there when they are freed.

    Left alone glibc gets blocks above 32 MB from the system, returns them, and the system clears them page
    by page every time: a sixth of the time of a backbone at 800 x 1344 (docs/speed.md). Numbers stay the
    same; the process holds on to its peak until it ends, so a server should not ask for this. Variables of
    malloc in the environment stay in charge.

    Returns:
        Whether it was told; other allocators than glibc's are left as they are.
    """
    told = {*VARIABLES, "GLIBC_TUNABLES"} & set(os.environ)
    mallopt = None if told or sys.platform != "linux" else _mallopt()
    if mallopt is None:
        return False
    return bool(mallopt(MMAP_THRESHOLD, LARGEST) and mallopt(TRIM_THRESHOLD, LARGEST))


def _mallopt() -> ctypes._NamedFuncPointer | None:
    return getattr(ctypes.CDLL(None), "mallopt", None)
