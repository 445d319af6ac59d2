"""The benchmarks of a folder side by side: speed-up against its limit, stages against the machine's ceilings.

    python -m benchmarks.speed_table                     reads results/benchmark, writes results/speed.md
    python -m benchmarks.speed_table FOLDER --out FILE

Each row is a variant of one `svit benchmark`; the first variant of each is what the others are compared to.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from benchmarks import ROOT
from svit.speed.report import CASE, RECORDED
from svit.system import files
from svit.system.text import table as markdown_table

CHOOSING = ("gates", "selection")  # stages that a method spends on its decision


def read(folder: Path) -> dict[str, dict[str, Any]]:
    """Name of a benchmark -> its file.

    Raises:
        FileNotFoundError: there is none below the folder.
    """
    paths = sorted(folder.glob("*/benchmark.json"))
    if not paths:
        raise FileNotFoundError(f"no benchmark below {folder}; make one with `svit benchmark`")
    return {path.parent.name: json.loads(path.read_text(encoding="utf-8")) for path in paths}


def stage_limit(stages: pd.DataFrame, reference: str, variant: str) -> float:
    """Speed-up over the reference if every stage shrank as its own least time does, at the reference's
    efficiency; what pruning adds (gathering) costs as measured. It is below the MAC limit where the parts
    that pruning leaves alone cost more seconds a MAC.

    Args:
        stages: of one part and size: variant, stage, seconds, least_s.
    """
    columns = ["seconds", "least_s"]
    parts = {name: rows.set_index("stage")[columns] for name, rows in stages.groupby("variant")}
    # another model may have a stage the reference has not, as gates, or lack one
    old, new = parts[reference].align(parts[variant], join="outer", axis=0, fill_value=0.0)
    shrunk = old["seconds"] * new["least_s"] / old["least_s"]
    shrinks = (new["least_s"] <= old["least_s"]) & (old["least_s"] > 0)
    return old["seconds"].sum() / shrunk.where(shrinks, new["seconds"]).sum()


def speedups(found: dict[str, dict[str, Any]]) -> pd.DataFrame:
    """Every variant but recorded ones: times, speed-up, what the MACs and the stages allow, and memory."""
    rows = []
    for name, one in found.items():
        stages = pd.DataFrame(one["stages"]).groupby(["part", "size", "batch"])
        for row in one["summary"]:
            if row["variant"].endswith(RECORDED):
                continue
            where = stages.get_group((row["part"], row["size"], row["batch"]))
            within = stage_limit(where, one["summary"][0]["variant"], row["variant"])
            mine = where[where["variant"] == row["variant"]]
            choosing = mine.loc[mine["stage"].isin(CHOOSING), "share"].sum()
            rows.append(
                {
                    **_case(name, row),
                    "variant": row["variant"],
                    "boxes": _boxes(row),
                    "wall s": f"{row['wall_s_median']:.3f}",
                    "CPU s": f"{row['cpu_s_median']:.3f}",
                    "speed-up": f"{row['speedup_median']:.2f} "
                    f"[{row['speedup_q25']:.2f}, {row['speedup_q75']:.2f}]",
                    "MAC limit": f"{row['mac_limit']:.2f}",
                    "of the limit": f"{row['share_of_limit']:.0%}",
                    "stage limit": f"{within:.2f}",
                    "choosing": f"{choosing:.1%}",
                    "peak MB": f"{row['peak_mb']:.0f}",
                }
            )
    return pd.DataFrame(rows)


def _case(name: str, row: dict[str, Any]) -> dict[str, Any]:
    """What a row is of; a single image a call goes without saying."""
    batch = f", batch {row['batch']}" if row.get("batch", 1) != 1 else ""
    return {"benchmark": name, "part": row["part"], "size": f"{row['size']}{batch}"}


def _boxes(row: dict[str, Any]) -> str:
    """Proposals and detections of an image that the heads worked on."""
    if row["part"] != "network":
        return ""
    return f"{row['proposals']:.0f}, {row['detections']:.0f}"


def ceilings(found: dict[str, dict[str, Any]]) -> pd.DataFrame:
    """A stage a row: share of the time, and least over measured time, of every variant."""
    rows = []
    for name, one in found.items():
        stages = pd.DataFrame(one["stages"])
        stages = stages[~stages["variant"].str.endswith(RECORDED)]
        for case, group in stages.groupby(CASE, sort=False):
            row = dict(zip(CASE, case, strict=True))
            shares = {
                row.stage: f"{row.share:.0%} at {row.of_ceiling:.0%}" for row in group.itertuples()
            }
            whole = group["least_s"].sum() / group["seconds"].sum()
            where = {**_case(name, row), "variant": row["variant"]}
            rows.append({**where, "all": f"{whole:.0%}", **shares})
    return pd.DataFrame(rows).fillna("")


def recording(found: dict[str, dict[str, Any]]) -> pd.DataFrame:
    """What recording adds: median and quartiles of the share of the same round's time without."""
    rows = []
    for name, one in found.items():
        for row in one.get("recording", []):
            added = f"{row['median']:+.1%} [{row['q25']:+.1%}, {row['q75']:+.1%}]"
            where = _case(name, row)
            clock = row.get("clock", "wall")
            rows.append({**where, "variant": row["variant"], "clock": clock, "added": added})
    return pd.DataFrame(rows)


def machines(found: dict[str, dict[str, Any]]) -> pd.DataFrame:
    """What each benchmark ran on, and the rates measured just before it."""
    rows = []
    for name, one in found.items():
        about = one["environment"]
        rows.append(
            {
                "benchmark": name,
                "processor": about["gpu"] or about["cpu"],
                "threads": str(about["threads"]),
                "matmul GFLOP/s": f"{about['matmul_gflops']:.0f}",
                "copy GB/s": f"{about['copy_gbs']:.1f}",
                "rounds": str(one["settings"]["rounds"]),
                "commit": (about["commit"] or "")[:8],
            }
        )
    return pd.DataFrame(rows)


def report(found: dict[str, dict[str, Any]]) -> str:
    """The tables in Markdown."""
    titles = {
        "Speed-up": speedups(found),
        "Stages: share of the time, at which share of the machine's ceilings": ceilings(found),
        "Recording": recording(found),
        "Machines": machines(found),
    }
    lines = ["# Speed, measured", "", "`python -m benchmarks.speed_table`; docs/speed.md explains."]
    for title, table in titles.items():
        if len(table):
            body = markdown_table(list(table.columns), table.to_numpy().tolist())
            lines += ["", f"## {title}", "", body]
    return "\n".join([*lines, ""])


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    where = {"nargs": "?", "type": Path, "default": ROOT / "results" / "benchmark"}
    parser.add_argument("folder", **where, help="of benchmarks (results/benchmark)")
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "speed.md")
    options = parser.parse_args(words)
    text = report(read(options.folder))
    files.write_text(options.out, text)
    print(text)


if __name__ == "__main__":
    main()
