"""AP equals pycocotools' own, and resampling images equals evaluating the drawn images anew."""

from __future__ import annotations

import contextlib
import copy
import io
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco_mask
from pycocotools.cocoeval import COCOeval

from svit.core.coco_rows import result_rows
from svit.core.matches import IOUS, RECALLS
from svit.core.statistics import Interval
from svit.core.types import Detections
from svit.evaluation.average_precision import (
    EVALUATORS,
    METRICS,
    average_precision,
    check_evaluator,
    load_truth,
    matches_of,
    measured,
    truth_of,
    unmasked,
)

IMAGES, CLASSES, SIDE = 7, 3, 200


def rle(box: list[float]) -> dict[str, Any]:
    left, top, width, height = (int(value) for value in box)
    mask = np.zeros((SIDE, SIDE), np.uint8, order="F")
    mask[top : top + height, left : left + width] = 1
    code = coco_mask.encode(mask)
    return {"size": code["size"], "counts": code["counts"].decode()}


def random_box(random: np.random.Generator) -> list[float]:
    left, top = random.integers(0, 60, 2)
    width, height = random.integers(8, 130, 2)
    return [float(left), float(top), float(width), float(height)]


def scene(seed: int = 0) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Objects of all sizes, some crowds, one image without any; and half-right results.

    Scores tie between images but not within one, where copies would come in another order.
    """
    random = np.random.default_rng(seed)
    objects, results = [], []
    for image in range(1, IMAGES + 1):
        scores = iter(random.permutation(12) / 12)
        for _ in range(0 if image == 3 else random.integers(1, 6)):
            box = random_box(random)
            kind, crowd = int(random.integers(1, CLASSES + 1)), int(random.random() < 0.15)
            common = {"image_id": image, "category_id": kind, "segmentation": rle(box)}
            number = len(objects) + 1
            area = box[2] * box[3]
            objects.append({"id": number, "bbox": box, "area": area, "iscrowd": crowd, **common})
            moved = [box[0] + random.integers(-4, 5), box[1], box[2], box[3]]
            moved[0] = max(moved[0], 0)
            rest = {"bbox": moved, "segmentation": rle(moved), "score": float(next(scores))}
            results.append({**common, **rest})
        for _ in range(4):
            box, kind = random_box(random), int(random.integers(1, CLASSES + 1))
            common = {"image_id": image, "category_id": kind, "bbox": box}
            rest = {"segmentation": rle(box), "score": float(next(scores))}
            results.append({**common, **rest})
    images = [{"id": i, "height": SIDE, "width": SIDE} for i in range(1, IMAGES + 1)]
    categories = [{"id": i, "name": str(i)} for i in range(1, CLASSES + 1)]
    return {"images": images, "categories": categories, "annotations": objects}, results


def reference(truth: dict[str, Any], results: list[dict[str, Any]], kind: str, images=None):
    """pycocotools, called as its own demo does."""
    with contextlib.redirect_stdout(io.StringIO()):
        index = load_truth(copy.deepcopy(truth))
        rows = copy.deepcopy(results)
        for row in rows if kind == "segm" else ():
            del row["bbox"]
        evaluation = COCOeval(index, index.loadRes(rows), kind)
        if images is not None:
            evaluation.params.imgIds = images
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return [100 * value if value >= 0 else -1 for value in evaluation.stats]


@pytest.mark.parametrize(("kind", "coco_kind"), [("box", "bbox"), ("mask", "segm")])
@pytest.mark.parametrize("evaluator", EVALUATORS)
def test_the_12_numbers_equal_those_of_pycocotools(
    kind: str, coco_kind: str, evaluator: str
) -> None:
    truth, results = scene()
    found = average_precision(load_truth(truth), results, kind, evaluator)
    expected = reference(truth, results, coco_kind)
    assert list(found) == list(METRICS)
    assert list(found.values()) == pytest.approx(expected, abs=1e-9)
    assert len(set(expected)) > 8 and min(expected) > 0  # none is trivial


@pytest.mark.parametrize("evaluator", EVALUATORS)
def test_no_predictions_score_zero_and_no_objects_score_minus_one(evaluator: str) -> None:
    truth, results = scene()
    assert average_precision(load_truth(truth), [], "mask", evaluator)["AP"] == 0
    empty = load_truth({**truth, "annotations": []})
    assert average_precision(empty, results, "box", evaluator)["AP"] == -1
    assert average_precision(empty, [], "box", evaluator)["AP"] == -1


def crowd(objects: int) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """One image full of objects, and a detection of each that is right to the pixel."""
    boxes = [[float(x), float(y), 8.0, 8.0] for y in range(0, 190, 10) for x in range(0, 190, 10)]
    common = {"image_id": 1, "category_id": 1}
    found = [
        common | {"bbox": box, "segmentation": rle(box), "score": 1 - place / 1000}
        for place, box in enumerate(boxes[:objects])
    ]
    truth = [one | {"id": place, "area": 64.0, "iscrowd": 0} for place, one in enumerate(found, 1)]
    images = [{"id": 1, "height": SIDE, "width": SIDE}]
    return {
        "images": images,
        "annotations": [{k: v for k, v in one.items() if k != "score"} for one in truth],
        "categories": [{"id": 1, "name": "cell"}],
    }, found


def test_more_objects_than_are_counted_cannot_all_be_found() -> None:
    truth, found = crowd(150)
    few, _ = measured(load_truth(truth), found, "box")
    assert 60 < few["AP"] < 70 and few["AR100"] == pytest.approx(100 * 100 / 150)
    for kind in ("box", "mask", "boundary"):
        numbers, matches = measured(load_truth(truth), found, kind, counted=150)
        assert numbers["AP"] == pytest.approx(100) and numbers["AR150"] == pytest.approx(100)
        assert numbers["AP50"] == pytest.approx(100) and matches.ap() == pytest.approx(100)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10_000), counted=st.integers(1, 300))
def test_matches_have_the_ap_of_the_numbers_whatever_is_counted(seed: int, counted: int) -> None:
    truth, rows = dirty(seed)
    numbers, matches = measured(load_truth(truth), rows, "box", counted=counted)
    assert matches.ap() == pytest.approx(numbers["AP"], abs=1e-9)
    if counted >= 100 and len(rows) <= 100:
        assert numbers["AP"] == average_precision(load_truth(truth), rows, "box")["AP"]


def test_other_evaluators_count_what_coco_counts() -> None:
    with pytest.raises(ValueError, match="take pycocotools to count 300"):
        check_evaluator("hotcoco", counted=300)


def dirty(seed: int) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """A small set with what real ones have: ids out of order, crowds, polygons beside codes, areas that are
    not the mask's, boxes without a side, equal scores within an image, more than 100 detections of one."""
    random = np.random.default_rng(seed)
    classes = random.permutation(np.arange(1, 20))[: random.integers(1, 5)].tolist()
    images = random.permutation(np.arange(1, 50))[: random.integers(1, 8)].tolist()
    levels = int(random.integers(1, 20))
    objects, results = [], []

    def box() -> list[float]:
        corner, sides = random.integers(0, 60, 2), random.integers(random.random() > 0.1, 40, 2)
        return [float(side) for side in (*corner, *sides)]

    def found(image: int, kind: int, where: list[float]) -> None:
        score = float(random.integers(0, levels) / levels)
        common = {"image_id": image, "category_id": kind, "bbox": where}
        results.append({**common, "segmentation": rle(where), "score": score})

    for image in images:
        for _ in range(random.integers(0, 7) * int(random.random() > 0.2)):
            left, top, width, height = where = box()
            kind, crowd = int(random.choice(classes)), int(random.random() < 0.2)
            right, low = left + width, top + height
            outline = [[left, top, right, top, right, low, left, low]]
            area = width * height * float(random.choice([1, 1, 1, 10, 100]))
            common = {"image_id": image, "category_id": kind, "bbox": where, "area": area}
            code = rle(where) if crowd or random.random() < 0.6 else outline
            number = len(objects) + 1
            objects.append({"id": number, "iscrowd": crowd, "segmentation": code, **common})
            for _ in range(random.integers(0, 3)):
                moved = [max(0.0, left + float(random.integers(-4, 5))), *where[1:]]
                found(image, kind if random.random() < 0.9 else int(random.choice(classes)), moved)
        for _ in range(120 if random.random() < 0.05 else random.integers(0, 6)):
            found(image, int(random.choice(classes)), box())
    return {
        "images": [{"id": image, "height": SIDE, "width": SIDE} for image in images],
        "categories": [{"id": kind, "name": str(kind)} for kind in classes],
        "annotations": objects,
    }, results


