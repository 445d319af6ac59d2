"""Figures beyond the paper: tokens on objects, errors, agreement, budget.

As `analysis.figures.figures`: data in, drawn on the given Axes, the Axes out; frames come from
`analysis.numbers.regions`, `matching`, `agreement` and `budget`, whose docstrings define every number drawn
here. Figures over layers are in `analysis.figures.layer_figures`.
"""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colorbar import Colorbar
from matplotlib.image import AxesImage
from matplotlib.ticker import MaxNLocator, PercentFormatter

from analysis.figures.figures import picture
from analysis.figures.palette import (
    BACKGROUND,
    CHOOSING,
    CONTOUR,
    FOUND,
    INK,
    INSIDE,
    LATER,
    LOST,
    NEVER,
    NEXT,
    ORANGE,
    SOFT,
    VIOLET,
)
from svit.core.coverage import SIZES
from svit.core.statistics import Interval
from svit.core.types import TokenGrid

REGION_COLOURS = {"contour": CONTOUR, "inside": INSIDE, "background": BACKGROUND}
MAP_COLOURS = {"usage": NEXT, "centre": "#8c8c8c", "contrast": ORANGE, "colour": VIOLET}
MAP_NAMES = {
    "usage": "usage (layers)",
    "centre": "nearness to the middle",
    "contrast": "local contrast",
    "colour": "colour distance",
}
FATE_NAMES = {
    "kept": "tokens never under half",
    "rescued": "under half, back later",
    "lost": "under half to the end",
}
FATE_COLOURS = {"kept": NEXT, "rescued": LATER, "lost": LOST}
DIVERGING = "RdBu_r"


def region_lines(frame: pd.DataFrame, ax: Axes, *, targets: Sequence[float] = ()) -> Axes:
    """Share of tokens used per block in every region (`objects.region_frame`); regions without
    tokens are left out, dashes are the target ratio of all tokens."""
    for region, rows in frame.dropna(subset=["share"]).groupby("region", sort=False):
        style = {"color": REGION_COLOURS[region], "marker": "o", "markersize": 2.5}
        ax.plot(rows["block"], rows["share"], label=region, **style)
    if len(targets):
        blocks = np.arange(1, len(targets) + 1)
        ax.plot(blocks, targets, color=INK, lw=0.7, ls="--", label="target, all tokens", zorder=1)
    ax.set(xlabel="block", ylabel="share of the region's tokens used", ylim=(0, 1.03))
    percent_axis(ax)
    ax.legend(loc="lower left")
    return ax


def group_points(frame: pd.DataFrame, ax: Axes, *, by: str, mean: float, limit: int = 10) -> Axes:
    """Usage of objects in groups (`objects.group_frame`): mean, and 5 % to 95 % of the objects.

    Args:
        mean: usage of all tokens, drawn as a line.
        limit: shows the groups with most objects; COCO's sizes stand in their order.
    """
    rows = frame.head(limit)
    if by == "size":
        rows = rows.sort_values("size", key=lambda names: names.map(list(SIZES).index))
    places = np.arange(len(rows))
    ax.hlines(places, rows["low"], rows["high"], color=NEVER, lw=3)
    ax.plot(rows["mean"], places, "o", color=NEXT, markersize=3.5)
    ax.axvline(mean, color=INK, lw=0.7, ls="--")
    labels = [f"{name} ({count})" for name, count in zip(rows[by], rows["objects"])]
    ax.set_yticks(places, labels)
    ax.set(ylim=(len(rows) - 0.5, -0.5), xlabel="layers that use its tokens")
    below = {"xycoords": ("data", "axes fraction"), "textcoords": "offset points"}
    ax.annotate("all tokens", (mean, 0), (2, 2), **below, fontsize="small", color=SOFT)
    ax.set_title(f"objects by {by}")
    return ax


