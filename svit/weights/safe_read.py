"""Raw tensors from files nobody vouches for: safetensors or torch, told by their first bytes.

Pickled objects can run code, so torch files load with `weights_only=True`; only NumPy's scalar
types, which trainers leave in their counters, are allowed besides tensors and plain Python values.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

_SCALAR = np.float64(0).__reduce__()[0]
# numpy 1 and 2 call the function that rebuilds a scalar by different paths
SAFE_GLOBALS = (
    (_SCALAR, "numpy.core.multiarray.scalar"),
    (_SCALAR, "numpy._core.multiarray.scalar"),
    np.dtype,
    *(type(np.dtype(code)) for code in "?bhilqBHILQefd"),
)

_TORCH_STARTS = (b"PK\x03\x04", b"\x80\x02")  # zip archive; the format before torch 1.6
_AGAIN = "download or copy it again"
_PICKLE = "is a plain pickle, which could run any code; save its arrays as safetensors"
# beginnings of files that are taken for weights by mistake
_STRANGERS = {
    b"version https://git-lfs": "is a git-lfs pointer; run `git lfs pull`",
    b"<": "is a web page, so the download failed; fetch it again",
    b"\x80": _PICKLE,
}
# what torch says, and what it means
_TORCH_ERRORS = {
    "Invalid magic number": _PICKLE,
    "TorchScript": "is a TorchScript program, not weights; save its state_dict",
    "not in a subdirectory": "is a zip archive but not of torch; give the file of weights",
}
_REPACK = (
    "Pickled objects can run code, so they are never loaded. Where you trust the file, keep only "
    "its tensors: torch.save(torch.load(FILE, weights_only=False)[KEY], NEW_FILE), with KEY such "
    "as 'model' or 'state_dict'"
)


class CheckpointError(ValueError):
    """A file of weights cannot be read or written, or does not fit the model."""


def read_file(path: str | Path) -> tuple[Any, Mapping[str, str]]:
    """What a safetensors or torch file holds, and the metadata of a safetensors file.

    Raises:
        CheckpointError: no such file, a folder, empty, truncated, of another kind, or with pickled
            objects.
    """
    path = Path(path)
    head = _first_bytes(path)
    if _is_safetensors(head):
        return _read_safetensors(path)
    if head.startswith(_TORCH_STARTS):
        return _read_torch(path), {}
    for beginning, sentence in _STRANGERS.items():
        if head.startswith(beginning):
            raise CheckpointError(f"{path}: {sentence}")
    raise CheckpointError(
        f"{path}: is neither a safetensors nor a torch file, or only a piece of one (it starts "
        f"with {head[:8]!r}); give a .safetensors or .pth file"
    )


def _first_bytes(path: Path) -> bytes:
    if path.is_dir():
        what = "a run folder" if (path / "run.json").is_file() else "a folder"
        raise CheckpointError(f"{path}: is {what}; give the file of weights (.safetensors, .pth)")
    try:
        with path.open("rb") as file:
            head = file.read(32)
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror})") from error
    if not head:
        raise CheckpointError(f"{path}: is empty; {_AGAIN}")
    return head


def _is_safetensors(head: bytes) -> bool:
    """Eight bytes of length, then json. Asked first: a length may look like any signature."""
    return head[4:9] == b"\0\0\0\0{"


def _read_safetensors(path: Path) -> tuple[dict[str, Tensor], Mapping[str, str]]:
    try:
        with safe_open(path, framework="pt") as file:
            names = file.keys()
            return {name: file.get_tensor(name) for name in names}, file.metadata() or {}
    except SafetensorError as error:
        raise CheckpointError(f"{path}: is truncated or damaged ({error}); {_AGAIN}") from error


def _read_torch(path: Path) -> Any:
    try:
        # opened here: torch goes by the ending of a name
        with torch.serialization.safe_globals(list(SAFE_GLOBALS)), path.open("rb") as file:
            return torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # damaged bytes make the unpickler raise almost anything
        raise CheckpointError(f"{path}: {_torch_problem(error)}") from error


def _torch_problem(error: Exception) -> str:
    message = str(error)
    blocked = re.search(r"GLOBAL (\w+(?:\.\w+)+) ", message)
    if blocked:
        return f"contains a pickled {blocked.group(1)}. {_REPACK}"
    for part, sentence in _TORCH_ERRORS.items():
        if part in message:
            return sentence
    detail = f"{type(error).__name__}: {message.splitlines()[0] if message else 'no detail'}"
    return f"is truncated or damaged ({detail}); {_AGAIN}"
