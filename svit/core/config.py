"""Every setting of a model, its data and its training: frozen dataclasses and the presets made of them.

A preset is a row of `svit.core.catalogue` on a body (a size and a neck). It is a starting point; dotted
overrides (`backbone.drop_path=0.2`) and YAML files change it.
Unknown keys are errors. The resolved configuration travels inside every checkpoint and run.

Sources of the numbers: paper 4; `configs/mask_rcnn/*` of github.com/uzh-rpg/svit at d2472c1.
"""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from svit.core.catalogue import PAPER_KEEP_RATIOS, ROWS
from svit.core.ranges import (
    ANY,
    COUNT,
    COUNT_OR_NONE,
    NOT_NEGATIVE,
    PART,
    POSITIVE,
    SHARE,
    Allowed,
    Several,
)

__all__ = [
    "PAPER_KEEP_RATIOS",
    "PRESETS",
    "BackboneConfig",
    "Config",
    "ConfigError",
    "DataConfig",
    "DetectorConfig",
    "PruningConfig",
    "TrainConfig",
    "from_dict",
    "load_config",
    "to_dict",
]


class ConfigError(ValueError):
    """A setting is unknown or has a value that cannot be."""


def _as_tuples(instance: Any) -> None:
    """Turns list fields into tuples: a configuration compares and hashes by value."""
    for item in dataclasses.fields(instance):
        value = getattr(instance, item.name)
        if isinstance(value, list):
            object.__setattr__(instance, item.name, tuple(value))


def _expect(condition: bool, name: str, expected: str, found: object) -> None:
    if not condition:
        raise ConfigError(f"{name}: expected {expected}, found {found!r}")


def setting(default: Any, allowed: Allowed) -> Any:
    """A field of a section with what its number, or numbers, may be."""
    return field(default=default, metadata={"allowed": allowed})


def later(default: Any, allowed: Allowed) -> Any:
    """As `setting`, of a field that `to_dict` leaves out where it has its default: what was written before
    there was such a field stays equal."""
    return field(default=default, metadata={"allowed": allowed, "later": True})


def _check_numbers(section: str, instance: Any) -> None:
    """Raises ConfigError for the first number that is not allowed."""
    for item in dataclasses.fields(instance):
        allowed, value = item.metadata.get("allowed"), getattr(instance, item.name)
        _expect(allowed is None or value in allowed, f"{section}.{item.name}", str(allowed), value)


@dataclass(frozen=True)
class BackboneConfig:
    """The vision transformer and the neck that makes feature maps of strides 4, 8, 16, 32 from it."""

    neck: str = (
        "adapter"  # adapter: ViT-Adapter (the paper's); pyramid: maps from tokens only (ViTDet)
    )
    embed_dim: int = setting(192, COUNT)
    depth: int = setting(12, COUNT)
    heads: int = setting(3, COUNT)
    mlp_ratio: float = setting(4.0, POSITIVE)
    patch: int = setting(16, COUNT)
    pretrain_grid: int = setting(
        14, COUNT
    )  # the position embedding is stored as 1 + pretrain_grid**2 rows
    drop_path: float = setting(0.1, PART)
    norm_eps: float = setting(
        1e-6, POSITIVE
    )  # dense 1e-6, the official sparse blocks 1e-5 (reference.md 3)
    prior_dim: int = setting(64, COUNT)  # width of the spatial prior's stem
    deform_heads: int = setting(6, COUNT)
    deform_points: int = setting(4, COUNT)
    deform_ratio: float = setting(1.0, POSITIVE)
    ffn_ratio: float = setting(0.25, POSITIVE)  # hidden width of the extractor's convolutional FFN
    prior_dropout: float = setting(
        0.0, PART
    )  # chance per image that training hides the spatial prior

    def __post_init__(self) -> None:
        _check_numbers("backbone", self)
        _expect(
            self.neck in ("adapter", "pyramid"), "backbone.neck", "adapter or pyramid", self.neck
        )
        _expect(self.depth % 4 == 0, "backbone.depth", "a multiple of 4 (four groups)", self.depth)
        _expect(
            self.embed_dim % self.heads == 0,
            "backbone.heads",
            f"a divisor of embed_dim {self.embed_dim}",
            self.heads,
        )