def objectness_points(table: pd.DataFrame, ax: Axes) -> Axes:
    """AUC of each map against each goal (`objects.objectness_table`): a dot for all tokens pooled, a
    bar for 5 % to 95 % of the single images with a tick at their mean. One half is chance."""
    goals = list(dict.fromkeys(table["goal"]))
    maps = [name for name in MAP_NAMES if name in set(table["map"])]
    for shift, name in zip(spread(len(maps)), maps, strict=True):
        rows = table[table["map"] == name].set_index("goal").reindex(goals)
        places, colour = np.arange(len(goals)) + shift, MAP_COLOURS[name]
        ax.hlines(places, rows["low"], rows["high"], color=colour, alpha=0.3, lw=4)
        ax.plot(rows["mean"], places, "|", color=colour, markersize=7)
        ax.plot(rows["pooled"], places, "o", color=colour, markersize=4, label=MAP_NAMES[name])
        for x, y in zip(rows["pooled"], places):
            ax.annotate(f"{x:.3f}", (1.01, y), xycoords=("axes fraction", "data"), va="center")
    ax.axvline(0.5, color=INK, lw=0.7, ls="--")
    names = {"foreground": "shows an object\n(over 25 % covered)", "contour": "an outline passes"}
    ax.set_yticks(np.arange(len(goals)), [names[goal] for goal in goals])
    ax.set(ylim=(len(goals) - 0.5, -0.5), xlabel="AUC; dot: all tokens, tick and bar: images")
    legend_above(ax)
    return ax


def focus_points(table: pd.DataFrame, left: Axes, right: Axes) -> tuple[Axes, Axes]:
    """Two axes with a row a model (`objects.focus`): AUC of its usage, and layers that use each region."""
    places = np.arange(len(table))
    kinds = {"object_auc": ("shows an object", "inside"), "contour_auc": ("an outline", "contour")}
    for column, (name, region) in kinds.items():
        colour = REGION_COLOURS[region]
        left.plot(table[column], places, "o", color=colour, markersize=4, label=name)
    left.axvline(0.5, color=INK, lw=0.7, ls="--")
    for region, colour in REGION_COLOURS.items():
        right.plot(table[region], places, "o", color=colour, markersize=4, label=region)
    left.set_yticks(places, table["model"])
    left.set(ylim=(len(table) - 0.5, -0.5), xlabel="AUC of the usage map")
    right.set(xlabel="layers that use a token, on average")
    for ax in (left, right):
        ax.grid(axis="both", lw=0.4)
        legend_above(ax)
    return left, right


def missed_lines(frame: pd.DataFrame, ax: Axes, *, size: str) -> Axes:
    """Mean share of an object's tokens used per block, found and missed objects of a size
    (`matching.share_frame`); bands are two standard errors."""
    for found, colour in ((True, FOUND), (False, LOST)):
        rows = frame[(frame["size"] == size) & (frame["found"] == found)]
        if not len(rows):
            continue
        error = 2 * rows["error"].fillna(0)
        label = f"{'found' if found else 'missed'} ({rows['objects'].iloc[0]})"
        ax.plot(rows["block"], rows["mean"], color=colour, label=label)
        low, high = (rows["mean"] - error).clip(0), (rows["mean"] + error).clip(upper=1)
        ax.fill_between(rows["block"], low, high, color=colour, alpha=0.18, lw=0)
    ax.axhline(0.5, color=SOFT, lw=0.6, ls=":")
    ax.set(title=size, xlabel="block", ylim=(0, 1.03))
    percent_axis(ax)
    ax.legend(loc="lower left")
    return ax


def fate_bars(frame: pd.DataFrame, ax: Axes, *, by: str = "size", other: str = "dense run") -> Axes:
    """Miss rate of objects by what became of their tokens (`matching.fate_frame`).

    Over each bar stands missed / objects. With a second run, called `other`, a dark mark shows the
    rate at which it misses the same objects.
    """
    groups = list(dict.fromkeys(frame[by]))
    fates = list(dict.fromkeys(frame["fate"]))
    width = 0.8 / max(len(fates), 1)
    for shift, fate in zip(spread(len(fates), 0.8), fates, strict=True):
        rows = frame[frame["fate"] == fate].set_index(by).reindex(groups)
        places = np.arange(len(groups)) + shift
        style = {"color": FATE_COLOURS[fate], "label": FATE_NAMES[fate]}
        ax.bar(places, rows["miss_rate"].fillna(0), width=0.92 * width, **style)
        missed = pd.to_numeric(rows["dense_missed"], errors="coerce")
        levels = missed / rows["objects"].where(rows["objects"] > 0)
        for x, level, (_, row) in zip(places, levels, rows.iterrows()):
            if pd.notna(level):
                ax.hlines(level, x - 0.43 * width, x + 0.43 * width, color=INK, lw=1.4)
            _count_over(ax, x, np.nanmax([row["miss_rate"], level, 0]), row)
    ax.set_xticks(np.arange(len(groups)), groups)
    ax.set(ylabel="missed objects", ylim=(0, 1.1))
    percent_axis(ax)
    if frame["dense_missed"].notna().any():
        ax.plot([], [], color=INK, lw=1.4, label=f"same objects, {other}")
    legend_above(ax, columns=4)
    return ax


