"""The training engine: schedules, resuming, many processes, and what happens when something breaks."""

from __future__ import annotations

import argparse
import errno
import json
import math
import os
import shutil
import signal
import sys
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch import multiprocessing as mp
from torch.optim import lr_scheduler as schedulers

import svit.trainer
from svit import checkpoint, cli, launch, snapshots
from svit.config import (
    BackboneConfig,
    Config,
    DataConfig,
    DetectorConfig,
    PruningConfig,
    TrainConfig,
    load_config,
    to_dict,
)
from svit.data.samples import Sample
from svit.data.shapes import write_dataset
from svit.detectors.base import Detector
from svit.models import build_backbone
from svit.optimise import Precision, noise_scale, parameter_groups, rate_factor, total_steps
from svit.train import TrainError, open_training_set, train
from svit.types import Target

TINY = Config(
    name="tiny",
    framework="torchvision",
    backbone=BackboneConfig(
        neck="pyramid", embed_dim=16, depth=4, heads=2, pretrain_grid=2, drop_path=0.1
    ),
    pruning=PruningConfig("svit", {"keep_ratios": [0.7, 0.5]}),
    detector=DetectorConfig(classes=2, fpn_dim=8),
    data=DataConfig(short_side=32, long_side=64, augment="flips"),
    train=TrainConfig(
        iterations=8,
        batch=4,
        rate=1e-3,
        warmup=2,
        schedule="cosine",
        precision="float32",
        clip_norm=1.0,
        gate_rate_multiplier=10.0,
        noise_end=0.5,
        checkpoint_period=3,
    ),
)


class Pictures:
    """Eleven noise images that answer as `svit.data.coco.CocoDataset` does.

    Args:
        on_read: called with the number of images read so far, this one included, for tests that break
            something; a number it returns fills the image.
    """

    class_names, category_ids = ("square", "disc"), (1, 2)
    image_ids = tuple(range(100, 111))
    aspect_groups = np.zeros(11, dtype=int)

    def __init__(self, on_read: Callable[[int], float | None] = lambda reads: None) -> None:
        self._on_read, self._reads = on_read, 0

    def __len__(self) -> int:
        return len(self.image_ids)

    annotations: Sequence[dict] = ()

    def coco(self, indices: Sequence[int]) -> dict:
        return {"annotations": list(self.annotations)}

    def file_name(self, index: int) -> str:
        return f"{self.image_ids[index]}.png"

    def sample(self, index: int, seed: int | None = None) -> Sample:
        self._reads += 1
        fill = self._on_read(self._reads)
        noise = torch.randn(3, 32, 64, generator=torch.Generator().manual_seed(seed or 0))
        image = noise if fill is None else torch.full((3, 32, 64), fill)
        target = Target([[4.0, 4, 20, 20]], [index % 2], np.ones((1, 32, 64), bool))
        return Sample(self.image_ids[index], image, (32, 64), target)


class Tiny(Detector):
    """A real backbone with a head whose loss is a mean over images, so that it splits over processes."""

    framework = "torchvision"
    names = {"body.": "backbone.bottom_up.", "head.": "roi_heads.box_predictor.cls_score."}

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.body = build_backbone(config.backbone, config.pruning)
        self.head = torch.nn.Linear(config.backbone.embed_dim, config.detector.classes)

    @property
    def backbone(self):
        return self.body

    def _losses(self, images, maps, samples, targets) -> dict[str, Tensor]:
        logits = self.head(maps["c4"].mean(dim=(2, 3)))
        labels = torch.tensor([int(target.labels[0]) for target in targets])
        size = sum(level.square().mean() for level in maps.values())
        return {"loss_cls": torch.nn.functional.cross_entropy(logits, labels), "loss_size": size}


class Deterministic(Tiny):
    """The same without random masks: what several processes can repeat exactly."""

    def losses(self, samples):
        self.body.method.noise_scale = 0.0
        return super().losses(samples)


