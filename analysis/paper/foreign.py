"""Numbers of other people about the paper's models and its neighbours: `foreign.csv`.

They are columns of their own, never verdicts: nobody here can check the code, data and machine behind them.
Every row has its address, commit and date; `claim` is the row of `claims.csv` that it speaks of, or empty.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd

FOREIGN = Path(__file__).with_name("foreign.csv")
COLUMNS = (
    *("claim", "model", "data", "quantity", "value", "unit"),
    *("who", "address", "commit", "date", "note"),
)


def foreign() -> pd.DataFrame:
    """All rows of `foreign.csv` as text, and `told`: the value and whose it is."""
    frame = pd.read_csv(FOREIGN, dtype=str, keep_default_na=False)
    return frame.assign(told=frame["value"] + " (" + frame["who"] + ")")
