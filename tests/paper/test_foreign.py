"""Numbers of other people: sourced, apart, and no evidence for a verdict."""

from __future__ import annotations

import re

from analysis.paper import claims
from analysis.paper.foreign import COLUMNS, foreign
from analysis.sources.collection import Collection


def test_every_foreign_number_has_an_address_a_commit_and_a_date() -> None:
    found = foreign()
    assert list(found.columns) == [*COLUMNS, "told"] and len(found) > 40
    for row in found.itertuples():
        assert re.fullmatch(r"[0-9a-f]{40}", row.commit) and row.commit in row.address
        assert row.address.startswith("https://") and re.search(r"\d{4}-\d\d-\d\d$", row.date)
        assert row.who.split(" ")[0].rstrip(",") in row.address


def test_foreign_numbers_stand_beside_claims_that_exist_and_decide_nothing() -> None:
    named = set(foreign()["claim"]) - {""}
    assert named <= {claim.id for claim in claims.load_claims()}
    found = claims.ledger(Collection()).set_index("id")
    assert found.loc["t5.svit.tiny.box", "others"] == "45.51 (yammy0623/svit)"
    assert found.loc["t5.svit.tiny.mask", "others"] == "40.67 (yammy0623/svit)"
    assert set(found["verdict"]) == {claims.NOT_TESTED}


def test_the_independent_run_has_the_ten_numbers_that_the_paper_does_not_print() -> None:
    found = foreign()
    ours = found[(found["model"] == "SViT-T") & (found["data"] == "COCO val2017")]
    assert len(ours) == 12 and set(ours["claim"]) == {"", "t5.svit.tiny.box", "t5.svit.tiny.mask"}