@pytest.fixture(autouse=True)
def _tiny_models(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if "command" not in request.node.name:
        monkeypatch.setattr(svit.trainer, "build_detector", Tiny)


def settings(**changes: object) -> Config:
    return replace(TINY, train=replace(TINY.train, **changes))


def lines(folder: Path) -> list[dict]:
    text = (folder / "metrics.json").read_text()
    return [json.loads(line) for line in text.splitlines()]


def weights(folder: Path) -> dict[str, Tensor]:
    return snapshots.read(snapshots.paths(folder)[0])["model"]


def without_seconds(folder: Path) -> list[dict]:
    timing = ("data_seconds", "compute_seconds", "images_per_second")
    return [{k: v for k, v in line.items() if k not in timing} for line in lines(folder)]


def killed(at: int) -> Callable[[int], None]:
    """Ends the process without a word at the given read."""
    return lambda reads: os.kill(os.getpid(), signal.SIGKILL) if reads == at else None


def signalled(at: int, number: signal.Signals) -> Callable[[int], None]:
    return lambda reads: os.kill(os.getpid(), number) if reads == at else None


def forked(action: Callable, *args: object) -> int:
    """Runs something in a process of its own. Returns: the exit code, negative for a signal."""
    process = mp.get_context("fork").Process(target=action, args=args)
    process.start()
    process.join()
    return process.exitcode


def assert_same_training(one: Path, other: Path) -> None:
    """Weights and curves agree to the last bit."""
    a, b = weights(one), weights(other)
    assert a.keys() == b.keys()
    assert [name for name in a if not torch.equal(a[name], b[name])] == []
    assert without_seconds(one) == without_seconds(other)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output of one unbroken training of `TINY`."""
    folder = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(svit.trainer, "build_detector", Tiny)
        assert train(TINY, Pictures(), folder) == "finished"
    return folder


def test_a_training_in_two_pieces_equals_an_unbroken_one_bit_for_bit(
    tmp_path: Path, whole: Path
) -> None:
    assert train(TINY, Pictures(), tmp_path, max_steps_this_run=6) == "paused"
    assert train(TINY, Pictures(), tmp_path, resume=True) == "finished"
    assert_same_training(tmp_path, whole)


def test_a_killed_training_goes_on_from_its_last_checkpoint_bit_for_bit(
    tmp_path: Path, whole: Path
) -> None:
    assert forked(train, TINY, Pictures(killed(at=19)), tmp_path) == -signal.SIGKILL
    assert [path.name for path in snapshots.paths(tmp_path)] == ["model_0000002.pth"]
    (tmp_path / ".model_0000005.pth.1.tmp").write_bytes(b"half a checkpoint")
    with (tmp_path / "metrics.json").open("a") as journal:
        journal.write('{"step": 4, "total_loss": 1.0}\n{"step": 5, "total_l')
    assert train(TINY, Pictures(), tmp_path, resume=True) == "finished"
    assert_same_training(tmp_path, whole)
    assert list(tmp_path.glob("*.tmp")) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_after_the_step_and_the_training_goes_on_bit_for_bit(
    tmp_path: Path, whole: Path, number: signal.Signals
) -> None:
    before = signal.getsignal(number)
    assert train(TINY, Pictures(signalled(18, number)), tmp_path) == "interrupted"
    assert signal.getsignal(number) is before
    assert (tmp_path / snapshots.MARKER).read_text() == "model_0000004.pth"
    assert train(TINY, Pictures(), tmp_path, resume=True) == "finished"
    a, b = weights(tmp_path), weights(whole)
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_worker_processes_change_nothing(tmp_path: Path, whole: Path) -> None:
    assert train(TINY, Pictures(), tmp_path, workers=2) == "finished"
    assert_same_training(tmp_path, whole)


def test_another_seed_gives_another_training(tmp_path: Path, whole: Path) -> None:
    train(settings(seed=1), Pictures(), tmp_path)
    assert lines(tmp_path)[0]["total_loss"] != lines(whole)[0]["total_loss"]


def test_the_newest_two_checkpoints_and_the_final_model_stay(whole: Path) -> None:
    names = [path.name for path in snapshots.paths(whole)]
    assert names == ["model_0000007.pth", "model_0000005.pth"]
    assert (whole / "last_checkpoint").read_text() == names[0]
    final = checkpoint.read(whole / "model_final.safetensors")
    assert final.config == TINY and final.extra["steps"] == 8
    assert all(torch.equal(final.state[name], value) for name, value in weights(whole).items())


def test_a_training_checkpoint_holds_tensors_and_plain_python(whole: Path) -> None:
    snapshot = torch.load(snapshots.paths(whole)[0], weights_only=True)
    assert snapshot["iteration"] == 7 and snapshot["config"] == to_dict(TINY)
    assert {"model", "optimizer", "scaler", "dataset", "world"} < snapshot.keys()


def test_a_training_checkpoint_serves_as_initial_weights(tmp_path: Path, whole: Path) -> None:
    start = snapshots.paths(whole)[0]
    train(settings(iterations=1, rate=1e-30), Pictures(), tmp_path, init=start)
    a, b = weights(tmp_path), weights(whole)
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_initial_weights_are_not_read_when_a_training_is_resumed(
    tmp_path: Path, whole: Path
) -> None:
    train(TINY, Pictures(), tmp_path, max_steps_this_run=6)
    train(TINY, Pictures(), tmp_path, init=Path("no such file"), resume=True)
    assert_same_training(tmp_path, whole)


def test_resuming_with_other_settings_is_refused_and_names_them(tmp_path: Path) -> None:
    train(TINY, Pictures(), tmp_path, max_steps_this_run=1)
    changed = replace(settings(rate=0.5), backbone=replace(TINY.backbone, drop_path=0.3))
    with pytest.raises(TrainError) as error:
        train(changed, Pictures(), tmp_path, resume=True)
    assert "train.rate: 0.001 in the checkpoint, 0.5 now" in str(error.value)
    assert "backbone.drop_path: 0.1 in the checkpoint, 0.3 now" in str(error.value)
    assert str(error.value).count(" now") == 2


def test_resuming_with_other_data_is_refused(tmp_path: Path) -> None:
    train(TINY, Pictures(), tmp_path, max_steps_this_run=1)
    relabelled = Pictures()
    relabelled.annotations = [{"id": 1, "image_id": 100, "category_id": 2}]
    with pytest.raises(TrainError, match="other images, classes or annotations"):
        train(TINY, relabelled, tmp_path, resume=True)


def test_a_folder_with_a_training_is_not_overwritten(tmp_path: Path) -> None:
    train(TINY, Pictures(), tmp_path, max_steps_this_run=1)
    with pytest.raises(TrainError, match="already holds a training; add --resume"):
        train(TINY, Pictures(), tmp_path)


def test_two_trainings_do_not_share_a_folder(tmp_path: Path) -> None:
    def second() -> None:
        with pytest.raises(TrainError, match="another training is writing"):
            train(TINY, Pictures(), tmp_path)

    with snapshots.locked(tmp_path):
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
        warnings.simplefilter("always", snapshots.DamagedWarning)
        assert train(TINY, Pictures(), tmp_path, resume=True) == "finished"
    told = [str(item.message) for item in caught if item.category is snapshots.DamagedWarning]
    assert len(told) == (0 if damage is Path.unlink else 1)
    assert all("model_0000005.pth" in text for text in told)
    assert_same_training(tmp_path, whole)


def test_a_folder_of_damaged_checkpoints_is_an_error_that_names_them(tmp_path: Path) -> None:
    (tmp_path / "model_0000005.pth").write_bytes(b"")
    torch.save({"weights": 1}, tmp_path / "model_0000002.pth")
    with (
        pytest.warns(snapshots.DamagedWarning),
        pytest.raises(snapshots.SnapshotError, match="model_0000005.pth, model_0000002.pth"),
    ):
        snapshots.newest(tmp_path)


def test_a_loss_that_is_not_finite_stops_before_the_update(tmp_path: Path) -> None:
    poison = Pictures(lambda reads: math.nan if reads == 18 else None)
    with pytest.raises(TrainError, match="step 5: .*loss_cls.* not finite") as error:
        train(TINY, poison, tmp_path)
    assert "model_0000002.pth" in str(error.value)
    assert [path.name for path in snapshots.paths(tmp_path)] == ["model_0000002.pth"]
    assert all(value.isfinite().all() for value in weights(tmp_path).values())


def test_a_full_disk_is_noticed_before_the_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(TrainError, match=r"checkpoints need .* MiB and 0 MiB are free"):
        train(TINY, Pictures(), tmp_path)


def test_an_output_that_cannot_be_written_is_noticed_before_the_training(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(TrainError, match="cannot write into .*file"):
        train(TINY, Pictures(), tmp_path / "file" / "out")


def test_a_disk_that_fills_up_costs_no_earlier_checkpoint(
    tmp_path: Path, whole: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(TINY, Pictures(), tmp_path, max_steps_this_run=3)

    def save(content: object, path: Path) -> None:
        path.write_bytes(b"the first half")
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


def test_the_journal_tells_all_that_the_curve_needs(whole: Path) -> None:
    written = lines(whole)
    assert [line["step"] for line in written] == [3, 6, 8]
    assert {"loss_cls", "ratio_loss", "gradient_norm", "images_per_second"} < written[0].keys()
    assert written[0]["keep_ratio"][:2] == [1.0, 1.0] and len(written[0]["keep_ratio"]) == 4
    assert all(0 < ratio < 1 for ratio in written[0]["keep_ratio"][2:])
    # 8 steps, noise gone after half of them: 1 - step/4 at the zero-based steps 2, 5 and 7
    assert [line["noise_scale"] for line in written] == [0.5, 0.0, 0.0]
    parts = ("loss_cls", "loss_size", "ratio_loss")
    for line in written:
        assert sum(line[name] for name in parts) == pytest.approx(line["total_loss"])


def test_tensorboard_shows_the_numbers_of_the_journal(whole: Path) -> None:
    events = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    board = events.EventAccumulator(str(whole))
    board.Reload()
    shown = [(event.step, event.value) for event in board.Scalars("total_loss")]
    assert shown == [(line["step"], pytest.approx(line["total_loss"])) for line in lines(whole)]
    assert len(board.Scalars("keep_ratio/3")) == 3


def test_a_training_without_tensorboard_says_so_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    caplog.set_level("INFO", "svit.train")
    assert train(settings(iterations=1), Pictures(), tmp_path) == "finished"
    assert "TensorBoard is not installed" in caplog.text and len(lines(tmp_path)) == 1


def test_an_evaluation_runs_after_checkpoints_and_leaves_the_training_alone(
    tmp_path: Path, whole: Path
) -> None:
    def evaluate(detector: Detector, step: int) -> dict[str, float]:
        assert not detector.training and not torch.is_grad_enabled()
        torch.rand(step)  # whatever it draws must not reach the training
        return {"AP": 10.0 * step}

    train(TINY, Pictures(), tmp_path, evaluate=evaluate)
    assert [(x["step"], x["AP"]) for x in lines(tmp_path) if "AP" in x] == [
        (3, 30),
        (6, 60),
        (8, 80),
    ]
    a, b = weights(tmp_path), weights(whole)
    assert all(torch.equal(a[name], b[name]) for name in a)


# --- several processes


def _train_deterministic(args: argparse.Namespace) -> int:
    """What each of several processes runs; the model has no randomness they could not share."""
    svit.trainer.build_detector = Deterministic
    train(DETERMINISTIC, Pictures(), args.out)
    return 0


def _fail(args: argparse.Namespace) -> int:
    raise TrainError("the first line\n  a second, indented\nand a third")


# chunks of two images: what one of two processes has, so that the ratio loss averages alike (methods.md §6.4)
DETERMINISTIC = replace(
    settings(noise_end=0.0),
    backbone=replace(TINY.backbone, drop_path=0.0),
    pruning=PruningConfig("svit", {"keep_ratios": [0.7, 0.5], "ratio_chunk": 2}),
)


def process_options(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    launch.add_arguments(parser)
    return parser.parse_args(words)


def test_two_processes_follow_the_curve_of_one_with_the_joined_batch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(svit.trainer, "build_detector", Deterministic)
    train(DETERMINISTIC, Pictures(), tmp_path / "one")
    args = process_options("--num-gpus", "2")
    args.out = tmp_path / "two"
    assert launch.launch(_train_deterministic, args) == 0
    one, two = lines(tmp_path / "one"), lines(tmp_path / "two")
    assert len(one) == len(two) == 3
    for a, b in zip(one, two, strict=True):
        for name in ("total_loss", "loss_cls", "loss_size", "ratio_loss", "gradient_norm"):
            # sums over images run in another order: float32 rounding, nothing more
            assert b[name] == pytest.approx(a[name], rel=2e-5), name
        assert b["keep_ratio"] == pytest.approx(a["keep_ratio"], abs=2e-3)
    assert snapshots.read(snapshots.paths(tmp_path / "two")[0])["world"] == 2


def test_machines_that_do_not_share_the_output_are_found_out(tmp_path: Path) -> None:
    class Elsewhere(launch.Ranks):
        def mean(self, values: Tensor) -> Tensor:
            return values / 2  # the other process is at step 0

    trainer = svit.trainer.Trainer(TINY, Pictures(), tmp_path, Elsewhere(0, 1, torch.device("cpu")))
    trainer.check_common_start()
    trainer.step = 6
    with pytest.raises(TrainError, match="must be a shared folder"):
        trainer.check_common_start()


def test_an_error_in_a_process_reaches_the_user_in_its_own_words(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    start = mp.start_processes

    def fork(*args: object, **options: object) -> object:
        return start(*args, **{**options, "start_method": "fork"})

    monkeypatch.setattr(mp, "start_processes", fork)  # spares the imports of a spawned process
    with pytest.raises(launch.LaunchError) as error:
        launch.launch(_fail, process_options("--processes", "2"))
    assert str(error.value) == "the first line\n  a second, indented\nand a third"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--num-machines", "2"), "need one address"),
        (("--num-machines", "2", "--dist-url", "host:1"), "expected tcp://HOST:PORT"),
        (("--num-gpus", "2", "--machine-rank", "1"), "below --num-machines"),
    ],
)
def test_process_options_that_do_not_fit_are_refused(words: tuple[str, ...], message: str) -> None:
    with pytest.raises(launch.LaunchError, match=message):
        launch.launch(_fail, process_options(*words))


# --- optimiser, schedules, precision


def test_decay_and_rate_follow_the_official_exclusions() -> None:
    config = settings(weight_decay=0.05, gate_weight_decay=0.2)
    detector = Tiny(config)
    names = {id(parameter): name for name, parameter in detector.named_parameters()}
    found = {
        names[id(parameter)]: (group["scale"], group["weight_decay"])
        for group in parameter_groups(detector, config.train)
        for parameter in group["params"]
    }
    assert found.keys() == set(names.values())
    assert found["body.pos_embed"] == found["body.blocks.0.norm1.weight"] == (1.0, 0.0)
    assert found["body.blocks.0.attn.qkv.bias"] == found["head.bias"] == (1.0, 0.0)
    assert found["body.blocks.0.attn.qkv.weight"] == found["head.weight"] == (1.0, 0.05)
    assert found["body.method.gates.0.fc1.weight"] == (10.0, 0.2)
    assert found["body.method.gates.0.norm.weight"] == (10.0, 0.0)


def test_frozen_parameters_are_left_out() -> None:
    detector = Tiny(TINY)
    detector.body.pos_embed.requires_grad_(False)
    groups = parameter_groups(detector, TINY.train)
    assert all(p is not detector.body.pos_embed for group in groups for p in group["params"])


def scheduled(scheduler: Callable[[torch.optim.Optimizer], object], steps: int) -> list[float]:
    """The factors one of torch's own schedulers gives."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    chosen, factors = scheduler(optimizer), []
    for _ in range(steps):
        factors.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        chosen.step()
    return factors


def test_the_schedules_are_torchs_own_after_the_warm_up() -> None:
    cosine = TrainConfig(schedule="cosine", warmup=0)
    expected = scheduled(lambda o: schedulers.CosineAnnealingLR(o, 50, eta_min=0.01), 50)
    assert [rate_factor(cosine, step, 50) for step in range(50)] == pytest.approx(expected)
    steps = TrainConfig(epochs=36, drops=(27, 33), warmup=0)
    expected = scheduled(lambda o: schedulers.MultiStepLR(o, [54, 66]), 72)
    assert [rate_factor(steps, step, 72) for step in range(72)] == pytest.approx(expected)


def test_the_warm_up_is_linear_from_its_start() -> None:
    train_config = TrainConfig(warmup=500, warmup_start=0.001)
    factors = [rate_factor(train_config, step, 10**6) for step in (0, 250, 499, 500)]
    assert factors == pytest.approx([0.001, 0.5005, 0.998002, 1.0])


@given(step=st.integers(0, 2000), total=st.integers(1, 1000), end=st.floats(0.01, 1))
def test_the_noise_falls_and_never_below_zero(step: int, total: int, end: float) -> None:
    here = noise_scale(TrainConfig(noise_end=end), step, total)
    later = noise_scale(TrainConfig(noise_end=end), step + 1, total)
    assert 1 >= here >= later >= 0
    assert here > 0 or step >= end * total * (1 - 1e-9)
    assert noise_scale(TrainConfig(noise_end=0.0), step, total) == 1.0


def test_iterations_decide_over_epochs() -> None:
    # methods.md §4: 117,266 images in batches of 16 for 6 epochs are about 44,000 iterations
    assert total_steps(TrainConfig(epochs=6, batch=16), 117_266) == 43_975
    assert total_steps(TrainConfig(epochs=6, batch=16, iterations=7), 117_266) == 7


def test_bfloat16_covers_the_backbone_and_hands_out_float32(tmp_path: Path) -> None:
    seen = []
    detector = Tiny(TINY)
    detector.body.blocks[0].register_forward_hook(lambda m, i, out: seen.append(out.dtype))
    detector.head.register_forward_hook(lambda m, i, out: seen.append(out.dtype))
    detector.body.blocks[0].mlp.register_forward_hook(lambda m, i, out: seen.append(out.dtype))
    precision = Precision("bfloat16", torch.device("cpu"))
    losses = precision.losses(detector.train(), [Pictures().sample(0, seed=1)])
    assert torch.bfloat16 in seen[:-1] and seen[-1] == torch.float32
    assert all(loss.dtype == torch.float32 for loss in losses.values())


@pytest.mark.gpu
def test_float16_trains_on_cuda_and_resumes(tmp_path: Path) -> None:
    config = settings(precision="float16")
    train(config, Pictures(), tmp_path, device="cuda", max_steps_this_run=4)
    assert snapshots.read(snapshots.paths(tmp_path)[0])["scaler"]["scale"] > 0
    assert train(config, Pictures(), tmp_path, device="cuda", resume=True) == "finished"


# --- the command


def test_the_command_trains_from_a_folder_in_cocos_layout(tmp_path: Path, capfd) -> None:
    write_dataset(tmp_path / "shapes", train=6, val=1, seed=3)
    (tmp_path / "tiny.yaml").write_text(
        "preset: svit-plain-nano\n"
        "framework: torchvision\n"
        "backbone: {embed_dim: 12, depth: 4, heads: 2}\n"
        "pruning: {options: {keep_ratios: [0.7, 0.5]}}\n"
        "train: {iterations: 3, batch: 2, checkpoint_period: 2}\n"
    )
    words = ["train", "--config", f"{tmp_path}/tiny.yaml", "--dataset", f"{tmp_path}/shapes"]
    out = ["--out", f"{tmp_path}/out"]
    assert cli.main([*words, *out, "--max-steps", "1", "train.seed=5"]) == 0
    assert cli.main([*words, *out, "--resume", "train.seed=6"]) == 2
    assert "train.seed: 5 in the checkpoint, 6 now" in capfd.readouterr().err
    assert cli.main([*words, *out, "--resume", "train.seed=5"]) == 0
    assert (tmp_path / "out" / "model_final.safetensors").exists()
    config = load_config(str(tmp_path / "out" / "config.yaml"))
    assert config.train.seed == 5
    assert config == checkpoint.read(tmp_path / "out" / "model_final.safetensors").config
    assert "resuming from" in (tmp_path / "out" / "log.txt").read_text()


def test_a_dataset_may_be_a_json_a_folder_or_a_split(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_dataset(tmp_path / "shapes", train=3, val=1, seed=3)
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path / "shapes"))
    annotations = tmp_path / "shapes" / "annotations" / "instances_train2017.json"
    for name in (annotations, tmp_path / "shapes", "train"):
        opened = open_training_set(str(name), None, TINY)
        assert len(opened) > 0 and opened.image(0).shape == (256, 256, 3)
