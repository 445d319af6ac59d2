"""The claim ledger: what the paper says, what was measured, and whether the two can be compared.

`claims.csv` has a row for every number of Tables 1-5 and every claim of the text. Paper values and
measured ones stay in columns of their own. A measurement counts for a claim only if it is of the
same kind (model, size, neck, keep ratios, COCO val2017 complete); then the verdict is `confirmed` or
`contradicted`. Anything else (a nano model on drawn shapes) leaves the verdict `not tested`; where
the claim is relative, it says whether the direction is the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from analysis.paper.measurements import FEW_IMAGES, Measurement, measurements
from analysis.sources.collection import Collection
from analysis.sources.evaluations import PAPER_TARGETS, EvaluationError

CLAIMS = Path(__file__).with_name("claims.csv")
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
        quantity: what is measured.
        paper: the printed value: a number, yes, no, or a word.
        unit: of the value.
        relation: "=" within the tolerance, ">" or "<=".
        tolerance: in the unit; 0.5 AP is the noise of porting the dense model (methods.md 1), 0.3
            that of a difference between two fine-tuned models.
        measure: key of the computation, `measurements.MEASURES`; empty: nothing here measures it.
        derived: how the value follows from other rows: "= A", "= A - B", "> A - B", "% A / B"
            (100 A / B - 100), "cube R".
    """

    id: str
    where: str
    statement: str
    model: str
    against: str
    size: str
    quantity: str
    paper: str
    unit: str
    relation: str
    tolerance: str
    measure: str
    derived: str

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
    """One row a claim and measurement, or one without a measurement: never averaged over kinds.

    Columns: those of a `Claim`, then verdict, direction (of measurements of another kind: same,
    opposite, unclear), measured, runs, images, spread, noise, of (model and data), source, reason.
    """
    claims = list(load_claims() if claims is None else claims)
    odd = inconsistencies().set_index("id")["expected"]
    return pd.DataFrame([row for claim in claims for row in _rows(claim, found, odd)])


def _rows(claim: Claim, found: Collection, odd: pd.Series) -> Iterator[dict[str, object]]:
    said = {item.name: getattr(claim, item.name) for item in fields(Claim)}
    measured = list(measurements(claim, found))
    if not any(measurement.exact for measurement in measured):
        yield said | {"verdict": NOT_TESTED, "reason": _reason(claim)}
    for measurement in sorted(measured, key=lambda one: not one.exact):
        yield said | {
            "verdict": verdict(claim, measurement) if measurement.exact else NOT_TESTED,
            "direction": "" if measurement.exact else direction(claim, measurement),
            "measured": measurement.value,
            "runs": measurement.count,
            "images": measurement.images,
            "spread": measurement.spread,
            "noise": measurement.noise,
            "of": measurement.of,
            "source": ", ".join(measurement.sources),
            "reason": _comment(claim, measurement, odd),
        }


def _comment(claim: Claim, measurement: Measurement, odd: pd.Series) -> str:
    if not measurement.exact:
        place = measurement.place or measurement.facts.data
        return f"measured on {place}, {measurement.facts.preset}"
    if claim.id in odd.index:
        return f"the paper disagrees with itself: elsewhere it has {odd[claim.id]:.1f}"
    return ""


def _reason(claim: Claim) -> str:
    if not claim.measure:
        return "nothing that is read here measures it"
    if claim.measure.split(":")[0] in ("ap", "difference"):
        pair = f"{claim.model} and {claim.against}" if claim.against else claim.model
        return f"needs evaluations of {pair} ({claim.size}, adapter) on COCO val2017"
    if claim.measure.startswith("speed"):
        pair = f"{claim.model} and {claim.against}" if claim.against else claim.model
        return f"needs `svit benchmark` of {pair} ({claim.size}, adapter), 800 pixels, on an A100"
    return f"needs a recording of {claim.model} ({claim.size or 'any size'}) on COCO val2017"


def verdict(claim: Claim, measurement: Measurement) -> str:
    """Of a measurement of the claim's own kind."""
    if claim.paper in ("yes", "no"):
        return CONFIRMED if measurement.value == (claim.paper == "yes") else CONTRADICTED
    return CONFIRMED if claim.holds(measurement.value) else CONTRADICTED


def direction(claim: Claim, measurement: Measurement) -> str:
    """Of a measurement of another kind: "same", "opposite", "unclear", or "" for absolute claims.

    A difference has the direction of its sign, a bound (> or <=) that of being kept; it is unclear
    where the sign is within the noise, the paper says "no change", or images are few.
    """
    kind = claim.measure.split(":")[0]
    if kind in ("ap", "trait") or np.isnan(measurement.value):
        return ""
    if kind != "speed" and measurement.images < FEW_IMAGES:
        return "unclear"
    if claim.relation != "=":
        distance, same = measurement.value - claim.number, claim.holds(measurement.value)
    else:
        distance = measurement.value
        same = measurement.value * claim.number > 0
    unclear = abs(distance) <= np.nan_to_num(measurement.noise) or (
        claim.relation == "=" and claim.number == 0
    )
    return "unclear" if unclear else "same" if same else "opposite"


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
