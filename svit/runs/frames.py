"""Which images of a run are frames of videos."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from svit.core.slices import FRAME, VIDEO
from svit.core.types import ImageId

COLUMNS = ["image_id", VIDEO, FRAME]


def frames_of(images: pd.DataFrame) -> pd.DataFrame:
    """One row a frame: image_id, `video` (text) and `frame` (int). Videos come as recorded, the frames of
    each by rising number.

    Args:
        images: `Run.images`.
    """
    if not {*COLUMNS} <= {*images}:
        return pd.DataFrame(columns=COLUMNS)
    found = images[COLUMNS].dropna().astype({FRAME: int})
    videos = pd.Categorical(found[VIDEO], categories=found[VIDEO].unique(), ordered=True)
    order = found.assign(place=videos.codes).sort_values(["place", FRAME], kind="stable")
    return order[COLUMNS].reset_index(drop=True)


def videos_of(frames: pd.DataFrame, images: Sequence[ImageId]) -> dict[ImageId, str] | None:
    """The video of each of some images, by which intervals over these are drawn; None unless all are frames.

    Args:
        frames: of `frames_of`.
    """
    found = dict(zip(frames["image_id"], frames[VIDEO], strict=True))
    return {one: found[one] for one in images} if found and {*images} <= found.keys() else None


def drawn_together(
    videos: Mapping[ImageId, ImageId] | None, images: Sequence[ImageId]
) -> np.ndarray | None:
    """int (images,), equal for frames of one video, as `svit.core.statistics.resampled_images` takes it; None
    without videos (`videos_of`)."""
    return None if videos is None else pd.factorize(pd.Index([videos[one] for one in images]))[0]
