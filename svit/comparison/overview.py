"""The table of a comparison: every finished row of its folder that was made like those of a call."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from svit.comparison.plan import ALL_ROWS, CHANGED, Job
from svit.comparison.row import ROW, drawn
from svit.core.config import ConfigError, from_dict
from svit.evaluation.average_precision import BOUNDARY, COUNTED, KINDS
from svit.evaluation.summary_tables import TRAINED_HERE, trained_here_told
from svit.system.claims import differences
from svit.system.files import read_json
from svit.system.text import counted, one_line
from svit.system.text import table as markdown_table

# of a `row.json`: what its numbers follow from beside the method, its options and the seed
_ALIKE = (
    *("steps", "images", "calibration", "counted", "exif", "class_map"),
    *("init_sha256", "train_sha256", "val_sha256", TRAINED_HERE),
)
_SECTIONS = ("backbone", "detector", "data", "train")


def finished(planned: Sequence[Job], out: Path) -> dict[str, dict[str, Any]]:
    """What is written about the finished ones of these rows, by name."""
    paths = {job.name: out / job.name / ROW for job in planned}
    return {name: _written(path) for name, path in paths.items() if path.exists()}


def overview(planned: Sequence[Job], out: Path) -> str:
    """The finished rows of a folder as Markdown: those of this call, and of earlier ones if made alike.

    AP; in AP points how far it is from that of the dense control of the same seed and of other masks of
    the same trained row, with paired 95 % percentile intervals over images; AP at equal tokens. Below
    stands what all rows have in common, and which were left out since theirs is something else.

    Returns: nothing if no row of this call is finished.

    Raises:
        FileError: a `row.json` is damaged.
    """
    found = finished(planned, out)
    if not found:
        return ""
    jobs = [job for job in planned if job.name in found]
    kinds = [
        kind
        for kind in (*KINDS, BOUNDARY)
        # COCO's -1: the data have no such annotations
        if all(row["lines"]["learned"].get(f"{kind}_AP", -1) >= 0 for row in found.values())
    ]
    call, left_out = _shared(next(iter(found.values()))), []
    for path in sorted(out.glob(f"*/{ROW}")):
        if path.parent.name not in found:
            written = _written(path)
            apart = differences(_shared(written), call)
            if apart or (job := _job(written)) is None:
                left_out.append(f"{path.parent.name} ({(*apart, 'another version')[0]})")
            else:
                found[path.parent.name] = written
                jobs.append(job)
    jobs.sort(key=lambda job: (job.seed, ALL_ROWS.index(job.row)))
    cells = [_cells(job, found, out, kinds) for job in jobs]
    return "\n".join([markdown_table(_headings(kinds), cells), "", *_told(call, left_out), ""])


def _written(path: Path) -> dict[str, Any]:
    row: dict[str, Any] = read_json(path, "delete it and repeat the command")
    return row


def _job(written: dict[str, Any]) -> Job | None:
    """A row as it was planned; None of one that this version does not know."""
    row = next((row for row in ALL_ROWS if row.name == written["row"]), None)
    try:
        return None if row is None else Job(row, from_dict(written["config"]))
    except ConfigError:
        return None


def _shared(written: dict[str, Any]) -> dict[str, Any]:
    """What rows must have in common to stand in one table: all but the method, what it asks of its body,
    and the seed."""
    config = {name: dict(written["config"][name]) for name in _SECTIONS}
    del config["train"]["seed"], config["backbone"]["norm_eps"]
    return {name: written[name] for name in _ALIKE if name in written} | config


def _told(call: dict[str, Any], left_out: Sequence[str]) -> list[str]:
    """What every row has in common, in words, and the rows that have not."""
    at_most = counted(call.get("counted", COUNTED), "detections")
    lines = [
        f"Every row: {counted(call['steps'], 'steps')} of {counted(call['train']['batch'], 'images')} "
        "from the same weights, evaluated on the same "
        f"{counted(call['images'], 'images')}, at most {at_most} each."
    ]
    if seen := call.get(TRAINED_HERE):
        lines += ["", trained_here_told(seen, call["images"])]
    if left_out:
        lines += ["", one_line(f"Left out, made otherwise: {'; '.join(left_out)}.")]
    return lines


def _headings(kinds: Sequence[str]) -> list[str]:
    return [
        *("row", "seed"),
        *(f"{kind} AP" for kind in kinds),
        *(f"{kind} − dense" for kind in kinds),
        *(f"learned − {name}" for name in CHANGED),
        *("keep, gated layers", "GMACs backbone", "box AP at equal tokens", "keep there"),
    ]


def _cells(
    job: Job, found: dict[str, dict[str, Any]], out: Path, kinds: Sequence[str]
) -> list[str]:
    dense, lines = f"dense-seed{job.seed}", found[job.name]["lines"]
    learned, equal = lines["learned"], lines.get(job.equal.name)

    def apart(kind: str, row: str, line: str) -> str:
        other = found.get(row, {"lines": {}})["lines"].get(line)
        if other is None or f"{kind}_AP" not in learned or f"{kind}_AP" not in other:
            return "–"
        pair = [drawn(out / name, at, kind) for name, at in ((job.name, "learned"), (row, line))]
        if None in pair:  # measured before matches were kept
            return f"{learned[f'{kind}_AP'] - other[f'{kind}_AP']:+.1f}"
        return (pair[0] - pair[1]).signed

    return [
        *(job.row.name, str(job.seed)),
        *(f"{learned[f'{kind}_AP']:.1f}" if f"{kind}_AP" in learned else "–" for kind in kinds),
        *(apart(kind, dense, "learned") for kind in kinds),
        *(apart("box", job.name, name) for name in CHANGED),
        *(f"{learned['keep_ratio']:.3f}", f"{learned['macs_backbone'] / 1e9:.3f}"),
        *(
            ("–", "–")
            if equal is None
            else (f"{equal['box_AP']:.1f}", f"{equal['keep_ratio']:.3f}")
        ),
    ]
