"""The same proposals and detections for every model, so that a network's time depends on no weights.

Random weights give every variant another number of detections, at milliseconds a mask: speed-ups would
count masks. Here every part of a detector works as ever, but what its proposal network and its box
predictor hand on is replaced by the same boxes, logits and deltas for all. Needs torch and torchvision
alone, so that earlier commits can be measured with it as well (`benchmarks.before_after`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float32
from torch import Tensor, nn
from torchvision.ops import nms

PROPOSERS = ("rpn", "model.proposal_generator")  # paths in a detector, whatever framework
PREDICTORS = ("roi_heads.box_predictor", "model.roi_heads.box_predictor")
APART = 0.3  # overlap of detections, below every threshold in use
SMALLEST = 1 / 40  # side of the smallest box over the picture's shorter side: 16 of 640 pixels
SPARE = 4  # boxes drawn for each that is asked for
CERTAIN = 1e4  # a logit that leaves nothing to other classes


@contextmanager
def equal_work(
    detector: nn.Module, proposals: int, detections: int, seed: int = 0
) -> Iterator[None]:
    """Gives the heads `proposals` boxes an image, of which the first `detections` are found.

    Raises:
        ValueError: at the first picture, if so many detections do not fit apart from each other.
    """
    parts = dict(detector.named_modules())
    proposer = next(parts[path] for path in PROPOSERS if path in parts)
    predictor = next(parts[path] for path in PREDICTORS if path in parts)
    made: dict[tuple[int, int], Tensor] = {}

    def propose(_: nn.Module, given: tuple[Any, ...], output: tuple[list[Any], Any]) -> Any:
        sizes = given[0].image_sizes
        for size in set(sizes) - made.keys():
            made[size] = spread_boxes(size, proposals, detections, seed)
        found = [_as(one, made[size]) for one, size in zip(output[0], sizes, strict=True)]
        return found, output[1]

    def decide(_: nn.Module, __: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> Any:
        logits, deltas = output
        return _certain(logits, proposals, detections), torch.zeros_like(deltas)

    with ExitStack() as hooks:
        for part, hook in ((proposer, propose), (predictor, decide)):
            hooks.callback(part.register_forward_hook(hook).remove)
        yield


def spread_boxes(size: tuple[int, int], count: int, apart: int, seed: int = 0) -> Tensor:
    """Boxes anywhere in a picture, their sides spread evenly over the octaves; (count, 4) in pixels.

    The first `apart` overlap each other by less than `APART`, so that no suppression drops one.

    Raises:
        ValueError: so many do not fit.
    """
    generator = torch.Generator().manual_seed(seed)
    draws = torch.rand(4, SPARE * (count + apart), generator=generator, dtype=torch.float64)
    height, width = size
    longest = min(size)
    sides = longest * torch.exp(math.log(SMALLEST) * draws[:2])
    left, top = (width - sides[0]) * draws[2], (height - sides[1]) * draws[3]
    boxes = torch.stack([left, top, left + sides[0], top + sides[1]], dim=1).float()
    order = torch.linspace(1, 0, len(boxes))
    first = nms(boxes, order, APART)[:apart]
    if len(first) < apart:
        raise ValueError(
            f"detections: {apart} boxes do not fit apart into {height}x{width} pixels, found "
            f"{len(first)}; ask for fewer"
        )
    others = torch.ones(len(boxes), dtype=torch.bool).index_fill_(0, first, False)
    return torch.cat([boxes[first], boxes[others]])[:count]


def rectangles(
    size: tuple[int, int], count: int = 7, seed: int = 0
) -> tuple[Float32[np.ndarray, "count 4"], Bool[np.ndarray, "count height width"]]:
    """Made-up objects to train a step on: boxes in pixels and the masks that fill them."""
    draws = np.random.default_rng(seed)
    height, width = size
    corner = draws.uniform(0, 0.5, (count, 2)) * (width, height)
    sides = draws.uniform(0.1, 0.5, (count, 2)) * (width, height)
    boxes = np.concatenate([corner, corner + sides], axis=1)
    masks = np.zeros((count, height, width), bool)
    for mask, (left, top, right, bottom) in zip(masks, boxes.astype(int), strict=True):
        mask[top:bottom, left:right] = True
    return boxes.astype(np.float32), masks


def _certain(logits: Tensor, proposals: int, detections: int) -> Tensor:
    """Logits (boxes, classes + 1) by which the first boxes of each image are objects, classes in turn."""
    decided = torch.zeros_like(logits)
    decided[:, -1] = CERTAIN
    place = torch.arange(len(logits), device=logits.device) % proposals
    found = (place < detections).nonzero().squeeze(1)
    decided[found, -1] = 0
    decided[found, place[found] % (logits.shape[1] - 1)] = CERTAIN
    return decided


def _as(found: Any, boxes: Tensor) -> Any:
    """Boxes as the framework hands proposals on: a tensor, or detectron2's Instances."""
    if isinstance(found, Tensor):
        return boxes.to(found)
    make: Callable[..., Any] = type(found)
    own = found.proposal_boxes
    scores = found.objectness_logits.new_zeros(len(boxes))
    given = type(own)(boxes.to(own.tensor))
    return make(found.image_size, proposal_boxes=given, objectness_logits=scores)
