"""Like is compared with like: what counts for a claim, what is left out and why, and by which noise."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from support.summaries import SHAPES, keep_matches, trained, write_plan, write_result

from analysis.paper import claims, tables
from analysis.paper.claims import CONTRADICTED, NOT_TESTED
from analysis.sources.collection import Collection
from analysis.sources.evaluations import find_evaluations

CLAIMS = {claim.id: claim for claim in claims.load_claims()}
PAPER = [0.7] * 3 + [0.49] * 3 + [0.343] * 3
DROP, REACTIVATION = "abstract.svit-box", "s3.2.reactivation-box"
BETTER = "s4.2.best-dynamicvit-preserve-tiny-box"


def write(
    folder: Path, box: float, method: str = "svit", half: float = 0.1, **choices: Any
) -> None:
    """A nano model on shapes."""
    nano = {"size": "nano", "neck": "pyramid", "classes": SHAPES}
    numbers = {name: choices.pop(name) for name in ("keep", "correlation") if name in choices}
    told = trained(method, **nano | choices)
    write_result(folder, box, box - 4, images=300, half=half, **numbers, **told)


def rows(folder: Path, *ids: str) -> pd.DataFrame:
    """The ledger of a few claims."""
    found = Collection(results=find_evaluations(folder))
    table = claims.ledger(found, [CLAIMS[name] for name in ids])
    return table if "measured" in table else table.assign(measured=float("nan"))


def only(folder: Path, name: str) -> pd.Series:
    """The one measurement of a claim."""
    (row,) = [one for _, one in rows(folder, name).dropna(subset="measured").iterrows()]
    return row


def test_a_dense_model_with_the_masks_of_another_is_not_deit(tmp_path: Path) -> None:
    write(tmp_path / "svit", 61.42)
    write(tmp_path / "dense", 63.25, "dense")
    write(tmp_path / "lent", 58.75, "dense", facts={"masks_from": "ab12" * 16})
    row = only(tmp_path, DROP)
    assert row.measured == pytest.approx(-1.83)  # with the other in the mean it was +0.42
    assert (
        row.direction == "same"
        and row.left_out == f"{tmp_path.name}/lent: masks that are not its own"
    )


def test_models_at_other_keep_ratios_say_nothing_of_the_papers(tmp_path: Path) -> None:
    write(tmp_path / "inherit", 59.5, inherit=True)
    for base, box in ((0.8, 62.1), (0.9, 62.3)):
        write(tmp_path / f"svit-{base}", box, base=base)
    (row,) = [one for _, one in rows(tmp_path, REACTIVATION).iterrows()]
    assert row.verdict == NOT_TESTED and pd.isna(row.measured)
    assert "svit-0.8: keep ratios 0.8/0.64/0.512, not 0.7/0.49/0.343" in row.left_out
    assert "svit-0.9: keep ratios 0.9/0.81/0.729, not 0.7/0.49/0.343" in row.left_out
    write(tmp_path / "svit", 60.8)
    assert only(tmp_path, REACTIVATION).measured == pytest.approx(1.3)


def test_the_dial_at_another_ratio_contradicts_nothing(tmp_path: Path) -> None:
    write(tmp_path / "other", 59.5, "dynamicvit", retain="preserve", inference="")
    dial = {"base": 0.5, "keep_ratios": PAPER, "inference": "calibrated"}
    write(tmp_path / "dial", 54.7, **dial)
    table = rows(tmp_path, BETTER)
    assert table["measured"].isna().all() and set(table["verdict"]) == {NOT_TESTED}
    assert "dial: keep ratios 0.5/0.25/0.125" in table["left_out"][0]


def test_a_claim_at_another_ratio_wants_a_training_for_it(tmp_path: Path) -> None:
    write(tmp_path / "svit", 61.0, keep_ratios=PAPER)
    dial = {"base": 0.5, "keep_ratios": PAPER, "inference": "calibrated"}
    write(tmp_path / "dial", 54.2, **dial)
    assert "trained for 0.7 and set to 0.5" in rows(tmp_path, "s4.3.falls-0.5-box")["left_out"][0]
    write(tmp_path / "half", 58.3, base=0.5, keep_ratios=[0.5, 0.25, 0.125])
    row = only(tmp_path, "s4.3.falls-0.5-box")
    assert row.measured == pytest.approx(2.7) and row.direction == "same"
    assert rows(tmp_path, "s4.3.falls-0.6-box")["measured"].isna().all()


def test_a_longer_training_is_left_out(tmp_path: Path) -> None:
    write(tmp_path / "svit", 61.3, facts={"trained_steps": 1000})
    write(tmp_path / "dense", 63.4, "dense", facts={"trained_steps": 400})
    (left_out,) = set(rows(tmp_path, DROP)["left_out"])
    assert "svit: no dense alike (trained on 8000 pictures, not 3200)" in left_out
    write(tmp_path / "as-long", 63.0, "dense", facts={"trained_steps": 1000})
    assert only(tmp_path, DROP).measured == pytest.approx(-1.7)


@pytest.mark.parametrize(
    ("plan", "cause"),
    [
        ({"start": "other"}, "started from other weights"),
        ({"views": 8000}, "trained on 3200 pictures, not 8000"),
        (None, "start not recorded"),
    ],
)
def test_another_start_or_length_is_left_out(tmp_path: Path, plan, cause) -> None:
    write(tmp_path / "a" / "svit", 61.3, facts={"row": "svit"})
    write_plan(tmp_path / "a")
    write(tmp_path / "b" / "dense", 63.4, "dense", facts={"row": "dense"})
    if plan is not None:
        write_plan(tmp_path / "b", **plan)
    table = rows(tmp_path, DROP)
    assert table["measured"].isna().all() and cause in table["left_out"][0]


def test_another_recipe_or_precision_is_left_out(tmp_path: Path) -> None:
    long = {"trained_steps": 400}
    write(tmp_path / "svit", 61.3, facts=long)
    write(tmp_path / "dense", 63.4, "dense", facts=long | {"dtype": "bfloat16"})
    assert "evaluated in float32, not bfloat16" in rows(tmp_path, DROP)["left_out"][0]
    told = trained("dense", size="nano", neck="pyramid", classes=SHAPES, facts=long)
    told["facts"]["config"]["train"]["rate"] = 0.1
    write_result(tmp_path / "other", 63.4, 59.4, images=300, half=0.1, **told)
    table = rows(tmp_path, DROP)
    assert table["measured"].isna().all()
    assert "other: no svit alike (trained by another recipe)" in table["left_out"][0]


def test_trainings_by_two_recipes_are_two_measurements_and_no_two_trainings_of_one(
    tmp_path: Path,
) -> None:
    for distil, svit, dense in ((0, 50.0, 60.0), (1, 30.0, 62.0)):
        for method, box in (("svit", svit), ("dense", dense)):
            row = tmp_path / f"distil{distil}" / f"{method}-seed0"
            told = trained(method, size="nano", neck="pyramid", classes=SHAPES)
            told["facts"]["config"]["train"]["distil"] = float(distil)
            told["facts"]["row"] = method
            write_result(row / "learned", box, box - 4, images=300, half=0.1, **told)
            write_plan(row)
    found = rows(tmp_path, DROP).dropna(subset="measured")
    assert sorted(found["measured"]) == pytest.approx([-32, -10])
    assert list(found["seeds"]) == [1, 1]


def test_pictures_of_another_size_or_turned_otherwise_are_no_partner(tmp_path: Path) -> None:
    def seen(folder: str, box: float, method: str, side: int, **facts) -> None:
        told = trained(method, size="nano", neck="pyramid", classes=SHAPES)
        told["facts"] |= facts
        told["facts"]["config"]["data"] = {"short_side": side, "long_side": side}
        write_result(tmp_path / folder, box, box - 4, images=300, half=0.1, **told)

    for name, side, facts, cause in (
        ("size", 800, {}, "pictures of 256 to 256 px, not 800 to 800 px"),
        ("exif", 256, {"exif": "on"}, "data read with exif auto, not exif on"),
    ):
        seen(f"{name}/svit", 50.0, "svit", 256)
        seen(f"{name}/dense", 60.0, "dense", side, **facts)
        table = rows(tmp_path / name, DROP)
        assert table["measured"].isna().all() and cause in table["left_out"][0]
        seen(f"{name}/alike", 51.0, "dense", 256)
        assert only(tmp_path / name, DROP).measured == pytest.approx(-1.0)


def test_where_no_training_is_recorded_the_row_says_so(tmp_path: Path) -> None:
    write(tmp_path / "svit", 61.3)
    write(tmp_path / "dense", 63.4, "dense")
    assert "start and length of the trainings are not recorded" in only(tmp_path, DROP).reason


def test_seeds_are_compared_with_their_like_and_shown_one_by_one(tmp_path: Path) -> None:
    for seed, box in ((0, 61.0), (1, 60.6)):
        write(tmp_path / f"svit{seed}", box, seed=seed)
    write(tmp_path / "dense0", 63.3, "dense")
    row = only(tmp_path, DROP)
    assert row.measured == pytest.approx(-2.3) and row.seeds == 1  # not of the mean over two seeds
    assert "svit1: no dense alike (training seed 1)" in row.left_out
    write(tmp_path / "dense1", 63.5, "dense", seed=1)
    row = only(tmp_path, DROP)
    assert (row.seeds, row.by_seed) == (2, "0: -2.30, 1: -2.90")
    assert row.measured == pytest.approx(-2.6)


def test_seeds_that_disagree_show_no_direction(tmp_path: Path) -> None:
    for seed, box in ((0, 64.5), (1, 62.5)):
        write(tmp_path / f"svit{seed}", box, seed=seed)
        write(tmp_path / f"dense{seed}", 63.0, "dense", seed=seed)
    row = only(tmp_path, DROP)
    assert row.measured == pytest.approx(0.5) and row.direction == "unclear"
    assert row.reason.endswith("seeds disagree; start and length of the trainings are not recorded")


def test_the_row_prints_the_noise_of_its_direction(tmp_path: Path) -> None:
    write(tmp_path / "svit", 61.0, half=0.3)
    write(tmp_path / "dense", 61.4, "dense", half=0.4)
    row = only(tmp_path, DROP)
    assert (row.low, row.high) == (pytest.approx(-0.9), pytest.approx(0.1))
    assert row.direction == "unclear" and "in quadrature" in row.noise
    shown = tables.shown_ledger(rows(tmp_path, DROP)).iloc[-1]
    assert shown["measured"] == "-0.4 [-0.9, +0.1]" and shown["noise"] == row.noise
    assert (shown["ratio"], shown["seeds"], shown["images"]) == ("0.7", "1", "300")


def test_where_matches_were_kept_the_noise_is_paired(tmp_path: Path) -> None:
    write(tmp_path / "svit", 61.0, half=2)
    write(tmp_path / "dense", 61.4, "dense", half=2)
    for name in ("svit", "dense"):
        keep_matches(tmp_path / name)
    row = only(tmp_path, DROP)
    assert (
        row.noise == "95 % percentile over images, paired"
        and row.direction == "same"
        and row.above == 0
    )
    assert (row.low, row.high) == pytest.approx((-0.4, -0.4), abs=1e-4)
    assert tables.shown_ledger(rows(tmp_path, DROP)).iloc[-1]["P(> 0)"] == "<0.001"


def test_no_change_is_a_whole_interval_within_the_tolerance(tmp_path: Path) -> None:
    gate = "s4.1.gate-tiny-box"  # the paper: +0.0 within 0.3
    for name, box, half, wanted in (
        ("same", 60.1, 0.05, "same"),
        ("wide", 60.1, 0.5, "unclear"),
        ("far", 61.0, 0.05, "opposite"),
    ):
        write(tmp_path / name / "svit", 60.0, half=half)
        write(tmp_path / name / "gate", box, half=half, gate="local_global")
        assert only(tmp_path / name, gate).direction == wanted


def test_an_ablation_that_keeps_more_tokens_shows_nothing(tmp_path: Path) -> None:
    write(tmp_path / "svit", 60.8, keep=0.534)
    write(tmp_path / "inherit", 59.5, keep=0.511, inherit=True)
    row = only(tmp_path, REACTIVATION)
    assert row.direction == "unclear" and "the better one keeps more tokens" in row.reason
    assert row.kept == "0.534 and 0.511"
    write(tmp_path / "fewer" / "svit", 60.8, keep=0.501)
    write(tmp_path / "fewer" / "inherit", 59.5, keep=0.511, inherit=True)
    assert only(tmp_path / "fewer", REACTIVATION).direction == "same"


def test_another_way_of_deciding_is_no_partner(tmp_path: Path) -> None:
    write(tmp_path / "svit", 60.8, inference="calibrated")
    write(tmp_path / "inherit", 59.5, inherit=True)
    (left_out,) = rows(tmp_path, REACTIVATION)["left_out"]
    assert "svit: no svit inherit alike (decided by calibrated, not threshold)" in left_out


def test_worlds_have_columns_of_their_own_and_are_never_pooled(tmp_path: Path) -> None:
    for world, classes, gap in (("shapes", SHAPES, 2.0), ("nuclei", ["nucleus"], 1.0)):
        data = {"data_sha256": world}
        write(tmp_path / world / "svit", 60.0, classes=classes, facts=data)
        write(tmp_path / world / "dense", 60.0 + gap, "dense", classes=classes, facts=data)
    table = rows(tmp_path, DROP).dropna(subset="measured").set_index("world")
    assert table["measured"].to_dict() == {"shapes": -2.0, "nuclei": -1.0}
    (wide,) = tables.by_world(rows(tmp_path, DROP)).to_dict("records")
    assert wide["shapes"].startswith("-2.0 [") and wide["nuclei"].startswith("-1.0 [")
    assert wide["COCO"] == "–" and wide["verdict"] == NOT_TESTED


def test_complex_images_keep_more_tokens_by_a_correlation_with_its_interval(tmp_path: Path) -> None:
    write(tmp_path / "svit", 60.0, correlation={"objects": 0.5, "area": 0.05})
    objects = only(tmp_path, "s3.3.complex-objects")
    # Fisher: tanh(atanh(0.5) +- 1.96 / sqrt(297))
    assert (objects.low, objects.high) == (
        pytest.approx(0.410, abs=1e-3),
        pytest.approx(0.580, abs=1e-3),
    )
    assert objects.direction == "same"
    assert only(tmp_path, "s3.3.complex-area").direction == "unclear"


def test_on_coco_a_verdict_needs_the_same_likeness(tmp_path: Path) -> None:
    for name, box, steps in (("svit", 48.2, 800), ("dense", 49.5, 800), ("shorter", 48.5, 400)):
        method = "svit" if name == "svit" else "dense"
        facts = {"trained_steps": steps}
        write_result(tmp_path / name, box, 42, **trained(method, "small", facts=facts))
    row = only(tmp_path, DROP)
    assert row.measured == pytest.approx(-1.3) and row.verdict == CONTRADICTED
    assert "shorter: no svit alike (trained on 3200 pictures, not 6400)" in row.left_out


def test_a_claim_without_a_measurement_says_what_was_left_out_on_the_page_too(
    tmp_path: Path,
) -> None:
    write(tmp_path / "svit", 62.1, base=0.8)
    write(tmp_path / "inherit", 59.5, inherit=True)
    (row,) = tables.by_world(rows(tmp_path, REACTIVATION).drop(columns="measured")).to_dict(
        "records"
    )
    assert row["remark"].startswith(
        "needs evaluations of svit and svit inherit (tiny, adapter at 0.7"
    )
    assert "left out: " in row["remark"] and "keep ratios 0.8/0.64/0.512" in row["remark"]
