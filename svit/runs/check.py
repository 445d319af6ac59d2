"""What the tables of a run must hold, so that damage or a mix-up is an error and never another number.

A table is checked when it is first read; `svit check RUN` reads everything. Messages name file and row.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from PIL import Image

from svit.core.rle import joined_runs, run_lengths
from svit.core.types import group_problem
from svit.runs import shards
from svit.runs.head import RunError
from svit.runs.shards import COLUMNS, GEOMETRY, MEASURES, OPTIONAL

MOST_PIXELS = 2**31 - 1  # of a picture, and of the padded one that the tokens cover
_BIT_COUNT = np.array([bin(byte).count("1") for byte in range(256)], np.uint8)
_BOXES = {"detection": "detection_boxes_xyxy", "target": "target_boxes_xyxy"}
_LISTS = {"detection": ("scores", "labels", "boxes_xyxy", "masks")}
_LISTS["target"] = ("labels", "boxes_xyxy", "masks", "crowd", "areas", "has_mask")
# what is checked of a kind when any of these columns is first read, besides ids and geometry
PARTS = {
    "tokens": {
        "masks": ("layer", "bits", "group"),
        "scores": ("scores",),
        **{name: (name,) for name in MEASURES},
    },
    "images": {
        "objects": tuple(
            name
            for name in (*COLUMNS["images"], *OPTIONAL["images"])
            if name.startswith(("detection_", "target_")) and not name.endswith("masks")
        ),
        "codes": ("detection_masks", "target_masks"),
    },
}
_NUMBERS = ("detection_scores", *_BOXES.values(), "target_areas")


def check_files(folder: Path, shard: dict[str, Any]) -> None:
    """Compares the files of a shard with its entry in the manifest: place, presence and size.

    Raises:
        RunError: a file is missing or damaged, or lies in another folder.
    """
    for kind, size in shard["bytes"].items():
        path = shards.shard_path(folder, shard["name"], kind)
        if path.parent != folder:
            raise RunError(
                f"{folder}: its manifest names {path}, outside of the run; do not trust it"
            )
        if not path.is_file():
            raise shards.damaged(path, "the file is missing")
        if path.stat().st_size != size:
            raise shards.damaged(path, f"expected {size} bytes, found {path.stat().st_size}")


def check_shard(folder: Path, shard: dict[str, Any], layers: int) -> None:
    """Reads both tables of a shard whole and checks them, pictures too.

    Raises:
        RunError: what is wrong, by file and row.
    """
    check_files(folder, shard)
    for kind in COLUMNS:
        path = shards.shard_path(folder, shard["name"], kind)
        table = shards.read_table(path)
        check_table(path, kind, table, shard["image_ids"], layers)
        if kind == "images":
            for row, stored in enumerate(table["picture"]):
                decode_picture(path, row, stored.as_py())


def check_table(
    path: Path, kind: str, table: pa.Table, image_ids: Sequence[int | str], layers: int
) -> None:
    """Compares a table with the manifest's images and with itself.

    Args:
        path: where it was read, for the message.
        kind: tokens or images.
        table: its columns, of the images table without `picture`, of either without any that are not
            to be checked.
        image_ids: of the shard, in order, as the manifest lists them.
        layers: rows an image in a tokens table.

    Raises:
        RunError: what is wrong, by file and row.
    """
    problem = next(_problems(kind, table, image_ids, layers), None)
    if problem:
        raise shards.damaged(path, problem)


def decode_picture(path: Path, row: int, stored: bytes | None) -> np.ndarray | None:
    """A stored picture: uint8 (height, width, 3) RGB; None where there is none.

    Raises:
        RunError: its bytes are no picture.
    """
    if stored is None:
        return None
    try:
        with Image.open(io.BytesIO(stored), formats=["JPEG"]) as picture:
            return np.asarray(picture.convert("RGB"))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise shards.damaged(path, f"row {row}: its picture cannot be read ({error})") from error


def _problems(
    kind: str, table: pa.Table, image_ids: Sequence[int | str], layers: int
) -> Iterator[str]:
    """What is wrong, each step relying on those before it."""
    each = layers if kind == "tokens" else 1
    yield from _schema(kind, table)
    if len(table) != len(image_ids) * each:
        yield f"expected {len(image_ids) * each} rows, found {len(table)}"
    found = table["image_id"].to_pylist()
    yield from (
        f"row {row}: image id {there!r} where the manifest has {wanted!r}"
        for row, (there, wanted) in enumerate(zip(found, np.repeat(image_ids, each).tolist()))
        if there != wanted
    )
    yield from _geometry(table, each)
    yield from _tokens(table, layers) if kind == "tokens" else _images(table)


def _schema(kind: str, table: pa.Table) -> Iterator[str]:
    for name, found in zip(table.schema.names, table.schema.types):
        known = {**COLUMNS[kind], **OPTIONAL[kind]}
        wanted = [pa.int64(), pa.string()] if name == "image_id" else [known.get(name)]
        if not any(one is not None and found.equals(one) for one in wanted):
            yield f"column {name!r} has type {found}, expected {wanted[0]}"
    for name in ("image_id", *GEOMETRY, "layer", "bits"):
        if name in table.column_names and table[name].null_count:
            yield f"column {name!r} lacks values"


def _rows(wrong: np.ndarray, sentence: str, *values: np.ndarray) -> Iterator[str]:
    """The sentence for the first row that is wrong, filled with the values there."""
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        yield f"row {row}: " + sentence.format(*(value[row] for value in values))


def _geometry(table: pa.Table, each: int) -> Iterator[str]:
    """Sizes are positive, small enough to hold, belong together, and are the same in all rows of an image."""
    side = {name: table[name].to_numpy().astype(np.int64) for name in GEOMETRY}
    for name, values in side.items():
        yield from _rows(values < 1, f"{name} is {{}}, expected at least 1", values)
        same = values == np.repeat(values[::each], each)
        yield from _rows(~same, f"{name} is {{}}, in the image's first row it is another", values)
    for axis in "hw":
        valid = -(-side[f"resized_{axis}"] // side["patch"])
        there = side[f"valid_{axis}"]
        yield from _rows(there != valid, f"valid_{axis} is {{}}, its size says {{}}", there, valid)
        grid = side[f"grid_{axis}"]
        yield from _rows(grid < valid, f"grid_{axis} is {{}}, expected {{}} or more", grid, valid)
    for name, scale in (("image", 1), ("grid", side["patch"])):
        pixels = side[f"{name}_h"].astype(float) * side[f"{name}_w"] * scale * scale
        yield from _rows(pixels > MOST_PIXELS, f"{name} of {{:.3g}} pixels, too many", pixels)


def _tokens(table: pa.Table, layers: int) -> Iterator[str]:
    side = {name: table[name].to_numpy().astype(np.int64) for name in GEOMETRY}
    tokens = side["grid_h"] * side["grid_w"]
    if "layer" in table.column_names:
        layer = table["layer"].to_numpy()
        wanted = np.tile(np.arange(layers), len(table) // max(layers, 1))
        yield from _rows(layer != wanted, "layer {}, expected {}", layer, wanted)
    sizes = {name: np.dtype(kind).itemsize * tokens for name, kind in MEASURES.items()}
    sizes |= {"bits": -(-tokens // 8), "scores": 2 * tokens, "group": 4 * tokens}
    for name, wanted in sizes.items():
        if name in table.column_names:
            yield from _lengths(table, name, wanted)
    if {"bits", "group"} <= set(table.column_names):
        yield from _carriers(table, tokens, layers)
    if "scores" in table.column_names:
        yield from _gates(table)
    for name in MEASURES:
        if name in table.column_names:
            yield from _measures(table, name)
    if "kept" in table.column_names:
        yield from _counts(table, side, tokens)


def _lengths(table: pa.Table, name: str, wanted: np.ndarray) -> Iterator[str]:
    found = pc.fill_null(pc.binary_length(table[name]), -1).to_numpy()
    wrong = (found != wanted) & ~((name != "bits") & (found == -1))
    yield from _rows(wrong, f"{name} of {{}} bytes, its grid needs {{}}", found, wanted)


def _carriers(table: pa.Table, tokens: np.ndarray, layers: int) -> Iterator[str]:
    """Carriers lie in the grid and carry themselves, and so does every used token."""
    bits, groups = (list(shards.binary(table[name])) for name in ("bits", "group"))
    for row in range(0, len(table), layers):
        count = int(tokens[row])
        group = shards.groups_from(groups[row : row + layers], count)
        if group is not None:
            keep = np.unpackbits(np.stack(bits[row : row + layers]), axis=1, count=count)
            problem = group_problem(group, keep.astype(bool))
            yield from () if problem is None else (f"row {row}: {problem}",)


def _gates(table: pa.Table) -> Iterator[str]:
    """A gate's scores are numbers; a layer without a gate has NaN alone."""
    for row, stored in enumerate(table["scores"]):
        values = np.frombuffer(stored.as_py() or b"", "<f2")
        known = np.isfinite(values)
        if not (known.all() or np.isnan(values).all()):
            yield f"row {row}: scores that are not finite"


