"""What goes wrong in a training: other settings or data, damaged files, full disks, numbers out of range."""

from __future__ import annotations

import errno
import math
import os
import resource
import shutil
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

import pytest
import torch
from support.trainings import (
    TINY,
    Pictures,
    Tiny,
    assert_same_training,
    forked,
    settings,
    unbroken,
    weights,
)

import svit.training.trainer
from svit.core.config import Config, DataConfig, DetectorConfig
from svit.data.coco import CocoDataset, ImageError
from svit.system.files import FileError, Lock
from svit.training import training_checkpoints
from svit.training.loader import annotations_hash, training_hash
from svit.training.train import TrainError, train

OBJECT = {"id": 1, "image_id": 100, "category_id": 2, "bbox": [4, 4, 8, 6], "area": 48}
OBJECT |= {"iscrowd": 0, "segmentation": [[4, 4, 12, 4, 12, 10, 4, 10]]}


@pytest.fixture(autouse=True)
def _tiny_models(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(svit.training.trainer, "build_detector", Tiny)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return unbroken(tmp_path_factory.mktemp("whole"))


def test_resuming_with_other_settings_is_refused_and_names_them(tmp_path: Path) -> None:
    train(TINY, Pictures(), tmp_path, max_steps_this_run=1)
    changed = replace(settings(rate=0.5), backbone=replace(TINY.backbone, drop_path=0.3))
    with pytest.raises(TrainError) as error:
        train(changed, Pictures(), tmp_path, resume=True)
    assert "train.rate: 0.001 there, 0.5 now" in str(error.value)
    assert "backbone.drop_path: 0.1 there, 0.3 now" in str(error.value)
    assert str(error.value).count(" now") == 2


def test_resuming_with_other_data_is_refused(tmp_path: Path) -> None:
    train(TINY, Pictures(), tmp_path, max_steps_this_run=1)
    relabelled = Pictures()
    relabelled.annotations = [OBJECT]
    with pytest.raises(TrainError, match="other images, classes or annotations"):
        train(TINY, relabelled, tmp_path, resume=True)
    turned = Pictures()
    turned.exif = "on"
    with pytest.raises(TrainError, match="or another --exif"):
        train(TINY, turned, tmp_path, resume=True)


def test_resuming_is_refused_where_one_object_of_many_images_was_corrected(tmp_path: Path) -> None:
    class Corrected(Pictures):
        """In the image whose objects only the hash of all looks at."""

        def coco(self, indices: Sequence[int]) -> dict:
            return {"annotations": [OBJECT] if list(indices) == [7] else []}

    train(TINY, Pictures(), tmp_path, max_steps_this_run=1)
    with pytest.raises(TrainError, match="other boxes, areas, masks or classes of some objects"):
        train(TINY, Corrected(), tmp_path, resume=True)
    (path,) = training_checkpoints.paths(tmp_path)
    snapshot = training_checkpoints.read(path)
    del snapshot["annotations"]  # as before there was such a hash
    torch.save(snapshot, path)
    assert train(TINY, Corrected(), tmp_path, resume=True, max_steps_this_run=1) == "paused"


def test_every_object_and_every_number_of_it_counts_for_the_hash_of_annotations() -> None:
    images = [{"id": n, "file_name": f"{n}.png", "height": 40, "width": 50} for n in range(1, 501)]
    objects = [{**OBJECT, "id": n, "image_id": n} for n in range(1, 501)]
    data = {"images": images, "annotations": objects, "categories": [{"id": 2, "name": "disc"}]}

    def hashes(**fields: object) -> tuple[str, str]:
        changed = [*objects[:249], {**objects[249], **fields}, *objects[250:]]
        found = CocoDataset({**data, "annotations": changed}, "", DataConfig(), train=True)
        return training_hash(found), annotations_hash(found)

    sampled, every = hashes()
    assert hashes(bbox=[4.0, 4.0, 8.0, 6.0], area=48.0) == (sampled, every)
    moved = {"segmentation": [[4, 4, 12, 4, 12, 10.5, 4, 10]]}
    for fields in ({"bbox": [4, 4, 8, 7]}, {"area": 49}, moved, {"segmentation": []}):
        again, others = hashes(**fields)
        assert again == sampled and others != every


def test_a_folder_with_a_training_is_not_overwritten(tmp_path: Path) -> None:
    train(TINY, Pictures(), tmp_path, max_steps_this_run=1)
    with pytest.raises(
        TrainError, match="already holds a training .model_0000000.pth.; add --resume"
    ):
        train(TINY, Pictures(), tmp_path)


def test_two_trainings_do_not_share_a_folder(tmp_path: Path) -> None:
    def second() -> None:
        with pytest.raises(TrainError, match=f"process {os.getppid()} writes into this folder"):
            train(TINY, Pictures(), tmp_path)

    with Lock(tmp_path / ".lock"):
        assert forked(second) == 0
    assert train(settings(iterations=1), Pictures(), tmp_path) == "finished"


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1000])


def flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("damage", [truncate, flip_a_bit, Path.unlink])
def test_a_damaged_checkpoint_gives_way_to_the_one_before(
    tmp_path: Path, whole: Path, damage: Callable[[Path], None]
) -> None:
    train(TINY, Pictures(), tmp_path, max_steps_this_run=6)
    damage(tmp_path / "model_0000005.pth")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", training_checkpoints.DamagedWarning)
        assert train(TINY, Pictures(), tmp_path, resume=True) == "finished"
    told = [
        str(item.message) for item in caught if item.category is training_checkpoints.DamagedWarning
    ]
    assert len(told) == (0 if damage is Path.unlink else 1)
    assert all("model_0000005.pth" in text for text in told)
    assert_same_training(tmp_path, whole)


def test_a_folder_of_damaged_checkpoints_is_an_error_that_names_them(tmp_path: Path) -> None:
    (tmp_path / "model_0000005.pth").write_bytes(b"")
    torch.save({"weights": 1}, tmp_path / "model_0000002.pth")
    with (
        pytest.warns(training_checkpoints.DamagedWarning),
        pytest.raises(
            training_checkpoints.SnapshotError, match="model_0000005.pth, model_0000002.pth"
        ),
    ):
        training_checkpoints.newest(tmp_path)


def test_a_loss_that_is_not_finite_stops_before_the_update(tmp_path: Path) -> None:
    poison = Pictures(lambda reads: math.nan if reads == 18 else None)
    with pytest.raises(TrainError, match="step 5: .*loss_cls.* not finite") as error:
        train(TINY, poison, tmp_path)
    assert "model_0000002.pth" in str(error.value)
    assert [path.name for path in training_checkpoints.paths(tmp_path)] == ["model_0000002.pth"]
    assert all(value.isfinite().all() for value in weights(tmp_path).values())


def test_a_full_disk_is_noticed_before_the_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(TrainError, match=r"needs .* MiB and 0 MiB are free"):
        train(TINY, Pictures(), tmp_path)


def test_checkpoints_that_are_there_need_no_room_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    for held, largest in ((0, 333), (1, 500), (2, 1000), (3, 1000)):
        if held:
            (tmp_path / f"model_000000{held}.pth").touch()
        training_checkpoints.prepare_folder(tmp_path, largest)
        with pytest.raises(FileError, match="MiB are free"):
            training_checkpoints.prepare_folder(tmp_path, largest + 1)


