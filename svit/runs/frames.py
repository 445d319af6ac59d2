"""Which images of a run are frames of videos."""

from __future__ import annotations

import pandas as pd

from svit.core.slices import FRAME, VIDEO

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