def _measures(table: pa.Table, name: str) -> Iterator[str]:
    """Sizes and shares: none is negative or infinite; a token that was not there has NaN."""
    for row, stored in enumerate(table[name]):
        values = np.frombuffer(stored.as_py() or b"", MEASURES[name])
        if np.isinf(values).any() or (values < 0).any():
            yield f"row {row}: {name} with values that are negative or infinite"


def _counts(table: pa.Table, side: dict[str, np.ndarray], tokens: np.ndarray) -> Iterator[str]:
    """The counts are those of the bits, and no bit is set behind the last token."""
    valid = side["valid_h"] * side["valid_w"]
    columns = ("tokens", "valid", "kept", "kept_valid")
    found = {name: table[name].to_numpy() for name in columns}
    yield from _rows(
        found["tokens"] != tokens, "tokens is {}, its grid has {}", found["tokens"], tokens
    )
    yield from _rows(
        found["valid"] != valid, "valid is {}, its size says {}", found["valid"], valid
    )
    for row, stored in enumerate(table["bits"]):
        packed = np.frombuffer(stored.as_py(), np.uint8)
        kept = int(_BIT_COUNT[packed].sum())
        rows, columns_ = int(side["grid_h"][row]), int(side["grid_w"][row])
        keep = np.unpackbits(packed)[: rows * columns_].reshape(rows, columns_)
        inside = int(keep[: side["valid_h"][row], : side["valid_w"][row]].sum())
        if int(keep.sum()) != kept:
            yield f"row {row}: bits are set behind the last token"
        for name, count in (("kept", kept), ("kept_valid", inside)):
            if found[name][row] != count:
                yield f"row {row}: {name} is {found[name][row]}, its bits say {count}"


