"""The table of methods: traits, presets of every row on every body, the rows of the paper's tables."""

from __future__ import annotations

from pathlib import Path

from svit.cli import main, presets
from svit.core.catalogue import ROWS, TRAITS, stages, sweep
from svit.core.config import PRESETS
from svit.pruning import METHODS

BY_NAME = {row.name: row for row in ROWS}


def test_every_method_has_traits_and_every_row_a_preset_on_every_body() -> None:
    assert set(TRAITS) == set(METHODS) == {row.method for row in ROWS}
    for neck in ("plain", "adapter"):
        for size in ("nano", "t", "s"):
            for row in ROWS:
                config = PRESETS[row.preset(neck, size)]
                assert config.pruning.method == row.method
                assert dict(row.options).items() <= config.pruning.options.items()
    assert len(PRESETS) == 6 * len(ROWS)


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
        traits = TRAITS[name]
        assert traits.selection == selection
        assert [traits.dynamic_rate, traits.preserves, traits.reactivates] == answers


def test_the_rows_are_rendered_and_the_comparison_s_page_shows_them(capsys) -> None:
    assert main.main(["presets", "--rows"]) == 0
    text = capsys.readouterr().out
    assert "| ats-preserve | attention | yes | yes | no | Table 2 |" in text.splitlines()
    assert "| svit-fixed-inherit | gate | no | yes | no | Table 3 |" in text.splitlines()
    assert "| dense | none | – | – | – | Table 5, Fig. 7 |" in text.splitlines()
    assert len(text.splitlines()) == 2 + len(ROWS)
    page = Path(presets.__file__).parents[2] / "docs" / "comparison.md"
    assert text in page.read_text(encoding="utf-8")
