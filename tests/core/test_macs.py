"""The ledger equals methods.md 12 to three digits and torch's own counter on the real model."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from support.flops import counted
from support.scenes import detector
from torch.utils.flop_counter import FlopCounterMode

from svit.core.catalogue import METHODS, PAPER_KEEP_RATIOS
from svit.core.config import PruningConfig
from svit.core.macs import FLOPS_PER_MAC, HEAD_PARTS, block_macs, ledger
from svit.core.presets import PRESETS, SMALL, TINY
from svit.core.types import FrameId
from svit.data.samples import Sample
from svit.models import build_backbone
from svit.models.layers import doubled
from svit.probing.recorder import record
from svit.pruning.gates import GATES

GRID = (50, 84)  # 800x1333 padded to 800x1344
N = 4200
SCHEDULE = np.array([1, 1, 1, *PAPER_KEEP_RATIOS])
BACKBONES = {"T": TINY, "S": SMALL}
DETECTOR = PRESETS["vit-adapter-t"].detector

# methods.md 12.2 in GMACs: (T, S)
TABLE = {
    "patch_embed": (0.62, 1.24),
    "prior": (24.88, 26.37),
    "injectors": (4.76, 17.26),
    "extractors": (10.64, 37.77),
    "up": (2.48, 9.91),
    "fpn": (57.03, 61.42),
    "rpn": (53.15, 53.15),
    "box_head": (14.30, 14.30),
    "mask_head": (52.99, 52.99),
}


def giga(value: float) -> float:
    return round(value / 1e9, 2)


def whole(size: str, method: str, kept: np.ndarray, detections: int = 100):
    return ledger(BACKBONES[size], DETECTOR, PruningConfig(method), GRID, kept, 1000, detections)


@pytest.mark.parametrize("part", TABLE)
@pytest.mark.parametrize("size", BACKBONES)
def test_parts_equal_the_table(part: str, size: str) -> None:
    found = whole(size, "dense", np.full(12, N))[part]
    assert giga(found) == pytest.approx(TABLE[part]["TS".index(size)], abs=0.011)


@pytest.mark.parametrize(("size", "dense", "sparse"), [("T", 146.95, 95.39), ("S", 344.30, 225.52)])
def test_backbones_equal_the_table(size: str, dense: float, sparse: float) -> None:
    for method, kept, expected in (
        ("dense", np.full(12, N), dense),
        ("svit", SCHEDULE * N, sparse),
    ):
        parts = ledger(BACKBONES[size], None, PruningConfig(method), GRID, kept)
        assert giga(parts.sum()) == pytest.approx(expected, abs=0.015)


@pytest.mark.parametrize(
    ("size", "detections", "dense", "sparse"),
    [
        ("T", 0, 271.4, 219.9),
        ("S", 0, 473.2, 354.4),
        ("T", 100, 324.4, 272.9),
        ("S", 100, 526.2, 407.4),
    ],
)
def test_whole_networks_equal_the_table(
    size: str, detections: int, dense: float, sparse: float
) -> None:
    for method, kept, expected in (
        ("dense", np.full(12, N), dense),
        ("svit", SCHEDULE * N, sparse),
    ):
        assert whole(size, method, kept, detections).sum() / 1e9 == pytest.approx(
            expected, abs=0.06
        )


@pytest.mark.parametrize("ratio", [1.0, 0.7, 0.49, 0.343])
@pytest.mark.parametrize("size", BACKBONES)
def test_one_block_equals_the_table(ratio: float, size: str) -> None:
    expected = {1.0: (8.63, 20.98), 0.7: (4.62, 11.84), 0.49: (2.54, 6.89), 0.343: (1.43, 4.14)}
    found = block_macs(BACKBONES[size], "svit", N, np.full(12, ratio * N))[5]
    assert giga(found) == pytest.approx(expected[ratio]["TS".index(size)], abs=0.006)


@pytest.mark.parametrize(
    ("base", "tiny", "small"),
    [(0.9, 80.08, 198.50), (0.8, 63.43, 159.77), (0.7, 51.67, 131.57), (0.6, 43.35, 110.95)]
    + [(0.5, 37.44, 95.78)],
)
def test_the_base_ratio_sweep_equals_the_table(base: float, tiny: float, small: float) -> None:
    kept = N * np.repeat([1, base, base**2, base**3], 3)
    for backbone, expected in ((TINY, tiny), (SMALL, small)):
        assert giga(block_macs(backbone, "svit", N, kept).sum()) == pytest.approx(
            expected, abs=0.011
        )


@pytest.mark.parametrize(
    ("method", "stages", "tiny", "small"),
    [
        ("evit", (2940, 2058, 1441), 58.08, 145.23),
        ("dynamicvit", (2940, 2057, 1440), 51.66, 131.55),
        ("evovit", (2940, 2058, 1440), 51.70, 131.64),
        ("ats", (2940, 2058, 1440), 54.36, 137.38),
    ],
)
def test_blocks_of_the_peers_equal_the_table(
    method: str, stages: tuple[int, ...], tiny: float, small: float
) -> None:
    kept = np.repeat([N, *stages], 3)
    for backbone, expected in ((TINY, tiny), (SMALL, small)):
        assert giga(block_macs(backbone, method, N, kept).sum()) == pytest.approx(
            expected, abs=0.011
        )


def test_selection_costs_equal_the_table() -> None:
    kept = np.repeat([N, 2940, 2057, 1440], 3)
    for method, expected in (
        ("svit", (0.35, 1.40)),
        ("dynamicvit", (0.76, 3.02)),
        ("evit", (0, 0)),
    ):
        for size, value in zip("TS", expected, strict=True):
            assert giga(whole(size, method, kept)["selection"]) == pytest.approx(value, abs=0.006)


@pytest.mark.parametrize(
    ("gate", "tiny", "small"),
    [("mlp", 0.039, 0.156), ("local_global", 0.252, 1.007), ("head_weighted", 0.084, 0.169)],
)
def test_gates_equal_the_numbers_of_methods_6_5(gate: str, tiny: float, small: float) -> None:
    pruning = PruningConfig("svit", {"gate": gate, "keep_ratios": [0.5]})
    for backbone, expected in ((TINY, tiny), (SMALL, small)):
        parts = ledger(backbone, None, pruning, GRID, np.full(12, N))
        assert parts["selection"] / 1e9 == pytest.approx(expected, abs=0.0006)


@pytest.mark.parametrize("name", METHODS)
def test_every_method_has_formulas_for_its_blocks_and_its_choice(name: str) -> None:
    for row in METHODS[name].rows:
        parts = ledger(TINY, None, PruningConfig(name, dict(row.options)), GRID, np.full(12, N))
        assert parts["blocks"] > 0 and (parts["selection"] > 0 or not row.gated)


def test_unknown_methods_and_wrong_layer_counts_are_refused() -> None:
    with pytest.raises(ValueError, match="no cost formula for method 'guess'"):
        block_macs(TINY, "guess", N, np.full(12, N))
    with pytest.raises(ValueError, match="kept tokens of 12 layers"):
        block_macs(TINY, "dense", N, [N])


def pruned_model(neck: str, gate: str = "mlp") -> torch.nn.Module:
    torch.manual_seed(0)
    config = replace(PRESETS["svit-plain-nano"].backbone, neck=neck)
    options = {"inference": "sample", "gate": gate}
    return build_backbone(config, PruningConfig("svit", options)).eval()


@pytest.mark.parametrize("neck", ["pyramid", "adapter"])
def test_the_gathered_path_does_what_the_ledger_says(neck: str) -> None:
    model, images = pruned_model(neck), torch.randn(1, 3, 128, 160)
    with record(model) as tape:
        flops = counted(model, images)
    kept = tape.keep()[0].sum(axis=(1, 2))
    assert kept.min() < 80  # something was pruned
    macs = block_macs(model.config, "svit", 80, kept)
    for layer in range(12):
        assert flops[f"blocks.{layer}"] == FLOPS_PER_MAC * macs[layer]
    parts = ledger(model.config, None, PruningConfig("svit"), (8, 10), kept)
    modules = {"patch_embed": "patch_embed", "selection": "method.gates"}
    modules |= {"pyramid": "pyramid"} if neck == "pyramid" else {"prior": "spm"}
    for part, module in modules.items():
        assert _below(flops, module) == FLOPS_PER_MAC * parts[part], part


def test_the_up_convolution_does_what_the_ledger_says() -> None:
    """It runs as a matrix product of the whole model, so that no module's own count shows it."""
    model = pruned_model("adapter")
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter:
        doubled(model.up, torch.randn(1, model.channels, 16, 20))
    parts = ledger(model.config, None, PruningConfig("svit"), (8, 10), np.full(12, 80))
    assert counter.get_total_flops() == FLOPS_PER_MAC * parts["up"]


