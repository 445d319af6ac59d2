"""What became of a detection while tokens were taken away or given back, and what follows from it. No torch.

`svit.probing.attribution` makes these records, docs/attribution.md says how; `svit.runs.attributions` keeps
them beside a run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import pandas as pd

from svit.core.finding import overlaps
from svit.core.statistics import Drawn, image_key, resampled
from svit.core.types import Detections, ImageId, Target, TokenGrid

FOUND = 0.5  # least box IoU with an object of the detection that finds it
ORDERS = (
    *("gates", "usage", "attention", "update"),  # what the model itself does with a token
    *("object-centre", "picture-centre", "random"),  # controls
)
MODES = ("deletion", "insertion")
SOURCES = ("annotation", "detection")
MASKS = ("own", "all")


@dataclass(frozen=True)
class Hit:
    """How well an object is found.

    Attributes:
        score: the highest of a detection of its class with a box IoU of at least `FOUND`; 0 without one.
        iou: mask IoU of that detection with the object (box IoU where it has no mask); 0 without one.
    """

    score: float = 0.0
    iou: float = 0.0


@dataclass(frozen=True, eq=False)
class Thing:
    """What is asked about: an annotated object, or a detection of the model itself.

    Attributes:
        source: one of `SOURCES`.
        number: its place among them, from 1; the first detection has the highest score.
        target: itself, alone, in source pixels.
    """

    source: str
    number: int
    target: Target

    @property
    def label(self) -> int:
        """Its class."""
        return int(self.target.labels[0])

    @property
    def box_xyxy(self) -> tuple[float, ...]:
        """Its box in source pixels."""
        return tuple(self.target.boxes_xyxy[0].tolist())

    def hit(self, found: Detections) -> Hit:
        """How well detections with masks find it."""
        same = np.flatnonzero(found.labels == self.label)
        near = overlaps(found, same, self.target, np.array([0]), "box")[:, 0] >= FOUND
        if not near.any():
            return Hit()
        best = same[near][np.argmax(found.scores[same[near]])]
        kind = "mask" if self.target.has_mask[0] and found.coded is not None else "box"
        iou = overlaps(found, np.array([best]), self.target, np.array([0]), kind)[0, 0]
        return Hit(float(found.scores[best]), float(iou))


@dataclass(frozen=True)
class TokenSet:
    """Tokens that suffice, found by one search.

    Attributes:
        tokens: raster indices in the padded grid, ascending.
        uses: how often blocks of the range use them.
        start: how many tokens the search began with; it only takes some away.
        minimal: whether it was tried that no single token more can go.
        forwards: that the search took.
    """

    tokens: tuple[int, ...]
    uses: int
    score: float
    iou: float
    start: int
    minimal: bool
    forwards: int


@dataclass(frozen=True, eq=False)
class Explanation:
    """What one object needs.

    Attributes:
        image_id, source, number, label, box_xyxy: what was asked about, as `Thing`.
        grid: geometry of the tokens.
        masks: what tokens are taken from: the masks that the model decides ("own"), or all tokens ("all").
        layers: zero-based blocks of the range in which tokens are taken away.
        own: as the model decides.
        full, none: with all, and none, of what may be taken away.
        uses: pairs of a token and a block of the range that may be taken away: 100 % of all shares.
        curves: a row a measured point: order, draw, mode, share (of `uses` taken away or given), tokens,
            score, iou.
        sets: what the searches found, the smallest first.
        beside: other tokens with at least as many uses as the smallest set: kind (an order), draw, tokens,
            uses, members (raster indices), score, iou, enough.
        forced: pruned tokens given back in one block (from 1; 0: in all of the range): block, kind (object,
            elsewhere, all), draw, tokens, score, iou.
        forwards: how often the model ran.
    """

    image_id: ImageId
    source: str
    number: int
    label: int
    box_xyxy: tuple[float, ...]
    grid: TokenGrid
    masks: str
    layers: tuple[int, ...]
    own: Hit
    full: Hit
    none: Hit
    uses: int
    curves: pd.DataFrame
    sets: tuple[TokenSet, ...]
    beside: pd.DataFrame
    forced: pd.DataFrame
    forwards: int

    @property
    def stability(self) -> tuple[float, float]:
        """Mean IoU of the sets of each two searches, and what two random parts of the tokens that the
        searches began with, as large, have on average; NaN for fewer than two searches."""
        shared, chance = [], []
        for one, other in combinations(self.sets, 2):
            first, second = set(one.tokens), set(other.tokens)
            if not first | second:  # no token is needed
                shared, chance = [*shared, 1.0], [*chance, 1.0]
                continue
            shared.append(len(first & second) / len(first | second))
            both = len(first) * len(second) / one.start
            chance.append(both / (len(first) + len(second) - both))
        return (float(np.mean(shared)), float(np.mean(chance))) if shared else (np.nan, np.nan)

    def areas(self) -> pd.DataFrame:
        """Areas under the curves of the score by the trapezoidal rule, in points (a score of 1 throughout is
        100): mode, order, draw, area. Of deletion a small one, of insertion a large one tells that the order
        knows what the detection needs."""
        columns = ["mode", "order", "draw"]
        rows = [
            (*key, 100 * _area(rows["share"].to_numpy(), rows["score"].to_numpy()))
            for key, rows in self.curves.sort_values("share", kind="stable").groupby(
                columns, sort=False
            )
        ]
        return pd.DataFrame(rows, columns=[*columns, "area"])


def _area(x: np.ndarray, y: np.ndarray) -> float:
    return float(np.diff(x) @ (y[1:] + y[:-1]) / 2)


def summary(
    explanations: Sequence[Explanation],
    draws: int = 1000,
    videos: Mapping[ImageId, ImageId] | None = None,
) -> pd.DataFrame:
    """Areas over many objects, random orders as the mean of their draws, with 95 % percentile intervals over
    draws of the images.

    Args:
        videos: of each image, where all are frames (`svit.runs.frames.videos_of`): they are drawn whole.

    Columns: mode; order; objects; images; area with low and high; and of every order but the first: minus
    (the first order's area minus its own, paired object by object) with minus_low, minus_high, and above
    (share of the draws in which the first order has more); NaN where one of both is left out of some objects.

    Raises:
        ValueError: no explanation has curves.
    """
    table = pd.concat(
        [
            one.areas().assign(image=[one.image_id] * len(one.areas()), object=place)
            for place, one in enumerate(explanations)
            if len(one.curves)
        ]
        or [pd.DataFrame()]
    )
    if table.empty:
        raise ValueError("none of the objects has curves: the model finds none of them")
    keys = ["mode", "order", "image", "object"]
    means = table.groupby(keys, sort=False)["area"].mean().reset_index()
    rows = []
    for mode in MODES:
        sides = {
            order: own for order, own in means[means["mode"] == mode].groupby("order", sort=False)
        }
        drawn = {order: _drawn(own, draws, videos) for order, own in sides.items()}
        first, *others = drawn
        pairs = sides[first][["image", "object"]].values.tolist()
        for order, own in sides.items():
            ends = drawn[order].interval()
            row = {"mode": mode, "order": order, "objects": len(own)}
            row |= {"images": own["image"].nunique()}
            row |= {"area": ends.value, "low": ends.low, "high": ends.high}
            same = own[["image", "object"]].values.tolist() == pairs
            known = order in others and same
            rows.append(row | (_difference(drawn[first] - drawn[order]) if known else {}))
    return pd.DataFrame(rows)


def _difference(apart: Drawn) -> dict[str, float]:
    ends = apart.interval()
    names = {"minus": ends.value, "minus_low": ends.low, "minus_high": ends.high}
    return names | {"above": apart.above}


def _drawn(areas: pd.DataFrame, draws: int, videos: Mapping[ImageId, ImageId] | None) -> Drawn:
    """The mean over objects, images (or videos) drawn anew with all their objects."""
    units = areas["image"] if videos is None else areas["image"].map(videos)
    by_image = areas.groupby(units)["area"].agg(["sum", "size"])
    totals, counts = by_image["sum"].to_numpy(float), by_image["size"].to_numpy(float)
    key = image_key(by_image.index.tolist())
    return resampled(lambda w: float(w @ totals / (w @ counts)), len(totals), draws, name=key)
