"""A run's parts image by image, for figures that need several: they say what a run lacks."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from analysis.figures.output import RenderError
from analysis.numbers.matching import Sample
from svit.core.rle import CodedTarget
from svit.core.types import TokenTrace
from svit.runs.run import Run


def annotated(run: Run) -> Iterator[tuple[TokenTrace, CodedTarget]]:
    """Trace and ground truth of every image that has one.

    Raises:
        RenderError: none has.
    """
    expect_annotations(run)
    for trace, target in zip(run.iter_traces(scores=False), run.iter_targets(), strict=True):
        if target is not None:
            yield trace, target


def pictured(run: Run) -> Iterator[tuple[TokenTrace, CodedTarget, np.ndarray | None]]:
    """As `annotated`, with the stored picture."""
    expect_annotations(run)
    parts = (run.iter_traces(scores=False), run.iter_targets(), run.iter_pictures())
    for trace, target, picture in zip(*parts, strict=True):
        if target is not None:
            yield trace, target, picture


def detected(run: Run) -> Iterator[Sample]:
    """As `annotated`, with detections.

    Raises:
        RenderError: the run has none.
    """
    if run.images["detections"].isna().all():
        raise RenderError(f"{run.path} holds no detections, which this figure needs")
    expect_annotations(run)
    parts = (run.iter_traces(scores=False), run.iter_targets(), run.iter_detections())
    for trace, target, found in zip(*parts, strict=True):
        if target is not None and found is not None:
            yield trace, target, found


def expect_annotations(run: Run) -> None:
    if run.images["objects"].isna().all():
        raise RenderError(
            f"{run.path} holds no annotations, which this figure needs; record a COCO data set"
        )
