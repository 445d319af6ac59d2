"""Objects that are not found, and what would have found them: their own tokens, any tokens, a dense model.

Annotated objects (no crowds) that no detection from `--score` on finds, by the error of the detection that
could be mended to find them (TIDE; `errors`), by COCO size and by the last block that uses at least half of
their tokens (0: none does). Shares of the objects that were asked about (`svit evaluate --record RUN
--rescue`): filled, those that come back when the tokens their box touches are kept in the gated blocks;
hollow, those that come back with as many tokens at random instead, the mean over draws. Numbers behind the
names: objects, and the difference in objects with its 95 % percentile interval over images, of a run of
frames over videos (1,000 draws). Dark marks: the share that the dense run among the runs finds. An object
that comes back needed tokens that were pruned; one that does not may be hard, or have needed tokens
elsewhere. The table has classes and slices, too.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.figures.canvas.axes import legend_above, percents
from analysis.figures.canvas.placing import shortened
from analysis.figures.canvas.sizes import WIDTH, wrapped
from analysis.figures.objects.errors import dense_of, errors_on
from analysis.figures.output import DrawOptions, Entry, Product, RenderError, detected, paths
from analysis.figures.palette import INK, NEVER, USED
from analysis.numbers import error_causes
from analysis.numbers.error_types import Rule
from analysis.sources import labels
from analysis.sources.collection import RUNS
from svit.core.statistics import with_ends
from svit.runs.frames import videos_of
from svit.runs.rescue import read_rescue
from svit.runs.run import Run
from svit.system.text import counted

GROUPS = {"all": "all", "error": "error", "size": "size", "last": "last block"}
LINE = 0.19  # inches: a group
UNASKED = "no answers about missed objects: `svit evaluate --record RUN --rescue` asks"


def frame(run: Run, dense: Run | None, score: float) -> pd.DataFrame:
    """A row a group: by (all, error, size, last, class, or a slice), group, objects, found_there (by the
    dense run, NaN without), and the columns of `error_causes.rescue_frame`.

    Raises:
        RenderError: nothing was asked about the run, or only with a lower score.
    """
    rescue = read_rescue(run.path)
    if rescue is None:
        raise RenderError(f"{run.path} holds {UNASKED}")
    if score > rescue.facts["score"]:
        raise RenderError(
            f"--score: {run.path} was asked about objects below {rescue.facts['score']:g}, found {score:g}"
        )
    rule = Rule(score=score)
    other = None if dense is None or dense is run else errors_on(dense, run, rule)
    rows = error_causes.causes_of(detected(run), run.class_names, rule, other, rescue).unfound
    rows = rows.assign(all="all")
    names = {one: f"{one} (slice)" if one in rows else one for one in run.slices}
    slices = run.images[["image_id", *names]].rename(columns=names)
    rows = rows.merge(slices, on="image_id", how="left")
    groups = [*GROUPS, "class", *names.values()]
    return pd.concat([_grouped(rows, run, by) for by in groups], ignore_index=True)


def _grouped(rows: pd.DataFrame, run: Run, by: str) -> pd.DataFrame:
    groups = rows.groupby(by, sort=True)
    counts = pd.DataFrame({"objects": groups.size()})
    counts["found_there"] = groups["found_there"].sum(min_count=1).astype(float)
    videos = videos_of(run.frames, run.image_ids)
    rescued = error_causes.rescue_frame(rows, run.image_ids, by, videos=videos).set_index(by)
    table = counts.join(rescued).rename_axis("group").reset_index()
    table["group"] = [f"{one:.0f}" if by == "last" else str(one) for one in table["group"]]
    return table.assign(by=by)[["by", *table.columns]]


def draw(runs: Sequence[Run], options: DrawOptions) -> Iterator[Product]:
    """A panel a run that was asked about."""
    asked = [run for run in runs if read_rescue(run.path) is not None]
    if not asked:
        raise RenderError(f"{paths(runs)} hold{'s' * (len(runs) == 1)} {UNASKED}")
    dense = dense_of(runs)
    frames = [frame(run, dense, options.score) for run in asked]
    shown = [one[one["by"].isin(GROUPS)] for one in frames]
    heights = [0.85 + LINE * len(one) for one in shown]
    figure = Figure(figsize=(WIDTH, sum(heights)))
    parts = figure.subfigures(len(heights), 1, height_ratios=heights, squeeze=False)[:, 0]
    axes: list[Axes] = []
    for part, name, table in zip(parts, labels.places(asked), shown, strict=True):
        other = "" if dense is None else labels.folder(dense)
        axes.append(print(table, part.subplots(), other=other))
        count = table["objects"].iloc[0] if len(table) else 0
        missed = counted(count, "objects not found")
        told = f"{name}: {missed}, score at least {options.score:g}"
        part.suptitle(wrapped(told), ha="left", x=0.01)
    ends = [ax.get_xlim() for ax in axes]
    for ax in axes:  # runs are compared: one scale
        ax.set_xlim(min(low for low, _ in ends), max(high for _, high in ends))
    yield Product("causes", figure, labels.labelled(asked, frames))


def print(frame: pd.DataFrame, ax: Axes, *, other: str = "") -> Axes:
    """Shares of the objects of each group.

    Args:
        frame: of `frame`, with the groups of `GROUPS`.
        other: name of the run that `found_there` is about.
    """
    places = range(len(frame))
    asked = frame["asked"].where(frame["asked"] > 0)
    own, chance = frame["rescued"] / asked, frame["chance"] / asked
    ax.hlines(places, chance, own, color=NEVER, lw=1)
    ax.scatter(chance, places, s=22, facecolor="white", edgecolor=INK, lw=0.9, zorder=3)
    ax.scatter(own, places, s=22, color=USED, zorder=4)
    ax.scatter([], [], s=22, color=USED, label="their tokens kept")
    ax.scatter([], [], s=22, facecolor="white", edgecolor=INK, lw=0.9, label="as many at random")
    there = frame["found_there"] / frame["objects"]
    if there.notna().any():
        ax.scatter(there, places, marker="|", s=60, color=INK, lw=1.4, zorder=2)
        ax.scatter([], [], marker="|", s=60, color=INK, lw=1.4, label=f"found by {other}")
    ax.set_yticks(places, [_words(row) for row in frame.to_dict("records")])
    ax.tick_params(axis="y", length=0)
    ax.invert_yaxis()
    most = max(0.2, *(part.max() for part in (own, chance, there) if part.notna().any()))
    ax.set_xlim(-0.03 * most, 1.03 * most)
    percents(ax.xaxis)
    ax.set_xlabel("of the objects that are not found")
    ax.grid(axis="x")
    legend_above(ax)
    return ax


def _words(row: dict) -> str:
    kind = "" if row["by"] in ("all", "error", "size") else f"{GROUPS[row['by']]} "
    name = shortened(f"{kind}{row['group']}")
    if not row["asked"] > 0:
        return f"{name} ({row['objects']})"
    apart = with_ends(row["difference"], row["low"], row["high"], "+.1f")
    return f"{name} ({row['objects']}) {apart}"


ENTRY = Entry(
    "objects not found: with their own tokens, random ones, in the dense run", draw, RUNS, __doc__
)
