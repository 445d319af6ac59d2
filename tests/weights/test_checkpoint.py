"""Checkpoint files: written whole or not at all, read without trust, loaded only where they fit."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from support import official
from support.scenes import detector
from torch import Tensor

from svit.core.config import Config
from svit.weights import checkpoint
from svit.weights.checkpoint import CheckpointError, load_into, load_weights, read, read_foreign
from svit.weights.conversion import convert_state
from svit.weights.name_tables import GATES, VIT


class Weights:
    """A detector as far as checkpoints can see."""

    class_names: tuple[str, ...] = ()

    def __init__(self, preset: str) -> None:
        self.config: Config = official.small(preset)
        self.state = {k: torch.zeros_like(v) for k, v in official.canonical(preset).items()}
        if preset.startswith("svit"):
            self.state[f"{VIT}method.thresholds"] = torch.zeros(9)

    def canonical_state_dict(self) -> dict[str, Tensor]:
        return dict(self.state)

    def load_canonical(self, state: dict[str, Tensor]) -> None:
        assert state.keys() == self.state.keys()
        self.state = dict(state)


@cache
def dense() -> dict[str, Tensor]:
    return official.dense()


def filled(preset: str = "svit-adapter-nano") -> Weights:
    weights = Weights(preset)
    weights.state.update(official.canonical(preset))
    return weights


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_what_is_saved_is_read(tmp_path: Path) -> None:
    model, path = filled(), tmp_path / "new" / "model.safetensors"
    checkpoint.save(path, model, {"step": 7, "ap": [0.1, None]})
    back = read(path)
    assert same(back.state, model.state)
    assert back.config == model.config
    assert back.extra == {"step": 7, "ap": [0.1, None]}
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_a_saved_detector_loads_strictly_and_completely(tmp_path: Path) -> None:
    model, other = filled(), Weights("svit-adapter-nano")
    checkpoint.save(tmp_path / "model.safetensors", model)
    report = load_weights(other, tmp_path / "model.safetensors")
    assert same(other.state, model.state)
    assert not report.missing and not report.dropped and len(report.used) == len(model.state)


def test_half_precision_rounds_floats_and_nothing_else(tmp_path: Path) -> None:
    model = filled()
    full, half = tmp_path / "full.safetensors", tmp_path / "half.safetensors"
    checkpoint.save(full, model)
    checkpoint.save(half, model, half=True)
    back = read(half).state
    for name, tensor in model.state.items():
        expected = tensor.half().float() if tensor.is_floating_point() else tensor
        assert back[name].dtype == tensor.dtype and torch.equal(back[name], expected)
    assert half.stat().st_size < 0.6 * full.stat().st_size


def test_half_precision_refuses_values_it_cannot_hold(tmp_path: Path) -> None:
    model = filled()
    model.state[f"{VIT}pos_embed"][0, 0, 0] = 7e4
    with pytest.raises(CheckpointError, match="pos_embed has values beyond"):
        checkpoint.save(tmp_path / "model.safetensors", model, half=True)


def test_tensors_that_share_memory_are_saved(tmp_path: Path) -> None:
    model = filled()
    both = torch.arange(8.0)
    model.state["a"], model.state["b"] = both, both
    checkpoint.save(tmp_path / "model.safetensors", model)
    stored = load_file(tmp_path / "model.safetensors")
    assert torch.equal(stored["a"], both) and torch.equal(stored["b"], both)


@pytest.mark.parametrize("failure", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_failing_write_leaves_the_old_file(
    failure: BaseException, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "model.safetensors"
    checkpoint.save(path, filled(), {"step": 1})
    before = path.read_bytes()

    def half_written(tensors: object, file: Path, metadata: object) -> None:
        file.write_bytes(b"half of it")
        raise failure

    monkeypatch.setattr(checkpoint, "save_file", half_written)
    expected = CheckpointError if isinstance(failure, OSError) else KeyboardInterrupt
    with pytest.raises(expected):
        checkpoint.save(path, filled(), {"step": 2})
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_is_flushed_before_it_takes_the_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[str] = []
    monkeypatch.setattr(os, "fsync", lambda handle: events.append("flush"))
    replace_file = os.replace
    monkeypatch.setattr(os, "replace", lambda a, b: (events.append("rename"), replace_file(a, b)))
    checkpoint.save(tmp_path / "model.safetensors", filled())
    assert events == ["flush", "rename", "flush"]


@pytest.mark.parametrize("name", ["model.pth", "model"])
def test_only_safetensors_are_written(name: str, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="ends in .safetensors"):
        checkpoint.save(tmp_path / name, filled())


def test_extras_must_be_json(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="extra must hold JSON"):
        checkpoint.save(tmp_path / "model.safetensors", filled(), {"when": object()})


def _rewritten(path: Path, **changes: str) -> None:
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        metadata = {**file.metadata(), **changes}
    save_file(load_file(path), path, metadata)


def test_another_format_is_refused_with_the_remedy(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    checkpoint.save(path, filled())
    _rewritten(path, format_version="2", svit_version="9.1")
    for reader in (read, read_foreign):
        with pytest.raises(CheckpointError, match="format 2 of svit 9.1.*install"):
            reader(path)


def test_settings_of_another_time_are_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    checkpoint.save(path, filled())
    _rewritten(path, config=json.dumps({"backbone": {"colour": "blue"}}))
    with pytest.raises(CheckpointError, match="do not fit.*colour"):
        read(path)


def test_read_wants_our_own_files_and_points_to_convert(tmp_path: Path) -> None:
    torch.save(dense(), tmp_path / "dense.pth")
    with pytest.raises(CheckpointError, match="svit convert"):
        read(tmp_path / "dense.pth")


def test_names_of_our_own_files_are_not_looked_up_in_tables(tmp_path: Path, monkeypatch) -> None:
    path = tmp_path / "model.safetensors"
    source = filled()
    checkpoint.save(path, source)
    monkeypatch.setattr(checkpoint, "convert_state", None)
    assert same(read_foreign(path).state, source.canonical_state_dict())
    assert load_weights(filled(), path).used == tuple(sorted(source.canonical_state_dict()))


def test_dense_weights_in_a_sparse_model_must_be_wanted(tmp_path: Path) -> None:
    torch.save(dense(), tmp_path / "dense.pth")
    model = Weights("svit-adapter-nano")
    with pytest.raises(CheckpointError, match="55 missing from the file: .*gates.*and 45 more"):
        load_weights(model, tmp_path / "dense.pth")
    report = load_weights(model, tmp_path / "dense.pth", complete=False)
    assert len(report.missing) == 55 and len(report.used) == len(dense())
    assert "missing    54  initialised: backbone.bottom_up.method.gates*" in str(report)


@pytest.mark.parametrize(
    ("theirs", "mine"),
    [("vit-plain-nano", "svit-adapter-nano"), ("vit-adapter-nano", "vit-plain-nano")],
)
def test_the_other_neck_starts_anew_and_body_and_heads_are_taken(
    theirs: str, mine: str, tmp_path: Path
) -> None:
    path, source, model = tmp_path / "other.safetensors", filled(theirs), Weights(mine)
    checkpoint.save(path, source)
    for complete in (True, False):
        with pytest.raises(CheckpointError, match="neck"):
            load_weights(model, path, complete=complete)
    report = load_weights(model, path, complete=False, other_body=True)
    common = source.state.keys() & model.state.keys()
    body = {name for name in common if f"{VIT}blocks." in name or f"{VIT}patch_embed." in name}
    assert body and {name for name in common if name.startswith("roi_heads.")}
    assert all(torch.equal(model.state[name], source.state[name]) for name in common)
    assert set(report.used) == common and set(report.missing) == model.state.keys() - common
    assert set(report.dropped) == source.state.keys() - common


def test_a_checkpoint_without_all_of_the_body_is_refused_for_another_neck(tmp_path: Path) -> None:
    source = filled("vit-plain-nano")
    del source.state[f"{VIT}blocks.3.mlp.fc1.weight"]
    checkpoint.save(tmp_path / "torn.safetensors", source)
    with pytest.raises(CheckpointError, match=r"blocks\.3\.mlp\.fc1\.weight"):
        path = tmp_path / "torn.safetensors"
        load_weights(Weights("vit-adapter-nano"), path, complete=False, other_body=True)


def test_dense_weights_run_with_the_published_thresholds_of_a_method_that_has_some(
    tmp_path,
) -> None:
    dense = detector("dense")
    checkpoint.save(tmp_path / "dense.safetensors", dense)
    merging = detector("algm")
    report = load_weights(merging, tmp_path / "dense.safetensors")
    assert [name.rpartition(".")[2] for name in report.missing] == ["thresholds"]
    assert merging.backbone.method.thresholds.tolist() == pytest.approx([0.88, 0.2])
    sampled = detector("ats")  # its levels are ours to fit, and it has a class token
    with pytest.raises(CheckpointError, match="method.levels"):
        load_weights(sampled, tmp_path / "dense.safetensors")


def test_missing_parts_keep_their_values() -> None:
    model = filled()
    gates = {name: value for name, value in model.state.items() if "method." in name}
    load_into(model, convert_state(official.dense()), allow_missing=[GATES])
    assert all(torch.equal(model.state[name], value) for name, value in gates.items())


def test_a_plain_neck_takes_the_final_norm_of_deit() -> None:
    state = official.deit()
    report = load_into(
        Weights("vit-plain-nano"),
        converted := convert_state(state),
        allow_missing=[".+pyramid.+", "(?!.+up).+"],
    )
    assert f"{VIT}norm.weight" in report.used
    assert set(report.dropped) - set(converted.report.dropped) == {f"{VIT}method.class_token"}


def test_weights_of_another_size_are_refused_by_name_and_change_nothing() -> None:
    model = Weights("vit-adapter-nano")
    state = convert_state(official.dense())
    bigger = {
        name: value[..., :-1] if "fpn" in name else value for name, value in state.state.items()
    }
    with pytest.raises(CheckpointError) as caught:
        load_into(model, state._replace(state=bigger))
    message = str(caught.value)
    assert (
        "6 of another shape: backbone.fpn_lateral2.weight (8, 24, 1, 0) for (8, 24, 1, 1)"
        in message
    )
    assert "24 wide, 12 blocks" in message
    assert not any(value.any() for value in model.state.values())


def test_whole_numbers_are_no_weights() -> None:
    """Quantised ones: their scales are elsewhere, so as they are they would be other numbers."""
    state = convert_state(official.dense())
    name = f"{VIT}blocks.0.attn.qkv.weight"
    whole = {**state.state, name: (100 * state.state[name]).to(torch.int8)}
    with pytest.raises(CheckpointError, match=rf"1 whole numbers for others.*{name} torch.int8"):
        load_into(Weights("vit-adapter-nano"), state._replace(state=whole))


def test_sparse_weights_do_not_enter_a_dense_model() -> None:
    with pytest.raises(CheckpointError, match="55 unexpected in the file: .*and 45 more"):
        load_into(Weights("vit-adapter-nano"), convert_state(official.sparse()))


@settings(max_examples=25)
@given(st.sampled_from(sorted(official.dense())), st.text("abcxyz._0", min_size=1, max_size=6))
def test_no_misspelt_key_passes_silently(key: str, ending: str) -> None:
    with pytest.raises(CheckpointError):
        load_into(
            Weights("vit-adapter-nano"), convert_state({**dense(), key + ending: torch.zeros(1)})
        )


def test_the_fingerprint_knows_weights_and_not_files(tmp_path: Path) -> None:
    model = filled()
    checkpoint.save(tmp_path / "a.safetensors", model)
    mark = checkpoint.fingerprint(model.state)
    assert checkpoint.fingerprint(read(tmp_path / "a.safetensors").state) == mark
    model.state[f"{VIT}pos_embed"][0, 0, 0] += 1
    assert checkpoint.fingerprint(model.state) != mark


def test_a_real_detector_survives_the_file(tmp_path: Path) -> None:
    from svit.detectors import build_detector

    config = replace(official.small("svit-plain-nano"), framework="torchvision")
    torch.manual_seed(1)
    first, second = build_detector(config), build_detector(config)
    checkpoint.save(tmp_path / "model.safetensors", first)
    assert read(tmp_path / "model.safetensors").config == first.config
    report = load_weights(second, tmp_path / "model.safetensors")
    assert not report.missing
    assert same(first.canonical_state_dict(), second.canonical_state_dict())


@pytest.mark.parametrize("name", ["config", "extra", "lacks"])
@pytest.mark.parametrize("value", ["null", "3", "{", '"text"'])
def test_damaged_metadata_is_refused_by_name(name: str, value: str, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    checkpoint.save(path, filled())
    _rewritten(path, **{name: value})
    for reader in (read, read_foreign):
        with pytest.raises(CheckpointError, match=r"model\.safetensors: settings .* do not fit"):
            reader(path)


def test_a_file_without_metadata_is_foreign(tmp_path: Path) -> None:
    path = tmp_path / "plain.safetensors"
    content = b'{"__metadata__":null,"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}'
    path.write_bytes(len(content).to_bytes(8, "little") + content + b"x")
    with pytest.raises(CheckpointError, match=r"plain\.safetensors"):
        read(path)


def test_a_checkpoint_below_a_file_is_refused_with_the_way_on(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    words = "cannot be written .*file is a file, not a folder; choose another"
    with pytest.raises(CheckpointError, match=words):
        checkpoint.save(tmp_path / "file" / "a.safetensors", filled())
