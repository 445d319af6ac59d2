"""Run-length codes of masks: everything told from the code equals what the pixels tell."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pycocotools import mask as coco_mask
from support.runs import parts

from svit.core import rle
from svit.core.coverage import covered_share, token_cover, token_means
from svit.core.rle import CodedMasks, joined_runs, run_lengths
from svit.core.types import CodedTarget, TokenGrid

sides = st.integers(1, 9)
some_masks = st.tuples(st.integers(0, 3), sides, sides).flatmap(lambda shape: arrays(bool, shape))


@given(some_masks)
def test_codes_of_any_masks_decode_to_them(masks):
    coded = CodedMasks.of(masks)
    assert len(coded) == len(masks) and coded.image_hw == masks.shape[1:]
    np.testing.assert_array_equal(coded.decoded(), masks)
    np.testing.assert_array_equal(coded.areas(), masks.sum(axis=(1, 2)))


def test_many_masks_are_encoded_some_at_a_time_to_the_same_codes(monkeypatch) -> None:
    masks = np.random.default_rng(0).random((7, 5, 6)) > 0.5
    whole = CodedMasks.of(masks)
    for pixels in (1, 60, 90):  # one, two and three masks
        monkeypatch.setattr(rle, "_AT_ONCE", pixels)
        assert CodedMasks.of(masks) == whole


@given(some_masks)
def test_boxes_and_json_are_those_of_pycocotools(masks):
    coded = CodedMasks.of(masks)
    expected = coco_mask.encode(np.asfortranarray(masks.transpose(1, 2, 0), np.uint8))
    assert coded.boxes_xywh().tolist() == np.reshape(coco_mask.toBbox(expected), (-1, 4)).tolist()
    texts = [one | {"counts": one["counts"].decode()} for one in expected]
    assert coded.json() == texts


@pytest.mark.parametrize(
    ("code", "sentence"),
    [
        (b"5/5", "found character code 47"),
        (b"5p5", "found character code 112"),
        (b"5T", "stops in the middle"),
        (b"P" * 7 + b"1", "at most 7 characters a number, found 8"),
    ],
)
def test_a_text_that_is_no_code_is_refused(code: bytes, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        run_lengths(code)
    assert run_lengths(b"").tolist() == []


@given(some_masks)
def test_segments_paint_every_pixel_of_a_mask_once(masks):
    coded = CodedMasks.of(masks)
    painted = np.zeros(masks.shape, int)
    for index, column, top, bottom in zip(*coded.segments(), strict=True):
        assert top < bottom
        painted[index, top:bottom, column] += 1
    np.testing.assert_array_equal(painted, masks)


@given(some_masks, st.integers(0, 999))
def test_masks_pasted_from_rectangles_have_the_codes_of_the_whole(masks, seed):
    height, width = masks.shape[1:]
    rng, parts, whole = np.random.default_rng(seed), [], np.zeros_like(masks)
    for mask, empty in zip(masks, whole, strict=True):
        (top, bottom), (left, right) = (
            np.sort(rng.integers(0, side + 1, 2)) for side in (height, width)
        )
        empty[top:bottom, left:right] = mask[top:bottom, left:right]
        parts.append((int(left), int(top), mask[top:bottom, left:right]))
    assert CodedMasks.pasted(parts, (height, width)) == CodedMasks.of(whole)


@given(some_masks)
def test_codes_read_together_are_those_read_one_by_one(masks):
    codes = [*CodedMasks.of(masks).codes, b""]
    numbers, counts = joined_runs(codes)
    single = [run_lengths(code).tolist() for code in codes]
    assert numbers.tolist() == [one for each in single for one in each]
    assert counts.tolist() == [len(one) for one in single]


def test_a_damaged_code_among_others_is_refused():
    (code,) = CodedMasks.of(np.ones((1, 3, 3), bool)).codes
    with pytest.raises(ValueError, match="stops in the middle"):
        joined_runs([code, b"5T", code])  # the next one would end its number


@given(some_masks, st.integers(0, 999))
def test_a_choice_and_its_union_are_those_of_the_pixels(masks, seed):
    chosen = np.random.default_rng(seed).random(len(masks)) < 0.5
    part = CodedMasks.of(masks)[chosen]
    np.testing.assert_array_equal(part.decoded(), masks[chosen])
    np.testing.assert_array_equal(part.union().decoded()[0], masks[chosen].any(axis=0))


def test_long_runs_and_large_differences_survive_the_text():
    masks = np.zeros((3, 700, 900), bool)  # run lengths of one to four characters, both signs
    masks[0, 3:690, 1:880] = True
    masks[1, ::37, ::11] = True
    masks[2] = True
    number, *pieces = CodedMasks.of(masks).segments()
    for index, mask in enumerate(masks):
        column, top, bottom = (piece[number == index] for piece in pieces)
        assert (bottom - top).sum() == mask.sum()
        edges = np.zeros((mask.shape[0] + 1, mask.shape[1]), int)
        np.add.at(edges, (top, column), 1)
        np.add.at(edges, (bottom, column), -1)
        np.testing.assert_array_equal(edges.cumsum(axis=0)[:-1], mask)


def test_a_coded_target_is_the_target():
    target = parts(1)["target"]
    coded = CodedTarget.of(target)
    assert len(coded) == len(target)
    for name, value in vars(coded.decoded()).items():
        np.testing.assert_array_equal(value, getattr(target, name))
    share = target.masks.any(axis=0).mean()
    assert covered_share(coded) == covered_share(target) == share


@given(some_masks, st.floats(0.4, 3))
def test_cover_from_codes_is_the_mean_of_the_pixels_over_each_token(masks, scale):
    height, width = masks.shape[1:]
    resized = (max(1, round(16 * height * scale)), max(1, round(16 * width * scale)))
    grid = TokenGrid((height, width), resized, tuple(-(-side // 16) + 1 for side in resized))
    cover = token_cover(masks, grid)
    assert cover.shape == (len(masks), *grid.valid_hw)
    for mask, found in zip(masks, cover, strict=True):
        np.testing.assert_allclose(found, token_means(mask, grid), atol=2e-6)
