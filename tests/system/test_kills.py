"""Everything that writes, killed at every file event: nothing half lies under a final name, and the next
start ends with what an unbroken one leaves, without leftovers."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from support import official
from support.kills import assert_whole, events_of, files_below, killed_at
from support.runs import PROVENANCE, parts, write_run
from support.scenes import detector
from support.trainings import Pictures, Tiny, forked, settings, weights, without_seconds

import svit.comparison.row
import svit.training.trainer
from analysis import render
from analysis.figures.output import DrawOptions
from analysis.report import sheet
from analysis.sources.collection import collect
from svit.cli import main
from svit.comparison.plan import chosen, jobs
from svit.comparison.row import Setting, run_row
from svit.core.presets import load_config
from svit.data.coco import CocoDataset
from svit.data.shapes import write_dataset
from svit.detectors import build_detector
from svit.evaluation.evaluate import Scoring, evaluate
from svit.evaluation.passes import ALONE, PassOptions
from svit.runs.run import RunWriter, open_run
from svit.system.claims import claim
from svit.system.files import Lock, move, prepare_folder, write_text
from svit.training.train import train
from svit.weights import checkpoint
from svit.weights.converting import convert_file

SMALL = [
    *("framework=torchvision", "data.short_side=64", "data.long_side=64", "train.batch=2"),
    *("train.precision=float32", "train.checkpoint_period=1", "detector.max_detections=3"),
    *("backbone.embed_dim=24", "backbone.depth=4", "detector.fpn_dim=16"),
    *("detector.box_head_dim=32", "detector.mask_head_dim=16", "detector.rpn_pre_nms_test=50"),
]


@dataclass(frozen=True)
class Given:
    """What the writers read."""

    data: Path
    source: Path
    model: Path
    start: Path
    run: Path

    @property
    def annotations(self) -> Path:
        return self.data / "annotations" / "instances_val2017.json"


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> Given:
    root = tmp_path_factory.mktemp("given")
    write_dataset(root / "data", 4, 2, seed=3, size=64, workers=1, progress=False)
    torch.save({"model": official.deit(rows=10)}, root / "deit.pth")
    checkpoint.save(root / "model.safetensors", detector())
    torch.manual_seed(0)
    dense = build_detector(load_config("vit-plain-nano", SMALL))
    checkpoint.save(root / "start.safetensors", dense)
    write_run(root / "run")
    names = ("data", "deit.pth", "model.safetensors", "start.safetensors", "run")
    return Given(*(root / name for name in names))


@pytest.fixture(scope="module", autouse=True)
def _few_draws() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(svit.comparison.row, "Scoring", functools.partial(Scoring, draws=2))
        yield


def _folder(out: Path, given: Given) -> None:
    prepare_folder(out / "new", 1)
    with Lock(out / "new" / ".lock"):
        claim(out / "new" / "plan.json", {"seed": 1}, what="plan")
        write_text(out / "new" / "a.md", "text\n" * 1000)
        write_text(out / "new" / "draft.md", "text\n" * 1000)
        move(out / "new" / "draft.md", out / "b.md")


def _record(out: Path, given: Given) -> None:
    with RunWriter(out, PROVENANCE, shard_size=2) as writer:
        for image_id in range(1, 6):
            if image_id == 3:
                writer.add_error(3, "cannot be read", "3.jpg")
            elif image_id not in writer.done:
                writer.add(**parts(image_id))


def _recorded(out: Path) -> object:
    run = open_run(out)
    return run.content_hash(), run.finished, run.errors.values.tolist()


def _evaluate(out: Path, given: Given) -> None:
    root = given.data / "val2017"
    dataset = CocoDataset(given.annotations, root, detector().config.data)
    options, scoring = (
        PassOptions(inference="sample", progress=False),
        Scoring(draws=2, record=out / "run"),
    )
    evaluate(detector(), dataset, out / "results", options, scoring)


def _evaluated(out: Path) -> object:
    return _recorded(out / "run"), _bytes(out / "results")


def _train(out: Path, given: Given) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(svit.training.trainer, "build_detector", Tiny)
        config = settings(iterations=4, checkpoint_period=2)
        assert train(config, Pictures(), out, resume=True) == "finished"


def _trained(out: Path) -> object:
    final = (out / "model_final.safetensors").read_bytes()
    return checkpoint.fingerprint(weights(out)), without_seconds(out), final


def _shapes(out: Path, given: Given) -> None:
    write_dataset(out, 2, 1, seed=5, size=64, workers=1, progress=False)


def _convert(out: Path, given: Given) -> None:
    convert_file(given.source, out / "ours.safetensors", partial=True)
    for name in ("theirs.pth", "folder"):
        convert_file(given.start, out / name)


def _command(*words: object) -> None:
    assert main.main([str(word) for word in words]) == 0


def _calibrate(out: Path, given: Given) -> None:
    words = ("--weights", given.model, "--framework", "torchvision", "--images", 1)
    data = ("--dataset", given.annotations, "--image-root", given.data / "val2017")
    _command("calibrate", *words, *data, "--out", out / "calibrated.safetensors")


def _repair(out: Path, given: Given) -> None:
    _command("dataset", "check", given.annotations, "--repair", out / "mended.json")


def _compare(out: Path, given: Given) -> None:
    (job,) = jobs(chosen(["ats-preserve"]), [0], "plain", "nano", SMALL, 2)
    assert run_row(job, Setting(out, str(given.data), given.start, 2, 1), ALONE)


def _compared(out: Path) -> object:
    (row,) = out.glob("*/row.json")
    facts = json.loads(row.read_text())
    del facts["seconds_of_this_call"]
    (trained,) = row.parent.glob("*.safetensors")
    return facts, trained.read_bytes(), _recorded(row.parent / "run")


def _figures(out: Path, given: Given) -> None:
    found = collect([given.run])
    assert list(render.draw("reactivation", found, out, DrawOptions()))
    sheet.write([], out)


def _bytes(out: Path) -> object:
    return {name: (out / name).read_bytes() for name in files_below(out)}


@dataclass(frozen=True)
class Writer:
    """What writes into a folder, and what is compared of it.

    Attributes:
        events: killed at so many of its file events by default; None is all.
        slow_events: likewise where there is time.
    """

    start: Callable[[Path, Given], None]
    content: Callable[[Path], object] = _bytes
    events: int | None = None
    slow_events: int | None = None


WRITERS = {
    "folder": Writer(_folder),
    "record": Writer(_record, _recorded, events=12),
    "shapes": Writer(_shapes, events=12),
    "convert": Writer(_convert),
    "repair": Writer(_repair),
    "figures": Writer(_figures, events=5),
    "calibrate": Writer(_calibrate, events=4),
    "evaluate": Writer(_evaluate, _evaluated, events=6),
    "train": Writer(_train, _trained, events=8),
    "compare": Writer(_compare, _compared, events=2, slow_events=40),
}


@pytest.mark.parametrize("name", WRITERS)
def test_a_kill_costs_nothing_and_leaves_nothing(name: str, given: Given, tmp_path: Path) -> None:
    _kill(WRITERS[name], given, tmp_path, WRITERS[name].events)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name, writer in WRITERS.items() if writer.events])
def test_a_kill_at_any_event_costs_nothing_and_leaves_nothing(
    name: str, given: Given, tmp_path: Path
) -> None:
    _kill(WRITERS[name], given, tmp_path, WRITERS[name].slow_events)


def _kill(writer: Writer, given: Given, tmp_path: Path, most: int | None) -> None:
    whole = tmp_path / "whole"
    whole.mkdir()
    count = events_of(lambda: writer.start(whole, given), whole, tmp_path / "events")
    assert count >= 4
    expected, left = writer.content(whole), files_below(whole)
    assert not [name for name in left if Path(name).name.startswith(".")]
    for number in _spread(count, most):
        folder = tmp_path / f"killed-{number}"
        folder.mkdir()
        killed_at(number, lambda folder=folder: writer.start(folder, given), folder)
        assert_whole(folder)
        assert forked(writer.start, folder, given) == 0, f"after event {number} of {count}"
        assert writer.content(folder) == expected, f"after event {number} of {count}"
        assert files_below(folder) == left, f"after event {number} of {count}"


def _spread(count: int, most: int | None) -> list[int]:
    """Numbers of events, from 1; of many, the first, the last and some between."""
    if most is None or most >= count:
        return list(range(1, count + 1))
    return [1 + round(place * (count - 1) / (most - 1)) for place in range(most)]
