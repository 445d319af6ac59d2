"""Results of `svit benchmark`, read back: how fast what was, on which machine, at which size.

    speeds = read_speeds(Path("results/benchmark/benchmark.json"))
    frame(speeds)

Two speeds are comparable only within one `benchmark.json`, where they were measured in turn.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from analysis.sources.evaluations import Evaluation, Facts, facts_of, own_masks
from analysis.sources.names import told_apart
from analysis.sources.rates import rate_frame
from svit.core.catalogue import PAPER_KEEP_RATIOS
from svit.core.config import to_dict
from svit.core.presets import PRESETS
from svit.system.text import counted

BENCHMARK = "benchmark.json"
CASE = ["part", "size", "batch", "variant"]  # what names a row of a benchmark
TOLERANCE = 0.005  # of all tokens, by which "as many" may differ
RECORDED = " recorded"  # ends the name of a variant that ran with the recorder: `svit.speed.report`


class SpeedError(ValueError):
    """A benchmark cannot be used; the message names the file and says why."""


@dataclass(frozen=True)
class Stage:
    """A part of a call: its share of the time, and of that the share that the machine's rates demand."""

    name: str
    share: float
    of_ceiling: float


@dataclass(frozen=True)
class Speed:
    """How fast one variant ran.

    Attributes:
        path: folder of the benchmark.
        variant: as the benchmark calls it: model, forced keep ratio, attention.
        model: preset or checkpoint.
        keep: forced keep ratios: paper, learned, dense (all tokens through the gates) or a base ratio;
            empty for a model that cannot prune.
        recorded: whether the recorder was on.
        part: backbone or network.
        size: of the pictures in pixels, "HEIGHTxWIDTH".
        batch: images a call.
        device: GPU, or CPU with its number of threads.
        settings: what else must agree: number type, framework, folded normalisation, attention.
        seconds: a call in every round, in order.
        gmacs: billion multiply-accumulates a call.
        tokens: of a picture.
        kept: share of them that a layer kept, mean over all layers; NaN where the benchmark does not tell.
        stages: of one profiled call; empty in benchmarks without a profile.
    """

    path: Path
    variant: str
    model: str
    keep: str
    recorded: bool
    part: str
    size: str
    batch: int
    device: str
    settings: tuple[str, ...]
    seconds: tuple[float, ...]
    gmacs: float
    tokens: int
    kept: float = float("nan")
    stages: tuple[Stage, ...] = ()

    @property
    def images_per_second(self) -> float:
        """Images a call / median seconds of a call."""
        return self.batch / float(np.median(self.seconds))

    @property
    def quartiles(self) -> tuple[float, float]:
        """Of images a second over rounds; NaN of a single one, which tells no spread."""
        slow, fast = quartiles(self.seconds)[::-1]
        return self.batch / slow, self.batch / fast

    @cached_property
    def facts(self) -> Facts:
        """Of the preset; of a checkpoint only its name is known."""
        config = _preset(self.model) if self.model in PRESETS else {"name": self.model}
        framework = next(
            (word for word in self.settings if word in ("torchvision", "detectron2")), ""
        )
        return facts_of({"config": config, "framework": framework}, 0)

    @property
    def dense(self) -> bool:
        """Whether all tokens ran: of a dense model, or of another with nothing pruned."""
        return self.keep in ("", "dense")

    @property
    def base_ratio(self) -> float:
        """Keep ratio of the first stage that prunes; 1 with all tokens, NaN where it is not forced."""
        if self.dense:
            return 1.0
        if self.keep == "learned":
            return float("nan")
        if self.keep != "paper":
            return float(self.keep)
        known = self.model in PRESETS
        options = PRESETS[self.model].pruning.options if known else {}
        ratios = options.get("keep_ratios", PAPER_KEEP_RATIOS)
        return float(ratios[0]) if known else float("nan")

    @property
    def condition(self) -> str:
        """What two speeds must share to be on one axis, in words."""
        return ", ".join([self.part, self.size, self.how])

    @property
    def how(self) -> str:
        """Batch, settings and machine in words."""
        return f"batch {self.batch}, {self.where}"

    @property
    def where(self) -> str:
        """Settings and machine in words."""
        return ", ".join([*self.settings, self.device])

    def faster_than(self, other: Speed) -> np.ndarray:
        """How much faster than another variant of the same benchmark, in percent, round by round:
        100 (its seconds / ours - 1)."""
        return 100 * (np.array(other.seconds) / np.array(self.seconds) - 1)


@cache
def _preset(name: str) -> dict[str, Any]:
    """Settings of a preset, written out once for all that was timed of it."""
    return to_dict(PRESETS[name])


