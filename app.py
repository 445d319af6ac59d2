"""The workbench in the browser: `streamlit run app.py -- --runs DIR`.

Chooses a recorded run and hands its path to the pages in `analysis/pages`, as `st.session_state.run`.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import streamlit as st

from svit.store import find_runs

PAGES = [st.Page("analysis/pages/image.py", title="Image", icon=":material/image:")]


def folders() -> list[Path]:
    """Where runs are looked for, from the command line."""
    parser = argparse.ArgumentParser(prog="streamlit run app.py --")
    wanted = {"nargs": "+", "type": Path, "default": [Path("runs"), Path("demo/runs")]}
    parser.add_argument("--runs", **wanted, help="folders of recorded runs (runs, demo/runs)")
    return parser.parse_args().runs


def main() -> None:
    """Draws the sidebar and the chosen page, or says how to get a first run."""
    st.set_page_config("SViT workbench", ":material/grid_view:", layout="wide")
    page = st.navigation(PAGES)
    paths = [path for folder in folders() for path in find_runs(folder)]
    if not paths:
        looked = " and ".join(str(folder) for folder in folders())
        st.title("No recorded run yet")
        st.text(f"Nothing in {looked}. This makes a first run:")
        st.code("make demo", language="shell")
        st.text("and this records pictures of your own:")
        command = "svit record --model svit-adapter-t --weights FILE --images DIR --out runs/mine"
        st.code(command, language="shell")
        return
    names = [path.name for path in paths]
    labels = {path: path.name if names.count(path.name) == 1 else str(path) for path in paths}
    st.session_state.run = st.sidebar.selectbox("Run", paths, format_func=labels.get)
    page.run()


main()
