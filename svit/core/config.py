"""Every setting of a model, its data and its training: frozen dataclasses.

Unknown keys are errors. The resolved configuration travels inside every checkpoint and run. Named
configurations are in `svit.core.presets`.

Sources of the numbers: paper 4; `configs/mask_rcnn/*` of github.com/uzh-rpg/svit at d2472c1.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

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
        # a pyramid doubles and halves the map of its tokens: patches of 14 pixels gave strides of 3.5, not 4
        halves = self.neck != "pyramid" or self.patch & (self.patch - 1) == 0
        _expect(halves, "backbone.patch", "a power of two, as neck pyramid needs it", self.patch)
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
class Traits:
    """The four dimensions by which the paper compares methods (3.1, Table 1).

    Attributes:
        selection: what scores tokens: "none", "gate", "attention", "likeness", "halting" (a channel of
            theirs), "query" (one vector), "control", or in a video "change" and "detections" (of the frame
            before).
        dynamic_rate: whether complex images keep more tokens than simple ones.
        preserves: whether pruned tokens stay in the map.
        reactivates: whether a pruned token may come back in a later block.
        merges: whether a token that is not used is carried by another instead of pruned.
        streams: whether what it computed in one frame of a video serves the next: a token that is not used
            takes what the block stored. On pictures alone such a method is the dense model.
    """

    selection: str
    dynamic_rate: bool
    preserves: bool
    reactivates: bool
    merges: bool = False
    streams: bool = False


@dataclass(frozen=True)
class Change:
    """What one value of an option makes of a method.

    Attributes:
        option, value: which one.
        label: what results call the variant.
        traits: dimension -> what it becomes.
        default: whether it holds where the option is not given.
    """

    option: str
    value: Any
    label: str
    traits: Mapping[str, bool] = field(default_factory=dict)
    default: bool = False

    def holds(self, options: Mapping[str, Any]) -> bool:
        """Whether these options of a method have this value."""
        return options.get(self.option, self.value if self.default else None) == self.value


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

    @property
    def normalisation(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """What values are less and over, channel by channel (RGB, of 0 to 255)."""
        return self.mean_rgb, self.std_rgb

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


def schema(config: Config) -> Any:
    """A typed node that refuses unknown keys; frozen dataclasses arrive read-only, so that is lifted."""
    node = OmegaConf.structured(config)
    for part in (node, *(node[item.name] for item in dataclasses.fields(config))):
        if OmegaConf.is_config(part):
            OmegaConf.set_readonly(part, False)
    return node


def first_line(error: OmegaConfBaseException) -> str:
    """What is wrong and with which key, without OmegaConf's lines about its own types."""
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
        return OmegaConf.to_object(OmegaConf.merge(schema(Config()), values))  # type: ignore[return-value]
    except OmegaConfBaseException as error:
        raise ConfigError(first_line(error)) from error
