"""The Parquet tables of a run folder: columns, rows made and read back.

    shard-RANK-NUMBER.tokens.parquet   a row per (image, layer): keep bits, counts, geometry, scores
    shard-RANK-NUMBER.images.parquet   a row per image: detections, annotations, picture, numbers

`bits` is `numpy.packbits` of the padded token grid in raster order: the first token is the highest
bit of the first byte, zeros follow the last token. `scores` and `MEASURES` are little-endian numbers in
raster order, and so are the offsets of `group` to the carriers of tokens; a map of carriers that is that of
the layer before (of the first layer: none) is null. Masks are compressed COCO RLE in source pixels, pictures
JPEG. `svit.runs.run` is the door.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from svit.core.coverage import coded_masks
from svit.core.rle import CodedMasks
from svit.core.types import CodedTarget, Detections, ImageId, Target, TokenGrid, TokenTrace
from svit.runs.head import RunError
from svit.system.files import replacing

GROUP = 8  # images a Parquet row group: what reading a single image costs
JPEG_QUALITY = 90

_BOXES = pa.list_(pa.list_(pa.float32(), 4))
GEOMETRY = {
    f"{name}_{axis}": pa.int32() for name in ("image", "resized", "grid", "valid") for axis in "hw"
}
GEOMETRY["patch"] = pa.int32()
COLUMNS: dict[str, dict[str, pa.DataType]] = {
    "tokens": {
        "layer": pa.int16(),
        "bits": pa.binary(),
        "kept": pa.int32(),
        "kept_valid": pa.int32(),
        "valid": pa.int32(),
        "tokens": pa.int32(),
        **GEOMETRY,
        "scores": pa.binary(),
    },
    "images": {
        "file_name": pa.string(),
        **GEOMETRY,
        "detection_boxes_xyxy": _BOXES,
        "detection_scores": pa.list_(pa.float32()),
        "detection_labels": pa.list_(pa.int64()),
        "detection_masks": pa.list_(pa.binary()),
        "target_boxes_xyxy": _BOXES,
        "target_labels": pa.list_(pa.int64()),
        "target_masks": pa.list_(pa.binary()),
        "target_crowd": pa.list_(pa.bool_()),
        "target_areas": pa.list_(pa.float32()),
        "extra": pa.map_(pa.string(), pa.float64()),
        "picture": pa.binary(),
    },
}
# columns that a token table has only where they were recorded: name -> its numbers, one a token; those of
# the image table where an object is annotated by its box alone, and where pictures come from files
MEASURES = {"update": "<f2", "norm": "<f4", "attention": "<f2", "class_attention": "<f2"}
OPTIONAL: dict[str, dict[str, pa.DataType]] = {
    "tokens": dict.fromkeys((*MEASURES, "group"), pa.binary()),
    "images": {"target_has_mask": pa.list_(pa.bool_()), "file_sha256": pa.string()},
}


def named(*prefixes: str) -> list[str]:
    """Columns of the image table whose names begin so."""
    names = (*COLUMNS["images"], *OPTIONAL["images"])
    return [name for name in names if name.startswith(prefixes)]


def plain_id(image_id: ImageId) -> ImageId:
    """The id as Python's own int or str.

    Raises:
        ValueError: it is neither.
    """
    value = image_id.item() if isinstance(image_id, np.generic) else image_id
    if isinstance(value, bool) or not isinstance(value, (int, str)):
        raise ValueError(f"expected an image id of type int or str, found {image_id!r}")
    return value


def rows_of(
    trace: TokenTrace,
    detections: Detections | None,
    target: Target | None,
    picture: bytes | None,
    file_name: str,
    extra: dict[str, float] | None,
    file_sha256: str | None,
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The rows of one image: one a layer for the token table, and that of the image table, in which
    absent parts are null.

    Raises:
        ValueError: masks are not of the source image's size.
    """
    common = {"image_id": plain_id(trace.image_id), **_geometry(trace.grid)}
    row = {**common, "file_name": str(file_name), "picture": picture}
    row["extra"] = sorted((extra or {}).items())
    fields = ("boxes_xyxy", "scores", "labels")
    masks = None if detections is None else detections.coded
    row |= _record_columns("detection", detections, masks, fields, trace.grid.image_hw)
    fields = ("boxes_xyxy", "labels", "crowd", "areas")
    masks = None if target is None else coded_masks(target)
    row |= _record_columns("target", target, masks, fields, trace.grid.image_hw)
    if target is not None and not target.has_mask.all():
        row["target_has_mask"] = target.has_mask.tolist()
    if file_sha256 is not None:
        row["file_sha256"] = file_sha256
    return _token_rows(trace, common), row


