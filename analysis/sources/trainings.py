"""Training folders of `svit train`, read back: losses, APs, keep ratios and gate noise over steps."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from svit.core.catalogue import PAPER_KEEP_RATIOS
from svit.core.config import Config, ConfigError
from svit.core.presets import load_config
from svit.system.files import json_lines

JOURNAL, CONFIG = (
    "metrics.json",
    "config.yaml",
)  # as `svit.training.training_log` and `svit.training.trainer` name them
_AP = re.compile(r"(^|[^A-Za-z])AP$")


class TrainingError(ValueError):
    """A training folder cannot be used; the message names the file and says why."""


@dataclass(frozen=True)
class Training:
    """One training folder.

    Attributes:
        path: the folder.
        lines: the objects of its `metrics.json`: means over the steps since the line before, and the
            numbers of evaluations at their step.
    """

    path: Path
    lines: list[dict[str, Any]]

    @cached_property
    def config(self) -> Config | None:
        """Of its `config.yaml`; None where there is none.

        Raises:
            TrainingError: this version cannot read it.
        """
        path = self.path / CONFIG
        if not path.is_file():
            return None
        try:
            return load_config(str(path))
        except ConfigError as error:
            raise TrainingError(f"{path}: {error}; leave the folder out") from error

    @cached_property
    def targets(self) -> list[float]:
        """Keep ratio that each layer is trained towards, where the configuration says one a gated layer;
        empty otherwise (methods that decide in stages, dense models, no configuration)."""
        if self.config is None or self.config.pruning.method != "svit":
            return []
        depth, options = self.config.backbone.depth, self.config.pruning.options
        ratios = list(options.get("keep_ratios") or PAPER_KEEP_RATIOS)
        gated = options.get("locations") or range(depth - len(ratios), depth)
        targets = dict(zip(gated, ratios, strict=True))
        return [targets.get(layer, 1.0) for layer in range(depth)]

    @cached_property
    def frame(self) -> pd.DataFrame:
        """One row a line, by step: step, total_loss, loss_*, rate, noise_scale, ...; keep_ratio_1 to
        keep_ratio_L, the share of tokens each block kept; NaN where a line has no such number."""
        return pd.DataFrame([_flat(line) for line in self.lines]).sort_values("step", kind="stable")

    @property
    def keep_columns(self) -> list[str]:
        """Columns of keep ratios, block by block."""
        return [name for name in self.frame.columns if name.startswith("keep_ratio_")]

    @property
    def ap_columns(self) -> list[str]:
        """Columns of evaluations: those named AP, such as box_AP (AP50 and the like are left out)."""
        return [name for name in self.frame.columns if _AP.search(name)]

    @property
    def loss_columns(self) -> list[str]:
        """The parts of the total loss."""
        names = [name for name in self.frame.columns if "loss" in name]
        return [name for name in names if name != "total_loss"]


def _flat(line: dict[str, Any]) -> dict[str, float]:
    flat: dict[str, float] = {}
    for name, value in line.items():
        if isinstance(value, list):
            flat |= {f"{name}_{number}": part for number, part in enumerate(value, 1)}
        else:
            flat[name] = value
    return flat


def read_training(path: Path) -> Training:
    """The folder of one `metrics.json`. A last line without its end is what a kill, or a training at
    work, leaves: it does not count.

    Raises:
        TrainingError: it cannot be read, or a line holds other things than numbers.
    """
    lines = list(json_lines(path, "leave the folder out", TrainingError))
    for number, line in enumerate(lines, 1):
        for name, value in _flat(line).items():
            if isinstance(value, bool) or not isinstance(value, int | float | None):
                raise TrainingError(
                    f"{path}, line {number}: expected a number as {name!r}, found {value!r}; leave the "
                    "folder out"
                )
    return Training(path.parent, lines)


def long_frame(trainings: Sequence[Training], names: Sequence[str]) -> pd.DataFrame:
    """All numbers below each other: training (its name), step, name, value; missing ones left out."""
    parts = [
        training.frame.melt("step", var_name="name").dropna().assign(training=name)
        for name, training in zip(names, trainings, strict=True)
    ]
    return pd.concat(parts, ignore_index=True)[["training", "step", "name", "value"]]
