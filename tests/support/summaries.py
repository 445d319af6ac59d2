"""Result folders as `svit evaluate` writes them, with invented numbers."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np

from analysis.sources.evaluations import PAPER_TARGETS
from svit.core.matches import MATCHES, Matches, packed
from svit.core.statistics import Drawn

COCO = ["person", *(f"class {number}" for number in range(78)), "toothbrush"]
SHAPES = ["circle", "square", "triangle", "star", "ring", "cross", "hexagon", "heart"]
SIDES = {"nano": (96, 12, 3), "tiny": (192, 12, 3), "small": (384, 12, 6)}


def provenance(
    method: str = "svit",
    size: str = "tiny",
    *,
    neck: str = "adapter",
    classes: list[str] = COCO,
    base: float = 0.7,
    seed: int = 0,
    inference: str = "threshold",
    **options,
) -> dict:
    """As `svit.evaluation.provenance` writes it, of a model that keeps base, base**2, base**3."""
    width, depth, heads = SIDES[size]
    dense = method == "dense"
    targets = [1.0] * 12 if dense else [1.0] * 3 + [base ** (n // 3 + 1) for n in range(9)]
    backbone = {"neck": neck, "embed_dim": width, "depth": depth, "heads": heads}
    pruning = {"method": method, "options": options}
    return {
        "config": {
            "name": f"{method}-{size}",
            "backbone": backbone,
            "pruning": pruning,
            "data": {"short_side": 800, "long_side": 1333, "pad_multiple": 32},
        },
        "framework": "torchvision",
        "method": method,
        "inference": "" if dense else inference,
        "intervention": "learned",
        "seed": seed,
        "targets": list(PAPER_TARGETS) if base == 0.7 and not dense else targets,
        "class_names": classes,
        "data_sha256": "feed" * 16,
    }


def trained(
    method: str = "svit", size: str = "tiny", *, seed: int = 0, facts: dict | None = None, **choices
) -> dict:
    """Choices of `write_result` for a model whose training had a seed."""
    config = provenance(method, size, **choices)["config"] | {"train": {"seed": seed, "batch": 8}}
    return {"method": method, "size": size, "facts": {"config": config, **(facts or {})}, **choices}


def write_plan(folder: Path, start: str = "s" * 64, views: int = 3200) -> None:
    """As `svit compare` writes it beside the lines of a row."""
    told = {"init_sha256": start, "views": views, "train_sha256": "t" * 16}
    (folder / "plan.json").write_text(json.dumps(told))


def write_result(
    folder: Path,
    box: float = 40.0,
    mask: float = 36.0,
    *,
    images: int = 5000,
    half: float = 0.4,
    macs: float = 95e9,
    keep: float = 0.5,
    correlation: dict | None = None,
    facts: dict | None = None,
    **choices,
) -> Path:
    """A folder with `summary.json`. `choices` go to `provenance`, `facts` over what it gives."""
    scores = {
        kind: {"AP": ap, "AP50": ap + 15, "AP_interval": [ap - half, ap + half]}
        for kind, ap in (("box", box), ("mask", mask))
    }
    means = {name: {"mean": macs, "spread": macs / 10} for name in ("macs_backbone", "macs")}
    means["keep_ratio"] = {"mean": keep, "spread": keep / 10}
    source = provenance(**choices) | (facts or {})
    folder.mkdir(parents=True)
    about = {"images": images, "errors": {}, "provenance": source}
    summary = {**scores, **means, "correlation_with_keep_ratio": correlation or {}, **about}
    (folder / "summary.json").write_text(json.dumps(summary))
    return folder


def keep_matches(folder: Path, lean: float = 0.0, draws: int = 1000, key: str = "same") -> None:
    """Adds `matches.npz` to a result: on draw i its APs are off by `sin(i) + lean`, the sine that of all."""
    summary = json.loads((folder / "summary.json").read_text())
    noise = np.sin(np.arange(draws)) + lean
    drawn = {
        kind: Drawn(summary[kind]["AP"], summary[kind]["AP"] + noise, key)
        for kind in ("box", "mask")
    }
    content = packed(dict.fromkeys(drawn, Matches((1,), ())), drawn)
    (folder / MATCHES).write_bytes(content)
    summary["matches_sha256"] = hashlib.sha256(content).hexdigest()
    (folder / "summary.json").write_text(json.dumps(summary))


def write_benchmark(
    folder: Path,
    seconds: dict[str, list[float]],
    models: list[str],
    *,
    keep: tuple[str, ...] = ("paper",),
    size: str = "800x1088",
    part: str = "network",
    gpu: str | None = None,
    batch: int = 1,
    tokens: int = 3400,
    gmacs: dict[str, float] | None = None,
    kept: float = 0.625,
) -> Path:
    """A folder with `benchmark.json` as `svit benchmark` writes it: variant -> seconds a round.
    `kept`: share of tokens, as the evaluations of `write_result` at a base keep ratio of 0.7 have it."""
    same = {"part": part, "size": size, "batch": batch}
    times = [
        {**same, "variant": variant, "round": turn, "wall_s": value, "cpu_s": value}
        for variant, values in seconds.items()
        for turn, value in enumerate(values)
    ]
    settings = {"models": models, "keep": list(keep), "attention": ["fused"], "dtype": "float32"}
    result = {
        "settings": {**settings, "framework": "auto", "fused": False},
        "environment": {"cpu": "a CPU", "gpu": gpu, "threads": 2},
        "times": times,
        "summary": [
            {
                **same,
                "variant": variant,
                "gmacs": (gmacs or {}).get(variant, 10.0),
                "tokens": tokens,
                "kept_share": kept,
            }
            for variant in seconds
        ],
        "stages": [
            {**same, "variant": variant, "stage": stage, "share": share, "of_ceiling": 0.5}
            for variant in seconds
            for stage, share in (("blocks", 0.75), ("gates", 0.25))
        ],
    }
    folder.mkdir(parents=True)
    (folder / "benchmark.json").write_text(json.dumps(result))
    return folder
