"""The JSON files of a run folder: what they must hold, and whose the folder is.

    RUN/run.json               format, version, provenance; written once
    RUN/manifest-00000.json    finished shards, failed images of a rank; replaced after each shard
    RUN/writer-00000.lock      only while a process of that rank writes

`svit.runs.run` is the door to a run, `svit.runs.shards` the tables in it.
"""

from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from svit.system.claims import refuse_others
from svit.system.files import FileError, read_json, write_json

FORMAT, VERSION = "svit-run", 1
_MANIFEST_KEYS = {"rank", "world", "finished", "layers", "shards", "errors"}
_REMEDY = "copy it again, or record anew"


class RunError(FileError):
    """A run folder cannot be read or written; the message names the file and the fix."""


def claim(folder: Path, provenance: dict[str, Any]) -> None:
    """Writes the head of a new run, or makes sure that an old one is of the same provenance.

    Raises:
        FileError: it is of another (the differences are listed), or lost its head.
    """
    path = folder / "run.json"
    if not path.exists():
        if next(folder.glob("shard-*.parquet"), None):
            raise RunError(f"{folder} holds shards of a run without its run.json: choose another")
        created = datetime.now(timezone.utc).isoformat(timespec="seconds")
        head = {"format": FORMAT, "version": VERSION, "created": created}
        write_json(path, {**head, "provenance": provenance}, indent=1)
    refuse_others(path, read_head(folder)["provenance"], provenance, what="run")


def read_head(folder: Path) -> dict[str, Any]:
    """run.json: `created` and `provenance`.

    Raises:
        RunError: not a run, of another version, or damaged.
    """
    path = folder / "run.json"
    if not path.is_file():
        raise RunError(
            f"{folder} is not a recorded run (it has no run.json): record one with "
            "`svit record --out RUN`"
        )
    head = read_json(path, _REMEDY, RunError)
    if head.get("format") != FORMAT:
        raise RunError(f"{path}: expected format {FORMAT!r}, found {head.get('format')!r}")
    if head.get("version") != VERSION:
        raise RunError(
            f"{path} has format version {head.get('version')}, this program reads {VERSION}: "
            "update the program, or record anew"
        )
    if not {"created", "provenance"} <= head.keys():
        raise RunError(f"{path} lacks its provenance: {_REMEDY}")
    return head


def manifest_path(folder: Path, rank: int) -> Path:
    """The file that lists what one rank has finished."""
    return folder / f"manifest-{rank:05}.json"


def read_manifests(folder: Path) -> dict[int, dict[str, Any]]:
    """Manifests by rank, in order.

    Raises:
        RunError: one is damaged.
    """
    manifests = {}
    for path in sorted(folder.glob("manifest-*.json")):
        manifest = read_json(path, _REMEDY, RunError)
        missing = _MANIFEST_KEYS - manifest.keys()
        if missing:
            raise RunError(f"{path} lacks {', '.join(sorted(missing))}: {_REMEDY}")
        manifests[manifest["rank"]] = manifest
    return manifests
