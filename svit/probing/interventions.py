"""Interventions: what a detector loses when its masks are replaced, by edits of the probes.

AP alone cannot tell whether masks mean anything: small models may not need their blocks at all
(training.md). So AP with the learned masks is set beside AP with

    learned   the masks as the method decides them;
    random    in every layer as many tokens as learned, at positions drawn anew for each layer;
    shuffle   the learned masks with their positions permuted: one permutation an image for all
              layers, so each token's life over the layers stays, at another place;
    invert    in every layer as many tokens as learned, those with the lowest scores;
    oracle    in every layer as many tokens as learned, those that objects of the ground truth cover
              most; between equal ones where an outline passes, then by one draw an image;
    off       gated blocks use no token: they are skipped;
    on        gated blocks use every token.

A token that a model removes is gone: there random draws once an image, so that what it dropped stays
dropped as it does under the learned masks (blocks would compute on zeros otherwise), and invert is refused.
random, shuffle, invert and oracle keep the number of tokens of each image and layer exactly, and that of
its image (valid) and padding tokens separately. The learned masks they start from are decided in a
forward of their own, before any edit, so the counts are those of the unedited model. They may be
decided by another model (`source`): its masks are transplanted, which also tells whether masks help
a model that was never trained with any. Every draw depends on the seed and the image's id alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from svit.core.coverage import regions, token_cover
from svit.core.types import Target, TokenGrid
from svit.data.samples import Sample, pad_batch
from svit.detectors.base import Detector, image_seeds
from svit.probing.recorder import edit, record
from svit.pruning.base import Method
from svit.pruning.sampling import uniform

SALT = 1000  # apart from the small numbers that methods salt their own draws with
INTERVENTIONS = ("learned", "random", "shuffle", "invert", "oracle", "off", "on")


@dataclass(frozen=True)
class Decided:
    """The masks of one batch as a model decided them.

    Attributes:
        keep: block -> bool (B, N).
        scores: block -> float (B, N) keep log-odds, gated blocks only.
        valid: bool (B, N), tokens that show image pixels.
        seeds: one an image.
        shown: float (B, N), how much of the ground truth a token shows: the larger, the earlier the
            oracle takes it; None where a sample has no target.
        removes: whether the model that runs on these masks loses what a block does not use.
    """

    keep: dict[int, Tensor]
    scores: dict[int, Tensor]
    valid: Bool[Tensor, "batch tokens"]
    seeds: list[int]
    shown: Float[Tensor, "batch tokens"] | None = None
    removes: bool = False


@contextmanager
def intervene(
    detector: Detector,
    name: str,
    samples: Sequence[Sample],
    *,
    layers: Sequence[int] | None = None,
    source: Detector | None = None,
) -> Iterator[None]:
    """Inside the `with`, `detector.predict(samples)` runs on changed masks; the seed is the detector's.

    Args:
        name: one of `INTERVENTIONS`; the head of this file says what each does.
        layers: zero-based blocks it may change; None is `gated_layers`.
        source: the model whose masks are changed; None is the detector itself.

    Raises:
        ValueError: an unknown name, masks of a model that prunes nothing, no scores to invert, or no
            ground truth for the oracle.
        RecordingError: the source has another number of layers or tokens.
    """
    if name not in INTERVENTIONS:
        raise ValueError(
            f"intervention: expected one of {', '.join(INTERVENTIONS)}, found {name!r}"
        )
    if name == "learned" and source is None:
        yield
        return
    change = _change(detector, name, samples, source)
    blocks = gated_layers((source or detector).backbone.method) if layers is None else layers

    def masks(layer: int, keep: Tensor) -> Tensor:
        return change(layer, keep) if layer in blocks else keep

    with edit(detector, masks=masks):
        yield


def gated_layers(method: Method) -> list[int]:
    """Zero-based blocks with a target below 1; of a method that prunes nothing, those the paper gates:
    all after the first quarter."""
    found = [layer for layer, ratio in enumerate(method.target_ratios()) if ratio < 1]
    return found or list(range(method.depth // 4, method.depth))


def _change(
    detector: Detector, name: str, samples: Sequence[Sample], source: Detector | None
) -> Callable[[int, Tensor], Tensor]:
    if name == "on":
        return lambda layer, keep: torch.ones_like(keep)
    if name == "off":
        return lambda layer, keep: torch.zeros_like(keep)
    chooser = source or detector
    if min(chooser.backbone.method.target_ratios()) >= 1:
        raise ValueError(
            f"{name} needs learned masks and {chooser.config.name!r} prunes nothing; name a pruned "
            "model that lends its masks (--masks-from FILE)"
        )
    removes = not getattr(detector.backbone.method, "preserve", True)
    if removes and name == "invert":
        raise ValueError(
            f"invert needs a model that preserves pruned tokens, and {detector.config.name!r} removes "
            "them: it has no scores of what is gone (pruning.options.retain=preserve)"
        )
    decided = replace(decide(chooser, samples, detector.seed), removes=removes)
    return lambda layer, keep: _CHANGES[name](decided, layer).to(keep.device)


@torch.no_grad()
def decide(detector: Detector, samples: Sequence[Sample], seed: int) -> Decided:
    """The masks of an unedited forward of the backbone, with the random numbers `predict` would draw."""
    seeds = image_seeds(samples, seed)
    images = pad_batch(samples, detector.config.data.pad_multiple)
    with record(detector) as tape:
        detector.backbone.seed_images(seeds)
        detector.backbone(images)
    valid = valid_tokens(detector, samples, images)
    shown = _shown(detector, samples, images)
    return Decided(dict(tape.masks), dict(tape.scores), valid, seeds, shown)


def valid_tokens(
    detector: Detector, samples: Sequence[Sample], images: Float[Tensor, "batch 3 height width"]
) -> Bool[Tensor, "batch tokens"]:
    """Tokens of a padded batch that show image pixels, in raster order, on the batch's device."""
    padded_hw, patch = (images.shape[2], images.shape[3]), detector.config.backbone.patch
    masks = [sample.grid(padded_hw, patch).valid_mask().ravel() for sample in samples]
    return torch.stack([torch.from_numpy(mask) for mask in masks]).to(images.device)


