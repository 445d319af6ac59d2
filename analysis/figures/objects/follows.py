"""What the use of tokens follows, block by block: texture, contours, objects or the middle of the picture.

Partial rank correlation of a block's mask and a measure of the token, given the other measures of the panel,
over the tokens of each image (ranks within the image, summed over images); bands: 95 % percentile intervals
over images (1,000 draws). Grey: the same masks shuffled over the tokens of their image, one permutation for
all blocks. Where a block uses all tokens of a panel, as in few images it may, nothing correlates, and no
line goes on, the grey ones neither. Left: all valid tokens; right: those that an object covers by more than
25 %. Texture: standard deviation of grey in the token (contrast), mean size of its change from pixel to
pixel (gradient). Contour: nearness to the closest token that an outline passes. Object: share that objects
cover. Size: area of the object that covers most of the token. Overlap: share of that object's box that other
objects cover, how much of it may be hidden. Middle: 1 - distance from the middle of the picture / half its
diagonal. Crowds are no objects; images without objects are left out. The table has plain rank correlations
and, as block 0, the number of blocks that use a token. A correlation is no cause: what is left out may
explain it.
"""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from analysis.figures.canvas.axes import legend_above, over
from analysis.figures.canvas.sizes import WIDTH
from analysis.figures.output import DrawOptions, Entry, Product, RenderError, annotated
from analysis.figures.palette import INK, LINES, NEVER, SOFT
from analysis.numbers.usage import gated_layers
from analysis.sources.collection import RUN
from analysis.tokens import follows
from svit.runs.run import Run

COLOURS = {  # size stands where object does in the other panel
    **{"contrast": LINES[1], "gradient": LINES[3], "contour": LINES[0], "object": LINES[2]},
    **{"size": LINES[2], "overlap": LINES[4], "middle": SOFT},
}


def frame(run: Run, draws: int = 1000) -> pd.DataFrame:
    """A row a kind of tokens, mask, block and measure (`follows.follow_frame`).

    Raises:
        RenderError: the run lacks pictures or annotations, or uses all tokens everywhere.
    """
    table = follows.follow_frame(annotated(run, "picture"), draws)
    if table.empty or table["partial"].isna().all():
        raise RenderError(f"{run.path}: no image has objects, and tokens that a block left out")
    return table


def draw(run: Run, options: DrawOptions) -> Iterator[Product]:
    """A panel a kind of tokens."""
    table = frame(run)
    figure = Figure(figsize=(WIDTH, 2.7))
    axes = figure.subplots(1, len(follows.MEASURES), sharey=True)
    blocks = [layer + 1 for layer in gated_layers(run.layers, run.targets)]
    for kind, ax in zip(follows.MEASURES, axes, strict=True):
        shown = table[(table["tokens"] == kind) & table["block"].isin(blocks)]
        print(shown, ax, title=kind)
    axes[1].set_ylabel("")
    over(run, figure)
    yield Product("follows", figure, table)


def print(frame: pd.DataFrame, ax: Axes, *, title: str) -> Axes:
    """Partial correlations over blocks.

    Args:
        frame: of `follows.follow_frame`, of one kind of tokens.
    """
    keys, values = ["block", "measure"], ["partial", "partial_low", "partial_high"]
    unknown = frame[(frame["masks"] == follows.OWN) & frame["partial"].isna()]
    undefined = pd.MultiIndex.from_frame(frame[keys]).isin(pd.MultiIndex.from_frame(unknown[keys]))
    frame = frame.copy()
    frame.loc[undefined, values] = float("nan")
    for (masks, measure), rows in frame.groupby(["masks", "measure"], sort=False):
        own = masks == follows.OWN
        colour = COLOURS[measure] if own else NEVER
        ax.fill_between(
            rows["block"], rows["partial_low"], rows["partial_high"], color=colour, alpha=0.2, lw=0
        )
        style = {"lw": 1.5, "marker": ".", "label": measure} if own else {"lw": 0.6}
        ax.plot(rows["block"], rows["partial"], color=colour, **style)
    ax.plot([], [], color=NEVER, lw=0.6, label="shuffled")
    ax.axhline(0, color=INK, lw=0.6)
    ax.set(xlabel="block", ylabel="partial rank correlation")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.set_title(title, pad=30)
    legend_above(ax, columns=3)
    return ax


ENTRY = Entry("what the use of tokens follows, each measure beside the others", draw, RUN, __doc__)
