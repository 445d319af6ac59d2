"""What figures of two runs share: their pair, refusals in words, the bar of differences."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colorbar import Colorbar

from analysis.figures.canvas.pictures import beside
from analysis.figures.output import RenderError
from svit.runs import pairing
from svit.runs.run import Run


def two(runs: Sequence[Run]) -> tuple[Run, Run]:
    """The runs, if they are two.

    Raises:
        RenderError: they are not.
    """
    if len(runs) != 2:
        raise RenderError(f"compares two runs on the same images, found {len(runs)}: name two")
    return runs[0], runs[1]


@contextmanager
def explained() -> Iterator[None]:
    """Runs that cannot be compared as the command's own error."""
    try:
        yield
    except pairing.MismatchError as error:
        raise RenderError(str(error)) from error


def difference_bar(drawn: ScalarMappable, ax: Axes) -> Colorbar:
    """A colour bar as high as the picture."""
    bar = ax.figure.colorbar(drawn, cax=beside(ax))
    bar.outline.set_visible(False)
    bar.ax.tick_params(which="both", length=0, pad=2)
    bar.set_label("layers more in the first run")
    return bar