def equal_on_dirty_sets(evaluator: str, seeds: range) -> None:
    for seed in seeds:
        truth, results = dirty(seed)
        for kind in ("box", "mask"):
            expected = average_precision(load_truth(copy.deepcopy(truth)), results, kind)
            found = average_precision(load_truth(copy.deepcopy(truth)), results, kind, evaluator)
            assert list(found.values()) == pytest.approx(list(expected.values()), abs=1e-9), seed


@pytest.mark.parametrize("evaluator", ["faster-coco-eval", "hotcoco"])
def test_on_dirty_sets_the_numbers_are_equal(evaluator: str) -> None:
    equal_on_dirty_sets(evaluator, range(25))


@pytest.mark.slow
@pytest.mark.parametrize("evaluator", ["faster-coco-eval", "hotcoco"])
def test_on_fifteen_hundred_dirty_sets_the_numbers_are_equal(evaluator: str) -> None:
    equal_on_dirty_sets(evaluator, range(1500))


def test_an_evaluator_that_is_not_installed_is_refused_with_the_way_to_it(monkeypatch) -> None:
    monkeypatch.setattr("svit.evaluation.average_precision.find_spec", lambda name: None)
    with pytest.raises(ValueError, match="pip install hotcoco"):
        check_evaluator("hotcoco")


