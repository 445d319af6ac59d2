"""The workbench in the browser: `streamlit run app.py -- --runs DIR`. Its pages are in `analysis/pages`."""

from __future__ import annotations

from pathlib import Path

import streamlit as st

import analysis.pages
from analysis.pages.parts import saved, session

FOLDER = Path(analysis.pages.__file__).parent
PAGES = {  # file in analysis/pages -> title, icon
    "image": ("Image", ":material/image:"),
    "compare": ("Compare", ":material/compare:"),
    "dataset": ("Dataset", ":material/dataset:"),
    "rates": ("Rates", ":material/monitoring:"),
    "live": ("Live", ":material/play_circle:"),
}


def pages() -> list[st.Page]:
    """The pages that are installed, in the order of the menu."""
    known = [(FOLDER / f"{name}.py", *about) for name, about in PAGES.items()]
    return [st.Page(file, title=title, icon=icon) for file, title, icon in known if file.exists()]


st.set_page_config("SViT workbench", "🔲", layout="wide")
st.html(FOLDER / "app.css")
chosen = st.navigation(pages())
page = chosen.url_path or next(iter(PAGES))
session.arrive(page)
chosen.run()
saved.show(page)
session.share()
session.leave()
