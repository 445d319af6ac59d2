"""Checkpoints: our own safetensors files with the resolved settings inside, and everybody else's.

A file is written beside its destination, flushed to disk, then renamed: a kill leaves the old one.
Reading trusts nothing (`svit.weights.safe_read`); loading refuses what does not fit, by name.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from svit.core.config import Config, from_dict, to_dict
from svit.core.version import __version__
from svit.data.coco_names import likely_names
from svit.pruning import method_class
from svit.system.claims import differences, refuse_others
from svit.system.files import reason, replacing
from svit.system.text import counted
from svit.weights.class_rows import CLASS_LAYERS, by_name
from svit.weights.conversion import Converted, Report, convert_state, full_precision
from svit.weights.fitting import NECK, misfit, told, told_otherwise, without_neck
from svit.weights.name_tables import GATES, SPARED, VIT
from svit.weights.resampling import resampled
from svit.weights.safe_read import CheckpointError
from svit.weights.unwrapping import RawWeights, read_tensors

OURS = (
    "svit_version"  # in the metadata of every file of ours; "format" belongs to safetensors' users
)
FORMAT_VERSION = 1
PREDICTOR = "roi_heads.mask_head.predictor.bias"  # a number a class
_NOTED = {"config": dict, "extra": dict, "lacks": list}  # JSON in the metadata
UNUSED = (
    r".+\.num_batches_tracked"  # a counter nothing here reads; weights before torch 0.4.1 have none
)


class HasWeights(Protocol):
    """What this module needs of a `svit.detectors.Detector`."""

    config: Config
    class_names: tuple[str, ...]

    def canonical_state_dict(self) -> dict[str, Tensor]:
        """Canonical name -> tensor, of all parameters and buffers."""

    def load_canonical(self, state: dict[str, Tensor]) -> None:
        """Takes all of them, under the same names."""


@dataclass(frozen=True)
class Checkpoint:
    """One of our own files.

    Attributes:
        state: canonical name -> tensor; floats as float32 whatever the file stores.
        config: the resolved settings of the model.
        extra: what the writer added, JSON values.
        lacks: patterns of canonical names the file never held, where it is a part of a model.
    """

    state: dict[str, Tensor]
    config: Config
    extra: dict[str, Any]
    lacks: tuple[str, ...] = ()


def save(
    path: str | Path,
    detector: HasWeights,
    extra: Mapping[str, Any] | None = None,
    *,
    half: bool = False,
) -> None:
    """Writes a detector's weights, settings and names of classes; `half` stores floats as float16.

    Raises:
        CheckpointError: see `write`.
    """
    facts = {**_named(detector.class_names), **(extra or {})}
    write(path, detector.canonical_state_dict(), detector.config, facts, half=half)


def _named(class_names: Sequence[str]) -> dict[str, Any]:
    return {"class_names": list(class_names)} if class_names else {}


def write(
    path: str | Path,
    state: Mapping[str, Tensor],
    config: Config,
    extra: Mapping[str, Any] | None = None,
    *,
    lacks: Sequence[str] = (),
    half: bool = False,
) -> None:
    """Writes tensors under canonical names as safetensors. A file that exists survives a failure.

    Raises:
        CheckpointError: not a `.safetensors` path, no room or right to write, `extra` that is not
            JSON, or values that float16 cannot hold.
    """
    path = Path(path)
    if path.suffix != ".safetensors" or path.is_dir():
        raise CheckpointError(f"{path}: expected a file name that ends in .safetensors")
    metadata = _metadata(config, extra or {}, lacks)
    tensors = portable(state, half)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as temporary:
            rights = temporary.stat().st_mode  # as the umask has them; safetensors leaves 0600
            save_file(tensors, temporary, metadata)
            temporary.chmod(rights)
            _sort_metadata(temporary)
    except (OSError, SafetensorError) as error:
        kept = "; the file that was there is unchanged" if path.is_file() else ""
        why = reason(path.parent, error) if isinstance(error, OSError) else error
        raise CheckpointError(f"{path}: cannot be written ({why}){kept}") from error


def refuse_to_replace(
    path: Path, config: Config, extra: Mapping[str, Any], apart: Collection[str] = ()
) -> None:
    """Keeps a checkpoint from taking the place of a file that was made from something else.

    Args:
        apart: of `extra`, what may differ.

    Raises:
        CheckpointError: `path` is there and no checkpoint of ours.
        FileError: it is one of other settings or another origin; what differs.
    """
    if not path.exists():
        return
    try:
        found = read(path)
    except CheckpointError as error:
        raise CheckpointError(f"{path} is there already: choose another name ({error})") from error
    there, now = (
        {name: value for name, value in facts.items() if name not in apart}
        | {"config": to_dict(made_with)}
        for facts, made_with in ((found.extra, found.config), (extra, config))
    )
    refuse_others(path, there, now, what="checkpoint")


def _metadata(config: Config, extra: Mapping[str, Any], lacks: Sequence[str]) -> dict[str, str]:
    try:
        described = json.dumps(dict(extra))
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"extra must hold JSON values: {error}") from error
    return {
        "format": "pt",
        "format_version": str(FORMAT_VERSION),
        OURS: __version__,
        "config": json.dumps(to_dict(config)),
        "extra": described,
        "lacks": json.dumps(list(lacks)),
    }


def portable(state: Mapping[str, Tensor], half: bool) -> dict[str, Tensor]:
    """Copies for a file: on the CPU, each with memory of its own; floats as float16 if `half`.

    Raises:
        CheckpointError: a value that float16 cannot hold.
    """
    return {name: _stored(name, tensor, half) for name, tensor in state.items()}


def _stored(name: str, tensor: Tensor, half: bool) -> Tensor:
    # a copy of its own: safetensors refuses tensors that share memory
    tensor = tensor.detach().to("cpu", copy=True).contiguous()
    if not half or not tensor.is_floating_point():
        return tensor
    small = tensor.half()
    if not torch.equal(small.isfinite(), tensor.isfinite()):
        raise CheckpointError(
            f"{name} has values beyond float16's 65504: save it in full precision"
        )
    return small


def _sort_metadata(path: Path) -> None:
    """Puts the header's metadata in order: safetensors shuffles it, and equal weights make equal files."""
    with path.open("r+b") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
        header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
        text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
        file.seek(8)
        file.write(text.ljust(length))  # spaces at the end are part of the format


