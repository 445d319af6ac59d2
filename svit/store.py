"""A recorded run is a folder: `RunWriter` fills it, `open_run` reads it, neither needs torch.

    with RunWriter("runs/mine", provenance) as writer:
        writer.add(trace, detections, target, image, "000000079841.jpg")
    run = open_run("runs/mine")
    run.keep_counts(), run.trace(79841), run.picture(79841)

Every file is written beside, fsynced and renamed, and only then entered in the manifest: a kill
loses the shard in memory and nothing else. A copy of the folder is complete. The files are
described in `svit.runfiles` and `svit.shards`.
"""

from __future__ import annotations

import hashlib
import io
import logging
import re
import time
from collections.abc import Collection, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from PIL import Image

from svit import runfiles, shards
from svit.runfiles import RunError
from svit.shards import GEOMETRY, GROUP
from svit.types import Detections, ImageId, Target, TokenTrace

__all__ = ["Run", "RunError", "RunWriter", "find_runs", "open_run"]

_HASH = re.compile(r"\b[0-9a-f]{16,}\b")
_COUNTS = ["image_id", "layer", "kept", "kept_valid", "valid", "tokens"]

logger = logging.getLogger(__name__)


class RunWriter:
    """Writes a run folder shard by shard; on an unfinished run of equal provenance it goes on.

    Use it in a `with` statement: what was added before an exception is kept.

    Args:
        path: folder to make or to go on with.
        provenance: plain JSON values: where the numbers come from (configuration, weights, ...).
        shard_size: images a shard; the most that a kill can lose.
        shard_seconds: a shard that took longer is written before it is full, so that a kill does not
            cost a slow model its last hour.
        rank: number of this process among the `world` that write here, each its own files.
        world: number of writing processes; the run is finished when all have closed.
        picture_side: longer side of the stored pictures in pixels; 0 stores none.

    Raises:
        RunError: the folder holds another run, has another writer, or cannot be written.
        ValueError: `provenance` is not plain JSON.
    """

    def __init__(
        self,
        path: str | Path,
        provenance: dict[str, Any],
        shard_size: int = 64,
        *,
        rank: int = 0,
        world: int = 1,
        picture_side: int = 640,
        shard_seconds: float = 30.0,
    ) -> None:
        self.path = Path(path)
        self._shard_seconds, self._flushed = shard_seconds, time.monotonic()
        self._shard_size, self._picture_side = shard_size, picture_side
        self._rank, self._world = rank, world
        self._pending: list[tuple[list[dict], dict]] = []
        self._new_errors = 0
        provenance = runfiles.plain_json(provenance)
        with runfiles.explained(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
            self._lock = runfiles.Lock(self.path / f"writer-{rank:05}.lock")
            try:
                self._resume(provenance)
            except BaseException:
                self._lock.release()
                raise

    def _resume(self, provenance: dict[str, Any]) -> None:
        runfiles.remove_parts(self.path, self._rank)
        runfiles.claim(self.path, provenance, self._rank)
        manifests = runfiles.read_manifests(self.path)
        self._manifest = manifests.get(self._rank, {"layers": 0, "shards": [], "errors": []})
        self._errors = {row[0]: row for row in self._manifest["errors"]}
        self._layers = max((manifest["layers"] for manifest in manifests.values()), default=0)
        written = [shard for manifest in manifests.values() for shard in manifest["shards"]]
        self._done = {image_id for shard in written for image_id in shard["image_ids"]}

    @property
    def done(self) -> frozenset[ImageId]:
        """Ids of the images recorded, by all ranks and not yet on disk included; no failed ones."""
        return frozenset(self._done)

    @property
    def failed(self) -> int:
        """Number of images in the error table of this rank."""
        return len(self._errors)

    def __enter__(self) -> RunWriter:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: object) -> None:
        try:
            if not isinstance(error, RunError):  # that one came from writing: it would fail again
                self._flush(finished=error is None)
        finally:
            self._lock.release()

    def close(self) -> None:
        """Writes what is pending, marks this rank as finished and lets other writers in."""
        self.__exit__(None, None, None)

    def add(
        self,
        trace: TokenTrace,
        detections: Detections | None = None,
        target: Target | None = None,
        image: np.ndarray | None = None,
        file_name: str = "",
        extra: dict[str, float] | None = None,
    ) -> None:
        """Adds one image; every `shard_size` images reach the disk together.

        Args:
            trace: its token masks.
            detections: what was found, in source pixels.
            target: ground truth in source pixels.
            image: the source picture, uint8 (height, width, 3) RGB.
            file_name: as the data set names it.
            extra: further numbers of this image, such as `seconds`.

        Raises:
            ValueError: the image is already recorded, or its parts disagree among themselves.
            RunError: the shard cannot be written; it stays in memory, so adding may go on.
        """
        image_id = self._new_id(trace)
        stored = image is not None and self._picture_side > 0
        picture = shards.jpeg(image, self._picture_side) if stored else None
        row = shards.image_row(trace, detections, target, picture, file_name, extra)
        self._pending.append((shards.token_rows(trace), row))
        self._layers = trace.layers
        self._done.add(image_id)
        self._errors.pop(image_id, None)
        self._flush_if_full()

    def add_error(self, image_id: ImageId, message: str, file_name: str = "") -> None:
        """Enters an image that failed; it is not `done`, so a rerun tries it again.

        Raises:
            RunError: the manifest cannot be written.
        """
        image_id = shards.plain_id(image_id)
        self._errors[image_id] = [image_id, str(file_name), str(message)]
        self._new_errors += 1
        self._flush_if_full()

    def _new_id(self, trace: TokenTrace) -> ImageId:
        image_id = shards.plain_id(trace.image_id)
        if image_id in self._done:
            raise ValueError(f"image {image_id!r} is already recorded in {self.path}")
        if self._layers not in (0, trace.layers):
            raise ValueError(f"expected {self._layers} layers as before, found {trace.layers}")
        known = next(iter(self._done), image_id)
        if type(known) is not type(image_id):
            raise ValueError(f"expected image ids of one kind (as {known!r}), found {image_id!r}")
        return image_id

    def _flush_if_full(self) -> None:
        waited = time.monotonic() - self._flushed
        full = len(self._pending) + self._new_errors >= self._shard_size
        if full or waited >= self._shard_seconds:
            self._flush()

    def _flush(self, finished: bool = False) -> None:
        if not (self._pending or self._new_errors or finished):
            return
        with runfiles.explained(self.path):
            written = list(self._manifest["shards"])
            if self._pending:
                written.append(self._write_shard(f"shard-{self._rank:05}-{len(written):06}"))
            manifest = {
                "rank": self._rank,
                "world": self._world,
                "finished": finished,
                "layers": self._layers,
                "shards": written,
                "errors": list(self._errors.values()),
            }
            path = runfiles.manifest_path(self.path, self._rank)
            runfiles.write_json(path, manifest, self._rank)
        self._manifest, self._pending, self._new_errors = manifest, [], 0
        self._flushed = time.monotonic()

    def _write_shard(self, name: str) -> dict[str, Any]:
        tokens = [row for rows, _ in self._pending for row in rows]
        images = [row for _, row in self._pending]
        sizes = {}
        for kind, rows in (("tokens", tokens), ("images", images)):
            path = shards.shard_path(self.path, name, kind)
            group = GROUP * len(rows) // len(images)
            sizes[kind] = shards.write_table(path, kind, rows, group, self._rank)
        return {"name": name, "image_ids": [row["image_id"] for row in images], "bytes": sizes}


