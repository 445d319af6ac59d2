"""Tables as text: written, and read back from documents."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from svit.system import text as markdown

CELLS = st.text(
    st.characters(exclude_characters="|", exclude_categories=("C", "Z")), min_size=1, max_size=8
)


def test_a_table_is_a_head_a_rule_and_rows() -> None:
    assert markdown.table(["a", "b"], [["1", "2"]]) == "| a | b |\n| --- | --- |\n| 1 | 2 |"


@given(st.lists(st.tuples(CELLS, CELLS), max_size=3))
def test_what_was_written_is_read_back(rows: list[tuple[str, str]]) -> None:
    (frame,) = markdown.frames(
        f"Before.\n\n{markdown.table(['one', 'two'], rows)}\n\nAfter | it.\n"
    )
    assert list(frame.columns) == ["one", "two"]
    assert list(frame.itertuples(index=False, name=None)) == rows


def test_tables_come_in_the_order_of_the_document_and_prose_is_left_out() -> None:
    text = "| a |\n| --- |\n| 1 |\n\nprose | with a bar\n\n| b |\n|:--:|\n| 2 |\n| 3 |\n"
    first, second = markdown.frames(text)
    assert first["a"].tolist() == ["1"] and second["b"].tolist() == ["2", "3"]
    assert markdown.frames("no table | here") == []