@dataclass(frozen=True)
class PruningConfig:
    """A method of `svit.core.catalogue.METHODS` and the arguments its constructor takes."""

    method: str = "dense"
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class DetectorConfig:
    """Mask R-CNN around the backbone; the numbers are mmdet 2.28's as the paper used them."""

    classes: int = setting(80, COUNT)
    fpn_dim: int = setting(256, COUNT)
    anchor_sizes: tuple[int, ...] = setting(
        (32, 64, 128, 256, 512), Several(COUNT, 5)
    )  # one a level, strides 4..64
    box_head_dim: int = setting(1024, COUNT)
    mask_head_dim: int = setting(256, COUNT)
    mask_head_convs: int = setting(4, COUNT_OR_NONE)
    rpn_samples: int = setting(256, COUNT)
    rpn_pre_nms_train: int = setting(2000, COUNT)
    rpn_post_nms_train: int = setting(1000, COUNT)
    rpn_pre_nms_test: int = setting(1000, COUNT)
    rpn_post_nms_test: int = setting(1000, COUNT)
    roi_samples: int = setting(512, COUNT)
    roi_positive_fraction: float = setting(0.25, SHARE)
    score_threshold: float = setting(0.05, SHARE)
    nms_threshold: float = setting(0.5, POSITIVE)
    max_detections: int = setting(100, COUNT)
    roi_canonical_size: int = setting(
        224, COUNT
    )  # RoIs of this size read the stride-16 map (FPN, eq. 1)

    def __post_init__(self) -> None:
        _as_tuples(self)
        _check_numbers("detector", self)


@dataclass(frozen=True)
class DataConfig:
    """How pictures reach the model."""

    short_side: int = setting(800, COUNT)
    long_side: int = setting(1333, COUNT)
    pad_multiple: int = setting(32, COUNT)
    mean_rgb: tuple[float, ...] = setting((123.675, 116.28, 103.53), Several(ANY, 3))
    std_rgb: tuple[float, ...] = setting((58.395, 57.12, 57.375), Several(POSITIVE, 3))
    # detr: the paper's multi-scale policies; flips: rotations, flips and orders of colours (shapes);
    # zoom: these, a random scale and a window (small sets of photographs)
    augment: str = "detr"

    def __post_init__(self) -> None:
        _as_tuples(self)
        _check_numbers("data", self)
        choices = ("detr", "flips", "zoom")
        _expect(self.augment in choices, "data.augment", f"one of {choices}", self.augment)


@dataclass(frozen=True)
class TrainConfig:
    """Optimiser and schedule. Give `epochs` or `iterations`; with both, `iterations` decides."""

    epochs: float = setting(36.0, NOT_NEGATIVE)
    iterations: int = setting(0, COUNT_OR_NONE)
    batch: int = setting(16, COUNT)  # images a step over all ranks
    rate: float = setting(1e-4, POSITIVE)
    gate_rate_multiplier: float = setting(1.0, NOT_NEGATIVE)  # deviation from the paper when not 1
    gate_weight_decay: float = setting(0.05, NOT_NEGATIVE)
    weight_decay: float = setting(0.05, NOT_NEGATIVE)
    betas: tuple[float, ...] = setting((0.9, 0.999), Several(PART, 2))
    warmup: int = setting(500, COUNT_OR_NONE)
    warmup_start: float = setting(0.001, SHARE)
    schedule: str = "steps"  # steps: x0.1 after the epochs in `drops`; cosine: to 1 % at the end
    drops: tuple[float, ...] = setting((27.0, 33.0), Several(NOT_NEGATIVE))
    clip_norm: float = setting(0.0, NOT_NEGATIVE)  # 0: no clipping
    precision: str = "float16"  # float32, float16 (CUDA, dynamic scale 512) or bfloat16
    noise_end: float = setting(
        0.0, SHARE
    )  # deviation: share of training over which the gates' noise falls to 0; 0: kept
    average: float = setting(
        0.0, PART
    )  # deviation: decay a step of averaged weights, kept instead; 0: not averaged
    # deviation: share of training over which the weight of the ratio loss rises from 0; 0: at once
    ratio_warmup: float = later(0.0, SHARE)
    # deviation: weight of the distance to the maps of the dense start; 0: none (docs/training.md)
    distil: float = later(0.0, NOT_NEGATIVE)
    channels_last: bool = False  # memory layout of convolutions; no gain on CPU (training.md)
    seed: int = setting(0, COUNT_OR_NONE)
    checkpoint_period: int = setting(5000, COUNT)

    def __post_init__(self) -> None:
        _as_tuples(self)
        _check_numbers("train", self)
        choices = ("float32", "float16", "bfloat16")
        _expect(self.precision in choices, "train.precision", f"one of {choices}", self.precision)
        schedules = ("steps", "cosine")
        _expect(self.schedule in schedules, "train.schedule", f"one of {schedules}", self.schedule)
        some = self.epochs > 0 or self.iterations > 0
        _expect(some, "train.epochs", "epochs or iterations above 0", self.epochs)


@dataclass(frozen=True)
class Config:
    """All of a model: what `svit.detectors.build_detector` and `svit.training.train` take."""

    name: str = "vit-adapter-t"
    framework: str = "auto"  # auto, torchvision or detectron2
    backbone: BackboneConfig = field(default_factory=BackboneConfig)
    pruning: PruningConfig = field(default_factory=PruningConfig)
    detector: DetectorConfig = field(default_factory=DetectorConfig)
    data: DataConfig = field(default_factory=DataConfig)
    train: TrainConfig = field(default_factory=TrainConfig)