def open_run(path: str | Path, skip_corrupt: bool = False) -> Run:
    """Opens a recorded run, also an unfinished one: its full shards are there.

    Args:
        path: the run folder.
        skip_corrupt: reads every shard once, leaves out the damaged and missing ones and logs a
            warning for each; otherwise a missing or truncated shard is an error now, and wrong
            bytes are one when they are read.

    Raises:
        RunError: not a run, of another version, half-written or damaged; it names file and fix.
    """
    path = Path(path)
    head, manifests = runfiles.read_head(path), runfiles.read_manifests(path)
    good, skipped = [], []
    for manifest in manifests.values():
        for shard in manifest["shards"]:
            try:
                shards.check_shard(path, shard, thorough=skip_corrupt)
                good.append(shard)
            except RunError as error:
                if not skip_corrupt:
                    raise
                skipped.append(f"{len(shard['image_ids'])} images left out: {error}")
                logger.warning(skipped[-1])
    return Run(path, head, manifests, good, tuple(skipped))


def find_runs(folder: str | Path) -> list[Path]:
    """The run folders in a folder (or the folder itself), by name."""
    heads = [*Path(folder).glob("run.json"), *Path(folder).glob("*/run.json")]
    return sorted(head.parent for head in heads)


class Run:
    """A recorded run, read lazily; made by `open_run`.

    Attributes:
        path: the folder.
        provenance: where the numbers come from, as the writer gave it; from it, empty without:
        class_names: names of the classes.
        targets: target share of kept tokens of each layer.
        created: ISO time (UTC) at which the recording began.
        finished: whether every rank closed its part; otherwise it was interrupted or goes on.
        layers: blocks a trace has; 0 in a run without images.
        image_ids: in recorded order (rank, shard, row), each once.
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
        self.targets: list[float] = list(self.provenance.get("targets") or [])
        self.created: str = head["created"]
        self._manifests, self._shards = list(manifests.values()), good_shards
        world = manifests[0]["world"] if 0 in manifests else 1
        self.finished = all(r in manifests and manifests[r]["finished"] for r in range(world))
        self.layers = max((manifest["layers"] for manifest in self._manifests), default=0)
        self._places = _places(good_shards)
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
        return " · ".join([*parts, f"{len(self)} images", f"recorded {self.created}"])

    @property
    def errors(self) -> pd.DataFrame:
        """Images that failed and were not recorded later: image_id, file_name, message."""
        rows = [row for manifest in self._manifests for row in manifest["errors"]]
        rows = [row for row in rows if row[0] not in self._places]
        return pd.DataFrame(rows, columns=["image_id", "file_name", "message"])

    @cached_property
    def images(self) -> pd.DataFrame:
        """One row an image in recorded order: image_id, file_name, geometry, counts of
        `detections` and annotated `objects` (missing where not recorded), extra numbers."""
        names = ["image_id", "file_name", *GEOMETRY]
        columns = [*names, "detection_scores", "target_labels", "extra"]
        rows = list(self._iter_rows("images", columns))
        frame = pd.DataFrame([{name: row[name] for name in names} for row in rows], columns=names)
        for name, column in (("detections", "detection_scores"), ("objects", "target_labels")):
            counts = [None if row[column] is None else len(row[column]) for row in rows]
            frame[name] = pd.array(counts, dtype="Int64")
        extra = pd.DataFrame([dict(row["extra"]) for row in rows], index=frame.index)
        return frame.join(extra.rename(columns={name: f"{name}_extra" for name in frame}))

    def keep_counts(self) -> pd.DataFrame:
        """One row per (image, layer): `kept` of all `tokens`, `kept_valid` of the `valid` ones."""
        tables = [self._read(shard, "tokens", _COUNTS) for shard in self._shards]
        if not tables:
            return pd.DataFrame(columns=_COUNTS)
        frame = pa.concat_tables(tables).to_pandas()
        return frame.drop_duplicates(["image_id", "layer"], ignore_index=True)

    def trace(self, image_id: ImageId) -> TokenTrace:
        """The token masks of one image.

        Raises:
            KeyError: no such image.
            RunError: its shard is damaged.
        """
        return shards.trace_from(self._lookup(image_id, "tokens"))

    def iter_traces(self) -> Iterator[TokenTrace]:
        """All traces in recorded order; memory holds one shard at a time."""
        for index, shard in enumerate(self._shards):
            table = self._read(shard, "tokens")
            for row, image_id in enumerate(shard["image_ids"]):
                if self._places[image_id] == (index, row):
                    yield shards.trace_from(table.slice(row * self.layers, self.layers))

    def iter_bits(self) -> Iterator[pa.Table]:
        """Packed masks and geometry (`svit.shards`), a table a shard: the rows of an image follow
        each other, layer by layer, in recorded order. Many times faster than `iter_traces`."""
        for index, shard in enumerate(self._shards):
            table = self._read(shard, "tokens", ["image_id", "layer", "bits", *GEOMETRY])
            first = [
                self._places[image_id] == (index, row)
                for row, image_id in enumerate(shard["image_ids"])
            ]
            yield table if all(first) else table.filter(pa.array(np.repeat(first, self.layers)))

    def detections(self, image_id: ImageId, masks: bool = False) -> Detections | None:
        """What was found in one image, masks on request; None without. Raises as `trace`."""
        return shards.detections_from(self._image(image_id, "image_", "detection_"), masks)

    def target(self, image_id: ImageId) -> Target | None:
        """Ground truth of one image in source pixels; None without. Raises as `trace`."""
        return shards.target_from(self._image(image_id, "image_", "target_"))

    def picture(self, image_id: ImageId) -> np.ndarray | None:
        """The stored picture, uint8 (h, w, 3) RGB, at most `picture_side` long; None without."""
        stored = self._image(image_id, "picture")["picture"]
        if stored is None:
            return None
        with Image.open(io.BytesIO(stored)) as picture:
            return np.asarray(picture.convert("RGB"))

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
                digests[row["image_id"]].update(repr(sorted(row.items())).encode())
        lines = [f"{image_id!r} {digest.hexdigest()}" for image_id, digest in digests.items()]
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()

    def _read(self, shard: dict[str, Any], kind: str, columns: list[str] | None = None) -> pa.Table:
        return shards.read_table(shards.shard_path(self.path, shard["name"], kind), columns)

    def _iter_rows(self, kind: str, columns: list[str] | None = None) -> Iterator[dict[str, Any]]:
        """Rows in recorded order, those of an image recorded twice only from its first place."""
        for index, shard in enumerate(self._shards):
            for row in self._read(shard, kind, columns).to_pylist():
                if self._places[row["image_id"]][0] == index:
                    yield row

    def _image(self, image_id: ImageId, *prefixes: str) -> dict[str, Any]:
        columns = [name for name in shards.COLUMNS["images"] if name.startswith(prefixes)]
        return self._lookup(image_id, "images", columns).to_pylist()[0]

    def _lookup(self, image_id: ImageId, kind: str, columns: list[str] | None = None) -> pa.Table:
        """The rows of one image; reads the row group that holds them."""
        if image_id not in self._places:
            raise KeyError(f"no image {image_id!r} in {self.path}; it has {len(self)} images")
        index, row = self._places[image_id]
        path = shards.shard_path(self.path, self._shards[index]["name"], kind)
        count = self.layers if kind == "tokens" else 1
        table = shards.read_table(path, columns, group=row // GROUP)
        return table.slice(row % GROUP * count, count)


def _places(good_shards: list[dict[str, Any]]) -> dict[ImageId, tuple[int, int]]:
    """Image id -> (index of the shard, row of the image in it) of its first occurrence."""
    places: dict[ImageId, tuple[int, int]] = {}
    for index, shard in enumerate(good_shards):
        for row, image_id in enumerate(shard["image_ids"]):
            places.setdefault(image_id, (index, row))
    twice = sum(len(shard["image_ids"]) for shard in good_shards) - len(places)
    if twice:
        logger.warning("%d images were recorded by several ranks; the first record counts", twice)
    return places
