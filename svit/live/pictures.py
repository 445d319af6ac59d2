"""Pictures for one forward: uploaded ones, drawn scenes, and those that a recorded run holds."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from svit.core.catalogue import METHODS
from svit.core.types import Detections, ImageId, Target
from svit.data.images import resize_target
from svit.data.reading import ImageError, read_image
from svit.data.shapes import CLASSES, Scene, scene
from svit.live import originals
from svit.runs.run import Run

MAX_BYTES = 20 * 2**20  # as `.streamlit/config.toml` has it; here it holds without a server, too
MAX_PIXELS = 25_000_000  # larger uploads are refused before they are decoded
SIDE = 1333  # pixels of an uploaded picture's longer side: models see no more, masks cost no more


@dataclass(frozen=True, eq=False)
class Record:
    """What a run says of the picture.

    Attributes:
        run: its name.
        found: what was detected, in pixels of the picture; None where that was not recorded.
        weights_sha256: of the model.
        exact: whether the pixels are those that were recorded, not the smaller JPEG that the run stores.
        masks: where the masks were from, unless the model decided ("learned").
        weights: name of the checkpoint's file, "" where the run does not tell.
        model: name of its settings, likewise.
        settings: all of them, as `svit.core.config.to_dict` has them; None where the run does not tell.
    """

    run: str
    found: Detections | None
    weights_sha256: str
    exact: bool
    masks: str = "learned"
    weights: str = ""
    model: str = ""
    settings: Mapping[str, Any] | None = None


@dataclass(frozen=True, eq=False)
class Picture:
    """A picture and what is known of it.

    Attributes:
        pixels: uint8 (height, width, 3), RGB.
        image_id: random masks depend on it.
        origin: one sentence on where it comes from.
        target: ground truth in the pixels of this picture, or None.
        class_names: of the labels of `target`.
        record: of the run that it is from.
    """

    pixels: np.ndarray
    image_id: ImageId
    origin: str
    target: Target | None = None
    class_names: tuple[str, ...] = ()
    record: Record | None = None


def uploaded(data: bytes) -> Picture:
    """A picture from the bytes of a file, whatever its name says it is; larger than `SIDE` it shrinks.

    Raises:
        ImageError: too many bytes or pixels, damaged, or not a picture.
    """
    if len(data) > MAX_BYTES:
        size = len(data) / 2**20
        raise ImageError(f"expected at most {MAX_BYTES >> 20} MB, found {size:.0f} MB; shrink it")
    pixels = read_image(data, max_pixels=MAX_PIXELS)
    digest = hashlib.sha256(data).hexdigest()[:12]
    picture = Image.fromarray(pixels)
    picture.thumbnail((SIDE, SIDE))
    width, height = picture.size
    origin = f"uploaded picture, SHA-256 {digest}, {width} x {height} pixels"
    return Picture(np.array(picture), f"upload-{digest}", origin)


def drawn(seed: int, size: int = 256) -> Picture:
    """A scene of shapes; the seed is its id, as in the data set (`svit.data.shapes`)."""
    drawing = scene(seed, size)
    origin = f"scene {seed} of the drawn shapes, {size} pixels"
    return Picture(drawing.image, seed, origin, _target(drawing), CLASSES)


def _target(drawing: Scene) -> Target:
    boxes = np.array([_box(mask) for mask in drawing.masks], np.float32)
    areas = drawing.masks.sum(axis=(1, 2)).astype(np.float32)
    return Target(boxes, drawing.labels, drawing.masks, areas=areas)


def _box(mask: np.ndarray) -> tuple[int, int, int, int]:
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return columns[0], rows[0], columns[-1] + 1, rows[-1] + 1


def recorded(run: Run, image_id: ImageId, folders: Sequence[Path] = ()) -> Picture:
    """The picture of a recorded image with the ground truth in its pixels.

    It is the one that was recorded where that is found (`originals.find`), else the JPEG that the run stores,
    in which a model sees a little else.

    Args:
        folders: where the files of the recorded images may lie.

    Raises:
        ImageError: the run stores no pictures, and the original is not here.
    """
    stored, target = run.picture(image_id), run.target(image_id)
    original = originals.find(run, image_id, stored, folders)
    if stored is None and original is None:
        raise ImageError(
            f"{run.path} stores no pictures; name the folder of the recorded files (svit app --pictures), "
            "or record it again with --thumbnail 640"
        )
    pixels, origin = (stored, "as it is stored") if original is None else original
    height, width = pixels.shape[:2]
    if target is not None:
        target = resize_target(target, (height, width))
    record = _record(run, image_id, (height, width), original is not None)
    said = f"image {image_id} of run {run.path.name} {origin}, {width} x {height} pixels"
    return Picture(pixels, image_id, said, target, tuple(run.class_names), record)


def _record(run: Run, image_id: ImageId, hw: tuple[int, int], exact: bool) -> Record:
    found, source = run.detections(image_id), run.provenance
    if found is not None:
        old_h, old_w = run.trace(image_id).grid.image_hw
        scale = np.float32([hw[1] / old_w, hw[0] / old_h] * 2)
        found = replace(found, boxes_xyxy=found.boxes_xyxy * scale)
    masks = str(source.get("intervention", "learned"))
    entry = METHODS.get(str(source.get("method")))
    if masks == "learned" and entry is not None and entry.traits.streams:
        masks = "made in the course of a video, of which Live sees one frame"
    config = source.get("config")
    return Record(
        *(run.path.name, found, str(source.get("weights_sha256", "")), exact, masks),
        weights=str(source.get("weights", "")),
        model=str(config.get("name", "")) if isinstance(config, dict) else "",
        settings=config if isinstance(config, dict) else None,
    )
