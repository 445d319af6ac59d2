"""The short way to the best boxes against torchvision's whole one."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.ops import batched_nms

from svit.detectors import anchors
from svit.detectors.anchors import MANY, best_apart


def crowd(many: int, spread: float, levels: int, seed: int):
    """Boxes around some places: the wider the spread, the fewer overlap. All scores differ."""
    noise = torch.Generator().manual_seed(seed)
    corner = spread * torch.rand(many, 2, generator=noise)
    boxes = torch.cat([corner, corner + 20 + 20 * torch.rand(many, 2, generator=noise)], dim=1)
    scores = torch.randperm(many, generator=noise) / 4096
    return boxes, scores, torch.randint(0, levels, (many,), generator=noise)


@settings(max_examples=40, deadline=None)
@given(
    many=st.integers(0, 2 * MANY),
    spread=st.sampled_from([0.0, 10.0, 200.0, 5000.0]),
    levels=st.integers(1, 5),
    count=st.integers(1, 1500),
    seed=st.integers(0, 1000),
)
def test_the_best_boxes_are_torchvisions(many, spread, levels, count, seed) -> None:
    one = crowd(many, spread, levels, seed)
    wanted = batched_nms(*one, 0.7)[:count]
    assert torch.equal(best_apart(*one, 0.7, count), wanted)


def test_of_equal_scores_the_first_box_comes_first() -> None:
    boxes, _, groups = crowd(2 * MANY, 5000.0, 3, seed=0)
    found = best_apart(boxes, torch.ones(2 * MANY), groups, 0.99, 50)
    assert found.tolist() == list(range(50))


@pytest.mark.parametrize(("spread", "most"), [(10_000.0, 200), (0.0, 3000)])
def test_no_more_boxes_are_looked_at_than_the_asked_for_need(monkeypatch, spread, most) -> None:
    seen = []
    monkeypatch.setattr(
        anchors,
        "nms",
        lambda *one, real=anchors.nms: seen.append(len(one[0])) or real(*one),
    )
    boxes, scores, _ = crowd(3000, spread, 1, seed=0)
    best_apart(boxes, scores, torch.zeros(3000), 0.7, 100)
    assert max(seen) == most
