"""Hits, areas and summaries follow from their definitions."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from svit.core.attribution import Explanation, Hit, Thing, TokenSet, summary
from svit.core.types import Detections, Target, TokenGrid

GRID = TokenGrid((64, 64), (64, 64), (4, 4), 16)


def box_mask(left: int, top: int, right: int, bottom: int) -> np.ndarray:
    mask = np.zeros((64, 64), bool)
    mask[top:bottom, left:right] = True
    return mask


def thing(*box: int, label: int = 1) -> Thing:
    return Thing(
        "annotation", 1, Target(np.float32([box]), np.array([label]), box_mask(*box)[None])
    )


def found(*boxes: tuple[int, ...], scores: list[float], labels: list[int]) -> Detections:
    masks = np.stack([box_mask(*box) for box in boxes])
    return Detections(np.float32(boxes), np.float32(scores), np.array(labels), masks)


def explanation(image_id: int, score: dict[str, list[float]], sets: tuple = ()) -> Explanation:
    """Curves through equally far points, one draw an order, the same in both modes."""
    rows = [
        {"order": order, "draw": 0, "mode": mode, "share": share, "tokens": 0, "score": y, "iou": 1}
        for order, values in score.items()
        for mode in ("deletion", "insertion")
        for share, y in zip(np.linspace(0, 1, len(values)), values, strict=True)
    ]
    return Explanation(
        *(image_id, "annotation", 1, 0, (0.0, 0.0, 9.0, 9.0), GRID, "own", (1, 2)),
        *(Hit(1, 1), Hit(1, 1), Hit(), 32, pd.DataFrame(rows), sets),
        *(pd.DataFrame(), pd.DataFrame(), 9),
    )


def test_the_best_detection_of_the_class_that_overlaps_by_half_finds_an_object() -> None:
    own = thing(0, 0, 20, 20)
    seen = found(
        *[(0, 0, 20, 20), (0, 0, 20, 15), (40, 40, 60, 60), (0, 0, 20, 20)],
        scores=[0.9, 0.8, 0.7, 0.6],
        labels=[0, 1, 1, 1],
    )
    hit = own.hit(seen)
    assert hit.score == pytest.approx(0.8) and hit.iou == pytest.approx(0.75)
    assert thing(0, 0, 20, 45).hit(seen) == Hit(0, 0)


def test_boxes_alone_are_compared_where_an_object_or_a_detection_has_no_mask() -> None:
    own = thing(0, 0, 20, 20)
    seen = found((0, 0, 20, 15), scores=[0.8], labels=[1])
    without = Detections(seen.boxes_xyxy, seen.scores, seen.labels)
    assert own.hit(without).iou == pytest.approx(0.75)
    rectangle = Target(own.target.boxes_xyxy, own.target.labels, own.target.masks[:, :1, :1] * 0)
    rectangle = Target(
        rectangle.boxes_xyxy, rectangle.labels, rectangle.masks, has_mask=np.array([False])
    )
    assert Thing("annotation", 1, rectangle).hit(seen).iou == pytest.approx(0.75)


def test_areas_are_trapezoids_in_points() -> None:
    areas = explanation(1, {"gates": [1.0, 0.5, 0.0]}).areas()
    assert areas["area"].tolist() == pytest.approx([50, 50])
    assert explanation(1, {"gates": [1.0, 1.0]}).areas()["area"].tolist() == pytest.approx(
        [100] * 2
    )


def test_summaries_pair_orders_object_by_object_and_draw_whole_images() -> None:
    many = [
        explanation(place // 2, {"gates": [1, 0.1 * place], "random": [1, 0.1 * place + 0.2]})
        for place in range(8)
    ]
    table = summary(many, draws=50).set_index(["mode", "order"])
    random = table.loc[("deletion", "random")]
    assert random["objects"] == 8 and random["images"] == 4
    assert random["minus"] == pytest.approx(-10)  # the same for every object: no spread
    assert random["minus_low"] == pytest.approx(-10) and random["minus_high"] == pytest.approx(-10)
    assert random["above"] == 0 and np.isnan(table.loc[("deletion", "gates"), "minus"])
    assert random["low"] < random["area"] < random["high"]


def test_frames_are_drawn_with_their_videos() -> None:
    many = [
        explanation(place, {"gates": [1, 0.1 * place], "random": [1, 0.9]}) for place in range(8)
    ]
    apart, joined, alone = (
        summary(many, 400, videos).set_index(["mode", "order"]).loc[("deletion", "gates")]
        for videos in (None, {i: i // 4 for i in range(8)}, dict.fromkeys(range(8), "a"))
    )
    assert apart["area"] == joined["area"] == alone["area"]
    # of two videos every fourth draw is of the first alone: its mean is the end
    ends = [explanation(i, {"gates": [1, 0.1 * i]}).areas()["area"].iloc[0] for i in range(8)]
    assert joined["low"] == pytest.approx(np.mean(ends[:4]))
    assert joined["low"] < apart["low"] < apart["high"] < joined["high"]
    assert np.isnan(alone["low"])


def test_orders_that_some_objects_lack_are_not_paired_with_the_others() -> None:
    many = [explanation(place, {"gates": [1, 0], "random": [1, 0]}) for place in range(3)]
    many.append(explanation(3, {"gates": [1, 0]}))
    table = summary(many, draws=5).set_index(["mode", "order"])
    assert table.loc[("deletion", "random"), "objects"] == 3
    assert "minus" not in table or np.isnan(table.loc[("deletion", "random"), "minus"])


def test_a_summary_of_objects_without_curves_is_refused() -> None:
    empty = explanation(1, {"gates": [1, 0]})
    object.__setattr__(empty, "curves", empty.curves[:0])
    with pytest.raises(ValueError, match="finds none"):
        summary([empty])


def test_stability_is_overlap_beside_what_chance_gives() -> None:
    sets = [TokenSet(tokens, 4, 1, 1, 8, True, 3) for tokens in ((0, 1, 2, 3), (0, 1, 4, 5))]
    same, chance = explanation(1, {"gates": [1, 0]}, tuple(sets)).stability
    assert same == pytest.approx(2 / 6) and chance == pytest.approx(2 / 6)
    assert np.isnan(explanation(1, {"gates": [1, 0]}).stability).all()
    none = (TokenSet((), 0, 1, 1, 0, True, 0),) * 2
    assert explanation(1, {"gates": [1, 0]}, none).stability == (1, 1)
