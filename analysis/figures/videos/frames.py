"""Life of the tokens of a video: how often each was computed, and what moved.

Left: the first picture; dots are the middles of annotated objects (no crowd regions), a larger one for a
later frame. Middle: in how many frames at least one of the blocks that may prune computed the token, with
the same dots. Right: computed valid tokens / valid tokens in each frame, mean over these blocks; dashed:
tokens that at least one of them computed / valid tokens. Frames count from 0 as in the data set. In runs of
methods with state over frames a token that is not computed takes what the block stored (docs/moving.md); in
others it is pruned.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.figures.canvas import pictures
from analysis.figures.canvas.axes import heading, legend_above, percent_axis
from analysis.figures.canvas.sizes import WIDTH, drawn_ratio
from analysis.figures.output import DrawOptions, Entry, Product, RenderError, chosen, token_table
from analysis.figures.palette import HERE, USED
from analysis.sources import labels
from analysis.sources.collection import RUN
from analysis.tokens import frames as numbers
from svit.runs.run import Run

DOTS = (3.0, 22.0)  # areas of the first and the last one, square points
ROOM = 0.55  # inches above and below the panels


def frame(told: numbers.Told) -> pd.DataFrame:
    """A row a frame, then a row a valid token, told apart by `part`."""
    tokens = token_table(told.grid, {"computed_in_frames": told.counts})
    both = {"frames": told.frames, "tokens": tokens}
    joined = pd.concat(both, names=["part"]).reset_index(level=0)
    return joined.convert_dtypes()  # numbers stay whole beside rows without them


def draw(run: Run, options: DrawOptions) -> Iterator[Product]:
    """A product a video: the first ones, or those of the chosen images."""
    for video in _videos(run, options):
        told = numbers.told(run, video)
        ratio = drawn_ratio(told.grid.image_hw)
        height = min(WIDTH / 3.4 * ratio, WIDTH / 2) + ROOM
        figure = Figure(figsize=(WIDTH, height))
        first, map_, share = figure.subplots(1, 3, width_ratios=[1, 1, 1.2])
        heading(figure, f"{labels.label(run)}, video {video.name}")
        picture = run.picture(video.image_ids[0])
        pictures.picture(picture, told.grid, first)
        tracks(told.middles, first)
        first.set_title("objects, frame by frame")
        lives(told, map_, image=picture, alpha=options.alpha)
        print(told.frames, share)
        yield Product(f"frames-{labels.file_name(video.name)}", figure, frame(told))


def _videos(run: Run, options: DrawOptions) -> list[numbers.Video]:
    found = numbers.videos(run)
    if not found:
        raise RenderError(
            f"{run.path} holds no frames of videos, which this figure needs; record images with video_id and "
            "frame_id (`svit dataset shapes --frames 16`)"
        )
    if options.images:
        wanted = {*chosen(run, options)}
        return [video for video in found if wanted & {*video.image_ids}]
    return found[: options.limit]


def tracks(middles: pd.DataFrame, ax: Axes) -> Axes:
    """Middles of objects in source pixels (`frames.Told.middles`), later ones larger."""
    last = max(middles["frame"].max(), 1) if len(middles) else 1
    areas = DOTS[0] + (DOTS[1] - DOTS[0]) * middles["frame"].to_numpy(float) / last
    style = {"color": HERE, "edgecolors": "black", "linewidths": 0.4, "zorder": 3}
    ax.scatter(middles["x"], middles["y"], s=areas, clip_on=True, **style)
    return ax


def lives(told: numbers.Told, ax: Axes, *, image: np.ndarray | None, alpha: float = 0.75) -> Axes:
    """In how many frames each token was computed, over the first picture."""
    most = max(len(told.frames), 2)
    style = {"image": image, "alpha": alpha, "scale": "frames that computed the token"}
    pictures.usage_heatmap(told.counts, told.grid, ax, limits=(1, most), **style)
    tracks(told.middles, ax)
    ax.set_title("tokens, and the same")
    return ax


def print(frame: pd.DataFrame, ax: Axes) -> Axes:
    """Computed tokens over frames (`frames.Told.frames`)."""
    ax.plot(frame["frame"], frame["share"], "o-", color=USED, ms=3, label="mean over blocks")
    ax.plot(frame["frame"], frame["any"], "--", color=USED, lw=1, label="any block")
    ax.set(xlabel="frame", ylabel="computed tokens", ylim=(0, 1.05))
    ax.xaxis.get_major_locator().set_params(integer=True)
    percent_axis(ax)
    legend_above(ax, columns=2)
    return ax


ENTRY = Entry(
    "how often the tokens of a video were computed, beside what moved", draw, RUN, __doc__
)
