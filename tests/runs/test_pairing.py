"""Runs of other pictures under the same ids are refused; all that may be paired still is."""

from __future__ import annotations

import numpy as np
import pytest
from support.runs import OTHER_DATA, PROVENANCE, parts, write_dense, write_others, write_run

from analysis.numbers import comparison
from analysis.numbers.agreement import pairs
from svit.core.types import Target, TokenGrid, TokenTrace
from svit.runs.pairing import MismatchError, check_pictures
from svit.runs.run import Run, RunWriter, open_run

ONE, OTHER = {**PROVENANCE, "data_sha256": "a" * 64}, OTHER_DATA


def refused(first: Run, second: Run) -> str:
    with pytest.raises(MismatchError, match="other pictures under the same ids") as caught:
        check_pictures(first, second)
    assert str(first.path) in str(caught.value) and str(second.path) in str(caught.value)
    return str(caught.value)


def test_pictures_of_another_data_set_are_refused_by_what_they_show(tmp_path):
    first, second = write_run(tmp_path / "a", provenance=ONE), write_others(tmp_path / "b")
    assert "image 3 shows something else; record both on the same data" in refused(first, second)
    with pytest.raises(MismatchError, match="other pictures"):
        next(pairs(first, second))
    assert comparison.partner(first, [second.path], overlaid=True) is None


def test_runs_that_do_not_say_what_data_they_saw_are_refused_by_what_they_show(tmp_path):
    first, second = write_run(tmp_path / "a"), write_others(tmp_path / "b", provenance=PROVENANCE)
    assert "image 3 shows something else" in refused(first, second)


def test_without_pictures_other_annotations_of_the_same_classes_tell(tmp_path):
    first = write_run(tmp_path / "a", provenance=ONE, picture_side=0)
    message = refused(first, write_others(tmp_path / "b", image=None))
    assert "image 3 and 2 more have no object annotated alike" in message


def test_pictures_of_another_size_are_refused_whatever_the_data(tmp_path):
    first = write_run(tmp_path / "a", (1,), provenance=ONE)
    made = parts(1)
    old = made["trace"]
    grid = TokenGrid((121, 150), old.grid.resized_hw, old.grid.grid_hw, old.grid.patch)
    masks = np.zeros((0, 121, 150), bool)
    target = Target(np.zeros((0, 4)), np.zeros(0, int), masks)
    with RunWriter(tmp_path / "b", ONE) as writer:
        writer.add(TokenTrace(1, grid, old.keep), target=target)
    assert "image 1 has 150 x 120 and 150 x 121 pixels" in refused(first, open_run(tmp_path / "b"))


def test_a_part_of_the_data_and_pictures_stored_smaller_are_still_paired(tmp_path):
    whole = write_run(tmp_path / "whole", range(1, 12), provenance=ONE)
    part = write_run(tmp_path / "part", (9, 4, 5), provenance=OTHER, picture_side=32)
    check_pictures(whole, part)
    check_pictures(part, whole)
    assert comparison.partner(whole, [part.path], overlaid=True) == part.path


def test_the_same_data_with_pictures_made_worse_on_purpose_are_still_paired(tmp_path):
    first = write_run(tmp_path / "a", provenance=ONE)
    with RunWriter(tmp_path / "b", OTHER) as writer:
        for image_id in (3, 1, 2):
            made = parts(image_id)
            noise = np.random.default_rng(image_id).normal(0, 25, made["image"].shape)
            worse = np.clip(0.6 * made["image"] + 70 + noise, 0, 255).astype(np.uint8)
            writer.add(**{**made, "image": worse})
    check_pictures(first, open_run(tmp_path / "b"))


def test_annotations_that_were_corrected_or_are_of_other_classes_still_pair(tmp_path):
    first = write_run(tmp_path / "a", provenance=ONE, picture_side=0)
    with RunWriter(tmp_path / "b", OTHER, picture_side=0) as writer:
        for image_id in (3, 1, 2):
            made = parts(image_id)
            writer.add(**{**made, "target": made["target"][:1]})
    check_pictures(first, open_run(tmp_path / "b"))
    others = write_others(
        tmp_path / "c", provenance={**OTHER, "class_names": ["face"] * 2}, image=None
    )
    check_pictures(first, others)


def test_flat_pictures_and_runs_without_common_images_tell_nothing(tmp_path):
    flat = write_others(tmp_path / "a", image=np.full((120, 150, 3), 90, np.uint8), target=None)
    check_pictures(flat, write_run(tmp_path / "b", provenance=ONE))
    check_pictures(flat, write_dense(tmp_path / "c", (7, 8)))
