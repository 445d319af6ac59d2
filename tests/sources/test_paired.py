"""Differences over the same draws: own minus control, model minus dense, and rows at equal tokens."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from support.summaries import SHAPES, provenance, write_result

from analysis.figures.output import DrawOptions
from analysis.figures.rates import controls
from analysis.paper import tables
from analysis.sources import control_gain, paired
from analysis.sources.collection import Collection
from analysis.sources.evaluations import EvaluationError, find_evaluations
from svit.core.matches import MATCHES, Matches, packed
from svit.core.statistics import Drawn

NANO = {"size": "nano", "neck": "pyramid", "classes": SHAPES, "images": 300}
WAVES = np.random.default_rng(0).normal(size=400)  # what is hard in a draw is hard for all


def write_line(
    folder: Path,
    method: str,
    line: str,
    box: float,
    seed: int = 0,
    *,
    key: str = "k",
    boundary: float | None = None,
    **choices,
) -> None:
    """An evaluation whose draws are its AP plus what all evaluations share and a little of its own."""
    source = provenance(method, "nano", neck="pyramid", classes=SHAPES, **choices)
    config = {**source["config"], "train": {"seed": seed}}
    facts = {"row": method, "weights_sha256": f"{method} {seed} {choices}", "intervention": line}
    name = f"{method}-{seed}-{choices.get('inference', '')}-{choices.get('base', 0.7)}"
    path = folder / name / line
    write_result(
        path, box, box - 4, facts=facts | {"config": config}, method=method, **choices, **NANO
    )
    own = np.random.default_rng(round(box * 100)).normal(0, 0.1, len(WAVES))
    kinds = {"box": box, "mask": box - 4} | ({} if boundary is None else {"boundary": boundary})
    drawn = {kind: Drawn(ap, ap + 2 * WAVES + own, key) for kind, ap in kinds.items()}
    content = packed({kind: Matches((1,), ()) for kind in kinds}, drawn)
    (path / MATCHES).write_bytes(content)
    summary = json.loads((path / "summary.json").read_text())
    summary["matches_sha256"] = hashlib.sha256(content).hexdigest()
    if boundary is not None:
        summary["boundary"] = {"AP": boundary, "AP_interval": [boundary - 1, boundary + 1]}
    (path / "summary.json").write_text(json.dumps(summary))


def test_own_minus_control_is_paired_and_a_mean_over_trainings(tmp_path: Path) -> None:
    for seed in (0, 1, 2):
        write_line(tmp_path, "svit", "learned", 60 + seed, seed)
        write_line(tmp_path, "svit", "random", 59 + seed, seed)
        write_line(tmp_path, "dense", "learned", 63, seed)
    results = find_evaluations(tmp_path)
    table = paired.differences(results).set_index(["name", "against", "kind"])
    row = table.loc[("svit", "random", "box")]
    assert row["value"] == pytest.approx(1) and row["seeds"] == 3 and row["above"] == 1
    assert row["high"] - row["low"] < 0.5  # each AP alone has an interval of 8 points
    gap = table.loc[("svit", "dense", "mask")]
    assert gap["value"] == pytest.approx(-2) and gap["above"] == 0
    assert set(table.index.get_level_values("against")) == {"random", "dense"}


def test_models_stand_beside_those_trained_alike_without_a_choice(tmp_path: Path) -> None:
    for seed in (0, 1):
        write_line(tmp_path, "evit", "learned", 58 + seed, seed)
        write_line(tmp_path, "random", "learned", 59 + seed, seed)
        write_line(tmp_path, "random inherit", "learned", 57 + seed, seed)
    write_line(tmp_path, "random", "learned", 70, seed=2)  # trained with a seed that EViT was not
    results = find_evaluations(tmp_path)
    box = paired.differences(results).query("kind == 'box'").set_index(["name", "against"])["value"]
    assert box["evit", "trained on dice"] == pytest.approx(-1)
    assert box["evit", "trained on nested dice"] == pytest.approx(1)
    assert box["random", "trained on nested dice"] == pytest.approx(2)
    assert ("random", "trained on dice") not in box
    (shown,) = (
        one for name, one in tables.arranged(results).items() if name.startswith("Controls")
    )
    told = shown.set_index("model")["box − trained on nested dice"]
    assert told["evit"].startswith("+1.0 [") and told["random inherit"] == "–"


def test_dice_stand_beside_models_at_their_own_keep_ratio(tmp_path: Path) -> None:
    write_line(tmp_path, "svit", "learned", 30, base=0.5)
    write_line(tmp_path, "random", "learned", 25, base=0.5)
    write_line(tmp_path, "random", "learned", 45)
    write_line(tmp_path, "dense", "learned", 60)
    box = paired.differences(find_evaluations(tmp_path)).query("kind == 'box'")
    value = box.set_index(["name", "against"])["value"]
    assert value["svit", "trained on dice"] == pytest.approx(5)
    assert ("dense", "trained on dice") not in value  # dice of which ratio?
    assert box["draws"].tolist() == [len(WAVES)] * len(box)


def test_boundary_ap_stands_beside_mask_ap_where_both_results_have_it(tmp_path: Path) -> None:
    write_line(tmp_path, "svit", "learned", 60, boundary=50)
    write_line(tmp_path, "svit", "random", 59, boundary=47)
    write_line(tmp_path, "dense", "learned", 63)
    results = find_evaluations(tmp_path)
    table = paired.differences(results).set_index(["name", "against", "kind"])
    assert table.loc[("svit", "random", "boundary")]["value"] == pytest.approx(3)
    assert ("svit", "dense", "mask") in table.index
    assert ("svit", "dense", "boundary") not in table.index
    (cells,) = (one for name, one in tables.arranged(results).items() if "Controls" in name)
    cells = cells.set_index("model")
    assert cells.loc["svit", ["mask AP", "boundary AP"]].tolist() == ["56.0", "50.0"]
    assert cells.loc["dense", ["mask AP", "boundary AP", "boundary by seed"]].tolist() == [
        *("59.0", "–", "–")
    ]
    names = [one.name for one in controls.draw(Collection(results=results), DrawOptions())]
    assert names == ["controls-box", "controls-mask", "controls-boundary"]


def test_the_figure_of_controls_draws_them(tmp_path: Path) -> None:
    for seed in (0, 1):
        write_line(tmp_path, "svit", "learned", 60 + seed, seed)
        write_line(tmp_path, "svit", "random", 59 + seed, seed)
    table = controls.frame(find_evaluations(tmp_path))
    (part,) = controls.blocks(table, "box")
    ax = controls.print_differences(part, Figure().subplots(), "box")
    (lines,) = [one for one in ax.collections if hasattr(one, "get_segments")]
    ((start, end),) = lines.get_segments()  # one for both seeds
    assert start[0] == table["box_over_random_low"].iloc[0] < 1 < end[0] < 1.5
    assert "worth_low" in controls.screen(part, "box").to_json()


def test_evaluations_without_matches_give_no_row(tmp_path: Path) -> None:
    write_line(tmp_path, "svit", "learned", 60)
    write_line(tmp_path, "svit", "random", 59)
    (tmp_path / "svit-0--0.7" / "random" / MATCHES).unlink()
    assert not len(paired.differences(find_evaluations(tmp_path)))
    assert not len(paired.differences([]))


def test_matches_of_another_evaluation_are_refused(tmp_path: Path) -> None:
    write_line(tmp_path, "svit", "learned", 60)
    path = tmp_path / "svit-0--0.7" / "learned" / MATCHES
    path.write_bytes(path.read_bytes() + b"more")
    (one,) = find_evaluations(tmp_path)
    with pytest.raises(EvaluationError, match="not the one its summary names"):
        one.drawn("box")


def test_at_equal_tokens_a_model_with_thresholds_is_the_one_calibrated_to_its_own_ratio(
    tmp_path: Path,
) -> None:
    write_line(tmp_path, "svit", "learned", 60)
    for base, ap in ((0.5, 55), (0.7, 59)):
        write_line(tmp_path, "svit", "learned", ap, base=base, inference="calibrated")
    write_line(tmp_path, "evit", "learned", 57, inference="", retain="preserve")
    found = paired.at_equal_tokens(control_gain.frame(find_evaluations(tmp_path)))
    assert dict(zip(found["name"], found["box_ap"])) == {"svit": 59, "evit": 57}
