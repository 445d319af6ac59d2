"""What masks are worth: lines of one model come together, differences are of like with like."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from support.summaries import SHAPES, provenance, write_plan, write_result

from analysis import render
from analysis.figures.output import DrawOptions
from analysis.figures.rates import controls as control_figures
from analysis.figures.rates import tradeoff
from analysis.paper import claims, tables
from analysis.sources import control_gain, evaluations, rates
from analysis.sources.collection import Collection
from analysis.sources.evaluations import Evaluation, find_evaluations

NANO = {"size": "nano", "neck": "pyramid", "classes": SHAPES, "images": 300}


def write_model(folder: Path, row: str, seed: int = 0, **aps: float) -> None:
    """A trained row with a line each of `aps`; methods are named as in rows."""
    method, _, variant = row.partition("-")
    options = {"retain": variant} if variant else {}
    facts = {"row": row, "weights_sha256": f"{row} {seed}"}
    for line, box in aps.items():
        source = provenance(method, "nano", neck="pyramid", classes=SHAPES, **options)
        config = {**source["config"], "train": {"seed": seed}}
        own = {"intervention": line, "config": config}
        write_result(
            folder / f"{row}-{seed}" / line, box, box - 4, facts=facts | own, method=method, **NANO
        )


@pytest.fixture
def results(tmp_path: Path) -> list[Evaluation]:
    """A dense model and SViT with two seeds each, one method that removes."""
    for seed in (0, 1):
        write_model(tmp_path, "dense", seed, learned=60 + seed, off=20)
        write_model(tmp_path, "svit", seed, learned=58 + 2 * seed, random=50, off=30)
    write_model(tmp_path, "evit-remove", learned=55, random=54, shuffle=53, oracle=57, off=40)
    write_model(tmp_path, "evit-preserve", learned=56)
    return find_evaluations(tmp_path)


def test_the_lines_of_a_model_are_one_row_and_missing_controls_are_not_zero(
    results: list[Evaluation],
) -> None:
    found = control_gain.frame(results).set_index(["name", "seed"])
    assert len(found) == 6
    evit = found.loc[("evit-remove", 0)]
    assert (evit.box_ap, evit.box_random, evit.box_oracle, evit.mask_off) == (55, 54, 57, 36)
    assert np.isnan(found.loc[("svit", 0), "box_shuffle"])
    assert control_gain.with_controls(control_gain.frame(results))["name"].nunique() == 3


def test_a_control_in_some_blocks_is_not_taken_for_one_in_all(tmp_path: Path) -> None:
    write_model(tmp_path, "svit", learned=58, off=30)
    source = json.loads((tmp_path / "svit-0/off/summary.json").read_text())
    source["provenance"]["layers"] = [4]
    (tmp_path / "svit-0/some").mkdir()
    (tmp_path / "svit-0/some/summary.json").write_text(json.dumps(source))
    found = find_evaluations(tmp_path)
    assert sorted(one.facts.source[2] for one in found) == ["learned", "off", "off in block 5"]
    assert control_gain.frame(found)["box_off"].tolist() == [30]


def test_a_gap_is_to_the_dense_model_of_the_same_seed(results: list[Evaluation]) -> None:
    found = control_gain.frame(results).set_index(["name", "seed"])
    assert found.loc[("svit", 0), "box_gap"] == -2 and found.loc[("svit", 1), "box_gap"] == -1
    assert found.loc[("dense", 1), "mask_gap"] == 0


def test_without_a_dense_model_of_the_same_images_there_is_no_gap(tmp_path: Path) -> None:
    write_model(tmp_path, "svit", learned=58)
    write_result(tmp_path / "dense", method="dense", **{**NANO, "images": 99})
    found = control_gain.frame(find_evaluations(tmp_path)).set_index("name")
    assert np.isnan(found.loc["svit", "box_gap"])


def test_means_are_over_trainings_and_tell_each_of_them(results: list[Evaluation]) -> None:
    means = control_gain.over_seeds(control_gain.frame(results)).set_index("name")
    svit = means.loc["svit"]
    assert (svit.box_ap, svit.seeds, svit.box_over_random) == (59, 2, 9)
    assert svit.box_by_seed == "58.0, 60.0" and means.loc["evit-remove", "box_by_seed"] == "55.0"


def test_a_control_that_one_seed_lacks_is_set_beside_the_other_seed_alone(tmp_path: Path) -> None:
    write_model(tmp_path, "svit", 0, learned=58, random=50)
    write_model(tmp_path, "svit", 1, learned=60)
    means = control_gain.over_seeds(control_gain.frame(find_evaluations(tmp_path)))
    assert means["box_over_random"].tolist() == [8] and means["seeds"].tolist() == [2]


def test_seeds_of_masks_are_averaged_and_are_no_trainings(tmp_path: Path) -> None:
    write_model(tmp_path, "svit", learned=58)
    for seed, box in ((0, 50), (1, 52)):
        facts = {"row": "svit", "weights_sha256": "svit 0", "intervention": "random"}
        config = provenance("svit", "nano", neck="pyramid")["config"] | {"train": {"seed": 0}}
        facts |= {"config": config}
        write_result(tmp_path / f"random{seed}", box, seed=seed, facts=facts, **NANO)
    found = control_gain.frame(find_evaluations(tmp_path))
    assert len(found) == 1 and found.box_random.tolist() == [51]


def test_calibrated_gates_are_a_dial_only_beside_the_models_own_way(tmp_path: Path) -> None:
    write_model(tmp_path, "svit", learned=58)
    facts = {"row": "svit", "weights_sha256": "recalibrated", "inference": "calibrated"}
    write_result(tmp_path / "dial", 50, facts=facts, base=0.5, **NANO)
    found = control_gain.frame(find_evaluations(tmp_path))
    assert dict(zip(found["name"], found["dial"])) == {"svit": False, "svit, dial at 0.5": True}
    alone = control_gain.frame(find_evaluations(tmp_path / "dial"))
    assert alone["name"].tolist() == ["svit"] and not alone["dial"].any()


def test_bodies_are_told_apart_and_never_share_a_table(tmp_path: Path) -> None:
    write_model(tmp_path, "svit", learned=58)
    write_result(tmp_path / "adapter", 61, facts={"row": "svit"}, **{**NANO, "neck": "adapter"})
    results = find_evaluations(tmp_path)
    assert control_gain.frame(results)["name"].nunique() == 2
    assert list(evaluations.data_groups(results)) == ["shapes, 300 images"]
    assert list(evaluations.data_groups(results, bodies=True)) == [
        "nano, adapter neck, shapes, 300 images",
        "nano, pyramid neck, shapes, 300 images",
    ]


def test_equal_names_of_other_data_are_told_apart_by_their_hash(tmp_path: Path) -> None:
    for digest in ("beef" * 16, "cafe" * 16):
        facts = {"data_sha256": digest}
        write_result(tmp_path / digest[:4], 58, facts=facts, **NANO)
    found = evaluations.data_groups(find_evaluations(tmp_path))
    assert set(found) == {"shapes, 300 images (beefbe)", "shapes, 300 images (cafeca)"}


def test_a_model_finetuned_for_another_ratio_is_not_the_papers_row(
    results: list[Evaluation], tmp_path: Path
) -> None:
    facts = {"row": "svit-0.9", "weights_sha256": "of 0.9"}
    write_result(tmp_path / "more", 70, facts=facts, base=0.9, **NANO)
    found = tables.arranged(find_evaluations(tmp_path))
    about = "nano, pyramid neck, shapes, 300 images"
    assert found[f"Table 5: {about}"].set_index("model").loc["SViT", "box AP"].startswith("59.0")
    assert "svit-0.9" in found[f"Controls: {about}"]["model"].tolist()


@pytest.mark.parametrize("seeds", [1, 2, 3, 5])
def test_a_model_stays_in_its_table_however_many_seeds_it_has(tmp_path: Path, seeds: int) -> None:
    for seed in range(seeds):
        for row in ("dense", "svit", "evovit", "evit-preserve"):
            write_model(tmp_path, row, seed, learned=58 + seed)
    found = tables.arranged(find_evaluations(tmp_path))
    about = "nano, pyramid neck, shapes, 300 images"
    assert found[f"Table 2: {about}"]["model"].tolist() == ["EViT + preserve", "Evo-ViT"]
    assert found[f"Table 5: {about}"]["model"].tolist() == ["DeiT", "Evo-ViT", "SViT"]


def test_tables_have_the_papers_order_and_only_models_of_it(results: list[Evaluation]) -> None:
    found = tables.arranged(results)
    about = "nano, pyramid neck, shapes, 300 images"
    assert list(found) == [f"Table 2: {about}", f"Table 5: {about}", f"Controls: {about}"]
    table = found[f"Table 5: {about}"].set_index("model")
    assert list(table.index) == ["DeiT", "EViT", "SViT"]
    assert table.loc["SViT", "box AP, paper"] == "45.5"
    svit = table.loc["SViT", ["box AP", "box ± images", "box by seed"]]
    assert svit.tolist() == ["59.0", "0.4", "58.0, 60.0"]  # seeds and images never in one number
    assert table.loc["EViT", ["box AP", "box by seed"]].tolist() == ["55.0", "55.0"]
    assert table.loc["EViT", "box − dense"] == "-5.0"
    controls = found[f"Controls: {about}"].set_index("model")
    assert controls.loc["evit-remove", "own − objects"] == "-2.0"
    assert controls.loc["evit-preserve", "own − random"] == "–"


def test_the_papers_own_models_are_not_among_the_others(tmp_path: Path) -> None:
    write_result(tmp_path / "svit")
    assert tables.arranged(find_evaluations(tmp_path)) == {}


def test_the_figure_has_a_row_a_model_and_axes_apart_for_those_far_below(
    results: list[Evaluation],
) -> None:
    table = control_figures.frame(results)
    (part,) = control_figures.blocks(table, "box")  # three models: too few to call one far below
    ax = control_figures.print(part, Figure().subplots(), "box", dense=[60.5])
    assert [label.get_text() for label in ax.get_yticklabels()] == ["dense", "svit", "evit-remove"]
    own = next(line for line in ax.lines if line.get_label() == "its own masks")
    assert sorted(own.get_xdata()) == [55, 58, 60, 60, 61]
    assert len(set(own.get_ydata())) == 5  # seeds beside each other in their row
    ends = np.array([one.get_segments() for one in ax.collections][0])[:, :, 0]
    assert np.allclose(
        sorted(ends[:, 1] - ends[:, 0]), 0.8
    )  # the stated interval, not twice its half
    chart = control_figures.screen(part, "box").to_dict()
    (rule,) = [one for one in chart["layer"] if "x2" in one["encoding"]]
    assert rule["transform"] == [{"filter": {"field": "masks", "equal": "its own masks"}}]
    reach = chart["layer"][1]["encoding"]["x"]["scale"]["domain"]
    assert reach[0] < 50 - 1 and reach[1] > 61  # room for the numbers without any token


def test_models_far_below_the_others_do_not_stretch_their_axis(tmp_path: Path) -> None:
    for number, method in enumerate(("svit", "evit", "ats", "random", "dynamicvit")):
        write_model(
            tmp_path / method, method, learned=30 if method == "ats" else 60 - number, random=50
        )
    table = control_figures.frame(find_evaluations(tmp_path))
    upper, lower = control_figures.blocks(table, "box")
    assert lower["family"].tolist() == ["ats"] and len(upper) == 4
    worth = control_figures.print_differences(lower, Figure().subplots(), "box").lines[0]
    assert worth.get_xdata().tolist() == [-20]  # its own minus random


def test_the_command_draws_it_and_says_what_it_needs(
    results: list[Evaluation], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert render.main(["controls", str(tmp_path), "--out", str(tmp_path / "out")]) == 0
    written = pd.read_csv(tmp_path / "out" / "controls-box.csv")
    assert written["name"].tolist().count("svit") == 2
    write_model(tmp_path / "other", "svit", learned=58)
    assert render.main(["controls", str(tmp_path / "other")]) == 2
    assert "--intervene" in capsys.readouterr().err


def test_the_tradeoff_leaves_masks_of_others_out(
    results: list[Evaluation], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = evaluations.own_masks(results)
    assert len(own) == 6 and {one.facts.source[2] for one in own} == {"learned"}
    assert render.main(["tradeoff", str(tmp_path), "--out", str(tmp_path / "out")]) == 0
    assert len(pd.read_csv(tmp_path / "out" / "tradeoff-box.csv")) == 6
    write_model(tmp_path / "other", "svit", random=58)
    assert render.main(["tradeoff", str(tmp_path / "other")]) == 2
    assert "own masks" in capsys.readouterr().err


def test_names_of_lines_tell_only_what_differs(tmp_path: Path) -> None:
    write_result(tmp_path / "one", base=0.5, **NANO)
    write_result(tmp_path / "two", method="dense", **NANO)
    assert rates.series(find_evaluations(tmp_path)) == ["svit, threshold", "dense"]
    write_result(tmp_path / "wide", **{**NANO, "size": "tiny"})
    assert rates.series(find_evaluations(tmp_path)) == [
        "svit, nano, threshold",
        "dense, nano",
        "svit, tiny, threshold",
    ]


def test_no_line_joins_trainings_of_another_length(tmp_path: Path) -> None:
    config = {**provenance("svit", "nano", neck="pyramid")["config"], "train": {"batch": 8}}
    for steps in (400, 1000):
        facts = {"row": "svit", "weights_sha256": f"{steps}", "trained_steps": steps}
        write_result(tmp_path / f"{steps}", 60, facts=facts | {"config": config}, **NANO)
    assert rates.series(find_evaluations(tmp_path)) == [
        "svit, threshold, 3200 pictures trained on",
        "svit, threshold, 8000 pictures trained on",
    ]


def test_trainings_by_another_recipe_are_named_by_what_differs_and_never_averaged(
    tmp_path: Path,
) -> None:
    body = provenance("svit", "nano", neck="pyramid")["config"]
    for distil, box in ((0.0, 60), (1.0, 62)):
        train = {"seed": 0, "distil": distil, "rate": 1e-3, "iterations": 300}
        facts = {"row": "svit", "weights_sha256": f"{distil}", "config": {**body, "train": train}}
        folder = tmp_path / f"{distil}" / "svit-seed0"
        write_result(folder / "learned", box, facts=facts, **NANO)
        write_plan(folder)
    results = find_evaluations(tmp_path)
    means = control_gain.over_seeds(control_gain.frame(results)).set_index("name")
    assert means["box_ap"].to_dict() == {"svit, distil 1.0": 62, "svit, distil 0.0": 60}
    assert rates.series(results) == [
        "svit, threshold, distil 0.0",
        "svit, threshold, distil 1.0",
    ]
    assert control_gain.frame(results[:1])["name"].tolist() == ["svit"]  # alone it needs no word


def test_what_computed_otherwise_or_decided_otherwise_is_named_and_never_averaged(
    tmp_path: Path,
) -> None:
    config = provenance("svit", "nano", neck="pyramid")["config"]
    sides = {"data": {"short_side": 256, "long_side": 256}}
    smaller = {"data": {"short_side": 128, "long_side": 128}}
    ways = {
        "float32, 256 to 256 px, keep ratio 0.7, threshold": (50, {}, sides, {}),
        "bfloat16, 256 to 256 px, keep ratio 0.7, threshold": (
            40,
            {"dtype": "bfloat16"},
            sides,
            {},
        ),
        "float32, 128 to 128 px, keep ratio 0.7, threshold": (30, {}, smaller, {}),
        "float32, 256 to 256 px, keep ratio 0.5, threshold": (20, {}, sides, {"base": 0.5}),
        "float32, 256 to 256 px, keep ratio 0.7, topk": (10, {}, sides, {"inference": "topk"}),
    }
    for number, (box, facts, data, choices) in enumerate(ways.values()):
        facts = {**facts, "weights_sha256": "w", "config": {**config, **data}}
        write_result(tmp_path / str(number), box, facts=facts, **NANO, **choices)
    dense = {"weights_sha256": "d", "config": {**config, **sides}}
    write_result(tmp_path / "dense", 60, method="dense", facts=dense, **NANO)
    results = find_evaluations(tmp_path)
    found = control_gain.over_seeds(control_gain.frame(results)).set_index("name")
    assert found["box_ap"].to_dict() == {
        "dense": 60,
        **{f"svit, {name}": box for name, (box, *_) in ways.items()},
    }
    gaps = found["box_gap"].to_dict()
    assert gaps["svit, float32, 256 to 256 px, keep ratio 0.7, threshold"] == -10
    assert np.isnan(gaps["svit, bfloat16, 256 to 256 px, keep ratio 0.7, threshold"])
    assert np.isnan(gaps["svit, float32, 128 to 128 px, keep ratio 0.7, threshold"])
    # a line joins ratios, nothing else
    assert len(set(rates.series(results[:3]))) == 3


def test_of_its_body_a_name_tells_what_differs_alone(tmp_path: Path) -> None:
    for size in ("nano", "tiny"):
        told = NANO | {"size": size, "facts": {"weights_sha256": size}}
        write_result(tmp_path / size, 50, **told)
    assert set(control_gain.frame(find_evaluations(tmp_path))["name"]) == {
        "svit (nano)",
        "svit (tiny)",
    }


def test_data_read_otherwise_is_named_and_never_averaged(tmp_path: Path) -> None:
    renamed = {"class_map": {"ring": "star", "cross": "ring"}}
    for box, told in ((50, {}), (40, {"exif": "off"}), (30, renamed)):
        facts = {"weights_sha256": "w", **told}
        write_result(tmp_path / str(box), box, facts=facts, **NANO)
    write_result(tmp_path / "dense", 60, method="dense", facts={"weights_sha256": "d"}, **NANO)
    results = find_evaluations(tmp_path)
    found = control_gain.over_seeds(control_gain.frame(results)).set_index("name")
    assert found["box_ap"].to_dict() == {
        "dense": 60,
        "svit, exif auto": 50,
        "svit, exif off": 40,
        "svit, exif auto, classes cross=ring ring=star": 30,
    }
    assert found.loc["svit, exif auto", "box_gap"] == -10
    assert np.isnan(found.loc["svit, exif off", "box_gap"])
    assert len(set(rates.series(results))) == 4


def test_trainings_that_nothing_is_known_of_are_said_so_once() -> None:
    known = {"views": "1600", "start": "abcdefgh", "recipe": ""}
    names = [{"name": "svit", **known}, {"name": "svit", "views": "", "start": "", "recipe": ""}]
    names.append({"name": "svit", "views": "1600", "start": "", "recipe": ""})
    assert list(rates.trainings_told(pd.DataFrame(names))) == [
        ", 1600 pictures trained on, from abcdef",
        ", training unknown",
        ", 1600 pictures trained on, start unknown",
    ]


def test_a_training_is_set_beside_the_dense_one_of_its_recipe_or_of_the_only_other(
    tmp_path: Path,
) -> None:
    def write(row: str, distil: float, box: float) -> None:
        body = provenance(row, "nano", neck="pyramid")["config"]
        train = {"seed": 0, "distil": distil}
        facts = {"row": row, "weights_sha256": f"{row}{distil}", "config": {**body, "train": train}}
        folder = tmp_path / f"{row}{distil}"
        write_result(folder / "learned", box, method=row, facts=facts, **NANO)
        write_plan(folder)

    def gaps() -> dict[str, float]:
        found = control_gain.frame(find_evaluations(tmp_path))
        return found.set_index("name")["box_gap"].to_dict()

    write("svit", 0.0, 50)
    write("svit", 1.0, 30)
    write("dense", 0.0, 60)
    assert gaps() == {"svit, distil 0.0": -10, "svit, distil 1.0": -30, "dense": 0}
    write("dense", 1.0, 62)
    told = gaps()
    assert (told["svit, distil 0.0"], told["svit, distil 1.0"]) == (-10, -32)
    assert (told["dense, distil 0.0"], told["dense, distil 1.0"]) == (0, 0)
    found = tables.arranged(find_evaluations(tmp_path))
    (table,) = (one for name, one in found.items() if name.startswith("Table 5"))
    assert {"svit, distil 0.0", "svit, distil 1.0"} < set(table["model"])


def test_data_without_masks_have_no_mask_ap(tmp_path: Path) -> None:
    for row, box in (("dense", 60), ("svit", 58)):
        write_result(tmp_path / row, box, -1.0, method=row, facts={"row": row}, **NANO)
    results = find_evaluations(tmp_path)
    assert [one.kinds for one in results] == [["box"], ["box"]]
    found = control_gain.over_seeds(control_gain.frame(results))
    assert control_gain.kinds_of(found) == ["box"] and "mask_gap" not in found
    drawn = list(tradeoff.draw(Collection(results=results), DrawOptions()))
    assert [one.name for one in drawn] == ["tradeoff-box"]
    ledger = claims.ledger(Collection(results=results))
    told = ledger[ledger["measure"].str.contains("mask") & ledger["world"].notna()]
    assert not len(told[told["measured"].notna()]) and ledger["measured"].notna().any()


def test_the_line_of_the_dense_model_is_drawn_for_each_body_and_never_of_lent_masks(
    tmp_path: Path,
) -> None:
    write_model(tmp_path, "svit", learned=58, random=50, off=30)
    write_model(tmp_path, "dense", learned=60, off=20)
    lent = {"row": "dense", "weights_sha256": "dense 0", "masks_from": "svit 0"}
    write_result(tmp_path / "lent", 40, method="dense", facts=lent, **NANO)
    off = lent | {"intervention": "off"}
    write_result(tmp_path / "lent-off", 20, method="dense", facts=off, **NANO)
    table = control_figures.frame(find_evaluations(tmp_path))
    assert set(table["name"]) >= {"dense", "svit"}
    left = control_figures.compose(table, "box").axes[0]
    upright = [
        line for line in left.lines if len(set(line.get_xdata())) == 1 < len(line.get_xdata())
    ]
    assert {float(line.get_xdata()[0]) for line in upright} == {60}


def test_masks_of_another_model_carry_its_name_and_are_no_dense_level(
    results: list[Evaluation], tmp_path: Path
) -> None:
    facts = {"row": "dense", "weights_sha256": "dense 0", "masks_from": "svit 0"}
    write_result(tmp_path / "lent", 40, method="dense", facts=facts, **NANO)
    found = control_gain.frame(find_evaluations(tmp_path)).set_index(["name", "seed"])
    assert ("dense, masks of svit", 0) in found.index
    assert found.loc[("svit", 0), "box_gap"] == -2  # to the dense model with all its tokens


def test_trainings_of_another_length_are_no_seeds_of_one_row(
    results: list[Evaluation], tmp_path: Path
) -> None:
    config = {**provenance("svit", "nano", neck="pyramid")["config"], "train": {"batch": 8}}
    facts = {"row": "svit", "weights_sha256": "long", "trained_steps": 1000, "config": config}
    write_result(tmp_path / "long", 70, facts=facts, **NANO)
    means = control_gain.over_seeds(control_gain.frame(find_evaluations(tmp_path)))
    means = means.set_index("name")
    assert means.loc["svit, 8000 pictures trained on", "box_ap"] == 70
    assert means.loc["svit, length unknown", "seeds"] == 2
    assert np.isnan(means.loc["svit, 8000 pictures trained on", "box_gap"])  # no dense as long


def test_beside_a_single_seed_a_mean_interval_is_called_one_of_all_seeds(results) -> None:
    table = control_figures.frame(results)
    whole, one = table, table[table["seed"] == 0]
    for rows, told in ((whole, "from (paired, mean over seeds)"), (one, "from (paired)")):
        (part, *_) = control_figures.blocks(rows, "box")
        assert f'"title": "{told}"' in control_figures.screen(part, "box").to_json()


def test_what_is_not_known_of_a_model_is_a_dash_in_its_table(tmp_path: Path) -> None:
    write_model(tmp_path, "svit", learned=50, random=40)
    for path in tmp_path.rglob("summary.json"):
        summary = json.loads(path.read_text())
        summary["macs_backbone"]["mean"] = summary["keep_ratio"]["mean"] = None
        summary["box"]["AP_interval"] = summary["mask"]["AP_interval"] = [None, None]
        path.write_text(json.dumps(summary))
    (table,) = tables.arranged(find_evaluations(tmp_path)).values()
    row = table.iloc[0]
    assert row[["box ± images", "kept", "GMACs backbone"]].tolist() == ["–"] * 3
    assert row["box AP"] == "50.0"
