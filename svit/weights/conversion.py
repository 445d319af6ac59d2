"""From any known state dict to canonical names, with a report of every tensor and guessed settings.

The names themselves are data, in `svit.weights.name_tables`.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import torch
from torch import Tensor

from svit.core.config import Config, ConfigError, PruningConfig
from svit.core.presets import PRESETS
from svit.weights.name_tables import TABLES, UNSUPPORTED, VIT, Fold, Join, Rule, Table
from svit.weights.safe_read import CheckpointError

_THRESHOLDS = f"{VIT}method.thresholds"
_INJECTOR = f"{VIT}interactions.0.injector.attn."
_EXTRACTOR = f"{VIT}interactions.0.extractor.ffn."
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
    if config is None:
        config, guesses = _guess(table, renamed, source)
        notes += guesses
    report = Report(
        source,
        f"{table.kind} ({table.about})",
        used=tuple(name for name in renamed if name not in added),
        dropped=dropped,
        added=added,
        optional=optional,
        lacks=(*table.lacks, *_headless(renamed)),
        notes=tuple(filter(None, (table.note, *notes))),
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
    gates = _count(pattern, state)
    if not gates or _THRESHOLDS in state:
        return {}
    state[_THRESHOLDS] = torch.zeros(gates)
    return {_THRESHOLDS: "not calibrated: zeros"}


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


# settings that shapes show: (section, setting, tensor, value of its shape)
_SHAPES: tuple[tuple[str, str, str, Callable[[torch.Size], float]], ...] = (
    ("backbone", "embed_dim", f"{VIT}patch_embed.proj.weight", lambda shape: shape[0]),
    ("backbone", "patch", f"{VIT}patch_embed.proj.weight", lambda shape: shape[2]),
    ("backbone", "pretrain_grid", f"{VIT}pos_embed", lambda shape: math.isqrt(shape[1] - 1)),
    ("backbone", "mlp_ratio", f"{VIT}blocks.0.mlp.fc1.weight", lambda shape: shape[0] / shape[1]),
    ("backbone", "prior_dim", f"{VIT}spm.stem.0.weight", lambda shape: shape[0]),
    # rows are heads x 3 levels x 4 points x 2 coordinates
    (
        "backbone",
        "deform_heads",
        f"{_INJECTOR}sampling_offsets.weight",
        lambda shape: shape[0] // 24,
    ),
    (
        "backbone",
        "deform_ratio",
        f"{_INJECTOR}value_proj.weight",
        lambda shape: shape[0] / shape[1],
    ),
    ("backbone", "ffn_ratio", f"{_EXTRACTOR}fc1.weight", lambda shape: shape[0] / shape[1]),
    ("detector", "classes", "roi_heads.box_predictor.cls_score.weight", lambda shape: shape[0] - 1),
    ("detector", "fpn_dim", "backbone.fpn_lateral2.weight", lambda shape: shape[0]),
    ("detector", "box_head_dim", "roi_heads.box_head.fc1.weight", lambda shape: shape[0]),
    ("detector", "mask_head_dim", "roi_heads.mask_head.mask_fcn1.weight", lambda shape: shape[0]),
)

# settings that are numbers of modules: (section, setting, pattern of one tensor of each)
_COUNTS = (
    ("backbone", "depth", rf"{re.escape(VIT)}blocks\.\d+\.norm1\.weight"),
    ("detector", "mask_head_convs", r"roi_heads\.mask_head\.mask_fcn\d+\.weight"),
)


def _guess(
    table: Table, state: Mapping[str, Tensor], source: str
) -> tuple[Config, tuple[str, ...]]:
    """The preset of the same family and width, with every setting that the shapes show."""
    _check_positions(state, source)
    width = state[f"{VIT}patch_embed.proj.weight"].shape[0]
    base, notes = _nearest(state, width)
    try:
        backbone = replace(base.backbone, **_facts("backbone", state))
    except ConfigError as error:
        raise CheckpointError(f"{source}: {error}") from error
    detector = replace(base.detector, **_facts("detector", state))
    config = replace(base, backbone=backbone, detector=detector)
    if table.pruning:
        config = replace(
            config, name=f"{base.name}-{table.kind}", pruning=PruningConfig(*table.pruning)
        )
    return config, (*notes, *_gate_notes(config, state))


def _facts(section: str, state: Mapping[str, Tensor]) -> dict[str, float]:
    facts = {
        setting: value(state[name].shape)
        for owner, setting, name, value in _SHAPES
        if owner == section and name in state
    }
    counts = {
        setting: _count(pattern, state) for owner, setting, pattern in _COUNTS if owner == section
    }
    return {**facts, **{setting: count for setting, count in counts.items() if count}}


def _nearest(state: Mapping[str, Tensor], width: int) -> tuple[Config, tuple[str, ...]]:
    method = "svit" if _THRESHOLDS in state else "vit"
    neck = "plain" if any(".pyramid." in name for name in state) else "adapter"
    family = f"{method}-{neck}"
    for name, preset in PRESETS.items():
        if name.startswith(family) and preset.backbone.embed_dim == width:
            return preset, ()
    base = PRESETS[f"{family}-s"]
    backbone = replace(base.backbone, embed_dim=width, heads=max(1, width // 64))
    note = f"no preset is {width} wide: guessed {backbone.heads} heads of 64 channels"
    return replace(base, name=f"{family}-{width}", backbone=backbone), (note,)


def _gate_notes(config: Config, state: Mapping[str, Tensor]) -> tuple[str, ...]:
    gates = len(state.get(_THRESHOLDS, ()))
    ratios = config.pruning.options.get("keep_ratios", ())
    if gates == len(ratios):
        return ()
    return (
        f"the file has {gates} gates and the guess {len(ratios)} keep ratios: "
        "set pruning.options.keep_ratios and pruning.options.locations",
    )


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


def _count(pattern: str, names: Iterable[str]) -> int:
    return sum(bool(re.fullmatch(pattern, name)) for name in names)
