"""Two to four runs on the same image: where their tokens agree, which objects each finds, what each costs.

The first run is the reference: the others gain or lose tokens and objects against it. Runs that differ
in framework or in how masks were decided are set side by side under their own names, never pooled.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd

from analysis.numbers import budget
from analysis.numbers.agreement import pair, paired_interval
from analysis.numbers.usage import gated_layers, keep_ratios, layer_states, valid_keep
from svit.core.catalogue import METHODS
from svit.core.config import Config, ConfigError, from_dict
from svit.core.coverage import Truth
from svit.core.finding import Matches, match
from svit.core.types import Detections, ImageId, TokenTrace
from svit.runs.frames import drawn_together
from svit.runs.head import UNKNOWN, known
from svit.runs.pairing import MismatchError, check_classes, check_pictures
from svit.runs.run import Run, RunError, open_run
from svit.system.text import in_order

STATES = ("used", "never", "later", "next", "carried")  # the codes 0 to 4 of `lives`
CHANGES = ("both", "new", "lost", "neither")
# found by the reference, found by this run
_CHANGE = dict(zip(((True, True), (False, True), (True, False), (False, False)), CHANGES))


class CostError(ValueError):
    """A run whose operations cannot be counted; the message says why."""


def common_ids(runs: Sequence[Run]) -> list[ImageId]:
    """Ids of the images that every run holds, sorted as people count."""
    return counted_ids(set.intersection(*(set(run.image_ids) for run in runs)))


def counted_ids(ids: Collection[ImageId]) -> list[ImageId]:
    """Ids in the order in which people count: "frame 2" before "frame 10"."""
    texts = any(isinstance(one, str) for one in ids)
    return sorted(ids, key=in_order if texts else None)


def partner(
    run: Run, paths: Iterable[Path], method: str | None = None, *, overlaid: bool = False
) -> Path | None:
    """The first readable run at other `paths` that shares an image with a run, of that method.

    Args:
        overlaid: its tokens are those of the run: as many blocks, the same grid in their first image.
            Without it, its labels are: the same classes.
    """
    for path in paths:
        if path == run.path:
            continue
        try:
            other = open_run(path)
        except RunError:
            continue
        shared = common_ids([run, other])
        if method not in (None, other.provenance.get("method")) or not shared:
            continue
        if _alike(run, other, shared[0], overlaid):
            return path
    return None


def _alike(run: Run, other: Run, image_id: ImageId, overlaid: bool) -> bool:
    try:
        check_pictures(run, other)
        if overlaid:
            traces_of([run, other], image_id)
        else:
            check_classes(run, other)
    except (MismatchError, RunError):
        return False
    return True


def traces_of(runs: Sequence[Run], image_id: ImageId) -> list[TokenTrace]:
    """The traces of one image, the reference's first.

    Raises:
        MismatchError: the runs have other grids for it, or other numbers of layers.
    """
    first, *others = runs
    traces = [first.trace(image_id)]
    for other in others:
        if other.layers != first.layers:
            raise MismatchError(
                f"{first.path} and {other.path} have {first.layers} and {other.layers} layers; "
                "compare models of equal depth"
            )
        traces.append(pair(first, other, image_id)[1])
    return traces


def lives(trace: TokenTrace) -> np.ndarray:
    """What becomes of every valid token at every layer, as `STATES`: used, pruned and never used
    again, pruned and used in a later layer but not the next, pruned and used in the next, carried.

    Returns: int8 (layers, valid rows, valid columns) in 0..4.
    """
    states = layer_states(trace)
    codes = np.zeros(states.used.shape, np.int8)
    for code, name in enumerate(STATES[1:], 1):  # next is part of later and overwrites it
        codes[getattr(states, name)] = code
    return codes


def sides(one: TokenTrace, other: TokenTrace) -> np.ndarray:
    """Which of two runs use each valid token at each layer: neither, the first, the second, both.

    Returns: int8 (layers, valid rows, valid columns) in 0..3.
    """
    return (valid_keep(one) + 2 * valid_keep(other).astype(np.int8)).astype(np.int8)


def users(traces: Sequence[TokenTrace]) -> np.ndarray:
    """How many runs use each valid token at each layer: int64 (layers, valid rows, valid columns)."""
    return np.sum([valid_keep(trace) for trace in traces], axis=0)


def unanimous(traces: Sequence[TokenTrace]) -> np.ndarray:
    """Number of layers at which all runs decide alike on a valid token, all use it or none does.

    Returns: int64 (valid rows, valid columns) in 0..layers.
    """
    count = users(traces)
    return ((count == 0) | (count == len(traces))).sum(axis=0)


def outcome_frame(found: Sequence[Detections], target: Truth, **rule) -> pd.DataFrame:
    """One row a run and annotated object (no crowds), in the order of the runs.

    Args:
        found: what each run found in the image, the reference's first.
        rule: `iou`, `kind`, `score` of `finding.match`.

    Returns:
        Columns: run (its index), object (its index in the image), label, `found`, `score` of the
        detection that found it (NaN if missed), and `change` against the reference: "both" find it,
        "new" (only this run), "lost" (only the reference), "neither".
    """
    hits = [match(one, target, **rule) for one in found]
    objects = np.flatnonzero(~target.crowd)
    rows = []
    for index, (one, hit) in enumerate(zip(found, hits, strict=True)):
        for item in objects:
            here, before = hit.detection[item] >= 0, hits[0].detection[item] >= 0
            rows.append(
                {
                    "run": index,
                    "object": int(item),
                    "label": int(target.labels[item]),
                    "found": bool(here),
                    "score": float(one.scores[hit.detection[item]]) if here else np.nan,
                    "change": _CHANGE[bool(before), bool(here)],
                }
            )
    return pd.DataFrame(rows, columns=["run", "object", "label", "found", "score", "change"])


def extras(found: Detections, target: Truth, **rule) -> np.ndarray:
    """Detections from the rule's score on that find no object and lie in no crowd.

    Returns: their indices. `rule` as in `outcome_frame`.
    """
    return _unmatched(found, match(found, target, **rule), rule)


def _unmatched(found: Detections, matches: Matches, rule: dict) -> np.ndarray:
    wrong = (matches.target < 0) & ~matches.ignored
    return np.flatnonzero(wrong & (found.scores >= rule.get("score", 0.0)))


def config_of(run: Run) -> Config:
    """The configuration in the provenance of a run.

    Raises:
        CostError: it has none, or one this version cannot read, or a method without a cost formula.
    """
    values = run.provenance.get("config")
    if not isinstance(values, dict) or "backbone" not in values:
        raise CostError(
            f"{run.path}: run.json holds no configuration to count operations of{_counted_by_torch(run)}"
        )
    try:
        config = from_dict(values)
    except ConfigError as error:
        raise CostError(f"{run.path}: run.json, configuration: {error}") from error
    if config.pruning.method not in METHODS:
        raise CostError(f"{run.path}: no cost formula for method {config.pruning.method!r}")
    return config


def _counted_by_torch(run: Run) -> str:
    """What is known of a model that is not ours, in words."""
    if known(run.provenance, "cost") is not None and "macs" in run.images:
        total = run.images["macs"].mean() / 1e9
        return f"; torch counted {total:.3g} GMACs an image in all, by module nothing is known"
    model = run.provenance.get("cost") == UNKNOWN
    return "; record it with --count to have torch count them" if model else ""


def costs_of(run: Run) -> Callable[[TokenTrace], dict[str, float | ImageId]]:
    """Counts a trace of the run: `budget.ledger_row`.

    Raises:
        CostError: see `config_of`; what is returned raises it where the configuration does not fit a
            trace, or no detections of its image are recorded.
    """
    config, gated = config_of(run), gated_layers(run.layers, run.targets)
    counts = dict(zip(run.images["image_id"], run.images["detections"], strict=True))

    def of(trace: TokenTrace) -> dict[str, float | ImageId]:
        if pd.isna(count := counts[trace.image_id]):
            raise CostError(
                f"{run.path} holds no detections of image {trace.image_id!r}, each of which costs a mask"
            )
        try:
            return budget.ledger_row(trace, int(count), config, gated)
        except ValueError as error:
            raise CostError(f"{run.path}: {error}") from error

    return of


def cost_frame(run: Run, traces: Iterable[TokenTrace]) -> pd.DataFrame:
    """One row an image: `budget.ledger_row` of some images of a run. Raises as `costs_of`."""
    return pd.DataFrame(list(map(costs_of(run), traces)))


def module_costs(ledger: pd.DataFrame) -> pd.DataFrame:
    """From `cost_frame`: module, `gmacs` = mean over images in 10^9 MACs, share of the network."""
    table = budget.module_frame(ledger)
    return table.assign(gmacs=table["mean"] / 1e9)[["module", "gmacs", "share"]]


def cost_summary(ledgers: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """From run name -> `cost_frame`: run, `gmacs` of the whole network (mean over images, 10^9 MACs),
    `change` = gmacs / gmacs of the first - 1, `saved` = mean share of the run's own dense cost."""
    rows = [
        {"run": name, "gmacs": ledger["total"].mean() / 1e9, "saved": ledger["saved"].mean()}
        for name, ledger in ledgers.items()
    ]
    frame = pd.DataFrame(rows, columns=["run", "gmacs", "saved"])
    frame["change"] = frame["gmacs"] / frame["gmacs"].iloc[:1].mean() - 1
    return frame