def _count_over(ax: Axes, x: float, top: float, row: pd.Series) -> None:
    """Missed / objects over a bar and its mark; nothing where there are no objects."""
    if row["objects"]:
        text = f"{row['missed']:.0f}/{row['objects']:.0f}"
        small = {"textcoords": "offset points", "ha": "center", "fontsize": "small"}
        ax.annotate(text, (x, top), (0, 2), **small)


def agreement_lines(frame: pd.DataFrame, ax: Axes) -> Axes:
    """Overlap of the active sets of two runs per block (`agreement.agreement_frame`), above what
    random masks of the same counts give."""
    ax.fill_between(frame["block"], frame["chance"], frame["iou"], color=LATER, alpha=0.2, lw=0)
    ax.plot(frame["block"], frame["iou"], "o-", color=NEXT, markersize=2.5, label="both runs")
    label = "random masks, same counts"
    ax.plot(frame["block"], frame["chance"], color=INK, lw=0.7, ls="--", label=label)
    ax.set(xlabel="block", ylabel="IoU of the used tokens", ylim=(0, 1.03), xticks=frame["block"])
    ax.legend(loc="lower left")
    return ax


def difference_map(
    values: np.ndarray,
    grid: TokenGrid,
    ax: Axes,
    *,
    limit: float,
    image: np.ndarray | None = None,
    alpha: float = 0.8,
    colorbar: bool = True,
) -> Axes:
    """Layers that use each token in one run minus in another, white where equal.

    Args:
        values: of the valid tokens (`agreement.usage_difference`).
        limit: colours reach from -limit (blue: the second run uses it more) to limit (red).
    """
    picture(image, grid, ax, grey=True)
    opacity = 1 if image is None else alpha
    if values.shape != grid.valid_hw:
        raise ValueError(
            f"expected a map of the {grid.valid_hw} valid tokens, found {values.shape}"
        )
    (rows, columns), (scale_y, scale_x) = values.shape, grid.scale_yx
    extent = (0, columns * grid.patch / scale_x, rows * grid.patch / scale_y, 0)
    limits = {"xlim": ax.get_xlim(), "ylim": ax.get_ylim()}
    style = {"cmap": DIVERGING, "vmin": -limit, "vmax": limit, "alpha": opacity}
    drawn = ax.imshow(values, extent=extent, **style)
    ax.set(**limits)  # imshow widens them to the last token
    if colorbar:
        bar = _difference_bar(drawn, ax)
        bar.locator = MaxNLocator(7, integer=True)
        bar.update_ticks()
    return ax


def mean_difference_map(values: np.ndarray, ax: Axes, *, limit: float) -> Axes:
    """`agreement.mean_difference`, colours as in `difference_map`."""
    style = {"cmap": DIVERGING, "vmin": -limit, "vmax": limit}
    drawn = ax.imshow(values, **style)
    ax.set(xticks=[], yticks=[], title="mean over images")
    ax.spines[:].set_visible(False)
    _difference_bar(drawn, ax)
    return ax


def _difference_bar(drawn: AxesImage, ax: Axes) -> Colorbar:
    bar = ax.figure.colorbar(drawn, cax=ax.inset_axes((1.02, 0, 0.03, 1)))
    bar.solids.set_alpha(1)
    bar.outline.set_visible(False)
    bar.set_label("layers more in the first run")
    return bar


def delta_histogram(values: pd.Series, interval: Interval, ax: Axes, *, label: str) -> Axes:
    """Differences of single images, their mean and its interval (`agreement.paired_interval`)."""
    known = values.dropna()
    ax.axvspan(interval.low, interval.high, color=LATER, alpha=0.45, lw=0, zorder=0)
    style = {"color": NEVER, "edgecolor": "white", "lw": 0.4, "alpha": 0.85}
    ax.hist(known, bins=_centred_bins(known), **style)
    ax.axvline(0, color=INK, lw=0.7, ls="--")
    ax.axvline(interval.value, color=NEXT, lw=1.4)
    ax.set(xlabel=label, ylabel="images")
    ax.set_title(f"{interval.value:+.3f}  [{interval.low:+.3f}, {interval.high:+.3f}]")
    ax.yaxis.set_major_locator(MaxNLocator(integer=True))
    ax.xaxis.set_major_locator(MaxNLocator(5))
    return ax


