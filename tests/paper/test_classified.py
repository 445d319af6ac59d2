"""Accuracies of classifiers in the ledger: like with like, paired, own masks apart from moved ones."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from analysis.paper import claims, tables
from analysis.sources import classifiers, collection
from analysis.sources.evaluations import PAPER_TARGETS, EvaluationError
from svit.system.files import write_json

SHAPES = ["circle", "heart", "star"]


def write(
    folder: Path,
    method: str = "svit",
    masks: str = "learned",
    *,
    hits: str = "1150" * 25,
    seed: int = 0,
    width: int = 96,
    classes: list[str] = SHAPES,
    steps: int = 10,
) -> Path:
    """As `svit.evaluation.classify.write_accuracy`."""
    targets = [1.0] * 12 if method == "dense" else list(PAPER_TARGETS)
    backbone = {"embed_dim": width, "depth": 12, "heads": width // 64 if width > 96 else 3}
    source = {
        "framework": "classifier",
        "classifier": {"backbone": backbone, "pruning": {"method": method, "options": {}}},
        "method": method,
        "inference": "" if method == "dense" else "threshold",
        "targets": targets,
        "class_names": classes,
        "weights_sha256": f"{method} {seed}",
        "data_sha256": "feed",
        "intervention": masks,
        "trained": {"seed": seed, "steps": steps},
    }
    told = {"hits": hits, "keep": targets, "provenance": source}
    path = folder / f"{method}-{masks}-{seed}"
    path.mkdir(parents=True)
    write_json(path / "accuracy.json", told, sealed=True)
    return path


def drop(folder: Path) -> list[dict]:
    table = claims.ledger(collection.collect([folder]))
    return table[table["id"] == "supplement.drop"].to_dict("records")


def test_a_nano_classifier_has_a_row_of_its_own_world(tmp_path: Path) -> None:
    for seed in (0, 1):
        write(tmp_path, "dense", hits="1111" * 25, seed=seed)
        write(tmp_path, hits="1150" * 25, seed=seed)
        write(tmp_path, masks="shuffle", hits="1500" * 25, seed=seed)
    found = drop(tmp_path)
    assert found[0]["verdict"] == "not tested" and np.isnan(found[0]["measured"])
    row = found[1]
    assert row["measured"] == -50 and row["low"] < -50 < row["high"] < 0
    assert (row["world"], row["seeds"], row["images"]) == ("classification", 2, 100)
    assert row["verdict"] == "not tested" and row["direction"] == "same"
    assert "own masks − shuffle +25.0 [" in row["reason"] and row["of"].endswith("single shapes")
    (wide,) = (
        tables.by_world(claims.ledger(collection.collect([tmp_path])))
        .query("claim.str.startswith('SViT-S minus DeiT-S on ImageNet')")
        .to_dict("records")
    )
    assert wide["classification"].startswith("-50.0 [") and wide["shapes"] == "–"


def test_trainings_by_two_recipes_are_two_measurements(tmp_path: Path) -> None:
    for steps, hits in ((10, "1150" * 25), (20, "1110" * 25)):
        write(tmp_path / str(steps), "dense", hits="1111" * 25, steps=steps)
        write(tmp_path / str(steps), hits=hits, steps=steps)
    found = [(row["measured"], row["seeds"]) for row in drop(tmp_path)[1:]]
    assert sorted(found) == [(-50, 1), (-25, 1)]


def test_the_table_has_own_masks_beside_moved_ones_of_the_same_weights(tmp_path: Path) -> None:
    write(tmp_path, hits="1150" * 25)
    write(tmp_path, masks="shuffle", hits="1500" * 25)
    write(tmp_path, masks="random", hits="0000" * 25, seed=1)  # whose own masks were not measured
    found = collection.collect([tmp_path]).accuracies
    frame = classifiers.frame(found).set_index("masks")
    assert frame.loc["shuffle", "own_minus"] == 25 and np.isnan(frame.loc["random", "own_minus"])
    assert frame.loc["learned", ["top1", "top5"]].tolist() == [50, 75]
    assert frame.loc["learned", "keep_ratio"] == pytest.approx((0.7 + 0.49 + 0.343) / 3)
    table = tables.arranged((), found)["Classification"].set_index("masks")
    assert table.loc["own, shuffled", "own − these"].startswith("+25.0 [+")
    assert table.loc["own", "own − these"] == "–"


def test_only_the_supplements_own_kind_confirms(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("analysis.sources.evaluations.IMAGENET_VAL_IMAGES", 1000)
    imagenet = {"width": 384, "classes": list(map(str, range(1000)))}
    write(tmp_path, "dense", hits="1" * 798 + "5" * 152 + "0" * 50, **imagenet)
    write(tmp_path, hits="1" * 794 + "5" * 152 + "0" * 54, **imagenet)
    table = claims.ledger(collection.collect([tmp_path])).set_index("id")
    for name in ("dense.small.top1", "dense.small.top5", "svit.small.top1", "svit.small.top5"):
        assert table.loc[f"supplement.{name}", "verdict"] == "confirmed"
    assert table.loc["supplement.drop", "verdict"] == "confirmed"


def test_classifiers_that_were_not_trained_alike_are_not_subtracted(tmp_path: Path) -> None:
    write(tmp_path, "dense", steps=20)
    write(tmp_path)
    (row,) = drop(tmp_path)
    assert "no dense classifier alike" in row["left_out"]
    assert row["reason"].startswith("needs small classifiers, svit and dense, on ImageNet")


def test_a_damaged_accuracy_is_named(tmp_path: Path) -> None:
    path = write(tmp_path) / "accuracy.json"
    path.write_text(json.dumps({"top1": 3}))
    with pytest.raises(EvaluationError, match=r"accuracy.json.*classify again"):
        collection.collect([tmp_path])
    readable = collection.collect_readable([tmp_path])
    assert not readable.accuracies and "classify again" in readable.problems[0]
