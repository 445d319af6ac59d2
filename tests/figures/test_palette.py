"""One palette by meaning: colours that must be told apart are, by everybody; words can be read."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from support.colour import STYLE, VIEWERS, contrast, difference, distances, texts

from analysis.figures import palette

ANALYSIS = Path(palette.__file__).parents[1]
GROUNDS = {"paper": "#ffffff", "dark page": "#0e1117"}


@pytest.mark.parametrize(
    ("first", "second", "expected"),  # of the table in Sharma, Wu, Dalal 2005
    [
        ((50, 2.6772, -79.7751), (50, 0, -82.7485), 2.0425),
        ((50, 2.5, 0), (73, 25, -18), 27.1492),
        ((60.2574, -34.0099, 36.2677), (60.4626, -34.1751, 39.4387), 1.2644),
        ((22.7233, 20.0904, -46.6940), (23.0331, 14.9730, -42.5619), 2.0373),
    ],
)
def test_the_difference_is_that_of_the_published_table(first, second, expected):
    assert difference(np.array(first), np.array(second)) == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("colours", palette.APART, ids=lambda colours: "-".join(colours)[:40])
def test_what_stands_in_one_chart_is_told_apart(colours: tuple[str, ...]):
    for one, other, seen in distances(colours):
        assert len(seen) == len(VIEWERS) and min(seen.values()) >= 11, (one, other, seen)


def test_soft_words_of_charts_follow_the_ink_of_the_theme():
    assert f'text[fill="{palette.SOFT}"]' in STYLE.read_text(encoding="utf-8")


def test_words_of_the_app_are_read_in_both_themes():
    table = list(texts())
    assert {theme for theme, *_ in table} == {"light", "dark"}
    assert any("soft" in text for _, text, *_ in table)
    assert [row for row in table if row[-1] < 4.5] == []


def test_words_are_read_on_their_grounds():
    assert contrast(palette.INK, GROUNDS["paper"]) >= 7
    assert contrast(palette.SOFT, GROUNDS["paper"]) >= 4.5
    assert contrast(palette.SOFT, GROUNDS["dark page"]) >= 4
    assert contrast(palette.PALE, GROUNDS["dark page"]) >= 4.5
    assert contrast(palette.SLATE, GROUNDS["paper"]) >= 4.5


@pytest.mark.parametrize("colour", [*palette.LINES, *palette.RUNS, palette.GAINED, palette.LOST])
def test_words_on_a_colour_are_read(colour: str):
    assert contrast(palette.words_on(colour), colour) >= 4.25
    others = {palette.DARK, palette.LIGHT} - {palette.words_on(colour)}
    assert contrast(others.pop(), colour) <= contrast(palette.words_on(colour), colour)


@pytest.mark.parametrize("name", ["GAINED", "LOST", "AGREES", "DISAGREES", "SOFT"])
def test_cells_of_tables_are_read_on_any_theme(name: str):
    colour = getattr(palette, name)
    assert contrast(palette.words_on(colour), colour) >= 4.5 and colour in palette.cell(colour)


def test_a_colour_has_one_meaning():
    groups = [
        "USED",
        "LATER",
        "NEXT",
        "NEVER",
        "PRUNED",
        "CARRIED",
        "BELOW",
        "INSIDE",
        "CONTOUR",
        "BACKGROUND",
        "FOUND",
        "MISSED",
    ]
    groups += ["GAINED", "LOST", "ONLY_FIRST", "ONLY_SECOND", "HERE", "HOVER", "BLOCKS", "CHOOSING"]
    named = [getattr(palette, name) for name in groups] + list(palette.LINES)
    assert len(named) == len(set(named))


ALLOWED = {  # file -> why it holds colours of its own
    "figures/palette.py": "the palette",
    "figures/canvas/token_maps.py": "veil and ground, no meaning",
    "figures/rates/stages.py": "fourteen stages of the network",
    "pages/parts/shell.py": "inks of the dark theme",
}


def test_colours_stand_in_the_palette():
    found = {
        path.relative_to(ANALYSIS).as_posix()
        for path in ANALYSIS.rglob("*.py")
        if re.search(r'"#[0-9a-fA-F]{6}"', path.read_text(encoding="utf-8"))
    }
    assert found <= set(ALLOWED), "colours without a meaning"
