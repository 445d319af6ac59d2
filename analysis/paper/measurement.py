"""What a measurement for the claim ledger is, and what is said of one that was left out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from analysis.sources import labels
from analysis.sources.evaluations import Facts

FEW_IMAGES = 30  # below, a measurement shows neither a direction nor that something is absent
PAPER_RATIO = 0.7


class Wanted(Protocol):
    """What of a claim (`analysis.paper.claims.Claim`) decides what is measured."""

    model: str
    against: str
    size: str
    measure: str

    @property
    def ratios(self) -> tuple[float | None, float | None]:
        """Base keep ratios of the model and of the one it is compared with; None is any."""


@dataclass(frozen=True)
class Measurement:
    """A measured value of a claim's quantity; it belongs to one data set.

    Attributes:
        value: in the claim's unit; yes and no are 1 and 0.
        low, high: what the value could be by the noise that is known; NaN where none is.
        noise: what that noise is of, in words; empty where none is known.
        above: how often the value is above zero on images drawn anew, where its noise is paired; else NaN.
        draws: how many times they were drawn for that; 0 where they were not.
        facts: of the model.
        sources: folders.
        exact: of the kind that the claim is about.
        by_seed: training seed -> value; empty of what one training alone was measured on.
        images: of each; 0 of speeds, which pictures do not change.
        kept: share of tokens in the blocks that prune, of the model and of the one compared with.
        place: machine and sizes of a speed; empty for what depends on data instead.
        remarks: what a reader should know of how it came about.
    """

    value: float
    low: float
    high: float
    noise: str
    facts: Facts
    sources: tuple[str, ...]
    exact: bool
    by_seed: Mapping[int, float] = field(default_factory=dict)
    images: int = 0
    kept: tuple[float, ...] = ()
    place: str = ""
    remarks: tuple[str, ...] = ()
    above: float = float("nan")
    draws: int = 0

    @property
    def of(self) -> str:
        """Model, and data or machine."""
        return f"{labels.of_facts(self.facts)} on {self.place or self.facts.data}"

    @property
    def agree(self) -> bool:
        """Whether all trainings have the value on the same side of zero."""
        values = list(self.by_seed.values())
        return all(one > 0 for one in values) or all(one < 0 for one in values)


@dataclass(frozen=True)
class LeftOut:
    """A result that is of a claim's model and does not count for it.

    Attributes:
        name: folder of the row and line, or of the run.
        cause: in words.
    """

    name: str
    cause: str


def unfit(facts: Facts, ratio: float | None) -> str:
    """Why a model is not the one that a claim at a base keep ratio (None: any) speaks of; empty if it is."""
    if not facts.decides:
        return "masks that are not its own"
    if facts.method == "dense" or ratio is None:
        return ""
    wanted, found = stage_ratios(ratio), pruned_ratios(facts)
    if found != wanted:
        return f"keep ratios {_joined(found)}, not {_joined(wanted)}"
    if facts.dial:
        return f"trained for {facts.trained_ratio:g} and set to {facts.base_ratio:g}"
    return ""


def stage_ratios(base: float) -> tuple[float, ...]:
    """The keep ratios of a base ratio r: r, r², r³ (paper 4)."""
    return tuple(round(base**stage, 6) for stage in (1, 2, 3))


def pruned_ratios(facts: Facts) -> tuple[float, ...]:
    """The different targets below one, largest first."""
    found = {round(target, 6) for target in facts.targets if target < 1}
    return tuple(sorted(found, reverse=True))


def exact(facts: Facts, size: str, ratio: float | None = None) -> bool:
    """Whether a model on its data is what the paper speaks of: size, neck, keep ratios, COCO val.

    Args:
        ratio: base keep ratio; None is the paper's.
    """
    right_size = facts.size == size if size else facts.size in ("tiny", "small")
    body = right_size and facts.neck == "adapter" and facts.data == "COCO val2017"
    return body and not unfit(facts, PAPER_RATIO if ratio is None else ratio)


def _joined(ratios: tuple[float, ...]) -> str:
    return "/".join(f"{ratio:g}" for ratio in ratios) or "1"
