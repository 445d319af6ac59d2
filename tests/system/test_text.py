"""Tables as text, and text made harmless in Markdown."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from svit.system import text

CELLS = st.text(
    st.characters(exclude_characters="|<", exclude_categories=("C", "Z")), min_size=1, max_size=8
)


def test_blocks_are_named_as_the_paper_counts() -> None:
    assert text.blocks([3]) == "block 4" and text.blocks([11, 3, 4]) == "blocks 4–5, 12"
    assert text.intervened("off", None) == "off"
    assert text.intervened("off", [4]) == "off in block 5"


def test_names_are_in_the_order_of_their_numbers() -> None:
    names = ["run10", "run2", "10", "9", "run2/seed11", "run2/seed3", "b", "²"]
    expected = ["9", "10", "b", "run2", "run2/seed3", "run2/seed11", "run10", "²"]
    assert sorted(names, key=text.in_order) == expected


def test_one_thing_is_told_in_the_singular() -> None:
    assert text.counted(2, "images") == "2 images" and text.counted(1, "categories") == "1 category"
    assert text.counted(0, "objects") == "0 objects"
    assert text.counted(1, "threads") == "1 thread"
    assert text.counted(1, "pictures without masks") == "1 picture without masks"
    assert text.counted(1, "iscrowd added") == "1 iscrowd added"


def test_a_table_is_a_head_a_rule_and_rows() -> None:
    assert text.table(["a", "b"], [["1", "2"]]) == "| a | b |\n| --- | --- |\n| 1 | 2 |"


@given(st.lists(st.tuples(CELLS, CELLS), max_size=3))
def test_every_cell_is_there_in_its_place(rows: list[tuple[str, str]]) -> None:
    head, _, *lines = text.table(["one", "two"], rows).split("\n")
    assert [tuple(cell[1:-1] for cell in line[1:-1].split("|")) for line in lines] == rows
    assert head == "| one | two |"


def test_no_text_from_data_leaves_its_cell() -> None:
    evil = ["a|b", "a\\|b", "two\nlines", "<script>"]
    line = text.table(["a", "b", "c", "d"], [evil]).split("\n")[2:]
    assert line == ["| a\\|b | a\\\\\\|b | two lines | &lt;script> |"]
    assert text.shown(line[0]).endswith("| <script> |")


@given(st.text(max_size=20))
def test_escaped_text_loses_nothing_and_has_no_sign_of_its_own(given: str) -> None:
    made = text.escaped(given)
    assert re.sub(r"\\(.)", r"\1", made, flags=re.DOTALL) == given
    assert not re.search(r"(?<!\\)(?:\\\\)*[<>`*_\[\]]", made)
