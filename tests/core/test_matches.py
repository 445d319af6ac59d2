"""A file of matches comes back as it was written, equal content gives equal bytes, and damage is told."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from svit.core.matches import MATCHES, Matches, MatchesError, MatchesFile, Ranking, packed
from svit.core.statistics import Drawn

DRAWS = 4


def some(seed: int, classes: int = 2, images: int = 5, most: int = 30, strings: bool = False):
    """Matches of made-up detections."""
    random = np.random.default_rng(seed)
    rankings = []
    for number in range(classes):
        size = int(random.integers(0, most))
        image = random.integers(0, images, size).astype(np.int32)
        hits, ignored = random.integers(0, 1 << 10, (2, size)).astype(np.uint16)
        objects = random.integers(0, 4, images).astype(np.int32)
        rankings.append(Ranking(7 * number + 1, image, hits, ignored, objects))
    ids = [f"bild {place}" if strings else 10 * place for place in range(images)]
    return Matches(tuple(ids), tuple(rankings))


def written(matches: dict[str, Matches], folder: Path) -> MatchesFile:
    drawn = {kind: one.drawn(DRAWS) for kind, one in matches.items()}
    (folder / MATCHES).write_bytes(packed(matches, drawn))
    return MatchesFile(folder / MATCHES)


@given(
    seed=st.integers(0, 999),
    classes=st.integers(0, 3),
    most=st.integers(1, 9),
    strings=st.booleans(),
)
def test_matches_come_back_as_they_were_written(
    tmp_path_factory: pytest.TempPathFactory, seed: int, classes: int, most: int, strings: bool
) -> None:
    both = {"box": some(seed, classes, 3, most, strings), "mask": some(seed + 1, 1, 3, 5, strings)}
    file = written(both, tmp_path_factory.mktemp("m"))
    for kind, expected in both.items():
        found = file.matches(kind)
        assert found.image_ids == expected.image_ids and found.ap() == expected.ap()
        for one, other in zip(found.classes, expected.classes, strict=True):
            assert one.category == other.category
            for name in ("image", "hits", "ignored", "objects"):
                assert np.array_equal(getattr(one, name), getattr(other, name))
                assert getattr(one, name).dtype == getattr(other, name).dtype
        again, draws = file.drawn(kind).draws, expected.drawn(DRAWS).draws
        assert again == pytest.approx(draws, abs=1e-4, nan_ok=True)
        assert file.drawn(kind).key == expected.drawn(DRAWS).key


def test_equal_content_gives_equal_bytes() -> None:
    first, again = (packed({"box": one}, {"box": one.drawn(DRAWS)}) for one in (some(3), some(3)))
    assert first == again


def test_draws_of_other_images_are_not_paired() -> None:
    first, other = some(0), some(0, strings=True)
    with pytest.raises(ValueError, match="the same images"):
        first.drawn(DRAWS) - other.drawn(DRAWS)


def test_what_counts_neither_way_is_no_false_positive() -> None:
    """Two objects, found behind two other detections: false ones halve precision, ignored ones do not."""
    image = np.zeros(4, np.int32)
    hits, all_bits = np.uint16([0, 0, 1023, 1023]), np.uint16([1023, 1023, 0, 0])
    aps = [
        Matches((1,), (Ranking(1, image, hits, ignored, np.int32([2])),)).ap()
        for ignored in (0 * all_bits, all_bits)
    ]
    assert aps == pytest.approx([50, 100])


def test_a_missing_or_damaged_file_is_told(tmp_path: Path) -> None:
    file = written({"box": some(1)}, tmp_path)
    with pytest.raises(MatchesError, match="no matches of mask to read"):
        file.matches("mask")
    whole = file.path.read_bytes()
    for content in (b"", whole[: len(whole) // 2], b"not a zip"):
        file.path.write_bytes(content)
        with pytest.raises(MatchesError, match="evaluate again"):
            file.drawn("box")
    file.path.unlink()
    with pytest.raises(MatchesError, match="evaluate again"):
        file.drawn("box")


PAGE = (Path(__file__).resolve().parents[2] / "docs" / "evaluation.md").read_text("utf-8")


def test_the_page_about_the_file_names_its_arrays_and_its_code_reads_them(tmp_path: Path) -> None:
    both = {"box": some(1, most=60), "mask": some(2)}
    file = np.load(written(both, tmp_path).path)
    told = set(re.findall(r"^\| `(\w+)` \|", PAGE, re.MULTILINE))
    assert told == {name.replace("box_", "KIND_").replace("mask_", "KIND_") for name in file}
    space: dict = {}
    exec(re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)[0], space)
    draws = np.random.default_rng(0).multinomial(5, np.full(5, 0.2), size=DRAWS)
    for kind, one in both.items():
        for weights, expected in zip(draws, one.drawn(DRAWS).draws, strict=True):
            assert space["ap"](file, kind, weights) == pytest.approx(expected, abs=1e-9)
    assert space["paired"](file, file)[:3] == (0, 0, 0)


def with_objects(objects: list[int], hit: bool) -> Matches:
    """Four images, each object found in its image or none; the scores fall from image to image."""
    image = np.flatnonzero(objects).astype(np.int32)
    hits = np.full(len(image), 1023 * hit, np.uint16)
    return Matches((1, 2, 3, 4), (Ranking(1, image, hits, 0 * hits, np.int32(objects)),))


def test_a_draw_without_an_object_has_no_ap_and_lowers_no_interval(tmp_path: Path) -> None:
    """Two of four images have one: a sixteenth of the draws miss both, and had COCO's -1."""
    first, other = (with_objects([0, 1, 1, 0], hit) for hit in (True, False))
    own, none = first.drawn(200), other.drawn(200)
    assert 5 < np.isnan(own.draws).sum() < 25
    assert own.interval().bounds == pytest.approx((100, 100))
    apart = own - none
    assert apart.above == 1 and apart.interval().low == pytest.approx(100)
    assert written({"box": first}, tmp_path).drawn("box").interval().low == pytest.approx(100)
    assert {*Matches((1, 2), ()).drawn(DRAWS).draws} == {-1}  # nothing to find in any image


def test_one_image_with_objects_among_several_tells_no_interval() -> None:
    """Its copies among draws of the others' false positives looked like an interval."""
    alone = with_objects([0, 0, 2, 0], True).drawn(50)
    assert alone.value == pytest.approx(50.5, abs=0.1) and np.isnan(alone.draws).all()
    assert str(alone.interval()) == "50.5" and np.isnan((alone - alone).above)
    two = with_objects([1, 0, 2, 0], True)
    assert not np.isnan(two.drawn(50).draws).all()
    assert np.isnan(two.drawn(50, members=np.array([True, True, False, False])).draws).all()
    one_video = dict.fromkeys((1, 2, 3), "a") | {4: "b"}
    assert np.isnan(two.drawn(50, videos=one_video).draws).all()


def test_matches_that_still_hold_the_number_of_nothing_are_read_without_it(tmp_path: Path) -> None:
    one = some(0)
    before = Drawn(50.0, np.array([60.0, -1.0, 40.0, -1.0]), "k")
    (tmp_path / MATCHES).write_bytes(packed({"box": one}, {"box": before}))
    draws = MatchesFile(tmp_path / MATCHES).drawn("box").draws
    assert draws == pytest.approx([60, np.nan, 40, np.nan], nan_ok=True)