def _images(table: pa.Table) -> Iterator[str]:
    for record, fields in _LISTS.items():
        names = [f"{record}_{name}" for name in fields if f"{record}_{name}" in table.column_names]
        lengths = [pc.fill_null(pc.list_value_length(table[name]), -1).to_numpy() for name in names]
        for name, found in zip(names[1:], lengths[1:]):
            optional = (name in ("detection_masks", "target_has_mask")) & (found == -1)
            wrong = (found != lengths[0]) & ~optional
            yield from _rows(
                wrong, f"{name} of {{}} objects, {names[0]} of {{}}", found, lengths[0]
            )
    for name in _NUMBERS:
        if name in table.column_names:
            yield from _finite(table, name)
    for name in ("detection_masks", "target_masks"):
        if name in table.column_names:
            yield from _masks(table, name)


def _finite(table: pa.Table, name: str) -> Iterator[str]:
    for row, stored in enumerate(table[name].to_pylist()):
        values = np.asarray(stored or [], np.float64)
        if not np.isfinite(values).all():
            yield f"row {row}: {name} with values that are not finite"
        elif name.endswith("scores") and len(values) and not 0 <= values.min() <= values.max() <= 1:
            yield f"row {row}: {name} outside 0 to 1"


def _fill(stored: Sequence[Sequence[bytes] | None], pixels: np.ndarray) -> bool:
    """Whether all codes of all rows are sound, told at once."""
    codes = [code for one in stored for code in one or ()]
    wanted = np.repeat(pixels, [len(one or ()) for one in stored])
    try:
        lengths, runs = joined_runs(codes)
    except (ValueError, TypeError):
        return False
    sums = np.bincount(np.repeat(np.arange(len(codes)), runs), lengths, minlength=len(codes))
    return lengths.min(initial=0) >= 0 and bool((sums == wanted).all())


def _masks(table: pa.Table, name: str) -> Iterator[str]:
    """Run lengths that fill the picture exactly: decoding others reads past their end."""
    height, width = (table[f"image_{axis}"].to_numpy() for axis in "hw")
    stored = table[name].to_pylist()
    if _fill(stored, height.astype(np.int64) * width):
        return
    for row, codes in enumerate(stored):
        for number, code in enumerate(codes or ()):
            try:
                lengths = run_lengths(code)
            except (ValueError, TypeError) as error:
                yield f"row {row}: {name}, number {number}: {error}"
                continue
            pixels = int(height[row]) * int(width[row])
            if lengths.sum() != pixels or (len(lengths) and lengths.min() < 0):
                yield f"row {row}: {name}, number {number}, does not fill {pixels} pixels"
