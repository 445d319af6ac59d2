"""Evaluations as points of AP over a cost: means over seeds, curves, and kinds at one ratio.

What the figures of a trade-off draw, on paper and on screen; `tradeoff` says what its words mean.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import pandas as pd

from analysis.figures.canvas.placing import floor, short_names
from analysis.paper import claims
from analysis.sources import labels

LETTERS = 22  # of a name
DASHES = ((), (4, 2), (1, 1.5), (5, 1.5, 1, 1.5))


@dataclass(frozen=True)
class Points:
    """What both drawings take from a frame: of box or mask AP, against one cost.

    Attributes:
        table: of `rates.rate_frame`; of its rows those count that know the cost.
        kind: "box" or "mask".
        cost: column of the x axis.
    """

    table: pd.DataFrame
    kind: str
    cost: str = "base_ratio"

    @cached_property
    def rows(self) -> pd.DataFrame:
        """A row a result: series, short name, family, dense, base_ratio, cost, ap, low, high, place
        (seeds beside each other, around zero), several (whether there are)."""
        known = self.table.dropna(subset=[self.cost]).reset_index(drop=True)
        names = short_names(sorted(_plain(known)), LETTERS)
        same = known.groupby(["series", "base_ratio"])["series"]
        return known.assign(
            name=[names[one] for one in _plain(known)],
            family=known["model"].str.split().str[0],
            cost=known[self.cost],
            ap=known[f"{self.kind}_ap"],
            low=known[f"{self.kind}_low"],
            high=known[f"{self.kind}_high"],
            place=same.cumcount() - (same.transform("size") - 1) / 2,
            several=same.transform("size") > 1,
        )

    @cached_property
    def pruned(self) -> pd.DataFrame:
        """The rows of models that prune."""
        return self.rows[~self.rows["dense"]]

    @cached_property
    def dense(self) -> list[tuple[str, pd.DataFrame]]:
        """Names of dense models and their rows."""
        return [(str(name), rows) for name, rows in self.rows[self.rows["dense"]].groupby("name")]

    @cached_property
    def means(self) -> pd.DataFrame:
        """A row a kind and base keep ratio: means over trainings, each the mean over its sampled masks, by
        ascending cost."""
        keys = ["series", "name", "family", "base_ratio"]
        trained = self.pruned.groupby([*keys, "training_seed"], as_index=False)[
            ["cost", "ap"]
        ].mean()
        return trained.groupby(keys, as_index=False)[["cost", "ap"]].mean().sort_values("cost")

    @cached_property
    def curves(self) -> list[str]:
        """The series measured at several ratios."""
        counts = self.means.groupby("series")["base_ratio"].nunique()
        return counts[counts > 1].index.tolist()

    @cached_property
    def dashes(self) -> dict[str, tuple[float, ...]]:
        """Series -> dashes of its line: curves of one family differ by them."""
        families = self.means.drop_duplicates("series").set_index("series")["family"]
        families = families.sort_index()  # alike over every cost
        turns = families[families.index.isin(self.curves)]
        turns = turns.groupby(turns).cumcount()
        return {name: DASHES[turns.get(name, 0) % len(DASHES)] for name in families.index}

    @cached_property
    def shared(self) -> float | None:
        """The base keep ratio at which most kinds were measured; None without two of them."""
        counts = self.means["base_ratio"].value_counts()
        most = counts[counts == counts.max()].index
        return float(max(most)) if len(counts) and counts.max() > 1 else None

    @cached_property
    def ranked(self) -> pd.DataFrame:
        """Means at the shared ratio, families and kinds in them from the best on; `place` leaves a gap
        between families."""
        found = self.means[self.means["base_ratio"] == self.shared]
        best = found.groupby("family")["ap"].transform("max")
        found = found.assign(best=best).sort_values(
            ["best", "family", "ap"], ascending=[False, True, False], ignore_index=True
        )
        jumps = (found["family"] != found["family"].shift()).cumsum() - 1
        return found.assign(place=found.index + 0.4 * jumps)

    @cached_property
    def printed(self) -> pd.DataFrame:
        """What the paper prints for the kinds drawn here; empty for other data than COCO val2017."""
        ours = self.pruned[
            (self.pruned["data"] == "COCO val2017") & (self.pruned["neck"] == "adapter")
        ]
        ours = ours[["model", "size", "base_ratio", "series", "family", "cost"]]
        ours = ours.groupby(["model", "size", "base_ratio"], as_index=False).first()
        paper = claims.printed_frame()
        paper = paper.assign(paper=paper[f"{self.kind}_ap"]).dropna(subset=["paper"])
        return ours.merge(paper[["model", "size", "base_ratio", "paper"]])

    @cached_property
    def printed_at_shared(self) -> pd.DataFrame:
        """`printed` of the kinds of `ranked`, at their ratio, with name and place."""
        printed = self.printed[self.printed["base_ratio"] == self.shared]
        return printed.merge(self.ranked[["series", "name", "place"]])

    @cached_property
    def reach(self) -> tuple[float, float]:
        """Ends of the AP axis: all intervals, without kinds far below the others."""
        shown = self.rows
        least = floor(shown["ap"].tolist())
        shown = shown[shown["ap"] >= least]
        low, high = shown[["ap", "low"]].min().min(), shown[["ap", "high"]].max().max()
        if len(self.printed):
            low, high = (
                min(low, self.printed["paper"].min()),
                max(high, self.printed["paper"].max()),
            )
        room = 0.06 * (high - low) or 1.0
        return float(low - room), float(high + room)

    def ends(self, named: Sequence[str]) -> pd.DataFrame:
        """The last point on the axis of each of some series: rows of `means`."""
        last = self.means[self.within(self.means)].drop_duplicates("series", keep="last")
        return last[last["series"].isin(named)]

    def within(self, rows: pd.DataFrame) -> pd.Series:
        """Which rows the axis reaches."""
        return rows["ap"] >= self.reach[0]


def _plain(table: pd.DataFrame) -> pd.Series:
    """Names of series, their models called as everywhere (`labels.of_model`): "svit" as it decides by
    itself, "svit, dial" where its thresholds were calibrated to other ratios."""
    ways = {"threshold": "", "calibrated": "dial"}
    words = []
    for name, model, way in zip(table["series"], table["model"], table["inference"], strict=True):
        told = name.removeprefix(model).split(", ")
        told = [ways.get(part, part) if part == way else part for part in told]
        words.append(", ".join(filter(None, [labels.of_model(model), *told])))
    return pd.Series(words, table.index)
