"""Training: pieces that equal an unbroken run bit for bit, its files, its journal."""

from __future__ import annotations

import os
import shutil
import signal
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from support.trainings import (
    TINY,
    Pictures,
    Tiny,
    assert_same_training,
    forked,
    killed,
    lines,
    settings,
    signalled,
    unbroken,
    weights,
)

import svit.training.trainer
from svit.core.config import to_dict
from svit.detectors.base import Detector
from svit.training import training_checkpoints
from svit.training.train import TrainError, train
from svit.weights import checkpoint


@pytest.fixture(autouse=True)
def _tiny_models(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(svit.training.trainer, "build_detector", Tiny)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return unbroken(tmp_path_factory.mktemp("whole"))


def test_a_training_in_two_pieces_equals_an_unbroken_one_bit_for_bit(
    tmp_path: Path, whole: Path
) -> None:
    assert train(TINY, Pictures(), tmp_path, max_steps_this_run=6) == "paused"
    assert train(TINY, Pictures(), tmp_path, resume=True) == "finished"
    assert_same_training(tmp_path, whole)


def test_averaged_weights_follow_the_trained_ones_and_are_what_is_kept(tmp_path: Path) -> None:
    plain, averaged = settings(checkpoint_period=1), settings(checkpoint_period=1, average=0.3)
    seen = []

    def note(detector: Detector, step: int) -> dict[str, float]:
        seen.append(
            {name: value.clone() for name, value in detector.canonical_state_dict().items()}
        )
        return {}

    train(plain, Pictures(), tmp_path / "plain", evaluate=note)
    average = dict(seen[0])
    for number, state in enumerate(seen):
        decay = min(0.3, (1 + number) / (10 + number)) if number else 0.0
        average = {name: decay * average[name] + (1 - decay) * state[name] for name in state}
    train(averaged, Pictures(), tmp_path / "averaged", max_steps_this_run=5)
    train(averaged, Pictures(), tmp_path / "averaged", resume=True)
    kept, last = weights(tmp_path / "averaged"), seen[-1]
    assert all(torch.allclose(kept[name], average[name], atol=1e-6) for name in average)
    assert any(not torch.allclose(kept[name], last[name], atol=1e-4) for name in average)
    snapshot = training_checkpoints.read(training_checkpoints.paths(tmp_path / "averaged")[0])
    assert all(torch.equal(snapshot["unaveraged"][name], last[name]) for name in last)
    final = checkpoint.read(tmp_path / "averaged" / "model_final.safetensors").state
    assert all(torch.equal(value, kept[name]) for name, value in final.items())


def test_a_killed_training_goes_on_from_its_last_checkpoint_bit_for_bit(
    tmp_path: Path, whole: Path
) -> None:
    assert forked(train, TINY, Pictures(killed(at=19)), tmp_path) == -signal.SIGKILL
    assert [path.name for path in training_checkpoints.paths(tmp_path)] == ["model_0000002.pth"]
    (tmp_path / ".model_0000005.pth.svit-part").write_bytes(b"half a checkpoint")
    with (tmp_path / "metrics.json").open("a") as journal:
        journal.write('{"step": 4, "total_loss": 1.0}\n{"step": 5, "total_l')
    assert train(TINY, Pictures(), tmp_path, resume=True) == "finished"
    assert_same_training(tmp_path, whole)
    assert list(tmp_path.glob(".*")) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_after_the_step_and_the_training_goes_on_bit_for_bit(
    tmp_path: Path, whole: Path, number: signal.Signals
) -> None:
    before = signal.getsignal(number)
    assert train(TINY, Pictures(signalled(18, number)), tmp_path) == "interrupted"
    assert signal.getsignal(number) is before
    assert (tmp_path / training_checkpoints.MARKER).read_text() == "model_0000004.pth"
    assert [line["step"] for line in lines(tmp_path)] == [3, 5]  # the second is begun, and told
    assert train(TINY, Pictures(), tmp_path, resume=True) == "finished"
    assert_same_training(tmp_path, whole)


def test_pieces_of_one_step_write_the_lines_of_an_unbroken_training(
    tmp_path: Path, whole: Path
) -> None:
    for step in range(1, 8):
        assert train(TINY, Pictures(), tmp_path, resume=True, max_steps_this_run=1) == "paused"
        assert lines(tmp_path)[-1]["step"] == step
    assert train(TINY, Pictures(), tmp_path, resume=True) == "finished"
    assert_same_training(tmp_path, whole)


def test_worker_processes_change_nothing(tmp_path: Path, whole: Path) -> None:
    assert train(TINY, Pictures(), tmp_path, workers=2) == "finished"
    assert_same_training(tmp_path, whole)


def test_another_seed_gives_another_training(tmp_path: Path, whole: Path) -> None:
    train(settings(seed=1), Pictures(), tmp_path)
    assert lines(tmp_path)[0]["total_loss"] != lines(whole)[0]["total_loss"]


def test_the_newest_two_checkpoints_and_the_final_model_stay(whole: Path) -> None:
    names = [path.name for path in training_checkpoints.paths(whole)]
    assert names == ["model_0000007.pth", "model_0000005.pth"]
    assert (whole / "last_checkpoint").read_text() == names[0]
    final = checkpoint.read(whole / "model_final.safetensors")
    assert final.config == TINY and final.extra["steps"] == 8
    assert all(torch.equal(final.state[name], value) for name, value in weights(whole).items())


def test_a_training_checkpoint_holds_tensors_and_plain_python(whole: Path) -> None:
    snapshot = torch.load(training_checkpoints.paths(whole)[0], weights_only=True)
    assert snapshot["iteration"] == 7 and snapshot["config"] == to_dict(TINY)
    assert {"model", "optimizer", "scaler", "dataset", "world"} < snapshot.keys()


def test_a_training_checkpoint_serves_as_initial_weights(tmp_path: Path, whole: Path) -> None:
    start = training_checkpoints.paths(whole)[0]
    train(settings(iterations=1, rate=1e-30), Pictures(), tmp_path, init=start)
    a, b = weights(tmp_path), weights(whole)
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_a_training_may_start_from_a_model_with_the_other_neck(
    tmp_path: Path, whole: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="svit.training")
    start = whole / "model_final.safetensors"
    adapter = replace(TINY.backbone, neck="adapter", deform_heads=2)
    config = replace(settings(iterations=1, rate=1e-30), backbone=adapter)
    train(config, Pictures(), tmp_path, init=start)
    assert "belongs to the neck of the file (pyramid)" in caplog.text
    assert "initialised: " in caplog.text
    before, after = (checkpoint.read(path).state for path in (start, tmp_path / start.name))
    body = [name for name in before if "blocks." in name]
    assert body and all(torch.allclose(before[name], after[name]) for name in body)


def test_initial_weights_are_not_read_when_a_training_is_resumed(
    tmp_path: Path, whole: Path
) -> None:
    train(TINY, Pictures(), tmp_path, max_steps_this_run=6)
    train(TINY, Pictures(), tmp_path, init=Path("no such file"), resume=True)
    assert_same_training(tmp_path, whole)


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
    caplog.set_level("INFO", "svit.training")
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


def test_an_evaluation_that_a_signal_or_a_kill_prevented_is_made_up_for(
    tmp_path: Path, whole: Path
) -> None:
    def evaluate(detector: Detector, step: int) -> dict[str, float]:
        return {"AP": 10.0 * step}

    def die(detector: Detector, step: int) -> dict[str, float]:
        os.kill(os.getpid(), signal.SIGKILL)
        return {}

    train(TINY, Pictures(), tmp_path / "unbroken", evaluate=evaluate)
    broken = tmp_path / "broken"
    stopped = Pictures(signalled(10, signal.SIGTERM))  # in the third step: a checkpoint is due
    assert train(TINY, stopped, broken, evaluate=evaluate) == "interrupted"
    again = {"resume": True, "max_steps_this_run": 2}
    assert train(TINY, Pictures(), broken, evaluate=evaluate, **again) == "paused"
    assert forked(lambda: train(TINY, Pictures(), broken, evaluate=die, **again)) < 0
    for _ in range(2):  # the second time there is nothing left to do
        assert train(TINY, Pictures(), broken, evaluate=evaluate, resume=True) == "finished"
    assert_same_training(broken, tmp_path / "unbroken")


def test_a_result_without_its_checkpoints_is_neither_repeated_nor_replaced(
    tmp_path: Path, whole: Path
) -> None:
    final = tmp_path / "model_final.safetensors"
    shutil.copy(whole / final.name, final)
    shutil.copy(whole / "metrics.json", tmp_path)
    before = final.read_bytes()
    with pytest.raises(TrainError, match=r"already holds a training \(model_final.safetensors\)"):
        train(TINY, Pictures(), tmp_path)
    for resume in (False, True):
        with pytest.raises(TrainError) as error:
            train(settings(seed=1, rate=0.5), Pictures(), tmp_path, resume=resume)
        assert "train.seed: 0 there, 1 now" in str(error.value)
        assert "train.rate: 0.001 there, 0.5 now" in str(error.value)
    nothing = Pictures(lambda reads: pytest.fail("a step was repeated"))
    assert train(TINY, nothing, tmp_path, resume=True) == "finished"
    assert final.read_bytes() == before and lines(tmp_path) == lines(whole)


def test_a_result_of_another_training_is_not_passed_off_as_that_of_the_checkpoints(
    tmp_path: Path, whole: Path
) -> None:
    train(settings(seed=1), Pictures(), tmp_path, max_steps_this_run=3)
    shutil.copy(whole / "model_final.safetensors", tmp_path)
    with pytest.raises(TrainError, match="model_final(?s:.*)train.seed: 0 there, 1 now"):
        train(settings(seed=1), Pictures(), tmp_path, resume=True)
