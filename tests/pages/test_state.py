"""The typed state of a view and its address: laws over all states, sentences on what is no state."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from analysis.pages.parts import state as states
from analysis.pages.parts.state import FIELDS, LONGEST, Mark, State

PAGES = ("image", "compare", "dataset", "rates", "live")
name = st.text(min_size=1, max_size=8)
stretch = st.sets(st.integers(1, 30), min_size=1).map(tuple)
side = st.floats(-1e6, 1e6)
mark = st.one_of(
    st.builds(Mark, stretch, st.booleans()),
    st.builds(
        Mark, stretch, st.booleans(), st.sets(st.tuples(*[st.integers(0, 9)] * 2)).map(tuple)
    ),
    st.builds(Mark, stretch, st.booleans(), st.none(), st.tuples(*[side] * 4), name),
)
OF_KIND = {
    states.TEXT: name,
    states.TRUTH: st.booleans(),
    states.NAMES: st.lists(name, max_size=3).map(tuple),
    states.TOKEN: st.tuples(st.integers(0, 999), st.integers(0, 999)),
    states.RANGE: st.tuples(st.integers(1, 50), st.integers(1, 50)).map(
        lambda ends: tuple(sorted(ends))
    ),
    states.ENDS: st.tuples(side, side).map(lambda ends: tuple(sorted(ends))),
    states.MARKS: st.lists(mark, max_size=4).map(tuple),
    states.BLOCK: st.integers(1, 99),
    states.INDEX: st.integers(0, 99),
    states.SHARE: st.floats(0, 1),
}
OTHERS = {
    "gallery_page": st.integers(1),
    "error_page": st.integers(1),
    "grid_page": st.integers(1),
    "scene": st.integers(0, 10**12),
    "shift": st.floats(-4, 4),
    "ratio": st.floats(0.05, 1),
    "draw": st.integers(0, 999),
}
values = {
    field: st.just(one.default) | OTHERS.get(field, OF_KIND.get(one.metadata["kind"]))
    for field, one in FIELDS.items()
}


@given(st.builds(State, **values))
def test_an_address_gives_back_the_state_it_was_written_of(state):
    whole = {}
    for page in PAGES:
        query = states.to_query(state, page)
        found, said = states.from_query(query)
        assert not said
        assert {**vars(State()), **found} == {
            **vars(State()),
            **{field: getattr(state, field) for field in states.of_page(page)},
        }
        whole |= found
    assert State(**whole) == state  # every field has a page
    assert all(field in FIELDS for field in whole)


@given(st.dictionaries(st.sampled_from([*FIELDS, "foo", ""]), st.text(max_size=12)))
def test_any_text_is_a_value_or_a_sentence(query):
    found, said = states.from_query(query)
    assert len(found) + len(said) == len(query)
    State(**found)
    for field, value in found.items():  # and a value is one that an address can have
        again, _ = states.from_query({field: states.text_of(field, value)})
        assert again == {field: value}


def test_what_is_unknown_or_out_of_range_gets_a_sentence():
    query = {
        "score": "7",
        "block": "0",
        "token": "0,3",
        "blocks": "9-4",
        "shift": "nan",
        "foo": "1",
    }
    query |= {"marks": "off~0~1:1", "forbid": "yes", "scene": "-1", "opacity": "inf"}
    found, said = states.from_query(query)
    assert not found and len(said) == len(query)
    assert "score “7”, but a number from 0 to 1 is expected" in said[0]
    assert "“foo”, which no page" in said[5]


def test_edits_are_short_in_an_address():
    field = tuple((row, column) for row in range(2, 8) for column in range(3, 15))
    marks = (Mark(tuple(range(4, 13)), False, field), Mark((5,), True))
    text = states.to_query(State(marks=marks), "live")["marks"]
    assert text == "off~4-12~3:4-15 4:4-15 5:4-15 6:4-15 7:4-15 8:4-15|on~5"


def test_edits_too_long_for_an_address_stay_behind_and_are_told():
    many = Mark(
        (4,), False, tuple((row, column) for row in range(60) for column in range(0, 60, 2))
    )
    state = State(marks=(Mark((5,), True), many, many), source="upload")
    query = states.to_query(state, "live")
    assert len(query["marks"]) <= LONGEST and query["marks"] == "on~5"
    edits, upload = states.left_behind(state, "live")
    assert "2 of 3 edits" in edits and "uploaded picture stays behind" in upload
    assert states.left_behind(State(), "live") == states.left_behind(state, "image") == []


def test_another_image_drops_the_object_and_token_of_the_one_before():
    first = states.changed(State(object=3, token=(1, 2)), run="a", image="1")
    assert (first.object, first.token) == (3, (1, 2))  # the image was not known yet
    assert states.changed(first, image="1", block=4).object == 3
    moved = states.changed(first, image="2")
    assert (moved.object, moved.token) == (-1, None)
    assert states.changed(first, run="b", object=5).object == 5
