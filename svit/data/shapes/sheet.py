"""Scenes side by side with their outlines and class names: a data set is looked at before it is used."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from svit.data.shapes.outlines import CLASSES, Pen
from svit.data.shapes.scenes import Scene

_INKS = ("#ff5d5d", "#ffd23f", "#58e07a", "#4fd8ff", "#ff8df0", "#ffffff", "#ffa24c", "#b79bff")
_GAP = 6  # pixels


def contact_sheet(scenes: Sequence[Scene], columns: int) -> Image.Image:
    """Scenes of one size side by side, every object outlined and named in the colour of its class."""
    step = scenes[0].image.shape[0] + _GAP
    rows = math.ceil(len(scenes) / columns)
    sheet = Image.new("RGB", (columns * step + _GAP, rows * step + _GAP), "white")
    for index, drawn in enumerate(scenes):
        row, column = divmod(index, columns)
        sheet.paste(_outlined(drawn), (_GAP + column * step, _GAP + row * step))
    return sheet


def _outlined(drawn: Scene) -> Image.Image:
    picture = Image.fromarray(drawn.image)
    for label, mask in zip(drawn.labels, drawn.masks, strict=True):
        solid = Image.fromarray(mask.astype(np.uint8) * 255)
        edge = np.asarray(solid.filter(ImageFilter.MaxFilter(3))) > np.asarray(solid)
        picture.paste(_INKS[label], mask=Image.fromarray(edge.astype(np.uint8) * 255))
    for label, mask in zip(drawn.labels, drawn.masks, strict=True):
        _name_tag(ImageDraw.Draw(picture), mask, int(label))
    return picture


def _name_tag(pen: Pen, mask: np.ndarray, label: int) -> None:
    """Writes the class right above the highest visible pixel."""
    font = ImageFont.load_default(size=10)
    top = int(np.flatnonzero(mask.any(1))[0])
    middle = int(np.flatnonzero(mask[top]).mean())
    place = (int(np.clip(middle - 22, 1, mask.shape[1] - 45)), max(0, top - 13))
    pen.rectangle(pen.textbbox(place, CLASSES[label], font=font), fill="#202020")
    pen.text(place, CLASSES[label], fill=_INKS[label], font=font)