def test_interactions_do_what_the_ledger_says_but_for_the_sampling_torch_cannot_see() -> None:
    model, images = pruned_model("adapter"), torch.randn(1, 3, 128, 160)
    with record(model) as tape:
        flops = counted(model, images)
    kept = tape.keep()[0].sum(axis=(1, 2))
    parts = ledger(model.config, None, PruningConfig("svit"), (8, 10), kept)
    tokens, prior, channels, points = 80, 420, 12, 16  # 48 value channels in 4 heads, 4 points each
    unseen = 5 * channels * (4 * tokens * 3 * points + 6 * prior * points)
    parents = [f"interactions.{group}" for group in range(4)] + ["interactions.3.extra_extractors"]
    found = sum(_below(flops, parent) for parent in parents)
    assert found == FLOPS_PER_MAC * (parts["injectors"] + parts["extractors"] - unseen)


@pytest.mark.parametrize("gate", GATES)
def test_gates_do_what_the_ledger_says(gate: str) -> None:
    flops = counted(pruned_model("pyramid", gate), torch.randn(1, 3, 128, 160))
    config = PRESETS["svit-plain-nano"].backbone
    parts = ledger(config, None, PruningConfig("svit", {"gate": gate}), (8, 10), np.full(12, 80))
    assert _below(flops, "method.gates") == FLOPS_PER_MAC * parts["selection"]