def test_an_output_that_cannot_be_written_is_noticed_before_the_training(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(
        TrainError, match="cannot write into .*file/out: .*file is a file, not a folder"
    ):
        train(TINY, Pictures(), tmp_path / "file" / "out")


def test_a_disk_that_fills_up_costs_no_earlier_checkpoint(
    tmp_path: Path, whole: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(TINY, Pictures(), tmp_path, max_steps_this_run=3)

    def save(content: object, file: BinaryIO) -> None:
        file.write(b"the first half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch, pytest.raises(TrainError) as error:
        patch.setattr(torch, "save", save)
        train(TINY, Pictures(), tmp_path, resume=True)
    assert "No space left" in str(error.value) and "still there: model_0000002.pth" in str(
        error.value
    )
    assert sorted(path.name for path in tmp_path.glob("*model_*")) == ["model_0000002.pth"]
    assert train(TINY, Pictures(), tmp_path, resume=True) == "finished"
    assert_same_training(tmp_path, whole)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (replace(TINY, detector=DetectorConfig(classes=80)), "add detector.classes=2"),
        (settings(batch=12), "expected at least 12 pictures"),
        (settings(precision="float16"), "float16 needs a CUDA device"),
    ],
)
def test_settings_that_do_not_fit_are_refused_with_the_fix(
    tmp_path: Path, config: Config, words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        train(config, Pictures(), tmp_path / "out")


def test_two_classes_of_one_name_are_not_trained_on(tmp_path: Path) -> None:
    pictures = Pictures()
    pictures.class_names = ["fish", "fish"]
    with pytest.raises(ValueError, match="'fish' names more than one class of the data set"):
        train(TINY, pictures, tmp_path / "out")


def test_a_real_write_error_half_way_into_a_checkpoint_costs_no_earlier_one(
    tmp_path: Path, whole: Path
) -> None:
    def shrink(reads: int) -> None:
        if reads == 14:  # in the fourth step: one checkpoint is written
            resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))

    def until_full() -> None:
        with pytest.raises(TrainError, match="File too large.*still there: model_0000002.pth"):
            train(TINY, Pictures(shrink), tmp_path)

    assert forked(until_full) == 0
    assert sorted(path.name for path in tmp_path.glob("*model_*")) == ["model_0000002.pth"]
    assert train(TINY, Pictures(), tmp_path, resume=True) == "finished"
    assert_same_training(tmp_path, whole)


def test_a_picture_of_the_wrong_size_ends_the_training_by_name_and_may_be_replaced(
    tmp_path: Path, whole: Path
) -> None:
    def wrong(reads: int) -> None:
        if reads == 14:
            raise ImageError("104.png: expected height and width (32, 64), found (64, 32)")

    with pytest.raises(ImageError, match=r"104.png: expected height and width"):
        train(TINY, Pictures(wrong), tmp_path)
    assert train(TINY, Pictures(), tmp_path, resume=True) == "finished"
    assert_same_training(tmp_path, whole)


def test_a_picture_that_a_worker_cannot_read_is_told_without_its_traceback(tmp_path: Path) -> None:
    def wrong(reads: int) -> None:
        raise ImageError("104.png: empty (0 bytes)")

    with pytest.raises(ImageError) as error:
        train(TINY, Pictures(wrong), tmp_path, workers=1)
    assert str(error.value) == "104.png: empty (0 bytes)"


@pytest.mark.parametrize(
    ("line", "found"),
    [(b"{step: 3}\n", "step: 3"), (b"[]\n", "[]"), (b"{}\n", "{}"), (b"\xff\n", "xff")],
)
def test_a_damaged_line_of_the_journal_is_named_and_the_training_goes_on_without_it(
    tmp_path: Path, whole: Path, line: bytes, found: str
) -> None:
    train(TINY, Pictures(), tmp_path, max_steps_this_run=6)
    journal = tmp_path / "metrics.json"
    good = journal.read_bytes()
    journal.write_bytes(line + good)
    with pytest.raises(
        TrainError, match="metrics.json, line 1: expected an object with a step"
    ) as e:
        train(TINY, Pictures(), tmp_path, resume=True)
    assert found in str(e.value) and "delete the line" in str(e.value)
    journal.write_bytes(good)
    assert train(TINY, Pictures(), tmp_path, resume=True) == "finished"
    assert_same_training(tmp_path, whole)
