"""The claim ledger: what the paper says, what was measured, and whether the two can be compared.

`claims.csv` has a row for every number of Tables 1-5 and every claim of the text; what the supplement is
said to hold is marked so. Paper values, measured ones and those of other people (`foreign.csv`, with address
and commit) stay in columns of their own, and a measured number belongs to one data set: worlds are never
pooled.

A measurement counts for a claim only if it is of the same kind (model, size, neck, keep ratios, COCO val2017
complete); then the verdict is `confirmed` or `contradicted`. Anything else (a nano model on drawn shapes)
leaves the verdict `not tested`; where the claim is relative, it says whether the direction is the same.

Like is compared with like: two APs are subtracted only if both models decide their masks themselves, at the
keep ratios that the claim is about and were trained for, on the same images at the same size, with the same
body, framework and precision, from the same start, by the same recipe, equally long, seed by seed. What does
not fit is left out, and the ledger says why; only trainings that differ in nothing but seeds are averaged.

A direction needs more than the noise that its row prints: the paired 95 % interval over images where the
matches of both evaluations are there, else the two intervals in quadrature, which is wide; quartiles over
rounds for speeds; images drawn anew for recordings. It is `unclear` where the interval reaches the bound or
zero, where trainings with other seeds have the other sign, on fewer than 30 images, and where an ablation
keeps over 0.01 more of its tokens than what it is compared with. "No change" has the direction `same` only
if the whole interval is within the tolerance. The noise of the training itself shows in the values seed by
seed; with one seed it is unknown.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from analysis.paper.foreign import foreign
from analysis.paper.measurement import FEW_IMAGES, LeftOut, Measurement
from analysis.paper.measurements import measurements
from analysis.sources.collection import Collection
from analysis.sources.evaluations import PAPER_TARGETS, EvaluationError

CLAIMS = Path(__file__).with_name("claims.csv")
FEW_NAMES = 3  # of results, that a sentence can hold
KEPT = 0.01  # two models keep equally many of their tokens up to this share
CONFIRMED, CONTRADICTED, NOT_TESTED = "confirmed", "contradicted", "not tested"
PRINTED = {  # quantity in Table 5 -> column
    "box AP": "box_ap",
    "mask AP": "mask_ap",
    "FPS whole": "fps",
    "FPS backbone": "fps_backbone",
}
ROUNDED = {"points": 0.051, "images/s": 0.0051, "%": 1.0}  # what rounding may cost a derived number


@dataclass(frozen=True)
class Claim:
    """One row of `claims.csv`.

    Attributes:
        id: unique; `derived` refers to it.
        where: table or section of the paper.
        statement: what it says.
        model: method and variant (`evaluations.Facts.model`) it is about; empty: several.
        against: the model it is compared with, or empty.
        size: tiny, small, or empty for either.
        ratio: base keep ratio of the model; empty for any, or a dense one.
        against_ratio: that of the other.
        quantity: what is measured.
        paper: the printed value: a number, yes, no, or a word.
        unit: of the value.
        relation: "=" within the tolerance, ">" or "<=".
        tolerance: in the unit; 0.5 AP is the noise of porting the dense model (methods.md 1), 0.3
            that of a difference between two fine-tuned models.
        measure: key of the computation, `measurements.MEASURES`; empty: nothing here measures it.
        derived: how the value follows from other rows: "= A", "= A - B", "> A - B", "% A / B"
            (100 A / B - 100), "cube R".
        needs: what would measure it where no measure does.
    """

    id: str
    where: str
    statement: str
    model: str
    against: str
    size: str
    ratio: str
    against_ratio: str
    quantity: str
    paper: str
    unit: str
    relation: str
    tolerance: str
    measure: str
    derived: str
    needs: str

    @property
    def ratios(self) -> tuple[float | None, float | None]:
        """Base keep ratios of the model and of the one it is compared with; None is any."""
        first, second = (float(one) if one else None for one in (self.ratio, self.against_ratio))
        return first, second

    @property
    def number(self) -> float:
        """The printed value; NaN where it is a word."""
        try:
            return float(self.paper)
        except ValueError:
            return float("nan")

    def holds(self, value: float) -> bool:
        """Whether a measured value agrees with the claim."""
        slack = float(self.tolerance or 0)
        if self.relation == ">":
            return value > self.number - slack
        if self.relation == "<=":
            return value <= self.number + slack
        return abs(value - self.number) <= slack + 1e-9


def load_claims() -> list[Claim]:
    """All rows of `claims.csv`."""
    frame = pd.read_csv(CLAIMS, dtype=str, keep_default_na=False)
    return [Claim(**row) for row in frame.to_dict("records")]


def ledger(found: Collection, claims: Iterable[Claim] | None = None) -> pd.DataFrame:
    """One row a claim and measurement, or one without a measurement: never averaged over kinds or worlds.

    Columns: those of a `Claim`; others, what other people measured of it; then verdict, direction (of
    measurements of another kind: same, opposite, unclear), measured, low, high and noise (what these two are
    of), above (P(value > 0) where paired) of so many draws, seeds, by_seed, images, kept (share of tokens, of
    the model and the other), world, of (model and data), source, reason, left_out.
    """
    claims = list(load_claims() if claims is None else claims)
    odd = inconsistencies().set_index("id")["expected"]
    others = foreign().groupby("claim")["told"].agg("; ".join)
    return pd.DataFrame([row for claim in claims for row in _rows(claim, found, odd, others)])


def _rows(
    claim: Claim, found: Collection, odd: pd.Series, others: pd.Series
) -> Iterator[dict[str, object]]:
    said = {item.name: getattr(claim, item.name) for item in fields(Claim)}
    said["others"] = others.get(claim.id, "")
    measured, left_out = measurements(claim, found)
    dropped = _told(left_out)
    if not any(measurement.exact for measurement in measured):
        yield said | {"verdict": NOT_TESTED, "reason": _reason(claim), "left_out": dropped}
    for measurement in sorted(measured, key=lambda one: not one.exact):
        yield said | {
            "verdict": verdict(claim, measurement) if measurement.exact else NOT_TESTED,
            "direction": "" if measurement.exact else direction(claim, measurement),
            **_numbers(measurement),
            "reason": "; ".join(filter(None, _comments(claim, measurement, odd))),
            "left_out": dropped,
        }


def _numbers(measurement: Measurement) -> dict[str, object]:
    seeds = measurement.by_seed.items()
    return {
        "measured": measurement.value,
        "low": measurement.low,
        "high": measurement.high,
        "noise": measurement.noise,
        "above": measurement.above,
        "draws": measurement.draws,
        "seeds": len(measurement.by_seed) or 1,
        "by_seed": ", ".join(f"{seed}: {value:.2f}" for seed, value in seeds),
        "images": measurement.images,
        "kept": " and ".join(
            "unknown" if np.isnan(share) else f"{share:.3f}" for share in measurement.kept
        ),
        "world": measurement.facts.world,
        "of": measurement.of,
        "source": ", ".join(measurement.sources),
    }


def _told(left_out: Sequence[LeftOut]) -> str:
    """What was left out by its cause, few with their names."""
    causes: dict[str, list[str]] = {}
    for one in left_out:
        names = causes.setdefault(one.cause, [])
        names += [one.name] * (one.name not in names)
    return "; ".join(
        f"{', '.join(names) if len(names) <= FEW_NAMES else f'{len(names)} results'}: {cause}"
        for cause, names in causes.items()
    )


def _comments(claim: Claim, measurement: Measurement, odd: pd.Series) -> Iterator[str]:
    if not measurement.exact:
        yield f"measured on {measurement.place or measurement.facts.data}, {measurement.facts.preset}"
        yield _blurred(claim, measurement)
    elif claim.id in odd.index:
        yield f"the paper disagrees with itself: elsewhere it has {odd[claim.id]:.1f}"
    yield from measurement.remarks


def _blurred(claim: Claim, measurement: Measurement) -> str:
    """Why a measurement has no direction whatever its noise; empty if it may have one."""
    timed = claim.measure.split(":")[0] in ("speed", "tradeoff")
    if not timed and measurement.images < FEW_IMAGES and not _is_trait(claim):
        return f"fewer than {FEW_IMAGES} images"
    at_zero = (claim.relation == "=") != (claim.number == 0)
    if len(measurement.by_seed) > 1 and at_zero and not measurement.agree:
        return "seeds disagree"
    if _is_ablation(claim) and len(measurement.kept) > 1:
        more = (measurement.kept[0] - measurement.kept[1]) * np.sign(measurement.value)
        return "the better one keeps more tokens" if more > KEPT else ""
    return ""


def _is_trait(claim: Claim) -> bool:
    return claim.measure.startswith("trait")


def _is_ablation(claim: Claim) -> bool:
    """Whether one model is the other with a part changed, at the same keep ratios."""
    methods = {name.split(" ")[0] for name in (claim.model, claim.against)}
    return len(methods) == 1 and claim.ratio == claim.against_ratio


def _reason(claim: Claim) -> str:
    if not claim.measure:
        return f"not measured here: {claim.needs}"
    kind, pair = claim.measure.split(":")[0], claim.model
    if claim.against:
        pair += f" and {claim.against}"
    at = f" at {'/'.join(filter(None, [claim.ratio, claim.against_ratio]))}" * bool(claim.ratio)
    if kind in ("ap", "difference"):
        return f"needs evaluations of {pair} ({claim.size}, adapter{at}) on COCO val2017"
    if kind.startswith("accuracy"):
        return f"needs {claim.size} classifiers, {pair}, on ImageNet (docs/classification.md)"
    if kind == "tradeoff":
        return "needs dense models of two sizes and SViT, evaluated, and timed in one benchmark"
    if kind == "speed":
        return f"needs `svit benchmark` of {pair} ({claim.size}, adapter), 800 pixels, on an A100"
    if kind == "complexity":
        return f"needs evaluations of {claim.model} (tiny or small, adapter) on COCO val2017"
    return f"needs a recording of {claim.model} ({claim.size or 'any size'}) on COCO val2017"


def verdict(claim: Claim, measurement: Measurement) -> str:
    """Of a measurement of the claim's own kind."""
    if claim.paper in ("yes", "no"):
        return CONFIRMED if measurement.value == (claim.paper == "yes") else CONTRADICTED
    return CONFIRMED if claim.holds(measurement.value) else CONTRADICTED


