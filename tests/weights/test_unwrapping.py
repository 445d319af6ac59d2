"""Copies, prefixes and counters around the weights of others; values that are not finite."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from support import official
from support.tiny_detectors import build
from torch import Tensor

from svit.cli.main import main
from svit.weights import checkpoint
from svit.weights.checkpoint import CheckpointError, load_weights, read_foreign
from svit.weights.conversion import convert_state
from svit.weights.unwrapping import read_tensors

STATE = {f"layer.{index}.weight": torch.full((2,), float(index)) for index in range(3)}
AVERAGE = {name: tensor + 10 for name, tensor in STATE.items()}


def under(prefix: str, state: dict[str, Tensor] = STATE) -> dict[str, Tensor]:
    return {prefix + name: tensor for name, tensor in state.items()}


def read(content: object, tmp_path: Path, *, ema: bool = False):
    torch.save(content, tmp_path / "w.pth")
    return read_tensors(tmp_path / "w.pth", ema=ema)


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize(
    "prefix",
    ["module.", "model.", "_orig_mod.", "ema_", "module._orig_mod.", "model.module.", "ema_model."],
)
def test_prefixes_of_wrappers_are_taken_off(prefix: str, tmp_path: Path) -> None:
    assert same(read(under(prefix), tmp_path).state, STATE)


def test_a_compiled_part_inside_a_model_has_its_plain_name(tmp_path: Path) -> None:
    content = {name.replace("layer.", "layer._orig_mod."): t for name, t in STATE.items()}
    assert same(read(content, tmp_path).state, STATE)
    with pytest.raises(CheckpointError, match="one name with and without"):
        read({**content, **STATE}, tmp_path)


BOTH = {
    "timm": {"state_dict": STATE, "state_dict_ema": AVERAGE},
    "deit": {
        "model": STATE,
        "model_ema": {"n_averaged": torch.tensor(3), **under("module.", AVERAGE)},
    },
    "rt-detr": {"model": STATE, "ema": {"module": AVERAGE, "updates": 7}},
    "lightning": {"state_dict": {**under("model."), **under("ema_model.", AVERAGE)}},
    "beside": {**STATE, **under("ema_", AVERAGE)},
}


@pytest.mark.parametrize("kind", BOTH)
def test_of_two_copies_the_weights_are_read_unless_the_average_is_asked_for(
    kind: str, tmp_path: Path
) -> None:
    plain, averaged = read(BOTH[kind], tmp_path), read(BOTH[kind], tmp_path, ema=True)
    assert same(plain.state, STATE) and any("--ema" in note for note in plain.notes)
    assert same(averaged.state, AVERAGE) and any("was read" in note for note in averaged.notes)


@pytest.mark.parametrize("kind", ["timm", "deit", "rt-detr"])
@pytest.mark.parametrize("ema", [False, True])
def test_an_average_that_is_alone_is_read_and_told(kind: str, ema: bool, tmp_path: Path) -> None:
    content = {key: value for key, value in BOTH[kind].items() if value is not STATE}
    found = read(content, tmp_path, ema=ema)
    assert same(found.state, AVERAGE) and any("alone" in note for note in found.notes)


@pytest.mark.parametrize(
    "content",
    [
        {"state_dict": AVERAGE, "ema_state_dict": {"steps": torch.tensor(3), **under("module.")}},
        {"state_dict": {**AVERAGE, **{f"ema_{n.replace('.', '_')}": t for n, t in STATE.items()}}},
        {"model": AVERAGE, "unaveraged": STATE},
    ],
    ids=["mmengine", "mmcv", "ours"],
)
@pytest.mark.parametrize("ema", [False, True])
def test_where_the_writer_exchanged_them_the_average_has_the_plain_names(
    content: dict, ema: bool, tmp_path: Path
) -> None:
    found = read(content, tmp_path, ema=ema)
    assert same(found.state, AVERAGE) and any("exchanges" in note for note in found.notes)


def test_an_average_without_buffers_takes_them_from_the_weights(tmp_path: Path) -> None:
    mean = {"norm.running_mean": torch.ones(1)}
    content = {"model": {**STATE, **mean}, "model_ema": AVERAGE}
    assert same(read(content, tmp_path, ema=True).state, {**AVERAGE, **mean})


def test_an_average_that_is_not_there_is_refused(tmp_path: Path, capsys) -> None:
    torch.save(STATE, tmp_path / "w.pth")
    words = ["convert", str(tmp_path / "w.pth"), str(tmp_path / "x.safetensors"), "--ema"]
    assert main(words) == 2
    assert "no averaged copy" in capsys.readouterr().err


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("ours", [False, True])
def test_values_that_are_not_finite_are_refused_with_the_tensors_name(
    value: float, ours: bool, tmp_path: Path
) -> None:
    detector, path = build("torchvision"), tmp_path / "w.safetensors"
    state = detector.canonical_state_dict()
    state["roi_heads.box_head.fc1.weight"][3, 4] = value
    if ours:
        checkpoint.save(path, detector)
    else:
        torch.save({"model": state}, path)
    for reader in (read_foreign, lambda p: load_weights(detector, p)):
        with pytest.raises(
            CheckpointError,
            match=r"w\.safetensors: 1 tensors .* not finite: roi_heads.box_head.fc1.weight \(1 of",
        ):
            reader(path)


def test_a_missing_counter_of_batches_is_no_loss() -> None:
    state = official.canonical("vit-adapter-nano")
    counters = [name for name in state if name.endswith("num_batches_tracked")]
    assert counters

    class Model:
        class_names = ()

        def __init__(self) -> None:
            self.config, self.state = official.small("vit-adapter-nano"), dict(state)

        def canonical_state_dict(self) -> dict[str, Tensor]:
            return dict(self.state)

        def load_canonical(self, state: dict[str, Tensor]) -> None:
            self.state = state

    lacking = {name: tensor for name, tensor in state.items() if name not in counters}
    report = checkpoint.load_into(Model(), convert_state(lacking))
    assert list(report.missing) == counters


def test_a_backbone_alone_is_told_to_be_one(tmp_path: Path, capsys) -> None:
    torch.save({"model": official.deit()}, tmp_path / "deit.pth")
    words = ["record", "--weights", str(tmp_path / "deit.pth"), "--images", str(tmp_path)]
    assert main([*words, "--out", str(tmp_path / "run")]) == 2
    said = capsys.readouterr().err
    assert "is a backbone without heads" in said and "svit train --init" in said
