"""What of a run a figure needs: it says what the run lacks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from analysis.figures.output import RenderError
from analysis.numbers.matching import Sample
from svit.runs.run import Run


def annotated(run: Run, *more: str) -> Iterator[tuple[Any, ...]]:
    """Trace, ground truth and `more` parts (`Run.samples`) of every image that is annotated.

    Raises:
        RenderError: none is.
    """
    _expect(run, "objects", "annotations", "; record a COCO data set")
    return run.samples("trace", "target", *more, known=["target"])


def detected(run: Run) -> Iterator[Sample]:
    """Trace, ground truth and detections of every image that has both.

    Raises:
        RenderError: none has.
    """
    _expect(run, "detections", "detections")
    _expect(run, "objects", "annotations", "; record a COCO data set")
    return run.samples("trace", "target", "detections", known=["target", "detections"])


def _expect(run: Run, column: str, what: str, remedy: str = "") -> None:
    if run.images[column].isna().all():
        raise RenderError(f"{run.path} holds no {what}, which this figure needs{remedy}")
