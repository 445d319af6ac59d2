"""Slices of images through an evaluation: AP of a slice is that of its images alone."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from support.scenes import detector, nano, shapes

from analysis.numbers import image_list
from svit.core.matches import MATCHES, MatchesFile
from svit.data.coco import CocoDataset
from svit.evaluation.evaluate import Scoring, evaluate
from svit.evaluation.evaluation_table import report
from svit.evaluation.passes import PassOptions
from svit.evaluation.slice_scores import slice_ap, slices_in
from svit.evaluation.summary import Summary
from svit.runs.run import open_run

KINDS = ("crowded", "sparse", "sparse", "crowded")
QUIET = PassOptions(progress=False)


@pytest.fixture(scope="module")
def kinds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four shapes whose entries say a kind; beside them the json of each kind alone."""
    folder = tmp_path_factory.mktemp("shapes")
    shapes(folder)
    data = json.loads((folder / "annotations/instances_val2017.json").read_text())
    images = [{**image, "kind": kind} for image, kind in zip(data["images"], KINDS, strict=True)]
    for name in ("all", *KINDS):
        chosen = [image for image in images if name in ("all", image["kind"])]
        (folder / f"{name}.json").write_text(
            json.dumps({**data, "images": chosen, **_of(data, chosen)})
        )
    return folder


def _of(data: dict, images: list[dict]) -> dict:
    ids = {image["id"] for image in images}
    return {"annotations": [one for one in data["annotations"] if one["image_id"] in ids]}


def dataset(folder: Path, name: str = "all") -> CocoDataset:
    return CocoDataset(folder / f"{name}.json", folder / "val2017", nano().data)


def evaluated(folder: Path, name: str, out: Path, options: PassOptions = QUIET, **more) -> Summary:
    data = dataset(folder, name)
    return evaluate(detector(detections=20), data, out, options, Scoring(draws=20, **more))


def test_ap_of_a_slice_is_that_of_its_images_alone(kinds: Path, tmp_path: Path) -> None:
    whole = evaluated(kinds, "all", tmp_path / "all")
    assert slices_in(whole) == [("kind", "crowded"), ("kind", "sparse")]
    for name in set(KINDS):
        alone = evaluated(kinds, name, tmp_path / name)
        for kind in ("box", "mask"):
            found = slice_ap(whole, "kind", name, kind)
            assert found.value == pytest.approx(alone.scores[kind]["AP"])
            assert found.interval().bounds == pytest.approx(alone.intervals[kind].bounds)
    assert whole.images["kind"].tolist() == list(KINDS)


def test_a_data_set_is_the_same_with_and_without_its_kinds(kinds: Path) -> None:
    plain = CocoDataset(
        kinds / "annotations/instances_val2017.json", kinds / "val2017", nano().data
    )
    assert plain.coco() == dataset(kinds).coco() and plain.slices == {}
    assert dataset(kinds).slices == {"kind": list(KINDS)}


def test_the_table_has_a_line_a_slice_and_paired_differences(kinds: Path, tmp_path: Path) -> None:
    learned = evaluated(kinds, "all", tmp_path / "learned")
    random = evaluated(
        kinds, "all", tmp_path / "random", PassOptions(intervention="off", progress=False)
    )
    text = report([learned, random])
    assert "By kind:" in text and "| crowded | 2 |" in text and "| sparse | 2 |" in text
    assert text.index("Differences there:") < text.rindex("| crowded |")
    own, other = (slice_ap(one, "kind", "sparse", "box") for one in (learned, random))
    assert str((own - other).interval()) in text[text.index("Differences there:") :]


def test_a_limit_leaves_slices_of_the_images_that_are_seen(kinds: Path, tmp_path: Path) -> None:
    few = evaluated(kinds, "all", tmp_path, PassOptions(limit=1, progress=False))
    assert slices_in(few) == [("kind", "crowded")]
    assert "| crowded | 1 |" in report([few])


def test_boundaries_have_columns_in_every_table_where_asked(kinds: Path, tmp_path: Path) -> None:
    options = (QUIET, PassOptions(intervention="off", progress=False))
    learned, off = (
        evaluated(kinds, "all", tmp_path / str(place), one, boundary=True)
        for place, one in enumerate(options)
    )
    plain = evaluated(kinds, "all", tmp_path / "plain")
    told = report([learned, off])
    assert told.count("| boundary AP |") == 4 and told.count("| P boundary |") == 2
    assert "boundary" not in report([learned, plain]) and "boundary" not in plain.to_json()
    assert learned.to_json()["mask"] == plain.to_json()["mask"]
    assert learned.to_json()["boundary"]["AP"] <= learned.to_json()["mask"]["AP"]
    assert MatchesFile(tmp_path / "0" / MATCHES).matches("boundary").ap() == pytest.approx(
        learned.scores["boundary"]["AP"]
    )


def test_images_are_compared_by_their_number_of_objects_where_asked(
    kinds: Path, tmp_path: Path
) -> None:
    found = evaluated(kinds, "all", tmp_path, crowding=True)
    assert slices_in(found)[2:] == [("crowding", "crowded"), ("crowding", "sparse")]
    objects = found.images.groupby("crowding")["objects"]
    assert objects.max()["sparse"] < objects.min()["crowded"]
    assert "By kind, crowding:" in report([found])


def test_a_recorded_run_can_be_grouped_by_kind(kinds: Path, tmp_path: Path) -> None:
    evaluated(kinds, "all", tmp_path / "out", record=tmp_path / "run")
    run = open_run(tmp_path / "run")
    assert run.slices == ("kind",) and run.images["kind"].tolist() == list(KINDS)
    table = image_list.slice_frame(run)
    assert table["of"].tolist() == ["crowded", "sparse"] and table["images"].tolist() == [2, 2]
    frame = image_list.image_frame(run)
    assert image_list.matching(frame, "SPARSE")["image_id"].tolist() == list(run.image_ids[1:3])
    ratios = frame["keep_ratio"].to_numpy()
    assert table["keep_ratio"].tolist() == pytest.approx(
        [np.mean(ratios[[0, 3]]), np.mean(ratios[1:3])]
    )
