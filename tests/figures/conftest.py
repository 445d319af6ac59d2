"""An Axes in the style of the figures."""

from __future__ import annotations

from collections.abc import Iterator

import matplotlib as mpl
import pytest
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.figures import palette


@pytest.fixture
def ax() -> Iterator[Axes]:
    with mpl.style.context(palette.STYLE):
        yield Figure().subplots()
    assert not pyplot.get_fignums(), "a figure was opened behind the caller's back"
