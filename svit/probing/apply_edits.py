"""Edits put on a detector: one forward with counterfactual masks, through the probes.

with applied(detector, sample, (NoReactivation(),)):
    found = detector.predict([sample])
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial

import torch
from torch import Tensor, nn

from svit.data.samples import Sample, pad_batch
from svit.detectors.base import Detector, image_seed
from svit.probing.edits import Edit, Masks, Pass
from svit.probing.recorder import edit


@contextmanager
def applied(
    detector: Detector, sample: Sample, edits: Sequence[Edit], deadline: float = math.inf
) -> Iterator[Pass]:
    """Inside the `with`, `detector.predict([sample])` runs with the edits; all hooks end with it.

    Args:
        deadline: `time.monotonic()` from which the next block gives up.

    Raises:
        EditError: an edit does not fit.
        TimeoutError: inside, once the deadline has passed.
    """
    seen = _begin(detector, sample, deadline)
    settled: list[Edit] = []
    for one in edits:
        one.check(seen)
        decide = partial(_decided, detector, sample, tuple(settled), deadline)
        settled.append(one.settled(decide, seen))
    with ExitStack() as hooks:
        hooks.enter_context(edit(detector, *_changes(settled, seen)))
        if any(one.removes for one in edits):
            method = detector.backbone.method
            hooks.callback(method.register_forward_hook(_zero_pruned(seen)).remove)
        yield seen


def _begin(detector: Detector, sample: Sample, deadline: float) -> Pass:
    config = detector.config
    height, width = pad_batch([sample], config.data.pad_multiple).shape[2:]
    seed = image_seed(sample.image_id, detector.seed)
    grid = sample.grid((height, width), config.backbone.patch)
    return Pass(grid, detector.backbone.method, seed, deadline)


def _decided(detector: Detector, sample: Sample, edits: tuple[Edit, ...], deadline: float) -> Masks:
    """The masks of a forward of the backbone with these edits, which are settled already."""
    images = pad_batch([sample], detector.config.data.pad_multiple)
    with applied(detector, sample, edits, deadline) as seen, torch.no_grad():
        detector.backbone.seed_images([seen.seed])
        detector.backbone(images)
    return seen.used


def _changes(edits: Sequence[Edit], seen: Pass) -> tuple[Callable, Callable]:
    """What `recorder.edit` calls for masks and for scores."""

    def masks(layer: int, keep: Tensor) -> Tensor:
        if time.monotonic() > seen.deadline:
            raise TimeoutError("the job took longer than it may; nothing was changed")
        for one in edits:
            keep = one.masks(layer, keep, seen)
        seen.used[layer] = keep
        return keep

    def scores(layer: int, values: Tensor) -> Tensor:
        for one in edits:
            values = one.scores(layer, values, seen)
        seen.scores[layer] = values
        return values

    return masks, scores


def _zero_pruned(seen: Pass) -> Callable[..., Tensor]:
    """A forward hook of the method: a probe decides on masks only, so the map is zeroed behind it."""

    def zero(method: nn.Module, inputs: tuple, output: Tensor) -> Tensor:
        return output * seen.used[inputs[0]].unsqueeze(-1).to(output.dtype)

    return zero
