"""How a training's numbers change: parameter groups, schedules of rate and gate noise, averages, precision.

Sources: methods.md 4 (the paper's recipe as its code runs it); training.md (cosine and noise schedules
of the small models, half precision around the backbone alone on CPU).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from svit.core.config import ConfigError, TrainConfig
from svit.data.samples import Sample
from svit.detectors.base import Detector
from svit.models.backbone import Backbone

# a parameter whose name contains one of these is never decayed (substrings, as in the official code)
UNDECAYED = ("level_embed", "pos_embed", "norm", "bias")
COSINE_FLOOR = 0.01  # the share of the rate that is left at the end
FIRST_LOSS_SCALE = 512.0  # float16; the official runs start there
SMALLEST_LOSS_SCALE = 2.0**-14  # reached after 23 halvings: no overflow any more but a divergence


def total_steps(settings: TrainConfig, images: int) -> int:
    """Steps of a whole training: `iterations`, or else `epochs` over `images`, at least one."""
    return settings.iterations or max(1, round(settings.epochs * images / settings.batch))


def rate_factor(settings: TrainConfig, step: int, total: int) -> float:
    """Share of the base rate at a zero-based step: schedule times linear warm-up.

    `steps` drops tenfold after each epoch in `drops`; where `iterations` decides the length, the drops
    keep their place relative to it. The warm-up multiplies the schedule, from `warmup_start` to 1.
    """
    if settings.schedule == "cosine":
        half_turn = math.pi * min(step / total, 1.0)
        factor = COSINE_FLOOR + (1 - COSINE_FLOOR) * 0.5 * (1 + math.cos(half_turn))
    else:
        factor = 0.1 ** sum(step >= drop / settings.epochs * total for drop in settings.drops)
    if step >= settings.warmup:
        return factor
    return factor * (1 - (1 - step / settings.warmup) * (1 - settings.warmup_start))


def noise_scale(settings: TrainConfig, step: int, total: int) -> float:
    """Scale of the gates' noise: from 1 linearly to 0 at `noise_end` of the training; 1 without it."""
    if settings.noise_end == 0:
        return 1.0
    return max(0.0, 1 - step / (settings.noise_end * total))


def ratio_share(settings: TrainConfig, step: int, total: int) -> float:
    """Share of the ratio loss's weight at a zero-based step: from 0 linearly to 1 over `ratio_warmup` of the
    training, in which gates learn what the task needs before they are held to a rate; 1 without it."""
    warm = settings.ratio_warmup * total
    return 1.0 if warm == 0 else min(1.0, step / warm)


def set_noise_scale(backbone: Backbone, scale: float) -> bool:
    """Passes the scale on to a method that draws noise in training. Returns: whether this one does."""
    if backbone.method.noise_scale is None:
        return False
    backbone.method.noise_scale = scale
    return True


def parameter_groups(detector: Detector, settings: TrainConfig) -> list[dict[str, Any]]:
    """Trainable parameters by rate and weight decay; `scale` multiplies the rate of a group.

    All parameters of the pruning method (gates, predictors) get a rate and decay of their own. Groups
    and the order in them follow from the model alone, so an optimiser's state can be read back.
    """
    gates = {id(parameter) for parameter in detector.backbone.method.parameters()}
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in detector.named_parameters():
        if not parameter.requires_grad:
            continue
        is_gate = id(parameter) in gates
        decay = settings.gate_weight_decay if is_gate else settings.weight_decay
        if any(part in name for part in UNDECAYED):
            decay = 0.0
        scale = settings.gate_rate_multiplier if is_gate else 1.0
        groups.setdefault((scale, decay), []).append(parameter)
    return [
        {"params": parameters, "scale": scale, "weight_decay": decay, "lr": settings.rate * scale}
        for (scale, decay), parameters in groups.items()
    ]


def build_optimizer(detector: Detector, settings: TrainConfig) -> torch.optim.AdamW:
    """AdamW over `parameter_groups`."""
    betas = (settings.betas[0], settings.betas[1])
    return torch.optim.AdamW(parameter_groups(detector, settings), betas=betas, fused=True)


def averaged(detector: Detector, decay: float) -> AveragedModel | None:
    """A copy to follow the weights, step by step: average += (1 - decay) (weights - average); None for 0.

    The decay of the first steps is (1 + n) / (10 + n), so that little is left of the start. Buffers
    (statistics of batch norms) are taken over as they are.
    """
    if decay == 0:
        return None

    def follow(averages: Sequence[Tensor], weights: Sequence[Tensor], count: Tensor | int) -> None:
        number = int(count)
        share = 1 - min(decay, (1 + number) / (10 + number))
        for average, weight in zip(averages, weights, strict=True):
            average.lerp_(weight, share)

    return AveragedModel(detector, multi_avg_fn=follow)


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Gives every group `rate` times its scale."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group["scale"]


class Precision:
    """In which number formats forward and backward run.

    Half precision covers the backbone alone, since detectors compute all behind it in float32: on CPU
    the heads' many small operations only lose by it (training.md). float16 adds a dynamic loss scale.

    Attributes:
        scaler: the loss scaler; disabled (and without effect) but for float16.

    Raises:
        ConfigError: float16 without CUDA.
    """

    def __init__(self, name: str, device: torch.device) -> None:
        if name == "float16" and device.type != "cuda":
            raise ConfigError(
                "train.precision: float16 needs a CUDA device; "
                "add train.precision=bfloat16 (or float32) to train on this one"
            )
        self._device, self._half = device.type, name != "float32"
        self._dtype = getattr(torch, name)
        self.scaler = torch.amp.GradScaler(
            device.type, init_scale=FIRST_LOSS_SCALE, enabled=name == "float16"
        )

    def losses(self, model: nn.Module, samples: Sequence[Sample]) -> dict[str, Tensor]:
        """The training losses of `model` (a detector, perhaps wrapped) in float32."""
        with torch.autocast(self._device, dtype=self._dtype, enabled=self._half):
            losses = model(samples)
        return {name: loss.float() for name, loss in losses.items()}

    def backward(
        self,
        loss: Tensor,
        optimizer: torch.optim.Optimizer,
        parameters: Iterable[nn.Parameter],
        clip_norm: float,
    ) -> Tensor:
        """Gradients, clipped to `clip_norm` where it is not 0. Returns: their norm before that."""
        optimizer.zero_grad(set_to_none=True)
        self.scaler.scale(loss).backward()
        self.scaler.unscale_(optimizer)
        return nn.utils.clip_grad_norm_(parameters, clip_norm or math.inf).detach()

    def update(self, optimizer: torch.optim.Optimizer) -> None:
        """One optimiser step; float16 leaves it out (and halves its scale) after an overflow."""
        self.scaler.step(optimizer)
        self.scaler.update()

    @property
    def forgives_overflow(self) -> bool:
        """Whether a gradient that is not finite may still be an ordinary overflow of float16."""
        return self.scaler.is_enabled() and self.scaler.get_scale() > SMALLEST_LOSS_SCALE