TINY = BackboneConfig()
SMALL = replace(TINY, embed_dim=384, heads=6, drop_path=0.2)
NANO = replace(TINY, embed_dim=96, heads=3, drop_path=0.0, prior_dim=16, deform_heads=4)
NANO = replace(NANO, deform_ratio=0.5)

SHAPES_DETECTOR = DetectorConfig(
    classes=8,
    fpn_dim=64,
    anchor_sizes=(16, 32, 64, 112, 160),
    box_head_dim=256,
    mask_head_dim=64,
    mask_head_convs=2,
    rpn_samples=64,
    rpn_pre_nms_train=500,
    rpn_post_nms_train=250,
    rpn_pre_nms_test=500,
    rpn_post_nms_test=250,
    roi_samples=64,
    roi_canonical_size=112,
)
SHAPES_DATA = DataConfig(short_side=256, long_side=256, augment="flips")

# nuclei are smaller and stand closer than shapes: smaller anchors, room for more proposals and detections
NUCLEI_DETECTOR = replace(
    SHAPES_DETECTOR,
    classes=1,
    anchor_sizes=(12, 24, 48, 96, 192),
    rpn_samples=128,
    rpn_pre_nms_train=1000,
    rpn_post_nms_train=500,
    rpn_pre_nms_test=1000,
    rpn_post_nms_test=1000,
    roi_samples=96,
    max_detections=300,
)
NUCLEI_DATA = DataConfig(short_side=512, long_side=512, augment="zoom")

# paper 4 and methods.md 4: dense 3x; sparse fine-tuning 6 (T) and 4 (S) epochs at a tenth of the rate
DENSE_COCO = TrainConfig()
SPARSE_COCO_T = replace(DENSE_COCO, epochs=6.0, drops=(4.0,), rate=1e-5, weight_decay=1e-6)
SPARSE_COCO_T = replace(SPARSE_COCO_T, gate_weight_decay=1e-6)
SPARSE_COCO_S = replace(SPARSE_COCO_T, epochs=4.0, drops=(3.0,))

# training.md: measured starting points on two cores
DENSE_SHAPES = TrainConfig(
    iterations=12000,
    batch=8,
    rate=1e-3,
    betas=(0.9, 0.99),
    warmup=250,
    schedule="cosine",
    clip_norm=1.0,
    precision="bfloat16",
    checkpoint_period=250,
)
SPARSE_SHAPES = replace(
    DENSE_SHAPES,
    iterations=5000,
    rate=3e-4,
    warmup=40,
    gate_rate_multiplier=15.0,
    gate_weight_decay=0.0,
    noise_end=0.5,
)

# both begin with the weights for shapes; the sparse ones are a sixth of the dense ones, as the paper's (36
# and 6 epochs). The nuclei pair was trained so; no shipped result stands for the fine ones yet
DENSE_NUCLEI = replace(
    DENSE_SHAPES, iterations=1200, rate=6e-4, warmup=50, average=0.998, checkpoint_period=50
)
SPARSE_NUCLEI = replace(SPARSE_SHAPES, iterations=200, warmup=20, checkpoint_period=50)


@dataclass(frozen=True)
class World:
    """What a nano model is trained for: the size in its presets' names and the sections beside the body."""

    size: str
    detector: DetectorConfig
    data: DataConfig
    dense: TrainConfig
    sparse: TrainConfig


SHAPES_WORLD = World("nano", SHAPES_DETECTOR, SHAPES_DATA, DENSE_SHAPES, SPARSE_SHAPES)
NUCLEI_WORLD = World("nuclei", NUCLEI_DETECTOR, NUCLEI_DATA, DENSE_NUCLEI, SPARSE_NUCLEI)
# shapes on 32x32 tokens: patches of 8 pixels, `--init` resamples those of 16
FINE_WORLD = World("fine", SHAPES_DETECTOR, SHAPES_DATA, DENSE_NUCLEI, SPARSE_NUCLEI)

# the official sparse blocks of SViT ignore the 1e-6 of the dense ones (methods.md 6.6)
_SPARSE_EPS = 1e-5
# small gates start open; their decisions are deterministic once the noise is gone (training.md)
_SHAPES_GATE = {"bias": 2.0}
_SHAPES_SVIT = {**_SHAPES_GATE, "inference": "threshold"}


