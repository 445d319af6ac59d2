"""Named configurations: a row of `svit.core.catalogue` on a body (a size and a neck).

A preset is a starting point; dotted overrides (`backbone.drop_path=0.2`) and YAML files change it.

Sources of the numbers: paper 4; `configs/mask_rcnn/*` of github.com/uzh-rpg/svit at d2472c1.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from svit.core.catalogue import ROWS
from svit.core.config import (
    BackboneConfig,
    Config,
    ConfigError,
    DataConfig,
    DetectorConfig,
    PruningConfig,
    TrainConfig,
    first_line,
    schema,
)

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
# and 6 epochs)
DENSE_NUCLEI = replace(
    DENSE_SHAPES, iterations=1200, rate=6e-4, warmup=50, average=0.998, checkpoint_period=50
)
SPARSE_NUCLEI = replace(SPARSE_SHAPES, iterations=200, warmup=20, checkpoint_period=50)
DENSE_FINE = replace(DENSE_NUCLEI, iterations=1800)
SPARSE_FINE = replace(SPARSE_NUCLEI, iterations=300)


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
FINE_WORLD = World("fine", SHAPES_DETECTOR, SHAPES_DATA, DENSE_FINE, SPARSE_FINE)

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


def load_config(preset: str, overrides: Sequence[str] = ()) -> Config:
    """The configuration a preset name or YAML file and dotted overrides resolve to.

    Args:
        preset: a key of `PRESETS` or the path of a YAML file (which may name a `preset` to start from).
        overrides: `section.key=value`, later ones win.

    Raises:
        ConfigError: unknown preset or key (near names are listed), or a value of the wrong kind.
    """
    base, layers = _start(preset)
    return _merged(base, layers, overrides)


def changed(config: Config, overrides: Sequence[str]) -> Config:
    """A configuration with dotted overrides, as `load_config` takes them. Raises ConfigError as it does."""
    return _merged(config, [], overrides)


def _merged(base: Config, layers: Sequence[Any], overrides: Sequence[str]) -> Config:
    try:
        changes = OmegaConf.from_dotlist(list(overrides))
        merged = OmegaConf.merge(schema(base), *layers, changes)
        _check_length(OmegaConf.merge(*layers, changes), merged)
        return OmegaConf.to_object(merged)  # type: ignore[return-value]
    except OmegaConfBaseException as error:
        sections = "backbone, pruning, detector, data, train"
        raise ConfigError(
            f"{first_line(error)} (sections: {sections}; `svit presets NAME` prints all keys)"
        ) from error


def _check_length(told: Any, merged: Any) -> None:
    """Raises ConfigError where epochs were asked for and the iterations of the start decide all the same."""
    asked = [OmegaConf.select(told, f"train.{name}") for name in ("epochs", "iterations")]
    length = merged.train.iterations
    if asked[0] is not None and asked[1] is None and length:
        raise ConfigError(
            f"train.epochs has no effect beside train.iterations={length}, which these settings start from: "
            "add train.iterations=0, or say how many iterations"
        )


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
