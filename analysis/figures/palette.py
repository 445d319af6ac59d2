"""The palette, for paper and screen: a colour is named by what it means, here and nowhere else.

Modules keep what only they draw; a colour that two of them share is here. `workbench.mplstyle` has the rest
of the look.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

STYLE = Path(__file__).with_name("workbench.mplstyle")
LUMA = np.array([0.299, 0.587, 0.114])  # brightness of red, green, blue: ITU-R BT.601

INK, SOFT, RULE = "#1f2733", "#8a94a3", "#e3e7ed"  # text; what reads on both grounds; grids
DARK, SLATE = "#10151c", "#56657a"

_TEAL, _CYAN, PINK, AMBER = "#00778e", "#00c8e0", "#dc267f", "#ffb000"
ORANGE, BLUE, VIOLET, GOLD = "#fe6100", "#648fff", "#9d7bff", "#d99a00"

FIELD, FRAME = "#eef1f5", "#c3cad4"  # where there is no picture

# what becomes of a token
USED = NEXT = _TEAL
LATER = _CYAN  # the cyan of paper Fig. 5b
PRUNED, NEVER, AWAY = "#ffffff", "#d5dae1", "#aab3c0"
DROPPED = AMBER

# where it lies
CONTOUR, INSIDE, BACKGROUND = PINK, AMBER, SOFT

# what becomes of an object; what one run has alone
FOUND, LOST, GAINED, MISSED = _TEAL, PINK, "#00a08a", AMBER
ONLY_FIRST, ONLY_SECOND = PINK, AMBER

# limits and aims
TARGET = BELOW = PINK
ABOVE = _TEAL

# what a hand points at
HERE, HOVER = AMBER, "#ff5cae"

# models and modules
DENSE, PRINTED = INK, SOFT
BLOCKS, CHOOSING = "#00a5bd", AMBER
LINES = (_TEAL, ORANGE, BLUE, PINK, VIOLET, GOLD)  # several, in this order
DIVERGING = "RdBu_r"  # colour map of differences, white where equal
