"""Edits put on a detector: one forward of a batch with counterfactual masks, through the probes.

with applied(detector, samples, (NoReactivation(),)):
    found = detector.predict(samples)
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from functools import partial

import torch
from torch import Tensor, nn

from svit.data.samples import Sample, pad_batch, padded_hw, valid_tokens
from svit.detectors.base import Detector, image_seeds
from svit.probing.edits import Decided, Edit, EditError, Forward, nests
from svit.probing.recorder import edit
from svit.probing.transplants import check_merges
from svit.pruning.base import Method
from svit.pruning.streams import StreamMethod, looks_back


@contextmanager
def applied(
    detector: Detector,
    samples: Sequence[Sample],
    edits: Sequence[Edit],
    *,
    lender: Detector | None = None,
    deadline: float = math.inf,
) -> Iterator[Forward]:
    """Inside the `with`, `detector.predict(samples)` runs with the edits; all hooks end with it.

    The random numbers are those of `detector.seed` and of each image's id.

    Args:
        samples: on the detector's device.
        edits: act from left to right, block by block.
        lender: the model whose masks, unedited, the edits start from that start from decided masks
            (`equal_counts.Control`); None for the detector itself with the edits to the left.
        deadline: `time.monotonic()` from which the next block gives up.

    Raises:
        EditError: an edit does not fit, the lender has other blocks, or see `check_lender`.
        TimeoutError: inside, once the deadline has passed.
    """
    if lender is not None:
        check_lender(detector, lender)
    removes = any(one.removes for one in edits)
    forward = _begin(detector, samples, removes, deadline)
    ready: list[Edit] = []
    for one in edits:
        one.check(forward)
        start = partial(_start, forward, lender or detector, () if lender else tuple(ready))
        ready.append(one.prepared(start, forward))
    with ExitStack() as hooks:
        masks, scores, groups = _changes(ready, forward)
        groups = groups if detector.backbone.method.traits.merges else None
        hooks.enter_context(edit(detector, masks, scores, groups))
        if removes:
            method = detector.backbone.method
            hooks.callback(method.register_forward_hook(_zero_pruned(forward)).remove)
        yield forward


def check_lender(detector: Detector, lender: Detector) -> None:
    """Refuses a lender that would decide on pictures which it was not trained to see.

    Raises:
        EditError: it normalises them otherwise, or takes them at another size or in other patches.
    """
    mine, theirs = (one.config.data.normalisation for one in (detector, lender))
    if mine != theirs:
        raise EditError(
            f"{lender.config.name!r} takes pictures normalised by mean {theirs[0]}, deviation {theirs[1]}, "
            f"this model by {mine[0]}, {mine[1]}: masks are lent between models of one normalisation"
        )
    mine, theirs = (_size(one) for one in (detector, lender))
    if mine != theirs:
        raise EditError(
            f"{lender.config.name!r} takes pictures of {theirs}, this model of {mine}: masks are lent "
            "at one size; run this model at the lender's (--set data.short_side=...), or give the lender "
            "this one's (svit convert FILE OTHER --preset NAME data.short_side=...)"
        )


def _size(detector: Detector) -> str:
    data, patch = detector.config.data, detector.config.backbone.patch
    padded = f"padded to multiples of {data.pad_multiple}, in patches of {patch}"
    return f"{data.short_side} (at most {data.long_side}) pixels {padded}"


def _begin(
    detector: Detector, samples: Sequence[Sample], removes: bool, deadline: float
) -> Forward:
    config, method = detector.config, detector.backbone.method
    padded = padded_hw(samples, config.data.pad_multiple)
    grids = tuple(sample.grid(padded, config.backbone.patch) for sample in samples)
    return Forward(
        samples,
        grids,
        valid_tokens(grids, samples[0].image.device),
        image_seeds(samples, detector.seed),
        method,
        removes or not method.traits.preserves,
        deadline,
    )


@torch.no_grad()
def decide(
    detector: Detector,
    samples: Sequence[Sample],
    seeds: list[int],
    edits: Sequence[Edit] = (),
    deadline: float = math.inf,
) -> Decided:
    """The masks of a forward of the backbone, with the random numbers that `predict` would draw.

    Args:
        seeds: one an image (`svit.detectors.base.image_seeds`).

    Raises: as `applied`.
    """
    method = detector.backbone.method
    with _aside(method, edits), applied(detector, samples, edits, deadline=deadline) as forward:
        if looks_back(
            method
        ):  # what it decides in the next frame hangs on what it finds in this one
            detector.predict(samples)
        else:
            detector.backbone.seed_images(seeds)
            detector.backbone.show_frames([sample.frame for sample in samples])
            detector.backbone(pad_batch(samples, detector.config.data.pad_multiple))
    nested = nests(method, edits)
    return Decided(forward.used, forward.scores, nested, forward.groups)


def _aside(method: Method, edits: Sequence[Edit]) -> AbstractContextManager[None]:
    """A method with state over frames decides in a stream of its own, which the forward with the edits behind
    these does not see."""
    if not isinstance(method, StreamMethod):
        return nullcontext()
    return method.apart(f"decided behind {len(edits)} edits")


def _start(forward: Forward, detector: Detector, edits: Sequence[Edit]) -> Decided:
    """What a model decides with edits that are prepared already, as masks for this forward."""
    found = decide(detector, forward.samples, forward.seeds, edits, forward.deadline)
    mine = (forward.method.depth, forward.valid.shape[1])
    theirs = (len(found.keep), found.keep[0].shape[1])
    if mine != theirs:
        raise EditError(
            f"{detector.config.name!r} decides on {theirs[0]} blocks of {theirs[1]} tokens and this "
            f"model on {mine[0]} of {mine[1]}; masks fit equal models and grids only"
        )
    if found.groups:
        check_merges(repr(detector.config.name), forward)
    return found


def _changes(edits: Sequence[Edit], forward: Forward) -> tuple[Callable, ...]:
    """What `recorder.edit` calls for masks, for scores and for groups."""

    def masks(layer: int, keep: Tensor) -> Tensor:
        if time.monotonic() > forward.deadline:
            raise TimeoutError("the job took longer than it may; nothing was changed")
        for one in edits:
            keep = one.masks(layer, keep, forward)
        forward.used[layer] = keep
        return keep

    def scores(layer: int, values: Tensor) -> Tensor:
        for one in edits:
            values = one.scores(layer, values, forward)
        forward.scores[layer] = values
        return values

    def groups(layer: int, group: Tensor) -> Tensor:
        for one in edits:
            group = one.groups(layer, group, forward)
        forward.groups[layer] = group
        return group

    return masks, scores, groups


def _zero_pruned(forward: Forward) -> Callable[..., Tensor]:
    """A forward hook of the method: a probe decides on masks only, so the map is zeroed behind it."""

    def zero(method: nn.Module, inputs: tuple, output: Tensor) -> Tensor:
        return output * forward.part(inputs[0]).unsqueeze(-1).to(output.dtype)

    return zero
