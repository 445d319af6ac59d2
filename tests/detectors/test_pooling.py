"""Pooling of regions, mask targets and mask pasting against slow, obvious versions."""

from __future__ import annotations

import math
from collections.abc import Callable
from unittest.mock import patch

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.ops import roi_align

from svit.detectors import pooling
from svit.detectors.pasting import paste_masks
from svit.detectors.pooling import PyramidRoIAlign, crop_masks, pool_by_bags, pool_by_matrices
from svit.speed.equal_work import spread_boxes


def test_region_features_equal_averages_of_bilinear_samples() -> None:
    values, box = torch.randn(1, 2, 16, 24), torch.tensor([[10.0, 6.0, 52.0, 47.0]])
    pooled = PyramidRoIAlign(7, (4, 8, 16, 32), 224)([values] * 4, [box])[0]
    left, top, right, bottom = (box[0] / 4 - 0.5).tolist()  # this box reads the stride-4 map
    width, height = (right - left) / 7, (bottom - top) / 7
    across, down = math.ceil(width), math.ceil(height)
    for row in range(7):
        for column in range(7):
            points = [
                _bilinear(
                    values[0],
                    left + (column + (i + 0.5) / across) * width,
                    top + (row + (j + 0.5) / down) * height,
                )
                for i in range(across)
                for j in range(down)
            ]
            average = torch.stack(points).mean(dim=0)
            assert torch.allclose(pooled[:, row, column], average, atol=1e-5)


# (image, x0, y0, width, height)
BOXES = st.lists(
    st.tuples(st.integers(0, 1), *[st.floats(-90, 200, width=32)] * 2, *[st.floats(0, 260)] * 2),
    min_size=1,
    max_size=6,
)


@settings(max_examples=60, deadline=None)
@given(BOXES, st.sampled_from([1, 7, 14]), st.sampled_from([0.25, 1 / 32]))
def test_pooling_by_matrices_and_its_gradient_equal_torchvisions(
    boxes: list[tuple[float, ...]], cells: int, scale: float
) -> None:
    regions = torch.tensor([[i, x, y, x + w, y + h] for i, x, y, w, h in sorted(boxes)])
    values = torch.randn(2, 3, 24, 31, requires_grad=True)
    wanted = roi_align(values, regions, cells, scale, sampling_ratio=0, aligned=True)
    direction = torch.randn_like(wanted)
    (gradient,) = torch.autograd.grad(wanted, values, direction)
    found = pool_by_matrices(values, regions, cells, scale)
    assert torch.allclose(found, wanted, atol=1e-4)
    assert torch.allclose(torch.autograd.grad(found, values, direction)[0], gradient, atol=1e-3)


@settings(max_examples=60, deadline=None)
@given(BOXES, st.sampled_from([1, 7, 14]), st.sampled_from([0.25, 1 / 32]))
def test_pooling_by_bags_equals_torchvisions(
    boxes: list[tuple[float, ...]], cells: int, scale: float
) -> None:
    regions = torch.tensor([[i, x, y, x + w, y + h] for i, x, y, w, h in boxes])
    values = torch.randn(2, 3, 24, 31)
    wanted = roi_align(values, regions, cells, scale, sampling_ratio=0, aligned=True)
    found = pool_by_bags(values, regions, cells, scale)
    torch.testing.assert_close(found, wanted, atol=2e-6, rtol=1e-6)


def _by_bags(*values: object, **_: object) -> torch.Tensor:
    return pool_by_bags(*values)


def _by_kernel(*values: object) -> torch.Tensor:
    return roi_align(*values, sampling_ratio=0, aligned=True)