def test_heads_do_what_the_ledger_says() -> None:
    model, counter = detector("dense", detections=2), FlopCounterMode(display=False)
    config = model.config
    with counter:
        (found,) = model.predict([Sample("a", torch.randn(3, 64, 96), (64, 96))])
    assert len(found) == 2
    flops = {name: sum(ops.values()) for name, ops in counter.get_flop_counts().items()}
    kept = np.full(12, 24)
    parts = ledger(config.backbone, config.detector, PruningConfig("dense"), (4, 6), kept, 1, 2)
    assert flops["FeaturePyramidNetwork"] == FLOPS_PER_MAC * parts["fpn"]
    assert flops["ProposalNetwork"] == FLOPS_PER_MAC * parts["rpn"]
    mask = flops["RegionHeads.mask_head"] + flops["RegionHeads.mask_predictor"]
    assert mask == FLOPS_PER_MAC * parts["mask_head"]
    box = flops["RegionHeads.box_head"] + flops["RegionHeads.box_predictor"]
    proposals = box / (FLOPS_PER_MAC * parts["box_head"])
    assert proposals == int(proposals) and 0 < proposals <= config.detector.rpn_post_nms_test


def _below(flops: dict[str, int], module: str) -> int:
    """FLOPs of a module, or of its children where it is only a list."""
    if module in flops:
        return flops[module]
    depth = module.count(".") + 1
    return sum(
        count
        for name, count in flops.items()
        if name.startswith(f"{module}.") and name.count(".") == depth
    )


def test_head_parts_are_no_part_of_a_backbone_ledger() -> None:
    backbone = ledger(TINY, None, PruningConfig("dense"), GRID, np.full(12, N))
    assert not set(HEAD_PARTS) & set(backbone.index)
    assert set(HEAD_PARTS) < set(whole("T", "dense", np.full(12, N)).index)