def direction(claim: Claim, measurement: Measurement) -> str:
    """Of a measurement of another kind: "same", "opposite", "unclear", or "" for absolute claims.

    A difference has the direction of its sign, a bound (> or <=) that of being kept, "no change" that of
    staying within the tolerance; it is unclear where the noise reaches across.
    """
    if claim.measure.split(":")[0] == "ap" or np.isnan(measurement.value):
        return ""
    if _blurred(claim, measurement):
        return "unclear"
    if _is_trait(claim):
        return "same" if measurement.value == (claim.paper == "yes") else "opposite"
    if claim.measure.startswith("speed") and not claim.against:
        return ""
    ends = np.array([measurement.low, measurement.high])
    if claim.relation == "=" and claim.number == 0:
        slack = float(claim.tolerance or 0)
        within, outside = np.abs(ends) <= slack, (ends[0] > slack) | (ends[1] < -slack)
        return "same" if within.all() else "opposite" if outside else "unclear"
    bound, upwards = (0.0, claim.number > 0) if claim.relation == "=" else (claim.number, None)
    if not (ends > bound).all() and not (ends < bound).all():
        return "unclear"
    wanted = upwards if upwards is not None else claim.relation == ">"
    return "same" if (ends > bound).all() == wanted else "opposite"


def inconsistencies(claims: Iterable[Claim] | None = None) -> pd.DataFrame:
    """Values that do not follow from the paper's own other numbers as they should.

    Columns: id, where, statement, paper, derived, expected.
    """
    claims = list(load_claims() if claims is None else claims)
    values = {claim.id: claim.number for claim in claims}
    rows = []
    for claim in claims:
        if claim.derived:
            expected, agrees = _derived(claim, values)
            if not agrees:
                rows.append((claim.id, claim.where, claim.statement, claim.paper, expected))
    frame = pd.DataFrame(rows, columns=["id", "where", "statement", "paper", "expected"])
    derived = {claim.id: claim.derived for claim in claims}
    frame.insert(4, "derived", [derived[name] for name in frame["id"]])
    return frame


