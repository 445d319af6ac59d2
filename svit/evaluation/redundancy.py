"""How much of a pruned token its kept neighbours hold: cosines of the rows before each gated block.

What a merge would have kept in place of the token is one of the questions of TokenReduction (Haurum et al.,
"Which Tokens to Use?", ICCVW 2023) put to a detector's masks. Two tokens of a picture are alike anyway, so
the same masks shuffled over the valid tokens of the image, one permutation for all blocks, are measured on
the same rows.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pandas as pd
import torch
from torch import Tensor
from torch.nn import functional

from svit.data.samples import Images, pad_batch, padded_hw, to_device, valid_tokens
from svit.detectors.base import Detector, image_seeds
from svit.evaluation.passes import PassOptions, Reader, Unreadable, inference_mode
from svit.models.backbone import Backbone
from svit.probing.edits import EditError
from svit.probing.interventions import gated_layers
from svit.probing.recorder import record
from svit.pruning.sampling import permuted, uniform

OWN, SHUFFLED = "own", "shuffled"
SALT = 3000
COLUMNS = ("image_id", "block", "masks", "pruned", "alone", "near", "best", "lost")


def redundancy(
    detector: Detector, images: Images, options: PassOptions = PassOptions()
) -> pd.DataFrame:
    """Looks at every image by itself; those that cannot be read are left out.

    Args:
        options: `inference`, `seed` and `limit` count.

    Returns:
        A row an image, gated block (from 1) and kind of masks (own, shuffled). pruned: valid tokens that the
        block leaves out; alone: of them, without a kept one among the eight neighbours. Means over pruned
        tokens, NaN without any: near: the highest cosine with a kept neighbour, over those that have one;
        best: with any kept token; lost: ||x - m|| / ||x||, m the mean of the token and that best one, what a
        merge of the two would have made of it.

    Raises:
        EditError: the model removes pruned tokens, of which nothing is left to look at, or merges them, and
            a carried token is none that is pruned.
    """
    traits = detector.backbone.method.traits
    if traits.merges or not traits.preserves:
        done = "merges tokens" if traits.merges else "removes pruned tokens"
        raise EditError(
            f"{detector.config.name!r} {done}, and what neighbours hold is asked of pruned tokens that "
            "stay in the map: take a model that preserves them (pruning.options.retain=preserve)"
        )
    device = next(detector.parameters()).device
    reader, rows = Reader(images, False), []
    with inference_mode(detector, options.inference, options.seed):
        for index in range(len(images))[: options.limit]:
            read = reader[index]
            if isinstance(read, Unreadable):
                continue
            sample = to_device(read.sample, device)
            rows += _of_image(detector, sample)
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _of_image(detector: Detector, sample) -> Iterator[dict[str, Any]]:
    backbone, config = detector.backbone, detector.config
    padded = padded_hw([sample], config.data.pad_multiple)
    grid = sample.grid(padded, config.backbone.patch)
    valid = valid_tokens([grid], sample.image.device)
    seeds = image_seeds([sample], detector.seed)
    with torch.no_grad(), record(detector, scores=False) as tape, _rows_of(backbone) as before:
        backbone.seed_images(seeds)
        backbone(pad_batch([sample], config.data.pad_multiple))
    draw = uniform(valid.float(), seeds, SALT)
    for layer in gated_layers(backbone.method):
        keep = tape.masks[layer]
        for masks, used in ((OWN, keep), (SHUFFLED, permuted(keep, valid, draw))):
            found = measured(before[layer][0], used[0], valid[0], grid.grid_hw)
            yield {"image_id": sample.image_id, "block": layer + 1, "masks": masks, **found}


@contextmanager
def _rows_of(backbone: Backbone) -> Iterator[dict[int, Tensor]]:
    """Block -> the tokens it is given (B, N, C) during a forward inside the `with`."""
    before: dict[int, Tensor] = {}

    def keep(method, inputs: tuple) -> None:
        before[inputs[0]] = inputs[2].detach()

    hook = backbone.method.register_forward_pre_hook(keep)
    try:
        yield before
    finally:
        hook.remove()


def measured(
    rows: Tensor, keep: Tensor, valid: Tensor, grid_hw: tuple[int, int]
) -> dict[str, float]:
    """pruned to lost of `redundancy`, of one image.

    Args:
        rows: float (N, C), the tokens before the block.
        keep, valid: bool (N,).
    """
    pruned, kept = valid & ~keep, valid & keep
    found = {"pruned": int(pruned.sum()), "alone": 0, "near": float("nan")}
    found |= {"best": float("nan"), "lost": float("nan")}
    if not pruned.any() or not kept.any():
        return {**found, "alone": found["pruned"]}
    unit = functional.normalize(rows.float(), dim=1)
    cosine = unit[pruned] @ unit[kept].T
    beside = _neighbours(grid_hw, rows.device)[pruned][:, kept]
    near = cosine.masked_fill(~beside, -2).amax(dim=1)
    best, place = cosine.max(dim=1)
    own, other = rows.float()[pruned], rows.float()[kept][place]
    lost = (own - other).norm(dim=1) / 2 / own.norm(dim=1).clamp(min=1e-12)
    has = beside.any(dim=1)
    return {
        **found,
        "alone": int((~has).sum()),
        "near": float(near[has].mean()) if has.any() else float("nan"),
        "best": float(best.mean()),
        "lost": float(lost.mean()),
    }


def _neighbours(grid_hw: tuple[int, int], device: torch.device) -> Tensor:
    """bool (N, N): tokens that touch each other, corners too."""
    place = torch.arange(grid_hw[0] * grid_hw[1], device=device)
    row, column = place // grid_hw[1], place % grid_hw[1]
    near = ((row[:, None] - row).abs() <= 1) & ((column[:, None] - column).abs() <= 1)
    return near & ~torch.eye(len(place), dtype=torch.bool, device=device)
