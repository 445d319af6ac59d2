"""Moving scenes: the still one first, straight paths, turns and exits, and what a data set says of them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFilter

from svit.cli import main
from svit.data.shapes import VAL_SEEDS, ShapesError, film, moving, scene, write_dataset, writer
from svit.data.validate import check_coco

SIZE = 96


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2 * VAL_SEEDS), centre_bias=st.booleans())
def test_frame_0_is_the_still_scene_and_all_of_it_is_asked_for(
    seed: int, centre_bias: bool
) -> None:
    still, first = scene(seed, SIZE, centre_bias), next(film(seed, 3, SIZE, centre_bias))
    assert np.array_equal(first.scene.image, still.image)
    assert np.array_equal(first.scene.masks, still.masks)
    assert np.array_equal(first.scene.labels, still.labels)
    assert first.instances.tolist() == list(range(len(still.labels))) and not first.hidden.any()


def test_a_seed_moves_alike_twice_and_in_films_of_any_length() -> None:
    first, again = list(film(11, 5, SIZE)), list(film(11, 9, SIZE))
    for one, other in zip(first, again, strict=False):
        assert one.scene.image.tobytes() == other.scene.image.tobytes()
        assert one.scene.masks.tobytes() == other.scene.masks.tobytes()


def test_only_grain_differs_where_nothing_moved() -> None:
    """Up to 8 of 255 each way in either frame, anew in each."""
    noisy = 0
    for seed in range(12):
        first, second, third = film(seed, 3, 128)
        objects = np.any([one.scene.masks.any(axis=0) for one in (first, second, third)], axis=0)
        smooth = Image.fromarray(objects.astype(np.uint8)).filter(ImageFilter.MaxFilter(5))
        rest = np.asarray(smooth) == 0
        changes = [
            np.array(one.scene.image, int)[rest] - first.scene.image[rest]
            for one in (second, third)
        ]
        assert np.abs(changes).max() <= 17
        noisy += bool(changes[0].any()) and not np.array_equal(*changes)
    assert noisy >= 10


def test_some_objects_rest_and_most_move() -> None:
    resting = moved = 0
    for seed in range(20):
        first, second = film(seed, 2, 128)
        corners = [
            {
                int(n): tuple(np.argwhere(mask).mean(0))
                for n, mask in zip(one.instances, one.scene.masks)
            }
            for one in (first, second)
        ]
        same = [corners[0][n] == corners[1][n] for n in corners[1]]
        resting, moved = resting + sum(same), moved + len(same) - sum(same)
    assert moved > resting > 0


@given(
    start=st.integers(-20, 60),
    step=st.floats(-9, 9),
    frame=st.integers(0, 200),
)
def test_a_path_turns_back_at_its_ends_and_keeps_its_speed(
    start: int, step: float, frame: int
) -> None:
    ends = (np.full(2, -20.0), np.full(2, 60.0))
    path = moving.Path(np.full(2, float(start)), np.array([step, -step]), *ends)
    here, next_one = path.at(frame), path.at(frame + 1)
    assert (ends[0] <= here).all() and (here <= ends[1]).all()
    assert (np.abs(next_one - here) <= np.abs(step) + 1).all()
    assert (path.at(0) == start).all()


def test_one_that_leaves_goes_straight_on() -> None:
    far = np.full(2, np.inf)
    path = moving.Path(np.array([10.0, 50.0]), np.array([3.0, -1.5]), -far, far)
    assert path.at(100).tolist() == [310, -100]


def test_objects_leave_come_out_of_hiding_and_are_crowds_in_between() -> None:
    gone = crowds = 0
    for seed in range(40):
        frames = list(film(seed, 16, 64))
        gone += len(frames[-1].instances) < len(frames[0].instances)
        for frame in frames:
            masks = frame.scene.masks
            assert masks.any(axis=(1, 2)).all() and masks.sum(0).max(initial=0) <= 1
            assert (np.diff(frame.instances) > 0).all()
            crowds += frame.hidden.sum()
            small = masks.sum((1, 2)) < 100 * (64 / 256) ** 2
            assert frame.hidden[small].all()
    assert gone and crowds


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("moving") / "set"
    write_dataset(out, 0, 3, 5, SIZE, workers=1, progress=False, frames=4)
    return out


def content(folder: Path) -> dict:
    return json.loads((folder / "annotations/instances_val2017.json").read_text())


def test_images_name_their_video_and_frame_in_order(folder: Path) -> None:
    data = content(folder)
    seeds = [VAL_SEEDS + 5 + n for n in range(3)]
    assert [video["id"] for video in data["videos"]] == seeds
    expected = [(seed, frame) for seed in seeds for frame in range(4)]
    assert [(one["video_id"], one["frame_id"]) for one in data["images"]] == expected
    assert [one["id"] for one in data["images"]] == [100 * s + f for s, f in expected]
    assert data["info"]["frames"] == 4
    assert {path.name for path in (folder / "val2017").iterdir()} == {
        one["file_name"] for one in data["images"]
    }
    assert not check_coco(data, folder / "val2017", decode=True).refused


def test_objects_keep_their_number_and_class_over_the_frames(folder: Path) -> None:
    data = content(folder)
    video = {one["id"]: one["video_id"] for one in data["images"]}
    classes: dict[tuple, set] = {}
    for one in data["annotations"]:
        key = (video[one["image_id"]], one["instance_id"])
        classes.setdefault(key, set()).add(one["category_id"])
        assert one["instance_id"] >= 1 and one["iscrowd"] in (0, 1)
    assert all(len(found) == 1 for found in classes.values())


def test_a_still_data_set_says_nothing_of_videos(tmp_path: Path) -> None:
    write_dataset(tmp_path / "set", 0, 2, 5, 64, workers=1, progress=False)
    data = content(tmp_path / "set")
    assert "videos" not in data and "frames" not in data["info"]
    assert all("video_id" not in one for one in data["images"])


def test_the_bytes_do_not_depend_on_the_number_of_processes(folder: Path, tmp_path: Path) -> None:
    write_dataset(tmp_path / "set", 0, 3, 5, SIZE, workers=2, progress=False, frames=4)
    for path in sorted(folder.rglob("*.j*")):
        assert (tmp_path / "set" / path.relative_to(folder)).read_bytes() == path.read_bytes()


def test_another_number_of_frames_is_another_data_set(folder: Path) -> None:
    with pytest.raises(ShapesError, match=r"frames: 4 there, 5 now"):
        write_dataset(folder, 0, 3, 5, SIZE, workers=1, progress=False, frames=5)
    with pytest.raises(ValueError, match="from 1 to 100, found 101"):
        write_dataset(folder, 0, 1, 5, SIZE, frames=writer.FRAMES + 1)


def test_the_command_writes_videos_and_says_so(tmp_path: Path, capsys) -> None:
    out = tmp_path / "set"
    call = ["dataset", "shapes", "--out", str(out), "--train", "0", "--val", "1", "--size", "64"]
    assert main.main([*call, "--frames", "16", "--workers", "1"]) == 0
    assert "0 training and 1 validation videos of 16 frames" in capsys.readouterr().out
    assert len(content(out)["images"]) == 16