def deciding_layers(runs: Sequence[Run]) -> list[int]:
    """Layers that prune in at least one run: by their target, or as recorded where a run states none below 1;
    all of them where none does."""
    found = set().union(*map(_deciding, runs))
    return sorted(found) or list(range(max(run.layers for run in runs)))


def _deciding(run: Run) -> Collection[int]:
    stated = {layer for layer, target in enumerate(run.targets[: run.layers]) if target < 1}
    return stated or (() if run.provenance.get("method") == "dense" else _pruning(run))


@lru_cache(maxsize=8)
def _pruning(run: Run) -> frozenset[int]:
    """Layers that leave out a valid token of some image, counted once a run."""
    counts = run.keep_counts()
    return frozenset(counts.loc[counts["kept_valid"] < counts["valid"], "layer"].tolist())


def image_frame(
    run: Run, image_ids: Collection[ImageId], layers: Sequence[int], **rule
) -> pd.DataFrame:
    """One row an image of `image_ids`, in the order of the run.

    Args:
        layers: zero-based layers the keep ratio averages over (`deciding_layers`).
        rule: `iou`, `kind`, `score` of `finding.match`.

    Returns:
        Columns: image_id; `keep_ratio` = mean over `layers` of kept valid / valid tokens; `usage` =
        mean layers that use a valid token; `objects` annotated (no crowds); `found` of them; `extra` =
        detections from the score on that found none; NaN where the run lacks annotations or
        detections; `gmacs` of the whole network (10^9 MACs), NaN where they cannot be counted
        (`CostError`).
    """
    wanted, masks = set(image_ids), rule.get("kind") == "mask"
    ids = [one for one in run.image_ids if one in wanted]
    gmacs, rows = _gmacs(run), []
    for trace, found, target in run.samples("trace", "detections", "target", ids=ids, masks=masks):
        ratios = keep_ratios(trace)
        row = {
            "image_id": trace.image_id,
            "keep_ratio": float(ratios[list(layers)].mean()),
            "usage": float(ratios.sum()),
        }
        rows.append(row | _counts(found, target, rule) | {"gmacs": gmacs(trace)})
    names = ["image_id", "keep_ratio", "usage", "objects", "found", "extra", "gmacs"]
    return pd.DataFrame(rows, columns=names)


