"""What a model does with the tokens of one picture: masks, scores, attention received, updates."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from svit.core.types import Detections, TokenTrace
from svit.data.samples import Sample
from svit.detectors.base import Detector
from svit.probing.attention import AttentionReader
from svit.probing.recorder import record


@dataclass(frozen=True, eq=False)
class Signals:
    """One forward of one picture, as the model decides.

    Attributes:
        trace: masks and scores.
        detections: in source pixels.
        update: block -> float (tokens,), ‖block(x) − x‖ / ‖x‖; 0 where a token is not used,
            be it removed there or kept as it is.
        attention: block -> float (tokens,), attention received: sum over queries of the mean over heads.
            Blocks whose attention runs on other rows than the used tokens (behind the class token of methods
            that own one), are missing: those that drop tokens behind it, or have a package beside them.
    """

    trace: TokenTrace
    detections: Detections
    update: dict[int, Tensor] = field(default_factory=dict)
    attention: dict[int, Tensor] = field(default_factory=dict)


class _Sum:
    """Adds up one block's attention over queries; a `svit.probing.attention.Reader`.

    Args:
        ahead: rows before those of tokens: the class token of a method that owns one.
    """

    def __init__(self, ahead: int) -> None:
        self.ahead = ahead
        self.received: Tensor | None = None

    def heads(self, lead: tuple[int, ...], queries: int, keys: int) -> int:
        self.received = (
            None  # of several attentions, as a gate's before the block's, the last counts
        )
        return math.prod(lead)

    def __call__(self, weights: Tensor, heads: int) -> None:
        mine = weights.sum(dim=(0, 1)) / heads
        self.received = mine if self.received is None else self.received + mine

    def placed(self, keep: Tensor) -> Tensor | None:
        """What the used tokens received, at their places; None where the rows are others."""
        if self.received is None or len(self.received) != self.ahead + int(keep.sum()):
            return None
        own = self.received[self.ahead :]
        return torch.zeros(len(keep), device=keep.device).masked_scatter(keep, own)


def measured(detector: Detector, sample: Sample) -> Signals:
    """The signals of a picture."""
    update: dict[int, Tensor] = {}
    sums: dict[int, _Sum] = {}
    with _listening(detector.backbone.method, update, sums), record(detector) as tape:
        detections = detector.predict([sample])[0]
        trace = tape.traces([sample])[0]
        masks = {layer: mask[0] for layer, mask in tape.masks.items()}
    # a removed token changes all the more: it is not the block's work
    update = {layer: one.masked_fill(~masks[layer], 0) for layer, one in update.items()}
    found = {layer: one.placed(masks[layer]) for layer, one in sums.items()}
    attention = {layer: one for layer, one in found.items() if one is not None}
    return Signals(trace, detections, update, attention)


@contextmanager
def _listening(
    method: nn.Module, update: dict[int, Tensor], sums: dict[int, _Sum]
) -> Iterator[None]:
    """Fills both from the calls of a method, (block's number, block, tokens, state) -> tokens."""
    reader = AttentionReader()

    def before(method: nn.Module, inputs: tuple) -> None:
        owns = inputs[3].class_token is not None
        reader.read = sums.setdefault(inputs[0], _Sum(int(owns)))

    def after(method: nn.Module, inputs: tuple, output: Tensor) -> None:
        reader.read = None
        old, new = inputs[2][0].float(), output[0].float()
        update[inputs[0]] = (new - old).norm(dim=-1) / old.norm(dim=-1).clamp(min=1e-12)

    hooks = (method.register_forward_pre_hook(before), method.register_forward_hook(after))
    try:
        with reader:
            yield
    finally:
        for hook in hooks:
            hook.remove()
