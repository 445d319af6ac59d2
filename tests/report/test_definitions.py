"""The page of definitions is what the code says now, and whole."""

from __future__ import annotations

import re

from analysis import definitions, render


def test_the_page_in_docs_is_the_one_the_code_writes():
    assert definitions.PAGE.read_text(encoding="utf-8") == definitions.page(), (
        "docs/analysis.md is old: run `python -m analysis.definitions`"
    )


def test_every_figure_has_a_definition_a_command_and_a_link():
    page = definitions.page()
    for name, entry in render.FIGURES.items():
        assert f"[{name}](#{name})" in page and f"\n## {name}\n" in page
        assert f"analysis.render {name} " in page and entry.summary in page
        section = page.split(f"\n## {name}\n")[1].split("\n## ")[0]
        assert len(section.split("```")[0]) > 80, f"{name} has no definition"


def test_every_picture_of_the_page_is_there():
    pictures = re.findall(r"\]\((img/[^)]+)\)", definitions.page())
    assert len(pictures) == len(definitions.SHOWN)
    assert all((definitions.PAGE.parent / picture).is_file() for picture in pictures)


def test_pictures_are_drawn_from_the_shipped_run(tmp_path, monkeypatch):
    monkeypatch.setattr(definitions, "SHOWN", ("keep",))
    (path,) = definitions.draw_pictures(tmp_path)
    assert path.name == "analysis-keep.png" and path.stat().st_size > 1000
