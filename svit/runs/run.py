"""A recorded run is a folder: `RunWriter` fills it, `open_run` reads it, neither needs torch.

    with RunWriter("runs/mine", provenance) as writer:
        writer.add(trace, detections, target, image, "000000079841.jpg")
    run = open_run("runs/mine")
    run.keep_counts(), run.trace(79841), run.picture(79841)

A copy of the folder is complete. How it is written is in `svit.runs.writer`, the files are described in
`svit.runs.head` and `svit.runs.shards`.
"""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Collection, Iterator, Sequence
from functools import cached_property
from itertools import chain, compress
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from svit.core.slices import VIDEO, unmarked
from svit.core.types import CodedTarget, Detections, ImageId, Target, TokenTrace
from svit.runs import check, shards
from svit.runs.frames import frames_of
from svit.runs.head import RunError, folder_at, known, read_head, read_manifests
from svit.runs.shards import GEOMETRY, GROUP
from svit.runs.writer import RunWriter
from svit.system.text import counted

__all__ = ["Run", "RunError", "RunWriter", "open_run"]

_HASH = re.compile(r"\b[0-9a-f]{16,}\b")
_MASKS = ["image_id", "bits", "group", *GEOMETRY]
_COUNTS = ["image_id", "layer", "kept", "kept_valid", "valid", "tokens"]

logger = logging.getLogger(__name__)


def open_run(path: str | Path, skip_corrupt: bool = False) -> Run:
    """Opens a recorded run, also an unfinished one: its full shards are there.

    Args:
        path: the run folder; an address as `s3://bucket/run` is read where it lies, by fsspec.
        skip_corrupt: checks every shard whole, leaves out the damaged and missing ones and logs a
            warning for each; otherwise a missing or truncated shard is an error now, and wrong
            content is one when it is first read (`svit.runs.check`).

    Raises:
        RunError: not a run, of another version, half-written or damaged; it names file and fix.
    """
    path = folder_at(path)
    head, manifests = read_head(path), read_manifests(path)
    good, skipped = [], []
    for manifest in manifests.values():
        for shard in manifest["shards"]:
            try:
                if skip_corrupt:  # its files first
                    check.check_shard(path, shard, manifest["layers"])
                else:
                    check.check_files(path, shard)
                good.append(shard)
            except RunError as error:
                if not skip_corrupt:
                    raise
                skipped.append(f"{counted(len(shard['image_ids']), 'images')} left out: {error}")
                logger.warning(skipped[-1])
    return Run(path, head, manifests, good, tuple(skipped))


