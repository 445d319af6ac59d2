"""What a result says of itself: whose masks, which rate, which world, which training."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.summaries import COCO, SHAPES, provenance, write_benchmark, write_plan, write_result

from analysis.sources import benchmarks, evaluations, labels, rates
from analysis.sources.evaluations import EvaluationError, Origin, facts_of, find_evaluations


def test_a_model_that_ran_the_masks_of_another_does_not_decide(tmp_path: Path) -> None:
    write_result(tmp_path / "own", method="dense")
    write_result(tmp_path / "lent", method="dense", facts={"masks_from": "ab12cd34" * 8})
    write_result(tmp_path / "random", facts={"intervention": "random"})
    lent, own, random = find_evaluations(tmp_path)
    assert [one.facts.decides for one in (own, lent, random)] == [True, False, False]
    assert evaluations.own_masks([own, lent, random]) == [own]
    assert "masks of ab12cd34" in labels.of_facts(lent.facts)
    assert len(set(rates.series([own, lent, random]))) == 3  # never one line
    assert evaluations.frame([own, lent])["intervention"].tolist() == [
        "learned",
        "masks of ab12cd34",
    ]


def test_lent_masks_have_no_measured_speed(tmp_path: Path) -> None:
    write_result(tmp_path / "lent", method="dense", facts={"masks_from": "ab12cd34" * 8})
    write_result(tmp_path / "own", method="dense")
    timed = write_benchmark(tmp_path / "timed", {"dense-tiny fused": [0.1, 0.2]}, ["dense-tiny"])
    speeds = benchmarks.read_speeds(timed / "benchmark.json")
    (pairs,) = benchmarks.of_results(find_evaluations(tmp_path), speeds).values()
    assert [one.path.name for one, _ in pairs] == ["own"]


def test_a_dial_is_another_ratio_than_the_one_trained_for() -> None:
    trained = provenance(base=0.5, keep_ratios=[0.7] * 3 + [0.49] * 3 + [0.343] * 3)
    facts = facts_of(trained, 9)
    assert facts.dial and (facts.base_ratio, facts.trained_ratio) == (0.5, 0.7)
    assert not facts_of(provenance(base=0.5, keep_ratios=[0.5, 0.25, 0.125]), 9).dial
    assert not facts_of(provenance("evit", keep_ratio=0.7), 9).dial
    assert not facts_of(provenance("dense"), 9).dial and not facts_of({}, 0).dial


@pytest.mark.parametrize(
    ("names", "images", "data", "world"),
    [
        (COCO, 5000, "COCO val2017", "COCO"),
        (COCO, 500, "COCO, other images", "COCO"),
        (SHAPES, 300, "shapes", "shapes"),
        (["nucleus"], 108, "nuclei", "nuclei"),
        (["cat"], 9, "other", "other"),
    ],
)
def test_every_number_belongs_to_a_world(names, images, data, world) -> None:
    facts = facts_of(provenance(classes=names), images)
    assert (facts.data, facts.world) == (data, world)


def test_the_first_images_of_a_set_are_not_all_of_val2017() -> None:
    first = provenance(classes=COCO) | {"limit": 5000}
    assert facts_of(first, 5000).data == "COCO, other images"


def test_the_origin_of_weights_is_read_beside_the_lines_of_a_comparison(tmp_path: Path) -> None:
    facts = {"row": "svit", "trained_steps": 400}
    write_result(tmp_path / "row" / "learned", facts=facts)
    write_plan(tmp_path / "row")
    (found,) = find_evaluations(tmp_path)
    assert found.origin == Origin("s" * 64, 3200, "t" * 16) and found.origin.known


def test_a_result_outside_of_a_comparison_knows_no_origin(tmp_path: Path) -> None:
    write_result(tmp_path / "row" / "learned")
    write_plan(tmp_path / "row")  # of something else: the summary names no row
    assert find_evaluations(tmp_path)[0].origin == Origin()


def test_a_broken_plan_is_named(tmp_path: Path) -> None:
    write_result(tmp_path / "row" / "learned", facts={"row": "svit"})
    (tmp_path / "row" / "plan.json").write_text("{}")
    with pytest.raises(EvaluationError, match="summary.json is not a summary.*init_sha256"):
        find_evaluations(tmp_path)
