"""Numbers of a run of videos: what was computed in each frame, and how often each token was."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from analysis.numbers import usage
from svit.core.catalogue import METHODS
from svit.core.slices import FRAME, VIDEO
from svit.core.types import ImageId, TokenGrid, TokenTrace
from svit.runs.run import Run


@dataclass(frozen=True)
class Video:
    """One video of a run.

    Attributes:
        name: as the run tells it.
        image_ids: of its frames, in order.
        numbers: of them.
    """

    name: str
    image_ids: tuple[ImageId, ...]
    numbers: tuple[int, ...]


def videos(run: Run) -> list[Video]:
    """Those of a run, as recorded."""
    groups = run.frames.groupby(VIDEO, sort=False)
    return [Video(str(name), tuple(one["image_id"]), tuple(one[FRAME])) for name, one in groups]


def reuses(run: Run) -> bool:
    """Whether tokens that a block does not use take what it stored, by the method that the run names."""
    entry = METHODS.get(str(run.provenance.get("method")))
    return entry is not None and entry.traits.streams


def computed(trace: TokenTrace, layers: Sequence[int]) -> np.ndarray:
    """Valid tokens that at least one of these blocks computed: bool (rows, columns)."""
    return usage.valid_keep(trace)[list(layers)].any(axis=0)


@dataclass(frozen=True)
class Told:
    """What became of a video's tokens.

    Attributes:
        frames: a row a frame: image_id, frame; share: of the valid tokens that the blocks which may prune
            computed, mean over these blocks; any: of those that at least one of them computed.
        counts: int (rows, columns), frames in which at least one of these blocks computed each valid token.
        middles: a row an annotated object (no crowd) and frame: frame, class, x, y of its box's middle in
            source pixels; empty without annotations.
        grid: of the frames.
    """

    frames: pd.DataFrame
    counts: np.ndarray
    middles: pd.DataFrame
    grid: TokenGrid


def told(run: Run, video: Video) -> Told:
    """Reads a video of a run. Raises as `Run.trace`."""
    layers = usage.gated_layers(run.layers, run.targets)
    rows, middles, counts = [], [], None
    parts = run.samples("trace", "target", ids=video.image_ids)
    for number, image_id, (trace, target) in zip(
        video.numbers, video.image_ids, parts, strict=True
    ):
        own = computed(trace, layers)
        counts = own.astype(int) if counts is None else counts + own
        share = usage.keep_ratios(trace)[list(layers)].mean()
        rows.append((image_id, number, float(share), float(own.mean())))
        for label, box in (
            []
            if target is None
            else zip(target.labels[~target.crowd], target.boxes_xyxy[~target.crowd], strict=True)
        ):
            middle = (float(box[0] + box[2]) / 2, float(box[1] + box[3]) / 2)
            middles.append(
                (number, run.class_names[label] if run.class_names else str(label), *middle)
            )
    return Told(
        pd.DataFrame(rows, columns=["image_id", "frame", "share", "any"]),
        counts,
        pd.DataFrame(middles, columns=["frame", "class", "x", "y"]),
        trace.grid,
    )
