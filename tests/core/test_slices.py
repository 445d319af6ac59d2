"""Which texts of an image's entry group images, and how a run's extra numbers hold them."""

from __future__ import annotations

from svit.core.slices import crowding, marked, slices_of, unmarked


def entry(number: int, **more: object) -> dict:
    return {"id": number, "file_name": "same.jpg", "date": f"day {number}", "height": 4, **more}


def test_a_text_that_repeats_itself_groups_images_and_one_that_names_them_does_not() -> None:
    kinds = ["light", "dark", "dark", "light"]
    images = [entry(n, kind=kind, score=1.5) for n, kind in enumerate(kinds)]
    assert slices_of(images) == {"kind": kinds}
    assert slices_of([*images, entry(9)]) == {}  # not in every entry
    many = [entry(n, kind=str(n // 2)) for n in range(26)]  # thirteen kinds
    assert slices_of(many) == {} and "kind" in slices_of(many[:24])
    assert slices_of([]) == {}


def test_images_with_more_objects_than_the_median_are_crowded() -> None:
    assert crowding({1: 0, 2: 3, 3: 3, "a": 9}) == {
        1: "sparse",
        2: "sparse",
        3: "sparse",
        "a": "crowded",
    }
    assert crowding({}) == {}


def test_marks_are_numbers_of_a_run_and_come_back_as_texts() -> None:
    texts = {"kind": "a = b", "plate": "7"}
    extra = {"seconds": 0.5, **marked(texts)}
    assert set(map(type, extra.values())) == {float}
    assert unmarked(extra) == {"seconds": 0.5, **texts}