def _token_rows(trace: TokenTrace, common: dict[str, Any]) -> list[dict[str, Any]]:
    """One row a layer: packed bits, counts over all and over valid tokens, geometry, scores, measures,
    groups where tokens merge."""
    grid, flat = trace.grid, trace.keep.reshape(len(trace.keep), -1)
    bits = np.packbits(flat, axis=1, bitorder="big")
    valid = grid.valid_mask()
    common = {**common, "valid": int(valid.sum()), "tokens": grid.tokens}
    groups = _group_changes(trace)
    return [
        {
            **common,
            "layer": layer,
            "bits": bits[layer].tobytes(),
            "kept": int(flat[layer].sum()),
            "kept_valid": int(flat[layer, valid.ravel()].sum()),
            "scores": None if trace.scores is None else trace.scores[layer].astype("<f2").tobytes(),
            **{
                name: values[layer].astype(MEASURES[name]).tobytes()
                for name, values in trace.measures.items()
            },
            **({} if groups is None else {"group": groups[layer]}),
        }
        for layer in range(len(flat))
    ]


def _group_changes(trace: TokenTrace) -> list[bytes | None] | None:
    """The map of each layer as offsets to the carriers, None where it is that of the layer before."""
    if trace.group is None:
        return None
    offsets = trace.group.reshape(trace.layers, -1) - np.arange(trace.grid.tokens)
    before = np.concatenate([np.zeros_like(offsets[:1]), offsets[:-1]])
    changed = (offsets != before).any(axis=1)
    return [row.astype("<i4").tobytes() if new else None for row, new in zip(offsets, changed)]


def groups_from(stored: Sequence[np.ndarray | None], tokens: int) -> np.ndarray | None:
    """The maps of carriers of one image from its rows of `group`.

    Args:
        stored: bytes of each layer, None where the map is that of the layer before.

    Returns: int64 (layers, tokens); None where no token is ever merged.
    """
    if all(one is None for one in stored):
        return None
    offsets = np.zeros((len(stored), tokens), np.int64)
    for layer, one in enumerate(stored):
        offsets[layer] = offsets[layer - 1] if one is None else one.view("<i4")
    return offsets + np.arange(tokens)


def traces_from(rows: pa.Table, layers: int) -> Iterator[TokenTrace]:
    """The traces of a table, `layers` rows each, in order: inverse of `rows_of`.

    Scores, measures and groups are read where the table has the column.
    """
    geometry = zip(*(rows[name].to_numpy()[::layers].tolist() for name in ("image_id", *GEOMETRY)))
    bits = binary(rows["bits"])
    kinds = {"scores": "<f2", **MEASURES}
    columns = {name: binary(rows[name]) for name in kinds if name in rows.column_names}
    groups = binary(rows["group"]) if "group" in rows.column_names else iter(())
    for image_id, *sides in geometry:
        grid = _grid(dict(zip(GEOMETRY, sides, strict=True)))
        shape = (layers, *grid.grid_hw)
        packed = np.concatenate([next(bits) for _ in range(layers)]).reshape(layers, -1)
        keep = np.unpackbits(packed, axis=1, count=grid.tokens, bitorder="big")
        numbers = {}
        for name, column in columns.items():
            stored = [next(column) for _ in range(layers)]
            if stored[0] is not None:
                numbers[name] = np.concatenate(stored).view(kinds[name]).reshape(shape)
        scores = numbers.pop("scores", None)
        group = groups_from([next(groups, None) for _ in range(layers)], grid.tokens)
        group = None if group is None else group.reshape(shape)
        yield TokenTrace(image_id, grid, keep.view(bool).reshape(shape), scores, numbers, group)


def binary(column: pa.ChunkedArray) -> Iterator[np.ndarray | None]:
    """The content of each row of a binary column, uint8; None where it is missing."""
    for chunk in column.chunks:
        ends = np.frombuffer(chunk.buffers()[1], np.int32)[chunk.offset :]
        data = np.frombuffer(chunk.buffers()[2] or b"", np.uint8)
        for row, known in enumerate(chunk.is_valid().to_pylist()):
            yield data[ends[row] : ends[row + 1]] if known else None


def _record_columns(
    prefix: str,
    record: Detections | Target | None,
    masks: CodedMasks | None,
    fields: Sequence[str],
    image_hw: tuple[int, int],
) -> dict[str, Any]:
    columns: dict[str, Any] = {f"{prefix}_masks": None}
    for name in fields:
        value = getattr(record, name, None)
        columns[f"{prefix}_{name}"] = None if value is None else value.tolist()
    if masks is not None:
        if masks.image_hw != image_hw:
            raise ValueError(f"expected {prefix} masks of {image_hw}, found {masks.image_hw}")
        columns[f"{prefix}_masks"] = list(masks.codes)
    return columns


def detections_from(rows: pa.Table, masks: bool) -> Iterator[Detections | None]:
    """Inverse of `rows_of`, an image a row; with masks on request."""
    names = ("boxes_xyxy", "scores", "labels")
    columns = [_lists(rows[f"detection_{name}"]) for name in names]
    codes = rows["detection_masks"].to_pylist() if masks else [None] * len(rows)
    for image_hw, stored, boxes, scores, labels in zip(_sizes(rows), codes, *columns, strict=True):
        coded = None if stored is None else CodedMasks(tuple(stored), image_hw)
        yield None if scores is None else Detections(boxes, scores, labels, coded)


