"""Claims about recorded masks: usage on objects and outlines, what becomes of pruned tokens."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from support.runs import PROVENANCE, write_run
from support.summaries import SHAPES

from analysis.numbers.object_counts import count_objects
from analysis.paper import claims
from analysis.sources.collection import Collection
from svit.core.types import Target, TokenGrid, TokenTrace
from svit.runs.run import Run, RunWriter, open_run

CLAIMS = {claim.id: claim for claim in claims.load_claims()}
RETURN, STAY = "s4.3.reactivated-objects", "s4.3.background-never"
TARGETS = [1.0, 0.7, 0.49, 0.343]


def ledger(run: Run, *names: str) -> pd.DataFrame:
    """Measurements of a few claims on one run."""
    found = claims.ledger(Collection([run]), [CLAIMS[name] for name in names])
    return found.dropna(subset="measured").set_index("id")


def hand_run(folder: Path, images: int = 40, **facts) -> Run:
    """Four layers of 2 x 4 tokens of 16 pixels; one object over the left half and an outline."""
    keep = np.zeros((4, 2, 4), bool)
    keep[0] = True
    keep[1, :, :1] = True  # prunes two object tokens and four others
    keep[2, :, :2] = True  # both object tokens are back
    keep[3, 0, 2] = True  # one other token is back
    mask = np.zeros((32, 64), bool)
    mask[:, :24] = True  # the second column is half covered: an outline
    target = Target(np.array([[0, 0, 24, 32]], np.float32), np.array([0]), mask[None])
    source = {**PROVENANCE, "targets": TARGETS, "class_names": SHAPES, **facts}
    with RunWriter(folder, source) as writer:
        for number in range(images):
            trace = TokenTrace(number, TokenGrid((32, 64), (32, 64), (2, 4)), keep)
            writer.add(trace, target=target)
    return open_run(folder)


def test_counts_on_objects_and_off_them_are_those_of_the_hand_case(tmp_path: Path) -> None:
    counted = count_objects(hand_run(tmp_path / "run", images=2))
    # layers 1 and 2 of 0..3: pruned on the object 2 and 0, both return; off it 4 and 4, one token returns
    assert counted.pruned[0].tolist() == [[2, 2], [8, 2]]
    # usage of the object's four tokens: 3, 3, 2, 2; of the others 2, 1, 1, 1
    assert counted.usage[1, 0].tolist() == [[0, 0, 2, 2, 0], [0, 3, 1, 0, 0]]
    # an outline passes the second column alone
    assert counted.usage[1, 1].tolist() == [[0, 0, 2, 0, 0], [0, 3, 1, 2, 0]]


def test_reactivated_tokens_lie_on_objects_when_they_do(tmp_path: Path) -> None:
    found = ledger(hand_run(tmp_path / "run"), RETURN, STAY, "s4.3.objects", "s4.3.contours")
    assert found["measured"].to_dict() == pytest.approx(
        # P(return | object) - P(return | background); 1 - 2/8; pairs won plus half of the ties
        {RETURN: 1 - 2 / 8, STAY: 6 / 8, "s4.3.objects": 1 - 1 / 16, "s4.3.contours": 7 / 12}
    )
    assert set(found["direction"]) == {"same"} and set(found["images"]) == {40}
    assert set(found["noise"]) == {"95 % percentile over images"} and set(found["world"]) == {
        "shapes"
    }


def test_a_recording_at_another_ratio_or_with_lent_masks_is_left_out(tmp_path: Path) -> None:
    for name, facts, cause in (
        ("half", {"targets": [1.0, 0.5, 0.25, 0.125]}, "keep ratios 0.5/0.25/0.125"),
        ("lent", {"masks_from": "ab12" * 16}, "masks that are not its own"),
        ("random", {"intervention": "random"}, "masks that are not its own"),
    ):
        run = hand_run(tmp_path / name, images=2, **facts)
        found = claims.ledger(Collection([run]), [CLAIMS[RETURN]])
        assert len(found) == 1 and f"{name}: {cause}" in found["left_out"][0]


def test_a_run_without_annotations_measures_nothing_on_objects(tmp_path: Path) -> None:
    with RunWriter(tmp_path / "run", PROVENANCE) as writer:
        writer.add(write_run(tmp_path / "other").trace(1))
    assert ledger_is_empty(open_run(tmp_path / "run"))


def ledger_is_empty(run: Run) -> bool:
    """Whether no claim about objects was measured."""
    found = claims.ledger(Collection([run]), [CLAIMS[RETURN], CLAIMS["s4.3.objects"]])
    return "measured" not in found


def test_evovit_that_calls_nothing_back_keeps_its_tokens(tmp_path: Path) -> None:
    run = hand_run(tmp_path / "run", method="evovit", inference="")
    row = ledger(run, "supplement.evovit").loc["supplement.evovit"]
    # later 2 + 2, 1 + 1 ... pruned 6, 4, 7 over layers 1 to 3; returns 3, 1, 0
    assert row.measured == pytest.approx(4 / 17) and row.direction == "same"