def test_texts_as_ids_of_images_are_scored_alike() -> None:
    truth, results = scene()
    named = copy.deepcopy(truth)
    for part, key in ((named["images"], "id"), (named["annotations"], "image_id")):
        for one in part:
            one[key] = f"picture {one[key]}"
    rows = [{**row, "image_id": f"picture {row['image_id']}"} for row in results]
    expected = average_precision(load_truth(truth), results, "mask")
    for evaluator in ("pycocotools", "hotcoco"):
        assert average_precision(load_truth(named), rows, "mask", evaluator) == pytest.approx(
            expected
        )


def test_an_unknown_evaluator_is_refused_with_the_choices() -> None:
    truth, results = scene()
    with pytest.raises(ValueError, match="faster-coco-eval, hotcoco, found 'magic'"):
        average_precision(load_truth(truth), results, "box", "magic")


def test_scoring_changes_neither_results_nor_truth() -> None:
    truth, results = scene()
    before = copy.deepcopy(results)
    first = average_precision(load_truth(truth), results, "mask")
    assert results == before
    assert average_precision(load_truth(truth), results, "mask") == first


def written_out(
    truth: dict[str, Any], results: list[dict[str, Any]], weights: np.ndarray
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The data set in which image i is copied weights[i] times, copies side by side."""
    images, objects, rows = [], [], []
    for image, weight in zip(truth["images"], weights, strict=True):
        for copied in range(weight):
            new = image["id"] * 1000 + copied
            images.append({**image, "id": new})
            for item in truth["annotations"]:
                if item["image_id"] == image["id"]:
                    objects.append({**item, "id": len(objects) + 1, "image_id": new})
            rows += [{**row, "image_id": new} for row in results if row["image_id"] == image["id"]]
    return {**truth, "images": images, "annotations": objects}, rows


@settings(max_examples=25)
@given(
    weights=st.lists(st.integers(0, 4), min_size=IMAGES, max_size=IMAGES).filter(any),
    kind=st.sampled_from(["box", "mask"]),
    seed=st.integers(0, 3),
)
def test_weighted_ap_equals_evaluating_the_copied_images(
    weights: list[int], kind: str, seed: int
) -> None:
    truth, results = scene(seed)
    found = matches_of(load_truth(truth), results, kind).ap(np.array(weights))
    big, rows = written_out(truth, results, np.array(weights))
    assert found == pytest.approx(average_precision(load_truth(big), rows, kind)["AP"], abs=1e-9)


def test_weights_of_zero_and_one_equal_coco_on_that_subset() -> None:
    truth, results = scene()
    weights = np.array([1, 0, 1, 1, 0, 0, 1])
    found = matches_of(load_truth(truth), results, "box").ap(weights)
    subset = [image for image, weight in enumerate(weights, 1) if weight]
    assert found == pytest.approx(reference(truth, results, "bbox", subset)[0], abs=1e-9)


def test_thresholds_and_recalls_are_those_of_coco() -> None:
    params = COCOeval(iouType="bbox").params
    assert (params.iouThrs == IOUS).all() and (params.recThrs == RECALLS).all()


def difference(first, second, truth, kind: str = "box", draws: int = 20, seed: int = 0) -> Interval:
    """AP of the first minus the second: both are evaluated on the same drawn images."""
    a, b = (matches_of(truth, results, kind).drawn(draws, seed) for results in (first, second))
    return (a - b).interval()


def test_identical_results_differ_by_zero_with_no_width() -> None:
    truth, results = scene()
    interval = difference(results, results, load_truth(truth), draws=20)
    assert (interval.value, interval.low, interval.high) == (0, 0, 0)


def test_a_better_result_has_an_interval_above_zero_and_a_seed_repeats_it() -> None:
    truth, results = scene()
    perfect = [{**item, "score": 0.9} for item in truth["annotations"] if not item["iscrowd"]]
    first = difference(perfect, results, load_truth(truth), kind="mask", draws=50)
    assert 0 < first.low < first.value < first.high < 100
    assert first == difference(perfect, results, load_truth(truth), kind="mask", draws=50)
    assert first != difference(perfect, results, load_truth(truth), kind="mask", draws=50, seed=1)


def test_rows_carry_xywh_boxes_category_ids_and_decodable_masks() -> None:
    masks = np.zeros((2, 6, 9), bool)
    masks[0, 2:4, 1:5] = True
    boxes = np.array([[1, 2, 5, 4], [0, 0, 0.5, 6]], np.float32)
    found = Detections(boxes, np.array([0.9, 0.25]), np.array([2, 0]), masks)
    first, second = result_rows(17, found, [10, 20, 30])
    assert (first["image_id"], first["category_id"], first["bbox"]) == (17, 30, [1, 2, 4, 2])
    assert second["category_id"] == 10 and second["score"] == 0.25
    assert (coco_mask.decode(first["segmentation"]) == masks[0]).all()
    nothing = Detections(np.zeros((0, 4)), np.zeros(0), np.zeros(0), np.zeros((0, 6, 9), bool))
    assert result_rows(17, nothing, [10]) == []


def perfect(truth: dict[str, Any]) -> list[dict[str, Any]]:
    """Every object found, once."""
    keys = ("image_id", "category_id", "bbox", "segmentation")
    return [{**{key: one[key] for key in keys}, "score": 0.5} for one in truth["annotations"]]


@pytest.mark.parametrize("evaluator", EVALUATORS)
def test_an_object_without_a_mask_counts_for_boxes_and_is_ignored_for_masks(evaluator: str) -> None:
    truth, _ = scene()
    rows, missed = perfect(truth), copy.deepcopy(truth)
    place = [one["iscrowd"] for one in truth["annotations"]].index(0)
    missed["annotations"][place]["segmentation"] = []
    assert unmasked(missed) == 1 and unmasked(truth) == 0
    for kind in ("box", "mask"):
        index = load_truth(truth_of(missed, kind))
        for found in (rows, rows[:place] + rows[place + 1 :]):  # found or not
            expected = 100 if kind == "mask" or found is rows else None
            ap = average_precision(index, copy.deepcopy(found), kind, evaluator)["AP"]
            assert ap == pytest.approx(100) if expected else ap < 100
    assert missed["annotations"][place]["segmentation"] == [] and truth_of(truth, "mask") is truth


def test_boxes_alone_have_no_mask_ap() -> None:
    truth, rows = scene()
    for one in truth["annotations"]:
        one["segmentation"] = []
    assert average_precision(load_truth(truth_of(truth, "mask")), rows, "mask")["AP"] == -1
    assert average_precision(load_truth(truth_of(truth, "box")), rows, "box")["AP"] > 0


@pytest.mark.parametrize("seed", range(4))
def test_the_12_numbers_of_boundaries_are_those_of_faster_coco_eval(seed: int):
    truth, rows = scene(seed)
    found, other = (
        average_precision(load_truth(copy.deepcopy(truth)), copy.deepcopy(rows), "boundary", name)
        for name in ("pycocotools", "faster-coco-eval")
    )
    assert found == pytest.approx(other, abs=1e-9)
    assert 0 < found["AP"] < average_precision(load_truth(truth), rows, "mask")["AP"]


def test_matches_of_boundaries_give_their_ap():
    truth, rows = scene()
    ap = average_precision(load_truth(truth), rows, "boundary")["AP"]
    assert matches_of(load_truth(truth), rows, "boundary").ap() == pytest.approx(ap, abs=1e-9)


@pytest.mark.parametrize("kind", ["box", "mask", "boundary"])
def test_numbers_and_matches_come_from_one_matching(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    truth, rows = scene()
    expected = average_precision(load_truth(truth), rows, kind)
    alone = matches_of(load_truth(truth), rows, kind)
    done, evaluate = [], COCOeval.evaluate
    monkeypatch.setattr(COCOeval, "evaluate", lambda own: (done.append(own), evaluate(own)))
    numbers, matches = measured(load_truth(truth), rows, kind)
    assert len(done) == 1 and numbers == expected
    assert matches.ap() == alone.ap() == pytest.approx(numbers["AP"], abs=1e-9)
    other, _ = measured(load_truth(truth), rows, kind, "faster-coco-eval")
    assert len(done) == 2 and other == pytest.approx(numbers, abs=1e-9)


def test_an_evaluator_without_boundaries_says_so():
    with pytest.raises(ValueError, match="hotcoco has no boundary AP; take pycocotools"):
        average_precision(load_truth(scene()[0]), [], "boundary", "hotcoco")
