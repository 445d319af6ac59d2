"""The claim ledger: the paper's own numbers, what counts for a claim, and honest verdicts."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from support.runs import PROVENANCE, write_run
from support.summaries import COCO, SHAPES, provenance, trained, write_result

from analysis.paper import claims, tables
from analysis.paper.claims import CONFIRMED, CONTRADICTED, NOT_TESTED
from analysis.paper.measurements import MEASURES
from analysis.sources import evaluations
from analysis.sources.benchmarks import frame
from analysis.sources.collection import Collection
from analysis.sources.evaluations import EvaluationError, facts_of, find_evaluations
from svit.core.types import TokenGrid, TokenTrace
from svit.runs.run import RunWriter, open_run

CLAIMS = {claim.id: claim for claim in claims.load_claims()}


def ledger(folder, *ids: str, runs=()) -> pd.DataFrame:
    sources = Collection(runs, find_evaluations(folder))
    return claims.ledger(sources, [CLAIMS[name] for name in ids])


def test_every_cell_of_the_tables_is_there():
    found = pd.Series([claim.where for claim in CLAIMS.values()]).value_counts()
    # models x dimensions; columns x 3; models x 2; gates x 4; 7 x 8 values and 22 differences
    assert found["Table 1"] == 5 * 4 and found["Table 2"] == 7 * 3
    assert found["Table 3"] == 4 * 2 and found["Table 4"] == 2 * 4
    assert found["Table 5"] == 7 * 8 + 22
    assert len(claims.load_claims()) == len(CLAIMS), "ids repeat"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("t2.ats-preserve.tiny.fps-whole", 16.52),
        ("t3.svit-inherit.tiny.mask", 40.4),
        ("t5.dense.small.fps-backbone", 14.20),
        ("t5.dynamicvit-preserve.small.box", 47.2),
        ("t5.dynamicvit-remove.tiny.mask-drop", -3.8),
        ("abstract.faster-backbone", 46),
    ],
)
def test_values_are_those_printed(name, value):
    assert CLAIMS[name].number == value


def test_the_paper_disagrees_with_itself_in_table_4_only():
    odd = claims.inconsistencies()
    assert set(odd["where"]) == {"Table 4"} and len(odd) == 4
    row = odd.set_index("id").loc["t4.svit.tiny.mask"]
    assert row.paper == "48.5" and row.expected == 40.7


def test_every_claim_has_a_measure_that_exists_or_says_what_would_measure_it():
    for claim in CLAIMS.values():
        assert bool(claim.measure) != bool(claim.needs), claim.id
        assert claim.measure.split(":")[0] in {"", *MEASURES}, claim.id
        assert (claim.ratios[1] is None) or claim.against, claim.id


def test_the_printed_speeds_of_sparse_models_are_alike_but_for_ats():
    for size in ("tiny", "small"):
        fps = {
            name: CLAIMS[f"t5.{name}.{size}.fps-backbone"].number
            for name in ("svit", "evit-remove", "evovit", "dynamicvit-preserve", "ats-remove")
        }
        slow = fps.pop("ats-remove")
        assert max(fps.values()) / min(fps.values()) < 1.07 and slow < 0.7 * fps["svit"]


def test_a_planted_inconsistency_is_found():
    changed = [
        type(claim)(**{**vars(claim), "paper": "-0.5"})
        if claim.id == "abstract.svit-box"
        else claim
        for claim in CLAIMS.values()
    ]
    odd = claims.inconsistencies(changed).set_index("id")
    assert odd.loc["abstract.svit-box"].expected == pytest.approx(-0.3)


def test_without_measurements_nothing_is_tested():
    found = claims.ledger(Collection())
    assert set(found["verdict"]) == {NOT_TESTED} and len(found) == len(CLAIMS)
    assert found["reason"].str.len().min() > 10
    assert set(tables.shown_ledger(found)["measured"]) == {"–"}
    for table in tables.paper_tables(found).values():
        assert (table.filter(like="measured") == "–").all(axis=None) or "" in table.to_numpy()


def test_the_right_model_on_coco_confirms_or_contradicts(tmp_path):
    for seed, box in enumerate((48.0, 48.4)):
        write_result(tmp_path / str(seed), box, 41.0, **trained("svit", "small", seed=seed))
    found = ledger(tmp_path, "t5.svit.small.box", "t5.svit.small.mask").set_index("id")
    box, mask = found.loc["t5.svit.small.box"], found.loc["t5.svit.small.mask"]
    assert box.verdict == CONFIRMED and mask.verdict == CONTRADICTED  # 42.5 +- 0.5
    assert box.measured == pytest.approx(48.2) and box.seeds == 2
    assert box.by_seed == "0: 48.00, 1: 48.40"
    assert (box.low, box.high) == (pytest.approx(47.8), pytest.approx(48.6))
    assert str(tmp_path / "1") in box.source and box.paper == "48.2" and box.world == "COCO"


@pytest.mark.parametrize(
    "change",
    [
        {"size": "nano"},
        {"neck": "pyramid"},
        {"classes": SHAPES},
        {"images": 500},
        {"base": 0.5},
        {"ratio_loss": "fixed"},
        {"facts": {"intervention": "random"}},
    ],
)
def test_anything_else_counts_for_no_cell(tmp_path, change):
    write_result(tmp_path / "a", 48.2, 42.5, **{"size": "small", **change})
    (row,) = ledger(tmp_path, "t5.svit.small.box").to_dict("records")
    assert row["verdict"] == NOT_TESTED and "measured" not in row


def pair(folder, svit: float, dense: float, half: float = 0.1, **choices) -> None:
    write_result(folder / "svit", svit, 30, half=half, **choices)
    write_result(folder / "dense", dense, 30, half=half, **{**choices, "method": "dense"})


def test_a_difference_on_shapes_shows_a_direction_but_no_verdict(tmp_path):
    nano = {"size": "nano", "neck": "pyramid", "classes": SHAPES, "images": 1000}
    for name, svit, half in (("same", 50, 0.1), ("opposite", 53, 0.1), ("unclear", 51.9, 1)):
        pair(tmp_path / name, svit, 52, half, **nano)
        found = ledger(tmp_path / name, "abstract.svit-box")
        assert set(found["verdict"]) == {NOT_TESTED} and len(found) == 2
        row = found.iloc[1]
        assert row.direction == name and row.measured == pytest.approx(svit - 52)
        assert "shapes" in row.reason and "shapes" in row["of"]
        # not one of these numbers reaches the columns beside the paper's
        full = claims.ledger(Collection(results=find_evaluations(tmp_path / name)))
        table = tables.paper_tables(full)["Table 5"]
        assert set(table["box AP difference, measured"]) <= {"–", ""}


def test_a_difference_needs_the_same_images_and_framework(tmp_path):
    for name, change in (
        ("data", {"data_sha256": "b"}),
        ("framework", {"framework": "detectron2"}),
    ):
        write_result(tmp_path / name / "svit", 48.2, size="small")
        write_result(tmp_path / name / "dense", 48.5, size="small", method="dense", facts=change)
        assert "measured" not in ledger(tmp_path / name, "abstract.svit-box")
    pair(tmp_path / "fine", 48.2, 48.5, size="small")
    (row,) = ledger(tmp_path / "fine", "abstract.svit-box").to_dict("records")
    assert row["verdict"] == CONFIRMED and row["measured"] == pytest.approx(-0.3)


def test_inference_modes_are_measured_apart(tmp_path):
    for mode, box in (("threshold", 48.2), ("sample", 44.0)):
        write_result(tmp_path / mode, box, size="small", inference=mode)
    found = ledger(tmp_path, "t5.svit.small.box")
    assert sorted(found["verdict"]) == [CONFIRMED, CONTRADICTED] and len(found) == 2


def test_a_cell_in_which_the_paper_errs_says_so(tmp_path):
    write_result(tmp_path / "a", 45.5, 40.7, size="tiny")
    (row,) = ledger(tmp_path, "t4.svit.tiny.box").to_dict("records")
    assert row["verdict"] == CONTRADICTED and "disagrees with itself" in row["reason"]


def hand_run(folder, images: int = 40, **facts):
    """Five layers of 2 x 2 tokens: three reactivations, two of them at once."""
    keep = np.ones((5, 2, 2), bool)
    keep[1] = [[1, 0], [0, 0]]
    keep[2] = [[1, 1], [0, 0]]
    keep[3] = [[0, 0], [1, 0]]
    keep[4] = False
    targets = [1.0, 0.7, 0.7, 0.49, 0.343]
    source = {**PROVENANCE, "targets": targets, "class_names": SHAPES, **facts}
    with RunWriter(folder, source) as writer:
        for number in range(images):
            writer.add(TokenTrace(number, TokenGrid((32, 32), (32, 32), (2, 2)), keep))
    return open_run(folder)


def test_shares_of_a_recording_are_those_of_the_hand_case(tmp_path):
    run = hand_run(tmp_path / "run")
    ids = ("s4.3.immediate", "s4.3.early", "s4.3.deeper")
    found = ledger(tmp_path, *ids, runs=[run]).dropna(subset="measured").set_index("id")
    # pruned 3, 2, 3, 4; later 2, 1, 0, 0; next 1, 1, 0, 0: layers 1 and 2 are the first stage
    assert found.loc["s4.3.immediate"].measured == pytest.approx(2 / 3)
    assert found.loc["s4.3.early"].measured == pytest.approx(3 / 5)
    assert found.loc["s4.3.deeper"].measured == pytest.approx(0 - (2 + 1) / 8)
    assert set(found.direction) == {"same"} and set(found.verdict) == {NOT_TESTED}
    assert (found.low <= found.measured).all() and set(found.noise) == {
        "95 % percentile over images"
    }


def test_few_images_show_no_direction(tmp_path):
    found = ledger(tmp_path, "s4.3.immediate", runs=[hand_run(tmp_path / "run", images=5)])
    assert found.iloc[1].direction == "unclear"


IDS = ("t1.svit.dynamic", "t1.svit.reactivates", "t1.svit.selection")
TINY = {"config": {"name": "t", "backbone": {"neck": "adapter", "embed_dim": 192, "heads": 3}}}
TINY["config"]["backbone"]["depth"] = 12


def test_traits_of_table_1_have_a_direction_in_masks_of_any_data_and_no_verdict(tmp_path):
    dynamic, fixed = write_run(tmp_path / "a"), hand_run(tmp_path / "b")
    found = ledger(tmp_path, *IDS, runs=[dynamic, fixed]).dropna(subset="measured")
    assert set(found["verdict"]) == {NOT_TESTED}  # not the paper's kind, whatever they show
    assert found.groupby("id")["direction"].agg(list).to_dict() == {
        "t1.svit.dynamic": ["opposite"],  # of the second: the same counts in every image
        "t1.svit.reactivates": ["same", "same"],
    }
    assert "a: 3 images cannot show that it is absent" in found["left_out"].tolist()


def test_traits_of_the_papers_kind_get_a_verdict(tmp_path, monkeypatch):
    monkeypatch.setattr(evaluations, "COCO_VAL_IMAGES", 40)
    run = hand_run(tmp_path / "b", **TINY, class_names=COCO)
    found = ledger(tmp_path, *IDS, runs=[run]).set_index("id")["verdict"]
    assert found.to_dict() == dict(zip(IDS, (CONTRADICTED, CONFIRMED, NOT_TESTED)))
    table = tables.paper_tables(ledger(tmp_path, *IDS, runs=[run]))["Table 1"]
    assert table["dynamic pruning rate, measured"].tolist() == ["no"]


def test_few_images_or_forced_counts_show_no_absence_of_a_trait(tmp_path):
    for name, facts in (("few", {"images": 5}), ("forced", {"inference": "topk"})):
        found = ledger(tmp_path, "t1.svit.dynamic", runs=[hand_run(tmp_path / name, **facts)])
        assert found["verdict"].tolist() == [NOT_TESTED] and "measured" not in found
        assert found["left_out"][0].startswith(f"{name}: ")


def test_usage_is_higher_in_the_centre_when_it_is(tmp_path):
    keep = np.ones((4, 8, 8), bool)
    keep[1:] = False
    keep[1:, 3:5, 3:5] = True
    with RunWriter(tmp_path / "run", {**PROVENANCE, "class_names": SHAPES}) as writer:
        for number in range(40):
            writer.add(TokenTrace(number, TokenGrid((128, 128), (128, 128), (8, 8)), keep))
    found = ledger(tmp_path, "s4.3.centre", runs=[open_run(tmp_path / "run")])
    assert found.iloc[1].direction == "same" and found.iloc[1].measured > 0.5


def test_facts_come_from_the_provenance():
    facts = facts_of(provenance("ats", "small", retain="preserve"), 5000)
    assert facts.model == "ats preserve" and facts.size == "small" and facts.data == "COCO val2017"
    assert facts_of(provenance("svit", inherit=True, ratio_loss="fixed"), 9).model == (
        "svit fixed+inherit"
    )
    assert facts_of(provenance("svit", gate="local_global"), 9).variant == "gate local_global"
    assert facts_of(provenance("svit", base=0.5), 9).base_ratio == 0.5
    assert facts_of(provenance("dense"), 9).base_ratio == 1
    assert facts_of({}, 0).data == "other"  # a run that says nothing is of nothing we know


def test_a_row_that_refers_to_nothing_is_named():
    broken = type(CLAIMS["abstract.svit-box"])(
        **{**vars(CLAIMS["abstract.svit-box"]), "derived": "= t9.none - t5.dense.small.box"}
    )
    with pytest.raises(EvaluationError, match=r"abstract.svit-box refers to 't9.none'"):
        claims.inconsistencies([broken])


def test_the_pages_hold_all_claims_and_the_contradiction(tmp_path):
    write_result(tmp_path / "a", 48.2, 42.5, size="small")
    found = claims.ledger(Collection(results=find_evaluations(tmp_path)))
    page = tables.ledger_markdown(found, claims.inconsistencies())
    assert page.count("\n| ") > len(CLAIMS) and "Table 4 contradicts Table 5" in page
    assert "| 48.2 (± 0.5) points |  | 48.2 [47.8, 48.6] confirmed (svit-small" in page
    assert "45.51 (yammy0623/svit)" in page and "Like is compared with like" in page
    page = tables.tables_markdown(tables.paper_tables(found), tables.arranged([]), frame([]))
    assert all(f"## {name}" in page for name in tables.CAPTIONS)


def test_claims_are_counted_once_a_verdict(tmp_path):
    for mode, box in (("threshold", 48.2), ("sample", 44.0)):
        write_result(tmp_path / mode, box, 42.5, size="small", inference=mode)
    ids = ("t5.svit.small.box", "t5.svit.small.mask", "t5.svit.tiny.box")
    text = tables.counts(ledger(tmp_path, *ids))
    assert text == "3 claims and table cells: 2 confirmed, 1 contradicted, 1 not tested."
