"""Whether pages may set a run beside another one."""

from __future__ import annotations

import streamlit as st

from svit.runs import pairing
from svit.runs.run import Run


def refusal(first: Run, second: Run, labels: bool = False) -> str:
    """Why the pictures of two runs are not the same (`pairing.check_pictures`), or, with `labels`, their
    classes; "" where they are. Raises `RunError` for a damaged one."""
    key = tuple((str(r.path), r.created, len(r), r.finished) for r in (first, second))
    return _refusal(first, second, labels, key)


@st.cache_data(max_entries=128, show_spinner=False)
def _refusal(_first: Run, _second: Run, labels: bool, key: tuple) -> str:
    try:
        pairing.check_pictures(_first, _second)
        if labels:
            pairing.check_classes(_first, _second)
    except pairing.MismatchError as error:
        return str(error)
    return ""
