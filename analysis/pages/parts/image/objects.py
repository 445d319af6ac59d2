"""The Image page's annotated object: chosen, framed in the picture, and why it is missed."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from analysis.numbers import biography, missed
from analysis.pages.parts import session
from analysis.pages.parts.image.view import View
from analysis.pages.parts.state import State
from svit.core.finding import match
from svit.system.text import escaped

NONE = State.object  # none of the image's annotated ones
HELP = (
    "Frames an annotated object in the picture and chooses one of its tokens: of those that it covers by "
    "half the one that the fewest blocks use. Missed: no detection of its class has the score and a box "
    "IoU of 0.5. “What if?” takes the object to the Live page."
)


def _options(view: View) -> list[int]:
    target = view.sample.target
    return [NONE] if target is None else [NONE, *range(len(target))]


def restore(view: View) -> None:
    """The object of a link or of the view; call it before `box`."""
    session.restore("object", NONE, _options(view))
    session.remember(object=st.session_state["object"])


def chosen() -> int:
    """Index of the object, or `NONE`."""
    return session.now().object


def show(view: View, score: float) -> None:
    """The choice among the annotated objects, and what comes nearest to a missed one."""
    options = _options(view)
    if len(options) == 1:
        return
    labels = told(view, score)
    st.selectbox(
        "Object",
        options,
        key="object",
        format_func=lambda index: labels.get(index, "none"),
        on_change=_choose_token,
        args=(view,),
        help=HELP,
    )
    if chosen() != NONE:  # the field cuts long lines
        st.caption(escaped(labels[chosen()]))


def _choose_token(view: View) -> None:
    """Callback: one of the object's tokens is chosen with it."""
    sample, index = view.sample, st.session_state["object"]
    session.change(object=index)
    if index != NONE:
        session.change(token=biography.token_of_object(sample.trace, sample.target, index))


def told(view: View, score: float) -> dict[int, str]:
    """A line on each object, by its index: class, place, and the detection that finds it or comes nearest."""
    target, found, names = view.sample.target, view.sample.found, view.run.class_names
    hits = None if found is None else match(found, target, score=score).detection
    rows = None if found is None else pd.DataFrame(missed.nearest(found, target))
    near = {} if rows is None else rows.set_index("object").to_dict("index")
    lines = {}
    for index, (label, box) in enumerate(
        zip(target.labels.tolist(), target.boxes_xyxy, strict=True)
    ):
        line = f"{_named(names, label)} at {box[0]:.0f}, {box[1]:.0f}"
        if target.crowd[index]:
            line += ", crowd"
        elif hits is not None and hits[index] >= 0:
            line += f", found with {found.scores[hits[index]]:.2f}"
        elif hits is not None:
            line += f", missed: {missed.MATCHES[near[index]['match']]}"
            if near[index]["match"] != missed.NOTHING:
                other = _named(names, near[index]["match_label"])
                line += " ({} {match_score:.2f}, IoU {match_iou:.2f})".format(other, **near[index])
        lines[index] = line
    return lines


def _named(names: list[str], label: int) -> str:
    return names[label] if label < len(names) else f"class {label}"


def box(view: View) -> pd.DataFrame:
    """The chosen object as a row of `biography.over_token`, of the kind "chosen"; none without one."""
    index = chosen()
    sides = ["left", "top", "right", "bottom"]
    if index == NONE:
        return pd.DataFrame(columns=["kind", "class", *sides])
    target = view.sample.target
    row = {"kind": "chosen", "class": _named(view.run.class_names, int(target.labels[index]))}
    return pd.DataFrame([row | dict(zip(sides, target.boxes_xyxy[index].tolist(), strict=True))])


def with_box(view: View, over: pd.DataFrame) -> pd.DataFrame:
    """`biography.over_token`, and the chosen object."""
    added = box(view)
    parts = [one for one in (over, added) if len(one)]
    return pd.concat(parts, ignore_index=True) if parts else over
