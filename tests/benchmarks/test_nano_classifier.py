"""The nano classifier from its pictures to the ledger, with a handful of steps."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from analysis.paper import claims, tables
from analysis.sources import collection
from benchmarks import nano_classifier
from svit.evaluation.classify import class_folder


def plain(seed: int, side: int) -> SimpleNamespace:
    """Stands in for a scene: every class in turn, and now and then two objects."""
    labels = [seed % 8] * (1 + (seed % 9 == 8))
    return SimpleNamespace(labels=labels, image=np.full((side, side, 3), 20 * labels[0], np.uint8))


def test_a_training_ends_in_the_tables_and_the_ledger(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nano_classifier, "PARTS", {"train": (16, 0), "val": (16, 10**7)})
    monkeypatch.setattr(nano_classifier, "scene", plain)
    monkeypatch.setattr(nano_classifier, "class_folder", partial(class_folder, size=64))
    out = tmp_path / "out"
    words = ["--work", str(tmp_path / "work"), "--out", str(out), "--steps", "1", "1"]
    monkeypatch.setattr(sys, "argv", ["nano_classifier", *words])
    nano_classifier.main()
    assert len(list((tmp_path / "work" / "pictures").rglob("*.png"))) == 32
    found = collection.collect([out])
    assert [one.path.name for one in found.accuracies] == [
        *("dense-learned-seed0", "svit-learned-seed0", "svit-random-seed0", "svit-shuffle-seed0")
    ]
    facts = found.accuracies[1].facts
    assert (facts.world, facts.data, facts.size) == ("classification", "single shapes", "nano")
    (table,) = tables.arranged((), found.accuracies).values()
    assert table["masks"].tolist() == ["own", "own", "random", "own, shuffled"]
    ledger = claims.ledger(found)
    (row,) = ledger[ledger["id"] == "supplement.drop"].dropna(subset="measured").to_dict("records")
    assert row["world"] == "classification" and "own masks − shuffle" in row["reason"]
    assert collection.collect([tmp_path / "work"]).runs[0].layers == 12
