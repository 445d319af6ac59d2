"""From any known state dict to canonical names, with a report of every tensor and guessed settings.

The names themselves are data, in `svit.weights.name_tables`.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from svit.core.config import Config
from svit.weights.guessing import THRESHOLDS, count, guess
from svit.weights.name_tables import TABLES, UNSUPPORTED, VIT, Fold, Join, Rule, Table
from svit.weights.safe_read import CheckpointError

_GATED = (
    "mlp.fc1.weight",
    "mlp.fc2.weight",
)  # halves of the first are multiplied before the second


@dataclass(frozen=True)
class Report:
    """What became of every tensor of a file.

    Attributes:
        source: the file.
        kind: `Table.kind`, or "ours".
        used: canonical names taken from the file.
        missing: names of the model that the file has not: they keep their initial values.
        dropped: foreign key -> why it is not used.
        added: canonical name -> why it was made up.
        optional: canonical name -> why it is dropped where the model has no such parameter.
        lacks: patterns of canonical names that files of this kind never hold.
        notes: sentences for the reader.
        class_names: of the labels, as the file has them; those of COCO for 80 classes; else empty.
        guessed: a sentence on where the settings are from, if the file holds none; else empty.
    """

    source: str
    kind: str
    used: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    dropped: Mapping[str, str] = field(default_factory=dict)
    added: Mapping[str, str] = field(default_factory=dict)
    optional: Mapping[str, str] = field(default_factory=dict)
    lacks: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    class_names: tuple[str, ...] = ()
    guessed: str = ""

    def lines(self) -> list[str]:
        """The report for a terminal, one fact a line."""
        lines = [f"{self.source}: {self.kind}", f"  used     {len(self.used):4d}"]
        groups = Counter(group(name) for name in self.missing)
        lines += [f"  missing  {n:4d}  initialised: {group}" for group, n in groups.items()]
        reasons = Counter(self.dropped.values())
        for why, n in reasons.items():
            keys = [key for key, reason in self.dropped.items() if reason == why]
            lines.append(f"  dropped  {n:4d}  {named(keys, 3)}: {why}")
        lines += [f"  added       1  {name}: {why}" for name, why in self.added.items()]
        return lines + [f"  note: {note}" for note in self.notes]

    def __str__(self) -> str:
        return "\n".join(self.lines())


class Converted(NamedTuple):
    """Weights under canonical names (floats as float32), settings they fit, and what was done."""

    state: dict[str, Tensor]
    config: Config
    report: Report


def named(keys: Iterable[str], limit: int = 10) -> str:
    """The first keys and how many more there are."""
    keys = list(keys)
    more = f" and {len(keys) - limit} more" if len(keys) > limit else ""
    return ", ".join(keys[:limit]) + more


def group(name: str) -> str:
    """The name as a glob: up to its first number, without weight or bias."""
    return re.split(r"\.?\d|\.(?:weight|bias)$", name)[0] + "*"


def full_precision(tensor: Tensor) -> Tensor:
    """Floats as float32; whole numbers as they are."""
    return tensor.float() if tensor.is_floating_point() else tensor


def recognise(keys: Iterable[str], source: str) -> Table:
    """The first table whose marks are all among the keys.

    Raises:
        CheckpointError: no table fits.
    """
    keys = list(keys)
    for table in TABLES:
        found = all(any(re.match(mark, key) for key in keys) for mark in table.marks)
        if found and not any(re.match(pattern, key) for pattern in table.absent for key in keys):
            return table
    known = ", ".join(table.kind for table in TABLES)
    raise CheckpointError(
        f"{source}: {len(keys)} names of no known kind ({known}; see svit/weights/name_tables.py): "
        f"{named(keys)}"
    )


def convert_state(
    state: Mapping[str, Tensor], source: str = "state dict", config: Config | None = None
) -> Converted:
    """Brings a state dict of any known kind to canonical names. Converted ones stay as they are.

    Args:
        state: foreign key -> tensor, for example `timm.create_model(...).state_dict()`.
        source: how messages call it.
        config: settings of the model, where they are known; else they are guessed from names and shapes.

    Raises:
        CheckpointError: unknown names (the first ten are listed), parts that no model here has (named in
            words), or shapes no model here can have.
    """
    _refuse_unsupported(state, source)
    table = recognise(state, source)
    renamed, dropped, optional = rename(table, state, source)
    for join in table.joins:
        _join(join, renamed, source)
    folded = sum(_fold(fold, renamed, source) for fold in table.folds)
    added = _add_thresholds(renamed)
    scaled = ("layer scale is folded into attn.proj and mlp.fc2: the same model",) if folded else ()
    notes = (*scaled, *_whole_positions(renamed, "dist_token" in state), *_patch_notes(renamed))
    guessed = ""
    if config is None:
        _check_positions(renamed, source)
        config, guessed, guesses = guess(table, renamed, source)
        notes += (*guesses, *_colour_notes(state, config))
    report = Report(
        source,
        f"{table.kind} ({table.about})",
        used=tuple(name for name in renamed if name not in added),
        dropped=dropped,
        added=added,
        optional=optional,
        lacks=(*table.lacks, *_headless(renamed)),
        notes=tuple(filter(None, (table.note, *notes))),
        guessed=guessed,
    )
    return Converted(renamed, config, report)


def _headless(state: Iterable[str]) -> tuple[str, ...]:
    """A backbone alone lacks all that comes after it, whoever wrote it."""
    return () if any(not name.startswith(VIT) for name in state) else (rf"(?!{re.escape(VIT)}).+",)


def _refuse_unsupported(state: Mapping[str, Tensor], source: str) -> None:
    for pattern, what in UNSUPPORTED.items():
        found = [key for key in state if re.fullmatch(pattern, key)]
        if found:
            raise CheckpointError(
                f"{source}: has {what}, which no model here has: {named(found, 3)}"
            )
    for key in [key for key in state if key.endswith(_GATED[0])]:
        opposite = state.get(key.replace(*_GATED))
        if opposite is not None and len(state[key]) != opposite.shape[-1]:
            raise CheckpointError(
                f"{source}: has gated MLPs (SwiGLU), which no model here has: {key} makes "
                f"{len(state[key])} channels, the layer after it reads {opposite.shape[-1]}"
            )


def rename(
    table: Table, state: Mapping[str, Tensor], source: str
) -> tuple[dict[str, Tensor], dict[str, str], dict[str, str]]:
    """Tensors under the names that a table leads to (floats as float32), what it drops, and what it drops
    only where a model has none, each with the reason.

    Raises:
        CheckpointError: names that no rule knows, or two of one target.
    """
    renamed: dict[str, Tensor] = {}
    dropped: dict[str, str] = {}
    optional: dict[str, str] = {}
    strangers: list[str] = []
    for key, tensor in state.items():
        rule, target = _target(table, key)
        if rule is None:
            strangers.append(key)
        elif target is None:
            dropped[key] = rule.why
        elif target in renamed:
            raise CheckpointError(f"{source}: {key} is the second tensor for {target}")
        else:
            renamed[target] = full_precision(tensor)
            if rule.optional:
                optional[target] = rule.why
    if strangers:
        raise CheckpointError(
            f"{source}: {len(strangers)} keys have no place in a {table.kind} file "
            f"({table.about}): {named(strangers)}. If they can be spared, drop them with a rule in "
            "svit/weights/name_tables.py"
        )
    return renamed, dropped, optional


def _target(table: Table, key: str) -> tuple[Rule | None, str | None]:
    for rule in table.rules:
        match = re.fullmatch(rule.pattern, key)
        if match:
            return rule, None if rule.target is None else match.expand(rule.target)
    return None, None


def _join(join: Join, state: dict[str, Tensor], source: str) -> None:
    first = join.parts[0]
    for name in [name for name in state if re.fullmatch(join.stem, name)]:
        parts = [name.replace(f".{first}.", f".{part}.") for part in join.parts]
        absent = [part for part in parts if part not in state]
        if absent:
            raise CheckpointError(
                f"{source}: {name} has no partner {named(absent)}; the file is incomplete"
            )
        state[re.sub(join.stem, join.into, name)] = torch.cat([state.pop(part) for part in parts])


def _fold(fold: Fold, state: dict[str, Tensor], source: str) -> int:
    """gamma * (W x + b) = (gamma W) x + gamma b, row by row. Returns: how many were folded."""
    scales = [name for name in state if re.fullmatch(fold.scale, name)]
    for name in scales:
        layer, scale = re.sub(fold.scale, fold.into, name), state.pop(name)
        for part in (f"{layer}.weight", f"{layer}.bias"):
            if part not in state or len(state[part]) != len(scale):
                raise CheckpointError(
                    f"{source}: {name} scales {part}, which is absent or of another size"
                )
            state[part] = state[part] * scale.view(-1, *[1] * (state[part].ndim - 1))
    return len(scales)


def _add_thresholds(state: dict[str, Tensor]) -> dict[str, str]:
    """Gates of other makers know no calibration: log-odds are compared with 0."""
    pattern = rf"{re.escape(VIT)}method\.gates\.\d+\.fc2\.bias"
    gates = count(pattern, state)
    if not gates or THRESHOLDS in state:
        return {}
    state[THRESHOLDS] = torch.zeros(gates)
    return {THRESHOLDS: "not calibrated: zeros"}


def _whole_positions(state: dict[str, Tensor], distilled: bool) -> tuple[str, ...]:
    """Brings stored positions to one row for the class token and one a patch, where that is exact."""
    name = f"{VIT}pos_embed"
    positions = state.get(name)
    if positions is None or positions.ndim != 3:
        return ()
    if distilled and positions.shape[1] > 2:
        state[name] = torch.cat([positions[:, :1], positions[:, 2:]], dim=1)
        return ("the row of positions of the distillation token is dropped",)
    if positions.shape[1] and math.isqrt(positions.shape[1]) ** 2 == positions.shape[1] != 1:
        state[name] = torch.cat([torch.zeros_like(positions[:, :1]), positions], dim=1)
        return (
            "the class token has no position in this file (as DeiT-3): a row of zeros is put in",
        )
    return ()


def _patch_notes(state: Mapping[str, Tensor]) -> tuple[str, ...]:
    weight = state.get(f"{VIT}patch_embed.proj.weight")
    if weight is None or weight.ndim != 4 or weight.shape[-1] in (8, 16):
        return ()
    return (
        f"its patches have {weight.shape[-1]} pixels, those of models here 16 (or 8): a training that starts "
        "from it resamples them",
    )


def _colour_notes(state: Mapping[str, Tensor], config: Config) -> tuple[str, ...]:
    """detectron2 may store how pictures are normalised; its own models see blue first."""
    names = ("pixel_mean", "pixel_std")
    theirs = [state[name].flatten().tolist() for name in names if name in state]
    if not theirs or all(map(_close, theirs, config.data.normalisation)):
        return ()
    return (
        f"it saw pictures normalised by {theirs}, the settings have {config.data.normalisation} (red, green, "
        "blue): of other numbers or another order of colours it sees other pictures than it was trained on",
    )


def _close(first: Iterable[float], second: Iterable[float]) -> bool:
    return all(math.isclose(a, b, rel_tol=1e-3) for a, b in zip(first, second))


def _check_positions(state: Mapping[str, Tensor], source: str) -> None:
    """Stored positions must be one class row and a square grid, which need not be 14 x 14."""
    name = f"{VIT}pos_embed"
    absent = [key for key in (name, f"{VIT}patch_embed.proj.weight") if key not in state]
    if absent:
        raise CheckpointError(
            f"{source}: holds blocks but no {named(absent)}; the file is incomplete"
        )
    shape = tuple(state[name].shape)
    side = math.isqrt(max(shape[1] - 1, 0)) if len(shape) == 3 else 0
    if side == 0 or shape[1] != 1 + side * side:
        raise CheckpointError(
            f"{source}: expected {name} as (1, 1 + side x side, channels), found {shape}; take weights "
            "of a plain vision transformer for square images"
        )
