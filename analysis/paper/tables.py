"""The paper's Tables 1-5 and the claim ledger as frames and Markdown: printed and measured apart."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from analysis.paper import claims, gain_tables
from analysis.paper.foreign import foreign
from analysis.paper.gain_tables import Gains
from analysis.sources import classifiers, control_gain, evaluations, paired
from analysis.sources.classifiers import Classified
from analysis.sources.evaluations import Evaluation
from svit.core.statistics import probability, with_ends
from svit.system.text import counted
from svit.system.text import table as markdown_table

CAPTIONS = {
    "Table 1": "Four dimensions of token pruning. Measured: what masks recorded on COCO show of them.",
    "Table 2": "Removing against preserving pruned tokens, tiny, COCO val2017.",
    "Table 3": "Dynamic pruning rate and reactivation, SViT-T, COCO val2017.",
    "Table 4": "2-layer MLP against a complex gating network, COCO val2017.",
    "Table 5": "Token pruning methods on COCO val2017; differences are to DeiT.",
}
ELSEWHERE_CAPTION = (
    "Not comparable with the numbers above: models, data and training differ. Those printed are of the "
    "paper's tiny models on COCO and show the order only. ± is half the 95 % percentile interval over "
    "images of one training's AP, on average over trainings; what trainings with other seeds reached has a "
    "column of its own, in the order of the seeds: the two are never one number. Kept is the share of tokens "
    'in the blocks that prune: rows that keep more are not better for that alone. "own −" is what a model\'s '
    "masks are worth in box AP over other masks of the same number (objects: from ground truth), or over no "
    "token at all in the pruned blocks. Differences are of the same images; in brackets the paired 95 % "
    "percentile interval over images, and P, how often the difference is above zero on images drawn anew, "
    "where the evaluations kept their matches (`matches.npz`)."
)
SHOWN_CONTROLS = {
    "oracle": "objects",
    "centre": "middle",
    "shuffle": "shuffled",
    "random": "random",
    "off": "none",
}
SPEED_CAPTION = (
    "Images a second, median and quartiles over rounds, of `svit benchmark`. Comparable within a benchmark "
    "only, and not with the paper's, which are of another machine."
)
REMARKS = (
    "Table 4 contradicts Table 5: the columns headed tiny hold values of the small model and the other "
    "way round, and 48.5 and 48.6 cannot be mask APs (Table 5: 42.5). Its own differences stay below 0.2.",
    "Table 5 shows EViT, ATS and DynamicViT with removed tokens, Evo-ViT and SViT with preserved ones; "
    "the preserving variants of EViT and ATS are in Table 2 only.",
    "The text's pruning rate of 0.7 is a keep ratio: 70 %, 49 % and 34.3 % of the tokens stay.",
    "DynamicViT-S with removed tokens diverges: a result, not a missing value.",
    "Speeds are of batch 1 on an A100 with global attention; no other machine can confirm them. What "
    "was measured elsewhere has a table of its own; only how much faster one model is than another shows "
    "a direction.",
)
LEDGER_COLUMNS = {
    "where": "where",
    "statement": "claim",
    "size": "size",
    "ratio": "ratio",
    "paper": "paper",
    "others": "others",
    "measured": "measured",
    "noise": "noise",
    "above": "P(> 0)",
    "by_seed": "by seed",
    "seeds": "seeds",
    "images": "images",
    "kept": "kept",
    "verdict": "verdict",
    "direction": "direction elsewhere",
    "of": "measured on",
    "reason": "remark",
    "left_out": "left out",
    "source": "source",
}
SHORT = (
    "where",
    "claim",
    "size",
    "ratio",
    "paper",
    "others",
)  # of `by_world`, and a column a world
TIMED = "timed"  # what has no data set
MANY = 2  # more measurements than this in one cell are counted, not written out


def paper_tables(ledger: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Table name -> a row a model and measurement; each quantity has a paper and a measured column.

    Only measurements of the claim's own kind stand in the measured columns; "–" is not tested.

    Args:
        ledger: `claims.ledger`; tables of which it has no cell are left out.
    """
    ledger = _complete(ledger)
    cells = {name: ledger[ledger["where"] == name] for name in CAPTIONS}
    return {name: _table(mine) for name, mine in cells.items() if len(mine)}


