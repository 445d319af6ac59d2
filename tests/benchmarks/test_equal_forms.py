"""Every form of what heads compute is measured, and all forms of one thing are equal."""

from __future__ import annotations

from benchmarks import equal_forms


def test_all_forms_are_equal_and_stand_in_one_table(tmp_path):
    equal_forms.main(["--rounds", "1", "--scale", "8", "--out", str(tmp_path / "forms.md")])
    rows = [line.split("|") for line in (tmp_path / "forms.md").read_text().splitlines()[6:]]
    assert len(rows) == 2 + 2 + 3 * len(equal_forms.MAPS) + 5 + 3 * 2 + 2 * len(
        equal_forms.ATTENTIONS
    )
    for row in rows:  # matrices round places in another order (`pooling._samples`)
        assert float(row[4]) < (1e-5 if "matrices" in row[2] else 2e-6)
