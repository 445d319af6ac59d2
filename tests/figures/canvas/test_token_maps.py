"""Small pictures of tokens: colours where they belong, and the pixels around one token."""

from __future__ import annotations

import io

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.colors import to_rgb
from PIL import Image

from analysis.figures import palette
from analysis.figures.canvas import token_maps
from svit.core.types import TokenGrid


def levels(colour: str) -> list[int]:
    return np.rint(np.array(to_rgb(colour)) * 255).astype(int).tolist()


def test_states_have_their_colours_and_used_tokens_are_clear():
    pixels = token_maps.states(np.array([[0, 1], [2, 3]]), 0.8)
    assert pixels[0, 0, 3] == 0
    assert (pixels[..., 3].ravel()[1:] == 204).all()
    shown = [pixels[0, 1, :3].tolist(), pixels[1, 0, :3].tolist(), pixels[1, 1, :3].tolist()]
    assert shown == [levels(palette.PRUNED), levels(palette.LATER), levels(palette.NEXT)]


def test_a_veil_lies_over_all_but_the_shown_tokens():
    pixels = token_maps.only(np.array([[True, False]]), 1.0)
    assert pixels[0, :, 3].tolist() == [0, 255]


def test_scores_are_white_at_the_limit_and_clear_where_unknown():
    pixels = token_maps.scores(np.array([[-2.0, 0.0, 2.0, np.nan]]), 2.0, 1.0)
    ends = [levels(colour) for colour in token_maps.SCORE_COLOURS]
    assert [pixels[0, i, :3].tolist() for i in (0, 2)] == [ends[0], ends[2]]
    assert pixels[0, 1, :3].tolist() == pytest.approx(ends[1], abs=2)
    assert pixels[0, :, 3].tolist() == [255, 255, 255, 0]


def test_usage_takes_the_steps_of_the_figures_map():
    pixels = token_maps.usage(np.array([[3, 12]]), (3, 12), 0.5)
    ends = [np.array(mpl.colormaps["inferno"](value)[:3]) * 255 for value in (0.0, 1.0)]
    assert pixels[0, :, :3] == pytest.approx(np.array(ends), abs=1)
    assert (pixels[..., 3] == 128).all()


def test_a_map_ends_where_the_image_does():
    pixels = np.zeros((4, 6, 4), np.uint8)
    pixels[:, -1] = 200
    cut = token_maps.cut(pixels, TokenGrid((64, 84), (64, 84), (4, 6)), 8)  # 5.25 tokens wide
    assert cut.shape == (4 * 8, 42, 4)
    assert (cut[:, 40:] == 200).all() and (cut[:, :40] == 0).all()


def test_the_closeup_shows_the_token_in_its_ring():
    picture = np.zeros((64, 96, 3), np.uint8)
    picture[16:32, 32:48] = (0, 200, 0)  # token (1, 2) of 4 x 6
    grid = TokenGrid((64, 96), (64, 96), (4, 6))
    shown = np.asarray(Image.open(io.BytesIO(token_maps.closeup(picture, grid, (1, 2), 210))))
    assert shown.shape == (210, 210, 4)
    assert shown[105, 105].tolist() == [0, 200, 0, 255]
    assert shown[105, 80].tolist() == [0, 0, 0, 255]  # its neighbour
    assert shown[5, 105, 3] == 0  # above the picture
    assert shown[91, 105, :3].tolist() == levels(palette.HERE)


def test_painted_codes_have_their_colours_and_differences_are_white_at_zero():
    pixels = token_maps.painted(np.array([[0, 1, 2]]), [None, "#ffffff", "#102030"], 0.5)
    assert pixels[0, :, 3].tolist() == [0, 128, 128] and pixels[0, 2, :3].tolist() == [16, 32, 48]
    blue, white, red = token_maps.differences(np.array([[-9, 0, 9]]), 9, 1.0)[0, :, :3].astype(int)
    assert blue[2] > blue[0] and red[0] > red[2] and white.min() > 240


def test_a_crop_shows_the_box_the_rim_and_what_is_pruned():
    grid = TokenGrid((64, 64), (64, 64), (4, 4))
    picture = np.full((64, 64, 3), 100, np.uint8)
    keep = np.ones((4, 4), bool)
    keep[0, 0] = False
    pixels = token_maps.crop(picture, grid, np.array([0, 0, 32, 32]), keep, side=96)
    assert pixels[0, 0].tolist() == [128, 128, 128]  # beyond the image
    assert pixels[90, 90].tolist() == [100, 100, 100]
    assert (pixels[30, 30] > 200).all()  # the pruned token
    assert pixels[50, 30].tolist() == [100, 100, 100]  # one that is used
    assert pixels[77, 50].tolist() == levels(palette.HOVER)  # the outline


@pytest.mark.parametrize("image_hw", [(160, 240), (240, 160), (17, 300), (5, 7)])
def test_a_small_usage_map_has_the_shape_of_its_picture_and_the_colours_of_the_large_one(image_hw):
    rows, columns = (-(-side // 16) for side in image_hw)
    grid = TokenGrid(image_hw, image_hw, (rows, columns))
    counts = np.full((rows, columns), 3)
    counts[:, -1] = 12
    bare = token_maps.usage_thumbnail(None, grid, counts, (3, 12), 96)
    assert max(bare.shape[:2]) == 96
    assert bare.shape[0] == pytest.approx(96 * image_hw[0] / max(image_hw), abs=0.5)
    ends = token_maps.usage(np.array([[3, 12]]), (3, 12), 1)[0, :, :3]
    assert np.array_equal(bare[0, 0], ends[0] if counts.size > 1 else ends[1])
    assert np.array_equal(bare[0, -1], ends[1])
    black = np.zeros((*image_hw, 3), np.uint8)
    over = token_maps.usage_thumbnail(black, grid, counts, (3, 12), 96)
    steps = token_maps.usage(np.arange(3, 13)[None], (3, 12), 1)[0, :, :3].astype(int)
    nearest = np.abs(over[0, -1].astype(int) - (0.75 * steps + 0.25 * 255 * 0.62)).sum(-1).argmin()
    assert nearest == 9  # a dark picture makes no other step of a token's colour