def _table(cells: pd.DataFrame) -> pd.DataFrame:
    rows = []
    for (_, size), mine in cells.groupby(["model", "size"], sort=False):
        tested = mine[mine["verdict"] != claims.NOT_TESTED]
        # a line a kind of measurement; of two recordings of one kind the second has its own
        turn = tested.groupby(["id", "of"]).cumcount()
        groups = list(tested.groupby(["of", turn], sort=False)) or [(("–", 0), tested)]
        for (of, _), found in groups:
            row = {"model": _title(mine), "size": size, **_cells(mine, found.set_index("id"))}
            rows.append(row | {"measured on": of})
    table = pd.DataFrame(rows).fillna("")
    table["measured on"] = table.pop("measured on")  # the last column
    return table if table["size"].any() else table.drop(columns="size")


def _cells(printed: pd.DataFrame, found: pd.DataFrame) -> dict[str, str]:
    """Of each quantity what the paper prints, and what was measured."""
    row = {}
    for cell in printed.drop_duplicates("id").to_dict("records"):
        known = cell["id"] in found.index
        row[f"{cell['quantity']}, paper"] = cell["paper"]
        row[f"{cell['quantity']}, measured"] = measured(found.loc[cell["id"]]) if known else "–"
    return row


def _title(cells: pd.DataFrame) -> str:
    return str(cells["statement"].iloc[0]).split(":")[0].split(" minus ")[0]


def measured(row: Mapping[str, Any]) -> str:
    """The measured value of a ledger row with what it could be by the noise of its row."""
    if pd.isna(row["measured"]):
        return "–"
    if row["paper"] in ("yes", "no"):
        return "yes" if row["measured"] else "no"
    digits = 3 if row["unit"] in ("share", "layers", "") else 1
    sign = "+" if "difference" in row["quantity"] or row["against"] else ""
    return with_ends(row["measured"], row["low"], row["high"], f"{sign}.{digits}f")


def elsewhere(results: Sequence[Evaluation]) -> pd.DataFrame:
    """Evaluations of other models or data than the paper's: never beside its numbers."""
    return evaluations.frame([one for one in results if _is_elsewhere(one)])


def arranged(
    results: Sequence[Evaluation], accuracies: Sequence[Classified] = ()
) -> dict[str, pd.DataFrame]:
    """Models that are not the paper's, in the order of its Tables 2-5, then all of them with their controls;
    last the classifiers.

    Printed numbers are of the paper's tiny model on COCO: beside the measured ones they show whether the
    order is the same, nothing else.

    Returns:
        "Table 2: nano, pyramid neck, shapes, 300 images" -> a row a model of that table, and "Controls: ..."
        -> a row a model; groups whose APs may not be compared have tables of their own.
    """
    found: dict[str, pd.DataFrame] = {}
    others = [one for one in results if _is_elsewhere(one)]
    for about, group in evaluations.data_groups(others, bodies=True).items():
        models = control_gain.frame(group)
        if not len(models):
            continue
        means = control_gain.over_seeds(models)
        gains = gain_tables.told(group, means)
        printed = means[~means["dial"] & (means["lender"] == "")]
        printed = printed[printed["base_ratio"].isin(gain_tables.PRINTED_RATIOS)]
        for name in list(CAPTIONS)[1:]:
            cells = _printed_cells(name)
            known = printed[printed["model"].isin(cells)]
            if known["model"].nunique() > 1:  # one model alone compares nothing
                found[f"{name}: {about}"] = _arranged(known, cells, gains)
        found |= {
            f"{name}: {about}": table
            for name, table in gain_tables.equal_tokens(group, means).items()
        }
        found[f"Controls: {about}"] = _controls(means, gains)
    if accuracies:
        found["Classification"] = classifiers.table(accuracies)
    return found


def _printed_cells(name: str) -> dict[str, dict[str, str]]:
    """The tiny models of one of the paper's tables, in its order -> their cells there."""
    printed: dict[str, dict[str, str]] = {}
    for claim in claims.load_claims():
        if claim.where == name and claim.size == "tiny" and claim.measure.startswith("ap:"):
            title = claim.statement.split(":")[0]
            cells = printed.setdefault(claim.model, {"model": title})
            cells[f"{claim.quantity}, paper"] = claim.paper
    return printed


def _arranged(
    means: pd.DataFrame, printed: Mapping[str, Mapping[str, str]], gains: Gains
) -> pd.DataFrame:
    """Rows of `control_gain.over_seeds` in the order of one of the paper's tables; trainings of one model
    that differ in more than seeds have a row each, by their names there."""
    rows = []
    for _, row in means.iterrows():
        cells = dict(printed[row["model"]])
        if (means["model"] == row["model"]).sum() > 1:
            cells["model"] = row["name"]
        rows.append((list(printed).index(row["model"]), cells | _measured_cells(row, gains)))
    table = pd.DataFrame([row for _, row in sorted(rows, key=lambda pair: pair[0])])
    ahead = [column for column in table.columns if column == "model" or "paper" in column]
    return table[[*ahead, *(column for column in table.columns if column not in ahead)]]


