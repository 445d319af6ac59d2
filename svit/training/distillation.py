"""A pruned model that learns the maps of a dense one beside its objects: an option, not the paper's recipe.

Feature distillation (Romero et al., FitNets, ICLR 2015) on the backbone's maps c2..c5, where a pruned token
and its neighbours show what they lost. Distance of a level: ||student - teacher||^2 / ||teacher||^2 over the
batch; the loss is `train.distil` times the mean over levels.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from svit.core.config import ConfigError
from svit.detectors.base import Detector
from svit.weights import checkpoint
from svit.weights.loading import load_detector

LOSS = "distillation_loss"


def distance(student: Mapping[str, Tensor], teacher: Mapping[str, Tensor]) -> Tensor:
    """Mean over levels of the relative squared error, a scalar in float32.

    Args:
        student, teacher: maps (B, C, height, width) by level.
    """
    pairs = [(student[level].float(), goal.float()) for level, goal in teacher.items()]
    errors = [(own - goal).square().sum() / goal.square().sum() for own, goal in pairs]
    return torch.stack(errors).mean()


def teacher_of(student: Detector, path: Path | None) -> Teacher | None:
    """The teacher that the student's settings ask for; None where they ask for none.

    Raises:
        ConfigError: no weights to learn from, or see `Teacher`.
    """
    weight = student.config.train.distil
    if weight == 0:
        return None
    if path is None:
        raise ConfigError(
            "train.distil learns the maps of dense weights: name them with --init FILE"
        )
    return Teacher(path, student, weight)


class Teacher:
    """Dense weights whose maps are the goal.

    Args:
        path: of a whole detector, as `load_detector` reads it.
        student: what is trained, on its device.
        weight: of the loss.

    Attributes:
        sha256: of its weights.

    Raises:
        CheckpointError: the file cannot be read, or is no whole detector.
        ConfigError: it prunes, its maps are of another size, or its pictures are normalised otherwise.
    """

    def __init__(self, path: Path, student: Detector, weight: float) -> None:
        found = load_detector(path, student.framework)
        method = found.config.pruning.method
        theirs, ours = found.config.backbone, student.config.backbone
        if found.backbone.method.traits.selection != "none":
            raise ConfigError(
                f"train.distil: {path} prunes ({method}); the maps to be learnt are those of dense weights"
            )
        if (theirs.neck, theirs.embed_dim) != (ours.neck, ours.embed_dim):
            raise ConfigError(
                f"train.distil: {path} has a {theirs.neck} neck and {theirs.embed_dim} channels, the model "
                f"{ours.neck} and {ours.embed_dim}: take dense weights of the same body"
            )
        if found.config.data.normalisation != student.config.data.normalisation:
            raise ConfigError(
                f"train.distil: {path} saw pictures by mean and deviation {found.config.data.normalisation}, "
                f"the model sees them by {student.config.data.normalisation}: its maps would be of no picture"
            )
        self.sha256 = checkpoint.fingerprint(found.canonical_state_dict())
        device = next(student.parameters()).device
        self._backbone = found.backbone.to(device).eval().requires_grad_(False)
        self._weight = weight
        self._loss: Tensor | None = None

    def watch(self, student: Detector) -> None:
        """Compares the maps of every training forward from now on."""
        student.backbone.register_forward_hook(self._compare)

    def _compare(self, backbone: nn.Module, given: tuple[Tensor], maps: dict[str, Tensor]) -> None:
        if backbone.training and torch.is_grad_enabled():
            with torch.no_grad():
                goals = self._backbone(*given)
            self._loss = self._weight * distance(maps, goals)

    def take_losses(self) -> dict[str, Tensor]:
        """The weighted loss of the last training forward; it is handed out once."""
        loss, self._loss = self._loss, None
        return {} if loss is None else {LOSS: loss}
