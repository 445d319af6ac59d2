"""Searching and sorting the images of a run."""

from __future__ import annotations

import numpy as np
import pytest
from support.runs import PROVENANCE, crowd_of, parts, write_run

from analysis.numbers import comparison, image_list, matching, missed, usage
from analysis.numbers.error_types import errors_of
from svit.core.types import Detections
from svit.runs.run import open_run
from svit.runs.writer import RunWriter


@pytest.fixture
def run(tmp_path):
    return write_run(tmp_path / "run", (3, 1, 2))


def test_an_image_has_its_share_of_tokens_and_its_classes(run):
    frame = image_list.image_frame(run)
    assert frame["image_id"].tolist() == [3, 1, 2]
    ratios = [usage.keep_ratios(run.trace(image_id))[3:].mean() for image_id in (3, 1, 2)]
    assert frame["keep_ratio"].tolist() == pytest.approx(ratios)
    assert frame["classes"].tolist() == [("disc", "ball")] * 3
    assert frame["objects"].tolist() == [2, 2, 2]


def test_without_annotations_classes_are_what_was_surely_found(tmp_path):
    with RunWriter(tmp_path / "run", PROVENANCE) as writer:
        record = parts(1)
        writer.add(record["trace"], record["detections"])  # scores 0.95 and 0.4
        writer.add(parts(2)["trace"])
    frame = image_list.image_frame(open_run(tmp_path / "run"))
    assert frame["classes"].tolist() == [("disc",), ()]


def test_an_image_is_told_with_its_missed_objects_wrong_detections_and_confidence(run, tmp_path):
    frame = image_list.outcome_frame(run)  # the second detection has score 0.4
    assert frame["image_id"].tolist() == [3, 1, 2] and frame["missed"].tolist() == [1] * 3
    assert frame["wrong"].tolist() == [0] * 3
    assert frame["confidence"].tolist() == pytest.approx([0.95] * 3)
    with RunWriter(tmp_path / "bare", PROVENANCE) as writer:
        made = parts(1)
        writer.add(made["trace"])
        other = Detections([[0, 0, 3, 3], [0, 0, 4, 4]], [0.9, 0.5], [0, 1])
        writer.add(parts(2)["trace"], other, made["target"])
        writer.add(parts(3)["trace"], other)
    bare = image_list.outcome_frame(open_run(tmp_path / "bare"), score=0.6)
    assert bare["missed"].isna().tolist() == bare["wrong"].isna().tolist() == [True, False, True]
    assert bare.loc[1, ["missed", "wrong"]].tolist() == [2, 1]
    np.testing.assert_allclose(bare["confidence"], [np.nan, 0.9, 0.9], rtol=1e-6)


def test_a_crowded_image_that_is_found_whole_has_no_missed_objects_in_any_table(tmp_path):
    target, found = crowd_of(150)
    made = {**parts(1), "target": target, "detections": found}
    with RunWriter(tmp_path / "run", PROVENANCE) as writer:
        writer.add(**made)
    run = open_run(tmp_path / "run")
    outcomes = image_list.outcome_frame(run)
    assert outcomes[["missed", "wrong"]].values.tolist() == [[0, 0]]
    counts = comparison.image_frame(run, [1], range(12), score=0.5)
    assert counts[["objects", "found", "extra"]].values.tolist() == [[150, 150, 0]]
    samples = [(1, target, found)]
    assert matching.found_frame(samples)["score"].notna().sum() == 150
    assert missed.type_frame(samples).empty and not errors_of(samples).counts().any()


@pytest.mark.parametrize(
    ("text", "ids"),
    [("", [3, 1, 2]), ("2.JPG", [2]), ("ball", [3, 1, 2]), ("ball 3", [3]), ("horse", [])],
)
def test_every_word_of_a_search_must_fit(run, text, ids):
    frame = image_list.matching(image_list.image_frame(run), text)
    assert frame["image_id"].tolist() == ids


def test_images_are_ordered_by_a_number_and_those_without_come_last(run):
    frame = image_list.image_frame(run)
    fewest = image_list.ordered(frame, "Fewest tokens kept")["keep_ratio"]
    assert fewest.is_monotonic_increasing
    most = image_list.ordered(frame, "Most tokens kept")["keep_ratio"]
    assert most.is_monotonic_decreasing
    missed = frame.assign(missed=[0.0, np.nan, 2.0])
    order = image_list.ordered(missed, "Most missed objects")
    assert order["image_id"].tolist() == [2, 3, 1]


def test_an_image_without_a_text_of_a_slice_has_none(tmp_path):
    with RunWriter(tmp_path / "run", PROVENANCE) as writer:
        writer.add(**{**parts(1), "extra": {"kind=dark": 1.0}})
        writer.add(**{**parts(2), "extra": {}})
    frame = image_list.image_frame(open_run(tmp_path / "run"))
    assert frame["slices"].tolist() == [("dark",), ()]
    assert image_list.matching(frame, "nan").empty
