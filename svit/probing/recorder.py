"""Reading and writing token masks of a model with an svit backbone, by hooks on its probes.

    with record(detector) as tape:
        detections = detector.predict(samples)
    traces = tape.traces(samples)

    with edit(detector, masks=lambda layer, keep: keep | rescued):
        what_if = detector.predict(samples)

The only module that touches probes; it knows no pruning method, so those you write record like ours.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn

from svit.core.types import TokenTrace
from svit.data.samples import Sample
from svit.models.backbone import Backbone
from svit.pruning.base import ScoreProbe, TokenProbe
from svit.pruning.merging import MergeProbe
from svit.system.text import blocks

MaskEdit = Callable[[int, Tensor], Tensor]


class RecordingError(RuntimeError):
    """The model's probes did not fire once a block and forward."""


@dataclass
class Tape:
    """What the probes showed during the last forward of the model.

    Attributes:
        grid_hw: padded token grid of that forward.
        patch: side of a token in resized pixels.
        layers: number of blocks with a probe.
        masks: block -> bool (B, N), on the model's device.
        scores: block -> float (B, N) keep log-odds, gated blocks only.
        groups: block -> int64 (B, N), the carrier of each token, of methods that merge.
    """

    patch: int
    layers: int
    grid_hw: tuple[int, int] = (0, 0)
    masks: dict[int, Tensor] = field(default_factory=dict)
    scores: dict[int, Tensor] = field(default_factory=dict)
    groups: dict[int, Tensor] = field(default_factory=dict)

    def begin(self, grid_hw: tuple[int, int]) -> None:
        """Forgets the forward before."""
        self.grid_hw = grid_hw
        for shelf in (self.masks, self.scores, self.groups):
            shelf.clear()

    def keep(self) -> np.ndarray:
        """Masks of the last forward on the host: bool (B, layers, rows, columns), in one transfer.

        Raises:
            RecordingError: a block's probe did not fire.
        """
        missing = [layer for layer in range(self.layers) if layer not in self.masks]
        if missing:
            raise RecordingError(
                f"no mask was recorded for {blocks(missing)}; run a whole forward first"
            )
        stacked = torch.stack([self.masks[layer] for layer in range(self.layers)], dim=1)
        return stacked.cpu().numpy().reshape(len(stacked), self.layers, *self.grid_hw)

    def log_odds(self) -> np.ndarray | None:
        """Scores of the last forward: float16 (B, layers, rows, columns), NaN without a gate, or None."""
        if not self.scores:
            return None
        like = next(iter(self.scores.values()))
        empty = torch.full_like(like, float("nan"))
        stacked = torch.stack(
            [self.scores.get(layer, empty) for layer in range(self.layers)], dim=1
        )
        host = stacked.half().cpu().numpy()
        return host.reshape(len(host), self.layers, *self.grid_hw)

    def carriers(self) -> np.ndarray | None:
        """Groups of the last forward on the host: int32 (B, layers, rows, columns), used tokens with their
        own index; None of a method that merges none."""
        if not self.groups:
            return None
        own = torch.arange(self.masks[0].shape[1], device=self.masks[0].device)
        layers = range(self.layers)
        held = [torch.where(self.masks[one], own, self.groups[one]) for one in layers]
        host = torch.stack(held, dim=1).int().cpu().numpy()
        return host.reshape(len(host), self.layers, *self.grid_hw)

    def traces(self, samples: Sequence[Sample]) -> list[TokenTrace]:
        """One validated trace a sample of the last forward, in their order.

        Raises:
            RecordingError: a probe did not fire, or the batch had another number of samples.
        """
        keep, scores, groups = self.keep(), self.log_odds(), self.carriers()
        if len(keep) != len(samples):
            raise RecordingError(
                f"expected {len(keep)} samples (the recorded batch), found {len(samples)}"
            )
        padded = (self.grid_hw[0] * self.patch, self.grid_hw[1] * self.patch)
        return [
            TokenTrace(
                sample.image_id,
                sample.grid(padded, self.patch),
                keep[index],
                None if scores is None else scores[index],
                group=None if groups is None else groups[index],
            )
            for index, sample in enumerate(samples)
        ]