ROWS = [(name, dict(row.options)) for name, entry in METHODS.items() for row in entry.rows]
FUSED = [
    ("evit", {"fuse": True, "retain": "remove"}),
    ("evit", {"fuse": True, "retain": "preserve"}),
    ("evit", {"fuse": True, "keep_ratio": 0.5, "locations": [0, 7]}),
]


@pytest.mark.parametrize(("name", "options"), ROWS + FUSED)
def test_every_row_does_what_the_ledger_says(name: str, options: dict) -> None:
    """Choosing and fusing included; of methods that store what they computed in a second frame, too."""
    torch.manual_seed(0)
    config, pruning = PRESETS["svit-plain-nano"].backbone, PruningConfig(name, options)
    model = build_backbone(config, pruning).eval()
    images = torch.randn(1, 3, 128, 160)
    for frame in range(2):
        model.show_frames([FrameId("video", frame)])
        with record(model) as tape:
            flops = counted(model, images + frame * torch.randn_like(images))
        parts = ledger(config, None, pruning, (8, 10), tape.keep()[0].sum(axis=(1, 2)))
        # torch does not count products of a matrix with a vector (Cropr's choice) nor sums of products
        # element by element (a cosine): a choice is seen whole or not at all
        seen = (parts.sum(), parts.drop("selection").sum())
        assert max(flops.values()) in [FLOPS_PER_MAC * macs for macs in seen]


def test_a_fused_token_is_paid_where_it_runs() -> None:
    """Behind the attention of a deciding block, and in all blocks after it."""
    kept, config = np.repeat([80, 56, 40, 28], 3), PRESETS["svit-plain-nano"].backbone
    plain, fused = (block_macs(config, "evit", 80, kept, {"fuse": fuse}) for fuse in (False, True))
    a_token = config.embed_dim**2
    assert list((fused - plain)[:4] / a_token) == [0, 0, 0, 2 * config.mlp_ratio]
    assert (fused > plain)[4:].all()


@pytest.mark.parametrize(
    "options",
    [
        {"keep_ratios": [0.5], "locations": [5]},
        {"keep_ratios": [0.5]},
        {"keep_ratios": [0.7, 0.4], "locations": [0, 7]},
        {},
    ],
)
def test_methods_that_decide_at_stages_pay_for_those_they_have(options: dict) -> None:
    """Before, they paid for three at the usual places. A predictor or a query scores all tokens (below)."""
    torch.manual_seed(0)
    config = PRESETS["svit-plain-nano"].backbone
    model = build_backbone(config, PruningConfig("dynamicvit", options)).eval()
    with record(model) as tape:
        model(torch.randn(1, 3, 128, 160))
    kept, dim = tape.keep()[0].sum(axis=(1, 2)), config.embed_dim
    entering = [80, *kept[:-1]]
    tokens = 80 * len(model.method.locations)
    a_token = counted(pruned_model("pyramid", "local_global"), torch.randn(1, 3, 128, 160))
    a_token = _below(a_token, "method.gates") / FLOPS_PER_MAC / 9 / 80
    selection = {
        name: ledger(config, None, PruningConfig(name, options), (8, 10), kept)["selection"]
        for name in ("dynamicvit", "cropr", "tome")
    }
    assert selection["dynamicvit"] == tokens * a_token
    assert selection["cropr"] == tokens * dim
    halves = [-(-entering[layer] // 2) * (entering[layer] // 2) for layer in model.method.locations]
    assert selection["tome"] == sum(halves) * dim // config.heads


@pytest.mark.parametrize("patch", [8, 16, 32])
def test_a_pyramid_on_other_patches_does_what_the_ledger_says(patch: int) -> None:
    torch.manual_seed(0)
    config = replace(PRESETS["vit-plain-nano"].backbone, patch=patch)
    model = build_backbone(config, PruningConfig("dense")).eval()
    flops = counted(model, torch.randn(1, 3, 128, 192))
    grid = (128 // patch, 192 // patch)
    parts = ledger(config, None, PruningConfig("dense"), grid, np.full(12, grid[0] * grid[1]))
    assert _below(flops, "pyramid") == FLOPS_PER_MAC * parts["pyramid"]
