"""Frames about a whole run, kept beside it: thousands of images are counted once, not at every start.

    regions, objects = kept(run, ("regions", "objects"), lambda: use_of_objects(...))

They lie in `.counted/RUN` beside the run's folder, as Parquet. Their names hold a hash of what the run holds
and of the code that counts: nothing is read that another run or another version counted. Small runs are
counted anew, and so is a run beside which nothing can be written.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path

import pandas as pd

import analysis.numbers
import svit.core
import svit.runs
from svit.runs.run import Run
from svit.system.files import FileError, prepare_folder, write_whole

FOLDER = ".counted"
LEAST = 500  # images from which a run's frames are kept
COUNTING = (analysis.numbers, svit.core, svit.runs)  # the code that the numbers follow from


def kept(
    run: Run, names: Sequence[str], make: Callable[[], Sequence[pd.DataFrame]]
) -> Sequence[pd.DataFrame]:
    """Frames about a run, as they were made before or as `make` makes them now.

    Args:
        names: of the frames, in the order of `make`; what else they depend on belongs into them.
    """
    if len(run) < LEAST or "://" in str(run.path):
        return make()
    place, key = run.path.resolve(), name_of(run)
    folder = place.parent / FOLDER / place.name
    paths = [folder / f"{name}.{key}.parquet" for name in names]
    try:
        return [pd.read_parquet(path) for path in paths]
    except (OSError, ValueError):  # not there, or damaged
        frames = make()
    try:
        prepare_folder(folder)
        for name, path, frame in zip(names, paths, frames, strict=True):
            for old in folder.glob(f"{name}.*.parquet"):
                old.unlink(missing_ok=True)
            write_whole(path, frame.to_parquet)
    except (FileError, OSError):  # a folder that others own: what was counted still counts
        pass
    return frames


def name_of(run: Run) -> str:
    """Names the content of a run and the code that counts it."""
    told = [_code(), str(len(run)), *run.skipped]
    heads = [path.read_bytes() for path in sorted(run.path.glob("*.json"))]
    return hashlib.sha256(b"\0".join([*map(str.encode, told), *heads])).hexdigest()[:16]


@lru_cache(maxsize=1)
def _code() -> str:
    found = hashlib.sha256()
    for package in COUNTING:
        for path in sorted(Path(package.__file__).parent.rglob("*.py")):
            found.update(path.read_bytes())
    return found.hexdigest()
