"""Tokens on objects: cover, regions, usage of objects, AUC; against counts by hand and slow versions."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from support.runs import grid_for, parts
from support.runs import token_means as slow_means

from analysis.numbers import regions
from svit.core import coverage
from svit.core.types import Target, TokenGrid, TokenTrace

GRID = TokenGrid((32, 32), (32, 32), (2, 2))  # four tokens of 16 x 16 source pixels


def target_of(*masks: np.ndarray, crowd=None, areas=None) -> Target:
    boxes = np.tile([0, 0, 32, 32], (len(masks), 1))
    stack = np.array(masks, bool).reshape(len(masks), 32, 32)
    return Target(boxes, np.zeros(len(masks), int), stack, crowd, areas)


def block(rows: slice, columns: slice) -> np.ndarray:
    mask = np.zeros((32, 32), bool)
    mask[rows, columns] = True
    return mask


LEFT = block(slice(0, 32), slice(0, 16))  # fills the two left tokens
CORNER = block(slice(0, 8), slice(16, 32))  # half of the upper right token


def trace_of(*layers) -> TokenTrace:
    return TokenTrace(1, GRID, np.array(layers, bool).reshape(len(layers), 2, 2))


def test_cover_is_the_covered_share_of_every_token():
    cover = coverage.token_cover(np.stack([LEFT, CORNER]), GRID)
    np.testing.assert_allclose(cover, [[[1, 0], [1, 0]], [[0, 0.5], [0, 0]]], atol=1e-6)


def test_cover_counts_cut_pixels_and_border_tokens_by_area():
    grid = TokenGrid((5, 7), (40, 56), (3, 4))  # tokens of 2 pixels; the last row and column cut
    mask = np.arange(35).reshape(1, 5, 7) % 3 == 0
    cover = coverage.token_cover(mask, grid)[0]
    assert cover.shape == (3, 4)
    assert cover[0, 0] == pytest.approx(mask[0, :2, :2].mean())
    assert cover[2, 3] == pytest.approx(mask[0, 4:, 6:].mean())
    odd = TokenGrid((3, 3), (32, 32), (2, 2))  # tokens of 1.5 pixels
    values = np.arange(9.0).reshape(3, 3, 1)
    expected = (0 + 0.5 * 1 + 0.5 * 3 + 0.25 * 4) / 2.25
    assert coverage.token_means(values, odd)[0, 0, 0] == pytest.approx(expected)


def test_means_agree_with_a_loop_over_tokens():
    one = parts(4)
    grey = one["image"].mean(axis=2)
    grid = one["trace"].grid
    rows, columns = grid.valid_hw
    np.testing.assert_allclose(
        coverage.token_means(grey, grid), slow_means(grey, grid)[:rows, :columns], rtol=1e-4
    )


def test_regions_by_hand():
    found = coverage.regions(target_of(LEFT, CORNER), GRID)
    np.testing.assert_array_equal(found.inside, [[1, 0], [1, 0]])
    np.testing.assert_array_equal(found.contour, [[0, 1], [0, 0]])
    np.testing.assert_array_equal(found.background, [[0, 0], [0, 1]])
    np.testing.assert_array_equal(found.foreground, [[1, 1], [1, 0]])
    assert not found.left_out.any()


def test_a_crowd_is_neither_object_nor_background():
    found = coverage.regions(target_of(LEFT, CORNER, crowd=[False, True]), GRID)
    np.testing.assert_array_equal(found.left_out, [[0, 1], [0, 0]])
    np.testing.assert_array_equal(found.background, [[0, 0], [0, 1]])
    assert not found.contour.any()


def test_without_objects_all_is_background():
    found = coverage.regions(target_of(), GRID)
    assert found.background.all() and not found.foreground.any()


@given(arrays(bool, (3, 32, 32), elements=st.booleans()), arrays(bool, 3))
def test_regions_are_disjoint_and_fill_the_image(masks, crowd):
    found = coverage.regions(target_of(*masks, crowd=crowd), GRID)
    stack = np.stack([found.contour, found.inside, found.background, found.left_out])
    assert (stack.sum(axis=0) == 1).all()


def test_use_of_regions_by_hand():
    trace = trace_of([1, 1, 1, 1], [1, 1, 0, 0], [0, 1, 0, 0])
    frame = regions.region_frame([(trace, target_of(LEFT, CORNER))])
    shares = frame.pivot(index="block", columns="region", values="share")
    assert shares["inside"].tolist() == [1, 0.5, 0]
    assert shares["contour"].tolist() == [1, 1, 1]
    assert shares["background"].tolist() == [1, 0, 0]
    table = regions.region_summary(frame).set_index("region")
    assert table["usage"].to_dict() == {"contour": 3, "inside": 1.5, "background": 1}
    assert table.loc["inside", "area"] == 0.5
    assert table["spent"].to_dict() == pytest.approx(
        {"contour": 3 / 7, "inside": 3 / 7, "background": 1 / 7}
    )


def test_a_region_without_tokens_has_no_share_and_no_samples_no_rows():
    frame = regions.region_frame([(trace_of([1, 1, 1, 1]), target_of())])
    assert frame.set_index("region")["share"].isna().to_dict() == {
        "contour": True,
        "inside": True,
        "background": False,
    }
    assert regions.region_frame([]).empty and regions.object_frame([]).empty
    assert regions.region_summary(regions.region_frame([])).empty
    assert regions.group_frame(regions.object_frame([]), "size").empty


def test_other_layer_counts_are_refused():
    samples = [(trace_of([1] * 4), target_of()), (trace_of([1] * 4, [1] * 4), target_of())]
    with pytest.raises(ValueError, match="expected 1 layers, found 2"):
        regions.region_frame(samples)


def test_usage_of_objects_by_hand():
    trace = trace_of([1, 1, 1, 1], [1, 1, 0, 0], [0, 1, 0, 0])  # usage 2 3 / 1 1
    target = target_of(LEFT, CORNER, LEFT, crowd=[0, 0, 1], areas=[5000, 128, 1])
    frame = regions.object_frame([(trace, target)], ["thing"])
    assert frame["usage"].tolist() == pytest.approx([1.5, 3])
    assert frame["excess"].tolist() == pytest.approx([-0.25, 1.25])
    assert frame["tokens"].tolist() == pytest.approx([2, 0.5])
    assert frame["size"].tolist() == ["medium", "small"] and set(frame["class"]) == {"thing"}
    groups = regions.group_frame(frame, "class")
    assert groups.iloc[0][["class", "objects", "mean"]].tolist() == ["thing", 2, 2.25]


def test_sizes_are_those_of_coco():
    names = coverage.size_names(np.array([0, 1024, 1025, 9216, 9217]))
    assert names.tolist() == ["small", "small", "medium", "medium", "large"]


def test_auc_by_hand():
    assert regions.auc(np.array([1, 2, 3, 4]), np.array([0, 0, 1, 1], bool)) == 1
    assert regions.auc(np.array([1, 3, 3, 4]), np.array([0, 1, 0, 1], bool)) == 0.875
    assert np.isnan(regions.auc(np.array([1.0, 2]), np.array([True, True])))
    assert np.isnan(regions.auc(np.zeros(0), np.zeros(0, bool)))


SCORES = arrays(np.int8, 12, elements=st.integers(-3, 3))
SIDES = arrays(bool, 12).filter(lambda side: 0 < side.sum() < 12)


@given(SCORES, SIDES)
def test_auc_equals_the_count_of_pairs_and_flips_with_the_sign(scores, positive):
    gaps = np.sign(scores[positive][:, None].astype(int) - scores[~positive][None, :])
    value = regions.auc(scores, positive)
    assert value == pytest.approx(((gaps + 1) / 2).mean())
    assert regions.auc(-scores, positive) == pytest.approx(1 - value)
    assert regions.auc(scores, ~positive) == pytest.approx(1 - value)


@given(SIDES, st.floats(-5, 5))
def test_a_constant_map_has_an_auc_of_one_half(positive, level):
    assert regions.auc(np.full(12, level), positive) == 0.5


def samples(*seeds: int, picture: bool = True):
    for seed in seeds:
        one = parts(seed)
        yield one["trace"], one["target"], one["image"] if picture else None


def test_objectness_of_one_image_pools_to_itself():
    frame = regions.objectness_frame(samples(1))
    table = regions.objectness_table(frame)
    assert list(table["map"].unique()) == ["usage", "centre", "contrast", "colour"]
    np.testing.assert_allclose(table["pooled"], table["mean"], atol=2e-3)
    usage = table[table["map"] == "usage"]
    np.testing.assert_allclose(usage["pooled"], usage["mean"], rtol=0, atol=1e-12)
    assert table["images"].eq(1).all()


def test_usage_stands_beside_each_map_on_the_same_images():
    frame = regions.objectness_frame(samples(1, 2, 3))
    table = regions.objectness_table(frame).set_index(["map", "goal"])
    single = frame[frame["image_id"].notna()].pivot(
        index="image_id", columns=["map", "goal"], values="auc"
    )
    for name, goal in table.index.drop([("usage", goal) for goal in regions.GOALS]):
        gap = (single["usage", goal] - single[name, goal]).dropna()
        row = table.loc[(name, goal)]
        assert row["gap"] == pytest.approx(gap.mean())
        assert (
            gap.min() - 1e-9 <= row["gap_low"] <= row["gap"] <= row["gap_high"] <= gap.max() + 1e-9
        )
    assert table.loc["usage", "gap"].isna().all()


def test_objectness_of_a_slice_is_that_of_its_images_alone():
    frame = regions.objectness_frame(samples(1, 2, 3))
    kinds = pd.DataFrame({"image_id": [1, 2, 3], "kind": ["dark", "dark", "light"]})
    table = regions.objectness_by(frame, kinds)
    whole = table[table["slice"] == "all"].drop(columns=["slice", "of"])
    pd.testing.assert_frame_equal(whole, regions.objectness_table(frame), check_like=True)
    alone = regions.objectness_table(regions.objectness_frame(samples(1, 2)))
    dark = table[(table["slice"] == "kind") & (table["of"] == "dark")].reset_index(drop=True)
    assert dark["pooled"].isna().all()
    for name in ("map", "goal", "mean", "gap", "gap_low", "gap_high", "images"):
        assert dark[name].tolist() == pytest.approx(alone[name].tolist(), nan_ok=True)


def test_pooled_objectness_equals_the_auc_of_all_tokens():
    values, sides = [], []
    for trace, target, _ in samples(1, 2, 3):
        values.append(trace.usage[: trace.grid.valid_hw[0], : trace.grid.valid_hw[1]].ravel())
        sides.append(coverage.regions(target, trace.grid).foreground.ravel())
    table = regions.objectness_table(regions.objectness_frame(samples(1, 2, 3)))
    row = table[(table["map"] == "usage") & (table["goal"] == "foreground")].iloc[0]
    assert row["pooled"] == pytest.approx(regions.auc(np.hstack(values), np.hstack(sides)))


def test_focus_holds_the_numbers_of_objectness_and_regions():
    found = regions.focus([(trace, target) for trace, target, _ in samples(1, 2)])
    table = regions.objectness_table(regions.objectness_frame(samples(1, 2)))
    auc = table[table["map"] == "usage"].set_index("goal")["pooled"]
    assert (found["object_auc"], found["contour_auc"]) == (auc["foreground"], auc["contour"])
    summary = regions.region_summary(
        regions.region_frame((trace, target) for trace, target, _ in samples(1, 2))
    )
    for region, usage in summary.set_index("region")["usage"].items():
        assert found[region] == usage


def test_without_pictures_usage_and_place_are_measured():
    frame = regions.objectness_frame(samples(1, 2, picture=False))
    assert set(frame["map"]) == {"usage", "centre"}
    assert regions.objectness_table(regions.objectness_frame([])).empty


def test_nearness_to_the_middle_by_hand():
    near = coverage.centre_nearness(TokenGrid((32, 64), (32, 64), (4, 4)))
    np.testing.assert_allclose(near[:, 1], 1 - np.hypot(1 / 2, 1 / 4) / np.sqrt(2))
    np.testing.assert_allclose(near, near[::-1, ::-1])
    assert near.shape == (2, 4) and near.max() == near[0, 1] and near.min() == near[0, 0]


def test_baselines_by_hand():
    picture = np.zeros((32, 32, 3), np.uint8)
    picture[:16, 0:16:2] = 100  # stripes in the first token only
    contrast = coverage.local_contrast(picture, GRID)
    np.testing.assert_allclose(contrast, [[50, 0], [0, 0]], atol=0.02)
    distance = coverage.colour_distance(picture, GRID)
    mean = 100 / 8
    np.testing.assert_allclose(
        distance, np.sqrt(3) * np.array([[50 - mean, mean], [mean, mean]]), rtol=1e-5
    )


def test_baselines_read_a_smaller_stored_picture():
    one = parts(5)
    grid = grid_for(one["image"].shape[:2])
    small = coverage.colour_distance(one["image"][::2, ::2], grid)
    assert (
        np.corrcoef(small.ravel(), coverage.colour_distance(one["image"], grid).ravel())[0, 1] > 0.9
    )


def test_edges_are_counted_where_grey_changes():
    picture = np.zeros((4, 8, 3), np.uint8)
    assert coverage.edge_density(picture) == 0
    picture[:, 4:] = 100  # central differences see the step in two columns
    assert coverage.edge_density(picture) == pytest.approx(2 / 8)
    assert coverage.edge_density(picture[:1]) == 0
