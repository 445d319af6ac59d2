"""The paper's tables with paired differences, and at equal tokens along SViT's dial."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support.summaries import SHAPES, keep_matches, trained, write_result

from analysis.paper import claims, tables
from analysis.sources import paired
from analysis.sources.collection import Collection
from analysis.sources.evaluations import find_evaluations

PAPER = [0.7] * 3 + [0.49] * 3 + [0.343] * 3


def write(folder: Path, box: float, row: str, line: str = "learned", **choices: Any) -> Path:
    """A line of a nano row on shapes."""
    seed, keep = choices.pop("seed", 0), choices.pop("keep", 0.5)
    sampled = choices.pop("mask_seed", 0)
    facts = {"row": row, "weights_sha256": f"{row} {seed}", "intervention": line}
    method = choices.pop("method", row.split("-")[0])
    nano = {"neck": "pyramid", "classes": SHAPES, "facts": facts} | choices
    told = trained(method, "nano", seed=seed, **nano)
    return write_result(folder, box, box - 4, images=300, keep=keep, seed=sampled, **told)


def test_a_paired_interval_forgets_what_is_hard_for_both(tmp_path: Path) -> None:
    for name, box, row, line in (
        ("own", 60.0, "svit", "learned"),
        ("random", 55.0, "svit", "random"),
        ("dense", 63.0, "dense", "learned"),
    ):
        keep_matches(write(tmp_path / name, box, row, line))
    # every draw shifts both by the same, so the difference does not move
    (about,) = [one for one in tables.arranged(find_evaluations(tmp_path)) if "Controls" in one]
    table = tables.arranged(find_evaluations(tmp_path))[about].set_index("model")
    assert table.loc["svit", "own − random"] == "+5.0 [+5.0, +5.0], P >0.999"
    assert table.loc["svit", "box − dense"] == "-3.0 [-3.0, -3.0], P <0.001"


def test_odds_claim_no_more_than_the_draws_can_tell(tmp_path: Path) -> None:
    for name, row in (("own", "svit"), ("dense", "dense")):
        keep_matches(write(tmp_path / name, 60.0 if name == "own" else 63.0, row), draws=100)
    found = find_evaluations(tmp_path)
    (about,) = [one for one in tables.arranged(found) if "Controls" in one]
    table = tables.arranged(found)[about].set_index("model")
    assert table.loc["svit", "box − dense"].endswith("P <0.01")
    told = tables.shown_ledger(claims.ledger(Collection(results=found)))
    odds = told[told["measured"].str.startswith("-3")][tables.LEDGER_COLUMNS["above"]]
    assert len(odds) and set(odds) == {"<0.01"}


def test_without_matches_a_difference_stands_alone(tmp_path: Path) -> None:
    write(tmp_path / "own", 60.0, "svit")
    keep_matches(write(tmp_path / "random", 55.0, "svit", "random"))
    (table,) = tables.arranged(find_evaluations(tmp_path)).values()
    assert table.set_index("model").loc["svit", "own − random"] == "+5.0"


@pytest.mark.parametrize("change", [{}, {"key": "others"}, {"draws": 500, "key": "fewer"}])
def test_a_gap_is_over_masks_of_a_training_and_then_over_trainings(
    tmp_path: Path, change: dict
) -> None:
    pairs = []
    for seed, own, randoms in ((0, 60.0, (50.0, 54.0)), (1, 58.0, (57.0,))):
        keep_matches(write(tmp_path / f"own{seed}", own, "svit", seed=seed))
        for number, box in enumerate(randoms):
            folder = write(tmp_path / f"random{seed}{number}", box, "svit", "random", seed=seed)
            keep_matches(folder, **change)
        found = {one.path.name: one for one in find_evaluations(tmp_path)}
        others = [one for name, one in found.items() if name.startswith(f"random{seed}")]
        pairs.append([(found[f"own{seed}"], other) for other in others])
    drawn = paired.gap(pairs, "box")
    if change:
        assert drawn is None  # of other images or draws: nothing would be paired
    else:
        assert drawn.value == pytest.approx(((60 - 52) + (58 - 57)) / 2)


def write_dial(folder: Path, seed: int = 0) -> None:
    """SViT at the paper's ratio, and its gates calibrated to three others: AP 50, 58, 62."""
    write(folder / f"svit{seed}", 60.0, "svit", keep=0.53, keep_ratios=PAPER, seed=seed)
    for base, keep, box in ((0.5, 0.3, 50.0), (0.7, 0.5, 58.0), (0.9, 0.8, 62.0)):
        dial = {"base": base, "keep_ratios": PAPER, "inference": "calibrated", "seed": seed}
        write(folder / f"dial{seed}{base}", box, "svit", keep=keep, **dial)


