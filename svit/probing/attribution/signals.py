"""What a model does with the tokens of one picture: masks, scores, attention received, updates."""

from __future__ import annotations

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
        update: block -> float (tokens,), ‖block(x) − x‖ / ‖x‖; 0 where a block leaves a token as it is.
        attention: block -> float (tokens,), attention received: sum over queries of the mean over heads.
            Blocks whose attention runs on other rows than the used tokens, behind a class token or not, are
            missing.
    """

    trace: TokenTrace
    detections: Detections
    update: dict[int, Tensor] = field(default_factory=dict)
    attention: dict[int, Tensor] = field(default_factory=dict)


class _Sum:
    """Adds up one block's attention over queries; a `svit.probing.attention.Reader`."""

    def __init__(self) -> None:
        self.received: Tensor | None = None

    def heads(self, total: int, queries: int, keys: int) -> int:
        self.received = (
            None  # of several attentions, as a gate's before the block's, the last counts
        )
        return total

    def __call__(self, weights: Tensor, heads: int) -> None:
        mine = weights.sum(dim=(0, 1)) / heads
        self.received = mine if self.received is None else self.received + mine


def measured(detector: Detector, sample: Sample) -> Signals:
    """The signals of a picture."""
    update: dict[int, Tensor] = {}
    sums: dict[int, _Sum] = {}
    with _listening(detector.backbone.method, update, sums), record(detector) as tape:
        detections = detector.predict([sample])[0]
        trace = tape.traces([sample])[0]
        masks = {layer: mask[0] for layer, mask in tape.masks.items()}
    found = {layer: _placed(one.received, masks[layer]) for layer, one in sums.items()}
    attention = {layer: one for layer, one in found.items() if one is not None}
    return Signals(trace, detections, update, attention)


@contextmanager
def _listening(
    method: nn.Module, update: dict[int, Tensor], sums: dict[int, _Sum]
) -> Iterator[None]:
    """Fills both from the calls of a method, (block's number, block, tokens, state) -> tokens."""
    reader = AttentionReader()

    def before(method: nn.Module, inputs: tuple) -> None:
        reader.read = sums.setdefault(inputs[0], _Sum())

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


def _placed(received: Tensor | None, keep: Tensor) -> Tensor | None:
    """What the used tokens received, at their places; None where the rows are others."""
    used = int(keep.sum())
    if received is None or len(received) not in (used, used + 1):
        return None
    return torch.zeros(len(keep), device=keep.device).masked_scatter(keep, received[-used:])
