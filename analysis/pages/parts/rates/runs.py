"""The Rates page's runs: every evaluation in one table, to sort by any metric or setting."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import streamlit as st

from analysis.pages.parts import session, shell
from analysis.pages.parts.rates import charts, origins
from analysis.sources import evaluations, rates
from analysis.sources.evaluations import Evaluation

ALL = "all"
MASKS = {ALL: "all", "own": "the model's own", "others": "controls and lent ones"}
HELP = (
    "A row an evaluation, of all images and data; those on different images are no competitors. A click on "
    "the head of a column sorts by it, the sign in its corner searches. low and high: the 95 % interval over "
    "images, where it was kept."
)


def show(results: Sequence[Evaluation], folders: Sequence[Path]) -> None:
    """The view.

    Args:
        folders: in which they were found.
    """
    table = origins.sourced(rates.rate_frame(results), results, folders)
    with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
        data = shell.choose_name("Images", "evaluated_on", [ALL, *evaluations.data_groups(results)])
        masks = shell.choose_name("Masks", "masks", list(MASKS))
        session.restore("words", "")
        words = st.text_input("Contains", key="words", placeholder="svit threshold")
        session.remember(words=words)
    rows = table[kept(table, results, data, masks, words)]
    st.markdown(f"##### {len(rows)} of {len(table)} evaluations", help=HELP)
    shown = rows[list(charts.COLUMNS)].rename(columns=charts.COLUMNS)
    st.dataframe(shown, hide_index=True, height=560, column_config=charts.FORMATS)
    shell.downloads("evaluations", rows)


def kept(
    table: pd.DataFrame, results: Sequence[Evaluation], data: str, masks: str, words: str
) -> pd.Series:
    """Which rows of `rates.rate_frame` of the results pass the three filters."""
    keep = pd.Series(True, table.index)
    if data != ALL:
        group = {id(one) for one in evaluations.data_groups(results)[data]}
        keep &= np.array([id(one) in group for one in results])
    if masks != ALL:
        own = {id(one) for one in evaluations.own_masks(results)}
        keep &= np.array([(id(one) in own) == (masks == "own") for one in results])
    told = table[list(charts.COLUMNS)].astype(str).fillna("").agg(" ".join, axis=1)
    told = told.str.casefold()
    for word in words.casefold().split():
        keep &= told.str.contains(word, regex=False)
    return keep
