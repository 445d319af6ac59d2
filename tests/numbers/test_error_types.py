"""TIDE's six types: by example, against a slow obvious version, and against the reference on the demo."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from support.runs import crowd_of

from analysis.numbers.error_types import RIGHT, TYPES, Chosen, Errors, Rule, errors_of
from svit.core.types import Detections, Target
from svit.runs.run import open_run

DEMO = Path(__file__).parents[2] / "demo" / "runs"
A, B, FAR = [0, 0, 10, 10], [20, 0, 30, 10], [40, 40, 50, 50]

# tidecv 1.0.1 (BOX, then MASK): AP50 and dAP of classification, localisation, both, duplicate, background,
# missed of the shipped runs
REFERENCE = {
    ("svit-plain-nano", "box"): (76.2690, 10.369, 2.681, 0.165, 0.000, 0.213, 2.843),
    ("svit-plain-nano", "mask"): (74.6135, 9.885, 2.728, 0.123, 0.000, 0.246, 4.734),
    ("svit-plain-nano-random", "mask"): (70.9414, 6.277, 2.111, 2.573, 0.033, 1.041, 2.454),
    ("svit-with-adapter-nano", "box"): (74.3822, 9.979, 2.422, 0.558, 0.235, 0.548, 2.366),
    ("vit-plain-nano", "box"): (79.0629, 9.431, 2.266, 0.378, 0.000, 0.055, 2.794),
}


def target_of(boxes, labels=None, crowd=None) -> Target:
    boxes = np.array(boxes, float).reshape(-1, 4)
    labels = np.zeros(len(boxes), int) if labels is None else np.asarray(labels)
    areas = np.ones(len(boxes))
    return Target(boxes, labels, np.zeros((len(boxes), 60, 60), bool), crowd, areas)


def found_of(boxes, labels=None, scores=None) -> Detections:
    boxes = np.array(boxes, float).reshape(-1, 4)
    labels = np.zeros(len(boxes), int) if labels is None else np.asarray(labels)
    scores = np.linspace(0.9, 0.1, len(boxes)) if scores is None else scores
    return Detections(boxes, scores, labels)


def one_image(target: Target, found: Detections, **rule) -> Errors:
    return errors_of([("a", target, found)], ("disc", "star"), Rule(**rule))


@pytest.mark.parametrize(
    ("boxes", "labels", "errors"),
    [
        ([A], [0], [RIGHT]),
        ([A], [1], ["classification"]),
        ([[0, 0, 10, 4]], [0], ["localisation"]),
        ([[0, 0, 10, 4]], [1], ["both"]),
        ([A, [0, 0, 10, 9]], [0, 0], [RIGHT, "duplicate"]),
        ([FAR], [0], ["background"]),
    ],
)
def test_a_detection_is_explained_by_what_it_overlaps(boxes, labels, errors):
    found = one_image(target_of([A]), found_of(boxes, labels))
    assert found.detections["error"].tolist() == errors
    assert found.detections["object"].tolist() == [-1 if boxes == [FAR] else 0] * len(boxes)


def test_an_object_is_missed_if_nothing_could_be_mended_to_find_it():
    errors = one_image(target_of([A, B, FAR]), found_of([A, [20, 0, 30, 4]]))
    assert errors.objects["found"].tolist() == [True, False, False]
    assert errors.objects["missed"].tolist() == [False, False, True]
    assert errors.counts().to_dict() == {name: 0 for name in TYPES} | {
        "localisation": 1,
        "missed": 1,
    }


def test_mending_gives_back_what_the_errors_cost():
    errors = one_image(target_of([A, B]), found_of([FAR, A, [20, 0, 30, 4]]))
    costs = {name: drawn.value for name, drawn in errors.costs(draws=2).items()}
    # a wrong one before the first of two objects: half of them at precision 1/2, up to recall 0.5
    assert errors.ap(draws=2).value == pytest.approx(100 * 51 / 101 / 2)
    assert costs["background"] == pytest.approx(100 * 51 / 101 / 2)
    assert costs["localisation"] == pytest.approx(100 * 2 / 3 - 100 * 51 / 101 / 2)
    assert costs["missed"] == costs["duplicate"] == 0


def test_a_detection_in_a_crowd_is_no_error():
    errors = one_image(target_of([A, FAR], crowd=[True, False]), found_of([A, [41, 41, 49, 45]]))
    assert errors.detections["ignored"].tolist() == [True, False]
    assert errors.counts()["background"] == 0 and errors.counts()["localisation"] == 1


def test_detections_below_the_score_are_left_out():
    errors = one_image(target_of([A]), found_of([A, FAR]), score=0.5)
    assert errors.detections["error"].tolist() == [RIGHT]


def test_all_detections_count_unless_only_the_best_are_asked_for():
    target, found = crowd_of(150)
    every, best = one_image(target, found), one_image(target, found, most=100)
    assert every.ap(draws=2).value == 100 and every.objects["found"].all()
    # recalls up to 2/3 are reached: the reference's limit, which the caller has to name
    assert best.ap(draws=2).value == pytest.approx(100 * 67 / 101)
    assert best.counts()["missed"] == 50 and len(best.detections) == 100


def test_only_chosen_errors_are_mended():
    errors = one_image(target_of([A, B]), found_of([FAR, [40, 20, 50, 30], A, B]))
    some = Chosen(np.array([True, False, False, False]), np.ones(2, bool))
    every, first = (errors.costs(2, chosen=one)["background"].value for one in (None, some))
    assert every == pytest.approx(50) and 0 < first < every


def test_an_image_drawn_twice_is_two_images():
    samples = list(random_sets(3, ties=False))
    flat = [(f"{place}", *sample[1:]) for place, one in enumerate(samples) for sample in one]
    weights = np.arange(len(flat)) % 3
    written = [one for one, times in zip(flat, weights, strict=True) for _ in range(times)]
    once, often = errors_of(flat), errors_of(written)
    ones = np.ones(len(written), np.int64)
    for error in TYPES:
        assert once.mended(error).ap(weights) == pytest.approx(often.mended(error).ap(ones))


def test_nothing_at_all_has_no_ap():
    for samples in ([], [("a", target_of([]), found_of([]))]):
        errors = errors_of(samples)
        assert not errors.counts().any() and np.isnan(
            errors.as_it_is.ap(np.ones(len(samples), int))
        )


def test_what_cannot_be_is_refused():
    with pytest.raises(ValueError, match="expected one of classification, .* found 'wrong'"):
        one_image(target_of([A]), found_of([A])).mended("wrong")
    with pytest.raises(ValueError, match="boxes only"):
        one_image(target_of([A]), found_of([A]), kind="mask")


@pytest.mark.parametrize(("name", "kind"), REFERENCE)
def test_costs_are_those_of_the_reference_on_shipped_runs(name, kind):
    run = open_run(DEMO / name)
    parts = run.samples("trace", "target", "detections", masks=kind == "mask")
    errors = errors_of(((one.image_id, *rest) for one, *rest in parts), rule=Rule(kind=kind))
    costs = errors.costs(draws=1)
    ap, *gains = REFERENCE[name, kind]
    assert errors.ap(draws=1).value == pytest.approx(ap, abs=5.1e-5)
    assert [costs[one].value for one in TYPES] == pytest.approx(gains, abs=5.1e-4)


def random_sets(count: int, ties: bool = True):
    """Small dirty sets: crowds, equal boxes, equal scores, classes that are only detected."""
    random = np.random.default_rng(0)
    for _ in range(count):
        images = []
        for image in range(random.integers(1, 4)):
            objects, found = random.integers(0, 5), random.integers(0, 9)
            truth, boxes = (_boxes(random, size) for size in (objects, found))
            for place in np.flatnonzero(random.random(found) < 0.6 * (objects > 0)):
                boxes[place] = truth[random.integers(objects)]
                boxes[place, 2:] += random.integers(0, 3, 2)
            target = target_of(truth, random.integers(0, 3, objects), random.random(objects) < 0.2)
            scores = np.sort(random.random(found))[::-1]
            labels = random.integers(0, 4, found)
            images.append(
                (image, target, found_of(boxes, labels, scores.round(1) if ties else scores))
            )
        yield images


def _boxes(random: np.random.Generator, count: int) -> np.ndarray:
    corner = random.integers(0, 12, (count, 2))
    return np.concatenate([corner, corner + random.integers(1, 10, (count, 2))], 1).astype(float)


def test_types_and_costs_are_those_of_a_slow_obvious_version():
    for images in random_sets(40):
        errors = errors_of(images)
        expected, missed = slow_errors(images)
        assert errors.detections["error"].tolist() == [one["error"] for one in expected]
        assert int(errors.objects["missed"].sum()) == len(missed)
        everything = np.ones(len(images), np.int64)
        for name in (None, *TYPES):
            ranked = errors.as_it_is if name is None else errors.mended(name)
            ap = slow_ap(images, expected, missed, name)
            assert ranked.ap(everything) == pytest.approx(ap, nan_ok=True), name


def iou(a: np.ndarray, b: np.ndarray, of_first: bool = False) -> float:
    width, height = np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2])
    both = max(width, 0) * max(height, 0)
    first, second = (np.prod(one[2:] - one[:2]) for one in (a, b))
    return both / (first if of_first else first + second - both)


def slow_errors(images) -> tuple[list[dict], list[tuple]]:
    """Errors one by one, as the paper's section 2 and its code say."""
    rows, missed = [], []
    for image, target, found in images:
        objects = [i for i in range(len(target)) if not target.crowd[i]]
        finder: dict[int, int] = {}
        scored = zip(found.labels.tolist(), found.scores.tolist(), strict=True)
        own = [{"label": label, "score": score, "to": None} for label, score in scored]
        overlap = [[iou(box, other) for other in target.boxes_xyxy] for box in found.boxes_xyxy]
        for place, row in enumerate(own):
            free = [i for i in objects if target.labels[i] == row["label"] and i not in finder]
            best = max(free, key=lambda i: overlap[place][i], default=None)
            if best is not None and overlap[place][best] >= 0.5:
                finder[best], row["error"] = place, RIGHT
        for place, row in enumerate(own):
            row["ignored"] = "error" not in row and any(
                target.crowd[i]
                and target.labels[i] == row["label"]
                and iou(found.boxes_xyxy[place], target.boxes_xyxy[i], of_first=True) > 0.5
                for i in range(len(target))
            )
            if "error" not in row:
                row["error"], concerned = slow_type(
                    overlap[place], row["label"], objects, target, finder
                )
                if row["error"] in ("localisation", "classification") and concerned not in finder:
                    row["to"] = (image, concerned, int(target.labels[concerned]))
        rows += own
        able = {row["to"] for row in own} - {None}
        for i in objects:
            key = (image, i, int(target.labels[i]))
            if i not in finder and key not in able:
                missed.append(key)
    return rows, missed


