"""Passes over videos: their frames one by one in order, whoever shares them and wherever a pass goes on."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from svit.core.types import FrameId
from svit.data.samples import Images


class FramesError(ValueError):
    """Images are no videos that a method with state could follow; the message says why."""


def frame_batches(
    images: Images, rank: int, world: int, batch: int, limit: int | None
) -> list[list[int]]:
    """Indices of the frames of this rank's videos, one a batch; videos are dealt out in turn.

    Raises:
        FramesError: images are no frames, or not each video's in order.
        ValueError: a batch of several.
    """
    if batch != 1:
        raise ValueError(
            f"a method with state over frames takes them one by one: set the batch to 1, found {batch}"
        )
    videos = _videos(images)
    end = len(images) if limit is None else limit
    return [[place] for video in videos[rank::world] for place in video if place < end]


def led_up_to(frames: Sequence[FrameId | None], wanted: Collection[int]) -> set[int]:
    """The wanted places and those of all earlier frames of their videos."""
    last: dict[object, int] = {}
    for place in sorted(wanted):
        last[frames[place].video] = place
    return {
        place
        for place, frame in enumerate(frames)
        if frame is not None and place <= last.get(frame.video, -1)
    }


def _videos(images: Images) -> list[list[int]]:
    """The places of each video, in order."""
    frames = images.frames or [None] * len(images)
    found: dict[object, list[int]] = {}
    for place, frame in enumerate(frames):
        if frame is None:
            raise FramesError(
                f"image {images.image_ids[place]!r} is no frame of a video, and the method carries state "
                "from frame to frame: it needs a COCO json whose images have video_id and frame_id (a whole "
                "number), as `svit dataset shapes --frames 16` writes it"
            )
        video = found.setdefault(frame.video, [])
        if video and not (place == video[-1] + 1 and frame.number > frames[video[-1]].number):
            raise FramesError(
                f"video {frame.video!r}: image {images.image_ids[place]!r} (frame {frame.number}) is out of "
                "order; list the frames of a video one after the other, by rising frame_id"
            )
        video.append(place)
    return list(found.values())
