"""Classes go by their names: orders, subsets and empty extras map and are told, all else is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from svit.core.config import DataConfig
from svit.data.classes import ClassError, match_classes, read_class_map
from svit.data.coco import CocoDataset

NAMES = ["circle", "square", "triangle"]


def test_equal_lists_keep_their_labels_without_a_word() -> None:
    match = match_classes(NAMES, NAMES)
    assert match.labels == (0, 1, 2) and match.notes == ()


@given(st.permutations(NAMES))
def test_any_order_is_matched_by_name(names: list[str]) -> None:
    match = match_classes(names, NAMES)
    assert [NAMES[label] for label in match.labels] == names
    assert bool(match.notes) == (names != NAMES)


def test_a_subset_maps_and_what_is_not_there_is_told() -> None:
    match = match_classes(["triangle", "circle"], NAMES)
    assert match.labels == (2, 0)
    assert "does not have: 'square'" in match.notes[-1]


def test_an_extra_class_without_objects_is_left_out_and_told() -> None:
    """As Roboflow writes the project's name as category 0."""
    match = match_classes(["shapes", *NAMES], NAMES, objects=[0, 4, 4, 4])
    assert match.labels == (None, 0, 1, 2)
    assert "left out: 'shapes'" in " ".join(match.notes)


def test_an_empty_extra_class_may_repeat_a_name_and_takes_nothing_from_its_namesake() -> None:
    before = match_classes(["circle", *NAMES], NAMES, objects=[0, 4, 4, 4])
    after = match_classes([*NAMES, "circle"], NAMES, objects=[4, 4, 4, 0])
    assert before.labels == (None, 0, 1, 2) and after.labels == (0, 1, 2, None)
    assert "left out: 'circle'" in " ".join(after.notes)


@pytest.mark.parametrize(
    ("data", "objects", "words"),
    [
        (["shapes", *NAMES], [1, 4, 4, 4], "does not have: 'shapes'"),
        (["Circle", "square", "triangle"], None, "does not have: 'Circle'"),
        (["heart", "star", "ring"], [0, 0, 0], "does not have: 'heart', 'star', 'ring'"),
        (["circle", "circle", "square"], None, "'circle' names more than one class"),
    ],
)
def test_other_classes_are_refused_with_both_lists(
    data: list[str], objects: list[int] | None, words: str
) -> None:
    with pytest.raises(ClassError, match=words) as caught:
        match_classes(data, NAMES, objects=objects)
    lines = str(caught.value).splitlines()
    assert lines[1].split() == ["data", "set", "model"]
    assert lines[2].split() == [data[0], NAMES[0]] and "--class-map" in lines[-1]


def test_those_who_know_name_the_pairs() -> None:
    match = match_classes(["Kreis", "triangle"], NAMES, renamed={"Kreis": "circle"})
    assert match.labels == (0, 2) and match.notes[0].endswith("Kreis is circle")


@pytest.mark.parametrize(
    ("renamed", "words"),
    [({"Kreis": "circle"}, "'Kreis', which the data set"), ({"circle": "ring"}, "'ring', which the model")],
)  # fmt: skip
def test_a_class_map_with_unknown_names_is_refused(renamed: dict[str, str], words: str) -> None:
    with pytest.raises(ClassError, match=words):
        match_classes(NAMES, NAMES, renamed=renamed)


def test_a_class_map_may_not_join_two_classes() -> None:
    with pytest.raises(ClassError, match="'circle' names more than one class of the data set"):
        match_classes(NAMES, NAMES, renamed={"square": "circle"})


def test_a_class_map_is_read_from_words_or_a_file(tmp_path: Path) -> None:
    expected = {"Kreis": "circle", "a, b": "square"}
    path = tmp_path / "map.txt"
    path.write_text("Kreis = circle\n\na, b=square\n", encoding="utf-8")
    assert read_class_map(str(path)) == expected
    assert read_class_map("Kreis=circle, Quadrat=square") == {
        "Kreis": "circle",
        "Quadrat": "square",
    }
    assert read_class_map(None) == {}


@pytest.mark.parametrize("text", ["nowhere.txt", "a=b,c", "=b", "a=b,a=c"])
def test_a_class_map_that_cannot_be_read_is_an_error(text: str) -> None:
    with pytest.raises(ClassError, match="--class-map"):
        read_class_map(text)


def test_a_class_map_beside_data_alone_names_classes_that_the_data_have(tmp_path: Path) -> None:
    """A training knows no model's names yet: a slip began the class anew without a word."""
    data = {
        "images": [{"id": 1, "file_name": "a.png", "height": 9, "width": 9}],
        "annotations": [],
        "categories": [{"id": 1, "name": "Kreis"}],
    }
    found = CocoDataset(data, tmp_path, DataConfig(), class_map={"Kreis": "circle"})
    assert found.foreign_names == ["circle"]
    with pytest.raises(ClassError, match="names 'Kries', which the data set does not have"):
        CocoDataset(data, tmp_path, DataConfig(), class_map={"Kries": "circle"})
