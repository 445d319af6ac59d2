"""The Image page's frame slider: the frames of the video that the image belongs to."""

from __future__ import annotations

import streamlit as st

from analysis.pages.parts import session
from analysis.pages.parts.image.view import run_key
from analysis.tokens import frames
from svit.core.types import ImageId
from svit.runs.run import Run
from svit.system.text import escaped

REUSED = (
    "This method carries state from frame to frame: a token that a block does not use takes "
    "what the block made of it when it last did."
)


@st.cache_data(max_entries=4, show_spinner=False)
def listed(_run: Run, key: tuple) -> list[frames.Video]:
    """`frames.videos`, once a run."""
    return frames.videos(_run)


def show(run: Run, image_id: ImageId) -> None:
    """The slider; moving it shows another frame. Nothing for pictures alone and videos of one frame."""
    found = listed(run, run_key(run))
    video = next((one for one in found if image_id in one.image_ids), None)
    if video is None or len(video.image_ids) < 2:
        return
    image_of = dict(zip(video.numbers, video.image_ids, strict=True))
    widget = f"frame {run_key(run)} {video.name}"
    st.session_state[widget] = video.numbers[video.image_ids.index(image_id)]

    def moved() -> None:
        session.change(image=str(image_of[st.session_state[widget]]))

    st.select_slider(
        f"Frame of video {escaped(video.name)}",
        video.numbers,
        key=widget,
        on_change=moved,
        help="Once it has the focus, the arrow keys move it. Block, map and token stay.",
    )
    if frames.reuses(run):
        st.caption(REUSED)
