"""Reading and writing token masks of a model with an svit backbone, by hooks on its probes.

    with record(detector) as tape:
        detections = detector.predict(samples)
    traces = tape.traces(samples)

    with edit(detector, masks=lambda layer, keep: keep | rescued):
        what_if = detector.predict(samples)

The only module that touches probes; it knows no pruning method, so those you write record like ours. Models
that are not ours: `svit.probing.attach`.
"""

from __future__ import annotations

import re
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
        measures: name -> block -> float (B, N): what `svit.probing.attach` measures, such as "update".
        tensors: name -> block -> float (B, N, C): tokens, where they were asked for.
        calls: how often pictures entered during one forward of the model that was attached.
        resized: whether the model made pictures of another size of those it was given, before it cut them.
        finite: block -> bool (B,), whether all numbers that it gave to a picture's tokens are finite.
        prefix: class and register tokens that stand before those of the picture in its blocks.
    """

    patch: int
    layers: int
    grid_hw: tuple[int, int] = (0, 0)
    masks: dict[int, Tensor] = field(default_factory=dict)
    scores: dict[int, Tensor] = field(default_factory=dict)
    groups: dict[int, Tensor] = field(default_factory=dict)
    measures: dict[str, dict[int, Tensor]] = field(default_factory=dict)
    tensors: dict[str, dict[int, Tensor]] = field(default_factory=dict)
    finite: dict[int, Tensor] = field(default_factory=dict)
    calls: int = 0
    resized: bool = False
    prefix: int = 0

    def begin(self, grid_hw: tuple[int, int]) -> None:
        """Forgets the forward before."""
        self.grid_hw = grid_hw
        shelves = (self.masks, self.scores, self.groups, self.measures, self.tensors, self.finite)
        for shelf in shelves:
            shelf.clear()

    def __getitem__(self, name: str) -> Tensor:
        """One of `names`, as "blocks.3.update" (blocks from 0): what its hooks showed in the last forward.

        Raises:
            KeyError: no such name, or it was not recorded.
        """
        found = re.fullmatch(r"blocks\.(\d+)\.(\w+)", name)
        shelf = self._shelves().get(found[2], {}) if found else {}
        if not found or int(found[1]) not in shelf:
            raise KeyError(
                f"{name!r} was not recorded; there are {', '.join(self.names()) or 'none'}"
            )
        return shelf[int(found[1])]

    def names(self) -> list[str]:
        """Names of all that was recorded in the last forward (docs/any-model.md)."""
        shelves = self._shelves().items()
        return [f"blocks.{layer}.{name}" for name, shelf in shelves for layer in sorted(shelf)]

    def _shelves(self) -> dict[str, dict[int, Tensor]]:
        decisions = {
            "token_keep": self.masks,
            "token_score": self.scores,
            "token_group": self.groups,
        }
        return {**decisions, **self.measures, **self.tensors}

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
        held = [torch.where(self.masks[one], own, self.groups.get(one, own)) for one in layers]
        host = torch.stack(held, dim=1).int().cpu().numpy()
        return host.reshape(len(host), self.layers, *self.grid_hw)

    def measured(self) -> dict[str, np.ndarray]:
        """Measures of the last forward on the host, by name: float32 (B, layers, rows, columns)."""
        found = {}
        for name, shelf in self.measures.items():
            stacked = torch.stack([shelf[layer] for layer in range(self.layers)], dim=1)
            host = stacked.float().cpu().numpy()
            found[name] = host.reshape(len(host), self.layers, *self.grid_hw)
        return found

    def traces(self, samples: Sequence[Sample]) -> list[TokenTrace]:
        """One validated trace a sample of the last forward, in their order.

        Raises:
            RecordingError: a probe did not fire, the batch had another number of samples, pictures entered
                the model several times in one forward or were resized in it, or its numbers are not finite.
        """
        if self.calls > 1:
            raise RecordingError(
                f"pictures entered the model {self.calls} times in one forward, and the tape holds the last: "
                "attach to the part that runs once a picture"
            )
        if self.resized:
            raise RecordingError(
                "the model resizes its pictures before it cuts them into tokens, so these do not lie on the "
                "samples: attach to the part behind that, with samples of the size it is given"
            )
        keep, scores, groups = self.keep(), self.log_odds(), self.carriers()
        measures = self.measured()
        if len(keep) != len(samples):
            raise RecordingError(
                f"expected {len(keep)} samples (the recorded batch), found {len(samples)}"
            )
        self._check_finite(samples)
        padded = (self.grid_hw[0] * self.patch, self.grid_hw[1] * self.patch)
        return [
            TokenTrace(
                sample.image_id,
                sample.grid(padded, self.patch),
                keep[index],
                None if scores is None else scores[index],
                {name: values[index] for name, values in measures.items()},
                group=None if groups is None else groups[index],
            )
            for index, sample in enumerate(samples)
        ]

    def _check_finite(self, samples: Sequence[Sample]) -> None:
        """Raises RecordingError where a block gave a picture numbers that are none."""
        for layer, finite in sorted(self.finite.items()):
            for sample, good in zip(samples, finite.tolist()):
                if not good:
                    raise RecordingError(
                        f"image {sample.image_id!r}: {blocks([layer])} gives numbers that are not finite; "
                        "run the model in float32 or bfloat16"
                    )


def find_backbone(model: nn.Module) -> Backbone:
    """The one backbone inside a model (or the model itself).

    Raises:
        RecordingError: the model has none, or several, or a part of it is compiled.
    """
    found = [module for module in model.modules() if isinstance(module, Backbone)]
    if len(found) != 1:
        raise RecordingError(
            f"expected one svit backbone inside the model, found {len(found)}; svit.attach records others"
        )
    if any("_orig_mod" in one._modules or one._compiled_call_impl for one in model.modules()):
        raise RecordingError(
            "a part of the model is compiled, and calls hooks of a few blocks or none: record or edit the "
            "model as it was before it was compiled"
        )
    return found[0]


@dataclass(frozen=True)
class Seam:
    """What recording asks of a model: probes and a geometry, never a class.

    Attributes:
        start: the module whose call begins a forward; it is given pictures.
        grid_hw: those pictures, (B, channels, height, width) -> token rows and columns.
        patch: side of a token in their pixels.
        layers: number of blocks.
        probes: `TokenProbe`s, `MergeProbe`s and `ScoreProbe`s, in any number.
    """

    start: nn.Module
    grid_hw: Callable[[Tensor], tuple[int, int]]
    patch: int
    layers: int
    probes: tuple[TokenProbe, ...]


@contextmanager
def listening(seam: Seam, tape: Tape, scores: bool = True) -> Iterator[Tape]:
    """Writes every forward of a seam onto a tape inside the `with`; hooks end with it. Inside it raises as
    `record`."""
    shelves = {TokenProbe: tape.masks, MergeProbe: tape.groups}
    shelves |= {ScoreProbe: tape.scores} if scores else {}
    with ExitStack() as hooks:
        begin = seam.start.register_forward_pre_hook(
            lambda module, args, kwargs: tape.begin(
                seam.grid_hw(next(iter([*args, *kwargs.values()])))
            ),
            with_kwargs=True,
        )
        hooks.callback(begin.remove)
        for probe in seam.probes:
            if type(probe) in shelves:
                read = probe.register_forward_hook(_reader(shelves[type(probe)]))
                hooks.callback(read.remove)
        yield tape


def probes_of(model: nn.Module) -> list[TokenProbe]:
    """The probes in a model, ours or another, by block."""
    kinds = (TokenProbe, MergeProbe, ScoreProbe)
    found = [module for module in model.modules() if type(module) in kinds]  # one walk an image
    return sorted(found, key=lambda probe: (kinds.index(type(probe)), probe.layer))


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
    patch, probes = backbone.config.patch, probes_of(backbone)
    layers = sum(type(probe) is TokenProbe for probe in probes)
    seam = Seam(backbone, backbone.grid_hw, patch, layers, tuple(probes))
    with listening(seam, Tape(patch, layers), scores) as tape:
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
        masks: (zero-based block, keep mask (B, N)) -> keep mask to use, another tensor or the same.
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


def _probes(model: nn.Module, kind: type[TokenProbe]) -> list[TokenProbe]:
    probes = [module for module in model.modules() if type(module) is kind]
    return sorted(probes, key=lambda probe: probe.layer)


def _reader(shelf: dict[int, Tensor]) -> Callable[..., None]:
    def read(probe: TokenProbe, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        if probe.layer in shelf:
            raise RecordingError(f"the probe of block {probe.layer + 1} fired twice in one forward")
        shelf[probe.layer] = output.detach().clone()  # the model may write over it

    return read


def _writer(change: MaskEdit) -> Callable[..., Tensor]:
    def write(probe: TokenProbe, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        # an edit may write over it; the method tells an answer by its identity
        given = output.clone()
        changed = change(probe.layer, given)
        if changed is given and torch.equal(given, output):
            return output
        if changed.shape != output.shape or changed.dtype != output.dtype:
            raise RecordingError(
                f"the edit of block {probe.layer + 1} must return {output.dtype} {tuple(output.shape)}, "
                f"found {changed.dtype} {tuple(changed.shape)}"
            )
        return changed

    return write