def read_speeds(path: Path) -> list[Speed]:
    """The variants of one `benchmark.json`.

    Raises:
        SpeedError: it cannot be read.
    """
    try:
        result = json.loads(path.read_text(encoding="utf-8"))
        times = pd.DataFrame(result["times"]).groupby(CASE)["wall_s"]
        return [
            _speed(path, result, row, times.get_group(tuple(row[name] for name in CASE)))
            for row in result["summary"]
        ]
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError, ValueError) as error:
        raise SpeedError(
            f"{path} is not a result of `svit benchmark` ({type(error).__name__}: {error}); "
            "measure again with --out, or leave the folder out"
        ) from error


def _speed(path: Path, result: dict[str, Any], row: dict[str, Any], seconds: pd.Series) -> Speed:
    settings, machine = result["settings"], result["environment"]
    model, keep, attention = _named(row["variant"].removesuffix(RECORDED), settings)
    cpu = f"{machine['cpu']}, {counted(machine['threads'], 'threads')}"
    words = (
        settings["dtype"],
        settings["framework"],
        "folded" * settings.get("fused", False),
        attention,
    )
    return Speed(
        path=path.parent,
        variant=row["variant"],
        model=model,
        keep=keep,
        recorded=row["variant"].endswith(RECORDED),
        part=row["part"],
        size=row["size"],
        batch=int(row["batch"]),
        device=machine["gpu"] or cpu,
        settings=tuple(word for word in words if word not in ("", "auto")),
        seconds=tuple(seconds),
        gmacs=float(row["gmacs"]),
        tokens=int(row["tokens"]),
        kept=float(row.get("kept_share") or "nan"),
        stages=tuple(
            Stage(stage["stage"], stage["share"], stage["of_ceiling"])
            for stage in result.get("stages", ())
            if all(stage[name] == row[name] for name in CASE)
        ),
    )


def _named(variant: str, settings: dict[str, Any]) -> tuple[str, str, str]:
    """Model, keep and attention of a variant's name.

    Raises:
        ValueError: it is of none of the models in the settings.
    """
    for name in settings["models"]:
        model = Path(name).stem
        for keep in ("", *settings["keep"]):
            for attention in settings["attention"]:
                if variant == " ".join(filter(None, [model, keep, attention])):
                    return model, keep, attention
    raise ValueError(f"variant {variant!r} is of none of the models {settings['models']}")


def frame(speeds: Iterable[Speed]) -> pd.DataFrame:
    """One row a variant: what ran, images_per_second with quartiles over rounds, GMACs, where."""
    rows = []
    for one in speeds:
        low, high = one.quartiles
        rows.append(
            {
                "variant": one.variant,
                "part": one.part,
                "size": one.size,
                "batch": one.batch,
                "images_per_second": one.images_per_second,
                "low": low,
                "high": high,
                "rounds": len(one.seconds),
                "gmacs": one.gmacs,
                "device": one.device,
                "settings": ", ".join(one.settings),
                "path": one.path.as_posix(),
            }
        )
    return pd.DataFrame(rows)


def speedups(speeds: Sequence[Speed]) -> pd.DataFrame:
    """How much faster pruning made each model than all its tokens, in the same benchmark.

    Returns: a row a pruned variant and size: benchmark, condition (without the size), variant, size,
        tokens; speedup = seconds of the dense variant / its own, the median over rounds with quartiles low
        and high; limit = the same ratio of multiply-accumulates; of_limit = speedup / limit.
    """
    rows, called = [], names(speeds)
    for group in conditions(speeds).values():
        dense = {one.model: one for one in reversed(group) if one.dense}
        for one in group:
            if one.dense or one.model not in dense:
                continue
            ratios = np.array(dense[one.model].seconds) / np.array(one.seconds)
            median, (low, high) = float(np.median(ratios)), quartiles(ratios)
            limit = dense[one.model].gmacs / one.gmacs
            place = {"benchmark": called[one.path], "condition": f"{one.part}, {one.how}"}
            place |= {"variant": one.variant, "size": one.size, "tokens": one.tokens}
            times = {"speedup": median, "low": low, "high": high}
            rows.append({**place, **times, "limit": limit, "of_limit": median / limit})
    return pd.DataFrame(rows)


def quartiles(values: Sequence[float]) -> tuple[float, float]:
    """Over rounds; NaN of a single one, which tells no spread."""
    if len(values) < 2:
        return float("nan"), float("nan")
    low, high = np.quantile(values, [0.25, 0.75])
    return float(low), float(high)


def names(speeds: Iterable[Speed]) -> dict[Path, str]:
    """Folder of each benchmark -> its name, from as far up as it takes to tell it from the others."""
    paths = list(dict.fromkeys(one.path for one in speeds))
    return dict(zip(paths, told_apart(paths), strict=True))