def _centred_bins(values: pd.Series) -> np.ndarray:
    """Edges of equal bins around the values; zero is the middle of one, so that equality shows."""
    count = min(30, max(5, len(values) // 4))
    step = max(float(np.ptp(values)) if len(values) else 0.0, 1e-6) / count
    low, high = (np.floor(values.min() / step + 0.5), np.floor(values.max() / step + 0.5))
    return (np.arange(low, high + 2) - 0.5) * step


def complexity_scatter(frame: pd.DataFrame, ax: Axes, *, name: str, interval: Interval) -> Axes:
    """Keep ratio of every image against one measure of complexity (`budget.complexity_frame`)."""
    labels = {
        "objects": "annotated objects",
        "area": "share of the image that objects cover",
        "edges": "edge density of the picture",
    }
    rows = frame.dropna(subset=[name])
    size = float(np.clip(600 / max(len(rows), 1), 1, 9))
    ax.scatter(rows[name], rows["keep_ratio"], s=size, color=NEXT, alpha=0.6, lw=0)
    ax.set(xlabel=labels[name])
    known = f"ρ = {interval.value:+.2f}  [{interval.low:+.2f}, {interval.high:+.2f}]"
    ax.set_title("ρ undefined: nothing varies" if np.isnan(interval.value) else known)
    return ax


def module_bars(table: pd.DataFrame, ax: Axes, *, reachable: float, of_backbone: float) -> Axes:
    """Mean cost of every module (`budget.module_frame`), largest first, whiskers 5 % to 95 % of the
    images; what pruning works on is coloured.

    Args:
        reachable, of_backbone: mean shares of the dense network's and backbone's cost that pruning
            can reach, for the title.
    """
    rows = table.sort_values("mean", ascending=False)
    places, unit = np.arange(len(rows)), 1e9
    colours = [{"blocks": LATER, "selection": CHOOSING}.get(n, NEVER) for n in rows["module"]]
    ax.barh(places, rows["mean"] / unit, color=colours, height=0.7)
    ax.hlines(places, rows["low"] / unit, rows["high"] / unit, color=INK, lw=0.8)
    reach = rows[["mean", "high"]].max(axis=1) / unit
    for place, x, share in zip(places, reach, rows["share"]):
        ax.annotate(f"{share:.1%}", (x, place), (3, 0), textcoords="offset points", va="center")
    ax.set_yticks(places, rows["module"].str.replace("_", " "))
    ax.set(ylim=(len(rows) - 0.5, -0.5), xlabel="GMACs an image")
    ax.set_title(
        f"pruning can reach {reachable:.1%} of the network, {of_backbone:.1%} of the backbone"
    )
    ax.margins(x=0.14)
    return ax


def saving_histogram(ledgers: pd.DataFrame, ax: Axes) -> Axes:
    """Share of the dense network's cost that pruning saved in each image (`comparison.cost_frame`),
    with the mean and the mean limit."""
    saved, reachable = ledgers["saved"], ledgers["reachable"].mean()
    ax.hist(saved, bins=min(30, max(5, len(saved) // 4)), color=NEVER, edgecolor="white", lw=0.4)
    ax.axvline(saved.mean(), color=NEXT, lw=1.4, label=f"mean {saved.mean():.1%}")
    label = f"limit {reachable:.1%}"
    ax.axvline(reachable, color=INK, lw=0.7, ls="--", label=label)
    ax.set(xlabel="saved share of the dense cost", ylabel="images")
    ax.xaxis.set_major_formatter(PercentFormatter(1, decimals=1))
    ax.yaxis.set_major_locator(MaxNLocator(integer=True))
    legend_above(ax, columns=2)
    return ax


def spread(count: int, width: float = 0.6) -> np.ndarray:
    """Offsets that set `count` marks side by side around zero."""
    return (np.arange(count) - (count - 1) / 2) * width / max(count, 1)


def percent_axis(ax: Axes) -> None:
    ax.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    ax.grid(axis="y")
    ax.spines["left"].set_visible(False)


def legend_above(ax: Axes, columns: int = 3) -> None:
    over = {"loc": "lower left", "bbox_to_anchor": (0, 1), "borderaxespad": 0.2, "borderpad": 0}
    small = mpl.rcParams["font.size"] * 0.9
    ax.legend(**over, ncols=columns, columnspacing=1.2, fontsize=small)
