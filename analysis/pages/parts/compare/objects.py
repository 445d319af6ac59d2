"""The Compare page's objects: which of them each run finds, against the first run."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import pandas as pd
import streamlit as st

from analysis.numbers import comparison
from analysis.pages.parts import shell
from analysis.pages.parts.compare import panels
from analysis.pages.parts.compare.panels import CHANGE_NAMES, Layout, Title
from analysis.pages.parts.compare.parts import RUN_COLOURS, Comparison, picture
from svit.core.types import Detections, Target
from svit.runs import pairing

MOST_NAMED = 24  # boxes of a picture that have their names beside them: more would hide it
HELP = (
    "Annotated objects against the first run, matched as COCO does at IoU 0.5. new: found here, missed "
    "by the first run; lost: the other way round. Dashed boxes are missed objects; yellow ones are "
    "detections that find no object. The cursor marks an object in every panel."
)


def show(view: Comparison) -> None:
    """The objects each run finds, against the first."""
    st.markdown("##### Objects found and lost", help=HELP)
    try:
        for first, second in combinations(view.runs, 2):
            pairing.check_classes(first, second)
    except pairing.MismatchError as error:
        st.error("These runs look for other objects.", icon=":material/label_off:")
        st.code(str(error), language=None, wrap_lines=True)
        return
    found = [run.detections(view.image_id) for run in view.runs]
    targets = (run.target(view.image_id) for run in view.runs)
    target = next((one for one in targets if one is not None), None)
    if target is None or any(one is None for one in found):
        lacking = "annotations" if target is None else "detections"
        shell.empty(
            f"A run holds no {lacking} of this image. Record a COCO data set:",
            "svit record --weights FILE --coco JSON --image-root DIR --out runs/annotated",
        )
        return
    outcomes = comparison.outcome_frame(found, target, score=view.score)
    classes, titles, parts = view.runs[0].class_names, [], []
    for panel, (name, one) in enumerate(zip(view.names, found, strict=True)):
        mine = outcomes[outcomes["run"] == panel]
        boxes = object_boxes(mine, target, one, classes, view.score)
        parts.append(boxes.assign(panel=panel))
        changes = mine["change"].value_counts()
        gained = f", {changes.get('new', 0)} new, {changes.get('lost', 0)} lost" if panel else ""
        below = f"finds {int(mine['found'].sum())} of {len(mine)}{gained}"
        titles.append(Title(name, below, RUN_COLOURS[panel]))
    many = max(map(len, parts)) > MOST_NAMED
    if many:
        parts = [one.assign(name="") for one in parts]
        st.caption("Too many objects to name in the picture: the cursor names each.")
    layout = Layout(len(view.runs), view.runs[0].trace(view.image_id).grid.image_hw)
    panels.show(
        panels.object_chart(layout, shell.dark()),
        layout,
        "objects",
        picture=picture(view.runs, view.key),
        titles=titles,
        boxes=pd.concat(parts, ignore_index=True),
    )
    named = outcomes.assign(run=[view.names[index] for index in outcomes["run"]])
    shell.downloads(f"compare-objects-{view.image_id}", named)


def object_boxes(
    outcomes: pd.DataFrame, target: Target, found: Detections, classes: Sequence[str], score: float
) -> pd.DataFrame:
    """The boxes of one panel: annotated objects by their change, detections that find none."""

    def name(label: int) -> str:
        return classes[label] if label < len(classes) else f"class {label}"

    rows = []
    for row in outcomes.itertuples():
        sure = f" with score {row.score:.2f}" if row.found else ""
        tip = f"{name(row.label)}: {CHANGE_NAMES[row.change]}{sure}"
        box, said = target.boxes_xyxy[row.object], f" {row.score:.2f}" if row.found else ""
        rows.append([*box, row.object, CHANGE_NAMES[row.change], name(row.label) + said, tip])
    for index in comparison.extras(found, target, score=score):
        said = f"{name(found.labels[index])} {found.scores[index]:.2f}"
        tip = f"{said}: {CHANGE_NAMES['extra']}"
        rows.append([*found.boxes_xyxy[index], -1 - index, CHANGE_NAMES["extra"], said, tip])
    names = ["left", "top", "right", "bottom", "object", "change", "name", "tip"]
    return pd.DataFrame(rows, columns=names).astype({side: float for side in names[:4]})
