"""AP of every model with its own masks, and with masks that know less: what the choice is worth.

A row is a model, families of methods together, from the best on; several training seeds are beside each
other in it. Left: the dot is its AP with its own masks, the line its 95 % percentile interval over images
as stated in its summary. Objects (masks from ground truth, what they cover first), the tokens around the
middle of the picture, shuffled (its own masks at other places) and random masks keep the same number of
tokens in every layer and image; the grey number is its AP where the pruned blocks see no token, mean over
seeds. The vertical line is the dense model. Right: AP with its own masks minus AP with each of the
others, and where the matches of both evaluations are there the paired 95 % interval of that difference
over images, mean over training seeds; where random masks reach zero, the choice of tokens is worth nothing,
however good the AP. Models whose AP lies far below all others have axes of their own, in a second part.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import altair as alt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.figures import palette
from analysis.figures.canvas import screen as shared
from analysis.figures.canvas.axes import bands, spread
from analysis.figures.canvas.placing import floor, short_names
from analysis.figures.canvas.sizes import WIDTH
from analysis.figures.output import DrawOptions, Entry, Product, RenderError
from analysis.sources import control_gain, evaluations, paired
from analysis.sources.collection import RESULTS, Collection
from analysis.sources.evaluations import Evaluation

ROW, AROUND, FOOT = 0.17, 0.5, 0.26  # inches: a model; axis and title; the legend
NAMES = 140  # screen pixels left of the legend
OWN = "its own masks"
ALIKE = ("oracle", "centre", "centre-square", "shuffle", "random", "invert")  # keep as many tokens
LOOKS = {  # masks -> marker on paper, shape on screen, colour
    "own": ("o", "circle", palette.OWN),
    "on": ("|", "stroke", palette.CONTROLS["on"]),
    "oracle": ("D", "diamond", palette.CONTROLS["oracle"]),
    "centre": (">", "triangle-right", palette.CONTROLS["centre"]),
    "centre-square": ("<", "triangle-left", palette.CONTROLS["centre-square"]),
    "shuffle": ("v", "triangle-down", palette.CONTROLS["shuffle"]),
    "random": ("^", "triangle-up", palette.CONTROLS["random"]),
    "invert": ("s", "square", palette.CONTROLS["invert"]),
}


def frame(results: Sequence[Evaluation]) -> pd.DataFrame:
    """A row a model that was evaluated with its own masks and others (`control_gain.frame`).

    Where matches lie beside the summaries there are further columns: `KIND_over_CONTROL_low` and `_high`, the
    paired 95 % interval of the model's own AP minus that with a control, mean over training seeds.

    Raises:
        RenderError: there is none.
        EvaluationError: the results are of different images.
    """
    evaluations.same_data(results)
    table = control_gain.with_controls(control_gain.frame(results))
    if not len(table):
        raise RenderError(
            "no model was evaluated with its own masks and others: "
            "svit evaluate --weights FILE --intervene learned,shuffle,random,centre,off --out DIR"
        )
    return table.merge(_intervals(results), on="name", how="left")


def _intervals(results: Sequence[Evaluation]) -> pd.DataFrame:
    """A row a name: the paired intervals of `paired.differences` as columns."""
    known = paired.differences(results)
    known = known[known["against"].isin(ALIKE)]
    ends = known.pivot_table(index="name", columns=["kind", "against"], values=["low", "high"])
    ends.columns = [f"{kind}_over_{against}_{end}" for end, kind, against in ends.columns]
    return ends.rename_axis("name").reset_index()


def blocks(table: pd.DataFrame, kind: str) -> list[pd.DataFrame]:
    """The rows of one axis each: all models, or those far below the others apart (`placing.floor`).

    Args:
        table: of `frame`; more columns come: short (name), family, place (of the row, from 0, seeds beside
            each other).
        kind: "box" or "mask".
    """
    names = short_names(table["name"].tolist())
    table = table.assign(short=table["name"].map(names), family=table["model"].str.split().str[0])
    ap = table[f"{kind}_ap"]
    means = ap.groupby(table["name"]).transform("mean")
    table = table.assign(mean=means, best=means.groupby(table["family"]).transform("max"))
    least = floor(means.groupby(table["name"]).first().tolist())
    parts = [table[means >= least], table[means < least]]
    return [_placed(part) for part in parts if len(part)]


def _placed(part: pd.DataFrame) -> pd.DataFrame:
    """In the order of their rows."""
    keys = ["best", "family", "mean", "name", "seed"]
    part = part.sort_values(keys, ascending=[False, True, False, True, True], ignore_index=True)
    rows = (part["name"] != part["name"].shift()).cumsum() - 1
    gaps = (part["family"] != part["family"].shift()).cumsum() - 1
    seeds = part.groupby("name")["name"]
    turn = seeds.cumcount() - (seeds.transform("size") - 1) / 2
    step = 0.6 / seeds.transform("size").clip(lower=2)
    return part.assign(place=rows + 0.3 * gaps + step * turn, row=rows + 0.3 * gaps)


def draw(found: Collection, options: DrawOptions) -> Iterator[Product]:
    """Each kind of AP, two panels a part."""
    table = frame(found.results)
    for kind in control_gain.kinds_of(table):
        measured = table.dropna(subset=[f"{kind}_ap"])
        yield Product(f"controls-{kind}", compose(measured, kind), _shown(table))


def _shown(table: pd.DataFrame) -> pd.DataFrame:
    return table.drop(columns=["weights", "data_sha256"])


def compose(table: pd.DataFrame, kind: str) -> Figure:
    """All parts of one kind of AP below each other."""
    parts = blocks(table, kind)
    heights = [ROW * (part["row"].max() + 1.4) + AROUND for part in parts]
    figure = Figure(figsize=(WIDTH, sum(heights) + FOOT))
    body, foot = figure.subfigures(2, 1, height_ratios=[sum(heights), FOOT])
    grid = body.subplots(len(parts), 2, squeeze=False, height_ratios=heights, width_ratios=[3, 2])
    own = table[(table["model"] == "dense") & (table["lender"] == "")]
    levels = own.groupby("name")[f"{kind}_ap"].mean().tolist()  # bodies and trainings apart
    for number, (part, (left, right)) in enumerate(zip(parts, grid, strict=True)):
        print(part, left, kind, dense=() if number else levels)
        print_differences(part, right, kind)
        if number:
            left.set_title("far below: an axis of their own")
    known: dict[str, object] = {}
    for ax in grid.flat:
        handles, names = ax.get_legend_handles_labels()
        known |= dict(zip(names, handles, strict=True))
    foot.legend(known.values(), known.keys(), loc="center", ncols=len(known))
    return figure


def print(part: pd.DataFrame, ax: Axes, kind: str, *, dense: Sequence[float] = ()) -> Axes:
    """AP with own masks and others on paper, a row a model.

    Args:
        part: of `blocks`.
        dense: APs of the dense models whose lines belong to this axis.
    """
    least, most = _reach(part, kind)
    rows = part.sort_values("place")
    for masks, (marker, _, ink) in LOOKS.items():
        if masks == "own" or not rows[f"{kind}_{masks}"].notna().any():
            continue
        hollow = {"color": ink, "markerfacecolor": "white", "markersize": 3.6, "mew": 0.8}
        words = control_gain.CONTROLS[masks]
        ax.plot(rows[f"{kind}_{masks}"], rows["place"], marker, **hollow, label=words, zorder=3)
    ink = LOOKS["own"][2]
    ax.hlines(rows["place"], rows[f"{kind}_low"], rows[f"{kind}_high"], color=ink, lw=0.8, zorder=4)
    ax.plot(rows[f"{kind}_ap"], rows["place"], "o", color=ink, markersize=4, label=OWN, zorder=4)
    for row, off in rows.dropna(subset=[f"{kind}_off"]).groupby("row")[f"{kind}_off"]:
        words = {"va": "center", "fontsize": "x-small", "color": palette.SOFT}
        ax.text(least, row, f" {off.mean():.1f}", **words)
    for level in dense:
        if least < level < most:
            ax.axvline(level, color=palette.DENSE, lw=0.7, zorder=0)
    _rows(part, ax)
    ax.set(xlim=(least, most), xlabel=f"{kind} AP (grey numbers: without any token)")
    return ax


def _reach(part: pd.DataFrame, kind: str) -> tuple[float, float]:
    """Ends of the axis of AP: all marks, and room for the numbers on the left."""
    names = [name for name in part.columns if name in {f"{kind}_{one}" for one in LOOKS}]
    values = part[[*names, f"{kind}_low", f"{kind}_high"]].to_numpy(float)
    low, high = pd.Series(values.ravel()).min(), pd.Series(values.ravel()).max()
    span = (high - low) or 1.0
    return float(low - 0.14 * span), float(high + 0.04 * span)


def _rows(part: pd.DataFrame, ax: Axes) -> None:
    """Rows from the top, named, with a faint band behind every second one."""
    first = part.drop_duplicates("name")
    ax.set_yticks(first["row"], first["short"])
    ax.set_ylim(part["row"].max() + 0.7, -0.7)
    ax.grid(axis="x")
    bands(ax, first["row"].tolist())


def print_differences(part: pd.DataFrame, ax: Axes, kind: str) -> Axes:
    """AP with own masks minus AP with others that keep as many tokens, on paper."""
    rows = part.sort_values("place")
    measured = [masks for masks in ALIKE if rows[f"{kind}_{masks}"].notna().any()]
    for masks, beside in zip(measured, spread(len(measured), 0.5), strict=True):
        worth = rows[f"{kind}_ap"] - rows[f"{kind}_{masks}"]
        marker, _, ink = LOOKS[masks]
        low, high = (f"{kind}_over_{masks}_{end}" for end in ("low", "high"))
        if low in rows:  # one interval a name, of the mean over its seeds
            first = rows.drop_duplicates("name")
            ax.hlines(first["row"] + beside, first[low], first[high], color=ink, lw=0.8, zorder=2)
        hollow = {"color": ink, "markerfacecolor": "white", "markersize": 3.6, "mew": 0.8}
        ax.plot(worth, rows["place"], marker, **hollow, zorder=3)
    ax.axvline(0, color=palette.INK, lw=0.7, zorder=1)
    _rows(part, ax)
    ax.set_yticklabels([])
    ax.set_xlabel(f"own − other masks, {kind} AP")
    ax.margins(x=0.06)
    return ax


def screen(part: pd.DataFrame, kind: str) -> alt.LayerChart:
    """AP with own masks and others, a row a model; differences are in the tooltips.

    Args:
        part: of `blocks`.
    """
    rows = _long(part, kind)
    order = part["short"].drop_duplicates().tolist()
    looks = {_word(masks): LOOKS[masks] for masks in LOOKS if _word(masks) in set(rows["masks"])}
    reached = alt.Scale(domain=list(_reach(part, kind)), zero=False, nice=False)
    title = [f"{kind} AP", "grey numbers:", "without any token"]  # phones are narrow
    x = alt.X("ap:Q", title=title, axis=alt.Axis(tickCount=8), scale=reached)
    axis = alt.Axis(labelLimit=240, labelPadding=8, labelOverlap=False, labelFlush=False)
    y = alt.Y("short:N", sort=order, title=None, axis=axis)
    columns = shared.columns_of(looks, left=NAMES)
    legend = alt.Legend(title=None, orient="bottom", labelLimit=260, columns=columns)
    ink = shared.colours({name: look[2] for name, look in looks.items()}, "masks", legend)
    shapes = alt.Scale(domain=list(looks), range=[look[1] for look in looks.values()])
    base = alt.Chart(rows).encode(y=y, yOffset=alt.YOffset("seed:N"), color=ink)
    own = base.transform_filter(alt.FieldEqualPredicate(field="masks", equal=OWN))
    numbers = {"ap": ("AP", ".1f"), "low": ("from (95 %)", ".1f"), "high": ("to (95 %)", ".1f")}
    numbers |= {"worth": ("own is better by", "+.1f")}
    paired_of = "paired, mean over seeds" if part["name"].duplicated().any() else "paired"
    for end, word in (("low", "from"), ("high", "to")):
        numbers[f"worth_{end}"] = (f"{word} ({paired_of})", "+.1f")
    numbers |= {"off": ("AP without any token", ".1f")}
    tips = [alt.Tooltip("name:N", title="model"), "masks:N", alt.Tooltip("seed:N", title="seed")]
    tips += [alt.Tooltip(f"{name}:Q", title=t, format=f) for name, (t, f) in numbers.items()]
    tips += [alt.Tooltip("keep_ratio:Q", title="kept", format=".1%")]
    points = base.mark_point(filled=True, opacity=1, size=70).encode(
        x=x, shape=alt.Shape("masks:N", scale=shapes, legend=legend), tooltip=tips
    )
    spread = own.mark_rule(strokeWidth=1.5).encode(x="low:Q", x2="high:Q")
    off = alt.Chart(part.groupby("short", as_index=False)[f"{kind}_off"].mean().dropna())
    off = off.mark_text(align="left", dx=4, color=palette.SOFT, fontSize=10).encode(
        y=y, x=alt.value(0), text=alt.Text(f"{kind}_off:Q", format=".1f")
    )
    return (spread + points + off).properties(
        height=alt.Step(13 if part["seed"].nunique() > 1 else 24),
        description=f"{kind} AP of every model with its own masks and with masks that know less",
    )


def _word(masks: str) -> str:
    return OWN if masks == "own" else control_gain.CONTROLS[masks]


def _long(part: pd.DataFrame, kind: str) -> pd.DataFrame:
    """A row a model and masks: ap, its interval where the masks are its own, worth = own AP − ap."""
    facts = part[["name", "short", "seed", "keep_ratio"]].assign(off=part[f"{kind}_off"])
    own = part[f"{kind}_ap"]
    parts = [facts.assign(masks=OWN, ap=own, low=part[f"{kind}_low"], high=part[f"{kind}_high"])]
    for masks in LOOKS:
        if masks != "own":
            ap = part[f"{kind}_{masks}"]
            row = facts.assign(masks=_word(masks), ap=ap, worth=own - ap)
            for end in ("low", "high"):
                row[f"worth_{end}"] = part.get(f"{kind}_over_{masks}_{end}")
            parts.append(row)
    return pd.concat(parts, ignore_index=True).dropna(subset=["ap"])


ENTRY = Entry(
    "AP of every model with its masks and with controls",
    draw,
    RESULTS,
    __doc__,
    screen=lambda found: screen(blocks(frame(found.results), "box")[0], "box"),
)
