"""Files of others: every wrapper is opened, no pickled object is run, damage is named."""

from __future__ import annotations

import argparse
import json
import os
import pickle
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from support import official
from torch import Tensor

from svit.weights.checkpoint import CheckpointError, read_foreign
from svit.weights.conversion import convert_state

Maker = Callable[[Path], object]


@cache
def dense() -> dict[str, Tensor]:
    return official.dense()


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


WRAPPERS = {
    "plain": lambda state: state,
    "mmcv": lambda state: {"meta": {"epoch": 36}, "state_dict": state, "optimizer": {"state": {}}},
    "deit": lambda state: {"model": state},
    "distributed": lambda state: {f"module.{key}": value for key, value in state.items()},
}


@pytest.mark.parametrize("wrapper", WRAPPERS)
@pytest.mark.parametrize("zipped", [True, False])
def test_every_wrapper_is_opened(wrapper: str, zipped: bool, tmp_path: Path) -> None:
    path = tmp_path / "dense.pth"
    torch.save(WRAPPERS[wrapper](dense()), path, _use_new_zipfile_serialization=zipped)
    assert same(read_foreign(path).state, convert_state(dense()).state)


def test_what_a_wrapper_held_besides_is_reported(tmp_path: Path) -> None:
    torch.save(WRAPPERS["mmcv"](dense()), tmp_path / "dense.pth")
    assert "left out: meta, optimizer" in str(read_foreign(tmp_path / "dense.pth").report)


def test_safetensors_of_others_are_read(tmp_path: Path) -> None:
    save_file({key: value.contiguous() for key, value in dense().items()}, tmp_path / "x.bin")
    assert read_foreign(tmp_path / "x.bin").report.kind.startswith("dense")


@pytest.mark.parametrize("length", [0x3C + 0x400, 0x80 + 0x400, 0x280, 0x8080])
def test_a_header_length_that_looks_like_a_signature_does_not_mislead(
    length: int, tmp_path: Path
) -> None:
    entry = {"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}
    header = json.dumps(entry).encode().ljust(length)
    (tmp_path / "x").write_bytes(len(header).to_bytes(8, "little") + header + bytes(4))
    with pytest.raises(CheckpointError, match="1 names of no known kind"):  # so it was read
        read_foreign(tmp_path / "x")


class Canary:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return os.mkdir, (str(self.path),)


BAD_FILES: dict[str, tuple[Maker, str]] = {
    "absent": (lambda path: None, "No such file"),
    "empty": (lambda path: path.write_bytes(b""), "is empty; download"),
    "text": (
        lambda path: path.write_text("some words of text"),
        "neither a safetensors nor a torch",
    ),
    "picture": (
        lambda path: path.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(40)),
        "neither a safetensors",
    ),
    "web page": (lambda path: path.write_text("<!DOCTYPE html>"), "web page"),
    "git-lfs": (
        lambda path: path.write_text("version https://git-lfs.github.com/spec/v1"),
        "git lfs pull",
    ),
    "folder": (lambda path: path.mkdir(), "is a folder; give the file"),
    "run folder": (
        lambda path: (path.mkdir(), (path / "run.json").write_text("{}")),
        "is a run folder; give the file",
    ),
    "numpy archive": (
        lambda path: np.savez(path.open("wb"), a=np.zeros(3)),
        "zip archive but not of torch",
    ),
    "plain pickle": (lambda path: pickle.dump({"a": 1}, path.open("wb")), "plain pickle"),
    "old pickle": (lambda path: pickle.dump({"a": 1}, path.open("wb"), protocol=2), "plain pickle"),
    "list": (
        lambda path: torch.save([1, 2], path),
        "expected a state dict with tensors, found list",
    ),
    "empty dict": (lambda path: torch.save({"model": {}}, path), "expected a state dict"),
    "numbers": (
        lambda path: torch.save({"a": 1, "b": 2}, path),
        "2 entries that are no tensors: a, b",
    ),
    "namespace": (
        lambda path: torch.save({"model": dense(), "args": argparse.Namespace()}, path),
        "pickled argparse.Namespace.*never loaded.*torch.save",
    ),
    "array": (
        lambda path: torch.save({"model": dense(), "x": np.zeros(2)}, path),
        "pickled numpy.*_reconstruct",
    ),
    "module": (lambda path: torch.save(torch.nn.Linear(1, 1), path), "pickled torch.nn.*Linear"),
}


@pytest.mark.parametrize("case", BAD_FILES)
def test_a_bad_file_is_refused_with_its_name_and_a_remedy(case: str, tmp_path: Path) -> None:
    make, expected = BAD_FILES[case]
    path = tmp_path / "weights.pth"
    make(path)
    with pytest.raises(CheckpointError, match=expected) as caught:
        read_foreign(path)
    assert str(caught.value).startswith(str(path))


@pytest.mark.parametrize("zipped", [True, False])
def test_foreign_objects_are_not_run(zipped: bool, tmp_path: Path) -> None:
    content = {"model": dense(), "hook": Canary(tmp_path / "ran")}
    torch.save(content, tmp_path / "evil.pth", _use_new_zipfile_serialization=zipped)
    with pytest.raises(CheckpointError, match=r"evil.pth: contains a pickled posix.mkdir"):
        read_foreign(tmp_path / "evil.pth")
    assert not (tmp_path / "ran").exists()


def test_scalars_of_numpy_are_harmless(tmp_path: Path) -> None:
    permitted = torch.serialization.get_safe_globals()
    counters = {"iteration": np.int64(9), "loss": np.float32(0.5), "best": np.bool_(True)}
    torch.save({"model": dense(), **counters}, tmp_path / "x.pth")
    assert len(read_foreign(tmp_path / "x.pth").state) == len(dense())
    left = torch.serialization.get_safe_globals()  # of a set: in no order
    assert sorted(left, key=repr) == sorted(permitted, key=repr)  # ours ended with the reading


@cache
def _files() -> dict[str, bytes]:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x"
        found = {}
        for kind, zipped in (("zip", True), ("old", False)):
            torch.save(
                {"state_dict": {"a": torch.ones(50)}}, path, _use_new_zipfile_serialization=zipped
            )
            found[kind] = path.read_bytes()
        save_file({"a": torch.ones(50)}, path)
        return {**found, "safetensors": path.read_bytes()}


@settings(max_examples=60)
@given(st.sampled_from(["zip", "old", "safetensors"]), st.floats(0, 1, exclude_max=True))
def test_a_truncated_file_is_always_an_error_that_names_it(
    tmp_path_factory: pytest.TempPathFactory, kind: str, part: float
) -> None:
    path = tmp_path_factory.getbasetemp() / f"cut.{kind}"
    whole = _files()[kind]
    path.write_bytes(whole[: int(part * len(whole))])
    # in the old format the first half of a name reads like another name, one that is not allowed
    sentences = r"is truncated|is empty|only a piece|contains a pickled (torch|collections)\."
    with pytest.raises(CheckpointError, match=sentences) as caught:
        read_foreign(path)
    assert str(caught.value).startswith(str(path))