def _gmacs(run: Run) -> Callable[[TokenTrace], float]:
    """Counts the whole network on a trace, or has what torch counted; NaN where nothing is known."""
    try:
        costs = costs_of(run)
    except CostError:
        images = run.images
        told = images["macs"] / 1e9 if "macs" in images else np.full(len(images), np.nan)
        counted = dict(zip(images["image_id"], told, strict=True))
        return lambda trace: float(counted[trace.image_id])

    def of(trace: TokenTrace) -> float:
        try:
            return costs(trace)["total"] / 1e9
        except CostError:
            return float("nan")

    return of


def _counts(found: Detections | None, target: Truth | None, rule: dict) -> dict[str, float]:
    if found is None or target is None:
        return dict.fromkeys(("objects", "found", "extra"), np.nan)
    real = ~target.crowd
    matches = match(found, target, **rule)
    hit = (matches.detection[real] >= 0).sum()
    extra = len(_unmatched(found, matches, rule))
    return {"objects": float(real.sum()), "found": float(hit), "extra": float(extra)}


MEASURES = ("keep_ratio", "usage", "found", "extra", "gmacs")


def change_frame(first: pd.DataFrame, other: pd.DataFrame) -> pd.DataFrame:
    """From two `image_frame`s: one row an image of both, `MEASURES` of the other minus the first,
    and the first's `objects`."""
    merged = first.merge(other, on="image_id", suffixes=("_first", "_other"))
    frame = merged[["image_id"]].assign(objects=merged["objects_first"])
    for name in MEASURES:
        frame[name] = merged[f"{name}_other"] - merged[f"{name}_first"]
    return frame


def largest_first(changes: pd.DataFrame, name: str) -> pd.DataFrame:
    """A `change_frame` by the size of one measure's change, unknown ones last."""
    order = changes[name].abs().sort_values(ascending=False, kind="stable", na_position="last")
    return changes.loc[order.index].reset_index(drop=True)


def summary_frame(
    frames: Sequence[pd.DataFrame],
    draws: int = 2000,
    videos: Mapping[ImageId, ImageId] | None = None,
) -> pd.DataFrame:
    """From the `image_frame`s of several runs, the reference's first: a row a run.

    Args:
        videos: of each image, where all are frames (`svit.runs.frames.videos_of`): they are drawn whole.

    Columns: `keep_ratio`, `usage`, `extra`, `gmacs` = means over images; `objects`, `found` = sums (NaN
    where not recorded); `found_share` = found / objects; for each of `MEASURES` the mean difference to the
    reference over images, zero for itself, and its 95 % percentile interval as *_change, *_low, *_high.
    """
    rows = []
    for frame in frames:
        objects, found = (frame[name].sum(min_count=1) for name in ("objects", "found"))
        row = {name: frame[name].mean() for name in ("keep_ratio", "usage", "extra", "gmacs")}
        row |= {"objects": objects, "found": found}
        row["found_share"] = found / objects if objects else np.nan
        changes = change_frame(frames[0], frame)
        units = drawn_together(videos, changes["image_id"].tolist())
        for name in MEASURES:
            interval = paired_interval(changes[name], draws, videos=units)
            ends = {"change": interval.value, "low": interval.low, "high": interval.high}
            row |= {f"{name}_{end}": value for end, value in ends.items()}
        rows.append(row)
    return pd.DataFrame(rows)
