"""Explanations lie beside a run, come back as they were, and are checked like it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from support.explanations import explanation
from support.runs import write_run

from svit.cli.main import main
from svit.runs.attributions import Attributions, Decided, read_attributions
from svit.runs.head import RunError
from svit.runs.run import Run, open_run
from svit.system.files import FileError

SETTINGS = {"steps": 2, "weights_sha256": "c0ffee"}


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return write_run(tmp_path / "run")


@pytest.fixture
def kept(run: Run) -> Attributions:
    kept = Attributions(run.path, SETTINGS)
    kept.claim()
    return kept


def test_an_explanation_comes_back_as_it_was(run: Run, kept: Attributions) -> None:
    wrote = kept.write(explanation(), Decided(0.99, True))
    ((path, found),) = read_attributions(run.path)
    own = explanation()
    assert path == wrote == kept.path(3, "annotation", 1)
    for name in ("curves", "beside", "forced"):
        pd.testing.assert_frame_equal(getattr(found, name), getattr(own, name), check_like=True)
    plain = {"curves": None, "beside": None, "forced": None}
    assert vars(replace(found, **plain)) == vars(replace(own, **plain))


def test_how_far_the_model_decided_as_recorded_is_kept_beside_it(kept: Attributions) -> None:
    kept.write(explanation(), Decided(0.99, True))
    assert kept.decided(explanation()) == Decided(0.99, True)


def test_ids_of_any_text_have_files_of_their_own(run: Run, kept: Attributions) -> None:
    names = {kept.path(one, "detection", 2).name for one in ("a/b", "a:b", "ä", "../x", 3, "3")}
    assert len(names) == 6 and all(name.endswith("-detection-2.json") for name in names)


def test_explanations_are_no_part_of_what_was_recorded(run: Run, kept: Attributions) -> None:
    before = run.content_hash()
    kept.write(explanation(), Decided(1.0))
    assert open_run(run.path).content_hash() == before
    assert main(["check", str(run.path)]) == 0


def test_other_settings_have_another_folder_and_equal_ones_the_same(
    run: Run, kept: Attributions
) -> None:
    assert Attributions(run.path, dict(reversed(SETTINGS.items()))).folder == kept.folder
    assert Attributions(run.path, {**SETTINGS, "steps": 3}).folder != kept.folder


def test_a_damaged_explanation_is_named_with_its_remedy(
    run: Run, kept: Attributions, capsys: pytest.CaptureFixture
) -> None:
    path = kept.write(explanation(), Decided(1.0))
    path.write_text(path.read_text().replace("0.75", "0.95"))
    assert main(["check", str(run.path)]) == 1
    said = capsys.readouterr().out
    assert str(path) in said and "svit explain" in said
    path.write_text("{}")
    with pytest.raises(RunError, match="no explanation of an object"):
        list(read_attributions(run.path))


def test_explanations_of_another_recording_are_refused(
    tmp_path: Path, run: Run, kept: Attributions
) -> None:
    kept.write(explanation(), Decided(1.0))
    head = run.path / "run.json"
    created = open_run(run.path).created
    head.write_text(head.read_text().replace(created, "2001-01-01T00:00:00+00:00"))
    text = head.read_text()
    head.write_text(text[: text.rindex(',\n "sha256"')] + "\n}")
    with pytest.raises(RunError, match="2001-01-01.*delete"):
        list(read_attributions(run.path))
    with pytest.raises(FileError, match="another recording"):
        Attributions(run.path, SETTINGS).claim()
    assert main(["check", str(run.path)]) == 1


def test_numbers_keep_their_types(kept: Attributions, run: Run) -> None:
    one = explanation()
    single = one.curves.astype({"score": np.float32})
    kept.write(replace(one, curves=single), Decided(1.0))
    ((_, found),) = read_attributions(run.path)
    assert found.curves["score"].tolist() == single["score"].astype(float).tolist()
    assert found.sets[0].tokens == (1, 5, 9) and found.beside["members"].tolist() == [[2, 4, 11]]
