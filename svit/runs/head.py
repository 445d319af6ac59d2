"""The JSON files of a run folder: what they must hold, and whose the folder is.

    RUN/run.json               format, version, provenance; written once
    RUN/manifest-00000.json    finished shards, failed images of a rank; replaced after each shard
    RUN/writer-00000.lock      only while a process of that rank writes

`svit.runs.run` is the door to a run, `svit.runs.shards` the tables in it.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from svit.system.claims import refuse_others
from svit.system.files import FileError, read_json, write_json
from svit.system.text import in_order

FORMAT, VERSION = "svit-run", 1
UNKNOWN = "unknown"  # what a provenance says of facts that nobody told
_REMEDY = "copy it again, or record anew"


class RunError(FileError):
    """A run folder cannot be read or written; the message names the file and the fix."""


def folder_at(place: str | Path) -> Path:
    """A folder on this machine, or anywhere that fsspec reaches (`protocol://...`).

    Raises:
        RunError: such an address, and universal-pathlib is not installed.
    """
    if "://" not in str(place):
        return Path(place)
    try:
        from upath import UPath
    except ModuleNotFoundError as error:
        raise RunError(
            f"{place} is read by universal-pathlib: python -m pip install universal-pathlib, and "
            "what fsspec needs for its protocol, as s3fs"
        ) from error
    return UPath(place)


def find_runs(folder: str | Path) -> list[Path]:
    """The run folders in a folder (or the folder itself), by name."""
    folder = folder_at(folder)
    heads = [*folder.glob("run.json"), *folder.glob("*/run.json")]
    return sorted((head.parent for head in heads), key=in_order)


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
        write_json(path, {**head, "provenance": provenance}, indent=1, sealed=True)
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
    problem = next(_head_problems(head), None)
    if problem:
        raise RunError(f"{path}: {problem}: {_REMEDY}")
    return head


def _head_problems(head: dict[str, Any]) -> Iterator[str]:
    yield from _keys(head, {"format", "version", "created", "provenance"})
    provenance = head["provenance"]
    if not isinstance(head["created"], str):
        yield f"expected `created` as text, found {head['created']!r}"
    if not isinstance(provenance, dict):
        yield f"expected `provenance` as an object, found {provenance!r}"
    for name, kinds in (("class_names", str), ("targets", (int, float))):
        value = known(provenance, name) or []
        if not isinstance(value, list) or not all(isinstance(item, kinds) for item in value):
            yield f"expected `{name}` as a list of {'names' if kinds is str else 'numbers'}"


def known(provenance: dict[str, Any], name: str) -> Any:
    """An entry of a provenance; None where it is missing or said to be "unknown"."""
    value = provenance.get(name)
    return None if value == UNKNOWN else value


def _keys(found: dict[str, Any], expected: set[str]) -> Iterator[str]:
    if found.keys() != expected:
        yield f"expected the entries {sorted(expected)}, found {sorted(found)}"


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
        problem = next(_manifest_problems(path, manifest), None)
        if problem:
            raise RunError(f"{path}: {problem}: {_REMEDY}")
        manifests[manifest["rank"]] = manifest
    layers = sorted({manifest["layers"] for manifest in manifests.values()} - {0})
    if len(layers) > 1:
        raise RunError(f"{folder}: its manifests disagree on `layers`: {layers}; {_REMEDY}")
    return manifests


def _manifest_problems(path: Path, manifest: dict[str, Any]) -> Iterator[str]:
    yield from _keys(manifest, {"rank", "world", "finished", "layers", "shards", "errors"})
    for name, least in (("rank", 0), ("world", 1), ("layers", 0)):
        if type(manifest[name]) is not int or manifest[name] < least:
            yield f"expected `{name}` as a whole number from {least}, found {manifest[name]!r}"
    if (
        manifest_path(path.parent, manifest["rank"]) != path
        or manifest["rank"] >= manifest["world"]
    ):
        yield f"it is of rank {manifest['rank']} of {manifest['world']}"
    if type(manifest["finished"]) is not bool:
        yield f"expected `finished` as true or false, found {manifest['finished']!r}"
    for name in ("shards", "errors"):
        if not isinstance(manifest[name], list):
            yield f"expected `{name}` as a list, found {manifest[name]!r}"
    yield from (problem for shard in manifest["shards"] for problem in _shard_problems(shard))
    for row in manifest["errors"]:
        if not (isinstance(row, list) and len(row) == 3 and _is_id(row[0])):
            yield f"expected an error as [image id, file name, message], found {row!r}"
    if manifest["shards"] and not manifest["layers"]:
        yield "it lists shards and no layers"


def _shard_problems(shard: Any) -> Iterator[str]:
    if not isinstance(shard, dict):
        yield f"expected a shard as an object, found {shard!r}"
    yield from _keys(shard, {"name", "image_ids", "bytes"})
    name, image_ids, sizes = shard["name"], shard["image_ids"], shard["bytes"]
    if not isinstance(name, str):
        yield f"expected the name of a shard, found {name!r}"
    if not isinstance(image_ids, list) or not image_ids or not all(map(_is_id, image_ids)):
        yield f"shard {name}: expected `image_ids` as a list of numbers or texts"
    if len({*image_ids}) < len(image_ids) or len({*map(type, image_ids)}) > 1:
        yield f"shard {name}: expected `image_ids` of one kind, each once"
    numbers = isinstance(sizes, dict) and all(type(size) is int for size in sizes.values())
    if not numbers or {*sizes} != {"tokens", "images"}:
        yield f"shard {name}: expected `bytes` of tokens and images, found {sizes!r}"


def _is_id(value: object) -> bool:
    return type(value) in (int, str)
