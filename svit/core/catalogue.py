"""Every method and ablation that the paper compares, as data: what it is and its arguments.

A row by itself is no model. With a body (a size and a neck) it is a preset of `svit.core.config`, and
`svit compare` finetunes all rows from the same dense weights. `ROWS` begins with what matters most.

Sources: paper 3.1 and Tables 1-5; arguments and defaults: methods.md 17.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

PAPER_KEEP_RATIOS = (0.7, 0.7, 0.7, 0.49, 0.49, 0.49, 0.343, 0.343, 0.343)
STAGE_RATIOS = (
    0.7,
    0.49,
    0.343,
)  # of methods that decide once a stage: before or in blocks 4, 7, 10
SWEEP = (0.5, 0.6, 0.8, 0.9)  # base keep ratios of paper Fig. 7 beside 0.7


@dataclass(frozen=True)
class Traits:
    """The four dimensions by which the paper compares methods (3.1, Table 1)."""

    selection: str  # none, gate, attention or control
    dynamic_rate: bool
    preserves: bool
    reactivates: bool
    source: str


TRAITS: dict[str, Traits] = {  # of each method as its authors have it
    "dense": Traits("none", False, True, False, "DeiT"),
    "svit": Traits("gate", True, True, True, "SViT"),
    "dynamicvit": Traits("gate", False, False, False, "DynamicViT"),
    "evit": Traits("attention", False, False, False, "EViT"),
    "evovit": Traits("attention", False, True, False, "Evo-ViT"),
    "ats": Traits("attention", True, False, False, "ATS"),
    "random": Traits("control", False, True, True, "random"),
    "magnitude": Traits("control", False, True, True, "magnitude"),
}


@dataclass(frozen=True)
class Row:
    """One method or ablation.

    Attributes:
        name: of the row; with a body, of the preset: `svit-fixed` + plain + nano is svit-fixed-plain-nano.
        method: of `svit.pruning.METHODS`.
        options: arguments of the method.
        shown: where the paper prints it, or "control".
    """

    name: str
    method: str
    options: Mapping[str, Any] = field(default_factory=dict)
    shown: str = ""

    @property
    def gated(self) -> bool:
        """Whether it trains gating networks, which take an initial bias."""
        return TRAITS[self.method].selection == "gate"

    @property
    def traits(self) -> Traits:
        """The four dimensions of this row: those of its method, as its options change them."""
        traits, options = TRAITS[self.method], self.options
        if "retain" in options:
            traits = replace(traits, preserves=options["retain"] == "preserve")
        if options.get("ratio_loss") == "fixed":
            traits = replace(traits, dynamic_rate=False)
        return replace(traits, reactivates=False) if options.get("inherit") else traits

    def preset(self, neck: str, size: str) -> str:
        """Name of its preset on a body: neck "plain" or "adapter", size "nano", "t" or "s"."""
        stem = "vit" if self.method == "dense" else self.name
        return f"{stem}-{neck}-{size}"


_ALL = {"keep_ratios": list(PAPER_KEEP_RATIOS)}
_STAGES = {"keep_ratios": list(STAGE_RATIOS)}
_INHERIT = {**_STAGES, "inherit": True}

ROWS: tuple[Row, ...] = (
    Row("svit", "svit", _ALL, "Tables 3-5, Fig. 7"),
    Row("dense", "dense", {}, "Table 5, Fig. 7"),
    Row("dynamicvit-preserve", "dynamicvit", {**_STAGES, "retain": "preserve"}, "Tables 2, 5"),
    Row("evit-preserve", "evit", {"keep_ratio": 0.7, "retain": "preserve"}, "Table 2"),
    Row("ats-preserve", "ats", {**_STAGES, "retain": "preserve"}, "Table 2"),
    Row("evovit", "evovit", _ALL, "Tables 2, 5"),
    Row("dynamicvit-remove", "dynamicvit", {**_STAGES, "retain": "remove"}, "Tables 2, 5"),
    Row("evit-remove", "evit", {"keep_ratio": 0.7, "retain": "remove"}, "Tables 2, 5"),
    Row("ats-remove", "ats", {**_STAGES, "retain": "remove"}, "Tables 2, 5"),
    Row("svit-fixed", "svit", {**_ALL, "ratio_loss": "fixed"}, "Table 3"),
    Row("svit-inherit", "svit", _INHERIT, "Table 3"),
    Row("svit-fixed-inherit", "svit", {**_INHERIT, "ratio_loss": "fixed"}, "Table 3"),
    Row("svit-localglobal", "svit", {**_ALL, "gate": "local_global"}, "Table 4"),
    Row("svit-headweighted", "svit", {**_ALL, "gate": "head_weighted"}, "gate of SPViT"),
    Row("random", "random", _ALL, "control"),
    Row("random-inherit", "random", {**_ALL, "inherit": True}, "control"),
    Row("magnitude", "magnitude", _ALL, "control"),
)


def stages(base: float) -> list[float]:
    """Keep ratios of nine gated blocks for a base keep ratio r: r, r², r³, three blocks each (Fig. 7)."""
    return [round(base ** (1 + block // 3), 6) for block in range(9)]


def sweep() -> tuple[Row, ...]:
    """SViT at the other base keep ratios of Fig. 7: rows without a preset, made by overrides of `svit`'s."""
    return tuple(Row(f"svit-{r}", "svit", {"keep_ratios": stages(r)}, "Fig. 7") for r in SWEEP)


def near(name: str, choices: Iterable[str]) -> str:
    """What to say after an unknown name: the near ones, and all there are."""
    choices = list(choices)
    found = difflib.get_close_matches(name, choices, n=3)
    listed = f"choices: {', '.join(sorted(choices)) or 'none'}"
    return f"near names: {', '.join(found)}; {listed}" if found else listed
