"""Writes a run folder so that a kill loses the shard in memory and nothing else.

Every file is written beside, fsynced and renamed, and only then entered in the manifest. `svit.runs.run` is
the door.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np

from svit.core.types import Detections, ImageId, Target, TokenTrace
from svit.runs import head, shards
from svit.runs.head import RunError
from svit.runs.shards import GROUP
from svit.system import files

_SAFE = "Shards entered before are intact: run the same command again to go on"


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
        provenance = files.plain_json(provenance)
        with files.explained(self.path, RunError, _SAFE):
            files.prepare_folder(self.path)
            self._lock = files.Lock(self.path / f"writer-{rank:05}.lock")
            try:
                self._resume(provenance)
            except BaseException:
                self._lock.release()
                raise

    def _resume(self, provenance: dict[str, Any]) -> None:
        head.claim(self.path, provenance)
        manifests = head.read_manifests(self.path)
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
        file_sha256: str | None = None,
    ) -> None:
        """Adds one image; every `shard_size` images reach the disk together.

        Args:
            trace: its token masks.
            detections: what was found, in source pixels.
            target: ground truth in source pixels.
            image: the source picture, uint8 (height, width, 3) RGB.
            file_name: as the data set names it.
            extra: further numbers of this image, such as `seconds`.
            file_sha256: of its file's bytes, in hexadecimal.

        Raises:
            ValueError: the image is already recorded, or its parts disagree among themselves.
            RunError: the shard cannot be written; it stays in memory, so adding may go on.
        """
        image_id = self._new_id(trace)
        stored = image is not None and self._picture_side > 0
        picture = shards.jpeg(image, self._picture_side) if stored else None
        rows = shards.rows_of(trace, detections, target, picture, file_name, extra, file_sha256)
        self._pending.append(rows)
        self._layers = len(trace.keep)
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
        if self._layers not in (0, len(trace.keep)):
            raise ValueError(f"expected {self._layers} layers as before, found {len(trace.keep)}")
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
        with files.explained(self.path, RunError, _SAFE):
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
            files.write_json(head.manifest_path(self.path, self._rank), manifest, sealed=True)
        self._manifest, self._pending, self._new_errors = manifest, [], 0
        self._flushed = time.monotonic()

    def _write_shard(self, name: str) -> dict[str, Any]:
        tokens = [row for rows, _ in self._pending for row in rows]
        images = [row for _, row in self._pending]
        sizes = {}
        for kind, rows in (("tokens", tokens), ("images", images)):
            path = shards.shard_path(self.path, name, kind)
            group = GROUP * len(rows) // len(images)
            sizes[kind] = shards.write_table(path, kind, rows, group)
        return {"name": name, "image_ids": [row["image_id"] for row in images], "bytes": sizes}
