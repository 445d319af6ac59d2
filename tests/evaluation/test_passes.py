"""A pass sees every picture as it would alone: batches are no lottery, whatever sizes they mix."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from support.scenes import detector, nano

from svit.data.coco import ImageFiles
from svit.detectors.base import Detector
from svit.evaluation.passes import (
    ImageResult,
    PassOptions,
    Unreadable,
    batches_of,
    inference_mode,
    run_detector,
)

SIZES_HW = [(60, 90), (90, 60), (64, 64), (3, 2), (61, 91), (200, 40), (66, 99), (33, 33)]
METHODS = {
    "svit": {"inference": "threshold"},
    "svit by rank": {},
    "svit by dice": {"inference": "sample"},
    "evit": {},
    "ats": {},
    "dense": {},
}


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> ImageFiles:
    """Portraits, landscapes, squares and a tiny one, as they come."""
    folder = tmp_path_factory.mktemp("mixed")
    for number, size in enumerate(SIZES_HW):
        pixels = np.random.default_rng(number).integers(0, 256, (*size, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    return ImageFiles([folder], nano().data)


def seen(
    model: Detector, photos: ImageFiles, options: PassOptions
) -> list[ImageResult | Unreadable]:
    with inference_mode(model):
        return list(run_detector(model, photos, batches_of(len(photos), options.batch), options))


@pytest.mark.parametrize("name", METHODS)
def test_a_batch_of_mixed_sizes_decides_as_single_pictures_do(
    photos: ImageFiles, name: str
) -> None:
    model = detector(name.split()[0], **METHODS[name])
    alone = seen(model, photos, PassOptions(batch=1))
    for batch in (2, 4):
        together = seen(model, photos, PassOptions(batch=batch))
        assert [item.index for item in together] == list(range(len(SIZES_HW)))
        for one, other in zip(alone, together):
            assert one.trace.grid == other.trace.grid
            np.testing.assert_array_equal(one.trace.keep, other.trace.keep)
            np.testing.assert_array_equal(one.detections.labels, other.detections.labels)
            boxes = one.detections.boxes_xyxy, other.detections.boxes_xyxy
            np.testing.assert_allclose(*boxes, atol=1e-3)


@pytest.mark.parametrize("intervention", ["random", "shuffle"])
def test_interventions_do_not_depend_on_the_batch_either(
    photos: ImageFiles, intervention: str
) -> None:
    model = detector()
    one, four = (
        seen(model, photos, PassOptions(batch=n, intervention=intervention)) for n in (1, 4)
    )
    for alone, together in zip(one, four):
        np.testing.assert_array_equal(alone.trace.keep, together.trace.keep)


def test_masks_that_are_moved_are_decided_in_the_numbers_that_the_model_runs_in(
    photos: ImageFiles,
) -> None:
    """In other numbers a token near the threshold is decided otherwise, and the counts are not those of the
    model beside which they stand."""
    model, halves = detector(), []
    hook = model.backbone.register_forward_pre_hook(
        lambda *_: halves.append(torch.is_autocast_enabled("cpu"))
    )
    options = PassOptions(batch=8, intervention="shuffle", dtype="bfloat16")
    seen(model, photos, options)
    hook.remove()
    assert len(halves) % 2 == 0 and all(halves)  # one that decides, one that is changed


def test_pictures_of_one_padded_size_share_a_forward(photos: ImageFiles) -> None:
    model, sizes = detector(), []
    hook = model.backbone.register_forward_pre_hook(
        lambda module, inputs: sizes.append((len(inputs[0]), *inputs[0].shape[2:]))
    )
    seen(model, photos, PassOptions(batch=4))
    hook.remove()
    first, second = [(1, 64, 96), (2, 96, 64), (1, 64, 64)], [(2, 64, 96), (1, 96, 32), (1, 64, 64)]
    assert sizes == first + second


def test_an_unreadable_picture_keeps_its_place_in_the_batch(tmp_path: Path) -> None:
    for number in range(3):
        Image.new("RGB", (40 + 30 * number, 50)).save(tmp_path / f"{number}.png")
    (tmp_path / "1.png").write_bytes((tmp_path / "1.png").read_bytes()[:60])
    items = seen(detector(), ImageFiles([tmp_path], nano().data), PassOptions(batch=3))
    assert [type(item) for item in items] == [ImageResult, Unreadable, ImageResult]
