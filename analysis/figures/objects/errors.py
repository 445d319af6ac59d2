"""What kinds of error cost how much, and when the tokens of objects that are not found were pruned.

Above: the six types of TIDE (Bolya et al., ECCV 2020), boxes, all detections. dAP: points of AP at IoU 0.5
gained when the errors of one type alone are mended; a detection errs by its place (IoU 0.1 to 0.5 with an
object of its class), its class (IoU at least 0.5 with one of another), both, by repeating another, or by
lying on background (IoU at most 0.1); a missed object has no detection that could be mended to find it.
Gains do not add up to 100 − AP. The table has 95 % percentile intervals (1,000 draws of images).
Below: annotated objects that no detection from `--score` on finds, by the last block that uses at least half
of their tokens (each weighs as much as the object covers of it; 0: none does), coloured by the error of the
detection that could be mended to find them. Dark marks: how many of them the dense run among the runs finds,
if it is of the same images and classes. An association, no cause: small objects lose more tokens and are
missed more often. Crowds are left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from analysis.figures.canvas.axes import legend_above
from analysis.figures.canvas.sizes import WIDTH, wrapped
from analysis.figures.output import DrawOptions, Entry, Product, RenderError, detected
from analysis.figures.palette import ERRORS, INK
from analysis.numbers import error_causes, per_image
from analysis.numbers.error_types import TYPES, Errors, Rule, errors_of
from analysis.sources import labels
from analysis.sources.collection import RUNS
from svit.runs import pairing
from svit.runs.run import Run
from svit.system.text import counted

UNFOUND = ("localisation", "classification", "missed")
ROW = 0.3  # inches: a run's bar


def frame(run: Run, draws: int = 1000) -> pd.DataFrame:
    """A row a type: error, errors, cost (dAP), low, high (`error_causes.cost_frame`).

    Raises:
        RenderError: no image has annotations and detections, or none an object.
    """
    causes = error_causes.causes_of(detected(run), run.class_names)
    if causes.errors.objects.empty:
        raise RenderError(f"{run.path}: the ground truth holds no objects")
    return error_causes.cost_frame(causes, draws=draws)


def draw(runs: Sequence[Run], options: DrawOptions) -> Iterator[Product]:
    """A bar a run above, a panel a run below."""
    frames = [frame(run) for run in runs]
    names = labels.row_names(runs)
    costs = pd.concat([one.assign(name=name) for one, name in zip(frames, names, strict=True)])
    rule, dense = Rule(score=options.score), dense_of(runs)
    unfound = [_unfound(run, dense, rule) for run in runs]
    heights = [0.75 + ROW * len(runs), *[1.35] * len(runs)]
    figure = Figure(figsize=(WIDTH, sum(heights)))
    parts = figure.subfigures(len(heights), 1, height_ratios=heights)
    print(costs, parts[0].subplots())
    lower: list[Axes] = []
    for part, run, name, table in zip(parts[1:], runs, labels.places(runs), unfound, strict=True):
        other = (
            labels.folder(dense) if dense is not None and table["found_there"].notna().any() else ""
        )
        lower.append(print_unfound(table, part.subplots(), blocks=run.layers, other=other))
        count = counted(len(table), "objects not found")
        if hidden := int(table["last"].isna().sum()):
            count += f" ({hidden} of them in no token, which have no bar)"
        count += f", score at least {options.score:g}"
        part.suptitle(wrapped(f"{name}: {count}"), ha="left", x=0.01)
    for ax in lower:  # runs are compared: one scale
        ax.set_ylim(top=max(one.get_ylim()[1] for one in lower))
    yield Product("errors", figure, labels.labelled(runs, frames))


def print(frame: pd.DataFrame, ax: Axes) -> Axes:
    """dAP of the types stacked, a bar a run.

    Args:
        frame: of `frame`, with the run's `name`.
    """
    names = list(dict.fromkeys(frame["name"]))
    left, longest = np.zeros(len(names)), frame.groupby("name")["cost"].sum().max()
    for error in TYPES:
        values = frame[frame["error"] == error].set_index("name")["cost"].reindex(names).fillna(0)
        ax.barh(names, values, left=left, height=0.7, color=ERRORS[error], label=error)
        for place, (start, value) in enumerate(zip(left, values, strict=True)):
            if value > 0.05 * longest:
                style = {"ha": "center", "va": "center", "fontsize": "small", "color": "white"}
                ax.text(start + value / 2, place, f"{value:.1f}", **style)
        left += values.to_numpy()
    ax.invert_yaxis()
    if not longest > 0:
        ax.set_xlim(0, 1)
        words = {"ha": "center", "va": "center", "transform": ax.transAxes}
        ax.text(0.5, 0.5, "no type costs anything", **words)
    ax.set_xlabel("dAP: points of AP50 when one type is mended")
    ax.tick_params(axis="y", length=0)
    legend_above(ax, columns=len(TYPES))
    return ax


def print_unfound(unfound: pd.DataFrame, ax: Axes, *, blocks: int, other: str = "") -> Axes:
    """Objects that are not found by the last block that holds them (`Causes.unfound`).

    Args:
        other: name of the run that `found_there` is about.
    """
    places = np.arange(blocks + 1)
    low = np.zeros(len(places))
    for error in UNFOUND:
        counts = _by_block(unfound[unfound["error"] == error], places)
        ax.bar(places, counts, bottom=low, width=0.72, color=ERRORS[error])
        low += counts
    if other:
        there = _by_block(unfound[unfound["found_there"].fillna(False).astype(bool)], places)
        shown = places[there > 0]
        ax.hlines(there[there > 0], shown - 0.36, shown + 0.36, color=INK, lw=1.4)
        ax.plot([], [], color=INK, lw=1.4, label=f"of them found by {other}")
        legend_above(ax)
    ax.set(xlabel="last block that uses half of the tokens", ylabel="objects", xticks=places)
    ax.set_ylim(0, max(1.0, 1.08 * low.max()))
    ax.yaxis.set_major_locator(MaxNLocator(4, integer=True))
    return ax


def _by_block(rows: pd.DataFrame, places: np.ndarray) -> np.ndarray:
    return rows["last"].value_counts().reindex(places, fill_value=0).to_numpy(float)


def _unfound(run: Run, dense: Run | None, rule: Rule) -> pd.DataFrame:
    other = None if dense is None or dense is run else errors_on(dense, run, rule)
    return error_causes.causes_of(detected(run), run.class_names, rule, other).unfound


def errors_on(dense: Run, run: Run, rule: Rule) -> Errors | None:
    """Of the dense run at the annotated objects of another, as that holds them; None where the dense one
    lacks detections of an image, or holds other pictures or classes."""
    ids = per_image.scored_ids(run)
    if ids != per_image.scored_ids(run, dense) or dense.class_names != run.class_names:
        return None
    try:
        pairing.check_pictures(run, dense)
    except pairing.MismatchError:
        return None
    targets, found = run.samples("target", ids=ids), dense.samples("detections", ids=ids)
    samples = zip(ids, targets, found, strict=True)
    return errors_of(((one, *target, *seen) for one, target, seen in samples), rule=rule)


def dense_of(runs: Sequence[Run]) -> Run | None:
    """The only dense run among several."""
    dense = [run for run in runs if run.provenance.get("method") == "dense"]
    return dense[0] if len(dense) == 1 else None


ENTRY = Entry(
    "error types and what they cost; last blocks of objects not found", draw, RUNS, __doc__
)
