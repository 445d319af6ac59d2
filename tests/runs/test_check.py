"""A damaged or mixed-up run is an error that names file and row, wherever it is read."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.runs import PROVENANCE, write_run
from support.summaries import write_result

from analysis.numbers.run_counts import census
from analysis.sources.evaluations import EvaluationError, frame, read_evaluation
from svit.cli.main import main
from svit.runs.run import Run, RunError, open_run
from svit.system.files import write_json

SHARD = "shard-00000-000000"
IDS = (3, 1, 2)
LAYERS = 12


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return write_run(tmp_path_factory.mktemp("pristine") / "run", IDS)


@pytest.fixture
def folder(pristine: Run, tmp_path: Path) -> Path:
    return Path(shutil.copytree(pristine.path, tmp_path / "run"))


def read_everything(folder: Path) -> str:
    """Every way of reading a run. Returns: the hash of its content."""
    run = open_run(folder)
    _ = run.describe(), run.errors, run.images, run.keep_counts(), census(run)
    streams = (run.iter_traces(), run.iter_detections(masks=True), run.iter_pictures())
    for _ in zip(*streams, strict=True):
        pass
    for image_id in run.image_ids:
        _ = run.trace(image_id), run.target(image_id), run.detections(image_id, masks=True)
    return run.content_hash()


def change(folder: Path, kind: str, edit: Callable[[list[dict]], object], **types) -> None:
    """Rewrites a table of the shard, checksums and sizes included, as a faulty writer would."""
    path = folder / f"{SHARD}.{kind}.parquet"
    table = pq.read_table(path)
    rows = table.to_pylist()
    edit(rows)
    schema = table.schema
    for name, kind_of in types.items():
        schema = schema.set(schema.get_field_index(name), pa.field(name, kind_of))
    group = 8 * (LAYERS if kind == "tokens" else 1)
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), path, row_group_size=group)
    manifest = json.loads((folder / "manifest-00000.json").read_text())
    manifest["shards"][0]["bytes"][kind] = path.stat().st_size
    del manifest["sha256"]
    (folder / "manifest-00000.json").write_text(json.dumps(manifest))


def swap(rows: list[dict], first: int, second: int) -> None:
    rows[first], rows[second] = rows[second], rows[first]


DAMAGES = {
    "swapped images": (
        *("tokens", lambda rows: swap(rows, 0, LAYERS)),
        "row 0: image id 1 where the manifest has 3",
    ),
    "shuffled layers": ("tokens", lambda rows: swap(rows, 4, 7), "row 4: layer 7, expected 4"),
    "a surplus row": ("images", lambda rows: rows.append(rows[0]), "expected 3 rows, found 4"),
    "a missing row": ("tokens", lambda rows: rows.pop(), "expected 36 rows, found 35"),
    "too few bits": (
        *("tokens", lambda rows: rows[5].update(bits=b"\0")),
        "row 5: bits of 1 bytes, its grid needs",
    ),
    "a grid of 384 GiB": (
        *("tokens", lambda rows: [row.update(grid_h=2**21, grid_w=2**21) for row in rows]),
        "row 0: grid of 1.13e+15 pixels, too many",
    ),
    "another size in a row": (
        *("tokens", lambda rows: rows[1].update(image_h=121)),
        "row 1: image_h is 121, in the image's first row it is another",
    ),
    "a score that is infinite": (
        *("images", lambda rows: rows[1]["detection_scores"].__setitem__(0, np.inf)),
        "row 1: detection_scores with values that are not finite",
    ),
    "a gate's score that is infinite": (
        *("tokens", lambda rows: rows[5].update(scores=b"\0\x7c" * (len(rows[5]["scores"]) // 2))),
        "row 5: scores that are not finite",
    ),
    "boxes without labels": (
        *("images", lambda rows: rows[2]["detection_labels"].pop()),
        "row 2: detection_labels of 1 objects, detection_scores of 2",
    ),
    "a mask of another size": (
        *("images", lambda rows: rows[0]["target_masks"].__setitem__(1, b"04")),
        "row 0: target_masks, number 1, does not fill 18000 pixels",
    ),
    "a mask that stops midway": (
        *("images", lambda rows: rows[0]["target_masks"].__setitem__(0, b"o")),
        "row 0: target_masks, number 0: the text stops in the middle of a number",
    ),
    "a picture that is none": (
        *("images", lambda rows: rows[1].update(picture=b"no picture")),
        "row 1: its picture cannot be read",
    ),
}


@pytest.mark.parametrize(("kind", "edit", "finding"), DAMAGES.values(), ids=DAMAGES.keys())
def test_what_a_faulty_writer_stored_is_refused_by_file_and_row(
    folder: Path, kind: str, edit: Callable, finding: str, capsys: pytest.CaptureFixture[str]
) -> None:
    change(folder, kind, edit)
    with pytest.raises(RunError) as raised:
        read_everything(folder)
    assert finding in str(raised.value) and f"{SHARD}.{kind}.parquet" in str(raised.value)
    assert main(["check", str(folder)]) == 1
    assert finding in capsys.readouterr().out
    assert open_run(folder, skip_corrupt=True).image_ids == ()


@pytest.mark.parametrize(
    ("column", "type_", "values"), [("kept", pa.string(), "7"), ("bits", pa.string(), "x")]
)
def test_a_column_of_another_type_is_refused(
    folder: Path, column: str, type_: pa.DataType, values: str
) -> None:
    change(
        folder,
        "tokens",
        lambda rows: [row.update({column: values}) for row in rows],
        **{column: type_},
    )
    assert main(["check", str(folder)]) == 1


def test_counts_that_are_not_those_of_the_bits_are_found_by_the_check(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    change(folder, "tokens", lambda rows: rows[3].update(kept=rows[3]["kept"] - 1))
    assert main(["check", str(folder)]) == 1
    assert "row 3: kept is" in capsys.readouterr().out


def test_a_changed_entry_of_a_sealed_file_is_refused_unless_its_seal_is_taken_off(
    folder: Path,
) -> None:
    path = folder / "run.json"
    path.write_text(path.read_text().replace("disc", "disk"))
    with pytest.raises(RunError, match="run.json was changed after it was written"):
        open_run(folder)
    head = json.loads(path.read_text())
    path.write_text(json.dumps({key: value for key, value in head.items() if key != "sha256"}))
    assert open_run(folder).class_names == ["disk", "ball"]


@pytest.mark.parametrize(
    ("edit", "finding"),
    [
        ({"layers": -1}, "expected `layers` as a whole number from 0, found -1"),
        ({"rank": 1}, "it is of rank 1 of 1"),
        ({"finished": 1}, "expected `finished` as true or false"),
        ({"shards": {}}, "expected `shards` as a list"),
        ({"shards": [7]}, "expected a shard as an object, found 7"),
        ({"errors": [["x"]]}, "expected an error as"),
        ({"more": 1}, "expected the entries"),
    ],
)
def test_a_manifest_of_another_make_is_refused(folder: Path, edit: dict, finding: str) -> None:
    path = folder / "manifest-00000.json"
    manifest = json.loads(path.read_text())
    del manifest["sha256"]
    path.write_text(json.dumps({**manifest, **edit}))
    with pytest.raises(RunError, match="manifest-00000.json") as raised:
        open_run(folder)
    assert finding in str(raised.value)


def test_the_check_of_a_good_run_says_so_and_takes_a_folder_of_runs(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["check", str(folder.parent)]) == 0
    assert "ok, 3 images of 12 blocks, finished" in capsys.readouterr().out


@pytest.mark.slow
def test_500_mutations_give_the_same_content_or_the_projects_own_error(
    pristine: Run, tmp_path: Path
) -> None:
    random.seed(0)
    expected, files = read_everything(pristine.path), sorted(pristine.path.iterdir())
    outcomes = {"refused": 0, "same": 0}
    for number in range(500):
        folder = tmp_path / str(number)
        shutil.copytree(pristine.path, folder)
        path = folder / random.choice(files).name
        path.write_bytes(mutated(path.read_bytes()))
        try:
            assert (read_everything(folder), open_run(folder).provenance) == (expected, PROVENANCE)
            outcomes["same"] += 1
        except RunError as error:
            assert str(folder) in str(error)
            outcomes["refused"] += 1
        shutil.rmtree(folder)
    print(outcomes)
    assert outcomes["refused"] > 300, outcomes


@pytest.mark.slow
def test_200_mutations_of_a_summary_give_the_same_numbers_or_the_projects_own_error(
    tmp_path: Path,
) -> None:
    random.seed(0)
    path = write_result(tmp_path / "results", 62.5, 57.25) / "summary.json"
    write_json(path, json.loads(path.read_text()), indent=1, sealed=True)
    pristine, expected = path.read_bytes(), frame([read_evaluation(path)])
    refused = 0
    for _ in range(200):
        path.write_bytes(mutated(pristine))
        try:
            assert frame([read_evaluation(path)]).equals(expected)
        except EvaluationError as error:
            assert str(path) in str(error)
            refused += 1
    assert refused > 150


def mutated(data: bytes) -> bytes:
    """One of: a flipped bit, a changed byte, a cut, a piece twice, a piece zeroed."""
    place, length = random.randrange(len(data)), random.randint(1, 64)
    head, piece, tail = data[:place], data[place : place + length], data[place + length :]
    return random.choice(
        [
            data[:place] + bytes([data[place] ^ 1 << random.randrange(8)]) + data[place + 1 :],
            data[:place] + bytes([random.randrange(256)]) + data[place + 1 :],
            head,
            head + piece + piece + tail,
            head + bytes(len(piece)) + tail,
        ]
    )


def test_shards_without_their_manifest_are_told(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["check", str(folder)]) == 0 and "not counted" not in capsys.readouterr().out
    next(folder.glob("manifest-*.json")).unlink()
    assert main(["check", str(folder)]) == 0
    said = capsys.readouterr().out
    assert f"no manifest lists them: {SHARD} (copy the manifests again" in said
