"""Every method that the paper compares, as data: one entry of `METHODS` is all that is said of one outside
of its own file.

The class that its path names holds the method itself; it is imported when a model is built, so nothing here
needs torch. The ablations of a method are its `rows`. A row by itself is no model: with a body (a size and a
neck) it is one of `svit.core.presets`, and `svit compare` finetunes all rows from the same dense weights.

Sources: paper 3.1 and Tables 1-5; arguments and defaults: methods.md 17.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from svit.core.config import Change, Traits
from svit.core.costs import (
    PAPER_KEEP_RATIOS,
    Cost,
    ats_blocks,
    class_query,
    class_rows,
    clustering,
    evit_blocks,
    evovit_blocks,
    fusing,
    gate_macs,
    global_matching,
    matching,
    merging_blocks,
    no_selection,
    one_query,
    packaged_blocks,
    packaging,
    placing,
    plain_blocks,
    predictor,
    sampled_rows,
    scoring_all,
    stream_blocks,
)

STAGE_RATIOS = (0.7, 0.49, 0.343)  # of methods that decide once a stage: at blocks 4, 7, 10
SWEEP = (0.5, 0.6, 0.8, 0.9)  # base keep ratios of paper Fig. 7 beside 0.7


@dataclass(frozen=True)
class Row:
    """One method or ablation of a comparison.

    Attributes:
        name: of the row; with a body, of the preset: `svit-fixed` + plain + nano is svit-fixed-plain-nano.
        method: of `METHODS`.
        options: arguments of the method.
        shown: where the paper prints it, "control" or "neighbour".
        turn: what matters most runs first: 0 the methods, 1 with removed tokens, 2 ablations, 3 controls,
            4 neighbours that the paper does not compare with, 5 those of videos.
    """

    name: str
    method: str
    options: Mapping[str, Any] = field(default_factory=dict)
    shown: str = ""
    turn: int = 0

    @property
    def gated(self) -> bool:
        """Whether it trains gating networks, which take an initial bias."""
        return self.traits.selection == "gate"

    @property
    def traits(self) -> Traits:
        """The four dimensions of this row: those of its method, as its options change them."""
        return METHODS[self.method].traits_of(self.options)

    def preset(self, neck: str, size: str) -> str:
        """Name of its preset on a body: neck "plain" or "adapter", size "nano", "fine", "nuclei", "t" or
        "s"."""
        stem = "vit" if self.method == "dense" else self.name
        return f"{stem}-{neck}-{size}"


@dataclass(frozen=True)
class MethodEntry:
    """One method.

    Attributes:
        name: in configurations (`pruning.method`) and results.
        path: module and class, `svit.pruning.methods.svit:SViT`.
        paper: who published it.
        traits: as its authors have it.
        cost: its MACs.
        changes: what options make of it; the order is that of labels.
        rows: its lines in a comparison, each a preset on every body.
    """

    name: str
    path: str
    paper: str
    traits: Traits
    cost: Cost
    changes: tuple[Change, ...] = ()
    rows: tuple[Row, ...] = ()

    def traits_of(self, options: Mapping[str, Any]) -> Traits:
        """The four dimensions with these options."""
        traits = self.traits
        for change in self._changes(options):
            traits = replace(traits, **change.traits)
        return traits

    def variant(self, options: Mapping[str, Any]) -> str:
        """What results call the method with these options, beside its name; "" as its authors have it."""
        return "+".join(change.label for change in self._changes(options))

    def _changes(self, options: Mapping[str, Any]) -> list[Change]:
        return [change for change in self.changes if change.holds(options)]


_ALL = {"keep_ratios": list(PAPER_KEEP_RATIOS)}
_STAGES = {"keep_ratios": list(STAGE_RATIOS)}
_REMOVE, _PRESERVE = {"retain": "remove"}, {"retain": "preserve"}
_FIXED = {"ratio_loss": "fixed"}
_INHERIT = {**_STAGES, "inherit": True}
_RETAIN = (
    Change("retain", "remove", "remove", default=True),
    Change("retain", "preserve", "preserve", {"preserves": True}),
)
_MERGES = Traits("likeness", dynamic_rate=False, preserves=True, reactivates=False, merges=True)
_STREAMS = Traits("change", dynamic_rate=False, preserves=True, reactivates=True, streams=True)
_WINDOWS = Change("partition", "windows", "windows")
_NO_REACTIVATION = Change("inherit", True, "inherit", {"reactivates": False})

METHODS: dict[str, MethodEntry] = {
    entry.name: entry
    for entry in (
        MethodEntry(
            "svit",
            "svit.pruning.methods.svit:SViT",
            "SViT, Liu et al., WACV 2024",
            Traits("gate", dynamic_rate=True, preserves=True, reactivates=True),
            Cost(plain_blocks, scoring_all(gate_macs)),
            (
                Change("ratio_loss", "fixed", "fixed", {"dynamic_rate": False}),
                _NO_REACTIVATION,
                Change("gate", "local_global", "gate local_global"),
                Change("gate", "head_weighted", "gate head_weighted"),
            ),
            (
                Row("svit", "svit", _ALL, "Tables 3-5, Fig. 7"),
                Row("svit-fixed", "svit", {**_ALL, **_FIXED}, "Table 3", 2),
                Row("svit-inherit", "svit", _INHERIT, "Table 3", 2),
                Row("svit-fixed-inherit", "svit", {**_INHERIT, **_FIXED}, "Table 3", 2),
                Row("svit-localglobal", "svit", {**_ALL, "gate": "local_global"}, "Table 4", 2),
                Row(
                    "svit-headweighted",
                    "svit",
                    {**_ALL, "gate": "head_weighted"},
                    "gate of SPViT",
                    2,
                ),
            ),
        ),
        MethodEntry(
            "dense",
            "svit.pruning.methods.dense:Dense",
            "DeiT, Touvron et al., ICML 2021",
            Traits("none", dynamic_rate=False, preserves=True, reactivates=False),
            Cost(plain_blocks, no_selection),
            rows=(Row("dense", "dense", {}, "Table 5, Fig. 7"),),
        ),
        MethodEntry(
            "idletoken",
            "svit.pruning.methods.idle_token:IdleToken",
            "a dense start for methods with a class token",
            Traits("none", dynamic_rate=False, preserves=True, reactivates=False),
            Cost(evovit_blocks, no_selection),
            rows=(Row("vit-token", "idletoken", {}, "control", 3),),
        ),
        MethodEntry(
            "dynamicvit",
            "svit.pruning.methods.dynamicvit:DynamicViT",
            "DynamicViT, Rao et al., NeurIPS 2021",
            Traits("gate", dynamic_rate=False, preserves=False, reactivates=False),
            Cost(plain_blocks, scoring_all(predictor, STAGE_RATIOS)),
            _RETAIN,
            (
                Row("dynamicvit-preserve", "dynamicvit", {**_STAGES, **_PRESERVE}, "Tables 2, 5"),
                Row("dynamicvit-remove", "dynamicvit", {**_STAGES, **_REMOVE}, "Tables 2, 5", 1),
            ),
        ),
        MethodEntry(
            "evit",
            "svit.pruning.methods.evit:EViT",
            "EViT, Liang et al., ICLR 2022",
            Traits("attention", dynamic_rate=False, preserves=False, reactivates=False),
            Cost(evit_blocks, fusing),
            _RETAIN,
            (
                Row("evit-preserve", "evit", {"keep_ratio": 0.7, **_PRESERVE}, "Table 2"),
                Row("evit-remove", "evit", {"keep_ratio": 0.7, **_REMOVE}, "Tables 2, 5", 1),
            ),
        ),
        MethodEntry(
            "ats",
            "svit.pruning.methods.ats:ATS",
            "ATS, Fayyaz et al., ECCV 2022",
            Traits("attention", dynamic_rate=True, preserves=False, reactivates=False),
            Cost(ats_blocks, sampled_rows),
            _RETAIN,
            (
                Row("ats-preserve", "ats", {**_STAGES, **_PRESERVE}, "Table 2"),
                Row("ats-remove", "ats", {**_STAGES, **_REMOVE}, "Tables 2, 5", 1),
            ),
        ),
        MethodEntry(
            "evovit",
            "svit.pruning.methods.evovit:EvoViT",
            "Evo-ViT, Xu et al., AAAI 2022",
            # its tokens could come back in theory (paper Table 1, note 2)
            Traits("attention", dynamic_rate=False, preserves=True, reactivates=False),
            Cost(evovit_blocks, class_rows),
            rows=(Row("evovit", "evovit", _ALL, "Tables 2, 5"),),
        ),
        MethodEntry(
            "random",
            "svit.pruning.methods.controls:RandomControl",
            "a control (methods.md 13.5)",
            Traits("control", dynamic_rate=False, preserves=True, reactivates=True),
            Cost(plain_blocks, no_selection),
            (_NO_REACTIVATION,),
            (
                Row("random", "random", _ALL, "control", 3),
                Row("random-inherit", "random", {**_ALL, "inherit": True}, "control", 3),
            ),
        ),
        MethodEntry(
            "magnitude",
            "svit.pruning.methods.controls:MagnitudeControl",
            "a control; the score of SparseViT, Chen et al., CVPR 2023",
            Traits("control", dynamic_rate=False, preserves=True, reactivates=True),
            Cost(plain_blocks, no_selection),
            rows=(Row("magnitude", "magnitude", _ALL, "control", 3),),
        ),
        MethodEntry(
            "tome",
            "svit.pruning.methods.tome:ToMe",
            "ToMe, Bolya et al., ICLR 2023",
            _MERGES,
            Cost(merging_blocks, matching),
            (_WINDOWS,),
            (
                Row("tome", "tome", _STAGES, "neighbour", 4),
                Row("tome-windows", "tome", {**_STAGES, "partition": "windows"}, "of ToMeSD", 4),
            ),
        ),
        MethodEntry(
            "atc",
            "svit.pruning.methods.atc:ATC",
            "ATC, Haurum et al., ECCV 2024",
            _MERGES,
            Cost(merging_blocks, clustering),
            tuple(Change("linkage", kind, kind) for kind in ("single", "complete")),
            (
                Row("atc", "atc", _STAGES, "neighbour", 4),
                Row("atc-single", "atc", {**_STAGES, "linkage": "single"}, "neighbour", 4),
                Row("atc-complete", "atc", {**_STAGES, "linkage": "complete"}, "neighbour", 4),
            ),
        ),
        MethodEntry(
            "algm",
            "svit.pruning.methods.algm:ALGM",
            "ALGM, Norouzi et al., CVPR 2024",
            replace(_MERGES, dynamic_rate=True),
            Cost(merging_blocks, global_matching),
            rows=(Row("algm", "algm", {"keep_ratios": [0.7, 0.56]}, "neighbour", 4),),
        ),
        MethodEntry(
            "mergecontrol",
            "svit.pruning.methods.merge_controls:MergeControl",
            "a control of merging (methods.md 13.5)",
            replace(_MERGES, selection="control"),
            Cost(merging_blocks, placing),
            (
                _WINDOWS,
                Change("pairs", "random", "random", default=True),
                Change("pairs", "near", "near"),
            ),
            (
                Row("merge-random", "mergecontrol", {**_STAGES, "pairs": "random"}, "control", 4),
                Row("merge-near", "mergecontrol", {**_STAGES, "pairs": "near"}, "control", 4),
            ),
        ),
        MethodEntry(
            "idlevit",
            "svit.pruning.methods.idlevit:IdleViT",
            "IdleViT, Xu et al., 2023",
            Traits("attention", dynamic_rate=False, preserves=True, reactivates=True),
            Cost(evovit_blocks, class_query),
            rows=(Row("idlevit", "idlevit", _ALL, "neighbour", 4),),
        ),
        MethodEntry(
            "spvit",
            "svit.pruning.methods.spvit:SPViT",
            "SPViT, Kong et al., ECCV 2022",
            Traits("gate", dynamic_rate=False, preserves=True, reactivates=False),
            Cost(packaged_blocks, scoring_all(packaging, STAGE_RATIOS)),
            rows=(Row("spvit", "spvit", _STAGES, "neighbour", 4),),
        ),
        MethodEntry(
            "avit",
            "svit.pruning.methods.avit:AViT",
            "A-ViT, Yin et al., CVPR 2022",
            Traits("halting", dynamic_rate=True, preserves=True, reactivates=False),
            Cost(plain_blocks, no_selection),
            rows=(Row("avit", "avit", _ALL, "neighbour", 4),),
        ),
        MethodEntry(
            "cropr",
            "svit.pruning.methods.cropr:Cropr",
            "Cropr, Bergner et al., CVPR 2025",
            Traits("query", dynamic_rate=False, preserves=True, reactivates=True),
            Cost(plain_blocks, scoring_all(one_query, STAGE_RATIOS)),
            (Change("fuse", False, "no fusion", {"reactivates": False}),),
            (
                Row("cropr", "cropr", _STAGES, "neighbour", 4),
                Row("cropr-nofusion", "cropr", {**_STAGES, "fuse": False}, "neighbour", 4),
            ),
        ),
        MethodEntry(
            "changegate",
            "svit.pruning.methods.videos.change_gate:ChangeGate",
            "Eventful Transformers, Dutson et al., ICCV 2023",
            _STREAMS,
            Cost(stream_blocks, no_selection),
            (Change("inference", "threshold", "threshold", {"dynamic_rate": True}),),
            (
                Row("change-gate", "changegate", _ALL, "neighbour", 5),
                Row(
                    "change-threshold",
                    "changegate",
                    {**_ALL, "inference": "threshold"},
                    "neighbour",
                    5,
                ),
            ),
        ),
        MethodEntry(
            "previousframe",
            "svit.pruning.methods.videos.previous_frame:PreviousFrame",
            "VPP, Glandorf et al., CVPRW 2026",
            replace(_STREAMS, selection="detections"),
            Cost(stream_blocks, no_selection),
            rows=(Row("previous-frame", "previousframe", _ALL, "neighbour", 5),),
        ),
    )
}

ROWS: tuple[Row, ...] = tuple(
    sorted((row for entry in METHODS.values() for row in entry.rows), key=lambda row: row.turn)
)


def stages(base: float) -> list[float]:
    """Keep ratios of nine gated blocks for a base keep ratio r: r, r², r³, three blocks each (Fig. 7)."""
    return [round(base ** (1 + block // 3), 6) for block in range(9)]


def rescaled(ratios: Sequence[float], base: float) -> list[float]:
    """Keep ratios of a schedule for another base: each to the power that turns its first one below 1 into the
    base, so r, r², r³ stay such powers."""
    first = next(ratio for ratio in ratios if ratio < 1)
    power = math.log(base) / math.log(first)
    return [round(ratio**power, 6) for ratio in ratios]


def sweep() -> tuple[Row, ...]:
    """SViT at the other base keep ratios of Fig. 7: rows without a preset, made by overrides of `svit`'s."""
    return tuple(Row(f"svit-{r}", "svit", {"keep_ratios": stages(r)}, "Fig. 7") for r in SWEEP)


def near(name: str, choices: Iterable[str]) -> str:
    """What to say after an unknown name: the near ones, and all there are."""
    choices = list(choices)
    found = difflib.get_close_matches(name, choices, n=3)
    listed = f"choices: {', '.join(sorted(choices)) or 'none'}"
    return f"near names: {', '.join(found)}; {listed}" if found else listed
