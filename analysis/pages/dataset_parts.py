"""What the parts of the Dataset page share: the run, thumbnails, links to the Image page, advice."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import streamlit as st
from PIL import Image

from analysis import drilldown
from analysis.pages import shell
from svit.store import Run
from svit.types import ImageId

IMAGE_PAGE = "analysis/pages/image.py"
ACROSS, SHOWN = 6, 6  # thumbnails in a row, and of each end of a list
NOTHING = "svit record --weights FILE --coco JSON --image-root DIR --out runs/annotated"


@dataclass(frozen=True)
class Survey:
    """The run a page is about."""

    run: Run

    @property
    def key(self) -> tuple:
        """Names the run for the caches."""
        run = self.run
        return (str(run.path), run.created, len(run), run.finished, len(run.skipped))

    def has(self, name: str) -> bool:
        """Whether some image holds "objects" or "detections"."""
        return bool(self.run.images[name].notna().any())


def link(run: Run, image_id: ImageId) -> dict[str, str]:
    """Query parameters of the Image page that shows an image of a run."""
    names = {path: name for name, path in shell.labels(shell.runs()).items()}
    return {"run": names[run.path], "image": str(image_id)}


def unannotated(what: str) -> None:
    """The empty state of a part that needs what the run lacks."""
    shell.empty(f"This run holds no {what}. Record a COCO data set:", NOTHING)


@st.cache_data(max_entries=400, show_spinner=False)
def thumbnail(_run: Run, key: tuple, image_id: ImageId, side: int = 220) -> bytes | None:
    """A small JPEG of an image; None without a stored picture."""
    picture = _run.picture(image_id)
    if picture is None:
        return None
    small = Image.fromarray(picture)
    small.thumbnail((side, side))
    return _jpeg(small)


@st.cache_data(max_entries=600, show_spinner=False)
def object_crop(
    _run: Run, key: tuple, image_id: ImageId, index: int, block: int = 0, side: int = 128
) -> bytes | None:
    """A JPEG around an annotated object; with a block, its pruned tokens are covered."""
    picture, target = _run.picture(image_id), _run.target(image_id)
    if picture is None or target is None:
        return None
    trace = _run.trace(image_id)
    masks = drilldown.states_at(trace, block) if block else (None, None)
    pixels = drilldown.crop(picture, trace.grid, target.boxes_xyxy[index], *masks, side=side)
    return _jpeg(Image.fromarray(pixels))


def _jpeg(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.convert("RGB").save(buffer, "JPEG", quality=86)
    return buffer.getvalue()


def address(jpeg: bytes | None) -> str | None:
    """A JPEG as a data address, for tables."""
    return None if jpeg is None else "data:image/jpeg;base64," + base64.b64encode(jpeg).decode()


def gallery(survey: Survey, rows: Sequence[dict[str, Any]]) -> None:
    """Thumbnails in rows of `ACROSS`, each with a link to its image.

    Args:
        rows: `image_id`, `text` under the picture, and `object` to cut one out.
    """
    for start in range(0, len(rows), ACROSS):
        for place, row in zip(st.columns(ACROSS, gap="small"), rows[start : start + ACROSS]):
            with place:
                if "object" in row:
                    jpeg = object_crop(survey.run, survey.key, row["image_id"], row["object"])
                else:
                    jpeg = thumbnail(survey.run, survey.key, row["image_id"])
                if jpeg is not None:
                    st.image(jpeg, width="stretch")
                st.caption(shell.plain(row["text"]))
                st.page_link(
                    IMAGE_PAGE,
                    label=shell.plain(str(row["image_id"])),
                    icon=":material/open_in_new:",
                    query_params=link(survey.run, row["image_id"]),
                )


def ends(survey: Survey, ranked: pd.DataFrame, text: str, name: str) -> None:
    """Both ends of a ranked frame (image_id, value, maybe object) as galleries.

    Args:
        text: how `value` is written, such as "{:.0%}".
        name: of the value.
    """
    if ranked.empty:
        st.caption("No image has such tokens.")
        return
    top = ranked.head(SHOWN)
    bottom = ranked.iloc[len(top) :].tail(SHOWN)[::-1]
    for rows, which in ((top, "Most"), (bottom, "Least")):
        if len(rows):
            st.markdown(f"###### {which} {name}")
            records = rows.to_dict("records")
            gallery(survey, [row | {"text": text.format(row["value"])} for row in records])


def picked(key: str, *fields: str) -> dict[str, Any] | None:
    """What was clicked in the chart of a key, or None."""
    points = st.session_state.get(key, {}).get("selection", {}).get("picked", [])
    if points and all(field in points[0] for field in fields):
        return points[0]
    return None


def whole(value: Any) -> Any:
    """A number out of a frame or a chart as plain int, text as it is."""
    return int(value) if isinstance(value, (int, float, np.integer)) else value
