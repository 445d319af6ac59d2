"""A number over images with its draws of the images anew: intervals, and paired differences. No torch.

Percentile intervals, and draws shared by what is compared: Efron and Tibshirani, An Introduction to the
Bootstrap, chapters 13 and 8.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

LEVEL = 0.95


def with_ends(value: float, low: float, high: float, form: str = ".1f") -> str:
    """A number with the ends of its interval, as "1.3 [0.4, 2.1]"; alone where they are not known (NaN).

    Args:
        form: of each; "+.1f" of differences.
    """
    return f"{value:{form}}" + ("" if math.isnan(low) else f" [{low:{form}}, {high:{form}}]")


@dataclass(frozen=True)
class Interval:
    """A value with its percentile bootstrap interval, not corrected for bias.

    Attributes:
        value: on the images as they are.
        low, high: percentiles of the draws, e.g. 2.5 and 97.5 for 95 %; NaN of a single image.
        draws: how often the images were drawn.
    """

    value: float
    low: float
    high: float
    draws: int

    @property
    def bounds(self) -> tuple[float, float]:
        """(low, high) of the interval."""
        return self.low, self.high

    def __str__(self) -> str:
        return with_ends(self.value, *self.bounds)


@dataclass(frozen=True, eq=False)
class Drawn:
    """A statistic of images, and the same on each draw of them.

    Of two with equal keys, draw i held the same images: their difference is paired, draw by draw.

    Attributes:
        value: on the images as they are.
        draws: float64 (draws,), on each draw; NaN of a single image, which tells nothing of others, and of
            draws on which it is not defined (AP without an object): these are left out.
        key: names the images and the draws.
    """

    value: float
    draws: np.ndarray
    key: str

    @property
    def _known(self) -> np.ndarray:
        return self.draws[~np.isnan(self.draws)]

    def interval(self, level: float = LEVEL) -> Interval:
        """The percentile interval."""
        ends, known = [50 * (1 - level), 50 * (1 + level)], self._known
        low, high = np.percentile(known, ends) if len(known) else (math.nan, math.nan)
        return Interval(self.value, float(low), float(high), len(self.draws))

    @property
    def above(self) -> float:
        """Share of the draws above zero, equal ones by half; NaN where they are. Of a difference own - other:
        how often own wins on images drawn anew, P(own > other)."""
        known = self._known
        return float(np.mean(known > 0) + np.mean(known == 0) / 2) if len(known) else math.nan

    @property
    def signed(self) -> str:
        """A difference with its interval, as "+1.3 [+0.4, +2.1]"."""
        return with_ends(self.value, *self.interval().bounds, "+.1f")

    def __sub__(self, other: Drawn) -> Drawn:
        return combined((self, other), (1.0, -1.0))


def combined(parts: Sequence[Drawn], weights: Sequence[float]) -> Drawn:
    """The weighted sum on the images and on each draw: differences, means over trainings, points of a curve.

    Raises:
        ValueError: they are of other images or other draws, so nothing would be paired.
    """
    keys = {part.key for part in parts}
    if len(keys) != 1:
        raise ValueError(
            "expected numbers of the same images and draws, which alone are paired; found "
            f"{' and '.join(sorted(keys)) or 'none'}"
        )
    value = sum(weight * part.value for weight, part in zip(weights, parts, strict=True))
    draws = sum(weight * part.draws for weight, part in zip(weights, parts, strict=True))
    return Drawn(float(value), draws, parts[0].key)


def at_share(shares: Sequence[float], curve: Sequence[Drawn], share: float) -> Drawn:
    """A model's number where it would keep a given share of its tokens: on the straight line between its
    two measured neighbours.

    Args:
        shares: what the model kept at each point of the curve.

    Raises:
        ValueError: no two points, or the share lies outside of the curve: nothing is extrapolated.
    """
    order = np.argsort(shares, kind="stable")
    known = np.asarray(shares, float)[order]
    if len(known) < 2 or not known[0] <= share <= known[-1]:
        raise ValueError(f"expected a share within the measured ones, {known}, found {share}")
    after = int(np.clip(np.searchsorted(known, share), 1, len(known) - 1))
    low, high = known[after - 1 : after + 1]
    part = (share - low) / (high - low) if high > low else 0.0
    return combined([curve[place] for place in order[after - 1 : after + 1]], (1 - part, part))


def resampled(
    statistic: Callable[[np.ndarray], float | np.ndarray],
    images: int,
    draws: int = 1000,
    seed: int = 0,
    name: str = "",
    together: bool = False,
    unit: str = "images",
) -> Drawn:
    """A statistic of image weights on the images, and on draws of as many with replacement.

    Args:
        name: of the images, where more than their number tells them from others.
        together: the statistic takes the weights of many draws, int64 (draws, images), and gives (draws,).
        unit: what they are.
    """
    drawn = draws if images > 1 else 0
    random = np.random.default_rng(seed)
    counts = random.multinomial(images, np.full(images, 1 / images), size=drawn)
    every = np.concatenate([np.ones((1, images), np.int64), counts])
    found = statistic(every) if together else [statistic(weights) for weights in every]
    values = np.asarray(found, float)
    key = f"{images} {unit}{f' {name}' if name else ''}, {draws} draws of seed {seed}"
    return Drawn(float(values[0]), values[1:] if drawn else np.full(draws, np.nan), key)


def resampled_images(
    statistic: Callable[[np.ndarray], float | np.ndarray],
    ids: Sequence[int | str],
    draws: int,
    seed: int,
    members: np.ndarray | None = None,
    together: bool = False,
    videos: np.ndarray | None = None,
) -> Drawn:
    """`resampled` of named images, or of some among them; the others weigh 0 in every draw.

    Args:
        statistic: of weights, int64 (ids,).
        members: bool (ids,), the images that are meant and drawn from; None for all.
        together: as of `resampled`.
        videos: int (ids,), equal for images that are drawn together: frames of one video are no separate
            scenes; None draws each image by itself.

    Raises:
        ValueError: there are none.
    """
    meant = np.ones(len(ids), bool) if members is None else np.asarray(members, bool)
    if not meant.any():
        raise ValueError("expected images to draw from, found none with annotations and detections")
    units = np.arange(len(ids)) if videos is None else np.asarray(videos)
    drawn, place = np.unique(units[meant], return_inverse=True)

    def of_members(weights: np.ndarray) -> float | np.ndarray:
        whole = np.zeros((*weights.shape[:-1], len(ids)), np.int64)
        whole[..., meant] = weights[..., place]
        return statistic(whole)

    named = image_key([image_id for image_id, one in zip(ids, meant, strict=True) if one])
    if videos is None:
        return resampled(of_members, len(drawn), draws, seed, named, together)
    named = f"{named} {image_key(place.tolist())}"
    return resampled(of_members, len(drawn), draws, seed, named, together, "videos")


def image_key(ids: Sequence[int | str]) -> str:
    """Eight letters that name images, by which `resampled` tells them from others."""
    return hashlib.sha256(json.dumps(list(ids)).encode()).hexdigest()[:8]


def bootstrap(
    statistic: Callable[[np.ndarray], float],
    images: int,
    draws: int = 1000,
    seed: int = 0,
    level: float = LEVEL,
    videos: np.ndarray | None = None,
) -> Interval:
    """Percentile interval of a statistic of image weights under drawing images with replacement.

    Args:
        videos: as of `resampled_images`.
    """
    if videos is None:
        return resampled(statistic, images, draws, seed).interval(level)
    return resampled_images(statistic, range(images), draws, seed, videos=videos).interval(level)


def probability(share: float, draws: int) -> str:
    """A share of draws in words that claim no more than so many draws can tell: "0.97", ">0.999"; "" where
    it is not known (NaN)."""
    if math.isnan(share):
        return ""
    least, digits = 1 / draws, max(2, math.ceil(math.log10(draws)))
    if share > 1 - least:
        return f">{1 - least:.{digits}f}"
    if share < least:
        return f"<{least:.{digits}f}"
    return f"{share:.{2 if 0.01 <= share <= 0.99 else digits}f}"
