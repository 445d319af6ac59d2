"""Every row of the table inside whole backbones: recording, editing, batches, removal, presets, weights."""

from __future__ import annotations

import functools
from collections import Counter
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from svit.core.catalogue import METHODS, ROWS
from svit.core.config import PruningConfig
from svit.core.presets import PRESETS
from svit.models import build_backbone
from svit.models.backbone import Backbone
from svit.probing.recorder import edit, record
from svit.pruning import build_method

ROW = {row.name: row for row in ROWS}
REMOVING = [name for name in ROW if not ROW[name].traits.preserves]
DROPPING = [name for name in ROW if ROW[name].traits.selection != "none"]
PRESERVING = [n for n in DROPPING if ROW[n].traits.preserves and not ROW[n].traits.streams]
NECKS = ("pyramid", "adapter")
IMAGES = torch.randn(2, 3, 64, 96, generator=torch.Generator().manual_seed(0))  # 4 x 6 tokens


@functools.cache
def backbone(name: str, neck: str) -> Backbone:
    """A row on a small body in which selections have something to choose and injectors do something.

    Tests share it, and leave it as it was.
    """
    torch.manual_seed(2)
    body = replace(PRESETS["vit-adapter-nano"].backbone, neck=neck, embed_dim=24, prior_dim=4)
    row = ROW[name]
    options = {**row.options, **({"inference": "topk"} if row.method == "svit" else {})}
    model = build_backbone(body, PruningConfig(row.method, options)).eval()
    for block in model.blocks:
        torch.nn.init.normal_(block.attn.qkv.weight, std=0.4)
    for interaction in getattr(model, "interactions", ()):
        torch.nn.init.constant_(interaction.injector.gamma, 0.5)
    return model


@torch.no_grad()
def look(model: Backbone, images: Tensor, seeds: list[int]) -> tuple[Tensor, dict[int, Tensor]]:
    """The map of stride 16 and the mask of each block."""
    model.seed_images(seeds)
    with record(model) as tape:
        maps = model(images)
    return maps["c4"], dict(tape.masks)


@pytest.mark.parametrize("neck", NECKS)
@pytest.mark.parametrize("name", ROW)
def test_a_batch_decides_as_its_images_one_by_one(name: str, neck: str) -> None:
    model = backbone(name, neck)
    together, masks = look(model, IMAGES, [5, 6])
    for index in range(2):
        alone, own = look(model, IMAGES[index, None], [5 + index])
        assert all(torch.equal(own[layer][0], masks[layer][index]) for layer in masks)
        torch.testing.assert_close(alone[0], together[index], atol=2e-4, rtol=1e-3)


@pytest.mark.parametrize("neck", NECKS)
@pytest.mark.parametrize("name", ROW)
def test_an_edit_is_what_is_used_and_recorded_and_leaves_nothing_behind(
    name: str, neck: str
) -> None:
    """The edit calls every second dropped token back and sends every third kept one away."""
    model, places = backbone(name, neck), torch.arange(24)

    def change(layer: int, keep: Tensor) -> Tensor:
        return torch.where(keep, places % 3 > 0, places % 2 > 0) if layer >= 5 else keep

    asked = {}

    def noted(layer: int, keep: Tensor) -> Tensor:
        asked[layer] = change(layer, keep)
        return asked[layer]

    before, plain = look(model, IMAGES, [5, 6])
    with edit(model, masks=noted):
        edited, masks = look(model, IMAGES, [5, 6])
    assert all(torch.equal(masks[layer], asked[layer]) for layer in range(12))
    assert torch.isfinite(edited).all() and not torch.allclose(edited, before)
    after, again = look(model, IMAGES, [5, 6])
    assert torch.equal(after, before) and all(torch.equal(again[n], plain[n]) for n in plain)


@pytest.mark.parametrize("name", [*REMOVING, *PRESERVING])
def test_extractors_read_zeros_at_removed_tokens_and_features_at_preserved_ones(name: str) -> None:
    """Injectors write into all rows, also removed ones; what they wrote there must be gone again."""
    model, read = backbone(name, "adapter"), []
    hooks = [
        interaction.extractor.register_forward_pre_hook(lambda _, inputs: read.append(inputs[1]))
        for interaction in model.interactions
    ]
    _, masks = look(model, IMAGES, [5, 6])
    for hook in hooks:
        hook.remove()
    for group, tokens in enumerate(read):
        dropped = tokens[~masks[3 * group + 2]]
        targets = model.method.target_ratios()
        # thresholds may find nothing alike in noise
        assert len(dropped) or targets[3 * group + 2] == 1 or model.method.fits
        if ROW[name].traits.preserves:
            assert dropped.abs().sum(dim=1).all()
        else:
            assert torch.equal(dropped, torch.zeros_like(dropped))


@pytest.mark.parametrize("name", ROW)
def test_every_tensor_has_one_name(name: str) -> None:
    model = backbone(name, "adapter")
    named = model.state_dict(keep_vars=True)
    owners = Counter(id(tensor) for tensor in named.values())
    assert [key for key, tensor in named.items() if owners[id(tensor)] > 1] == []
    memory = Counter(tensor.data_ptr() for tensor in named.values())
    assert max(memory.values()) == 1
    assert len(list(model.method.parameters())) == len(set(dict(model.method.named_parameters())))


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_prunes_its_body_down_to_the_paper_s_last_ratio(preset: str) -> None:
    body, pruning = PRESETS[preset].backbone, PRESETS[preset].pruning
    method = build_method(pruning.method, body.embed_dim, body.depth, body.heads, pruning.options)
    targets = method.target_ratios()
    if (
        getattr(method, "fuse", False) and pruning.method == "cropr"
    ):  # all tokens meet in its last block
        assert targets.pop() == 1.0
    assert targets == sorted(targets, reverse=True)
    if pruning.method == "algm":  # from the first block on, in two stages
        assert targets == [0.7] * 4 + [0.56] * 8
        return
    assert targets[:3] == [1.0] * 3
    nothing = METHODS[pruning.method].traits.selection == "none"
    assert targets[-1] == pytest.approx(1.0 if nothing else 0.343)


@pytest.mark.parametrize("eps", [1e-5, 1e-6])
def test_the_eps_of_the_settings_reaches_the_norms_of_the_blocks(eps: float) -> None:
    """The official sparse blocks have torch's 1e-5, dense ones 1e-6 (methods.md 6.6)."""
    body = replace(PRESETS["vit-plain-nano"].backbone, embed_dim=24, norm_eps=eps)
    model = build_backbone(body, PruningConfig())
    assert {norm.eps for block in model.blocks for norm in (block.norm1, block.norm2)} == {eps}
    of = {
        name: PRESETS[f"{name}-adapter-s"].backbone.norm_eps for name in ("svit", "vit", "evovit")
    }
    assert of == {"svit": 1e-5, "vit": 1e-6, "evovit": 1e-6}
