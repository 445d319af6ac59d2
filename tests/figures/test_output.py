"""Files of figures: numbers with all digits, pictures of a fair size."""

from __future__ import annotations

import io
import re
import zlib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from fontTools.ttLib import TTFont
from matplotlib.figure import Figure
from matplotlib.style import context
from support.runs import PROVENANCE, parts

from analysis import render
from analysis.figures import palette
from analysis.figures.canvas import pictures
from analysis.figures.output import DrawOptions, Product, RenderError, chosen, csv, save
from svit.core.types import TokenGrid
from svit.runs.run import RunWriter, open_run


def test_a_table_is_read_back_to_the_last_digit():
    frame = pd.DataFrame({"share": [1 / 3, 2e-17, np.nan], "name": ["a", "b,c", ""]})
    read = pd.read_csv(io.StringIO(csv(frame)), float_precision="round_trip")
    pd.testing.assert_series_equal(read["share"], frame["share"], check_exact=True)


def test_ten_noisy_pictures_fit_into_a_megabyte_of_any_format(tmp_path):
    image = np.random.default_rng(0).integers(0, 255, (640, 640, 3), np.uint8)
    grid = TokenGrid((640, 640), (640, 640), (40, 40))
    with context(palette.STYLE):
        figure = Figure(figsize=(7.2, 3.6))
        for ax in figure.subplots(2, 5).flat:
            pictures.usage_heatmap(np.ones((40, 40)), grid, ax, limits=(0, 12), image=image)
        paths = save(Product("many", figure, pd.DataFrame()), tmp_path, "", "")
    assert [path.suffix for path in paths] == [".pdf", ".svg", ".png", ".csv"]
    assert max(path.stat().st_size for path in paths) < 1_000_000


def _fonts(path: Path) -> list[bytes]:
    """The fonts in a PDF."""
    streams = re.findall(rb"stream\r?\n(.*?)\r?\nendstream", path.read_bytes(), re.DOTALL)
    found = [zlib.decompress(one) for one in streams if one[:1] == b"x"]
    return [one for one in found if one.startswith(b"\0\1\0\0")]


def test_fonts_of_pdfs_are_cut_once_and_hold_other_signs_where_they_stand(tmp_path):
    fonts = {}
    for words in ("usual words", "Others: 0-9", "\N{CYRILLIC CAPITAL LETTER ZHE}"):
        figure = Figure(figsize=(2, 1))
        figure.text(0.1, 0.1, words)
        with context(palette.STYLE):
            path, *_ = save(Product("words", figure, pd.DataFrame()), tmp_path, "", "")
        (fonts[words],) = _fonts(path)
    usual, others, rare = fonts.values()
    assert usual == others
    glyphs = [TTFont(io.BytesIO(one))["maxp"].numGlyphs for one in (usual, rare)]
    assert glyphs[0] > 100 > 10 > glyphs[1]


@pytest.mark.parametrize(
    ("asked", "crop", "shape"),
    [
        ([], None, (50, 80)),
        (["--paper"], (7, 12), (50, 80)),
        (["--crop", "5", "10", "--shape", "14x14"], (5, 10), (14, 14)),
    ],
)
def test_the_ranges_of_the_authors_are_an_option(asked, crop, shape):
    options = render.draw_options(render.parser().parse_args(["heatmap", "run", *asked]))
    assert options.crop == crop and options.shape == shape


def test_a_file_name_that_several_images_have_names_none_of_them(tmp_path):
    with RunWriter(tmp_path / "run", PROVENANCE) as writer:
        for image_id in (1, 2, 3):
            writer.add(**{**parts(image_id), "file_name": "3" if image_id == 1 else "photo.jpg"})
    run = open_run(tmp_path / "run")
    with pytest.raises(RenderError, match="several images 'photo.jpg'"):
        chosen(run, DrawOptions(images=("photo.jpg",)))
    assert chosen(run, DrawOptions(images=("3", "2"))) == [3, 2]
