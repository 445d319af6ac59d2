"""The table of methods: traits, presets of every row on every body, the rows of the paper's tables."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import pytest

from svit.cli import main, presets
from svit.core.catalogue import METHODS, ROWS, stages, sweep
from svit.core.presets import PRESETS
from svit.pruning import method_class
from svit.pruning.base import Method

PAGE = Path(presets.__file__).parents[2] / "docs" / "comparison.md"
RETAINED = ("preserve", "remove")
BY_NAME = {row.name: row for row in ROWS}


@pytest.mark.parametrize("name", METHODS)
def test_every_method_is_one_class_in_a_file_that_names_its_source(name: str) -> None:
    entry = METHODS[name]
    assert entry.name == name and issubclass(method_class(name), Method)
    assert entry.rows and all(row.method == name for row in entry.rows)
    assert entry.paper and method_class(name).__doc__


def test_every_row_is_a_preset_on_every_body() -> None:
    assert len({row.name for row in ROWS}) == len(ROWS)
    bodies = [*product(("plain", "adapter"), ("nano", "nuclei", "t", "s")), ("plain", "fine")]
    for body, row in product(bodies, ROWS):
        config = PRESETS[row.preset(*body)]
        assert config.pruning.method == row.method
        assert dict(row.options).items() <= config.pruning.options.items()
    assert len(PRESETS) == len(bodies) * len(ROWS)


def test_rows_of_table_3_differ_in_rate_and_reactivation_alone() -> None:
    """Paper Table 3: dynamic and reactivation, each on and off."""
    names = ("svit", "svit-fixed", "svit-inherit", "svit-fixed-inherit")
    answers = [(BY_NAME[n].traits.dynamic_rate, BY_NAME[n].traits.reactivates) for n in names]
    assert answers == [(True, True), (False, True), (True, False), (False, False)]


def test_the_sweep_has_the_base_ratios_of_figure_7() -> None:
    assert [row.options["keep_ratios"][0] for row in sweep()] == [0.5, 0.6, 0.8, 0.9]
    assert stages(0.7) == [0.7] * 3 + [0.49] * 3 + [0.343] * 3
    assert stages(0.6)[-1] == 0.216 and stages(0.5)[-1] == 0.125  # paper 4.3


def test_methods_declare_what_the_paper_s_table_1_says_of_them() -> None:
    printed = {  # selection; dynamic rate, preserve, reactivate (Evo-ViT could in theory: note 2)
        "svit": ("gate", True, True, True),
        "dynamicvit": ("gate", False, False, False),
        "ats": ("attention", True, False, False),
        "evovit": ("attention", False, True, False),
        "evit": ("attention", False, False, False),
    }
    for name, (selection, *answers) in printed.items():
        traits = METHODS[name].traits
        assert traits.selection == selection
        assert [traits.dynamic_rate, traits.preserves, traits.reactivates] == answers


def test_variants_are_called_by_what_their_options_change() -> None:
    found = {row.name: METHODS[row.method].variant(row.options) for row in ROWS}
    expected = {
        **{name: "" for name in ("svit", "dense", "evovit", "random", "magnitude")},
        **{f"{name}-{kind}": kind for name in ("dynamicvit", "evit", "ats") for kind in RETAINED},
        "svit-fixed": "fixed",
        "svit-inherit": "inherit",
        "svit-fixed-inherit": "fixed+inherit",
        "svit-localglobal": "gate local_global",
        "svit-headweighted": "gate head_weighted",
        "random-inherit": "inherit",
    }
    assert expected.items() <= found.items()
    assert METHODS["evit"].variant({}) == "remove"  # what its constructor takes without a word
    assert METHODS["svit"].variant({"ratio_loss": "dynamic", "inherit": False, "gate": "mlp"}) == ""


def test_the_rows_are_rendered_with_what_table_1_says_of_them(capsys) -> None:
    assert main.main(["presets", "--rows"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("| row | by | selection | dynamic rate | preserved | reactivated |")
    assert {
        "| ats-preserve | ATS, Fayyaz et al., ECCV 2022 | attention | yes | yes | no | Table 2 |",
        "| svit-fixed-inherit | SViT, Liu et al., WACV 2024 | gate | no | yes | no | Table 3 |",
        "| dense | DeiT, Touvron et al., ICML 2021 | none | – | – | – | Table 5, Fig. 7 |",
    } <= set(lines)
    assert len(lines) == 2 + len(ROWS)


def test_the_comparison_s_page_holds_the_rows_as_the_command_writes_them(tmp_path) -> None:
    page, copy = PAGE.read_text(encoding="utf-8"), tmp_path / "comparison.md"
    copy.write_text(page.replace("| random | a", "| dice | a"), encoding="utf-8")
    assert main.main(["presets", "--rows", str(copy)]) == 0
    assert copy.read_text(encoding="utf-8") == page, (
        "docs/comparison.md is old: run `svit presets --rows docs/comparison.md`"
    )
    copy.write_text("nothing\n", encoding="utf-8")
    assert main.main(["presets", "--rows", str(copy)]) == 2  # said in a sentence, nothing written
    assert copy.read_text(encoding="utf-8") == "nothing\n"
