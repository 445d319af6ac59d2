"""From what a file holds to one state dict: wrappers opened, averages told from weights, prefixes taken off.

Who writes what: timm `state_dict` and `state_dict_ema`, DeiT and torchvision `model` and `model_ema`, RT-DETR
`ema.module`, torch's AveragedModel a counter beside `module.`, Lightning `model.` and `ema_model.`. mmengine
(`ema_state_dict`), mmcv (`ema_` before a name whose dots are underscores) our own trainings (`unaveraged`)
exchange both before they save: the average stands under the plain names, the raw weights beside it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from svit.system.files import FileError, read_json
from svit.weights.safe_read import CheckpointError, read_file

DESCRIPTION, WEIGHTS = (
    "config.json",
    "model.safetensors",
)  # in a folder as `save_pretrained` writes it
OURS = "svit-"  # begins the `format` of our torch files
WRAPPERS = ("state_dict", "model")
AVERAGES = ("state_dict_ema", "model_ema", "ema")
EXCHANGED = ("ema_state_dict", "unaveraged")
PREFIXES = ("module.", "model.")  # of DistributedDataParallel, of Lightning
COUNTERS = ("n_averaged", "steps", "num_updates", "decay")  # of averages
_AVERAGED = re.compile(r"ema_|model_ema\.|ema\.")
# torch.compile, activation checkpointing and FSDP put theirs anywhere in a name
_INSERTED = re.compile(
    r"(?:(?<=\.)|^)_(?:orig_mod|checkpoint_wrapped_module|fsdp_wrapped_module)\."
)


@dataclass(frozen=True)
class RawWeights:
    """What a file holds.

    Attributes:
        state: the file's own name -> tensor, without the prefixes of wrappers.
        metadata: of a safetensors file.
        notes: what was left out or chosen, for the report.
        class_names: that a torch file has beside its tensors.
        settings: of the model, that a torch file of ours has beside its tensors.
    """

    state: dict[str, Tensor]
    metadata: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    class_names: tuple[str, ...] = ()
    settings: Mapping[str, Any] | None = None


def read_tensors(path: str | Path, *, ema: bool = False) -> RawWeights:
    """The weights in a safetensors or torch file, or a folder of `save_pretrained`, under their own names.

    Args:
        ema: take the averaged copy (EMA) of a file with both. One that is alone is taken either way.

    Raises:
        CheckpointError: see `svit.weights.safe_read.read_file`; no tensors in it, no averaged copy for
            `ema`, or values that are not finite.
    """
    path = Path(path)
    described = _card(path)
    content, metadata = read_file(path / WEIGHTS if described else path)
    weights, average, notes = _copies(path, content)
    if ema and average is None and _EXCHANGED_NOTE not in notes:
        raise CheckpointError(f"{path}: has no averaged copy of its weights; leave out --ema")
    state = _bare(path, average if weights is None else weights)
    if weights is not None and average is not None:
        notes.append(_TAKEN_NOTE if ema else _BOTH_NOTE)
        # an average of parameters alone leaves buffers to the weights
        state = {**state, **_bare(path, average)} if ema else state
    _check_finite(path, state)
    beside = described or (content if str(content.get("format")).startswith(OURS) else {})
    return RawWeights(
        state, metadata, tuple(notes), _class_names(described or content), beside.get("config")
    )


def _card(path: Path) -> dict[str, Any]:
    """What `config.json` says of the weights in a folder; empty for a file.

    Raises:
        CheckpointError: it cannot be read, or has no settings of ours.
    """
    if not (path / DESCRIPTION).is_file():
        return {}
    try:
        found = read_json(path / DESCRIPTION, "save the detector anew")
    except FileError as error:
        raise CheckpointError(str(error)) from error
    labels = found.get("id2label", {})
    if not isinstance(found.get("settings"), dict):
        raise CheckpointError(
            f"{path / DESCRIPTION}: has no settings of a detector of ours (model_type "
            f"{found.get('model_type')!r}); give the file of weights itself"
        )
    if not isinstance(labels, dict) or not all(key.isdecimal() for key in labels):
        raise CheckpointError(
            f"{path / DESCRIPTION}: id2label needs an object of numbers and names of labels"
        )
    # by number: programs that sort the keys of a json write "10" before "2"
    return {
        "config": found["settings"],
        "class_names": [labels[key] for key in sorted(labels, key=int)],
    }


_ALONE_NOTE = "holds an averaged copy of the weights (EMA) alone: it was read"
_BOTH_NOTE = "holds an averaged copy of the weights (EMA) as well: `svit convert --ema` takes it"
_TAKEN_NOTE = "the averaged copy of the weights (EMA) was read"
_EXCHANGED_NOTE = (
    "its writer exchanges weights and average (EMA) before it saves: the average was read"
)


def _copies(path: str | Path, content: Any) -> tuple[Any, Any, list[str]]:
    """The weights and their average, each None where it is not there, and notes."""
    if not isinstance(content, Mapping) or not content:
        found = type(content).__name__
        raise CheckpointError(f"{path}: expected a state dict with tensors, found {found}")
    main, other = _first(content, WRAPPERS), _first(content, AVERAGES)
    name = main or other
    weights = content[main] if main else None if other else content
    average = _opened(content[other]) if other else None
    exchanged = any(key in content for key in EXCHANGED)
    if average is None:
        whole, (weights, average) = len(weights), _parted(weights)
        exchanged = exchanged or (average is None and len(weights) < whole)
    left = [str(key) for key in content if key != name] if name else []
    notes = [f"{name} was read; left out: {', '.join(left)}"] if left else []
    notes += [_EXCHANGED_NOTE] if exchanged else []
    return weights, average, notes + ([_ALONE_NOTE] if weights is None else [])


def _first(content: Mapping[Any, Any], names: Sequence[str]) -> str | None:
    return next((name for name in names if isinstance(content.get(name), Mapping)), None)


def _opened(average: Mapping[Any, Any]) -> Mapping[Any, Any]:
    return average["module"] if _first(average, ("module",)) else average


def _parted(state: Mapping[Any, Any]) -> tuple[Any, Any]:
    """Weights and average of one state dict; raw weights that mmcv left there are dropped."""
    average = {str(key): value for key, value in state.items() if _AVERAGED.match(str(key))}
    plain = {str(key): value for key, value in state.items() if str(key) not in average}
    if not average or average.keys() <= {f"ema_{key.replace('.', '_')}" for key in plain}:
        return plain, None
    return plain or None, {_AVERAGED.sub("", key, count=1): value for key, value in average.items()}


def _bare(path: str | Path, content: Any) -> dict[str, Tensor]:
    """Tensors under names without prefixes.

    Raises:
        CheckpointError: none there, or something else among them.
    """
    state = {str(key): value for key, value in content.items() if key not in COUNTERS}
    strangers = [key for key, value in state.items() if not isinstance(value, Tensor)]
    if strangers:
        raise CheckpointError(
            f"{path}: expected a state dict, plain or under {' or '.join(WRAPPERS)}; found "
            f"{len(strangers)} entries that are no tensors: {', '.join(strangers[:10])}"
        )
    if not state:
        raise CheckpointError(f"{path}: expected a state dict with tensors, found none")
    names = {key: _INSERTED.sub("", key) for key in state}
    while prefix := next((p for p in PREFIXES if all(n.startswith(p) for n in names.values())), ""):
        names = {key: name.removeprefix(prefix) for key, name in names.items()}
    bare = {names[key]: tensor for key, tensor in state.items()}
    if len(bare) < len(state):
        raise CheckpointError(
            f"{path}: has tensors of one name with and without a wrapper's prefix"
        )
    return bare


def _check_finite(path: str | Path, state: Mapping[str, Tensor]) -> None:
    """Refuses what a diverged training or a damaged copy leaves."""
    bad = [
        name
        for name, tensor in state.items()
        if (tensor.is_floating_point() or tensor.is_complex()) and not tensor.isfinite().all()
    ]
    if bad:
        more = f" and {len(bad) - 10} more" if len(bad) > 10 else ""
        lost = int((~state[bad[0]].isfinite()).sum())
        raise CheckpointError(
            f"{path}: {len(bad)} tensors hold values that are not finite: {', '.join(bad[:10])}{more} "
            f"({lost} of {state[bad[0]].numel()} in the first). The training diverged or the file is "
            "damaged: take an earlier checkpoint or copy it again"
        )


def _class_names(content: Mapping[Any, Any]) -> tuple[str, ...]:
    """Names of the classes as our torch files, mmdet 2 (`meta.CLASSES`) and mmdet 3 write them."""
    for keys in (("class_names",), ("meta", "CLASSES"), ("meta", "dataset_meta", "classes")):
        found: Any = content
        for key in keys:
            found = found.get(key) if isinstance(found, Mapping) else None
        if isinstance(found, list | tuple) and all(isinstance(name, str) for name in found):
            return tuple(found)
    return ()
