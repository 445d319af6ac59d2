"""What the parts of the Dataset page share: the run, thumbnails, links to the Image page, advice."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import altair as alt
import pandas as pd
import streamlit as st

from analysis.figures.canvas import token_maps
from analysis.numbers import per_image
from analysis.pages.parts import session, shell
from analysis.pages.parts.image.gallery import small
from svit.core.types import ImageId
from svit.runs import shards
from svit.runs.run import Run
from svit.system.text import escaped

IMAGE_PAGE = shell.page_file("image")
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


def link(run: Run, image_id: ImageId, **more: object) -> dict[str, str]:
    """Query parameters of the Image page that shows an image of a run, and more fields, such as a block."""
    return session.link(run=shell.run_name(run.path), image=str(image_id), **more)


def unannotated(what: str) -> None:
    """The empty state of a part that needs what the run lacks."""
    shell.empty(f"This run holds no {what}. Record a COCO data set:", NOTHING)


@st.cache_data(max_entries=600, show_spinner=False)
def object_crop(
    _run: Run,
    key: tuple,
    image_id: ImageId,
    index: int,
    block: int = 0,
    side: int = 128,
    _masks: Run | None = None,
) -> bytes | None:
    """A JPEG around an annotated object; with a block, its pruned tokens are covered.

    Args:
        key: also of the run of the masks.
        _masks: the run that prunes, where it is another one.
    """
    ((picture, target),) = _run.samples("picture", "target", ids=[image_id])
    if picture is None or target is None:
        return None
    trace = (_masks or _run).trace(image_id, numbers=False)
    masks = per_image.states_at(trace, block) if block else (None, None)
    pixels = token_maps.crop(picture, trace.grid, target.boxes_xyxy[index], *masks, side=side)
    return shards.jpeg(pixels, side)


def gallery(
    survey: Survey, rows: Sequence[dict[str, Any]], maps: bool = False, **more: object
) -> None:
    """Thumbnails in rows of `ACROSS`, each with a link to its image.

    Args:
        rows: `image_id`, `text` in front of it, `object` to cut one out, and `below`, more words.
        maps: usage maps in place of pictures.
        more: fields of the view that the links open.
    """
    for start in range(0, len(rows), ACROSS):
        for place, row in zip(st.columns(ACROSS, gap="small"), rows[start : start + ACROSS]):
            image_id = row["image_id"]
            if "object" in row:
                jpeg = object_crop(survey.run, survey.key, image_id, row["object"])
            else:
                jpeg = small(survey.run, survey.key, image_id, 220, maps)
            with place.container(gap="xsmall"):
                if jpeg is not None:
                    told = ": ".join(filter(None, (f"Image {image_id}", row["text"])))
                    st.image(jpeg, width="stretch", alt=told)
                value = row["text"] and f"**{escaped(row['text'])}**"
                st.page_link(
                    IMAGE_PAGE,
                    label=" · ".join(filter(None, (value, escaped(str(image_id))))),
                    query_params=link(survey.run, image_id, **more),
                    help=f"Opens image {escaped(str(image_id))}.",
                )
                if "below" in row:
                    st.caption(escaped(row["below"]))


def show_extremes(
    survey: Survey, ranked: pd.DataFrame, text: str, name: str, **more: object
) -> None:
    """Both ends of a ranked frame (image_id, value, maybe object) as galleries.

    Args:
        text: how `value` is written, such as "{:.0%}".
        name: of the value.
        more: fields of the view that the links open.
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
            gallery(survey, [row | {"text": text.format(row["value"])} for row in records], **more)


def clickable(chart: alt.TopLevelMixin, key: str, chosen: Callable[[], None] | str) -> None:
    """A chart whose marks are clicked (`clicked_point` tells which); `chosen` is called then, or the page run
    again ("rerun")."""
    st.altair_chart(chart, width="stretch", key=key, on_select=chosen, selection_mode=["picked"])


def clicked_point(key: str, *fields: str) -> dict[str, Any] | None:
    """What was clicked in the chart of a key, or None."""
    points = st.session_state.get(key, {}).get("selection", {}).get("picked", [])
    if points and all(field in points[0] for field in fields):
        return points[0]
    return None