class Run:
    """A recorded run, read lazily; made by `open_run`.

    Attributes:
        path: the folder.
        provenance: where the numbers come from, as the writer gave it; from it, empty without:
        class_names: names of the classes.
        exif: how its pictures were turned, as in `read_image`; "auto" if unknown.
        targets: target share of kept tokens of each layer; empty where unknown.
        created: ISO time (UTC) at which the recording began.
        finished: whether every rank closed its part; otherwise it was interrupted or goes on.
        layers: blocks a trace has; 0 in a run without images.
        image_ids: in recorded order (rank, shard, row), each once.
        shards: how many there are, without those left out.
        skipped: one sentence for each damaged shard that was left out.
    """

    def __init__(
        self,
        path: Path,
        head: dict[str, Any],
        manifests: dict[int, dict[str, Any]],
        good_shards: list[dict[str, Any]],
        skipped: tuple[str, ...],
    ) -> None:
        self.path, self.skipped = path, skipped
        self.provenance: dict[str, Any] = head["provenance"]
        self.class_names: list[str] = list(self.provenance.get("class_names") or [])
        self.exif = str(self.provenance.get("exif", "auto"))
        self.targets: list[float] = list(known(self.provenance, "targets") or [])
        self.created: str = head["created"]
        self._manifests, self._shards = list(manifests.values()), good_shards
        self.shards = len(good_shards)
        self.finished = _finished(manifests)
        self.layers = max((manifest["layers"] for manifest in self._manifests), default=0)
        self._places = _places(good_shards)
        self._checked: set[tuple[int, str, str]] = set()
        self.image_ids: tuple[ImageId, ...] = tuple(self._places)

    def __len__(self) -> int:
        return len(self.image_ids)

    def describe(self) -> str:
        """One line of provenance: preset, texts and numbers by name; hashes are shortened."""
        config = self.provenance.get("config")
        parts = [str(config["name"])] if isinstance(config, dict) and "name" in config else []
        for name, value in self.provenance.items():
            if isinstance(value, (str, int, float)) and not isinstance(value, bool) and value != "":
                parts.append(f"{name} {_HASH.sub(lambda found: found[0][:10], str(value))}")
        return " · ".join([*parts, counted(len(self), "images"), f"recorded {self.created}"])

    @property
    def errors(self) -> pd.DataFrame:
        """Images that failed and were not recorded later: image_id, file_name, message."""
        rows = {row[0]: row for manifest in self._manifests for row in manifest["errors"]}
        left = [row for image_id, row in rows.items() if image_id not in self._places]
        return pd.DataFrame(left, columns=["image_id", "file_name", "message"])

    @cached_property
    def images(self) -> pd.DataFrame:
        """One row an image in recorded order: image_id, file_name, geometry, counts of
        `detections` and annotated `objects` without crowds (missing where not recorded), extra numbers,
        and the texts of slices (`svit.core.slices`)."""
        names = ["image_id", "file_name", *GEOMETRY]
        columns = [*names, "detection_scores", "target_crowd", "extra"]
        rows = list(self._iter_rows("images", columns))
        frame = pd.DataFrame([{name: row[name] for name in names} for row in rows], columns=names)
        counted_by = {"detections": ("detection_scores", len)}
        counted_by["objects"] = ("target_crowd", lambda crowd: crowd.count(False))
        for name, (column, count) in counted_by.items():
            counts = [None if row[column] is None else count(row[column]) for row in rows]
            frame[name] = pd.array(counts, dtype="Int64")
        extra = pd.DataFrame([unmarked(dict(row["extra"])) for row in rows], index=frame.index)
        return frame.join(extra.rename(columns={name: f"{name}_extra" for name in frame}))

    @cached_property
    def slices(self) -> tuple[str, ...]:
        """The columns of `images` that are texts by which images are grouped, as "kind"."""
        own = ("image_id", "file_name", VIDEO)
        return tuple(
            name
            for name, column in self.images.items()
            if name not in own and any(isinstance(value, str) for value in column)
        )

    @cached_property
    def frames(self) -> pd.DataFrame:
        """`svit.runs.frames.frames_of` its images; empty where none is a frame of a video."""
        return frames_of(self.images)

    def keep_counts(self) -> pd.DataFrame:
        """One row per (image, layer), layers from 0: `kept` of all `tokens`, `kept_valid` of the `valid`
        ones (those that show pixels of the image).

        Raises:
            RunError: a shard is damaged.
        """
        tables = [self._read(index, "tokens", _COUNTS) for index in range(len(self._shards))]
        if not tables:
            return pd.DataFrame(columns=_COUNTS)
        frame = pa.concat_tables(tables).to_pandas()
        return frame.drop_duplicates(["image_id", "layer"], ignore_index=True)

    def trace(self, image_id: ImageId, numbers: bool = True) -> TokenTrace:
        """The token masks of one image.

        Args:
            numbers: reads scores and measures, too, where they were recorded: most of the bytes.

        Raises:
            KeyError: no such image.
            RunError: its shard is damaged.
        """
        columns = None if numbers else _MASKS
        return next(shards.traces_from(self._lookup(image_id, "tokens", columns), self.layers))

    @cached_property
    def measures(self) -> tuple[str, ...]:
        """Names of the further numbers of tokens that its first shard holds, as `update`."""
        names = shards.columns_of(self._file(0, "tokens")) if self._shards else ()
        return tuple(name for name in shards.MEASURES if name in names)

    def iter_traces(
        self, scores: bool = True, measures: Collection[str] = ()
    ) -> Iterator[TokenTrace]:
        """All traces in recorded order; memory holds one shard at a time.

        Args:
            scores: reads them too, where they were recorded: sixteen times the bytes of the masks.
            measures: of `measures`; each as large as the scores, or twice.

        Raises:
            RunError: a shard is damaged; so do the other iterators.
        """
        numbers = [*(["scores"] if scores else []), *measures]
        columns = [*_MASKS, *numbers]
        for table in self._iter_tables("tokens", columns):
            yield from shards.traces_from(table, self.layers)

    def bits(self, number: int) -> pa.Table:
        """Packed masks, groups where tokens merge, and geometry (`svit.runs.shards`) of a shard, from 0: the
        rows of an image follow each other, layer by layer, in recorded order. Many times faster than
        `iter_traces`.

        Raises:
            RunError: the shard is damaged.
        """
        columns = ["image_id", "layer", "bits", "group", *GEOMETRY]
        return self._first_records(number, "tokens", columns)

    def detections(self, image_id: ImageId, masks: bool = False) -> Detections | None:
        """What was found in one image, masks on request; None without. Raises as `trace`."""
        rows = self._lookup(image_id, "images", shards.named("image_", "detection_"))
        return next(shards.detections_from(rows, masks))

    def iter_detections(self, masks: bool = False) -> Iterator[Detections | None]:
        """`detections` of every image in the order of `iter_traces`, a shard at a time."""
        columns = shards.named("image_", "detection_")
        for table in self._iter_tables("images", columns if masks else columns[:-1]):
            yield from shards.detections_from(table, masks)

    def target(self, image_id: ImageId) -> Target | None:
        """Ground truth of one image in source pixels; None without. Raises as `trace`."""
        coded = self._coded_target(image_id)
        return None if coded is None else coded.decoded()

    def _coded_target(self, image_id: ImageId) -> CodedTarget | None:
        rows = self._lookup(image_id, "images", shards.named("image_", "target_"))
        return next(shards.targets_from(rows))

    def iter_targets(self) -> Iterator[CodedTarget | None]:
        """`target` of every image with masks as stored, in the order of `iter_traces`, a shard at a
        time."""
        for table in self._iter_tables("images", shards.named("image_", "target_")):
            yield from shards.targets_from(table)

    def iter_labels(self) -> Iterator[tuple[np.ndarray | None, ...]]:
        """Labels of the annotated objects, labels and scores of the detections of every image in the order of
        `iter_traces`, without boxes and masks."""
        for table in self._iter_tables("images", list(shards.LABELS)):
            yield from shards.labels_from(table)

    def picture(self, image_id: ImageId) -> np.ndarray | None:
        """The stored picture, uint8 (h, w, 3) RGB, at most `picture_side` long; None without."""
        stored = self._lookup(image_id, "images", ["picture"])["picture"][0].as_py()
        index, row = self._places[image_id]
        return check.decode_picture(self._file(index, "images"), row, stored)

    def iter_pictures(
        self, among: Collection[ImageId] | None = None
    ) -> Iterator[np.ndarray | None]:
        """`picture` of every image in the order of `iter_traces`; memory holds one shard's JPEGs. None of
        those that are not `among` the wanted ones: they are not decoded."""
        ids, wanted = iter(self.image_ids), self._places if among is None else among
        for index, table in enumerate(self._iter_tables("images", ["picture"])):
            for row, stored in enumerate(table["picture"]):
                jpeg = stored.as_py() if next(ids) in wanted else None
                yield check.decode_picture(self._file(index, "images"), row, jpeg)

    def without_picture(self) -> list[ImageId]:
        """Images of which no picture is stored; none is decoded for it."""
        stored = (row["picture"] for row in self._iter_rows("images", ["picture"]))
        return [one for one, jpeg in zip(self.image_ids, stored, strict=True) if jpeg is None]

    def samples(
        self,
        *parts: str,
        known: Collection[str] = (),
        ids: Sequence[ImageId] | None = None,
        masks: bool = False,
    ) -> Iterator[tuple[Any, ...]]:
        """Parts of every image together, a tuple an image, as their readers give them.

        Args:
            parts: of "trace" (without scores), "detections", "target", "picture".
            known: leaves out images that lack one of these parts.
            ids: these images in this order; without, all as recorded. Few, or in another order than
                recorded, they are looked up one by one, which reads `shards.GROUP` images each.
            masks: of detections, too.

        Raises: as `trace`.
        """
        wanted = self.image_ids if ids is None else tuple(ids)
        chosen = set(wanted)
        recorded = wanted == tuple(one for one in self.image_ids if one in chosen)
        if recorded and len(wanted) * GROUP >= len(self):
            rows = zip(*(self._streamed(part, masks, chosen) for part in parts), strict=True)
            samples = compress(rows, (one in chosen for one in self.image_ids))
        else:
            samples = (tuple(self._single(part, one, masks) for part in parts) for one in wanted)
        needed = [parts.index(part) for part in known]
        for sample in samples:
            if all(sample[place] is not None for place in needed):
                yield sample

    def _streamed(self, part: str, masks: bool, chosen: Collection[ImageId]) -> Iterator[Any]:
        if part == "trace":
            return self.iter_traces(scores=False)
        if part == "detections":
            return self.iter_detections(masks)
        return self.iter_targets() if part == "target" else self.iter_pictures(chosen)

    def _single(self, part: str, image_id: ImageId, masks: bool) -> Any:
        if part == "detections":
            return self.detections(image_id, masks)
        read = {"trace": self.trace, "target": self._coded_target, "picture": self.picture}
        return read[part](image_id)

    @cached_property
    def file_hashes(self) -> dict[ImageId, str]:
        """SHA-256 of the bytes of each image's file, where that was recorded.

        Raises:
            RunError: a shard is damaged.
        """
        rows = self._iter_rows("images", ["image_id", "file_sha256"])
        return {row["image_id"]: row["file_sha256"] for row in rows if row.get("file_sha256")}

    def content_hash(self, without: Collection[str] = ("seconds",)) -> str:
        """SHA-256 of all that is recorded, images sorted by id: equal for equal recordings,
        however often interrupted and over however many ranks.

        Args:
            without: names of extra numbers that may differ, such as timings.
        """
        digests = {image_id: hashlib.sha256() for image_id in sorted(self.image_ids)}
        for kind in ("images", "tokens"):
            for row in self._iter_rows(kind):
                if kind == "images":
                    row["extra"] = [pair for pair in row["extra"] if pair[0] not in without]
                for name in shards.OPTIONAL[kind]:  # which shards have the column tells of the cuts
                    if row.get(name, 0) is None:
                        del row[name]
                digests[row["image_id"]].update(repr(sorted(row.items())).encode())
        lines = [f"{image_id!r} {digest.hexdigest()}" for image_id, digest in digests.items()]
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()

    def _file(self, index: int, kind: str) -> Path:
        return shards.shard_path(self.path, self._shards[index]["name"], kind)

    def _read(
        self, index: int, kind: str, columns: Sequence[str] | None = None, group: int | None = None
    ) -> pa.Table:
        """Columns of a shard, or of one row group, once what they hold has been checked."""
        path, image_ids = self._file(index, kind), self._shards[index]["image_ids"]
        new = {
            (index, kind, part): names
            for part, names in check.PARTS[kind].items()
            if (columns is None or not set(columns).isdisjoint(names))
            and (index, kind, part) not in self._checked
        }
        if new:
            whole = columns is not None and group is None and "picture" not in columns
            checked = ["image_id", *GEOMETRY, *chain.from_iterable(new.values())]
            names = list(dict.fromkeys([*checked, *(columns or ())] if whole else checked))
            table = shards.read_table(path, names)
            there = [name for name in table.column_names if name in checked]
            check.check_table(path, kind, table.select(there), image_ids, self.layers)
            self._checked |= set(new)
            if whole:
                return table.select([name for name in table.column_names if name in columns])
        return shards.read_table(path, columns, group)

    def _iter_tables(self, kind: str, columns: list[str] | None = None) -> Iterator[pa.Table]:
        """A table a shard in recorded order; rows of an image recorded twice only in its first place."""
        return (self._first_records(index, kind, columns) for index in range(self.shards))

    def _first_records(
        self, index: int, kind: str, columns: Sequence[str] | None = None
    ) -> pa.Table:
        """Columns of a shard without the images that an earlier one holds."""
        table, image_ids = self._read(index, kind, columns), self._shards[index]["image_ids"]
        first = [self._places[one] == (index, row) for row, one in enumerate(image_ids)]
        each = self.layers if kind == "tokens" else 1
        return table if all(first) else table.filter(pa.array(np.repeat(first, each)))

    def _iter_rows(self, kind: str, columns: list[str] | None = None) -> Iterator[dict[str, Any]]:
        for table in self._iter_tables(kind, columns):
            yield from table.to_pylist()

    def _lookup(self, image_id: ImageId, kind: str, columns: list[str] | None = None) -> pa.Table:
        """The rows of one image; reads the row group that holds them."""
        if image_id not in self._places:
            raise KeyError(f"no image {image_id!r} in {self.path}; it has {len(self)} images")
        index, row = self._places[image_id]
        count = self.layers if kind == "tokens" else 1
        table = self._read(index, kind, columns, group=row // GROUP)
        return table.slice(row % GROUP * count, count)


def _finished(manifests: dict[int, dict[str, Any]]) -> bool:
    """Whether all closed that recorded last: the first rank knows how many; those beyond are of before."""
    world = manifests[0]["world"] if 0 in manifests else 1
    last = [manifests[rank] for rank in range(world) if rank in manifests]
    return len(last) == world and all(one["finished"] and one["world"] == world for one in last)


def _places(good_shards: list[dict[str, Any]]) -> dict[ImageId, tuple[int, int]]:
    """Image id -> (index of the shard, row of the image in it) of its first occurrence."""
    places: dict[ImageId, tuple[int, int]] = {}
    for index, shard in enumerate(good_shards):
        for row, image_id in enumerate(shard["image_ids"]):
            places.setdefault(image_id, (index, row))
    twice = sum(len(shard["image_ids"]) for shard in good_shards) - len(places)
    if twice:
        logger.warning(
            "%s recorded by several ranks; the first record counts", counted(twice, "images")
        )
    return places
