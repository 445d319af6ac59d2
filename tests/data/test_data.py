"""Pictures, their objects and their order: sizes and pixels as the official pipeline has them, objects that
stay on their pixels through every transform, the same seed the same sample, and an order that resumes."""

from __future__ import annotations

import itertools
import json
import logging
import os
import pickle
import warnings
import zlib
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from pycocotools.coco import COCO

from svit.core.config import DataConfig
from svit.core.types import Target
from svit.data import transforms
from svit.data.classes import ClassError
from svit.data.coco import (
    CocoDataset,
    CocoError,
    ImageError,
    ImageFiles,
    batches,
    find_coco,
    prepare,
    read_image,
)
from svit.data.images import resize_hw, resize_image, resize_masks, resize_target
from svit.data.reading import BACKGROUND_RGB, FORMATS, image_size, stored_picture

PAPER = DataConfig()
SHAPES = DataConfig(short_side=48, long_side=64, augment="flips")
RGB = np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8)
SIDES = st.integers(1, 60)


def saved(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    stream = BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def turned(orientation: int, kind: str = "PNG") -> bytes:
    """The picture RGB with an EXIF orientation."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    return saved(Image.fromarray(RGB), kind, exif=exif)


# ---------------------------------------------------------------------------------------- reading


def test_rgb_is_read_bit_for_bit(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(saved(Image.fromarray(RGB)))
    for source in (tmp_path / "a.png", str(tmp_path / "a.png"), saved(Image.fromarray(RGB))):
        image = read_image(source)
        assert image.dtype == np.uint8 and image.flags.writeable
        np.testing.assert_array_equal(image, RGB)


GREY = np.arange(120, dtype=np.uint8).reshape(10, 12)
WIDE = (np.arange(120, dtype=np.uint32) * 550).reshape(10, 12)


def _grey_of(values: np.ndarray) -> np.ndarray:
    return np.repeat(values.astype(np.uint8)[..., None], 3, axis=2)


@pytest.mark.parametrize(
    ("image", "kind", "expected"),
    [
        (Image.fromarray(GREY), "PNG", _grey_of(GREY)),
        (Image.fromarray(GREY > 60), "PNG", _grey_of((GREY > 60) * 255)),
        (Image.fromarray(WIDE.astype(np.uint16)), "PNG", _grey_of(np.round(WIDE / 257))),
        (Image.fromarray(WIDE.astype(np.int32)), "TIFF", _grey_of(np.round(WIDE / 257))),
        (Image.fromarray(RGB).quantize(16), "PNG", None),
        (Image.fromarray(RGB).quantize(16), "GIF", None),
        (Image.fromarray(RGB), "BMP", RGB),
        (Image.fromarray(RGB), "PPM", RGB),
        (Image.fromarray(RGB).convert("CMYK"), "TIFF", RGB),
    ],
    ids=["grey", "bilevel", "16 bit", "32 bit", "palette", "gif", "bmp", "ppm", "cmyk"],
)
def test_other_kinds_become_rgb(image: Image.Image, kind: str, expected: np.ndarray | None) -> None:
    expected = np.array(image.convert("RGB")) if expected is None else expected
    np.testing.assert_array_equal(read_image(saved(image, kind)), expected)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA", "P"])
def test_what_is_transparent_shows_the_background(mode: str) -> None:
    image = Image.new("RGBA", (4, 2), (200, 200, 200, 255))
    image.putpixel((1, 0), (255, 0, 0, 0))
    options = {}
    if mode == "P":
        image = Image.fromarray(np.arange(8, dtype=np.uint8).reshape(2, 4), "L").convert("P")
        options = {"transparency": 1}
    elif mode != "RGBA":
        image = image.convert("LA")
    read = read_image(saved(image, **options))
    assert tuple(read[0, 1]) == BACKGROUND_RGB
    assert len(set(map(tuple, read.reshape(-1, 3)))) > 1


def test_half_transparent_pixels_are_mixed() -> None:
    image = Image.new("RGBA", (2, 2), (255, 0, 0, 128))
    mixed = np.float32([255, 0, 0]) * 128 / 255 + np.float32(BACKGROUND_RGB) * 127 / 255
    assert np.abs(read_image(saved(image))[0, 0] - mixed).max() <= 1


def test_jpegs_of_photographs_in_cmyk_are_read() -> None:
    grey = Image.new("CMYK", (16, 16), (0, 0, 0, 128))
    read = read_image(saved(grey, "JPEG"))
    assert read.shape == (16, 16, 3) and np.abs(read.astype(int) - 127).max() <= 2


def test_the_first_frame_is_used_and_that_is_said(caplog: pytest.LogCaptureFixture) -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    data = saved(frames[0], "GIF", save_all=True, append_images=frames[1:])
    with caplog.at_level(logging.WARNING):
        assert (read_image(data) == (255, 0, 0)).all()
    assert "2 frames; the first is used" in caplog.text


UPRIGHT = {
    1: RGB,
    2: RGB[:, ::-1],
    3: RGB[::-1, ::-1],
    4: RGB[::-1],
    5: RGB.transpose(1, 0, 2),
    6: np.rot90(RGB, -1),
    7: np.rot90(RGB, 2).transpose(1, 0, 2),
    8: np.rot90(RGB),
}


@pytest.mark.parametrize("orientation", UPRIGHT)
@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_exif_turns_a_picture_upright_once(orientation: int, kind: str) -> None:
    data, expected = turned(orientation, kind), UPRIGHT[orientation]
    np.testing.assert_array_equal(read_image(data), expected)
    assert image_size(data) == expected.shape[:2]
    np.testing.assert_array_equal(read_image(data, expected_hw=expected.shape[:2]), expected)


@pytest.mark.parametrize("orientation", UPRIGHT)
@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_a_picture_that_is_not_to_be_turned_comes_as_it_is_stored(
    orientation: int, kind: str
) -> None:
    data = turned(orientation, kind)
    np.testing.assert_array_equal(read_image(data, exif="off"), RGB)
    assert image_size(data, exif="off") == RGB.shape[:2]
    assert stored_picture(data) == (RGB.shape[:2], orientation)


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_auto_turns_only_where_the_annotated_size_wants_it(kind: str) -> None:
    data = turned(6, kind)
    assert read_image(data, expected_hw=(40, 30)).shape == (40, 30, 3)
    np.testing.assert_array_equal(read_image(data, expected_hw=(30, 40)), RGB)
    np.testing.assert_array_equal(read_image(data, exif="off"), RGB)
    with pytest.raises(ImageError, match=r"expected height and width \(30, 40\).*found \(40, 30\)"):
        read_image(data, exif="on", expected_hw=(30, 40))


def test_16_bits_that_hold_fewer_are_told_once_to_come_out_dark(
    caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    for name, values in (("dark", WIDE // 4), ("bright", WIDE // 3), ("black", WIDE * 0)):
        (tmp_path / name).write_bytes(saved(Image.fromarray(values.astype(np.uint16)), "PNG"))
        for _ in range(2):
            read_image(tmp_path / name)
    (line,) = caplog.messages
    assert "dark: its 16 bits end at 16362" in line and "at most 64 of 255" in line


def test_unreadable_exif_is_said_and_the_pixels_are_used(caplog: pytest.LogCaptureFixture) -> None:
    data = saved(Image.fromarray(RGB), "PNG", exif=b"Exif\0\0junk that is no TIFF header")
    np.testing.assert_array_equal(read_image(data), RGB)
    assert "not turned" in caplog.text


JPEG = saved(Image.fromarray(RGB).resize((200, 200)), "JPEG")
BAD = {
    "empty": (b"", r"empty \(0 bytes\)"),
    "text": (b"no picture at all", "text, not a picture"),
    "web page": (b"\n<!DOCTYPE html><html><body>404</body></html>", "text/HTML, not a picture"),
    "drawing": (b"<?xml version='1.0'?><svg/>", "text/XML, not a picture; export it"),
    "pointer": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "git lfs pull"),
    "phone": (b"\0\0\0\x18ftypheic\0\0\0\0", "HEIC or AVIF, not a picture; convert"),
    "bytes": (bytes(range(256)), "not a picture of a known format"),
    "truncated jpeg": (JPEG[: len(JPEG) // 2], "damaged or truncated"),
    "truncated png": (saved(Image.fromarray(RGB))[:1500], "damaged or truncated"),
    "header only": (JPEG[:30], "damaged or truncated"),
    "png header": (saved(Image.fromarray(RGB))[:12], r"begins as PNG, but its header is not whole"),
    "postscript": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not a picture; export"),
    "floats": (saved(Image.fromarray(np.ones((4, 4), np.float32)), "TIFF"), "scale .* to 8 bits"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_picture_is_an_error_that_names_file_and_remedy(case: str, tmp_path: Path) -> None:
    data, words = BAD[case]
    path = tmp_path / "bad.jpg"
    path.write_bytes(data)
    with pytest.raises(ImageError, match=f"bad.jpg: .*({words}).*"):
        read_image(path)
    with pytest.raises(ImageError, match=words):
        read_image(data)


def test_missing_files_and_folders_are_no_pictures(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="none.png: no such file"):
        read_image(tmp_path / "none.png")
    with pytest.raises(ImageError, match="a folder; name a picture"):
        read_image(tmp_path)
    os.mkfifo(tmp_path / "pipe.png")  # it would be waited for
    with pytest.raises(ImageError, match="a pipe or device; name a picture"):
        read_image(tmp_path / "pipe.png")
    (tmp_path / "gone.png").symlink_to("moved.png")
    with pytest.raises(ImageError, match="gone.png: a link to moved.png, where nothing is"):
        read_image(tmp_path / "gone.png")
    (tmp_path / "round.png").symlink_to("round.png")
    with pytest.raises(ImageError, match="round.png: Too many levels of symbolic links; name"):
        read_image(tmp_path / "round.png")


def test_a_picture_with_too_many_pixels_is_refused_before_it_is_decoded() -> None:
    bomb = saved(Image.new("1", (14_000, 14_000)))  # 196 million pixels in a few kilobytes
    for data, limit, found in (
        (bomb, 10**8, "196000000 pixels"),
        (saved(Image.fromarray(RGB)), 1199, "40x30"),
    ):
        words = f"expected at most {limit} pixels, found {found}; make the picture smaller"
        with pytest.raises(ImageError, match=words):
            read_image(data, max_pixels=limit)


@given(st.integers(0, len(JPEG) - 1), st.binary(min_size=1, max_size=20))
def test_damaged_bytes_give_a_picture_or_an_image_error(place: int, junk: bytes) -> None:
    try:
        image = read_image(JPEG[:place] + junk + JPEG[place + len(junk) :])
    except ImageError:
        return
    assert image.dtype == np.uint8 and image.ndim == 3


# ------------------------------------------------------------------------ the test pipeline


@pytest.mark.parametrize(
    ("image_hw", "expected"),
    [
        ((480, 640), (800, 1067)),
        ((640, 480), (1067, 800)),
        ((427, 640), (800, 1199)),
        ((235, 430), (729, 1333)),  # detectron2 makes this 728
        ((375, 1242), (402, 1333)),
        ((800, 1333), (800, 1333)),
        ((1, 5000), (1, 1333)),
    ],
)
def test_sizes_after_resizing(image_hw: tuple[int, int], expected: tuple[int, int]) -> None:
    assert resize_hw(image_hw, 800, 1333) == expected


@given(st.integers(1, 5000), st.integers(1, 5000), st.integers(16, 1000), st.integers(16, 1500))
def test_each_side_is_the_official_rounding(height: int, width: int, short: int, long: int) -> None:
    scale = min(long / max(height, width), short / min(height, width))
    new_hw = resize_hw((height, width), short, long)
    assert new_hw == tuple(max(1, int(side * scale + 0.5)) for side in (height, width))
    assert max(new_hw) <= long and min(new_hw) <= short


def _bilinear(image: np.ndarray, new_hw: tuple[int, int]) -> np.ndarray:
    """The definition cv2 implements: pixel centres at half positions, borders repeated, no antialiasing."""
    result = image.astype(float)
    for axis, new in enumerate(new_hw):
        old = result.shape[axis]
        places = np.clip((np.arange(new) + 0.5) * old / new - 0.5, 0, old - 1)
        low = places.astype(int)
        shape = [-1 if other == axis else 1 for other in range(3)]
        part = (places - low).reshape(shape)
        high = np.minimum(low + 1, old - 1)
        result = result.take(low, axis) * (1 - part) + result.take(high, axis) * part
    return result


@given(SIDES, SIDES, SIDES, SIDES)
def test_resizing_is_bilinear_without_antialiasing(h: int, w: int, new_h: int, new_w: int) -> None:
    image = np.random.default_rng(h * w).integers(0, 256, (h, w, 3), dtype=np.uint8)
    resized = resize_image(image, (new_h, new_w))
    assert resized.dtype == np.uint8 and resized.shape == (new_h, new_w, 3)
    # 8-bit arithmetic rounds twice, by half a level each
    assert np.abs(resized - _bilinear(image, (new_h, new_w))).max() <= 1.01


# the red channel of cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR), OpenCV 4.8 to 5.0
CV2_LINEAR = {
    (4, 7): [
        [11, 74, 135, 169, 111, 135, 199],
        [75, 139, 145, 41, 120, 117, 71],
        [140, 167, 163, 106, 185, 154, 72],
        [204, 121, 91, 170, 112, 109, 136],
    ],
    (9, 3): [
        *([37, 222, 151], [59, 116, 172], [87, 16, 173], [116, 45, 88], [145, 74, 88]),
        *([159, 102, 116], [131, 131, 145], [145, 160, 131], [166, 181, 110]),
    ],
}
CV2_CHECKSUMS = [  # of all channels; OpenCV 4.11 and 5.0: up, down, an exact half, one side only
    ((48, 64), (80, 107), 4071458525),
    ((97, 61), (31, 20), 2780760727),
    ((40, 30), (20, 15), 3562086480),
    ((1, 7), (5, 1), 4126372605),
    ((33, 50), (33, 75), 3585516964),
]
CV2_NEAREST = {  # (old, new) -> source columns; exact fractions would give 15 and 13 for the starred ones
    (30, 26): [*range(7), *range(8, 15), *range(16, 22), *range(23, 29)],  # * 14 at place 13
    (26, 10): [0, 2, 5, 7, 10, 12, 15, 18, 20, 23],  # * 12 at place 5
    (7, 12): [0, 0, 1, 1, 2, 2, 3, 4, 4, 5, 5, 6],
}


@pytest.mark.parametrize("new_hw", CV2_LINEAR)
def test_resizing_gives_the_pixels_of_cv2(new_hw: tuple[int, int]) -> None:
    image = (np.arange(6 * 5 * 3).reshape(6, 5, 3) * 37 % 256).astype(np.uint8)
    np.testing.assert_array_equal(resize_image(image, new_hw)[..., 0], CV2_LINEAR[new_hw])


@pytest.mark.parametrize(("old", "new", "checksum"), CV2_CHECKSUMS)
def test_resized_pictures_have_the_checksums_of_cv2(old: Any, new: Any, checksum: int) -> None:
    image = (np.arange(old[0] * old[1] * 3).reshape(*old, 3) * 37 % 251).astype(np.uint8)
    assert zlib.crc32(np.ascontiguousarray(resize_image(image, new))) == checksum


@given(SIDES, SIDES, SIDES, SIDES, st.sampled_from(["any", "half", "third", "one side", "large"]))
def test_resizing_equals_cv2_bit_for_bit(h: int, w: int, new_h: int, new_w: int, kind: str) -> None:
    cv2 = pytest.importorskip("cv2", reason="cv2 comes with the dev extra")
    if kind == "large":
        h, w, new_h, new_w = (11 * side for side in (h, w, new_h, new_w))
    factor = {"half": 2, "third": 3}.get(kind)
    old_hw = (factor * new_h, factor * new_w) if factor else (h, w)
    new_hw = (old_hw[0], new_w) if kind == "one side" else (new_h, new_w)
    image = np.random.default_rng(h * w).integers(0, 256, (*old_hw, 3), dtype=np.uint8)
    theirs = cv2.resize(image, new_hw[::-1], interpolation=cv2.INTER_LINEAR)
    np.testing.assert_array_equal(resize_image(image, new_hw), theirs)


def test_a_turned_or_mirrored_view_is_resized_as_its_copy() -> None:
    image = np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8)
    for view in (image[:, ::-1], np.rot90(image), image[::2, 3:]):
        for new_hw in ((21, 50), (view.shape[0] // 2, view.shape[1] // 2)):
            np.testing.assert_array_equal(
                resize_image(view, new_hw), resize_image(view.copy(), new_hw)
            )


@pytest.mark.parametrize(("old", "new"), CV2_NEAREST)
def test_masks_are_resized_as_cv2_does(old: int, new: int) -> None:
    columns = np.eye(old, dtype=bool)[:, None, :]  # mask n marks column n
    resized = resize_masks(columns, (3, new))
    assert resized.shape == (old, 3, new)
    np.testing.assert_array_equal(resized[:, 0].argmax(axis=0), CV2_NEAREST[old, new])
    np.testing.assert_array_equal(
        resize_masks(columns.transpose(0, 2, 1), (new, 3))[:, :, 0], resized[:, 0]
    )


def test_a_prepared_picture_is_resized_and_normalised() -> None:
    sample = prepare(RGB, PAPER, "a", _target((30, 40)))
    assert sample.image.dtype == torch.float32 and sample.image.is_contiguous()
    assert sample.resized_hw == (800, 1067) and sample.image_hw == (30, 40)
    pixels = resize_image(RGB, (800, 1067)).transpose(2, 0, 1)
    mean, std = (np.float32(values)[:, None, None] for values in (PAPER.mean_rgb, PAPER.std_rgb))
    np.testing.assert_allclose(sample.image.numpy(), (pixels - mean) / std, rtol=1e-6, atol=1e-6)
    assert sample.target.masks.shape[1:] == (800, 1067)


@pytest.mark.parametrize("sides", [(30, 40), (60, 80)])
def test_a_read_only_picture_is_prepared_without_a_warning(sides: tuple[int, int]) -> None:
    """As `Run.picture` gives it; torch warns where it would share memory that is not to be written."""
    image, config = RGB.copy(), replace(PAPER, short_side=sides[0], long_side=sides[1])
    expected = prepare(image, config, "a").image
    image.flags.writeable = False
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert torch.equal(prepare(image, config, "a").image, expected)


def test_preparing_leaves_the_picture_alone() -> None:
    image = RGB.copy()
    prepare(image, replace(PAPER, short_side=30, long_side=40), "a")
    np.testing.assert_array_equal(image, RGB)


# ------------------------------------------------------------------------------- transforms


def _target(image_hw: tuple[int, int], objects: int = 3, seed: int = 0) -> Target:
    """Filled rectangles with whole-pixel boxes."""
    rng = np.random.default_rng(seed)
    corners = [
        np.sort(rng.choice(side + 1, 2, replace=False)) for _ in range(objects) for side in image_hw
    ]
    boxes = [
        (left, top, right, bottom)
        for (top, bottom), (left, right) in zip(corners[::2], corners[1::2])
    ]
    masks = np.zeros((objects, *image_hw), bool)
    for mask, (left, top, right, bottom) in zip(masks, boxes):
        mask[top:bottom, left:right] = True
    return Target(np.array(boxes).reshape(-1, 4), np.arange(objects), masks)


def _extent(mask: np.ndarray) -> np.ndarray:
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1])


def assert_on_its_pixels(image: np.ndarray, target: Target, slack: float) -> None:
    """Boxes lie inside the picture and the masks fill them, to `slack` pixels."""
    height, width = image.shape[:2]
    assert target.masks.shape[1:] == (height, width)
    assert (target.boxes_xyxy >= 0).all()
    assert (target.boxes_xyxy <= [width, height, width, height]).all()
    for box, mask in zip(target.boxes_xyxy, target.masks):
        if mask.any():
            assert np.abs(_extent(mask) - box).max() <= slack
        else:
            assert (box[2:] - box[:2]).min() <= slack


CASE = (st.integers(4, 40), st.integers(4, 40), st.integers(0, 5), st.integers(0, 10**6))


@given(*CASE)
def test_objects_stay_on_their_pixels(h: int, w: int, objects: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    image, target = rng.integers(0, 256, (h, w, 3), dtype=np.uint8), _target((h, w), objects, seed)
    top, left = int(rng.integers(h)), int(rng.integers(w))
    size = (int(rng.integers(1, h - top + 1)), int(rng.integers(1, w - left + 1)))
    exact = [
        transforms.flip(image, target),
        transforms.rotate(image, target, int(rng.integers(-3, 4))),
        transforms.crop(image, target, (top, left), size),
    ]
    for picture in exact:
        assert_on_its_pixels(*picture, slack=0)
    # nearest neighbour moves an edge by less than a pixel of the new or the old grid
    new_hw = (int(rng.integers(1, 80)), int(rng.integers(1, 80)))
    slack = max(1.0, new_hw[0] / h, new_hw[1] / w)
    assert_on_its_pixels(*transforms.resize(image, target, new_hw), slack=slack)


def test_transforms_move_pixels_and_objects_alike() -> None:
    """An object that is marked in the picture itself is found where its mask says."""
    target = _target((30, 40), 1, seed=4)
    image = np.repeat(target.masks[0][..., None] * np.uint8(255), 3, axis=2)
    for change in (
        transforms.flip,
        lambda *picture: transforms.rotate(*picture, 1),
        lambda *picture: transforms.rotate(*picture, 2),
        lambda *picture: transforms.rotate(*picture, 3),
        lambda *picture: transforms.crop(*picture, (3, 5), (20, 22)),
    ):
        moved, (mask,) = (lambda picture: (picture[0], picture[1].masks))(change(image, target))
        np.testing.assert_array_equal(moved[..., 0] > 0, mask)


def test_a_crop_drops_objects_without_a_box_and_clips_the_others() -> None:
    boxes = np.array([[0, 0, 5, 5], [5, 5, 20, 20], [10, 10, 15, 15], [0, 12, 10, 15]])
    masks = np.zeros((4, 30, 40), bool)
    masks[1, 5:8, 5:8] = True  # a corner of its box that the window does not show
    target = Target(boxes, [0, 1, 2, 3], masks, [False, True, False, False], [1.0, 2, 3, 4])
    image, cropped = transforms.crop(RGB, target, (10, 10), (12, 14))
    np.testing.assert_array_equal(image, RGB[10:22, 10:24])
    np.testing.assert_array_equal(cropped.boxes_xyxy, [[0, 0, 10, 10], [0, 0, 5, 5]])
    assert cropped.labels.tolist() == [1, 2] and cropped.areas.tolist() == [2, 3]
    assert cropped.crowd.tolist() == [True, False] and cropped.masks.shape == (2, 12, 14)


@pytest.mark.parametrize("image_hw", [(480, 640), (640, 427), (300, 1200)])
def test_the_paper_s_recipe_makes_sizes_the_paper_s_policies_can_make(
    image_hw: tuple[int, int],
) -> None:
    image, target = np.zeros((*image_hw, 3), np.uint8), _target(image_hw, 2)
    scaled = {
        tuple(min(side, 1024) for side in resize_hw(image_hw, short, 1333))
        for short in range(480, 801, 32)
    }
    seen, cropped = set(), 0
    for seed in range(24):
        variant, moved = transforms.augment(image, target, PAPER, seed)
        hw = variant.shape[:2]
        assert max(hw) <= 1024 and moved.masks.shape[1:] == hw
        cropped += hw not in scaled
        seen.add(hw)
    assert len(seen) > 8 and 4 <= cropped <= 20  # both policies are used


class _Chosen(np.random.Generator):
    """A generator with all choices fixed: the largest size, the smallest window at its first place."""

    def __init__(self, coins: list[float]) -> None:
        super().__init__(np.random.PCG64())
        self.coins = coins

    def random(self) -> float:  # type: ignore[override]
        return self.coins.pop(0)

    def choice(self, values):  # type: ignore[override]
        return max(values)

    def integers(self, low, high=None):  # type: ignore[override]
        return 0 if high is None else low


def test_the_paper_s_recipe_goes_step_by_step() -> None:
    image, target = RGB.repeat(16, 0).repeat(16, 1), _target((480, 640), 2, seed=5)
    flipped = transforms.flip(image, target)
    scaled = transforms.resize(*flipped, (600, 800))
    window = transforms.crop(*scaled, (0, 0), (384, 384))
    by_hand = transforms.resize(*window, (800, 800))
    variant, moved = transforms.detr(image, target, PAPER, _Chosen([0.1, 0.1]))
    np.testing.assert_array_equal(variant, by_hand[0])
    np.testing.assert_array_equal(moved.boxes_xyxy, by_hand[1].boxes_xyxy)
    np.testing.assert_array_equal(moved.masks, by_hand[1].masks)
    plain, _ = transforms.detr(image, target, PAPER, _Chosen([0.9, 0.9]))
    np.testing.assert_array_equal(plain, resize_image(image, (800, 1067))[:, :1024])


@given(st.integers(0, 10**6), st.booleans())
def test_flips_keep_the_size_and_the_colours_of_a_picture(seed: int, square: bool) -> None:
    image = RGB[:30, :30] if square else RGB
    config = replace(SHAPES, short_side=30, long_side=40)
    target = _target(image.shape[:2], 2, seed)
    variant, moved = transforms.augment(image, target, config, seed)
    assert variant.shape == image.shape
    assert_on_its_pixels(variant, moved, slack=0)
    assert np.sort(variant, axis=None).tolist() == np.sort(image, axis=None).tolist()


def test_flips_reach_all_symmetries_and_all_orders_of_colours() -> None:
    config = replace(SHAPES, short_side=30, long_side=30)
    image, target = RGB[:30, :30], _target((30, 30), 1)
    variants = [transforms.augment(image, target, config, seed)[0] for seed in range(600)]
    assert len({variant.tobytes() for variant in variants}) == 8 * 6


def test_zoom_changes_sizes_of_objects_and_never_that_of_the_window_upwards() -> None:
    config = replace(SHAPES, short_side=30, long_side=30, augment="zoom")
    image, target = RGB[:30, :30], _target((30, 30), 1)
    made = [transforms.augment(image, target, config, seed) for seed in range(200)]
    sides = {side for variant, _ in made for side in variant.shape[:2]}
    assert max(sides) == 30 and min(sides) == round(30 * 0.7)
    for variant, moved in made:
        assert variant.shape[:2] == moved.masks.shape[1:]
        assert (moved.boxes_xyxy[:, 2:] > moved.boxes_xyxy[:, :2]).all()
        assert moved.boxes_xyxy.min(initial=0) >= 0 and moved.boxes_xyxy.max(initial=0) <= 30


# ----------------------------------------------------------------------------------- COCO


def write_coco(folder: Path, sizes: list[tuple[int, int]] | None = None, **first: Any) -> Path:
    """A data set in COCO's layout: one object a picture, category ids with gaps; the first picture has a
    crowd besides, the last nothing but a crowd."""
    sizes = sizes or [(30, 40), (40, 30), (30, 40), (30, 30)]
    (folder / "annotations").mkdir(parents=True)
    (folder / "val2017").mkdir()
    images, annotations = [], []
    for number, (height, width) in enumerate(sizes):
        name = f"{number:03d}.png"
        pixels = np.random.default_rng(number).integers(0, 256, (height, width, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / "val2017" / name)
        images.append({"id": 10 + number, "file_name": name, "height": height, "width": width})
        common = {"image_id": 10 + number, "iscrowd": 0, "area": 48.0, "bbox": [4, 6, 8, 6]}
        square = [[4, 6, 12, 6, 12, 12, 4, 12]]
        category = (90, 2, 40)[number % 3]
        if number < len(sizes) - 1:
            annotations.append({**common, "category_id": category, "segmentation": square})
        if number in (0, len(sizes) - 1):
            runs = {"size": [height, width], "counts": [height, height, height * (width - 2)]}
            crowd = {
                "category_id": 2,
                "iscrowd": 1,
                "segmentation": runs,
                "bbox": [1, 0, 1, height],
            }
            annotations.append({**common, **crowd})
    for number, annotation in enumerate(annotations, start=1):
        annotation["id"] = number
    annotations[0].update(first)
    categories = [{"id": i, "name": n} for i, n in ((90, "hat"), (2, "cat"), (40, "dog"))]
    content = {"images": images, "annotations": annotations, "categories": categories}
    json_file = folder / "annotations" / "instances_val2017.json"
    json_file.write_text(json.dumps(content))
    return json_file


@pytest.fixture
def json_file(tmp_path: Path) -> Path:
    return write_coco(tmp_path)


def opened(json_file: Path, train: bool = False, config: DataConfig = SHAPES) -> CocoDataset:
    return CocoDataset(json_file, json_file.parents[1] / "val2017", config, train)


def test_labels_follow_the_category_ids_over_gaps(json_file: Path) -> None:
    dataset = opened(json_file)
    assert dataset.category_ids == [2, 40, 90] and dataset.class_names == ["cat", "dog", "hat"]
    assert [dataset.target(index).labels.tolist() for index in range(4)] == [[2, 0], [0], [1], [0]]
    assert dataset.image_ids == [10, 11, 12, 13] and dataset.file_name(1) == "001.png"
    assert dataset.aspect_groups.tolist() == [1, 0, 1, 0]


def test_labels_are_those_of_a_models_classes_by_name(json_file: Path) -> None:
    names = ["mouse", "hat", "dog", "cat"]
    folder = json_file.parents[1] / "val2017"
    dataset = CocoDataset(json_file, folder, SHAPES, class_names=names)
    found = [[names[label] for label in dataset.target(index).labels] for index in range(4)]
    assert found == [["hat", "cat"], ["cat"], ["dog"], ["cat"]]
    assert dataset.class_names == names and dataset.category_ids == [None, 90, 40, 2]
    assert "does not have: 'mouse'" in dataset.class_notes[-1]
    assert dataset.coco() == opened(json_file).coco()
    with pytest.raises(ClassError, match="does not have: 'hat'"):
        CocoDataset(json_file, folder, SHAPES, class_names=["mouse", "cap", "dog", "cat"])
    mapped = CocoDataset(
        json_file, folder, SHAPES, class_names=["cap", "dog", "cat"], class_map={"hat": "cap"}
    )
    assert mapped.target(0).labels.tolist() == [0, 2]


def test_pictures_without_an_object_are_counted_and_kept_where_asked(json_file: Path) -> None:
    folder = json_file.parents[1] / "val2017"
    kept = CocoDataset(json_file, folder, SHAPES, train=True, keep_empty=True)
    assert opened(json_file, train=True).left_out == 1 and kept.left_out == 0
    assert kept.image_ids == [10, 11, 12, 13] and len(kept.sample(3, seed=1).target) == 0


def test_files_are_checked_where_asked(json_file: Path) -> None:
    folder = json_file.parents[1] / "val2017"
    assert len(CocoDataset(json_file, folder, SHAPES, check_files=True)) == 4
    (folder / "000.png").unlink()
    assert len(CocoDataset(json_file, folder, SHAPES)) == 4
    with pytest.raises(CocoError, match="1 missing file"):
        CocoDataset(json_file, folder, SHAPES, check_files=True)


def test_targets_lie_in_source_pixels_with_crowds(json_file: Path) -> None:
    target = opened(json_file).target(0)
    np.testing.assert_array_equal(target.boxes_xyxy, [[4, 6, 12, 12], [1, 0, 2, 30]])
    assert target.crowd.tolist() == [False, True] and target.areas.tolist() == [48, 48]
    np.testing.assert_array_equal(_extent(target.masks[0]), [4, 6, 12, 12])
    np.testing.assert_array_equal(_extent(target.masks[1]), [1, 0, 2, 30])


def test_an_object_without_a_mask_gets_that_of_its_box_and_says_so(tmp_path: Path) -> None:
    dataset = opened(write_coco(tmp_path, segmentation=[]))
    target = dataset.target(0)
    assert target.has_mask.tolist() == [False, True]
    np.testing.assert_array_equal(_extent(target.masks[0]), [4, 6, 12, 12])
    assert dataset.coco()["annotations"][0]["segmentation"] == []


@pytest.mark.parametrize("augment", ["detr", "flips", "zoom"])
def test_transforms_keep_which_objects_have_a_mask(tmp_path: Path, augment: str) -> None:
    config = replace(SHAPES, augment=augment)
    train = opened(write_coco(tmp_path, segmentation=[]), train=True, config=config)
    known = [train.sample(0, seed=seed).target for seed in range(10)]
    assert all(len(one.has_mask) == len(one) and not one.has_mask.any() for one in known)
    assert train.sample(1).target.has_mask.all()


def test_training_leaves_out_crowds_and_pictures_without_objects(json_file: Path) -> None:
    train = opened(json_file, train=True)
    assert train.image_ids == [10, 11, 12]
    assert train.target(0).labels.tolist() == [2] and not train.target(0).crowd.any()


NARROW = {"bbox": [4, 6, 0.5, 6], "segmentation": [[4, 6, 4.5, 6, 4.5, 12, 4, 12]]}


@pytest.mark.parametrize("first", [NARROW, {"area": 0}, {"ignore": 1}])
def test_training_leaves_out_objects_without_area_and_those_to_ignore(
    tmp_path: Path, first: dict[str, Any]
) -> None:
    json_file = write_coco(tmp_path, **first)
    assert opened(json_file, train=True).image_ids == [11, 12]
    assert opened(json_file).image_ids == [10, 11, 12, 13]


def test_objects_to_ignore_are_told(tmp_path: Path) -> None:
    (note,) = opened(write_coco(tmp_path, ignore=1)).report.notes
    assert note.startswith("1 object to ignore") and "training leaves them out" in note


def test_boxes_are_cut_at_the_border_of_the_picture(tmp_path: Path) -> None:
    dataset = opened(write_coco(tmp_path, bbox=[-0.5, 24.5, 8, 6], segmentation=[]))
    np.testing.assert_array_equal(dataset.target(0).boxes_xyxy[0], [0, 24.5, 7.5, 30])


def test_a_training_set_without_objects_is_an_error(tmp_path: Path) -> None:
    json_file = write_coco(tmp_path, sizes=[(30, 30)])
    with pytest.raises(CocoError, match="instances_val2017.json: no picture has an object"):
        opened(json_file, train=True)
    assert len(opened(json_file)) == 1


def test_a_wrong_json_is_refused_and_a_repaired_one_reported(tmp_path: Path) -> None:
    wrong = write_coco(tmp_path / "wrong", image_id=99)
    with pytest.raises(CocoError, match="unknown image"):
        opened(wrong)
    mended = write_coco(tmp_path / "mended", bbox=[4, 6, 0, 6])
    assert "box dropped" in opened(mended).report.repairs[0]
    assert len(opened(mended).target(0)) == 1
    with pytest.raises(CocoError, match="box(es)? dropped"):
        CocoDataset(mended, tmp_path, SHAPES, repair=False)


def test_a_picture_of_another_size_is_an_error_when_it_is_read(json_file: Path) -> None:
    Image.new("RGB", (41, 30)).save(json_file.parents[1] / "val2017" / "000.png")
    with pytest.raises(ImageError, match=r"000.png: expected .*\(30, 40\).*found \(30, 41\)"):
        opened(json_file).sample(0)


def test_test_samples_have_no_target_and_no_chance(json_file: Path) -> None:
    dataset = opened(json_file)
    sample = dataset.sample(1, seed=3)
    assert sample.target is None and sample.image_id == 11 and sample.image_hw == (40, 30)
    assert sample.resized_hw == resize_hw((40, 30), 48, 64)
    assert torch.equal(sample.image, prepare(dataset.image(1), SHAPES, 11).image)


@pytest.mark.parametrize("augment", ["detr", "flips", "zoom"])
def test_the_same_seed_gives_the_same_sample(json_file: Path, augment: str) -> None:
    config = replace(SHAPES, augment=augment)
    first, second = (opened(json_file, True, config) for _ in range(2))
    for index, seed in itertools.product(range(3), range(8)):
        one, two = first.sample(index, seed), second.sample(index, seed)
        assert torch.equal(one.image, two.image) and one.image_hw == first.image_hw(index)
        np.testing.assert_array_equal(one.target.boxes_xyxy, two.target.boxes_xyxy)
        np.testing.assert_array_equal(one.target.masks, two.target.masks)
        assert one.target.masks.shape[1:] == one.resized_hw
    images = [first.sample(0, seed).image for seed in range(8)]
    assert any(a.shape != b.shape or not a.equal(b) for a, b in itertools.combinations(images, 2))


def test_training_samples_without_a_seed_are_not_augmented(json_file: Path) -> None:
    train = opened(json_file, train=True)
    assert torch.equal(train.sample(0).image, opened(json_file).sample(0).image)
    expected = resize_target(train.target(0), train.sample(0).resized_hw)
    np.testing.assert_array_equal(train.sample(0).target.boxes_xyxy, expected.boxes_xyxy)


def test_the_ground_truth_goes_to_pycocotools(json_file: Path, tmp_path: Path) -> None:
    path = tmp_path / "part.json"
    path.write_text(json.dumps(opened(json_file).coco([0, 2])))
    truth = COCO(str(path))
    assert truth.getImgIds() == [10, 12] and len(truth.getAnnIds()) == 3
    mask = truth.annToMask(truth.loadAnns(truth.getAnnIds([12]))[0])
    np.testing.assert_array_equal(mask, opened(json_file).target(2).masks[0])


def test_a_data_set_travels_to_worker_processes(json_file: Path) -> None:
    dataset = opened(json_file, train=True)
    copy = pickle.loads(pickle.dumps(dataset))
    assert torch.equal(copy.sample(1, 5).image, dataset.sample(1, 5).image)


def test_real_photographs_read_as_pycocotools_reads_them(coco_tiny: Path) -> None:
    files = find_coco("val2017", coco_tiny)
    truth = COCO(str(files.json))
    dataset = CocoDataset(files.json, files.image_root, PAPER)
    assert len(dataset) == 50 and len(dataset.class_names) == 80
    assert dataset.category_ids == sorted(truth.getCatIds())
    for index in range(0, 50, 5):
        items = truth.loadAnns(truth.getAnnIds([dataset.image_ids[index]]))
        target = dataset.target(index)
        assert [dataset.category_ids[label] for label in target.labels] == [
            item["category_id"] for item in items
        ]
        for item, mask in zip(items, target.masks):
            np.testing.assert_array_equal(mask, truth.annToMask(item).astype(bool))


def test_real_photographs_train(coco_tiny: Path) -> None:
    files = find_coco("val", coco_tiny)
    train = CocoDataset(files.json, files.image_root, PAPER, train=True)
    for index in range(0, len(train), 12):
        sample = train.sample(index, seed=index)
        height, width = sample.resized_hw
        assert max(height, width) <= 1024 and torch.isfinite(sample.image).all()
        boxes = sample.target.boxes_xyxy
        assert (boxes >= 0).all() and (boxes <= [width, height, width, height]).all()


# --------------------------------------------------------------------------- finding data


def test_data_is_found_where_people_keep_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DETECTRON2_DATASETS", raising=False)
    for place in ("datasets/coco", "elsewhere/coco", "named"):
        write_coco(tmp_path / place)
    assert find_coco("val2017").image_root == Path("datasets/coco/val2017")
    assert find_coco("val").json == Path("datasets/coco/annotations/instances_val2017.json")
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path / "elsewhere"))
    assert find_coco("val").image_root == tmp_path / "elsewhere" / "coco" / "val2017"
    assert find_coco("val", tmp_path / "named").image_root == tmp_path / "named" / "val2017"
    monkeypatch.delenv("DETECTRON2_DATASETS")
    (tmp_path / "datasets").rename(tmp_path / "data")
    assert find_coco("val").image_root == Path("data/coco/val2017")


def test_data_that_is_not_found_names_every_place_tried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DETECTRON2_DATASETS", raising=False)
    with pytest.raises(CocoError, match="root by DETECTRON2_DATASETS, or in the") as caught:
        find_coco("train2017")
    for place in ("datasets/coco", "datasets", "data/coco", "data"):
        assert f"\n  {place}/annotations/instances_train2017.json" in str(caught.value)
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path / "set"))
    write_coco(tmp_path / "datasets")  # a default does not stand in for a root that was named
    with pytest.raises(CocoError, match=str(tmp_path / "set")):
        find_coco("val2017")


def test_folders_and_files_of_pictures_read_like_a_data_set(tmp_path: Path) -> None:
    (tmp_path / "in" / "deeper").mkdir(parents=True)
    for name in ("in/b.JPG", "in/a.png", "in/deeper/a.png", "in/.hidden.png", "c.png"):
        Image.fromarray(RGB).save(tmp_path / name)
    (tmp_path / "in" / "notes.txt").write_text("no picture")
    pictures = ImageFiles([tmp_path / "in", tmp_path / "c.png"], SHAPES)
    assert pictures.image_ids == ["a.png", "b.JPG", "deeper/a.png", "c.png"]
    assert len(pictures) == 4 and pictures.file_name(2) == "deeper/a.png"
    np.testing.assert_array_equal(pictures.image(2), RGB)
    assert pictures.target(0) is None and pictures.aspect_groups.tolist() == [1, 1, 1, 1]
    assert pictures.sample(3).image_id == "c.png" and pictures.sample(3).resized_hw == (48, 64)


def test_pictures_behind_a_link_to_a_folder_are_not_left_out(tmp_path: Path) -> None:
    for name in ("photos/a.png", "elsewhere/deeper/b.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(RGB).save(tmp_path / name)
    (tmp_path / "photos" / "linked").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "back").symlink_to(tmp_path / "photos")
    pictures = ImageFiles([tmp_path / "photos"], SHAPES)
    assert pictures.image_ids == ["a.png", "linked/deeper/b.png"]


def test_what_is_named_like_a_picture_is_not_left_out(tmp_path: Path) -> None:
    Image.fromarray(RGB).save(tmp_path / "b.png")
    (tmp_path / "a.jpg").symlink_to("moved.jpg")
    (tmp_path / "c.jpg").mkdir()
    pictures = ImageFiles([tmp_path], SHAPES)
    assert pictures.image_ids == ["a.jpg", "b.png", "c.jpg"]
    for index, words in ((0, "a link to moved.jpg, where nothing is"), (2, "a folder")):
        with pytest.raises(ImageError, match=words):
            pictures.image(index)


def test_every_kind_that_is_read_is_taken_from_a_folder_and_those_of_phones_are_told(
    tmp_path: Path,
) -> None:
    """By all endings that Pillow knows for the kinds; a HEIC beside them is not left out in silence."""
    Image.init()
    kinds = (*FORMATS, "MPO", "DIB")
    endings = [ending for ending, kind in Image.EXTENSION.items() if kind in kinds]
    for ending in endings:
        (tmp_path / f"picture{ending}").write_bytes(saved(Image.fromarray(RGB), "PNG"))
    (tmp_path / "phone.HEIC").write_bytes(b"\0\0\0\x18ftypheic" + bytes(40))
    pictures = ImageFiles([tmp_path], SHAPES)
    assert {*pictures.image_ids} == {"phone.HEIC", *(f"picture{one}" for one in endings)}
    with pytest.raises(ImageError, match="HEIC or AVIF, not a picture; convert it"):
        pictures.image(pictures.image_ids.index("phone.HEIC"))


def test_paths_without_pictures_are_errors(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="no picture in this folder; looked for .jpg"):
        ImageFiles([tmp_path], SHAPES)
    with pytest.raises(ImageError, match="none: no such file or folder"):
        ImageFiles([tmp_path / "none"], SHAPES)
    with pytest.raises(ImageError, match="at least one"):
        ImageFiles([], SHAPES)
    for name in ("one/a.png", "two/a.png"):
        (tmp_path / name).parent.mkdir()
        Image.fromarray(RGB).save(tmp_path / name)
    with pytest.raises(ImageError, match="two/a.png: has the same name as .*one/a.png"):
        ImageFiles([tmp_path / "one", tmp_path / "two"], SHAPES)


# ---------------------------------------------------------------------------------- order


class Groups:
    def __init__(self, *counts: int) -> None:
        self.aspect_groups = np.repeat(np.arange(len(counts)), counts)


def first(steps: int, *arguments: Any, **options: Any) -> list[tuple[int, int, list[int]]]:
    return list(itertools.islice(batches(*arguments, **options), steps))


ORDER = (st.integers(1, 30), st.integers(0, 30), st.integers(1, 8), st.integers(0, 99))


@given(*ORDER, st.integers(0, 60))
def test_the_order_goes_on_from_any_step(
    wide: int, high: int, batch: int, seed: int, start: int
) -> None:
    groups, batch = Groups(high, wide), min(batch, wide + high)
    whole = first(start + 9, groups, batch, seed)
    assert first(9, groups, batch, seed, start_step=start) == whole[start:]
    assert [step for step, _, _ in whole] == list(range(start + 9))


@given(*ORDER)
def test_an_epoch_shows_every_picture_in_batches_of_one_group(
    wide: int, high: int, batch: int, seed: int
) -> None:
    groups, batch = Groups(high, wide), min(batch, wide + high)
    steps = -(-high // batch) + -(-wide // batch)
    epoch = first(steps + 1, groups, batch, seed)
    assert [number for _, number, _ in epoch] == [0] * steps + [1]
    shown = [indices for _, _, indices in epoch[:-1]]
    assert set(itertools.chain(*shown)) == set(range(wide + high))
    assert all(len(indices) == batch for indices in shown)
    assert all(len(set(groups.aspect_groups[indices])) == 1 for indices in shown)
    extra = sum(map(len, shown)) - wide - high
    assert extra < 2 * batch  # only the last batch of a group repeats pictures


@given(*ORDER, st.sampled_from([2, 3, 4]))
def test_ranks_see_together_what_one_process_sees(
    wide: int, high: int, share: int, seed: int, world: int
) -> None:
    groups, batch = Groups(high + world * share, wide), share * world
    alone = first(12, groups, batch, seed)
    ranks = [first(12, groups, batch, seed, rank=rank, world=world) for rank in range(world)]
    for step, parts in enumerate(zip(*ranks)):
        assert list(itertools.chain(*(indices for _, _, indices in parts))) == alone[step][2]
        assert {(number, epoch) for number, epoch, _ in parts} == {alone[step][:2]}


def test_epochs_and_seeds_change_the_order() -> None:
    groups = Groups(40)
    steps = first(10, groups, 8, 0)
    assert steps[:5] != [(step - 5, 0, indices) for step, _, indices in steps[5:]]
    assert steps != first(10, groups, 8, 1)


def test_a_data_set_smaller_than_the_batch_is_an_error() -> None:
    with pytest.raises(CocoError, match="at least 8 pictures.*found 7; lower train.batch"):
        batches(Groups(3, 4), 8, 0)
    assert len(first(1, Groups(3, 5), 8, 0)[0][2]) == 8


@pytest.mark.parametrize("options", [{"world": 3}, {"rank": 2, "world": 2}, {"rank": -1}])
def test_ranks_that_cannot_share_a_batch_are_an_error(options: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="expected a"):
        batches(Groups(20), 8, 0, **options)