def _shown(
    detector: Detector, samples: Sequence[Sample], images: Float[Tensor, "batch 3 height width"]
) -> Float[Tensor, "batch tokens"] | None:
    """What `Decided.shown` is; padding tokens show nothing."""
    if any(sample.target is None for sample in samples):
        return None
    padded_hw, patch = (images.shape[2], images.shape[3]), detector.config.backbone.patch
    maps = [importance(sample.target, sample.grid(padded_hw, patch)) for sample in samples]
    return torch.stack([torch.from_numpy(one.ravel()) for one in maps]).to(images.device)


def importance(target: Target, grid: TokenGrid) -> np.ndarray:
    """Share of each token that objects (no crowds) cover, in whole hundredths, plus a half hundredth
    where the outline of one passes (`svit.core.coverage.regions`).

    Hundredths, because a token that an outline grazes differs from a full one by a pixel or two.

    Args:
        target: ground truth whose masks span the image, at any resolution.

    Returns: float64 (rows, columns) of the padded grid in [0, 1.005].
    """
    cover = token_cover(target.masks, grid)
    objects = target.masks[~target.crowd].any(axis=0)
    shares = token_cover(objects[None], grid)[0].astype(np.float64).round(2)
    shown = np.zeros(grid.grid_hw)
    rows, columns = grid.valid_hw
    shown[:rows, :columns] = shares + 0.005 * regions(target, grid, cover).contour
    return shown


def _learned(decided: Decided, layer: int) -> Tensor:
    return decided.keep[layer]


def _random(decided: Decided, layer: int) -> Tensor:
    draw = 0 if decided.removes else layer
    return permuted(decided.keep[layer], decided.valid, decided.seeds, salt=SALT + 1 + draw)


def _shuffle(decided: Decided, layer: int) -> Tensor:
    return permuted(decided.keep[layer], decided.valid, decided.seeds, salt=SALT)


def _invert(decided: Decided, layer: int) -> Tensor:
    if layer not in decided.scores:
        raise ValueError(f"invert needs scores, and the method gives none for block {layer}")
    return lowest(decided.keep[layer], decided.scores[layer], decided.valid)


def _oracle(decided: Decided, layer: int) -> Tensor:
    if decided.shown is None:
        raise ValueError("the oracle needs images with ground truth (a COCO data set)")
    # one draw an image for all layers: among equals a token that stays is as good as one that comes
    draws = uniform(decided.shown, decided.seeds, SALT)
    order = draws.argsort(dim=1, stable=True)
    ranked = (-decided.shown).gather(1, order).argsort(dim=1, stable=True)
    place = order.gather(1, ranked).argsort(dim=1)  # rank of each token, 0 shows most
    return lowest(decided.keep[layer], place.float(), decided.valid)


_CHANGES: dict[str, Callable[[Decided, int], Tensor]] = {
    "learned": _learned,
    "random": _random,
    "shuffle": _shuffle,
    "invert": _invert,
    "oracle": _oracle,
}


def permuted(
    keep: Bool[Tensor, "batch tokens"],
    valid: Bool[Tensor, "batch tokens"],
    seeds: Sequence[int],
    salt: int,
) -> Bool[Tensor, "batch tokens"]:
    """The mask with the valid positions of each image permuted, and its padding positions likewise.

    Equal seeds and salts give the same permutation whatever the mask.
    """
    padding = (~valid).float()
    here = padding.argsort(dim=1, stable=True)  # valid positions first
    there = (padding + uniform(padding, list(seeds), salt)).argsort(dim=1, stable=True)
    return torch.zeros_like(keep).scatter(1, there, keep.gather(1, here))


def lowest(
    keep: Bool[Tensor, "batch tokens"],
    scores: Float[Tensor, "batch tokens"],
    valid: Bool[Tensor, "batch tokens"],
) -> Bool[Tensor, "batch tokens"]:
    """As many tokens as `keep` has, those with the lowest scores; valid and padding ones separately."""
    chosen = torch.zeros_like(keep)
    for group in (valid, ~valid):
        order = scores.masked_fill(~group, float("inf")).argsort(dim=1, stable=True)
        place = order.argsort(dim=1)  # rank of each token
        chosen |= group & (place < (keep & group).sum(dim=1, keepdim=True))
    return chosen
