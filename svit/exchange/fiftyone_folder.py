"""A run as a folder that FiftyOne imports: `fo.Dataset.from_dir(OUT, dataset_type=fo.types.FiftyOneDataset)`.

Each image has its picture, detections, annotations, keep ratio and slices, a heatmap a block (`block_01`:
0 pruned, 1 carried by another token, 2 used) and one of how many blocks used a token. FiftyOne itself is not
needed. The format is https://docs.voxel51.com/user_guide/import_datasets.html#fiftyonedataset, with documents
as FiftyOne 1.0 has them; later versions bring these up to date themselves.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import zlib
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from svit.core.coverage import coded_masks
from svit.core.types import CodedTarget, Detections, ImageId, TokenTrace
from svit.exchange.exports import USED, Write, check_pictures, file_stem, on_picture, states
from svit.runs import shards
from svit.runs.run import Run
from svit.system.files import prepare_folder, write_text, write_whole

VERSION = "1.0.0"
_FIELDS, _LABELS = "fiftyone.core.fields", "fiftyone.core.labels"
_SIDE = 10**6  # of a stored picture: as it is


def fiftyone(run: Run) -> Write:
    """Of a run what writes the folder and returns its two documents.

    Raises:
        ExportError: an image has no picture.
    """
    check_pictures(run)
    return partial(_written, run)


def _written(run: Run, out: Path) -> list[Path]:
    prepare_folder(out / "data")
    samples = []
    known = run.images.to_dict("records")
    parts = run.samples("trace", "detections", "target", "picture", masks=True)
    for place, (row, (trace, found, target, picture)) in enumerate(zip(known, parts, strict=True)):
        name = f"data/{file_stem(place, row['image_id'])}.jpg"
        write_whole(out / name, lambda file, p=picture: file.write(shards.jpeg(p, _SIDE)))
        sample = {"filepath": name, "tags": [], "_media_type": "image", "_rand": _share(name)}
        sample |= {"image_id": str(row["image_id"]), **_heatmaps(run, trace, picture.shape[:2])}
        texts = {name: row[field] for field, name in _slice_fields(run).items()}
        sample |= {name: text for name, text in texts.items() if isinstance(text, str)}
        for field, boxes in (("detections", found), ("ground_truth", target)):
            if boxes is not None:
                sample[field] = _boxes(run, trace, field, boxes)
        samples.append({**sample, "_id": _object_id(name)})
    write_text(out / "metadata.json", json.dumps(_metadata(run)))
    write_text(out / "samples.json", json.dumps({"samples": samples}))
    return [out / "metadata.json", out / "samples.json"]


def _heatmaps(run: Run, trace: TokenTrace, picture_hw: tuple[int, int]) -> dict[str, Any]:
    def heatmap(field: str, tokens: np.ndarray, most: int) -> dict[str, Any]:
        return {
            "_id": _object_id(trace.image_id, field),
            "_cls": "Heatmap",
            "tags": [],
            "map": _binary(on_picture(trace.grid, tokens, picture_hw)),
            "range": [0.0, float(most)],
        }

    blocks = {
        _block(layer): heatmap(_block(layer), tokens, USED)
        for layer, tokens in enumerate(states(trace))
    }
    usage = heatmap("usage", trace.usage.astype(np.uint8), trace.layers)
    kept = trace.keep[:, trace.grid.valid_mask()].mean(axis=1)
    gated = [layer for layer, target in enumerate(run.targets) if target < 1]
    return {"usage": usage, **blocks, "keep_ratio": float(kept[gated or slice(None)].mean())}


def _block(layer: int) -> str:
    return f"block_{layer + 1:02d}"


def _boxes(
    run: Run, trace: TokenTrace, field: str, boxes: Detections | CodedTarget
) -> dict[str, Any]:
    height, width = trace.grid.image_hw
    rows = []
    masks = coded_masks(boxes)
    for place, (label, corners) in enumerate(zip(boxes.labels.tolist(), boxes.boxes_xyxy)):
        left, top, right, bottom = map(float, corners)
        row = {
            "_id": _object_id(trace.image_id, field, place),
            "_cls": "Detection",
            "attributes": {},
            "tags": ["crowd"] if isinstance(boxes, CodedTarget) and boxes.crowd[place] else [],
            "label": run.class_names[label] if label < len(run.class_names) else f"class {label}",
            "bounding_box": [
                left / width,
                top / height,
                (right - left) / width,
                (bottom - top) / height,
            ],
        }
        if isinstance(boxes, Detections):
            row["confidence"] = float(boxes.scores[place])
        if masks is not None and (isinstance(boxes, Detections) or boxes.has_mask[place]):
            whole = masks[[place]].decoded()[0]
            part = whole[round(top) : round(bottom), round(left) : round(right)]
            row |= {"mask": _binary(part)} if part.size else {}
        rows.append(row)
    return {"_cls": "Detections", "detections": rows}


def _binary(values: np.ndarray) -> dict[str, Any]:
    """An array as FiftyOne stores it: npy, deflated, in extended JSON."""
    buffer = io.BytesIO()
    np.save(buffer, values, allow_pickle=False)
    code = base64.b64encode(zlib.compress(buffer.getvalue())).decode("ascii")
    return {"$binary": {"base64": code, "subType": "00"}}


def _object_id(*parts: ImageId) -> dict[str, str]:
    """An id of MongoDB that follows from what it is of: an export of equal runs is the same."""
    return {"$oid": hashlib.sha256(repr(parts).encode()).hexdigest()[:24]}


def _share(name: str) -> float:
    """A number from 0 to 1 by which FiftyOne shuffles."""
    return int(hashlib.sha256(name.encode()).hexdigest()[:8], 16) / 2**32


def _metadata(run: Run) -> dict[str, Any]:
    fields = [
        _field("id", "ObjectIdField", stored="_id"),
        _field("filepath", "StringField"),
        _field("tags", "ListField", inner=f"{_FIELDS}.StringField"),
        _document("metadata", "fiftyone.core.metadata.ImageMetadata", []),
        _field("_media_type", "StringField"),
        _field("_rand", "FloatField"),
        _field("image_id", "StringField"),
        _field("keep_ratio", "FloatField"),
        *(_field(name, "StringField") for name in _slice_fields(run).values()),
        *(
            _document(name, f"{_LABELS}.Heatmap", _HEATMAP)
            for name in ("usage", *map(_block, range(run.layers)))
        ),
        *(_document(name, f"{_LABELS}.Detections", _DETECTIONS) for name in _box_fields(run)),
    ]
    return {
        "_id": _object_id(run.path.name, run.created),
        "name": run.path.name,
        "version": VERSION,
        "media_type": "image",
        "persistent": False,
        "tags": [],
        "info": json.loads(json.dumps(run.provenance)),
        "classes": {},
        "default_classes": run.class_names,
        "mask_targets": {},
        "default_mask_targets": {},
        "skeletons": {},
        "default_skeleton": None,
        "group_media_types": {},
        "app_config": {},
        "sample_fields": fields,
        "frame_fields": [],
        "saved_views": [],
        "workspaces": [],
        "annotation_runs": {},
        "brain_methods": {},
        "evaluations": {},
        "runs": {},
    }


def _slice_fields(run: Run) -> dict[str, str]:
    """Slice -> field, with another name where a sample has a field of that name."""
    own = {
        "id",
        "filepath",
        "tags",
        "metadata",
        "keep_ratio",
        "usage",
        "detections",
        "ground_truth",
    }
    own |= set(map(_block, range(run.layers)))
    return {name: f"{name}_slice" if name in own else name for name in run.slices}


def _box_fields(run: Run) -> list[str]:
    known = {"detections": "detections", "ground_truth": "objects"}
    return [field for field, column in known.items() if run.images[column].notna().any()]


def _field(name: str, kind: str, *, stored: str = "", inner: str | None = None) -> dict[str, Any]:
    return {
        "name": name,
        "ftype": f"{_FIELDS}.{kind}",
        "embedded_doc_type": None,
        "subfield": inner,
        "fields": [],
        "db_field": stored or name,
        "description": None,
        "info": None,
        "read_only": False,
    }


def _document(
    name: str, kind: str, fields: Sequence[dict[str, Any]], *, listed: bool = False
) -> dict[str, Any]:
    inner = f"{_FIELDS}.EmbeddedDocumentField"
    field = (
        _field(name, "ListField", inner=inner) if listed else _field(name, "EmbeddedDocumentField")
    )
    return {**field, "embedded_doc_type": kind, "fields": list(fields)}


_LABEL = (
    _field("id", "ObjectIdField", stored="_id"),
    _field("tags", "ListField", inner=f"{_FIELDS}.StringField"),
)
_HEATMAP = (
    *_LABEL,
    _field("map", "ArrayField"),
    _field("map_path", "StringField"),
    _field("range", "HeatmapRangeField", inner=f"{_FIELDS}.FloatField"),
)
_DETECTIONS = (
    _document(
        "detections",
        f"{_LABELS}.Detection",
        (
            *_LABEL,
            _field("label", "StringField"),
            _field("bounding_box", "ListField", inner=f"{_FIELDS}.FloatField"),
            _field("mask", "ArrayField"),
            _field("mask_path", "StringField"),
            _field("confidence", "FloatField"),
            _field("index", "IntField"),
        ),
        listed=True,
    ),
)