def _controls(means: pd.DataFrame, gains: Gains) -> pd.DataFrame:
    """Every model with what its masks are worth over each control, and how far it is from models that were
    trained alike without a choice, box AP points."""
    rows, known = [], {against for _, against, _ in gains}
    shown = {control: f"own − {label}" for control, label in SHOWN_CONTROLS.items()}
    shown |= {words: f"box − {words}" for words in paired.DICE if words in known}
    for _, row in means.iterrows():
        worths = {
            label: gains.get((row["name"], against, "box"), "–") for against, label in shown.items()
        }
        rows.append({"model": row["name"]} | _measured_cells(row, gains) | worths)
    return pd.DataFrame(rows)


def _measured_cells(row: pd.Series, gains: Gains) -> dict[str, str]:
    """A row of `control_gain.over_seeds` as text."""
    cells = {}
    for kind in control_gain.kinds_of(row):
        cells[f"{kind} AP"] = _number(row[f"{kind}_ap"], 1)
        cells[f"{kind} ± images"] = _number(row[f"{kind}_half"], 1)
        cells[f"{kind} by seed"] = row[f"{kind}_by_seed"] or "–"
        cells[f"{kind} − dense"] = gains.get((row["name"], paired.DENSE, kind), "–")
    cells["kept"] = _number(row["keep_ratio"], 3)
    cells["GMACs backbone"] = _number(row["gmacs_backbone"], 3)
    return cells


def _number(value: float, digits: int) -> str:
    """A dash where it is not known."""
    return "–" if pd.isna(value) else f"{value:.{digits}f}"


def _is_elsewhere(one: Evaluation) -> bool:
    return one.facts.data != "COCO val2017" or _other_model(one)


def _other_model(one: Evaluation) -> bool:
    return one.facts.size not in ("tiny", "small") or one.facts.neck != "adapter"


def _complete(ledger: pd.DataFrame) -> pd.DataFrame:
    """The ledger with all columns, also where nothing was measured."""
    numbers = ("measured", "low", "high", "noise", "above", "draws", "seeds", "by_seed", "images")
    names = ("direction", *numbers, "kept", "world", "of", "source", "reason", "left_out")
    return ledger.reindex(columns=list(dict.fromkeys([*ledger.columns, *names])))


def shown_ledger(ledger: pd.DataFrame) -> pd.DataFrame:
    """The columns of a ledger that fit a page, as text."""
    ledger = _complete(ledger)
    rows = ledger.to_dict("records")
    shown = {"measured": measured, "paper": _printed, "ratio": _ratios, "above": _above}
    text = ledger.assign(**{name: [how(row) for row in rows] for name, how in shown.items()})
    for name in ("seeds", "images"):
        text[name] = [_whole(value) for value in ledger[name]]
    text = text[list(LEDGER_COLUMNS)].rename(columns=LEDGER_COLUMNS).astype(object)
    return text.where(text.notna(), "").astype(str)


def by_world(ledger: pd.DataFrame) -> pd.DataFrame:
    """One row a claim, and a column a world: what was measured on its data, and how that compares.

    Worlds are never pooled; speeds, which data do not change, have the column `TIMED`.
    """
    ledger = _complete(ledger)
    timed = ledger["measure"].str.startswith("speed") & ledger["measured"].notna()
    ledger = ledger.assign(world=ledger["world"].mask(timed, TIMED))
    named = {LEDGER_COLUMNS[name]: name for name in LEDGER_COLUMNS}
    columns = [
        *evaluations.WORLDS,
        *(one for one in (evaluations.CLASSES, "other", TIMED) if one in set(ledger["world"])),
    ]
    found: dict[str, list[dict[str, Any]]] = {}
    for row in ledger.to_dict("records"):
        found.setdefault(row["id"], []).append(row)
    table = []
    for rows in found.values():
        said = {name: _said(rows[0], named[name]) for name in SHORT}
        cells = {name: _cell([row for row in rows if row["world"] == name]) for name in columns}
        verdicts = ", ".join(dict.fromkeys(row["verdict"] for row in rows))
        table.append(said | cells | {"verdict": verdicts, "remark": _unmeasured(rows)})
    return pd.DataFrame(table)


def _unmeasured(rows: Sequence[Mapping[str, Any]]) -> str:
    """Why a claim has no measurement; empty where it has one."""
    if any(pd.notna(row["measured"]) for row in rows):
        return ""
    dropped = rows[0]["left_out"]
    return rows[0]["reason"] + (f"; left out: {dropped}" if dropped else "")


