"""The registry: a file is a figure, under its own name; nothing else has to be told."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest

from analysis import figures, render
from analysis.figures import registry
from analysis.figures.tokens import reactivation

ONE_FILE = {
    name: entry
    for name, entry in registry.entries().items()
    if hasattr(importlib.import_module(entry.draw.__module__), "ENTRY")
}

ADDED = '''"""What a stranger counts.

Tokens / tokens.
"""

from analysis.figures.output import Entry
from analysis.sources.collection import RUN

ENTRY = Entry("a stranger's figure", lambda run, options: iter(()), RUN, __doc__)
'''


def test_a_figure_is_named_as_its_file():
    assert render.FIGURES["reactivation"] is reactivation.ENTRY


def test_a_file_is_all_that_a_figure_takes(tmp_path, monkeypatch):
    (tmp_path / "count_of_all.py").write_text(ADDED)
    monkeypatch.setattr(figures, "__path__", [*figures.__path__, str(tmp_path)])
    found = registry.entries()["count-of-all"]
    assert found.definition == "What a stranger counts.\n\nTokens / tokens."
    monkeypatch.delitem(sys.modules, "analysis.figures.count_of_all")


def test_two_figures_of_one_name_are_refused(tmp_path, monkeypatch):
    (tmp_path / "keep.py").write_text(ADDED)
    monkeypatch.setattr(figures, "__path__", [*figures.__path__, str(tmp_path)])
    with pytest.raises(ValueError, match="figure keep already"):
        registry.entries()
    monkeypatch.delitem(sys.modules, "analysis.figures.keep")


@pytest.mark.parametrize("name", ONE_FILE)
def test_a_figure_has_its_definition_numbers_and_drawing_in_its_file(name: str):
    entry = ONE_FILE[name]
    module = importlib.import_module(entry.draw.__module__)
    assert module.__name__.rpartition(".")[2].replace("_", "-") == name
    assert module.ENTRY is entry and entry.about == module.__doc__
    assert callable(module.frame) and callable(module.print)


@pytest.mark.parametrize("name", registry.entries())
def test_a_figure_says_what_it_shows(name: str):
    first, *_ = registry.entries()[name].definition.split("\n\n")
    assert len(first) > 20 and first.endswith((".", "?"))


def test_a_chart_on_screen_says_what_it_shows_to_those_who_hear_the_page():
    """Read in the files: charts of pages that are no figure of a run have a name, too."""
    root = Path(figures.__file__).parent
    texts = {path: path.read_text(encoding="utf-8") for path in root.rglob("*.py")}
    charts = {path.name: text for path, text in texts.items() if "\ndef screen" in text}
    assert len(charts) > 8
    silent = [name for name, text in charts.items() if "description=" not in text]
    assert silent == []
