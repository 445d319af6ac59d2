"""Several evaluations of one model on the same images: which ones there are to make, and their tables."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from svit.evaluation.slice_scores import slice_difference_table, slice_table
from svit.evaluation.summary import Summary, mean_and_spread
from svit.evaluation.summary_tables import (
    difference_table,
    kinds_in,
    layer_table,
    notes,
    result_table,
)
from svit.probing.equal_counts import DRAWN
from svit.probing.interventions import INTERVENTIONS
from svit.system import text

_BRACKETS = (
    "In brackets: 95 % percentile intervals over {units} ({draws} draws), not corrected for bias."
)
FIXED_MODES = ("threshold", "calibrated", "topk")  # inference modes that draw none


@dataclass(frozen=True)
class Choice:
    """One line of the table: inference mode (None is the method's own), intervention, seed."""

    inference: str | None
    intervene: str
    seed: int

    @property
    def name(self) -> str:
        """A folder's name."""
        return f"{self.inference or 'default'}-{self.intervene}-seed{self.seed}"


def choices(
    own_mode: str, modes: Sequence[str | None], interventions: Sequence[str], seeds: Sequence[int]
) -> list[Choice]:
    """All combinations, without repeating for further seeds what draws no random numbers.

    Args:
        own_mode: the method's inference mode; empty where it has only one way to decide.

    Raises:
        ValueError: an unknown intervention.
    """
    unknown = [name for name in interventions if name not in INTERVENTIONS]
    if unknown:
        raise ValueError(
            f"intervention: expected one of {', '.join(INTERVENTIONS)}, found {unknown[0]!r}"
        )
    return [
        Choice(mode, name, seed)
        for mode, name, seed in itertools.product(modes, interventions, seeds)
        if seed == seeds[0] or _draws(mode or own_mode, name)
    ]


def _draws(mode: str, name: str) -> bool:
    return name in DRAWN or (name not in ("on", "off") and mode not in FIXED_MODES)


def pairs_with_learned(summaries: Sequence[Summary]) -> list[tuple[Summary, Summary]]:
    """(learned, other) of the same inference mode, and of the same seed where learned drew numbers."""
    learned: dict[tuple[str, int], Summary] = {}
    first: dict[str, Summary] = {}
    for summary in _learned(summaries):
        facts = summary.provenance
        learned[facts["inference"], facts["seed"]] = summary
        first.setdefault(facts["inference"], summary)
    others = [s for s in summaries if s.provenance["intervention"] != "learned"]
    keys = [(s.provenance["inference"], s.provenance["seed"]) for s in others]
    partners = [learned.get(key, first.get(key[0])) for key in keys]
    return [(a, b) for a, b in zip(partners, others, strict=True) if a is not None]


def _by_slice(summaries: Sequence[Summary], pairs: Sequence[tuple[Summary, Summary]]) -> list[str]:
    parts = [f"By {', '.join(summaries[0].slices)}:", slice_table(summaries)]
    if pairs:
        parts += ["Differences there:", slice_difference_table(pairs)]
    return parts


def _learned(summaries: Sequence[Summary]) -> list[Summary]:
    return [s for s in summaries if s.provenance["intervention"] == "learned"]


def _groups(summaries: Sequence[Summary]) -> dict[tuple[str, str], list[Summary]]:
    """(inference, intervention) -> its seeds, in the order they came."""
    groups: dict[tuple[str, str], list[Summary]] = {}
    for summary in summaries:
        facts = summary.provenance
        masks = text.intervened(facts["intervention"], facts.get("layers"))
        groups.setdefault((facts["inference"] or "–", masks), []).append(summary)
    return groups


def report(summaries: Sequence[Summary]) -> str:
    """The tables of several evaluations as Markdown."""
    draws = len(summaries[0].drawn["box"].draws)
    units = "images" if summaries[0].videos is None else "videos"
    brackets = _BRACKETS.format(draws=draws, units=units)
    if np.isnan(summaries[0].drawn["box"].draws).all():
        brackets = f"One {units[:-1]} with objects tells nothing of others: there are no intervals."
    said = dict.fromkeys(itertools.chain.from_iterable(map(notes, summaries)))
    parts = [result_table(summaries), brackets, *said]
    if len(_groups(summaries)) < len(summaries):
        parts += ["Means over seeds, ± their standard deviation:", seed_table(summaries)]
    pairs = pairs_with_learned(summaries)
    if pairs:
        parts.append(
            f"Differences in AP points over the same {draws} draws of the {units}. P is the share of draws "
            "on which the learned masks are better:"
        )
        parts.append(difference_table(pairs))
    if summaries[0].slices:
        parts += _by_slice(summaries, pairs)
    if len({mode for mode, name in _groups(summaries) if name == "learned"}) > 1:
        parts += ["Keep ratios of the inference modes, valid tokens:", mode_table(summaries)]
    for summary in _learned(summaries):
        mode, seed = summary.provenance["inference"] or "default", summary.provenance["seed"]
        related = ", ".join(
            f"{name} {'undefined' if value is None else format(value, '+.2f')}"
            for name, value in summary.correlation.items()
        )
        parts.append(f"Keep ratios, inference {mode}, seed {seed}:")
        parts.append(layer_table(summary))
        parts.append(f"Correlation of an image's keep ratio over images: {related}.")
    return "\n\n".join(parts) + "\n"


def seed_table(summaries: Sequence[Summary]) -> str:
    """Markdown: a line an inference mode and intervention; AP in percent, each number over its seeds."""
    kinds = kinds_in(summaries)
    head = [
        "inference",
        "masks",
        "seeds",
        *(f"{kind} AP" for kind in kinds),
        "keep",
        "GMACs backbone",
    ]
    rows = []
    for (mode, name), group in _groups(summaries).items():
        cells = [mode, name, str(len(group))]
        cells += [_over(_defined([s.scores[kind]["AP"] for s in group]), 1) for kind in kinds]
        means = {
            column: [mean_and_spread(s.images[column])["mean"] for s in group]
            for column in ("keep_ratio", "macs_backbone")
        }
        cells.append(_over(means["keep_ratio"], 3))
        cells.append(_over([None if m is None else m / 1e9 for m in means["macs_backbone"]], 3))
        rows.append(cells)
    return text.table(head, rows)


def _defined(scores: Sequence[float]) -> list[float | None]:
    """COCO's -1 says that nothing of the kind was to be found."""
    return [None if score < 0 else score for score in scores]


def _over(values: Sequence[float | None], digits: int) -> str:
    """Mean over seeds, with the sample standard deviation where there are several."""
    known = [value for value in values if value is not None]
    if not known:
        return "–"
    mean = f"{np.mean(known):.{digits}f}"
    return mean if len(known) == 1 else f"{mean} ± {np.std(known, ddof=1):.{digits + 1}f}"


def mode_table(summaries: Sequence[Summary]) -> str:
    """Markdown: target and realised keep ratio of each gated block (from 1), a column an inference mode.

    Realised is the mean over images and seeds of the share of valid tokens used. The last line is the
    largest distance of a block from its target.
    """
    modes = {m: group for (m, name), group in _groups(summaries).items() if name == "learned"}
    layers = summaries[0].layers
    gated = layers[layers["gated"]]
    kept = {
        mode: np.mean(
            [s.layers.loc[gated.index, "keep_valid"].astype(float) for s in group], axis=0
        )
        for mode, group in modes.items()
    }
    rows = [
        [str(layer + 1), f"{target:.3f}", *(f"{values[place]:.3f}" for values in kept.values())]
        for place, (layer, target) in enumerate(zip(gated["layer"], gated["target"], strict=True))
    ]
    miss = [f"{np.abs(values - gated['target']).max():.3f}" for values in kept.values()]
    return text.table(["block", "target", *modes], [*rows, ["largest miss", "", *miss]])
