"""What the parts of the Image page share: one image of a run, read once, and the widgets' names."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import streamlit as st

from analysis.numbers import biography, comparison, usage
from svit.core.types import Detections, ImageId, Target, TokenGrid, TokenTrace
from svit.runs.run import Run

TOKEN = ("token row", "token column")  # keys of the two number fields


@dataclass(frozen=True)
class Sample:
    """All that is recorded of an image, and what every layer's pictures need.

    Attributes:
        codes: `comparison.lives`.
        limits: `biography.decision_limits`.
    """

    trace: TokenTrace
    found: Detections | None
    target: Target | None
    picture: np.ndarray | None
    codes: np.ndarray
    limits: np.ndarray


@dataclass(frozen=True)
class View:
    """What the page shows; `key` names it for caches and widgets."""

    run: Run
    image_id: ImageId
    key: tuple
    sample: Sample

    @property
    def grid(self) -> TokenGrid:
        """Of the image."""
        return self.sample.trace.grid


def run_key(run: Run) -> tuple:
    """Names a run and how far it is recorded."""
    return (str(run.path), run.created, len(run), run.finished)


def view_of(run: Run, image_id: ImageId) -> View:
    """The view of an image. Raises as `Run.trace`."""
    key = (*run_key(run), image_id)
    return View(run, image_id, key, _sample(run, key))


@st.cache_resource(max_entries=4, show_spinner=False)
def _sample(_run: Run, key: tuple) -> Sample:
    image_id = key[-1]
    trace = _run.trace(image_id)
    return Sample(
        trace,
        _run.detections(image_id, masks=True),
        _run.target(image_id),
        _run.picture(image_id),
        comparison.lives(trace),
        biography.decision_limits(trace),
    )


def blocks(run: Run) -> range:
    """Numbers of the blocks as the page counts them, from 1."""
    return range(1, run.layers + 1)


def first_block(run: Run) -> int:
    """The first block that may prune."""
    return usage.gated_layers(run.layers, run.targets)[0] + 1


def token_chart(view: View) -> str:
    """Key of the token grid's chart."""
    return f"tokens {view.key}"
