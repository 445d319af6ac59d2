"""Runs of a data set whose images hold no objects: every figure of objects says so in a sentence."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from support.runs import PROVENANCE, parts

from analysis.figures.output import DrawOptions, RenderError
from analysis.figures.registry import entries
from analysis.sources.collection import RUN
from svit.core.types import Detections, Target
from svit.runs.run import Run, open_run
from svit.runs.writer import RunWriter


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Run:
    path: Path = tmp_path_factory.mktemp("runs") / "bare"
    with RunWriter(path, PROVENANCE) as writer:
        for image_id in (1, 2):
            made = parts(image_id)
            target = Target([], [], np.zeros((0, *made["trace"].grid.image_hw), bool))
            writer.add(**{**made, "target": target, "detections": Detections([], [], [])})
    return open_run(path)


@pytest.mark.parametrize("name", ["focus", "regions", "misses", "errors", "objectness"])
def test_a_run_without_objects_is_refused_in_a_sentence(bare: Run, name: str) -> None:
    entry = entries()[name]
    with pytest.raises(RenderError, match="holds no objects|no image has both object"):
        list(entry.draw(bare if entry.takes is RUN else [bare], DrawOptions()))
