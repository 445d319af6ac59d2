"""A whole run: where its tokens go, on objects and images, and whether missed objects had lost theirs."""

from __future__ import annotations

import streamlit as st

from analysis.pages.parts import shell
from analysis.pages.parts.dataset import budget, errors, figures, images, tokens
from analysis.pages.parts.dataset import objects as dataset_objects
from analysis.pages.parts.dataset.parts import Survey
from svit.runs.run import Run
from svit.system.text import counted

PARTS = {
    "Tokens": tokens.show,
    "Objects": dataset_objects.show,
    "Budget": budget.show,
    "Errors": errors.show,
    "Images": images.show,
    "Figures": figures.show,
}
HELP = (
    "Tokens: usage, keep ratios, reactivation. Objects: tokens inside and outside objects, by size and "
    "class. Budget: tokens against the complexity of the image. Errors: missed objects, why, and what their "
    "tokens did. Images: a grid to filter by kept tokens, errors and confidence. Figures: every figure of "
    "the command, with its files."
)


def show(run: Run) -> None:
    """The page of a run that has images."""
    classes = f" · {counted(len(run.class_names), 'classes')}" if run.class_names else ""
    objects = run.images["objects"].sum()
    annotated = f" · {counted(objects, 'annotated objects')}" if objects else ""
    with st.container(horizontal=True, vertical_alignment="bottom"):
        st.subheader("Data set", anchor=False, width="content")
        size = f"{counted(len(run), 'images')}{annotated}{classes} · {run.layers} blocks"
        st.caption(size, width="content")
    PARTS[shell.choose_part("part", PARTS, HELP)](Survey(run))


shell.one_run(show)
