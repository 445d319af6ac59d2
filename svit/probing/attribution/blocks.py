"""Pruned tokens given back in one block at a time: which block's pruning hurt."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from svit.core.attribution import Thing
from svit.core.coverage import token_cover
from svit.probing.attribution.trials import Trials
from svit.probing.edits import nests


def given_back(trials: Trials, decided: np.ndarray, draws: int, seed: int) -> Iterator[dict]:
    """Rows of `Explanation.forced` of the one thing of the trials.

    Tokens of the object, as many elsewhere, or all are used in one block of the range, or in all of it; the
    other blocks use what they decided. Where a method never calls back, only tokens that were there in the
    block before.

    Args:
        decided: bool (blocks, tokens), the masks as the model decides.
    """
    grid, (thing,) = trials.grid, trials.things
    cover = np.zeros(grid.grid_hw, bool)
    rows, columns = grid.valid_hw
    cover[:rows, :columns] = token_cover(_mask(thing, grid.image_hw)[None], grid)[0] > 0
    valid, cover = grid.valid_mask().ravel(), cover.ravel()
    nested = nests(trials.detector.backbone.method)
    asked: list[tuple[dict, np.ndarray]] = []
    for block in (0, *(layer + 1 for layer in trials.layers)):
        where = [block - 1] if block else list(trials.layers)
        for kind, draw in _kinds(draws):
            masks = decided.copy()
            for layer in where:
                may = valid & ~decided[layer]
                if nested and layer:  # what an earlier block left out is gone
                    may &= masks[layer - 1]
                masks[layer] |= _given(kind, may, cover, (seed, draw, layer))
            added = int(masks.sum() - decided.sum())
            row = {"block": block, "kind": kind, "draw": draw, "tokens": added}
            asked.append((row, masks))
    hits = trials.under(np.stack([masks for _, masks in asked]))
    for (row, _), (hit,) in zip(asked, hits, strict=True):
        yield row | {"score": hit.score, "iou": hit.iou}


def _kinds(draws: int) -> list[tuple[str, int]]:
    return [("object", 0), *(("elsewhere", draw) for draw in range(draws)), ("all", 0)]


def _given(kind: str, may: np.ndarray, cover: np.ndarray, seed: tuple[int, ...]) -> np.ndarray:
    """Which of the tokens that may be given back are."""
    own = may & cover
    if kind == "object":
        return own
    if kind == "all":
        return may
    others = np.flatnonzero(may & ~cover)
    drawn = np.random.default_rng(seed).permutation(others)[: int(own.sum())]
    given = np.zeros_like(may)
    given[drawn] = True
    return given


def _mask(thing: Thing, image_hw: tuple[int, int]) -> np.ndarray:
    """Its mask, or that of its box."""
    if thing.target.has_mask[0]:
        return thing.target.masks[0].astype(bool)
    mask = np.zeros(image_hw, bool)
    left, top, right, bottom = (round(side) for side in thing.box_xyxy)
    mask[max(top, 0) : max(bottom, top + 1), max(left, 0) : max(right, left + 1)] = True
    return mask
