"""Slices: texts of an image's entry in a COCO json by which images are grouped, as `kind: histology`.

In a run they are extra numbers of an image, each the mark of one membership: `kind=histology` is 1. So
every program that reads runs can group by them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from svit.core.types import FrameId, ImageId

VIDEO, FRAME = "video", "frame"  # of a frame, in a run: the mark of its video, and its number
MOST = 12  # different texts a field may have
_NO_SLICES = ("file_name",)


def slices_of(images: Sequence[Mapping[str, Any]]) -> dict[str, list[str]]:
    """Field -> its text in each entry: of every field that is a text in all of them and repeats itself.

    A field with more than `MOST` different texts, or more than half as many as there are images, names
    images (a source, a date) instead of grouping them.
    """
    found = {}
    for field in images[0] if images else ():
        texts = [image.get(field) for image in images]
        plain = field not in _NO_SLICES and all(isinstance(text, str) for text in texts)
        if plain and len(set(texts)) <= min(MOST, len(texts) / 2):
            found[field] = texts
    return found


def crowding(objects: Mapping[ImageId, int]) -> dict[ImageId, str]:
    """Image id -> "crowded" where it has more objects than the median image, else "sparse"."""
    middle = float(np.median(list(objects.values()) or [0]))
    return {one: "crowded" if count > middle else "sparse" for one, count in objects.items()}


def frame_of(image: Mapping[str, Any]) -> FrameId | None:
    """Which frame an entry of a COCO json is, by fields as MMTracking's CocoVID has them; other programs use
    the same names for other things."""
    video, number = image.get("video_id"), image.get("frame_id")
    good = type(video) in (int, str) and type(number) is int and number >= 0
    return FrameId(video, number) if good else None


def videos_of(images: Sequence[Mapping[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """The list of videos that entries of a COCO json name, as CocoVID has it; nothing of still pictures."""
    ids = dict.fromkeys(image.get("video_id") for image in images)
    found = [{"id": video, "name": str(video)} for video in ids if video is not None]
    return {"videos": found} if found else {}


def marked(slices: Mapping[str, str]) -> dict[str, float]:
    """Of one image: field -> text, as extra numbers of a run."""
    return {f"{field}={text}": 1.0 for field, text in slices.items()}


def marked_frame(frame: FrameId | None) -> dict[str, float]:
    """Of one image: its video, marked as a slice is, and its number in it; nothing of a picture alone."""
    if frame is None:
        return {}
    return {f"{VIDEO}={frame.video}": 1.0, FRAME: float(frame.number)}


def unmarked(extra: Mapping[str, float]) -> dict[str, float | str]:
    """Extra numbers of an image with its slices as texts: inverse of `marked`."""
    found: dict[str, float | str] = {}
    for name, value in extra.items():
        field, is_mark, text = name.partition("=")
        found[field] = text if is_mark else value
    return found
