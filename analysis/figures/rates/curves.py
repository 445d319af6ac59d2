"""Losses, AP where it was measured, gate noise or learning rate, and the share of tokens that each
block kept, over training steps; several trainings in the same panels, keep ratios one panel each.

Every point is the mean over the steps since the point before it (20 by default). Keep ratios are
kept / all tokens of the batch, padding included, as the ratio loss sees them (paper Eq. 2). Dots at
the end are the targets of SViT's gates; blocks that kept everything throughout are left out. Of a
single training the parts of the loss are drawn as well.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import (
    EngFormatter,
    FormatStrFormatter,
    LogLocator,
    NullFormatter,
)

from analysis.figures.canvas.axes import blank, percents
from analysis.figures.canvas.placing import short_names
from analysis.figures.canvas.sizes import WIDTH
from analysis.figures.output import DrawOptions, Entry, Product, RenderError
from analysis.figures.palette import INK, LINES
from analysis.sources.collection import TRAININGS
from analysis.sources.labels import training_names
from analysis.sources.trainings import Training, long_frame

IN_A_ROW = 3  # panels of keep ratios
DASHES = ("-", "--", ":", "-.")
LETTERS = 26  # of a name
KEY = 0.15  # inches: a row of names
STATES = {"noise_scale": "gate noise, share of its start", "rate": "learning rate"}

_ABOVE = {"loc": "lower left", "bbox_to_anchor": (0, 1), "borderaxespad": 0.2, "borderpad": 0}

Style = dict[str, str]
Panel = Callable[[Training, Axes, str, Style], Axes]


def frame(trainings: Sequence[Training]) -> pd.DataFrame:
    """All numbers of the trainings that have lines, in long form (`trainings.long_frame`).

    Raises:
        RenderError: none has any.
    """
    full = begun(trainings)
    return long_frame(full, training_names(full))


def begun(trainings: Sequence[Training]) -> list[Training]:
    """Those that have lines.

    Raises:
        RenderError: there is none.
    """
    full = [training for training in trainings if training.lines]
    if not full:
        paths = ", ".join(str(training.path) for training in trainings)
        raise RenderError(f"{paths}: no line in metrics.json yet; train on, then draw again")
    return full


def draw(trainings: Sequence[Training], options: DrawOptions) -> Iterator[Product]:
    """Panels of all trainings over their names, then a panel of keep ratios for each."""
    full = begun(trainings)
    names = list(short_names(training_names(full), LETTERS).values())
    panels, sparse = _upper_panels(full), [one for one in full if _moving(one)]
    rows, several = math.ceil(len(sparse) / IN_A_ROW), len(full) > 1
    keys = KEY * math.ceil(len(full) / IN_A_ROW) * several
    heights = [height for height in (2.3, keys, 2.1 * rows) if height]
    figure = Figure(figsize=(WIDTH, sum(heights)))
    parts = list(np.atleast_1d(figure.subfigures(len(heights), 1, height_ratios=heights)))
    axes = parts[0].subplots(1, len(panels), squeeze=False)[0]
    for ax, panel in zip(axes, panels, strict=True):
        print(full, ax, panel=panel, names=names)
    if several:
        parts[1].legend(*axes[0].get_legend_handles_labels(), loc="center", ncols=IN_A_ROW)
    if rows:
        cells = list(parts[-1].subplots(rows, IN_A_ROW, sharey=True, squeeze=False).flat)
        for ax, training in zip(cells, sparse, strict=False):
            keep_lines(training, ax, names[full.index(training)])
        blank(cells[len(sparse) :])
    yield Product("curves", figure, frame(full))


def print(trainings: Sequence[Training], ax: Axes, *, panel: Panel, names: Sequence[str]) -> Axes:
    """One panel of all trainings on paper, in colours of their own.

    Args:
        panel: what it shows: `total_lines`, `loss_lines`, `ap_points` or a state.
        names: of the trainings.
    """
    for name, style, training in zip(names, _styles(len(trainings)), trainings, strict=True):
        panel(training, ax, name, style)
    return ax


def _upper_panels(trainings: Sequence[Training]) -> list[Panel]:
    """The panels that any of the trainings has numbers for."""
    panels: list[Panel] = [loss_lines if len(trainings) == 1 else total_lines]
    if any(training.ap_columns for training in trainings):
        panels.append(ap_points)
    state = "noise_scale" if any("noise_scale" in one.frame for one in trainings) else "rate"
    if any(state in training.frame for training in trainings):
        panels.append(partial(state_line, name=state))
    return panels


def total_lines(training: Training, ax: Axes, label: str, style: Style) -> Axes:
    """The total loss."""
    return _line(training, "total_loss", ax, label, style, "total loss")


def loss_lines(training: Training, ax: Axes, label: str, style: Style) -> Axes:
    """The total loss and its parts, on a logarithmic scale."""
    total_lines(training, ax, "total", {"color": INK})
    parts = training.loss_columns
    for name, part in zip(parts, _styles(len(parts)), strict=True):
        _line(training, name, ax, name.removeprefix("loss_").replace("_", " "), part, "loss")
    ax.set_yscale("log")
    ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    ax.yaxis.set_major_formatter(FormatStrFormatter("%g"))
    ax.yaxis.set_minor_formatter(NullFormatter())
    ax.legend(**_ABOVE, ncols=3, columnspacing=1.0)
    return ax


def ap_points(training: Training, ax: Axes, label: str, style: Style) -> Axes:
    """APs of evaluations while it trained; the second kind of AP has hollow points."""
    kinds = training.ap_columns[:2]
    for name, face in zip(kinds, (style["color"], "white"), strict=False):
        rows = training.frame.dropna(subset=[name])
        points = {"marker": "o", "markersize": 3, "markerfacecolor": face}
        ax.plot(rows["step"], rows[name], **style, **points, label=f"{label}, {name}")
    names = [name.removesuffix("AP").strip("_/ ") for name in kinds]
    said = f" (filled: {names[0]}, hollow: {names[1]})" if len(names) > 1 else ""
    return _steps(ax, f"AP{said}" if said or not kinds else kinds[0])


def state_line(training: Training, ax: Axes, label: str, style: Style, *, name: str) -> Axes:
    """A value of every moment, such as the gate noise."""
    return _line(training, name, ax, label, style, STATES[name])


def keep_lines(training: Training, ax: Axes, title: str) -> Axes:
    """Share of tokens that each block kept, early blocks light; dots at the end are the targets."""
    moving = _moving(training)
    colours = mpl.colormaps["viridis_r"](np.linspace(0.12, 1, max(len(moving), 2)))
    last = training.frame["step"].max()
    for block, colour in zip(moving, colours, strict=False):
        rows = training.frame.dropna(subset=[f"keep_ratio_{block}"])
        look = {"color": colour, "lw": 0.9, "label": f"{block}", **_alone(rows)}
        ax.plot(rows["step"], rows[f"keep_ratio_{block}"], **look)
        if training.targets:
            level = training.targets[block - 1]
            ax.plot([last], [level], "o", color=colour, markersize=3.5, clip_on=False)
    _steps(ax, "share of tokens kept")
    ax.set_ylim(0, 1.03)
    ax.set_title(f"{title}: blocks", pad=14)
    percents(ax.yaxis)
    small = {"fontsize": "x-small", "handlelength": 0.8, "columnspacing": 0.6, "handletextpad": 0.3}
    ax.legend(**_ABOVE, ncols=max(len(moving), 1), **small)
    return ax


def _moving(training: Training) -> list[int]:
    """Blocks, from 1, that ever kept less than everything."""
    columns = training.keep_columns
    return [block for block, name in enumerate(columns, 1) if (training.frame[name] < 1).any()]


def _line(training: Training, name: str, ax: Axes, label: str, style: Style, ylabel: str) -> Axes:
    if name in training.frame:
        rows = training.frame.dropna(subset=[name])
        ax.plot(rows["step"], rows[name], **style, lw=0.9, label=label, **_alone(rows))
    return _steps(ax, ylabel)


def _alone(rows: pd.DataFrame) -> Style:
    """A line of one point would not be seen."""
    return {"marker": ".", "markersize": 4} if len(rows) == 1 else {}


def _steps(ax: Axes, ylabel: str) -> Axes:
    ax.set(xlabel="training step", ylabel=ylabel)
    ax.xaxis.set_major_formatter(EngFormatter(sep=""))
    ax.grid(axis="y")
    return ax


def _styles(count: int) -> list[Style]:
    """Colour and dashes of so many lines, all different up to 24."""
    turns = (divmod(index, len(LINES)) for index in range(count))
    return [{"color": LINES[at], "linestyle": DASHES[turn % len(DASHES)]} for turn, at in turns]


ENTRY = Entry("losses, AP, gate noise and keep ratios while training", draw, TRAININGS, __doc__)