def conditions(speeds: Sequence[Speed]) -> dict[tuple[str, str], list[Speed]]:
    """(benchmark, condition) -> its speeds: what one axis may hold. Recorded variants are left out."""
    groups: dict[tuple[str, str], list[Speed]] = {}
    for one in speeds:
        if not one.recorded:
            groups.setdefault((one.path.as_posix(), one.condition), []).append(one)
    return groups


def of_results(
    results: Iterable[Evaluation], speeds: Sequence[Speed]
) -> dict[str, list[tuple[Evaluation, Speed]]]:
    """Evaluations beside the speed of their model, by what one axis may hold.

    A speed is of an evaluation if both are of the same preset with the same base keep ratio, in the same
    numbers, at a size that pictures of the evaluation can have, and kept alike (`alike`). Evaluations with
    other masks than the model's own have none; neither do those whose model was timed at ratios that it chose
    on noise (`learned`) only.

    Returns: benchmark and condition in words -> pairs.
    """
    results, called = own_masks(results), names(speeds)
    found = {}
    for (path, condition), group in conditions(speeds).items():
        pairs = [(one, speed) for speed in group for one in results if _same_model(one, speed)]
        pairs = [(one, speed) for one, speed in pairs if alike(one, speed)]
        if pairs:
            found[f"{called[Path(path)]}: {condition}"] = pairs
    return found


def unlike(results: Iterable[Evaluation], speeds: Sequence[Speed]) -> pd.DataFrame:
    """What `of_results` does not pair because the model kept another share of tokens when it was timed: a
    row a kind of model, with model, inference, base_ratio and, over all layers, kept and timed."""
    rows = [
        {
            "model": one.facts.model,
            "inference": one.facts.source[1],
            "base_ratio": one.facts.base_ratio,
            "kept": kept(one),
            "timed": speed.kept,
        }
        for one in own_masks(results)
        for speed in speeds
        if _same_model(one, speed) and not alike(one, speed)
    ]
    keys = ["model", "inference", "base_ratio"]
    return pd.DataFrame(rows, columns=[*keys, "kept", "timed"]).groupby(keys, as_index=False).mean()


def kept(one: Evaluation) -> float:
    """Share of tokens that a layer kept, mean over all layers and images."""
    targets = one.facts.targets
    gated = sum(target < 1 for target in targets) / max(len(targets), 1)
    return 1 - gated * (1 - one.mean("keep_ratio")) if gated else 1.0


def alike(one: Evaluation, speed: Speed) -> bool:
    """Whether a model kept as many tokens when it was timed as when its AP was measured: to within
    `TOLERANCE` of all tokens, mean over all layers."""
    return speed.dense or abs(kept(one) - speed.kept) <= TOLERANCE


def _same_model(one: Evaluation, speed: Speed) -> bool:
    facts = one.facts
    ratio = abs(speed.base_ratio - facts.base_ratio) < 1e-9
    same = speed.model == facts.preset and (facts.method == "dense") == (speed.keep == "")
    return same and ratio and one.precision in speed.settings and _same_size(one, speed)


def _same_size(one: Evaluation, speed: Speed) -> bool:
    """Whether pictures of the evaluation can have the size that was timed: scaled until the short or the long
    side is as long as the settings let it be, and padded or not. Settings that tell no size fit none."""
    data = one.resizing
    if not {"short_side", "long_side", "pad_multiple"} <= data.keys():
        return False
    short, long = sorted(int(side) for side in speed.size.split("x"))
    most = [int(data["short_side"]), int(data["long_side"])]
    padded = [-(-side // data["pad_multiple"]) * data["pad_multiple"] for side in most]
    reached = short in (most[0], padded[0]) or long in (most[1], padded[1])
    return reached and short <= padded[0] and long <= padded[1]


def speed_frames(results: Sequence[Evaluation], timed: Sequence[Speed]) -> dict[str, pd.DataFrame]:
    """Benchmark and condition -> `rates.rate_frame` of the results whose model was timed there.

    More columns: variant, as the benchmark calls it; kept and timed, mean shares of tokens over all layers;
    images_per_second = batch / median seconds of a
    call, with the quartiles slow and fast over rounds. Frames share no axis (`of_results`).
    """
    frames = {}
    for condition, pairs in of_results(results, timed).items():
        of = [speed for _, speed in pairs]
        frames[condition] = rate_frame([one for one, _ in pairs]).assign(
            variant=[speed.variant for speed in of],
            kept=[kept(one) for one, _ in pairs],
            timed=[speed.kept for speed in of],
            images_per_second=[speed.images_per_second for speed in of],
            slow=[speed.quartiles[0] for speed in of],
            fast=[speed.quartiles[1] for speed in of],
        )
    return frames
