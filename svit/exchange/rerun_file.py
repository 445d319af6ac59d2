"""A run as a recording that Rerun's viewer opens: a picture an entity, its tokens along the timeline `block`.

Needs rerun-sdk (https://rerun.io), which is imported here alone and only when asked for.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from types import ModuleType

import numpy as np

from svit.exchange.exports import (
    CARRIED,
    PRUNED,
    USED,
    ExportError,
    Write,
    check_pictures,
    file_stem,
    on_picture,
    states,
)
from svit.runs.run import Run

STATES = (
    (PRUNED, "pruned", (255, 255, 255, 200)),
    (CARRIED, "carried", (120, 120, 255, 110)),
    (USED, "used", (0, 0, 0, 0)),
)


def rerun_log(run: Run) -> Write:
    """Of a run what writes `NAME.rrd`.

    Raises:
        ExportError: rerun-sdk is not installed, or an image has no picture.
    """
    try:
        import rerun
    except ModuleNotFoundError as error:
        raise ExportError("rerun is not installed: python -m pip install rerun-sdk") from error
    check_pictures(run)
    return partial(_written, rerun, run)


def _written(rerun: ModuleType, run: Run, out: Path) -> list[Path]:
    path = out / f"{run.path.resolve().name}.rrd"
    stream = rerun.RecordingStream("svit", recording_id=f"{path.stem} {run.created}")
    stream.save(path)
    stream.log("images", rerun.AnnotationContext(list(STATES)), static=True)
    parts = run.samples("trace", "detections", "picture")
    for place, (trace, found, picture) in enumerate(parts):
        entity, picture_hw = f"images/{file_stem(place, trace.image_id)}", picture.shape[:2]
        stream.log(entity, rerun.Image(picture), static=True)
        if found is not None:
            scale = np.array(picture_hw[::-1] * 2) / np.array(trace.grid.image_hw[::-1] * 2)
            boxes = rerun.Boxes2D(
                array=found.boxes_xyxy * scale,
                array_format=rerun.Box2DFormat.XYXY,
                labels=[
                    f"{_name(run, label)} {score:.2f}"
                    for label, score in zip(found.labels.tolist(), found.scores.tolist())
                ],
            )
            stream.log(f"{entity}/detections", boxes, static=True)
        for layer, tokens in enumerate(states(trace)):
            stream.set_time("block", sequence=layer + 1)
            shown = rerun.SegmentationImage(on_picture(trace.grid, tokens, picture_hw))
            stream.log(f"{entity}/tokens", shown)
    stream.flush()
    return [path]


def _name(run: Run, label: int) -> str:
    return run.class_names[label] if label < len(run.class_names) else f"class {label}"
