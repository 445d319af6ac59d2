"""`svit benchmark`: how fast a model is, compared fairly, and why it is not faster.

What is compared runs in turn in one process. Keep ratios are forced through `recorder.edit`, so times
depend neither on training nor on pictures; each table says how much of what arithmetic allows (the
ratio of MACs, `svit.core.macs`) was reached, and at which share of this machine's own matmul rate.
Heads work on the same boxes for all (`svit.speed.equal_work`).
Stages and memory are measured in passes of their own, and each stage stands beside the time that this
machine's matmul and memory rates allow its operators (`svit.speed.roofline`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from itertools import product
from typing import Any

import pandas as pd
import torch
from timm.layers import Mlp
from torch import Tensor, nn

from svit.core import macs as compute
from svit.data.samples import Sample, pad_batch
from svit.detectors.base import Detector
from svit.evaluation import provenance
from svit.models.adapter import Extractor, Injector, SpatialPrior
from svit.models.vit import Block
from svit.probing.recorder import record
from svit.pruning.attention import Attention
from svit.pruning.base import declared_stages
from svit.speed import report
from svit.speed.benchmark_cases import Settings, Variant, batches, variants
from svit.speed.roofline import Roofline
from svit.system import products, timing

# modules of the adapter and the blocks -> stage; a method's own time is gathering and scattering
STAGES: tuple[tuple[tuple[type[nn.Module], ...], str], ...] = (
    ((SpatialPrior,), "spatial prior"),
    ((Injector,), "injectors"),
    ((Extractor,), "extractors"),
    ((Block, Attention, Mlp), "blocks"),
)
STAGE_PASSES = 3
HEADS = {  # path of a module in a detector, whatever framework -> stage
    **{"fpn": "fpn", "rpn": "rpn", "roi_heads": "roi heads"},
    **{"model.backbone": "fpn", "model.proposal_generator": "rpn", "model.roi_heads": "roi heads"},
}


def benchmark(settings: Settings) -> tuple[dict[str, Any], dict[str, pd.DataFrame]]:
    """Measures everything. Returns: (environment, settings, verdicts) and tables by name.

    Tables: summary (one row a variant, part, size and batch), stages, crossover, times (every call).

    Raises:
        ValueError: settings that no model fits.
    """
    device = torch.device(settings.device)
    environment = timing.machine(device) | {"commit": provenance.commit()}
    if device.type == "cpu":  # the ceiling is that of the better library
        threads = torch.get_num_threads()
        faster = threads * max(products.rates(threads).values())
        environment["matmul_gflops"] = max(environment["matmul_gflops"], faster)
        environment["products"] = products.told()
    cases: dict[tuple[str, str, int], dict[str, pd.DataFrame]] = {}
    with ExitStack() as edits:
        compared = variants(settings, device, edits)
        for size, batch, part in product(settings.sizes, settings.batches, settings.parts):
            data = compared[0].detector.config.data
            samples = batches(settings, size, batch, device, data)
            measured = _case(part, compared, samples, settings.rounds, environment)
            cases[part, "x".join(map(str, size)), batch] = measured
    tables = {name: _joined(cases, name) for name in ("summary", "stages", "times")}
    plain = tables["summary"][~tables["summary"]["variant"].str.endswith(report.RECORDED)]
    tables["crossover"] = report.crossover(plain)
    if settings.recording:
        tables["recording"] = report.overhead(tables["times"])
    verdicts = _verdicts(plain, tables["stages"], device.type == "cuda")
    told = asdict(settings) | {"images": settings.images and str(settings.images)}
    return {"environment": environment, "settings": told, "verdicts": verdicts}, tables


def _case(
    part: str,
    compared: Sequence[Variant],
    samples: Sequence[Sequence[Sample]],
    rounds: int,
    environment: Mapping[str, Any],
) -> dict[str, pd.DataFrame]:
    """Tables of one part at one size and batch; seconds and multiply-adds are means of a batch."""
    device, padded = samples[0][0].image.device, [pad_batch(batch) for batch in samples]
    works = {
        variant.label: lambda variant=variant: [
            variant.run(part, *batch) for batch in zip(samples, padded, strict=True)
        ]
        for variant in compared
    }
    times = timing.interleave(works, rounds, device)
    times[["wall_s", "cpu_s"]] /= len(samples)
    summary = timing.compare(times, compared[0].label)
    cpu = timing.compare(times, compared[0].label, "cpu_s")
    summary = summary.merge(cpu[["variant", "cpu_s_median", "cpu_s_speedup_median"]], on="variant")
    counts = pd.DataFrame(
        pd.DataFrame(_counted(part, variant, *batch) for batch in zip(samples, padded)).mean()
        for variant in compared
    ).astype({"tokens": int})
    summary = pd.concat([summary, counts], axis=1)
    summary["peak_mb"] = [timing.peak_memory(work, device) / 2**20 for work in works.values()]
    rates = float(environment["matmul_gflops"]), float(environment["copy_gbs"])
    stages = pd.concat(
        [_staged(part, variant, works[variant.label], device, rates) for variant in compared],
        ignore_index=True,
    )
    stages[["seconds", "least_s"]] /= len(samples)
    return {
        "summary": _derived(summary, rates[0]),
        "stages": stages,
        "times": times,
    }


def _joined(cases: Mapping[Any, Mapping[str, pd.DataFrame]], name: str) -> pd.DataFrame:
    """One table of all cases, which its first columns name."""
    tables = {case: tables[name] for case, tables in cases.items()}
    return pd.concat(tables, names=["part", "size", "batch", None]).reset_index([0, 1, 2])


def _counted(
    part: str, variant: Variant, samples: Sequence[Sample], images: Tensor
) -> dict[str, float]:
    """Tokens, kept tokens, proposals, detections and GMACs of the batch, of one run."""
    detector = variant.detector
    proposals = detections = [0] * len(samples)
    with record(detector) as tape, torch.no_grad():
        if part == "backbone":
            detector.backbone(images)
        else:
            proposals, detections = _found(detector, samples)
    keep = tape.keep()
    config, heads = detector.config, detector.config.detector if part == "network" else None
    kept = keep.reshape(*keep.shape[:2], -1).sum(axis=2)  # (B, layers)
    macs = [
        compute.ledger(config.backbone, heads, config.pruning, keep.shape[2:], *counts).sum()
        for counts in zip(kept, proposals, detections)
    ]
    return {
        "tokens": int(keep.shape[2] * keep.shape[3]),
        "kept_share": float(keep.mean()),
        "proposals": sum(proposals) / len(samples),
        "detections": sum(detections) / len(samples),
        "gmacs": float(sum(macs)) / 1e9,
    }


def _found(detector: Detector, samples: Sequence[Sample]) -> tuple[list[int], list[int]]:
    """Proposals and detections of each image."""
    proposals: list[int] = []
    rpn = next(module for module, stage in _heads(detector) if stage == "rpn")
    hook = rpn.register_forward_hook(lambda *call: proposals.extend(map(len, call[2][0])))
    try:
        return proposals, [len(found.labels) for found in detector.predict(samples)]
    finally:
        hook.remove()


def _derived(summary: pd.DataFrame, matmul_gflops: float) -> pd.DataFrame:
    """Adds the speed-up MACs allow, the share of it reached, and rates."""
    limit = summary["gmacs"].iloc[0] / summary["gmacs"]
    rate = compute.FLOPS_PER_MAC * summary["gmacs"] / summary["wall_s_median"]
    return summary.assign(
        mac_limit=limit,
        share_of_limit=summary["speedup_median"] / limit,
        gflops=rate,
        matmul_share=rate / matmul_gflops,
    )


def _staged(
    part: str,
    variant: Variant,
    work: timing.Work,
    device: torch.device,
    rates: tuple[float, float],
) -> pd.DataFrame:
    """Seconds a call and share of each stage, in a pass of its own; the least seconds the machine's
    ceilings (matmul GFLOP/s, copy GB/s) allow its operators, in another; and the one over the other."""
    rest = "post-processing" if part == "network" else "other"  # what no watched module does

    with timing.watched(_parts(variant.detector), device) as stages:
        run = stages.timed(work, rest)
        for _ in range(STAGE_PASSES):
            run()
        seconds = pd.Series(stages.seconds, name="seconds") / STAGE_PASSES
        with Roofline(lambda: stages.current, *rates) as roofline:
            run()
    table = seconds.rename_axis("stage").reset_index()
    least = table["stage"].map(roofline.seconds)
    share = table["seconds"] / seconds.sum()
    of_ceiling = least / table["seconds"]
    return table.assign(share=share, least_s=least, of_ceiling=of_ceiling, variant=variant.label)


def _parts(detector: Detector) -> list[tuple[Callable[..., Any], str]]:
    """Methods to watch and their stages; time in one of none counts for the one around it."""
    backbone = detector.backbone
    parts = [(backbone, "fusion"), (backbone.patch_embed, "embedding"), *_heads(detector)]
    parts.append((backbone.method, "gather and scatter"))
    parts += [(gate, "gates") for gate in backbone.method.gates]
    for kinds, stage in STAGES:
        parts += [(part, stage) for part in backbone.modules() if isinstance(part, kinds)]
    parts += [(norm, "blocks") for block in backbone.blocks for norm in (block.norm1, block.norm2)]
    forwards = [(module.forward, stage) for module, stage in parts]
    return forwards + [one for module in backbone.modules() for one in declared_stages(module)]


def _heads(detector: Detector) -> list[tuple[nn.Module, str]]:
    named = dict(detector.named_modules())
    return [(named[path], stage) for path, stage in HEADS.items() if path in named]


def _verdicts(summary: pd.DataFrame, stages: pd.DataFrame, gpu: bool) -> dict[str, str]:
    shares = stages.set_index([*report.CASE, "stage"])["share"].sort_index()
    several = summary["batch"].nunique() > 1
    found = {}
    for row in summary.itertuples():
        key = (row.part, row.size, row.batch, row.variant)
        told = f"batch {row.batch}" if several else ""
        name = " ".join(filter(None, [row.part, row.size, told, row.variant]))
        found[name] = report.verdict(shares.loc[key].to_dict(), row.matmul_share, gpu)
    return found
