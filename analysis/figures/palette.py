"""The palette, for paper and screen: a colour is named by what it means, here and nowhere else.

Colours that stand for things to be told apart in one chart (`APART`) differ by 11 CIEDE2000 or more, also for
readers without red or green cones; `SOFT` and `INK` are read as text. `workbench.mplstyle` has the rest of
the look.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib import rc_params_from_file
from matplotlib.colors import to_rgb

# read once, for every figure enters it
STYLE = rc_params_from_file(
    Path(__file__).with_name("workbench.mplstyle"), use_default_template=False
)
LUMA = np.array([0.299, 0.587, 0.114])  # brightness of red, green, blue: ITU-R BT.601

INK, SOFT, RULE = "#1f2733", "#6b7686", "#e3e7ed"  # text; text on both grounds; grids
SLATE, DARK = "#56657a", "#10151c"  # lines on light grounds; under light words
LIGHT, PALE, DARK_RULE = "#ffffff", "#9aa5b4", "#2b333e"  # on dark grounds: text; soft text; grids
FIELD, FRAME = "#eef1f5", "#c3cad4"  # where there is no picture

# what becomes of a token in a block
USED = "#4a6fd0"
LATER, NEXT = (
    "#00c8e0",
    "#007f7a",
)  # pruned, called back: the cyan of paper Fig. 5b; by the very next
NEVER = "#b3aca2"  # pruned, never used again, in charts
PRUNED = "#ffffff"  # the same over a picture, as in paper Fig. 5b
CARRIED = "#d9b310"  # merged: carried by another token
ABOVE, BELOW = USED, "#c8553d"  # scores on the side of keeping, of pruning

# where it lies
INSIDE, CONTOUR, BACKGROUND = "#5a9e2f", "#8a2f8f", "#98a1ae"

# what becomes of an object
FOUND, MISSED = "#4ba3d6", "#b86a14"
EXTRA = "#efe36a"  # detected where nothing is annotated
GAINED, LOST = "#2bbd96", "#ab2472"  # tokens and objects that a change brings or takes

# runs beside each other; the first two as the ends of the map of differences
RUNS = ("#d6404f", "#3d85c8", "#e0a800", "#6a6f7a")
ONLY_FIRST, ONLY_SECOND = RUNS[:2]
DIVERGING = "RdBu_r"  # colour map of differences, white where equal: red, the first has more

# limits and aims: dashes or ticks
TARGET = SOFT

# what a hand points at
HERE, HOVER = "#ffb000", "#ff5cae"

# models
LINES = ("#0077bb", "#ee7733", "#00806f", "#cc3311", "#33bbee", "#ee3377")  # several, in this order
DENSE, PRINTED = INK, SOFT
OWN = LINES[0]  # a model's own masks
CONTROLS = {  # masks of the same number that know less or more
    "on": INK,
    "oracle": LINES[1],
    "shuffle": LINES[3],
    "random": LINES[4],
    "centre": LINES[2],
    "centre-square": LINES[2],
    "invert": LINES[5],
    "off": NEVER,
}
FAMILIES = {  # of methods, whose names always stand beside; grey ones choose without looking
    **dict(zip(("svit", "evit", "dynamicvit", "ats", "evovit"), LINES)),
    **{"random": SOFT, "magnitude": SLATE, "dense": INK},
}
OTHER = LINES[5]  # any other method
ERRORS = dict(  # of a detector
    zip(("classification", "localisation", "both", "duplicate", "background", "missed"), LINES)
)
AGREES, DISAGREES = "#17804f", "#b23a5e"  # verdicts on claims
BLOCKS, CHOOSING = "#3f8fb5", "#d98b00"  # modules that pruning works on, and that do the choosing
MODULES = {  # of the network, in its order: the neck green, the heads violet
    **{"blocks": BLOCKS, "selection": CHOOSING, "patch_embed": "#363f47"},
    **{"prior": "#2a6e2c", "injectors": "#1a7667", "extractors": "#3d9960"},
    **{"up": "#b7d5b4", "pyramid": "#b0e88c"},
    **{"fpn": "#881485", "rpn": "#dd3a96", "box_head": "#de9db8", "mask_head": "#f0c8f6"},
}

APART = (
    (USED, LATER, NEXT, NEVER, CARRIED),
    (LATER, NEXT, PRUNED, CARRIED),
    (USED, LOST, LATER, NEVER),
    (PRUNED, CARRIED, GAINED, LOST),
    (INSIDE, CONTOUR, BACKGROUND),
    (FOUND, MISSED, GAINED, LOST, EXTRA),
    RUNS,
    (ABOVE, BELOW),
    LINES,
    (BLOCKS, CHOOSING, NEVER),
    (OWN, *CONTROLS.values()),
    tuple(MODULES.values()),
)


def words_on(colour: str) -> str:
    """The ink that is read best on a colour, dark or light: the one of more contrast as WCAG 2 has it."""
    shares = np.array(to_rgb(colour))
    linear = np.where(shares <= 0.04045, shares / 12.92, ((shares + 0.055) / 1.055) ** 2.4)
    return DARK if linear @ (0.2126, 0.7152, 0.0722) > 0.195 else LIGHT


def cell(colour: str) -> str:
    """CSS of a table's cell in a colour, to be read on any theme."""
    return f"background-color: {colour}; color: {words_on(colour)}"


def of_family(family: str) -> str:
    """The colour of a family of methods; of those without one `OTHER`."""
    return FAMILIES.get(family, OTHER)
