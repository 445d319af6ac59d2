"""What the Dataset page draws. A clicked mark comes back as the selection `picked`."""

from __future__ import annotations

from collections.abc import Sequence

import altair as alt
import pandas as pd

from analysis.figures import palette
from analysis.figures.canvas.screen import FADED, PADDING, SHARES, blocks, legend_above, picked
from analysis.figures.objects.misses import FATE_COLOURS
from analysis.figures.objects.objects import REGION_COLOURS

FATE_NAMES = {
    "kept": "half kept",
    "rescued": "back later",
    "lost": "lost for good",
}
AXIS_NAMES = {
    "objects": "annotated objects",
    "area": "share of the image that objects cover",
    "edges": "edge density of the picture",
}


def region_lines(frame: pd.DataFrame, targets: Sequence[float]) -> alt.LayerChart:
    """Use of tokens inside objects, on contours, on the background; bands are 90 % of the images."""
    known = frame.dropna(subset=["share"])
    scale = alt.Scale(domain=list(REGION_COLOURS), range=list(REGION_COLOURS.values()))
    colour = alt.Color(
        "region:N", scale=scale, legend=legend_above(symbolType="stroke", symbolStrokeWidth=3)
    )
    base = alt.Chart(known).encode(x=blocks(), color=colour)
    band = base.mark_area(opacity=0.12).encode(
        y=alt.Y("low:Q", title="tokens used", axis=SHARES, scale=alt.Scale(domain=[0, 1])),
        y2="high:Q",
    )
    tips = [alt.Tooltip(name, format=".1%") for name in ("share", "low", "high")]
    line = base.mark_line(strokeWidth=2.2).encode(y="share:Q")
    points = (
        base.mark_point(filled=True, size=60, opacity=1, cursor="pointer")
        .encode(y="share:Q", tooltip=["region", "block", "tokens", *tips])
        .add_params(picked("region"))
    )
    wanted = pd.DataFrame({"block": range(1, len(targets) + 1), "target": list(targets)})
    target = alt.Chart(wanted).mark_line(color=palette.SOFT, strokeDash=[4, 3], strokeWidth=1.2)
    return (band + target.encode(x=blocks(), y="target:Q") + line + points).properties(
        height=300, padding=PADDING
    )


def group_bars(groups: pd.DataFrame, by: str, layers: int) -> alt.LayerChart:
    """Blocks that use the tokens of objects, by size or class; lines are 90 % of the objects."""
    pick, order = picked(by), groups[by].tolist()
    y = alt.Y(f"{by}:N", title=None, sort=order, axis=alt.Axis(labelLimit=160, labelOverlap=False))
    scale = alt.Scale(domain=[0, layers])
    ends = [alt.Tooltip(name, format=".2f") for name in ("mean", "low", "high", "excess")]
    bars = (
        alt.Chart(groups)
        .mark_bar(color=palette.USED, height=alt.RelativeBandSize(0.7), cursor="pointer")
        .encode(
            y=y,
            x=alt.X(
                "mean:Q",
                title="blocks that use its tokens",
                scale=scale,
                axis=alt.Axis(tickCount=6),
            ),
            opacity=alt.condition(pick, alt.value(1), alt.value(FADED)),
            tooltip=[by, "objects", *ends],
        )
        .add_params(pick)
    )
    spread = (
        alt.Chart(groups)
        .mark_rule(color=palette.SOFT, strokeWidth=1.5)
        .encode(y=y, x="low:Q", x2="high:Q")
    )
    count = (
        alt.Chart(groups)
        .mark_text(align="left", dx=5, color="white", fontSize=11)
        .encode(y=y, x=alt.datum(0), text="objects:Q")
    )
    return (bars + spread + count).properties(height=25 * len(groups) + 60, padding=PADDING)