def slow_type(overlap, label, objects, target, finder):
    same = [i for i in objects if target.labels[i] == label]
    other = [i for i in objects if target.labels[i] != label]

    def best(places):
        return max(places, key=lambda i: overlap[i], default=None)

    def most(places):
        return max((overlap[i] for i in places), default=0)

    if objects and 0.1 <= most(same) <= 0.5:
        return "localisation", best(same)
    if objects and most(other) >= 0.5:
        return "classification", best(other)
    if most([i for i in same if i in finder]) >= 0.5:
        return "duplicate", None
    return ("background" if most(objects) <= 0.1 else "both"), None


def slow_ap(images, rows, missed, mend) -> float:
    """AP at IoU 0.5 with the errors of one type mended, from lists written out."""
    asked: dict[int, int] = {}
    for _, target, _ in images:
        for label in target.labels[~target.crowd].tolist():
            asked[label] = asked.get(label, 0) + 1
    if mend == "missed":
        for _, _, label in missed:
            asked[label] -= 1
    wrong, right = [], []
    for row in rows:
        if row["error"] == RIGHT:
            right.append((row["label"], row["score"], True))
        elif row["error"] != mend:
            if not row["ignored"]:
                wrong.append((row["label"], row["score"], False))
        elif row["to"] and slow_is_first(rows, row):
            wrong.append((row["to"][2], row["score"], True))
    ranked = wrong + right
    if mend is None:  # as they come
        ranked = [
            (row["label"], row["score"], row["error"] == RIGHT)
            for row in rows
            if not row["ignored"]
        ]
    values = []
    for label in set(asked) | {one[0] for one in ranked}:
        own = sorted((one for one in ranked if one[0] == label), key=lambda one: -one[1])
        if own or asked.get(label, 0):
            values.append(slow_class_ap([one[2] for one in own], asked.get(label, 0)))
    return 100 * float(np.mean(values)) if values else float("nan")


def slow_is_first(rows, row) -> bool:
    return next(one for one in rows if one["to"] == row["to"]) is row


def slow_class_ap(hits: list[bool], objects: int) -> float:
    if not objects:
        return 0.0
    points = [(sum(hits[: n + 1]), n + 1) for n in range(len(hits))]
    total = 0.0
    for bar in range(101):
        reached = [found / seen for found, seen in points if found / objects >= bar / 100]
        total += max(reached, default=0.0)
    return total / 101
