"""What the parts of the Compare page share: the runs, one image of all of them, read once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import streamlit as st

from analysis.figures import palette
from analysis.numbers import comparison
from analysis.pages.parts import shell
from svit.core.types import ImageId, TokenTrace
from svit.runs import shards
from svit.runs.run import Run

RUN_COLOURS = palette.RUNS
SIDE = 640  # pixels: a picture's longer side at most


@dataclass(frozen=True)
class Comparison:
    """What the page shows.

    Attributes:
        runs: the reference first.
        names: of the runs, each with its letter.
        facts: what sets each apart from the others, such as its method.
        score: from which on detections count.
    """

    runs: tuple[Run, ...]
    names: tuple[str, ...]
    facts: tuple[str, ...]
    image_id: ImageId
    score: float

    @property
    def run_key(self) -> tuple:
        """Names the runs for the caches."""
        return tuple((str(r.path), r.created, len(r), r.finished) for r in self.runs)

    @property
    def key(self) -> tuple:
        """Names the image of the runs for the caches."""
        return (*self.run_key, self.image_id)


@st.cache_resource(max_entries=16, show_spinner=False)
def traces(_runs: Sequence[Run], key: tuple) -> list[TokenTrace]:
    """The image's traces; raises `MismatchError`."""
    return comparison.traces_of(_runs, key[-1])


@st.cache_data(max_entries=32, show_spinner=False)
def picture(_runs: Sequence[Run], key: tuple) -> str:
    """The first stored picture as a data address; "" without one."""
    pixels = (run.picture(key[-1]) for run in _runs)
    stored = next((one for one in pixels if one is not None), None)
    return "" if stored is None else shell.data_address(shards.jpeg(stored, SIDE), "jpeg")