def find_backbone(model: nn.Module) -> Backbone:
    """The one backbone inside a model (or the model itself).

    Raises:
        RecordingError: the model has none, or several.
    """
    found = [module for module in model.modules() if isinstance(module, Backbone)]
    if len(found) != 1:
        raise RecordingError(f"expected one svit backbone inside the model, found {len(found)}")
    return found[0]


@contextmanager
def record(model: nn.Module, scores: bool = True) -> Iterator[Tape]:
    """Records the masks (groups and keep scores, too) of every forward inside the `with`; hooks end with it.

    The tape holds the last forward; the model's outputs are unchanged.

    Args:
        model: a backbone of `svit.models`, or whatever holds exactly one, such as a detector.
        scores: whether the gates' log-odds are recorded too.

    Raises:
        RecordingError: the model has no such backbone or several; inside, a probe fired twice in one
            forward.
    """
    backbone = find_backbone(model)
    probes = _probes(backbone, TokenProbe)
    tape = Tape(backbone.config.patch, len(probes))
    with ExitStack() as hooks:
        handle = backbone.register_forward_pre_hook(
            lambda module, inputs: tape.begin(module.grid_hw(inputs[0]))
        )
        hooks.callback(handle.remove)
        for probe in probes:
            hooks.callback(probe.register_forward_hook(_reader(tape.masks)).remove)
        for probe in _probes(backbone, MergeProbe):
            hooks.callback(probe.register_forward_hook(_reader(tape.groups)).remove)
        for probe in _probes(backbone, ScoreProbe) if scores else ():
            hooks.callback(probe.register_forward_hook(_reader(tape.scores)).remove)
        yield tape


@contextmanager
def edit(
    model: nn.Module,
    masks: MaskEdit | None = None,
    scores: MaskEdit | None = None,
    groups: MaskEdit | None = None,
) -> Iterator[None]:
    """Rewrites decisions inside the `with`: what-if masks, moved thresholds, forced ratios.

    Args:
        model: as of `record`.
        masks: (zero-based block, keep mask (B, N)) -> keep mask to use; returning the same tensor changes
            nothing.
        scores: (block, keep log-odds (B, N)) -> log-odds to decide by; subtracting a number moves the
            threshold by it.
        groups: (block, carriers (B, N)) -> carriers to use; `svit.pruning.merging.MergeProbe`.

    Raises:
        RecordingError: the model has no backbone or several, or merges no tokens whose groups could be
            edited; inside, an edit returned another shape, or a mask that is not boolean.
    """
    backbone = find_backbone(model)
    if groups and not _probes(backbone, MergeProbe):
        raise RecordingError(
            f"groups are edited where tokens merge, and {type(backbone.method).__name__} merges none"
        )
    with ExitStack() as hooks:
        for kind, change in ((TokenProbe, masks), (ScoreProbe, scores), (MergeProbe, groups)):
            for probe in _probes(backbone, kind) if change else ():
                hooks.callback(probe.register_forward_hook(_writer(change), prepend=True).remove)
        yield


def _probes(backbone: Backbone, kind: type[TokenProbe]) -> list[TokenProbe]:
    probes = [module for module in backbone.modules() if type(module) is kind]
    return sorted(probes, key=lambda probe: probe.layer)


def _reader(shelf: dict[int, Tensor]) -> Callable[..., None]:
    def read(probe: TokenProbe, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        if probe.layer in shelf:
            raise RecordingError(f"the probe of block {probe.layer + 1} fired twice in one forward")
        shelf[probe.layer] = output.detach()

    return read


def _writer(change: MaskEdit) -> Callable[..., Tensor]:
    def write(probe: TokenProbe, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        changed = change(probe.layer, output)
        if changed.shape != output.shape or changed.dtype != output.dtype:
            raise RecordingError(
                f"the edit of block {probe.layer + 1} must return {output.dtype} {tuple(output.shape)}, "
                f"found {changed.dtype} {tuple(changed.shape)}"
            )
        return changed

    return write