@pytest.mark.parametrize(
    ("channels", "used", "other", "plain"),
    [(128, "pool_by_bags", "roi_align", _by_kernel), (8, "roi_align", "pool_by_bags", _by_bags)],
)
def test_where_nothing_is_differentiated_large_maps_are_pooled_by_the_fastest_and_equal(
    channels: int, used: str, other: str, plain: Callable[..., torch.Tensor]
) -> None:
    boxes = [spread_boxes((320, 288), 60, 10, seed) for seed in (0, 1)]
    maps = [torch.randn(2, channels, 320 // stride, 288 // stride) for stride in (4, 8, 16, 32)]
    pooler = PyramidRoIAlign(7, (4, 8, 16, 32), 224)
    with torch.no_grad():
        with patch.object(pooling, other, None):  # would fail if it were called
            fast = pooler(maps, boxes)
        with patch.object(pooling, used, plain):
            slow = pooler(maps, boxes)
    assert fast.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(fast, slow, atol=2e-6, rtol=1e-6)
    with patch.object(pooling, "pool_by_bags", None):
        pooler([values.requires_grad_() for values in maps], boxes).sum().backward()


def test_each_region_reads_the_level_of_its_size() -> None:
    pooler = PyramidRoIAlign(7, (4, 8, 16, 32), 224)
    sides = torch.tensor([3.0, 111.0, 112.0, 223.0, 225.0, 447.0, 449.0, 2000.0])
    boxes = torch.stack([sides * 0, sides * 0, sides, sides], dim=1)
    assert pooler.levels(boxes).tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    half = PyramidRoIAlign(7, (4, 8, 16, 32), 112)
    assert half.levels(boxes / 2).tolist() == [0, 0, 1, 1, 2, 2, 3, 3]


def test_regions_of_several_images_read_their_own_image() -> None:
    values = torch.stack([torch.zeros(1, 8, 8), torch.ones(1, 8, 8)])
    boxes = torch.tensor([[4.0, 4.0, 20.0, 20.0]])
    pooled = PyramidRoIAlign(2, (4, 8), 224)([values, values], [boxes, boxes.repeat(2, 1)])
    assert pooled.mean(dim=(1, 2, 3)).tolist() == [0.0, 1.0, 1.0]


@settings(max_examples=60)
@given(*[st.integers(-8, 24).map(lambda number: number + 0.25)] * 2, *[st.integers(1, 30)] * 2)
def test_a_full_mask_covers_exactly_the_pixels_whose_centre_is_in_the_box(
    left: float, top: float, width: int, height: int
) -> None:
    box = torch.tensor([[left, top, left + width, top + height]])
    pasted = paste_masks(torch.ones(1, 28, 28), box, (20, 22)).decoded()[0]
    y, x = np.mgrid[:20, :22] + 0.5
    inside = (x > left) & (x < left + width) & (y > top) & (y < top + height)
    assert np.array_equal(pasted, inside)


def test_a_pasted_mask_equals_bilinear_values_at_pixel_centres() -> None:
    mask, box = torch.rand(28, 28), torch.tensor([3.3, 2.1, 15.7, 17.2])
    pasted = paste_masks(mask[None], box[None], (20, 18)).decoded()[0]
    padded = torch.nn.functional.pad(mask, (1, 1, 1, 1))[None]
    for row in range(20):
        for column in range(18):
            x = (column + 0.5 - box[0]) / (box[2] - box[0]) * 28 - 0.5
            y = (row + 0.5 - box[1]) / (box[3] - box[1]) * 28 - 0.5
            inside = -1 < x < 28 and -1 < y < 28
            value = float(_bilinear(padded, float(x) + 1, float(y) + 1)) if inside else 0.0
            if abs(value - 0.5) > 1e-4:
                assert bool(pasted[row, column]) == (value >= 0.5)


def test_mask_targets_are_what_the_bitmap_shows_in_the_box() -> None:
    mask = torch.zeros(2, 40, 40, dtype=torch.bool)
    mask[1, 10:20, 10:30] = True
    boxes = torch.tensor([[10.0, 10.0, 30.0, 20.0], [0.0, 0.0, 40.0, 40.0]])
    cropped = crop_masks(mask, boxes, torch.tensor([1, 1]), 28)
    assert cropped[0].all()
    assert cropped[1].mean() == pytest.approx(200 / 1600, abs=0.02)
    assert crop_masks(mask, boxes[:0], torch.tensor([], dtype=torch.long), 28).shape == (0, 28, 28)


def _bilinear(values: torch.Tensor, x: float, y: float) -> torch.Tensor:
    """Value at (x, y) in cells between the four centres around it; the border repeats."""
    height, width = values.shape[-2:]
    x, y = min(max(x, 0.0), width - 1.0), min(max(y, 0.0), height - 1.0)
    left, top = min(int(x), width - 2), min(int(y), height - 2)
    fx, fy = x - left, y - top
    rows = values[:, top : top + 2, left : left + 2]
    upper = rows[:, 0, 0] * (1 - fx) + rows[:, 0, 1] * fx
    lower = rows[:, 1, 0] * (1 - fx) + rows[:, 1, 1] * fx
    return upper * (1 - fy) + lower * fy
