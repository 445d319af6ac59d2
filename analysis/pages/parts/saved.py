"""Views kept under a name, beside the runs, for everybody who opens the same folders."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import streamlit as st

from analysis.pages.parts import session, shell
from analysis.pages.parts import state as states
from svit.system.files import FileError, read_json, write_json
from svit.system.text import escaped

FILE = "views.json"  # name -> page and query
NAME = "name of the view"  # key of the text field
MOST = 100
HELP = (
    "A saved view is this page's link under a name: what you see now, opened again with a click. It lies in "
    "{file}, so others who open these folders see it, too. What a link cannot hold is left behind."
)


def place() -> Path:
    """Where views lie: in the first chosen folder that is there."""
    folders = shell.folders()
    return next((one for one in folders if one.is_dir()), folders[0]) / FILE


def read(path: Path) -> dict[str, tuple[str, dict[str, str]]]:
    """Name -> page and query parameters; empty without a file.

    Raises:
        FileError: the file is damaged, or holds something else.
    """
    if not path.is_file():
        return {}
    known = read_json(path, "delete it, and save the views anew")
    try:
        return {name: _view(one) for name, one in known.items()}
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise FileError(
            f"{path}: expected a page and a query for each name: delete it, and save the views anew"
        ) from error


def _view(one: dict[str, Any]) -> tuple[str, dict[str, str]]:
    page, query = one["page"], {str(name): str(text) for name, text in one["query"].items()}
    if not Path(shell.page_file(page)).is_file() or Path(page).name != page:
        raise ValueError(page)
    return page, query


def show(page: str) -> None:
    """The saved views and a field to add one, in the sidebar."""
    path = place()
    with st.sidebar.expander("Saved views", icon=":material/bookmark:"):
        try:
            known = read(path)
        except FileError as error:
            st.code(str(error), language=None, wrap_lines=True)
            return
        for name, (where, query) in known.items():
            session.whole(where, query)
            left, right = st.columns([5, 1], vertical_alignment="center")
            left.page_link(shell.page_file(where), label=escaped(name), query_params=query)
            right.button(
                "",
                icon=":material/close:",
                key=f"forget view {name}",
                on_click=_forget,
                args=(path, name),
                type="tertiary",
                help=escaped(f"Forget {name}"),
            )
        st.text_input("Name", key=NAME, max_chars=60, help=HELP.format(file=escaped(str(path))))
        st.button(
            "Save this view", icon=":material/bookmark_add:", on_click=_save, args=(path, page)
        )
        if said := st.session_state.pop("view not saved", ""):
            st.warning(escaped(said))


def _save(path: Path, page: str) -> None:
    """Callback: what is seen gets the name in the field."""
    name = st.session_state[NAME].strip()
    try:
        known = read(path)
        if not name:
            raise ValueError("Give the view a name.")
        if len(known) >= MOST and name not in known:
            raise ValueError(f"{MOST} views are kept already: forget one first.")
        _write(path, {**known, name: (page, states.to_query(session.now(), page))})
        st.session_state[NAME] = ""
    except (FileError, OSError, ValueError) as error:
        st.session_state["view not saved"] = str(error)


def _forget(path: Path, name: str) -> None:
    """Callback: a view less."""
    try:
        _write(path, {one: view for one, view in read(path).items() if one != name})
    except (FileError, OSError) as error:
        st.session_state["view not saved"] = str(error)


def _write(path: Path, views: dict[str, tuple[str, dict[str, str]]]) -> None:
    told = {name: {"page": page, "query": query} for name, (page, query) in views.items()}
    write_json(path, told, indent=2)