def targets_from(rows: pa.Table) -> Iterator[CodedTarget | None]:
    """Inverse of `rows_of`, an image a row; masks stay encoded."""
    names = ("boxes_xyxy", "labels", "crowd", "areas")
    columns = [_lists(rows[f"target_{name}"]) for name in names]
    codes = rows["target_masks"].to_pylist()
    told = "target_has_mask" in rows.column_names
    columns.append(_lists(rows["target_has_mask"]) if told else iter([None] * len(rows)))
    for image_hw, stored, boxes, labels, *rest in zip(_sizes(rows), codes, *columns, strict=True):
        known = labels is not None
        masks = CodedMasks(tuple(stored), image_hw) if known else None
        yield CodedTarget(boxes.reshape(-1, 4), labels, masks, *rest) if known else None


LABELS = ("target_labels", "detection_labels", "detection_scores")


def labels_from(rows: pa.Table) -> Iterator[tuple[np.ndarray | None, ...]]:
    """The columns `LABELS`, an image a row; None where an image lacks them."""
    return zip(*(_lists(rows[name]) for name in LABELS), strict=True)


def _sizes(rows: pa.Table) -> Iterator[tuple[int, int]]:
    """Height and width of the source image of each row."""
    return zip(rows["image_h"].to_pylist(), rows["image_w"].to_pylist(), strict=True)


def _lists(column: pa.ChunkedArray) -> Iterator[np.ndarray | None]:
    """The numbers of each row of a list column, flat; None where the row is missing."""
    for chunk in column.chunks:
        values, each = chunk.values, 1
        if pa.types.is_fixed_size_list(values.type):
            values, each = values.values, values.type.list_size
        numbers = values.to_numpy(zero_copy_only=False)
        ends = chunk.offsets.to_numpy() * each
        for row, known in enumerate(chunk.is_valid().to_pylist()):
            yield numbers[ends[row] : ends[row + 1]] if known else None


def jpeg(image: np.ndarray, side: int) -> bytes:
    """The picture as JPEG, its longer side at most `side` pixels.

    Raises:
        ValueError: not uint8 (h, w, 3).
    """
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise ValueError(f"expected a uint8 (h, w, 3) picture, found {image.dtype} {image.shape}")
    picture = Image.fromarray(image)
    picture.thumbnail((side, side), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=JPEG_QUALITY)
    return buffer.getvalue()


def _geometry(grid: TokenGrid) -> dict[str, int]:
    pairs = {name: getattr(grid, f"{name}_hw") for name in ("image", "resized", "grid", "valid")}
    sides = {
        f"{name}_{axis}": pair[i] for name, pair in pairs.items() for i, axis in enumerate("hw")
    }
    return {**sides, "patch": grid.patch}


def _grid(row: dict[str, Any]) -> TokenGrid:
    return TokenGrid(_pair(row, "image"), _pair(row, "resized"), _pair(row, "grid"), row["patch"])


def _pair(row: dict[str, Any], name: str) -> tuple[int, int]:
    return row[f"{name}_h"], row[f"{name}_w"]


def shard_path(folder: Path, name: str, kind: str) -> Path:
    """File of a shard; kind is a key of `COLUMNS`."""
    return folder / f"{name}.{kind}.parquet"


def write_table(path: Path, kind: str, rows: list[dict[str, Any]], group: int) -> int:
    """Writes rows of a kind with zstd and page checksums. Returns: bytes."""
    id_type = pa.int64() if isinstance(rows[0]["image_id"], int) else pa.string()
    known = {name: of for name, of in OPTIONAL[kind].items() if any(name in row for row in rows)}
    schema = pa.schema({"image_id": id_type, **COLUMNS[kind], **known})
    table = pa.Table.from_pylist(rows, schema=schema)
    settings = {"row_group_size": group, "compression": "zstd", "write_page_checksum": True}
    with replacing(path) as part:
        pq.write_table(table, part, **settings)
        return part.stat().st_size


def read_table(
    path: Path, columns: Sequence[str] | None = None, group: int | None = None
) -> pa.Table:
    """Columns of a shard file, or of one of its row groups; checksums are verified.

    Raises:
        RunError: the file is missing or damaged.
    """
    names = None if columns is None else list(columns)
    try:
        # an open file: Parquet of any filesystem that a path can be opened on
        with (
            path.open("rb") as opened,
            pq.ParquetFile(opened, page_checksum_verification=True) as file,
        ):
            return file.read(names) if group is None else file.read_row_group(group, names)
    except (OSError, pa.ArrowException) as error:
        raise damaged(path, str(error).splitlines()[0]) from error


def columns_of(path: Path) -> list[str]:
    """Names of the columns of a shard file. Raises as `read_table`."""
    try:
        with path.open("rb") as opened:
            return pq.read_schema(opened).names
    except (OSError, pa.ArrowException) as error:
        raise damaged(path, str(error).splitlines()[0]) from error


def damaged(path: Path, reason: str) -> RunError:
    """The error of a damaged file of a run."""
    return RunError(
        f"{path}: {reason}. Copy the file again from where it was recorded, or use the rest of the "
        "run with skip_corrupt=True (--skip-corrupt on the command line)"
    )
