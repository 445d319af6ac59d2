"""One picture under many masks, several a forward: what a detector finds of some objects then."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch

from svit.core.attribution import Hit, Thing
from svit.data.samples import Sample
from svit.detectors.base import Detector
from svit.probing.apply_edits import applied
from svit.probing.equal_counts import Fixed

Tell = Callable[[int], None]  # how many forwards were done; whatever it raises ends the work


class Trials:
    """Runs a picture under masks that are made already; equal counts go together, so that what a forward
    costs falls with the tokens.

    Args:
        things: what is looked for; regions that touch none of them are not computed.
        base: bool (blocks, tokens): the masks that tokens are taken from.
        layers: zero-based blocks in which they are.
        batch: masks a forward at most.

    Attributes:
        universe: int (tokens,), raster indices of tokens that show the picture and that a block of the range
            uses.
        weights: int, how many do so, of each.
        forwards: masks that were run so far.
    """

    def __init__(
        self,
        detector: Detector,
        sample: Sample,
        things: Sequence[Thing],
        base: np.ndarray,
        layers: Sequence[int],
        batch: int,
        tell: Tell,
    ) -> None:
        self.detector, self.sample, self.things = detector, sample, things
        self.base, self.layers, self.batch, self._tell = base, list(layers), batch, tell
        padded = sample.padded_hw(detector.config.data.pad_multiple)
        self.grid = sample.grid(padded, detector.config.backbone.patch)
        uses = base[self.layers].sum(axis=0) * self.grid.valid_mask().ravel()
        self.universe = np.flatnonzero(uses)
        self.weights = uses[self.universe]
        self.forwards = 0

    def keeping(self, kept: Sequence[np.ndarray]) -> list[tuple[Hit, ...]]:
        """Hits of every thing where only some tokens of the universe stay in the range.

        Args:
            kept: raster indices, an array a trial.
        """
        masks = np.repeat(self.base[None], len(kept), axis=0)
        for mask, stay in zip(masks, kept, strict=True):
            gone = np.setdiff1d(self.universe, stay)
            mask[np.ix_(self.layers, gone)] = False
        return self.under(masks)

    def under(self, masks: np.ndarray) -> list[tuple[Hit, ...]]:
        """Hits of every thing under masks, bool (trials, blocks, tokens)."""
        order = np.argsort(masks.sum(axis=(1, 2)), kind="stable")
        found: dict[int, tuple[Hit, ...]] = {}
        for start in range(0, len(order), self.batch):
            part = order[start : start + self.batch]
            found |= zip(part.tolist(), self._run(masks[part]), strict=True)
            self.forwards += len(part)
            self._tell(len(part))
        return [found[place] for place in range(len(masks))]

    def _run(self, masks: np.ndarray) -> list[tuple[Hit, ...]]:
        samples = [self.sample] * len(masks)
        made = torch.from_numpy(masks).to(self.sample.image.device)
        edits = (Fixed({layer: made[:, layer] for layer in range(made.shape[1])}),)
        boxes = np.array([thing.box_xyxy for thing in self.things])
        with applied(self.detector, samples, edits):
            found = self.detector.predict(samples, near=[boxes] * len(masks))
        return [tuple(thing.hit(one) for thing in self.things) for one in found]
