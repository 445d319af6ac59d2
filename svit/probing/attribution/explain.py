"""Which tokens a detection needs: taken away and given back in several orders, the smallest set that
suffices, and what giving pruned tokens back in one block changes. docs/attribution.md says it for readers.

    options = Options()
    things = things_of(detected=as_target(found))
    explained = explain(detector, sample, [things[0]], options)

Masks stay as they are but for what is taken away: gates do not answer to it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd
import torch

from svit.core.attribution import MASKS, ORDERS, SOURCES, Explanation, Hit, Thing
from svit.core.types import Detections, Target
from svit.data.samples import Sample
from svit.detectors.base import Detector, image_seed
from svit.probing.attribution import orders as by
from svit.probing.attribution.blocks import given_back
from svit.probing.attribution.curves import Order, end_points, measured_curves
from svit.probing.attribution.options import AttributionError, Options
from svit.probing.attribution.sets import sets_beside, smallest_sets
from svit.probing.attribution.signals import Signals, measured
from svit.probing.attribution.trials import Tell, Trials
from svit.probing.interventions import gated_layers
from svit.system.text import blocks, counted

SHARED = tuple(order for order in ORDERS if order != "object-centre")  # the same for all objects


def things_of(target: Target | None = None, detected: Target | None = None) -> list[Thing]:
    """Annotated objects (no crowds) and detections (`as_target`) that can be explained, each by its number
    from 1."""
    found = []
    for source, one in zip(SOURCES, (target, detected), strict=True):
        places = range(0 if one is None else len(one))
        found += [
            Thing(source, place + 1, one[[place]]) for place in places if not one.crowd[place]
        ]
    return found


def as_target(found: Detections) -> Target:
    """Detections as if they were annotated."""
    masks = found.masks
    whole = np.zeros((len(found), 1, 1), bool) if masks is None else masks
    there = np.full(len(found), masks is not None)
    return Target(found.boxes_xyxy, found.labels, whole, has_mask=there)


def ranged_layers(detector: Detector, options: Options) -> tuple[int, ...]:
    """The zero-based blocks in which tokens are taken away.

    Raises:
        AttributionError: the model lacks one, or merges tokens, whose masks alone say little.
    """
    method = detector.backbone.method
    if method.traits.merges:
        raise AttributionError(
            f"{detector.config.name!r} merges tokens, and what is taken from a group is not defined here: "
            "explain the same weights without merges (pruning.method=dense)"
        )
    layers = gated_layers(method) if options.layers is None else sorted(set(options.layers))
    if not layers or not 0 <= layers[0] <= layers[-1] < method.depth:
        raise AttributionError(
            f"blocks: this model has blocks 1 to {method.depth}, found {blocks(layers) or 'none'}"
        )
    return tuple(layers)


def planned(detector: Detector, options: Options, things: int = 1) -> int:
    """How many forwards explaining so many objects of a picture takes at most."""
    layers = ranged_layers(detector, options)
    shared = [order for order in options.orders if order in SHARED]
    runs = len(shared) + ("random" in shared) * (options.draws - 1)
    curves = 2 * (options.steps - 1)
    own = curves * ("object-centre" in options.orders)
    if options.searches:
        own += options.searches * options.budget + options.draws + len(options.orders)
    if options.forced:
        own += (len(layers) + 1) * (2 + options.draws)
    return 3 + min(things, len(MASKS)) * (2 + runs * curves) + things * own


@torch.no_grad()
def explain(
    detector: Detector,
    sample: Sample,
    things: Sequence[Thing],
    options: Options,
    tell: Tell = lambda forwards: None,
) -> list[Explanation]:
    """Explains objects of one picture, in their order; what is the same for all of them runs once.

    Args:
        detector: in evaluation mode.
        sample: the picture, on the detector's device.
        tell: is told of finished forwards; whatever it raises ends the work and leaves the model as it was.

    Raises:
        AttributionError: the range or the picture has nothing to take away.
    """
    layers = ranged_layers(detector, options)
    signals = measured(detector, sample)
    tell(1)
    own = [thing.hit(signals.detections) for thing in things]
    found: dict[int, Explanation] = {}
    for masks in MASKS:
        places = [i for i, hit in enumerate(own) if _masks(hit, options) == masks]
        if places:
            group = _Group(detector, sample, [things[i] for i in places], signals, masks, layers)
            parts = group.explained(options, [own[i] for i in places], tell)
            found |= zip(places, parts, strict=True)
    return [found[place] for place in range(len(things))]


def _masks(own: Hit, options: Options) -> str:
    return options.masks or ("own" if own.score >= options.least else "all")


class _Group:
    """Objects of one picture whose tokens are taken from the same masks."""

    def __init__(
        self,
        detector: Detector,
        sample: Sample,
        things: Sequence[Thing],
        signals: Signals,
        masks: str,
        layers: tuple[int, ...],
    ) -> None:
        self.detector, self.sample, self.things = detector, sample, things
        self.signals, self.masks, self.layers = signals, masks, layers
        self.decided = signals.trace.keep.reshape(signals.trace.layers, -1)
        self.base = self.decided.copy()
        if masks == "all":
            self.base[list(layers)] |= signals.trace.grid.valid_mask().ravel()

    def explained(self, options: Options, own: list[Hit], tell: Tell) -> Iterator[Explanation]:
        """One by one, after what they share."""
        trials = self._trials(self.things, options, tell)
        if len(trials.universe) < 2:
            raise AttributionError(
                f"image {self.sample.image_id!r}: {blocks(self.layers)} use "
                f"{counted(len(trials.universe), 'tokens')} of it, and an order needs two: take a larger "
                "picture, earlier blocks, or masks=all"
            )
        full, none = trials.keeping([trials.universe, trials.universe[:0]])
        shared = list(self._orders(trials, options))
        if not shared and "object-centre" not in options.orders:
            raise AttributionError(
                f"{self.detector.config.name!r} gives nothing to order tokens by {', '.join(options.orders)} "
                f"in {blocks(self.layers)}; the other orders are {', '.join(ORDERS)}"
            )
        rows = measured_curves(trials, shared, options.steps)
        for place, thing in enumerate(self.things):
            alone = self._trials([thing], options, tell)
            ends = full[place], none[place]
            yield self._one(alone, options, own[place], ends, [*shared], rows[place], trials)

    def _trials(self, things: Sequence[Thing], options: Options, tell: Tell) -> Trials:
        return Trials(
            self.detector, self.sample, things, self.base, self.layers, options.batch, tell
        )

    def _orders(self, trials: Trials, options: Options) -> Iterator[Order]:
        """Orders that do not depend on the object: name, draw, tokens."""
        universe, image_id = trials.universe, self.sample.image_id
        values = by.amounts(self.signals, self.layers, options.orders)
        for name, of_tokens in values.items():
            if not np.ptp(of_tokens[universe]):
                continue  # ties all round are broken by a draw: it would be a random order
            yield name, 0, by.ranked(of_tokens, universe, image_seed(image_id, options.seed))
        if "picture-centre" in options.orders:
            yield "picture-centre", 0, by.by_picture_centre(trials.grid, universe)
        if "random" in options.orders:
            for draw in range(options.draws):
                yield "random", draw, by.at_random(universe, image_id, options.seed, draw)

    def _one(
        self,
        trials: Trials,
        options: Options,
        own: Hit,
        ends: tuple[Hit, Hit],
        ordered: list[Order],
        rows: list[dict],
        shared: Trials,
    ) -> Explanation:
        thing, (full, none) = trials.things[0], ends
        if "object-centre" in options.orders:
            centre = by.by_object_centre(trials.grid, trials.universe, thing)
            mine = [("object-centre", 0, centre)]
            rows = [*rows, *measured_curves(trials, mine, options.steps)[0]]
            ordered = [*ordered, *mine]
        rows = [*rows, *end_points(ordered, full, none, trials)]
        curves = pd.DataFrame(rows).sort_values("share", kind="stable", ignore_index=True)
        sets, beside = (), []
        if options.searches and full.score > 0:
            sets = tuple(smallest_sets(trials, options, ends, ordered, curves))
            beside = sets_beside(trials, options, full, ordered, sets[0])
        forced = (
            list(given_back(trials, self.decided, options.draws, options.seed))
            if options.forced
            else []
        )
        return Explanation(
            self.sample.image_id,
            thing.source,
            thing.number,
            thing.label,
            thing.box_xyxy,
            trials.grid,
            self.masks,
            self.layers,
            own,
            full,
            none,
            int(trials.weights.sum()),
            curves if full.score > 0 else curves[:0],
            sets,
            pd.DataFrame(beside),
            pd.DataFrame(forced),
            3 + shared.forwards + trials.forwards,
        )