def _paper(size: str, neck: str, backbone: BackboneConfig, sparse: TrainConfig) -> Iterator[Config]:
    for row in ROWS:
        eps = _SPARSE_EPS if row.method == "svit" else backbone.norm_eps
        yield Config(
            row.preset(neck, size),
            backbone=replace(backbone, norm_eps=eps),
            pruning=PruningConfig(row.method, dict(row.options)),
            train=sparse if row.traits.selection != "none" else DENSE_COCO,
        )


def _nano(neck: str, backbone: BackboneConfig, world: World) -> Iterator[Config]:
    for row in ROWS:
        gate = _SHAPES_SVIT if row.method == "svit" else _SHAPES_GATE if row.gated else {}
        yield Config(
            row.preset(neck, world.size),
            backbone=backbone,
            pruning=PruningConfig(row.method, {**row.options, **gate}),
            detector=world.detector,
            data=world.data,
            train=world.sparse if row.traits.selection != "none" else world.dense,
        )


PRESETS: dict[str, Config] = {
    config.name: config
    for config in (
        *_paper("t", "adapter", TINY, SPARSE_COCO_T),
        *_paper("s", "adapter", SMALL, SPARSE_COCO_S),
        *_paper("t", "plain", replace(TINY, neck="pyramid"), SPARSE_COCO_T),
        *_paper("s", "plain", replace(SMALL, neck="pyramid"), SPARSE_COCO_S),
        *_nano("plain", replace(NANO, neck="pyramid"), SHAPES_WORLD),
        *_nano("adapter", replace(NANO, prior_dropout=0.5), SHAPES_WORLD),
        *_nano("plain", replace(NANO, neck="pyramid"), NUCLEI_WORLD),
        *_nano("adapter", replace(NANO, prior_dropout=0.5), NUCLEI_WORLD),
        *_nano("plain", replace(NANO, neck="pyramid", patch=8, pretrain_grid=32), FINE_WORLD),
    )
}


def load_config(preset: str, overrides: list[str] | tuple[str, ...] = ()) -> Config:
    """The configuration a preset name or YAML file and dotted overrides resolve to.

    Args:
        preset: a key of `PRESETS` or the path of a YAML file (which may name a `preset` to start from).
        overrides: `section.key=value`, later ones win.

    Raises:
        ConfigError: unknown preset or key (near names are listed), or a value of the wrong kind.
    """
    base, layers = _start(preset)
    try:
        layers.append(OmegaConf.from_dotlist(list(overrides)))
        merged = OmegaConf.merge(_schema(base), *layers)
        return OmegaConf.to_object(merged)  # type: ignore[return-value]
    except OmegaConfBaseException as error:
        sections = "backbone, pruning, detector, data, train"
        raise ConfigError(
            f"{_first_line(error)} (sections: {sections}; `svit presets NAME` prints all keys)"
        ) from error


def _start(preset: str) -> tuple[Config, list[Any]]:
    if preset in PRESETS:
        return PRESETS[preset], []
    path = Path(preset)
    if path.suffix not in (".yaml", ".yml"):
        names = difflib.get_close_matches(preset, PRESETS, n=3)
        found = f"near names: {', '.join(names)}; " if names else ""
        raise ConfigError(f"unknown preset {preset!r}; {found}`svit presets` lists all")
    if not path.is_file():
        raise ConfigError(f"no configuration file {path}")
    layer = OmegaConf.load(path)
    parent = layer.pop("preset", None) if "preset" in layer else None
    if parent is None:
        return Config(name=path.stem), [layer]
    base, layers = _start(str(parent))
    return base, [*layers, layer]


def _schema(config: Config) -> Any:
    """A typed node that refuses unknown keys; frozen dataclasses arrive read-only, so that is lifted."""
    node = OmegaConf.structured(config)
    for part in (node, *(node[item.name] for item in dataclasses.fields(config))):
        if OmegaConf.is_config(part):
            OmegaConf.set_readonly(part, False)
    return node


def _first_line(error: OmegaConfBaseException) -> str:
    line, key = str(error).strip().splitlines()[0], error.full_key
    return f"{key}: {line}" if key and key not in line else line


def to_dict(config: Config) -> dict[str, Any]:
    """The configuration as plain nested dictionaries and lists, ready for JSON or YAML; see `later`."""
    values: dict[str, Any] = OmegaConf.to_container(OmegaConf.structured(config))  # type: ignore[assignment]
    for item in dataclasses.fields(config.train):
        if item.metadata.get("later") and getattr(config.train, item.name) == item.default:
            del values["train"][item.name]
    return values


def from_dict(values: dict[str, Any]) -> Config:
    """The configuration `to_dict` came from.

    Raises:
        ConfigError: a key is unknown or has a value of the wrong kind.
    """
    try:
        return OmegaConf.to_object(OmegaConf.merge(_schema(Config()), values))  # type: ignore[return-value]
    except OmegaConfBaseException as error:
        raise ConfigError(_first_line(error)) from error
