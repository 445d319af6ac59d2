"""Which tokens a detection needs: its score while tokens are taken away and given back.

Left: deletion, the first tokens of an order are gone; right: insertion, they are all that is there. Across:
share of the uses, pairs of a token and a block of the range that uses it, so that orders are compared at
equal computation. Up: the highest score of a detection of the object's class with a box IoU of at least 0.5,
0 without one, mean over the explained objects. Bands: of several images (of frames: videos) 95 % percentile
intervals over 200 draws of them, of one from the lowest to the highest draw. An order that knows what is
needed falls early on the left and rises early on the right; beside its name stands its area in points.
Controls are broken lines.
Objects from which tokens were taken in other blocks have a figure of their own. Then a product for each of
the first `--limit` objects with sets: the smallest set of tokens that suffices (score and IoU at least 0.9 of
those with all; other tokens are veiled), a random set with at least as many uses, and the score when pruned
tokens are given back in one block: those of the object, as many elsewhere (lines to the lowest and highest
draw), all. Made by `svit explain` (docs/attribution.md). On 100 objects of shapes the shipped model's gates
have an area of deletion 6.3 [4.2, 8.8] points below that of random orders and 1.8 [0.5, 3.2] below that of
the picture's middle; their area of insertion does not differ from either, and the object's own middle is a
better order than gates in both (results/attribution).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from analysis.figures.canvas import pictures
from analysis.figures.canvas.axes import heading, legend_above, percents
from analysis.figures.canvas.sizes import WIDTH, wrapped
from analysis.figures.output import DrawOptions, Entry, Product, RenderError, chosen
from analysis.figures.palette import CONTROLS, HERE, INK, LINES, OWN, PRUNED, SOFT
from analysis.sources import labels
from analysis.sources.collection import RUN
from svit.core.attribution import MODES, Explanation
from svit.core.statistics import image_key, resampled
from svit.core.types import ImageId
from svit.runs.attributions import read_attributions
from svit.runs.frames import videos_of
from svit.runs.run import Run
from svit.system.text import blocks, counted, streaks

GRID = np.linspace(0, 1, 21)  # shares at which curves are averaged
DRAWS = 200
LOOKS = {  # order -> colour, and line
    "gates": (OWN, "-"),
    "usage": (LINES[1], "-"),
    "attention": (LINES[3], "-"),
    "update": (LINES[5], "-"),
    "object-centre": (CONTROLS["centre"], "--"),
    "picture-centre": (CONTROLS["centre"], ":"),
    "random": (CONTROLS["random"], "--"),
}
KINDS = {"object": OWN, "elsewhere": CONTROLS["random"], "all": INK}


def explained(run: Run) -> list[Explanation]:
    """The explanations of a run that have curves, of each range of blocks every object once: those with more
    orders first.

    Raises:
        RenderError: there are none.
    """
    found = [one for _, one in read_attributions(run.path) if len(one.curves)]
    if not found:
        raise RenderError(
            f"{run.path} holds no explained objects; make some with `svit explain {run.path} --objects 20`"
        )
    found.sort(key=lambda one: (bool(one.sets), one.curves["order"].nunique()), reverse=True)
    names: dict[tuple, Explanation] = {}
    for one in found:
        names.setdefault((one.layers, one.image_id, one.source, one.number), one)
    return list(names.values())


def by_range(found: Sequence[Explanation]) -> Iterator[tuple[str, list[Explanation]]]:
    """Those of equal blocks together, the most objects first: what is taken from other blocks is another
    question. With each what its files are called beside `attribution`: nothing for the first."""
    ranges = Counter(one.layers for one in found)
    for place, (layers, _) in enumerate(ranges.most_common()):
        name = "-".join(streaks([layer + 1 for layer in layers], "to"))
        yield f"-blocks-{name}" * bool(place), [one for one in found if one.layers == layers]


def frame(
    explanations: Sequence[Explanation], videos: Mapping[ImageId, ImageId] | None = None
) -> pd.DataFrame:
    """Mean curves: mode, order, share, score, low, high; objects; area in points.

    Objects are those with the orders that all share; of each, the mean over its draws.

    Args:
        videos: of each image, where all are frames (`svit.runs.frames.videos_of`): they are drawn whole.
    """
    drawn = [one.image_id if videos is None else videos[one.image_id] for one in explanations]
    shared = set.intersection(*(set(one.curves["order"]) for one in explanations))
    rows = []
    for mode in MODES:
        for order in (order for order in LOOKS if order in shared):
            draws = [_draws(one, mode, order) for one in explanations]
            means = np.array([own.mean(axis=0) for own in draws])
            low, high = _band(draws, means, drawn)
            areas = [one.areas().set_index(["mode", "order"])["area"] for one in explanations]
            told = {"mode": mode, "order": order, "share": GRID, "score": means.mean(axis=0)}
            told |= {"low": low, "high": high, "objects": len(means)}
            area = float(np.mean([own.loc[[(mode, order)]].mean() for own in areas]))
            rows.append(pd.DataFrame({**told, "area": area}))
    return pd.concat(rows, ignore_index=True) if rows else pd.DataFrame()


def _draws(one: Explanation, mode: str, order: str) -> np.ndarray:
    """Scores on `GRID`, (draws, points)."""
    curves = one.curves[(one.curves["mode"] == mode) & (one.curves["order"] == order)]
    parts = (part.sort_values("share") for _, part in curves.groupby("draw"))
    return np.array([np.interp(GRID, part["share"], part["score"]) for part in parts])


def _band(
    draws: Sequence[np.ndarray], means: np.ndarray, image_ids: Sequence[int | str]
) -> tuple[np.ndarray, np.ndarray]:
    """Ends of the band at each point.

    Args:
        image_ids: of each object, or its video.
    """
    names, place = np.unique(np.array([str(one) for one in image_ids]), return_inverse=True)
    if len(names) < 2:
        every = np.concatenate(draws)
        return every.min(axis=0), every.max(axis=0)
    totals = np.stack([np.bincount(place, column, len(names)) for column in means.T])
    counts, key = np.bincount(place, minlength=len(names)), image_key(names.tolist())
    ends = [
        resampled(lambda w, own=own: float(w @ own / (w @ counts)), len(names), DRAWS, name=key)
        for own in totals
    ]
    low, high = zip(*(one.interval().bounds for one in ends), strict=True)
    return np.array(low), np.array(high)


def draw(run: Run, options: DrawOptions) -> Iterator[Product]:
    """Curves of all objects, then each object with its sets; other ranges of blocks after each other."""
    parts = list(by_range(explained(run)))
    wanted = {*(chosen(run, options) if options.images else run.image_ids)}
    for name, found in parts:
        where = f", {blocks(found[0].layers)}" if len(parts) > 1 else ""
        table = frame(found, videos_of(run.frames, run.image_ids))
        yield _curves(found, table, labels.titled(run), f"attribution{name}", where)
        shown = [one for one in found if one.sets and one.image_id in wanted]
        for one in shown[: options.limit]:
            yield _object(run, one, name)


def _curves(
    found: Sequence[Explanation], table: pd.DataFrame, title: str, name: str, where: str
) -> Product:
    figure = Figure(figsize=(WIDTH, 2.9))
    for ax, mode in zip(figure.subplots(1, 2, sharey=True), MODES, strict=True):
        print(table, ax, mode=mode)
    heading(figure, f"{title}: {counted(len(found), 'objects')}{where}")
    return Product(name, figure, table)


def _object(run: Run, one: Explanation, name: str) -> Product:
    figure = of_object(one, run.picture(one.image_id), run.class_names)
    stem = f"attribution-{labels.file_name(one.image_id)}-{one.source}-{one.number}{name}"
    return Product(stem, figure, frame([one]))


def of_object(one: Explanation, image: np.ndarray | None, names: Sequence[str]) -> Figure:
    """Curves of one object over its maps and what giving back does; maps where there are sets.

    Args:
        image: the picture, of any size.
        names: of classes.
    """
    table = frame([one])
    figure = Figure(figsize=(WIDTH, 5.4))
    upper, lower = figure.subfigures(2, 1, height_ratios=[2.8, 2.6])
    for ax, mode in zip(upper.subplots(1, 2, sharey=True), MODES, strict=True):
        print(table, ax, mode=mode)
    left, middle, right = lower.subplots(1, 3, width_ratios=[1, 1, 1.5])
    if one.sets:
        print_set(one, image, left)
        print_set(one, image, middle, beside=True)
    if len(one.forced):
        print_forced(one, right)
    for ax in (left, middle, right):
        ax.set_visible(ax.has_data())
    figure.suptitle(wrapped(title(one, names)), ha="left", x=0.01)
    return figure


def title(one: Explanation, names: Sequence[str] = ()) -> str:
    """What an explanation is of, and how the object is found."""
    kind = names[one.label] if one.label < len(names) else f"class {one.label}"
    return (
        f"image {one.image_id}, {one.source} {one.number} ({kind}): score {one.own.score:.2f} as the model "
        f"decides, {one.full.score:.2f} with {one.masks} masks, {one.none.score:.2f} without tokens in "
        f"{blocks(one.layers)}"
    )


def print(frame: pd.DataFrame, ax: Axes, *, mode: str) -> Axes:
    """Curves of one mode, deletion or insertion (`frame`); areas stand with the names."""
    for order, rows in frame[frame["mode"] == mode].groupby("order", sort=False):
        colour, line = LOOKS[order]
        label = f"{order} {rows['area'].iloc[0]:.1f}"
        ax.plot(rows["share"], rows["score"], color=colour, ls=line, lw=1.3, label=label)
        ax.fill_between(rows["share"], rows["low"], rows["high"], color=colour, alpha=0.13, lw=0)
    taken = {"deletion": "taken away", "insertion": "there"}[mode]
    ax.set(xlabel=f"uses {taken}", xlim=(0, 1), ylim=(0, 1.02))
    if mode == "deletion":
        ax.set_ylabel("score")
    percents(ax.xaxis)
    legend_above(ax, columns=2)
    return ax


def print_set(
    one: Explanation, image: np.ndarray | None, ax: Axes, *, beside: bool = False
) -> Axes:
    """The smallest set over the picture, or the first random one with as many uses."""
    best = one.sets[0]
    pictures.picture(image, one.grid, ax, reach=0.4)
    random = one.beside[one.beside["kind"] == "random"]
    if beside and not len(random):
        ax.set_title("no random sets were asked for")
        return ax
    kept = np.zeros(one.grid.tokens, bool)
    kept[list(random["members"].iloc[0] if beside else best.tokens)] = True
    kept = kept.reshape(one.grid.grid_hw)
    rows, columns = one.grid.valid_hw
    cover = np.zeros((*one.grid.valid_hw, 4))
    cover[~kept[:rows, :columns]] = to_rgba(PRUNED, 0.82)
    pictures.tokens(cover, one.grid, ax)
    left, top, right, bottom = one.box_xyxy
    frame = Rectangle((left, top), right - left, bottom - top, fill=False, edgecolor=HERE, lw=1)
    ax.add_patch(frame)
    if not beside:
        ax.set_title(f"smallest set, {len(best.tokens)} tokens: {best.score:.2f}")
        return ax
    scores = ", ".join(f"{score:.2f}" for score in random["score"][:4])
    ax.set_title(f"at random: {scores}")
    return ax


def print_forced(one: Explanation, ax: Axes) -> Axes:
    """Score with pruned tokens given back in one block, or in all of the range."""
    names = sorted(one.forced["block"].unique(), key=lambda block: (block == 0, block))
    places = {block: place for place, block in enumerate(names)}
    for shift, (kind, colour) in zip((-0.25, 0, 0.25), KINDS.items(), strict=True):
        rows = one.forced[one.forced["kind"] == kind].groupby("block")["score"]
        x = np.array([places[block] for block in rows.mean().index]) + shift
        ends = np.stack([rows.mean() - rows.min(), rows.max() - rows.mean()])
        ax.errorbar(x, rows.mean(), ends, fmt="o", ms=3, lw=0.8, color=colour, label=kind)
    ax.axhline(one.own.score, color=SOFT, lw=0.8, ls="--", label="as decided")
    ax.set_xticks(range(len(names)), [str(block) if block else "all" for block in names])
    ax.set(xlabel="block that gets tokens back", ylabel="score", ylim=(0, 1.02))
    legend_above(ax, columns=2)
    return ax


ENTRY = Entry("which tokens detections need, by taking them away", draw, RUN, __doc__)