def test_a_model_meets_the_dial_where_that_keeps_as_many_tokens(tmp_path: Path) -> None:
    write_dial(tmp_path)
    write(
        tmp_path / "half", 55.0, "svit-0.5", keep=0.35, base=0.5, keep_ratios=[0.5], method="svit"
    )
    write(tmp_path / "inherit", 57.0, "svit-inherit", keep=0.45, method="svit", inherit=True)
    found = paired.beside_dial(find_evaluations(tmp_path), "svit")
    box = found[found["kind"] == "box"].set_index("name")
    # the dial at 0.35 is at 52, at 0.45 at 56, at 0.53 at 58.4
    assert box["dial_ap"].to_dict() == pytest.approx(
        {"svit-0.5": 52, "svit-inherit": 56, "svit": 58.4}
    )
    assert box["value"].to_dict() == pytest.approx({"svit-0.5": 3, "svit-inherit": 1, "svit": 1.6})
    about = "nano, pyramid neck, shapes, 300 images"
    shown = tables.arranged(find_evaluations(tmp_path))
    (row, _) = shown[f"Table 3, at equal tokens: {about}"].to_dict("records")
    assert (row["model"], row["kept"], row["− dial"]) == ("svit-inherit", "0.450", "+1.0")
    assert shown[f"Fig. 7, at equal tokens: {about}"]["model"].tolist() == ["svit-0.5"] * 2


def test_nothing_is_extrapolated_or_taken_from_another_training(tmp_path: Path) -> None:
    write_dial(tmp_path)
    write(tmp_path / "few", 45.0, "svit-0.5", keep=0.2, base=0.5, keep_ratios=[0.5], method="svit")
    write(tmp_path / "seed", 57.0, "svit-inherit", keep=0.45, method="svit", inherit=True, seed=1)
    found = paired.beside_dial(find_evaluations(tmp_path), "svit")
    assert set(found["name"]) == {"svit"}


def test_sampled_masks_meet_the_dial_with_the_mean_over_their_seeds(tmp_path: Path) -> None:
    write_dial(tmp_path)
    for seed, box in ((0, 60.0), (1, 40.0)):
        sampled = {"base": 0.5, "keep_ratios": [0.5], "method": "random"}
        write(tmp_path / f"dice{seed}", box, "random", keep=0.35, mask_seed=seed, **sampled)
    found = paired.beside_dial(find_evaluations(tmp_path), "svit")
    row = found[found["kind"] == "box"].set_index("name").loc["random"]
    assert (row.ap, row.dial_ap, row.seeds) == pytest.approx((50, 52, 1))


def test_the_interval_at_equal_tokens_is_paired(tmp_path: Path) -> None:
    write_dial(tmp_path)
    write(tmp_path / "inherit", 57.0, "svit-inherit", keep=0.45, method="svit", inherit=True)
    for folder in tmp_path.iterdir():
        keep_matches(folder, lean=0.5 if folder.name == "inherit" else 0.0)
    found = paired.beside_dial(find_evaluations(tmp_path), "svit")
    row = found[found["kind"] == "box"].set_index("name").loc["svit-inherit"]
    assert (row.value, row.low, row.high) == pytest.approx((1, 1.5, 1.5), abs=1e-3)