def _said(row: Mapping[str, Any], name: str) -> str:
    """What a row of the ledger says of the claim itself."""
    special = {"paper": _printed, "ratio": _ratios}
    return special[name](row) if name in special else row[name]


def _cell(rows: Sequence[Mapping[str, Any]]) -> str:
    """The measurements of a claim on one world."""
    words = [
        row["direction"] if row["verdict"] == claims.NOT_TESTED else row["verdict"] for row in rows
    ]
    if len(rows) > MANY:
        found = pd.Series(words).value_counts()
        return f"{len(rows)} measured: {', '.join(f'{n} {word}' for word, n in found.items())}"
    told = [
        f"{measured(row)} {word} ({row['of'].rsplit(' on ', 1)[0]}{_images(row)})"
        for row, word in zip(rows, words, strict=True)
    ]
    return "; ".join(told) or "–"


def _images(row: Mapping[str, Any]) -> str:
    seeds = f", {row['seeds']:.0f} seeds" if row["seeds"] > 1 else ""
    return f", {counted(int(row['images']), 'images')}{seeds}" if row["images"] else ""


def _ratios(row: Mapping[str, Any]) -> str:
    return " and ".join(dict.fromkeys(filter(None, [row["ratio"], row["against_ratio"]])))


def _above(row: Mapping[str, Any]) -> str:
    return "" if pd.isna(row["above"]) else probability(row["above"], int(row["draws"]))


def _whole(value: float) -> str:
    return "" if pd.isna(value) else f"{value:.0f}"


def _printed(row: Mapping[str, Any]) -> str:
    relation = "" if row["relation"] == "=" else f"{row['relation']} "
    tolerance = f" (± {row['tolerance']})" if row["tolerance"] else ""
    return f"{relation}{row['paper']}{tolerance} {row['unit']}".strip()


def counts(ledger: pd.DataFrame) -> str:
    """One sentence: claims by verdict; one that two kinds of runs answer differently counts twice."""
    ids = {name: set(rows["id"]) for name, rows in ledger.groupby("verdict")}
    confirmed, contradicted = (ids.get(v, set()) for v in (claims.CONFIRMED, claims.CONTRADICTED))
    untested = set(ledger["id"]) - confirmed - contradicted
    return (
        f"{ledger['id'].nunique()} claims and table cells: {len(confirmed)} {claims.CONFIRMED}, "
        f"{len(contradicted)} {claims.CONTRADICTED}, {len(untested)} {claims.NOT_TESTED}."
    )


def tables_markdown(
    tables: dict[str, pd.DataFrame], others: dict[str, pd.DataFrame], timed: pd.DataFrame
) -> str:
    """All tables, and what was measured elsewhere, as one page.

    Args:
        others: `arranged`.
        timed: `speeds.frame`.
    """
    parts = ["# The paper's tables: printed beside measured"]
    for name, table in tables.items():
        parts += [f"## {name}", CAPTIONS[name], markdown(table)]
    if others:
        parts += ["## Measured on other models or data", ELSEWHERE_CAPTION]
        for name, table in others.items():
            parts += [f"### {name}", markdown(table)]
    if len(timed):
        parts += ["## Measured speed", SPEED_CAPTION, markdown(timed.round(3))]
    return "\n\n".join([*parts, *_remarks()]) + "\n"


def ledger_markdown(ledger: pd.DataFrame, odd: pd.DataFrame) -> str:
    """The claim ledger as one page: a row a claim, then every measurement, then other people's numbers.

    Args:
        odd: `claims.inconsistencies`.
    """
    every = shown_ledger(ledger[ledger["measured"].notna()] if "measured" in ledger else ledger[:0])
    parts = ["# Claims of the paper", counts(ledger), markdown(by_world(ledger))]
    parts += ["## Every measurement", inspect.getdoc(claims) or "", markdown(every)]
    parts += ["## Numbers of other people", markdown(foreign().drop(columns=["claim", "told"]))]
    parts += ["## Where the paper disagrees with itself", markdown(odd)]
    return "\n\n".join([*parts, *_remarks()]) + "\n"


def _remarks() -> list[str]:
    return ["## Remarks", "\n".join(f"- {remark}" for remark in REMARKS)]


def markdown(frame: pd.DataFrame) -> str:
    """A frame as a Markdown table."""
    rows = [list(map(str, row)) for row in frame.itertuples(index=False)]
    return markdown_table(list(map(str, frame.columns)), rows)
