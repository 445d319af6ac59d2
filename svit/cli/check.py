"""`svit check`: reads recorded runs whole and says what is damaged in which file and row."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

from svit.runs import check
from svit.runs.attributions import problems as attribution_problems
from svit.runs.head import RunError, find_runs, folder_at, read_head, read_manifests
from svit.runs.rescue import read_part, rescue_files
from svit.runs.run import open_run
from svit.system.text import counted


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `svit check`."""
    parser.add_argument(
        "runs", nargs="+", type=folder_at, metavar="RUN", help="a run's folder, or a folder of runs"
    )


def run(args: argparse.Namespace) -> int:
    """Exit code 1 where something is damaged."""
    bad = 0
    for folder in (path for given in args.runs for path in find_runs(given) or [given]):
        problems = list(problems_of(folder))
        bad += bool(problems)
        print("\n".join(problems) or f"{folder}: {_summary(folder)}")
    return 1 if bad else 0


def problems_of(folder: Path) -> Iterator[str]:
    """All that is wrong with a run, the first finding of each shard."""
    try:
        read_head(folder)
        manifests = read_manifests(folder)
    except RunError as error:
        yield str(error)
        return
    for manifest in manifests.values():
        for shard in manifest["shards"]:
            try:
                check.check_shard(folder, shard, manifest["layers"])
            except RunError as error:
                yield str(error)
    yield from attribution_problems(folder)
    for path in rescue_files(folder):
        try:
            read_part(path)
        except RunError as error:
            yield str(error)


def _summary(folder: Path) -> str:
    opened = open_run(folder)
    state = "finished" if opened.finished else "not finished: the same command goes on with it"
    lost = len(opened.errors)
    unread = f", {counted(lost, 'images')} more could not be read" * (lost > 0)
    images = f"{counted(len(opened), 'images')} of {opened.layers} blocks{unread}"
    return f"ok, {images}, {state}{_unlisted(folder)}"


def _unlisted(folder: Path) -> str:
    """What lies there and is not read. A killed recording leaves this as well, so it is no damage."""
    listed = {shard["name"] for one in read_manifests(folder).values() for shard in one["shards"]}
    there = {path.name.partition(".")[0] for path in folder.glob("shard-*.parquet")}
    if not (unlisted := sorted(there - listed)):
        return ""
    return (
        f"; not counted, since no manifest lists them: {', '.join(unlisted)} (copy the manifests again, "
        "unless the recording was killed while it wrote)"
    )
