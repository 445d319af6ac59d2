"""Figures by their artists: data, places, limits, colours, labels. Never pixels."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.collections import QuadMesh
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.patches import Rectangle
from support.runs import TARGETS, parts

from analysis.figures import palette
from analysis.figures.canvas import boxes as drawn_boxes
from analysis.figures.canvas import pictures
from analysis.numbers import usage as metrics
from svit.core.types import Detections, TokenGrid

ONE = parts(1)
TRACE, GRID, IMAGE = ONE["trace"], ONE["trace"].grid, ONE["image"]


def images(ax) -> list[AxesImage]:
    return ax.get_images()


def test_the_style_file_is_valid_and_makes_stable_files():
    style = palette.STYLE  # matplotlib read it
    assert style["svg.hashsalt"] and style["pdf.fonttype"] == 42
    assert style["image.cmap"] in ("inferno", "magma", "viridis", "cividis", "plasma")


def test_a_picture_fills_the_source_frame_whatever_its_size(ax):
    small = IMAGE[::2, ::2]
    assert pictures.picture(small, GRID, ax) is ax
    height, width = GRID.image_hw
    assert images(ax)[0].get_extent() == [0, width, height, 0]
    assert ax.get_xlim() == (0, width) and ax.get_ylim() == (height, 0)
    assert ax.get_aspect() == 1


def test_a_grey_ground_has_no_colour(ax):
    pictures.picture(IMAGE, GRID, ax, grey=True)
    shown = np.asarray(images(ax)[0].get_array())
    assert (shown[..., 0] == shown[..., 1]).all() and (shown[..., 1] == shown[..., 2]).all()
    assert shown.min() >= 0.3 and shown.max() <= 1


def test_tokens_lie_where_the_grid_says_and_padding_is_not_drawn(ax):
    grid = TokenGrid((90, 100), (180, 200), (14, 16))  # 12 x 13 valid tokens of 8 source pixels
    usage = np.arange(12 * 13).reshape(12, 13) % 13
    pictures.usage_heatmap(usage, grid, ax, limits=(0, 12))
    drawn = images(ax)[0]
    assert drawn.get_array().shape == grid.valid_hw
    left, right, bottom, top = drawn.get_extent()
    for row, column in [(0, 0), (5, 7), (11, 0)]:
        box = grid.token_box(row, column)
        assert left + column * (right - left) / 13 == pytest.approx(box[0])
        assert top + row * (bottom - top) / 12 == pytest.approx(box[1])
    assert right > 100 and ax.get_xlim() == (0, 100)  # the last token is cut at the image's edge


def test_a_map_with_padding_is_refused(ax):
    with pytest.raises(ValueError, match=r"map of the \(8, 10\) valid tokens, found \(8, 12\)"):
        grid = TokenGrid((128, 160), (128, 160), (8, 12))
        pictures.usage_heatmap(np.zeros((8, 12)), grid, ax, limits=(0, 12))


def test_the_heatmap_shows_the_counts_over_a_grey_picture(ax):
    usage = metrics.usage(TRACE)
    pictures.usage_heatmap(usage, GRID, ax, limits=(3, 12), image=IMAGE, alpha=0.6)
    ground, drawn = images(ax)
    np.testing.assert_array_equal(drawn.get_array(), usage)
    assert drawn.get_alpha() == 0.6
    assert ground.get_array().shape[:2] == IMAGE.shape[:2]


@pytest.mark.parametrize("limits", [(3, 12), (0, 4)])
def test_the_colour_bar_has_one_colour_and_one_tick_a_count(ax, limits):
    usage = np.full(GRID.valid_hw, limits[1])
    pictures.usage_heatmap(usage, GRID, ax, limits=limits)
    drawn = images(ax)[0]
    counts = np.arange(limits[0], limits[1] + 1)
    (bar,) = ax.child_axes
    np.testing.assert_array_equal(bar.get_yticks(), counts)
    assert bar.get_ylabel() == "layers that used the token"
    colours = drawn.cmap(drawn.norm(counts))
    assert len(np.unique(colours, axis=0)) == len(counts)
    luma = colours[:, :3] @ [0.299, 0.587, 0.114]
    assert (np.diff(luma) > 0).all()  # more use is brighter, also in grey print
    (solids,) = (item for item in bar.collections if isinstance(item, QuadMesh))
    assert solids.get_alpha() in (None, 1)  # opaque


def test_the_numbers_beside_a_small_map_have_room():
    ax = Figure(figsize=(6, 4)).subplots(3, 6)[0, 0]
    pictures.usage_heatmap(metrics.usage(TRACE), GRID, ax, limits=(0, 12))
    (bar,) = ax.child_axes
    ticks = bar.get_yticks()
    assert ticks[-1] == 12 and len(ticks) >= 2
    ax.apply_aspect()
    inches = ax.get_window_extent().height / ax.figure.dpi
    assert inches * (ticks[1] - ticks[0]) / 13 >= 0.12


def test_the_colour_bar_can_be_left_out(ax):
    pictures.usage_heatmap(metrics.usage(TRACE), GRID, ax, limits=(3, 12), colorbar=False)
    assert not ax.child_axes


def test_layer_colours_are_those_of_the_paper(ax):
    states = metrics.layer_states(TRACE)
    pictures.layer_tokens(states, 6, GRID, ax, image=IMAGE, alpha=0.8, ratio=0.494)
    cover = np.asarray(images(ax)[1].get_array())
    assert (cover[states.used[6]][:, 3] == 0).all()  # the picture shows
    white = cover[states.never[6]]
    np.testing.assert_allclose(white, np.tile([1, 1, 1, 0.8], (len(white), 1)))
    cyan = cover[states.later[6]]
    np.testing.assert_allclose(cyan, np.tile([*to_rgb(palette.LATER), 0.8], (len(cyan), 1)))
    assert len(white) and len(cyan)
    assert ax.get_title(loc="left") == "block 7  49% kept"


def test_the_strip_draws_each_layer_once():
    states, ratios = metrics.layer_states(TRACE), metrics.keep_ratios(TRACE)
    layers = metrics.gated_layers(12, TARGETS)
    axes = Figure().subplots(3, 3).flat
    drawn = pictures.layer_strip(states, GRID, axes, layers=layers, ratios=ratios, image=IMAGE)
    titles = [ax.get_title().split("  ")[0] for ax in drawn]
    assert titles == [f"block {number}" for number in range(4, 13)]
    with pytest.raises(ValueError):
        pictures.layer_strip(states, GRID, [drawn[0]], layers=layers, ratios=ratios)


def test_the_legend_names_the_three_states(ax):
    pictures.state_legend(ax)
    texts = [text.get_text() for text in ax.get_legend().get_texts()]
    assert len(texts) == 3 and "reactivated" in texts[2]


def test_the_legend_shows_colours_as_they_look_over_the_picture(ax):
    states, dark = metrics.layer_states(TRACE), np.zeros_like(IMAGE)
    pictures.layer_tokens(states, 6, GRID, ax, image=dark)
    cover = np.asarray(images(ax)[1].get_array())
    legend = pictures.state_legend(Figure().subplots(), image=dark).get_legend()
    for patch, state in zip(legend.get_patches()[1:], (states.never, states.later), strict=True):
        shown = cover[state[6]][0]
        np.testing.assert_allclose(patch.get_facecolor()[:3], shown[:3] * shown[3])


def boxes(ax) -> list[Rectangle]:
    return [patch for patch in ax.patches if isinstance(patch, Rectangle)]


def test_detections_have_boxes_masks_and_tags(ax):
    pictures.picture(IMAGE, GRID, ax)
    drawn_boxes.detections(ONE["detections"], ax, class_names=["disc", "ball"], threshold=0)
    found = ONE["detections"]
    drawn = [
        [*box.get_xy(), *np.add(box.get_xy(), (box.get_width(), box.get_height()))]
        for box in boxes(ax)
    ]
    np.testing.assert_allclose(drawn, found.boxes_xyxy)
    assert [text.get_text() for text in ax.texts] == ["disc 0.95", "ball 0.40"]
    assert len(ax.collections) == 4  # a fill and an outline each
    assert boxes(ax)[0].get_edgecolor() != boxes(ax)[1].get_edgecolor()


def test_the_outline_of_a_mask_encloses_it(ax):
    mask = np.zeros((1, *GRID.image_hw), bool)
    mask[0, 0:30, 100:150] = True  # touches two edges of the picture
    found = Detections([[100, 0, 150, 30]], [0.9], [0], mask)
    drawn_boxes.detections(found, pictures.picture(IMAGE, GRID, ax))
    extents = ax.collections[1].get_paths()[0].get_extents()
    np.testing.assert_allclose([extents.x0, extents.y0, extents.x1, extents.y1], [100, 0, 150, 30])


def test_low_scores_empty_masks_and_unknown_classes_are_handled(ax):
    pictures.picture(IMAGE, GRID, ax)
    drawn_boxes.detections(ONE["detections"], ax, threshold=0.5)
    assert [text.get_text() for text in ax.texts] == ["class 0 0.95"]
    drawn_boxes.detections(ONE["detections"][:0], ax)
    assert len(boxes(ax)) == 1
    nothing = np.zeros((1, *GRID.image_hw), bool)
    drawn_boxes.detections(Detections([[0, 0, 9, 9]], [0.9], [31], nothing), ax)
    assert len(ax.texts) == 2 and len(ax.collections) == 2


def test_tags_do_not_cover_each_other_and_none_is_lost(ax):
    pictures.picture(IMAGE, GRID, ax)
    near = [[50, 50, 90, 90], [52, 51, 95, 93], [50, 100, 90, 119], [51, 52, 94, 92]]
    drawn_boxes.detections(Detections(near, [0.9, 0.8, 0.7, 0.6], [0, 0, 1, 2]), ax)
    assert [text.get_text() for text in ax.texts] == [
        "class 0 0.90",
        "class 0 0.80",
        "class 1 0.70",
    ]
    places = np.array([text.get_position() for text in ax.texts])
    apart = np.abs(places[:, None] - places[None])[np.triu_indices(3, 1)]
    assert (apart > [0.2 * 150, 0.05 * 120]).any(axis=1).all()
    assert ax.get_xlabel() == "without room for a name: class 2 0.60"
    assert len(boxes(ax)) == 4


def test_a_crowd_of_detections_is_counted_below_a_picture_without_tags(ax):
    pictures.picture(IMAGE, GRID, ax)
    crowd = Detections([[50, 50, 90, 90]] * 12, np.linspace(0.95, 0.6, 12), [0] * 9 + [1] * 3)
    drawn_boxes.detections(crowd, ax, class_names=("disc", "ball"))
    assert not ax.texts and len(boxes(ax)) == 12
    assert ax.get_xlabel() == "9 × disc, 3 × ball; scores 0.60 to 0.95"


def test_tags_turn_inwards_at_the_edges(ax):
    pictures.picture(IMAGE, GRID, ax)
    corners = [[2, 1, 40, 40], [140, 60, 150, 90]]
    drawn_boxes.detections(Detections(corners, [0.9, 0.8], [0, 1]), ax)
    top, right = ax.texts
    assert top.get_va() == "top" and top.get_ha() == "left"
    assert right.get_ha() == "right" and right.get_position()[0] == 150


def test_tags_can_be_left_out(ax):
    drawn_boxes.detections(ONE["detections"], pictures.picture(IMAGE, GRID, ax), tags=False)
    assert not ax.texts and boxes(ax)


def perceived(colours: np.ndarray) -> np.ndarray:
    """CIELAB of sRGB colours (n, 3)."""
    flat = np.where(colours <= 0.04045, colours / 12.92, ((colours + 0.055) / 1.055) ** 2.4)
    rows = [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
    x, y, z = np.cbrt(np.maximum(flat @ np.array(rows).T / np.sum(rows, axis=1), 1e-3)).T
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=1)


@pytest.mark.parametrize("alpha", [0.6, 0.75, 0.85, 1.0])
@pytest.mark.parametrize("steps", [5, 10, 13, 25])
def test_a_token_looks_like_its_own_colour_of_the_bar_whatever_the_picture(alpha, steps, ax):
    black_to_white = np.linspace(0, 255, steps * steps).reshape(steps, steps)[..., None]
    image = np.repeat(black_to_white, 3, axis=-1).astype(np.uint8)
    grid = TokenGrid((16 * steps, 16 * steps), (16 * steps, 16 * steps), (steps, steps))
    usage = np.tile(np.arange(steps), (steps, 1))
    pictures.usage_heatmap(usage, grid, ax, limits=(0, steps - 1), image=image, alpha=alpha)
    ground, drawn = images(ax)
    over = drawn.cmap(drawn.norm(usage))[..., :3]
    seen = perceived((alpha * over + (1 - alpha) * ground.get_array()).reshape(-1, 3))
    (mesh,) = (item for item in ax.child_axes[0].collections if isinstance(item, QuadMesh))
    bar = perceived(mesh.cmap(np.arange(steps))[:, :3])
    nearest = np.linalg.norm(seen[:, None] - bar[None], axis=-1).argmin(axis=1)
    np.testing.assert_array_equal(nearest.reshape(steps, steps), usage)


def test_ends_of_a_cropped_bar_say_that_they_stand_for_more(ax):
    usage = np.resize(np.arange(13), GRID.valid_hw)
    pictures.usage_heatmap(usage, GRID, ax, limits=(7, 12))
    assert [one.get_text() for one in ax.child_axes[0].get_yticklabels()] == [
        "≤7",
        "8",
        "9",
        "10",
        "11",
        "12",
    ]
