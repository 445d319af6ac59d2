"""A whole run: where its tokens go, on objects and images, and whether missed objects had lost theirs."""

from __future__ import annotations

import streamlit as st

from analysis.pages import dataset_budget, dataset_errors, dataset_objects, dataset_tokens, shell
from analysis.pages.dataset_parts import Survey
from svit.store import Run

PARTS = {
    "Tokens": dataset_tokens.show,
    "Objects": dataset_objects.show,
    "Budget": dataset_budget.show,
    "Errors": dataset_errors.show,
}
HELP = (
    "Tokens: usage, keep ratios, reactivation. Objects: tokens inside and outside objects, by size and "
    "class. Budget: tokens against the complexity of the image. Errors: missed objects and what their "
    "tokens did."
)


def show(run: Run) -> None:
    """The page of a run that has images."""
    classes = f" · {len(run.class_names)} classes" if run.class_names else ""
    objects = run.images["objects"].sum()
    annotated = f" · {objects:,} annotated objects" if objects else ""
    with st.container(horizontal=True, vertical_alignment="bottom"):
        st.subheader("Data set", anchor=False, width="content")
        size = f"{len(run):,} images{annotated}{classes} · {run.layers} blocks"
        st.caption(size, width="content")
    PARTS[shell.choose_part("part", PARTS, HELP)](Survey(run))


shell.one_run(show)
