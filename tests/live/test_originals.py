"""The picture that was recorded is found again, and only the one that was."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.runs import PROVENANCE, write_videos

from svit.core.types import TokenGrid, TokenTrace
from svit.data.reading import ImageError
from svit.data.shapes import film, scene, writer
from svit.live import originals
from svit.live.pictures import recorded
from svit.runs.run import Run, RunWriter, open_run
from svit.system.files import file_hash
from svit.system.home import home

SIDE, SEED = 64, 1_005_000_000
PIXELS = scene(SEED, SIDE).image


def written(
    folder: Path,
    pixels: np.ndarray,
    name: str,
    image_id: int | str,
    file: Path | None = None,
    **how: int,
) -> Run:
    """A run of one image, of a file where one is named."""
    side = SIDE // 16
    grid = TokenGrid((SIDE, SIDE), (SIDE, SIDE), (side, side), 16)
    trace = TokenTrace(image_id, grid, np.ones((12, side, side), bool))
    with RunWriter(folder, {**PROVENANCE}, **how) as run:
        run.add(trace, None, None, pixels, name, file_sha256=file and file_hash(file))
    return open_run(folder)


def test_the_file_of_an_image_is_run_and_another_of_its_name_is_not(tmp_path: Path):
    run = written(tmp_path / "run", PIXELS, "sub/a.png", "a")
    (tmp_path / "files" / "sub").mkdir(parents=True)
    file = tmp_path / "files" / "sub" / "a.png"
    assert not recorded(run, "a", [tmp_path / "files"]).record.exact
    Image.fromarray(PIXELS).save(file)
    found = recorded(run, "a", [tmp_path / "files"])
    assert found.record.exact and (found.pixels == PIXELS).all()
    assert "from its file sub/a.png" in found.origin
    Image.fromarray(255 - PIXELS).save(file)
    other = recorded(run, "a", [tmp_path / "files"])
    assert not other.record.exact and "as it is stored" in other.origin


def test_a_file_that_was_changed_too_little_to_see_is_not_the_recorded_one(tmp_path: Path):
    file, changed = tmp_path / "a.png", PIXELS.copy()
    changed[0, 0] ^= 1
    Image.fromarray(PIXELS).save(file)
    for name, how in (("stored", {}), ("bare", {"picture_side": 0})):
        run = written(tmp_path / name, PIXELS, "a.png", "a", file, **how)
        assert recorded(run, "a", [tmp_path]).record.exact
        Image.fromarray(changed).save(file)
        if how:
            with pytest.raises(ImageError, match="stores no pictures"):
                recorded(run, "a", [tmp_path])
        else:
            assert not recorded(run, "a", [tmp_path]).record.exact
        Image.fromarray(PIXELS).save(file)


def test_the_photograph_that_ships_is_found_for_its_recordings():
    for name in ("svit-plain-nuclei", "svit-plain-nuclei-random", "vit-plain-nuclei"):
        run = open_run(home() / "demo" / "runs" / name)
        found = recorded(run, 1)
        assert found.record.exact and "from its file img2d.png" in found.origin, name


def test_a_file_outside_of_the_named_folders_is_not_read(tmp_path: Path):
    run = written(tmp_path / "run", PIXELS, "../a.png", "a")
    (tmp_path / "files").mkdir()
    Image.fromarray(PIXELS).save(tmp_path / "a.png")
    assert not recorded(run, "a", [tmp_path / "files"]).record.exact


def test_a_scene_is_drawn_again_as_its_file_held_it(tmp_path: Path):
    (tmp_path / "scene.jpg").write_bytes(writer.jpeg(PIXELS))
    with Image.open(tmp_path / "scene.jpg") as picture:
        held = np.asarray(picture)
    run = written(tmp_path / "run", held, writer.file_name(SEED), SEED)
    found = recorded(run, SEED)
    assert found.record.exact and (found.pixels == held).all() and "its seed" in found.origin


def test_a_frame_of_a_moving_scene_is_drawn_again(tmp_path: Path):
    *_, last = film(SEED, 3, SIDE)
    (tmp_path / "frame.jpg").write_bytes(writer.jpeg(last.scene.image))
    with Image.open(tmp_path / "frame.jpg") as picture:
        held = np.asarray(picture)
    image_id = writer.FRAMES * SEED + 2
    run = written(tmp_path / "run", held, writer.file_name((SEED, 2)), image_id)
    found = recorded(run, image_id)
    assert found.record.exact and (found.pixels == held).all() and "its seed" in found.origin


@pytest.mark.parametrize(
    ("method", "said"), [("changegate", "course of a video"), ("svit", "learned")]
)
def test_a_record_says_whether_its_masks_hang_on_earlier_frames(tmp_path: Path, method, said):
    run = write_videos(tmp_path / "run", frames=2, method=method)
    assert said in recorded(run, 1).record.masks


def test_without_a_stored_picture_the_file_alone_will_do(tmp_path: Path):
    run = written(tmp_path / "run", PIXELS, "a.png", "a", picture_side=0)
    with pytest.raises(ImageError, match="svit app --pictures"):
        recorded(run, "a")
    Image.fromarray(PIXELS).save(tmp_path / "a.png")
    assert (recorded(run, "a", [tmp_path]).pixels == PIXELS).all()


def test_very_large_pictures_stay_as_the_run_stores_them(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(originals, "LARGEST", SIDE)
    run = written(tmp_path / "run", PIXELS, "a.png", "a")
    Image.fromarray(PIXELS).save(tmp_path / "a.png")
    assert not recorded(run, "a", [tmp_path]).record.exact
