"""Names of classes, runs and pictures in figures: shown sign by sign, whatever they mean elsewhere."""

from __future__ import annotations

import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text
from support.drawn import drawn_figures
from support.runs import PROVENANCE, parts

from analysis.render import FIGURES
from analysis.sources.collection import Collection
from svit.runs.run import RunWriter, open_run

EVIL = r"$\frac$ <b> {0} %s 100%"  # a formula that matplotlib would refuse to draw


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Collection:
    folder = tmp_path_factory.mktemp("named")
    for number, method in enumerate(("svit", "dense")):
        provenance = {**PROVENANCE, "class_names": [EVIL, f"{EVIL} 2"], "method": method}
        with RunWriter(folder / f"{EVIL} {number}", provenance) as writer:
            for seed in (1, 2):
                writer.add(**parts(f"{EVIL} {seed}", seed))
    return Collection([open_run(path) for path in sorted(folder.iterdir())])


def words(figure: Figure) -> str:
    return "\n".join(one.get_text() for one in figure.findobj(Text))


@pytest.mark.parametrize("name", FIGURES)
def test_a_name_is_drawn_sign_by_sign(name: str, runs: Collection) -> None:
    for figure in drawn_figures(name, runs):
        if "frac" in words(figure):
            assert r"$\frac$" in words(figure)


def test_names_stand_in_some_figures(runs: Collection) -> None:
    named = [
        name for name in FIGURES if any("frac" in words(one) for one in drawn_figures(name, runs))
    ]
    assert {"heatmap", "regions", "reactivation", "overlap"} <= set(named)
