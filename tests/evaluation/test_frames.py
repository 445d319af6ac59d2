"""Videos through whole passes: order, processes, going on in the middle, controls, intervals, and the run."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from support.scenes import detector, nano, photos_with_damage, shapes

from svit.core.types import FrameId
from svit.data.coco import CocoDataset, ImageFiles
from svit.data.shapes import write_dataset
from svit.detectors.base import Detector
from svit.evaluation.evaluate import Scoring, evaluate
from svit.evaluation.evaluation_table import report
from svit.evaluation.frames import FramesError, led_up_to
from svit.evaluation.passes import ALONE, PassOptions, planned
from svit.evaluation.record import record_run
from svit.evaluation.rescue import Question, asked_layers
from svit.probing.interventions import intervene
from svit.probing.recorder import record
from svit.pruning.streams import StreamError
from svit.runs.run import RunError, open_run
from svit.system.processes import Ranks

VIDEOS, FRAMES = 2, 3
GATED = list(range(3, 12))
OPTIONS = {"keep_ratios": [0.25] * 9}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> CocoDataset:
    out = tmp_path_factory.mktemp("videos")
    write_dataset(out, 0, VIDEOS, seed=3, size=64, workers=1, progress=False, frames=FRAMES)
    return opened(out)


def opened(folder: Path, change=lambda images: images) -> CocoDataset:
    data = json.loads((folder / "annotations" / "instances_val2017.json").read_text())
    data["images"] = change(data["images"])
    return CocoDataset(data, folder / "val2017", nano().data)


def quiet(model: Detector, dataset, run: Path, ranks: Ranks = ALONE, **options) -> int:
    how = PassOptions(progress=False, **options)
    return record_run(model, dataset, run, how, ranks=ranks, picture_side=0)


def test_images_know_their_frames_and_say_so_in_their_truth(dataset: CocoDataset) -> None:
    videos = [frame.video for frame in dataset.frames]
    assert videos == sorted(videos) and len(set(videos)) == VIDEOS
    assert [frame.number for frame in dataset.frames] == [0, 1, 2] * VIDEOS
    entry = dataset.coco([4])["images"][0]
    assert (entry["video_id"], entry["frame_id"]) == (videos[4], 1)


@pytest.mark.parametrize("wrong", [{"frame_id": "3"}, {"frame_id": None}, {"video_id": 1.5}])
def test_fields_that_are_no_ids_leave_a_picture_alone(dataset: CocoDataset, wrong) -> None:
    folder = dataset.image_root.parent
    found = opened(folder, lambda images: [images[0] | wrong, *images[1:]])
    assert found.frames[0] is None and found.frames[1] == dataset.frames[1]
    assert opened(folder, lambda images: [one | wrong for one in images]).frames == []


@pytest.mark.parametrize("method", ["changegate", "previousframe"])
def test_a_run_holds_videos_in_order_and_each_begins_whole(
    dataset: CocoDataset, tmp_path: Path, method: str
) -> None:
    assert quiet(detector(method, **OPTIONS), dataset, tmp_path / "run") == 0
    run = open_run(tmp_path / "run")
    assert list(run.image_ids) == dataset.image_ids
    assert run.frames["video"].tolist() == [str(frame.video) for frame in dataset.frames]
    assert run.frames["frame"].tolist() == [0, 1, 2] * VIDEOS
    assert run.slices == ()  # a video is no group that a reader asked for
    for trace, frame in zip(run.iter_traces(scores=False), dataset.frames, strict=True):
        assert trace.keep[:3].all()
        counts = trace.keep[GATED].sum(axis=(1, 2))
        assert (counts == (16 if frame.number == 0 else 4)).all()


def test_a_recording_goes_on_in_the_middle_of_a_video(dataset: CocoDataset, tmp_path: Path) -> None:
    model = detector("changegate", **OPTIONS)
    quiet(model, dataset, tmp_path / "whole")
    quiet(model, dataset, tmp_path / "pieces", limit=5)
    assert len(open_run(tmp_path / "pieces")) == 5
    quiet(model, dataset, tmp_path / "pieces")
    whole, pieces = open_run(tmp_path / "whole"), open_run(tmp_path / "pieces")
    assert whole.content_hash() == pieces.content_hash()


def test_processes_share_whole_videos(dataset: CocoDataset, tmp_path: Path) -> None:
    model = detector("previousframe", **OPTIONS)
    quiet(model, dataset, tmp_path / "one")
    for rank in range(2):
        ranks = Ranks(rank, 2, ALONE.device)
        assert planned(model, dataset, PassOptions(), ranks) == [[3 * rank + n] for n in range(3)]
        quiet(model, dataset, tmp_path / "two", ranks=ranks)
    one, two = open_run(tmp_path / "one"), open_run(tmp_path / "two")
    assert two.finished and two.content_hash() == one.content_hash()


def test_a_frame_that_cannot_be_read_does_not_end_its_video(
    dataset: CocoDataset, tmp_path: Path
) -> None:
    root = dataset.image_root.parent
    broken = opened(
        root, lambda images: [images[0], images[1] | {"file_name": "lost.jpg"}, *images[2:]]
    )
    assert quiet(detector("changegate", **OPTIONS), broken, tmp_path / "run") == 1
    run = open_run(tmp_path / "run")
    assert run.frames["frame"].tolist() == [0, 2, 0, 1, 2]
    assert run.trace(dataset.image_ids[2]).keep[GATED].sum() == 9 * 4


def test_what_a_method_with_state_cannot_follow_is_refused_before_a_folder_is_made(
    dataset: CocoDataset, tmp_path: Path
) -> None:
    model, root = detector("changegate", **OPTIONS), dataset.image_root.parent
    mixed = opened(root, lambda images: [images[n] for n in (0, 3, 1, 4, 2, 5)])
    turned = opened(root, lambda images: [images[1], images[0], *images[2:]])
    photos = ImageFiles([photos_with_damage(tmp_path / "photos")], nano().data)
    still = shapes(tmp_path / "still")
    cases = [(mixed, "out of order"), (turned, r"\(frame 0\) is out of order")]
    cases += [(one, "no frame of a video.*--frames 16") for one in (photos, still)]
    for images, words in cases:
        with pytest.raises(FramesError, match=words):
            quiet(model, images, tmp_path / "run")
    with pytest.raises(ValueError, match="one by one: set the batch to 1, found 2"):
        quiet(model, dataset, tmp_path / "run", batch=2)
    assert not (tmp_path / "run").exists()
    assert quiet(detector(), mixed, tmp_path / "any", batch=2) == 0  # others take any order


def test_a_pass_begins_anew_and_leaves_frames_that_were_run_by_hand_alone(
    dataset: CocoDataset, tmp_path: Path
) -> None:
    model = detector("changegate", **OPTIONS)
    for name in ("first", "second"):
        quiet(model, dataset, tmp_path / name)
    first, second = open_run(tmp_path / "first"), open_run(tmp_path / "second")
    assert first.content_hash() == second.content_hash()
    sample = replace(dataset.sample(5), frame=dataset.frames[5])
    with pytest.raises(StreamError, match="frame 2 came after frame 2"):
        model.predict([sample])


@torch.no_grad()
@pytest.mark.parametrize("method", ["changegate", "previousframe"])
def test_random_tokens_are_as_many_and_reuse_as_the_method_does(
    dataset: CocoDataset, method: str
) -> None:
    """Counts are those of the unedited model, which goes on beside the edited one in its own stream."""
    model, plain = detector(method, **OPTIONS), detector(method, **OPTIONS)
    other = False
    for place in range(FRAMES):
        sample = replace(dataset.sample(place), frame=dataset.frames[place])
        with record(plain) as own:
            plain.predict([sample])
        with intervene(model, "random", [sample]), record(model) as tape:
            model.predict([sample])
        counts = [one.keep()[0].sum(axis=(1, 2)) for one in (own, tape)]
        assert np.array_equal(*counts)
        other |= bool((own.keep() != tape.keep()).any())
    assert other


def test_missed_objects_of_a_frame_are_not_asked_about_alone() -> None:
    with pytest.raises(RunError, match="reuses what earlier frames left"):
        asked_layers(detector("changegate", **OPTIONS), Question())


def test_intervals_are_over_videos(dataset: CocoDataset, tmp_path: Path) -> None:
    model = detector("changegate", detections=20, **OPTIONS)
    options, scoring = PassOptions(progress=False), Scoring(draws=40)
    summary = evaluate(model, dataset, tmp_path / "out", options, scoring)
    assert summary.videos == {
        image_id: frame.video
        for image_id, frame in zip(dataset.image_ids, dataset.frames, strict=True)
    }
    one = summary.drawn["box"]
    assert one.key.startswith(f"{VIDEOS} videos ")
    assert len(np.unique(one.draws)) <= 3  # two videos: one twice, both, the other twice
    assert "intervals over videos (40 draws)" in report([summary])
    apart = summary.matches["box"].drawn(40)
    with pytest.raises(ValueError, match="same images and draws"):
        one - apart  # noqa: B018


def test_earlier_frames_of_wanted_ones_run_again() -> None:
    frames = [*(FrameId("a", n) for n in range(4)), None, *(FrameId("b", n) for n in range(3))]
    assert led_up_to(frames, {2}) == {0, 1, 2}
    assert led_up_to(frames, {5, 3}) == {0, 1, 2, 3, 5}
    assert led_up_to(frames, set()) == set()