def read(path: str | Path) -> Checkpoint:
    """One of our own checkpoints.

    Raises:
        CheckpointError: unreadable, damaged, of another format, or not one of ours.
    """
    raw = read_tensors(path)
    if OURS not in raw.metadata:
        raise CheckpointError(
            f"{path}: has no settings of ours inside; `svit convert` makes a checkpoint of it"
        )
    return _agreed(str(path), raw)


def _agreed(source: str, raw: RawWeights) -> Checkpoint:
    """One of our files, whose settings are those of the folder it lies in, if it was read as a folder."""
    found, beside = _ours(source, raw), _settings(source, raw)
    if beside is not None and beside != found.config:
        lines = differences(to_dict(found.config), to_dict(beside))
        raise CheckpointError(
            f"{source}: config.json has other settings than the weights were saved with (there: in the "
            "weights, now: in config.json); undo the change, or save the detector anew:\n  "
            + "\n  ".join(lines)
        )
    return found


def _ours(source: str, raw: RawWeights) -> Checkpoint:
    version, writer = raw.metadata.get("format_version"), raw.metadata[OURS]
    if version != str(FORMAT_VERSION):
        raise CheckpointError(
            f"{source}: has format {version} of svit {writer}; this svit {__version__} reads "
            f"format {FORMAT_VERSION}: install the svit that wrote it"
        )
    try:
        settings, extra, lacks = (_noted(raw, name, kind) for name, kind in _NOTED.items())
        config = from_dict(settings)
    except (KeyError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{source}: settings of svit {writer} do not fit: {error}") from error
    state = {name: full_precision(tensor) for name, tensor in raw.state.items()}
    return Checkpoint(state, config, extra, tuple(lacks))


def _noted(raw: RawWeights, name: str, kind: type) -> Any:
    """Raises KeyError or ValueError where the metadata lacks the name or holds no such thing."""
    value = json.loads(raw.metadata[name])
    if not isinstance(value, kind):
        raise ValueError(f"{name}: expected a {kind.__name__}, found {value!r}")
    return value


def read_foreign(path: str | Path, *, ema: bool = False) -> Converted:
    """Weights of any known origin under canonical names, the settings they fit, and a report.

    Known: our own files, the official SViT release (dense, sparse, inherited masks, `revised_*`,
    Evo-ViT), ViT-Adapter with layer scale, DeiT and timm, detectron2; safetensors or torch files.

    Args:
        ema: take the averaged copy of a file that holds both.

    Raises:
        CheckpointError: unreadable, damaged, with pickled objects, with values that are not finite, or with
            names no table knows.
    """
    raw = read_tensors(path, ema=ema)
    if OURS in raw.metadata:
        return _as_converted(_agreed(str(path), raw), str(path))
    converted = convert_state(raw.state, str(path), _settings(str(path), raw))
    names = _names(converted.state, raw.class_names)
    notes = (*converted.report.notes, *raw.notes)
    if raw.class_names and not names and PREDICTOR in converted.state:
        named = counted(len(raw.class_names), "classes")
        notes += (f"it names {named}, and its layers know another number: the names are not used",)
    return converted._replace(report=replace(converted.report, notes=notes, class_names=names))


def _settings(source: str, raw: RawWeights) -> Config | None:
    """Of our torch files: those of a training, and those written for detectron2."""
    try:
        return None if raw.settings is None else from_dict(dict(raw.settings))
    except ValueError as error:
        raise CheckpointError(f"{source}: its settings do not fit: {error}") from error


def _as_converted(ours: Checkpoint, source: str) -> Converted:
    """Names of our own files are canonical: nothing is recognised, nothing guessed."""
    spared = {
        name: why
        for pattern, why in SPARED.items()
        for name in ours.state
        if re.fullmatch(pattern, name)
    }
    lacks = ours.lacks or (GATES,)
    names = _names(ours.state, ours.extra.get("class_names", ()))
    report = Report(
        source, "ours", used=tuple(ours.state), optional=spared, lacks=lacks, class_names=names
    )
    return Converted(ours.state, ours.config, report)


def _names(state: Mapping[str, Tensor], written: Sequence[str]) -> tuple[str, ...]:
    """Names of the labels: those written in the file, where there are as many as its layers have rows; of a
    file that names none COCO's for 80."""
    predictor = state.get(PREDICTOR)
    if predictor is None or len(written) not in (0, len(predictor)):
        return ()
    return tuple(written) or likely_names(len(predictor))


def load_weights(
    detector: HasWeights,
    path: str | Path,
    *,
    complete: bool = True,
    other_body: bool = False,
    class_names: Sequence[str] | None = None,
) -> Report:
    """Loads a file of any known origin into a detector.

    Args:
        complete: every tensor of the model must be in the file. False lets parts that files of this
            kind never hold (gates in a dense file, all but the ViT in DeiT's) keep their initial
            values; the report lists them as missing.
        other_body: a file with the other neck will do as well, for a training to start from: the neck
            keeps its initial values; of one with other patches or positions these are resampled.
        class_names: those of the model, for a training to start from: layers of the classes are taken by
            name (`svit.weights.class_rows`). Without them they are taken as they are.

    Raises:
        CheckpointError: the file cannot be read or does not fit; the detector is unchanged.
    """
    converted = read_foreign(path)
    lacks = () if complete else converted.report.lacks
    if class_names is not None:
        converted, other = by_name(converted, detector.canonical_state_dict(), class_names)
        lacks = (*lacks, CLASS_LAYERS) if other else lacks
    converted = told_otherwise(converted, detector.config)
    if other_body:
        converted = resampled(converted, detector.canonical_state_dict())
    if other_body and converted.config.backbone.neck != detector.config.backbone.neck:
        converted, lacks = without_neck(converted), (*lacks, NECK)
    return load_into(detector, converted, allow_missing=lacks)


def load_into(
    detector: HasWeights, source: str | Path | Converted, *, allow_missing: Iterable[str] = ()
) -> Report:
    """Loads converted weights (or a file) into a detector: names and shapes must agree.

    Args:
        allow_missing: patterns of whole canonical names that may keep their initial values.

    Raises:
        CheckpointError: unexpected, missing or misshapen tensors (the first ten of each are named);
            the detector is unchanged.
    """
    state, config, report = source if isinstance(source, Converted) else read_foreign(source)
    own = detector.canonical_state_dict()
    unused = {name: why for name, why in report.optional.items() if name not in own}
    taken = {name: tensor for name, tensor in state.items() if name not in unused}
    missing = [name for name in own if name not in taken]
    allowed = (*allow_missing, UNUSED, *_published(config, detector.config))
    refused = [name for name in missing if not any(re.fullmatch(p, name) for p in allowed)]
    problems = misfit(own, taken, refused)
    if problems:
        raise CheckpointError(told(report, problems, config, detector.config))
    detector.load_canonical({**own, **taken})
    detector.class_names = report.class_names
    return replace(
        report,
        used=tuple(name for name in report.used if name in taken),
        missing=tuple(missing),
        dropped={**report.dropped, **unused},
    )


def _published(theirs: Config, ours: Config) -> tuple[str, ...]:
    """Names that weights of another method may lack: numbers that the model has from its authors."""
    fits = method_class(ours.pruning.method).fits
    if theirs.pruning.method == ours.pruning.method or fits is None or not fits.published:
        return ()
    return (re.escape(f"{VIT}method.{fits.buffer}"),)


def fingerprint(state: Mapping[str, Tensor]) -> str:
    """SHA-256 over names, types, shapes and bytes: alike for any file or framework with them."""
    digest = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
