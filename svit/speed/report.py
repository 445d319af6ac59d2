"""What a benchmark's numbers say: tables, where speed-up begins, and verdicts in words. Needs no torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from svit.system import files
from svit.system.text import one_line
from svit.system.text import table as markdown_table

# stages -> what they are together; of the rest (gates, gathering) each stands for itself
ADAPTER = ("spatial prior", "injectors", "extractors", "fusion")
HEADS = ("fpn", "rpn", "roi heads", "post-processing")
MOSTLY = 0.5  # share of the time from which one part dominates
IDLE = 0.1  # share of the matmul rate below which a GPU waits for launches
BUSY = 0.4  # share of the matmul rate above which arithmetic is the limit
CASE = ["part", "size", "batch", "variant"]
CROSSED = ["part", "batch", "size", "tokens"]
RECORDED = " recorded"  # ends the label of a variant measured with the recorder
CEILINGS = (
    "The least time of each stage's operators (the longer of their arithmetic at the matmul rate and their "
    "bytes at the copy rate) over the measured time. Small products that stay in cache can beat the rate "
    "of the large one."
)


def crossover(summary: pd.DataFrame) -> pd.DataFrame:
    """Speed-up over the reference by number of tokens, one column a variant; NaN where a variant makes
    another number of tokens of a size (patches of other pixels).

    Args:
        summary: rows with part, size, batch, tokens, variant, speedup_median.
    """
    table = summary.pivot(index=CROSSED, columns="variant", values="speedup_median")
    table = table.reindex(columns=summary["variant"].unique())
    table = table.reindex(pd.MultiIndex.from_frame(summary[CROSSED].drop_duplicates()))
    return table.reset_index().rename_axis(columns=None)


def overhead(times: pd.DataFrame) -> pd.DataFrame:
    """What recording adds to a call: the share of the same round's time without, median and quartiles, by
    the clock on the wall and by the processor's, which does not count what other programs take."""
    keys = ["part", "size", "batch", "round"]
    recorded = times[times["variant"].str.endswith(RECORDED)]
    plain = recorded.assign(variant=recorded["variant"].str.removesuffix(RECORDED))
    pairs = plain.merge(times, on=[*keys, "variant"], suffixes=("_recorded", "_plain"))
    tables = []
    for clock, column in (("wall", "wall_s"), ("cpu", "cpu_s")):
        added = pairs.assign(share=pairs[f"{column}_recorded"] / pairs[f"{column}_plain"] - 1)
        shares = added.groupby(CASE, sort=False)["share"]
        table = shares.quantile([0.25, 0.5, 0.75]).unstack()
        table = table.set_axis(["q25", "median", "q75"], axis=1).reset_index()
        table.insert(len(CASE), "clock", clock)
        tables.append(table)
    return pd.concat(tables, ignore_index=True)


def crossing(tokens: Sequence[float], speedups: Sequence[float]) -> float | None:
    """The number of tokens from which a variant is faster, linear between measured sizes.

    None if it is slower at the largest size; the smallest size if it is always faster. Where the curve
    crosses several times, the last crossing counts.
    """
    order = np.argsort(tokens)
    x, y = np.asarray(tokens, float)[order], np.asarray(speedups, float)[order]
    if not len(x) or y[-1] <= 1:
        return None
    slower = np.flatnonzero(y <= 1)
    if not len(slower):
        return float(x[0])
    last = slower[-1]
    return float(np.interp(1.0, y[last : last + 2], x[last : last + 2]))


def verdict(stages: dict[str, float], matmul_share: float, gpu: bool) -> str:
    """One sentence on what bounds a variant.

    Args:
        stages: stage -> share of the time, summing to 1.
        matmul_share: achieved operations a second over those of a large matrix product.
    """
    parts = {
        "heads": sum(stages.get(name, 0.0) for name in HEADS),
        "adapter": sum(stages.get(name, 0.0) for name in ADAPTER),
        "blocks": stages.get("blocks", 0.0),
    }
    largest = max(parts, key=lambda name: parts[name])
    dominates = parts[largest] >= MOSTLY
    verb = "dominate" if largest != "adapter" else "dominates"
    words = f"{largest} {verb if dominates else 'largest, nothing dominates'}"
    others = ", ".join(f"{name} {share:.0%}" for name, share in parts.items())
    return f"{words} ({others}); {_bound(matmul_share, gpu)}"


