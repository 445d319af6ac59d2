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


@dataclass(frozen=True)
class BackboneConfig:
    """The vision transformer and the neck that makes feature maps of strides 4, 8, 16, 32 from it."""

    neck: str = (
        "adapter"  # adapter: ViT-Adapter (the paper's); pyramid: maps from tokens only (ViTDet)
    )
    embed_dim: int = 192
    depth: int = 12
    heads: int = 3
    mlp_ratio: float = 4.0
    patch: int = 16
    pretrain_grid: int = 14  # the position embedding is stored as 1 + pretrain_grid**2 rows
    drop_path: float = 0.1
    norm_eps: float = 1e-6  # dense 1e-6, the official sparse blocks 1e-5 (reference.md 3)
    prior_dim: int = 64  # width of the spatial prior's stem
    deform_heads: int = 6
    deform_points: int = 4
    deform_ratio: float = 1.0
    ffn_ratio: float = 0.25  # hidden width of the extractor's convolutional FFN
    prior_dropout: float = 0.0  # chance per image that training hides the spatial prior

    def __post_init__(self) -> None:
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
        _expect(
            0 <= self.prior_dropout < 1, "backbone.prior_dropout", "in [0, 1)", self.prior_dropout
        )


@dataclass(frozen=True)
class PruningConfig:
    """A method of `svit.core.catalogue.METHODS` and the arguments its constructor takes."""

    method: str = "dense"
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class DetectorConfig:
    """Mask R-CNN around the backbone; the numbers are mmdet 2.28's as the paper used them."""

    classes: int = 80
    fpn_dim: int = 256
    anchor_sizes: tuple[int, ...] = (32, 64, 128, 256, 512)  # one a level, strides 4..64
    box_head_dim: int = 1024
    mask_head_dim: int = 256
    mask_head_convs: int = 4
    rpn_samples: int = 256
    rpn_pre_nms_train: int = 2000
    rpn_post_nms_train: int = 1000
    rpn_pre_nms_test: int = 1000
    rpn_post_nms_test: int = 1000
    roi_samples: int = 512
    roi_positive_fraction: float = 0.25
    score_threshold: float = 0.05
    nms_threshold: float = 0.5
    max_detections: int = 100
    roi_canonical_size: int = 224  # RoIs of this size read the stride-16 map (FPN, eq. 1)

    def __post_init__(self) -> None:
        _as_tuples(self)
        _expect(len(self.anchor_sizes) == 5, "detector.anchor_sizes", "5 sizes", self.anchor_sizes)


@dataclass(frozen=True)
class DataConfig:
    """How pictures reach the model."""

    short_side: int = 800
    long_side: int = 1333
    pad_multiple: int = 32
    mean_rgb: tuple[float, ...] = (123.675, 116.28, 103.53)
    std_rgb: tuple[float, ...] = (58.395, 57.12, 57.375)
    augment: str = (
        "detr"  # detr: the paper's multi-scale policies; flips: rotations and flips (shapes)
    )

    def __post_init__(self) -> None:
        _as_tuples(self)
        _expect(self.augment in ("detr", "flips"), "data.augment", "detr or flips", self.augment)


@dataclass(frozen=True)
class TrainConfig:
    """Optimiser and schedule. Give `epochs` or `iterations`; with both, `iterations` decides."""

    epochs: float = 36.0
    iterations: int = 0
    batch: int = 16  # images a step over all ranks
    rate: float = 1e-4
    gate_rate_multiplier: float = 1.0  # deviation from the paper when not 1
    gate_weight_decay: float = 0.05
    weight_decay: float = 0.05
    betas: tuple[float, ...] = (0.9, 0.999)
    warmup: int = 500
    warmup_start: float = 0.001
    schedule: str = "steps"  # steps: x0.1 after the epochs in `drops`; cosine: to 1 % at the end
    drops: tuple[float, ...] = (27.0, 33.0)
    clip_norm: float = 0.0  # 0: no clipping
    precision: str = "float16"  # float32, float16 (CUDA, dynamic scale 512) or bfloat16
    noise_end: float = (
        0.0  # deviation: share of training over which the gates' noise falls to 0; 0: kept
    )
    average: float = (
        0.0  # deviation: decay a step of averaged weights, kept instead; 0: not averaged
    )
    channels_last: bool = False  # memory layout of convolutions; no gain on CPU (training.md)
    seed: int = 0
    checkpoint_period: int = 5000

    def __post_init__(self) -> None:
        _as_tuples(self)
        choices = ("float32", "float16", "bfloat16")
        _expect(self.precision in choices, "train.precision", f"one of {choices}", self.precision)
        schedules = ("steps", "cosine")
        _expect(self.schedule in schedules, "train.schedule", f"one of {schedules}", self.schedule)
        for name in ("batch", "checkpoint_period"):
            value = getattr(self, name)
            _expect(value > 0, f"train.{name}", "a positive number", value)
        _expect(0 <= self.noise_end <= 1, "train.noise_end", "a share in [0, 1]", self.noise_end)
        _expect(0 <= self.average < 1, "train.average", "a decay in [0, 1)", self.average)


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
            train=DENSE_COCO if row.method == "dense" else sparse,
        )


def _nano(neck: str, backbone: BackboneConfig) -> Iterator[Config]:
    for row in ROWS:
        gate = _SHAPES_SVIT if row.method == "svit" else _SHAPES_GATE if row.gated else {}
        yield Config(
            row.preset(neck, "nano"),
            backbone=backbone,
            pruning=PruningConfig(row.method, {**row.options, **gate}),
            detector=SHAPES_DETECTOR,
            data=SHAPES_DATA,
            train=DENSE_SHAPES if row.method == "dense" else SPARSE_SHAPES,
        )


PRESETS: dict[str, Config] = {
    config.name: config
    for config in (
        *_paper("t", "adapter", TINY, SPARSE_COCO_T),
        *_paper("s", "adapter", SMALL, SPARSE_COCO_S),
        *_paper("t", "plain", replace(TINY, neck="pyramid"), SPARSE_COCO_T),
        *_paper("s", "plain", replace(SMALL, neck="pyramid"), SPARSE_COCO_S),
        *_nano("plain", replace(NANO, neck="pyramid")),
        *_nano("adapter", replace(NANO, prior_dropout=0.5)),
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


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0]


def to_dict(config: Config) -> dict[str, Any]:
    """The configuration as plain nested dictionaries and lists, ready for JSON or YAML."""
    return OmegaConf.to_container(OmegaConf.structured(config))  # type: ignore[return-value]


def from_dict(values: dict[str, Any]) -> Config:
    """The configuration `to_dict` came from.

    Raises:
        ConfigError: a key is unknown or has a value of the wrong kind.
    """
    try:
        return OmegaConf.to_object(OmegaConf.merge(_schema(Config()), values))  # type: ignore[return-value]
    except OmegaConfBaseException as error:
        raise ConfigError(_first_line(error)) from error
