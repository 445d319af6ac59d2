"""Accuracies of classifiers, read back: what `svit.evaluation.classify` measured, and of which model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from analysis.sources.control_gain import CONTROLS
from analysis.sources.evaluations import EvaluationError, Facts, facts_of
from svit.core.statistics import Drawn, image_key, resampled, with_ends
from svit.system.files import FileError, read_json

ACCURACY = "accuracy.json"
KINDS = {"top1": "1", "top5": "15"}  # which letters of `hits` count


@dataclass(frozen=True)
class Classified:
    """One `accuracy.json`.

    Attributes:
        path: its folder.
        told: its content (`svit.evaluation.classify.Accuracy`).
    """

    path: Path
    told: dict[str, Any]

    @property
    def provenance(self) -> dict[str, Any]:
        """What the numbers follow from."""
        return self.told["provenance"]

    @cached_property
    def facts(self) -> Facts:
        """Those of an evaluation, as far as they are of a classifier; it has no neck."""
        trained = self.provenance.get("trained") or {}
        config = {**self.provenance["classifier"], "train": trained}
        config["name"] = f"{config['pruning']['method']} classifier"
        config["backbone"] = config["backbone"] | {"neck": "no"}
        return facts_of({**self.provenance, "config": config}, self.images)

    @property
    def images(self) -> int:
        """How many were looked at."""
        return len(self.told["hits"])

    @property
    def keep_ratio(self) -> float:
        """Mean share of tokens that the blocks with a target below 1 used; 1 where there is none."""
        pairs = zip(self.told["keep"], self.facts.targets, strict=True)
        kept = [share for share, target in pairs if target < 1]
        return float(np.mean(kept)) if kept else 1.0

    def drawn(self, kind: str) -> Drawn:
        """Per cent of one of `KINDS`, on the images and on 1,000 draws of them; paired on equal images."""
        hits = np.array([letter in KINDS[kind] for letter in self.told["hits"]], np.int64)
        name = image_key([self.facts.data_sha256])
        return resampled(
            lambda weights: 100 * hits @ weights / weights.sum(), self.images, name=name
        )


def alike(one: Classified, other: Classified) -> bool:
    """Whether two accuracies may be subtracted: of equal pictures and sizes, and trained alike."""

    def shared(of: Classified) -> tuple:
        facts = of.facts
        return facts.data_sha256, of.images, facts.size, of.provenance.get("trained")

    return shared(one) == shared(other)


def read_accuracy(path: Path) -> Classified:
    """One `accuracy.json`.

    Raises:
        EvaluationError: it cannot be read.
    """
    remedy = "classify again, or leave the folder out"
    try:
        found = Classified(path.parent, read_json(path, remedy))
        found.keep_ratio, found.drawn("top5")  # noqa: B018
    except (FileError, KeyError, TypeError, ValueError) as error:
        raise EvaluationError(
            f"{path} is no accuracy of a classifier ({type(error).__name__}: {error}); {remedy}"
        ) from error
    return found


def frame(results: Sequence[Classified]) -> pd.DataFrame:
    """One row an accuracy.

    Columns: data, images, model, masks, seed of its training, keep_ratio, top1 and top5 in per cent with the
    ends of their 95 % percentile intervals over images, own_minus: top-1 of the same weights with their own
    masks minus this one, with its paired interval (NaN for their own), path.
    """
    rows = []
    for one in results:
        facts = one.facts
        row = {"data": facts.data, "images": one.images, "model": facts.model}
        row |= {"masks": facts.source[2], "seed": facts.training_seed, "keep_ratio": one.keep_ratio}
        for kind in KINDS:
            interval = one.drawn(kind).interval()
            row |= {
                kind: interval.value,
                f"{kind}_low": interval.low,
                f"{kind}_high": interval.high,
            }
        rows.append(row | _own_minus(one, results) | {"path": one.path.as_posix()})
    return pd.DataFrame(rows)


def own_of(one: Classified, results: Sequence[Classified]) -> Classified | None:
    """The same weights with their own masks on the same pictures; None where they were not measured."""
    weights = one.provenance["weights_sha256"]
    for other in results:
        same = other.facts.decides and other.provenance["weights_sha256"] == weights
        if same and alike(one, other):
            return other
    return None


def _own_minus(one: Classified, results: Sequence[Classified]) -> dict[str, float]:
    own = None if one.facts.decides else own_of(one, results)
    if own is None:
        return dict.fromkeys(("own_minus", "own_minus_low", "own_minus_high"), np.nan)
    apart = own.drawn("top1") - one.drawn("top1")
    low, high = apart.interval().bounds
    return {"own_minus": apart.value, "own_minus_low": low, "own_minus_high": high}


def table(results: Sequence[Classified]) -> pd.DataFrame:
    """`frame` as text, a row a line: what a page shows."""
    rows = []
    for row in frame(results).to_dict("records"):
        kinds = {f"top-{kind[3:]}, %": _told(row, kind, "") for kind in KINDS}
        rows.append(
            {
                "data": f"{row['data']}, {row['images']} images",
                "model": row["model"],
                "masks": CONTROLS.get(row["masks"], row["masks"]).replace("learned", "own"),
                "seed": str(row["seed"]),
                **kinds,
                "kept": f"{row['keep_ratio']:.3f}",
                "own − these": "–" if np.isnan(row["own_minus"]) else _told(row, "own_minus", "+"),
            }
        )
    return pd.DataFrame(rows)


def _told(row: dict[str, Any], name: str, sign: str) -> str:
    return with_ends(row[name], row[f"{name}_low"], row[f"{name}_high"], f"{sign}.1f")