def budget_points(frame: pd.DataFrame, measure: str) -> alt.Chart:
    """Keep ratio of every image against a measure of complexity; a click picks the image."""
    pick = alt.selection_point(name="picked", fields=["image_id"], toggle=False, empty=False)
    rows = frame.dropna(subset=[measure])
    shown = {"format": "%"} if measure != "objects" else {"tickMinStep": 1}
    tips = [alt.Tooltip("keep_ratio", title="keep ratio", format=".1%")]
    tips += [
        alt.Tooltip(name, title=title, format="d" if name == "objects" else ".1%")
        for name, title in AXIS_NAMES.items()
    ]
    return (
        alt.Chart(rows)
        .mark_circle(size=70, color=palette.USED, opacity=0.65, cursor="pointer")
        .encode(
            x=alt.X(
                f"{measure}:Q",
                title=AXIS_NAMES[measure],
                axis=alt.Axis(**shown),
                scale=alt.Scale(padding=12, nice=False),
            ),
            y=alt.Y(
                "keep_ratio:Q",
                title="keep ratio of gated blocks",
                axis=SHARES,
                scale=alt.Scale(zero=False, padding=12),
            ),
            tooltip=["image_id:N", *tips],
        )
        .add_params(pick)
        .properties(height=440, padding=PADDING)
    )


def fate_bars(fates: pd.DataFrame, other: str) -> alt.LayerChart:
    """Miss rate by size and by what became of the objects' tokens (`per_image.reference_rates`); ticks are
    those of the run called `other` on the same objects."""
    frame = fates.assign(what=fates["fate"].map(FATE_NAMES))
    names = list(FATE_NAMES.values())
    scale = alt.Scale(domain=names, range=[FATE_COLOURS[name] for name in FATE_NAMES])
    pick = picked("size", "fate")
    x = alt.X("size:N", title=None, sort=["small", "medium", "large"], axis=alt.Axis(labelAngle=0))
    base = alt.Chart(frame).encode(x=x, xOffset=alt.XOffset("what:N", sort=names))
    tips = ["size", alt.Tooltip("what", title="tokens"), "objects", "missed"]
    tips += [alt.Tooltip("dense_missed", title=f"missed by {other}"), alt.Tooltip("only_here")]
    bars = (
        base.mark_bar(cursor="pointer")
        .encode(
            y=alt.Y(
                "miss_rate:Q", title="missed objects", axis=SHARES, scale=alt.Scale(domain=[0, 1])
            ),
            color=alt.Color("what:N", scale=scale, legend=legend_above(14)),
            opacity=alt.condition(pick, alt.value(1), alt.value(FADED)),
            tooltip=tips if other else tips[:4],
        )
        .add_params(pick)
    )
    counts = base.mark_text(dy=-7, fontSize=11, color=palette.SOFT).encode(
        y="miss_rate:Q", text=alt.Text("label:N")
    )
    labelled = (bars + counts).transform_calculate(label="datum.missed + '/' + datum.objects")
    ticks = base.transform_filter("isValid(datum.dense_rate)").mark_tick(
        thickness=3, color=palette.SOFT, width=alt.RelativeBandSize(0.95)
    )
    return (labelled + ticks.encode(y="dense_rate:Q")).properties(height=300, padding=PADDING)


def share_lines(shares: pd.DataFrame) -> alt.LayerChart:
    """Mean share of an object's tokens used per block, found and missed (`per_image.share_bands`)."""
    scale = alt.Scale(domain=["found", "missed"], range=[palette.FOUND, palette.MISSED])
    base = alt.Chart(shares).encode(
        x=blocks(),
        color=alt.Color(
            "outcome:N", scale=scale, legend=legend_above(symbolType="stroke", symbolStrokeWidth=3)
        ),
    )
    y = alt.Y(
        "mean:Q", title="tokens of the object used", axis=SHARES, scale=alt.Scale(domain=[0, 1])
    )
    line = base.mark_line(point=True).encode(
        y=y, tooltip=["size", "outcome", "block", "objects", alt.Tooltip("mean", format=".1%")]
    )
    band = base.mark_area(opacity=0.15).encode(y="low:Q", y2="high:Q")
    return (band + line).properties(height=300, padding=PADDING)