def _derived(claim: Claim, values: dict[str, float]) -> tuple[float, bool]:
    """What a value should be by other rows, and whether it is, rounding aside."""
    relation, *words = claim.derived.split()
    if relation == "cube":
        expected = float(words[0]) ** 3
        return expected, abs(expected - claim.number) < 1e-3
    try:
        first, second = values[words[0]], values[words[2]] if len(words) > 1 else 0.0
    except KeyError as error:
        raise EvaluationError(f"{CLAIMS}: {claim.id} refers to {error}, which is no row") from error
    expected = 100 * (first / second - 1) if relation == "%" else first - second
    if relation == ">":
        return expected, expected > claim.number
    return expected, abs(expected - claim.number) <= ROUNDED[claim.unit]


def printed_frame() -> pd.DataFrame:
    """The paper's Table 5: model, name, size, base_ratio (1 for DeiT, else 0.7, a keep ratio), box_ap,
    mask_ap, fps (whole network) and fps_backbone, images a second at batch 1 on an A100; NaN where
    the paper prints a word."""
    rows: dict[tuple[str, str], dict[str, Any]] = {}
    for claim in load_claims():
        if claim.where == "Table 5" and claim.quantity in PRINTED:
            row = rows.setdefault((claim.model, claim.size), _printed_row(claim))
            row[PRINTED[claim.quantity]] = claim.number
    return pd.DataFrame(rows.values())


def _printed_row(claim: Claim) -> dict[str, Any]:
    ratio = 1.0 if claim.model == "dense" else PAPER_TARGETS[3]
    name = f"{claim.statement.split(':')[0]} {claim.size}"
    values = dict.fromkeys(PRINTED.values(), np.nan)
    return {"model": claim.model, "name": name, "size": claim.size, "base_ratio": ratio} | values
