"""One token's life: a row a run, in words and colours that the pages share."""

from __future__ import annotations

from pathlib import Path

from support.runs import write_run

from analysis.figures.images import life
from analysis.numbers import comparison


def test_every_run_has_a_square_a_block_in_the_words_of_its_state(tmp_path: Path):
    trace = write_run(tmp_path / "run", (3,)).trace(3)
    table = life.frame({"one": trace, "two": trace}, (0, 1))
    assert table["run"].value_counts().to_dict() == {"one": trace.layers, "two": trace.layers}
    states = [comparison.STATES[code] for code in comparison.lives(trace)[:, 0, 1]]
    assert table["word"].tolist()[: trace.layers] == [life.STATES[one][0] for one in states]


def test_a_single_run_needs_no_name_beside_its_strip():
    squares = [life.screen(runs).to_dict()["layer"][0]["encoding"] for runs in (1, 3)]
    assert squares[0]["y"]["axis"]["labels"] is False and "labels" not in squares[1]["y"]["axis"]
    words = squares[0]["color"]["scale"]["domain"]
    assert words == [word for word, _ in life.STATES.values()]
    assert set(comparison.STATES) == set(life.STATES)