def _bound(matmul_share: float, gpu: bool) -> str:
    told = f"at {matmul_share:.0%} of the matmul rate"
    if matmul_share >= BUSY:
        return f"arithmetic-bound, {told}"
    if gpu and matmul_share < IDLE:
        return f"launch-bound, {told}"
    return f"memory and small operators cost as well, {told}"


def write(out: Path, result: dict[str, Any], tables: dict[str, pd.DataFrame]) -> None:
    """`benchmark.json`, one CSV a table and `benchmark.md`, each written as a whole or not at all.

    Args:
        result: environment, settings and verdicts, plain JSON.
        tables: file name without suffix -> rows.
    """
    files.prepare_folder(out)
    for name, frame in tables.items():
        files.write_text(out / f"{name}.csv", frame.to_csv(index=False))
    rows = {  # JSON has no NaN
        name: table.astype(object).where(table.notna(), None).to_dict(orient="records")
        for name, table in tables.items()
    }
    files.write_json(out / "benchmark.json", files.plain_json({**result, **rows}), indent=1)
    files.write_text(out / "benchmark.md", markdown(result, tables))


def markdown(result: dict[str, Any], tables: dict[str, pd.DataFrame]) -> str:
    """The report for reading: stages as shares side by side; raw times stay in the CSV."""
    stages = tables["stages"]
    shown = {"summary": tables["summary"], "stages": _side_by_side(stages, "share")}
    shown["ceilings"] = _side_by_side(stages, "of_ceiling").assign(all=_of_ceilings(stages))
    shown |= {name: rows for name, rows in tables.items() if name not in (*shown, "times")}
    lines = ["# Benchmark", "", *_bullets(result["environment"])]
    lines += ["", "Verdicts:", "", *_bullets(result["verdicts"])]
    for name, rows in shown.items():
        cells = rows.astype(object).map(_cell).to_numpy().tolist()
        lines += ["", f"## {name.capitalize()}", "", markdown_table(list(rows.columns), cells)]
        if name == "ceilings":
            lines += ["", CEILINGS]
        if name == "crossover":
            lines += ["", *_crossings(rows)]
    return "\n".join([*lines, ""])


def _side_by_side(stages: pd.DataFrame, values: str) -> pd.DataFrame:
    table = stages.pivot_table(index=CASE, columns="stage", values=values, sort=False)
    return table.reset_index().rename_axis(columns=None)


def _of_ceilings(stages: pd.DataFrame) -> list[float]:
    """Least over measured seconds of all stages of each case."""
    sums = stages.groupby(CASE, sort=False)[["least_s", "seconds"]].sum()
    return (sums["least_s"] / sums["seconds"]).tolist()


def _crossings(table: pd.DataFrame) -> list[str]:
    """A sentence a part and variant; the reference (first of the variants) is not faster than itself."""
    return [
        f"- {part}, batch {batch}, {variant}: {_crossing_words(*_measured(rows, variant))}"
        for (part, batch), rows in table.groupby(["part", "batch"], sort=False)
        for variant in table.columns[len(CROSSED) + 1 :]
    ]


def _measured(rows: pd.DataFrame, variant: str) -> tuple[pd.Series, pd.Series]:
    """Tokens and speed-ups of a variant, where it makes so many."""
    there = rows[rows[variant].notna()]
    return there["tokens"], there[variant]


def _crossing_words(tokens: pd.Series, speedups: pd.Series) -> str:
    start = crossing(tokens.tolist(), speedups.tolist())
    if start is None:
        return f"not faster, up to {tokens.max()} tokens"
    return f"faster from {start:.0f} tokens on (measured {tokens.min()} to {tokens.max()})"


def _bullets(values: dict[str, Any]) -> list[str]:
    told = (f"- {key}: {_cell(value)}" for key, value in values.items() if value is not None)
    return list(map(one_line, told))


def _cell(value: Any) -> str:
    if value is None or value != value:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)
