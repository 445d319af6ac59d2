"""Pruning models of other libraries: nothing moves at a ratio of 1, and what is left out passes unchanged."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from support.hosts import HOSTS, awake, hugging, timm_model
from torch import Tensor, nn

from svit.probing.adapters.host import HostError
from svit.probing.attach import attach
from svit.probing.prune import PLACE, SELECTIONS, falling, prune, rate_curve

quiet = partial(attach, attention=False)
PRUNABLE = ("timm ViT", "timm DeiT", "timm DINOv2", "ViT", "DINOv2 registers", "torchvision ViT")
SIZE = (96, 96)
N = 36


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def pictures(count: int = 2) -> Tensor:
    return torch.randn(count, 3, *SIZE, generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def out(model: nn.Module, x: Tensor) -> Tensor:
    found = model(x)
    return found if isinstance(found, Tensor) else found[0]


def options(host: str) -> dict:
    return {"prefix": 1} if host == "torchvision ViT" else {}


def trace(model: nn.Module, x: Tensor, blocks: list[nn.Module]) -> list[tuple[Tensor, Tensor]]:
    """The tokens before and behind each block."""
    seen, hooks = [], []
    for block in blocks:
        hooks.append(
            block.register_forward_hook(
                lambda _, given, made: seen.append(
                    (given[0], made if isinstance(made, Tensor) else made[0])
                )
            )
        )
    out(model, x)
    for hook in hooks:
        hook.remove()
    return seen


@pytest.mark.parametrize("by", SELECTIONS)
@pytest.mark.parametrize("host", PRUNABLE)
def test_at_a_ratio_of_one_the_outputs_are_the_model_s_bit_for_bit(host: str, by: str) -> None:
    if by == "attention" and not host.startswith("timm"):
        pytest.skip("attention reads timm's blocks")
    model, x = HOSTS[host](SIZE), pictures()
    names, before = list(model.state_dict()), out(model, x)
    with prune(model, by, [1.0, 1.0], **options(host)) as pruned:
        during = out(model, x)
        assert list(model.state_dict()) == names
    assert torch.equal(during, before) and all(mask.all() for mask in pruned.masks.values())


@pytest.mark.parametrize("by", SELECTIONS)
@pytest.mark.parametrize("host", PRUNABLE)
def test_a_picture_is_pruned_alike_in_every_batch_and_nothing_is_left_behind(
    host: str, by: str
) -> None:
    if by == "attention" and not host.startswith("timm"):
        pytest.skip("attention reads timm's blocks")
    model, x = HOSTS[host](SIZE), pictures(3)
    plain = out(model, x)
    with prune(model, by, [0.5, 0.25], **options(host)) as pruned:
        together, masks = out(model, x), dict(pruned.masks)
        assert not torch.allclose(together, plain)
        for index in range(3):
            alone = out(model, x[index, None])
            assert all(torch.equal(pruned.masks[n][0], masks[n][index]) for n in masks)
            torch.testing.assert_close(alone[0], together[index], atol=1e-4, rtol=1e-3)
    assert [int(masks[n][0].sum()) for n in range(3)] == [N, N // 2, N // 4]
    assert torch.equal(out(model, x), plain)
    assert not hasattr(model, PLACE)
    assert not any(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())
    assert not any("forward" in vars(module) for module in model.modules())


@pytest.mark.parametrize("host", PRUNABLE)
def test_rows_left_out_pass_unchanged_and_the_others_see_only_each_other(host: str) -> None:
    model, x = HOSTS[host](SIZE), pictures()
    with prune(model, "random", [0.5], **options(host)) as pruned:
        block, prefix = pruned.blocks[-1], pruned.prefix
        ((before, after),) = trace(model, x, [block])
        keep = pruned.masks[2]
    assert torch.equal(after[:, prefix:][~keep], before[:, prefix:][~keep])
    for index in range(2):
        chosen = torch.cat([torch.ones(prefix, dtype=torch.bool), keep[index]])
        alone = block(before[index, chosen][None])
        alone = alone if isinstance(alone, Tensor) else alone[0]
        torch.testing.assert_close(after[index, chosen], alone[0], atol=1e-4, rtol=1e-3)


def test_attach_shows_the_masks_and_no_update_where_a_token_was_left_out() -> None:
    model, x = HOSTS["timm ViT"](SIZE), pictures()
    with torch.no_grad(), prune(model, "norm", [0.5, 0.5]) as pruned, quiet(model) as tape:
        model(x)
    for layer in range(3):
        assert torch.equal(tape.masks[layer], pruned.masks[layer])
        update = tape[f"blocks.{layer}.update"]
        assert (update[~tape.masks[layer]] == 0).all() and (update[tape.masks[layer]] > 0).all()
    with attach(model), pytest.raises(HostError, match=r"enter prune\(\) before attach\(\)"):
        prune(model, "norm", [0.5])


@pytest.mark.parametrize("host", PRUNABLE)
def test_attention_lies_on_the_rows_that_a_pruned_block_ran_on(host: str) -> None:
    model, x = HOSTS[host](SIZE), pictures()
    with torch.no_grad(), prune(model, "random", [0.5], locations=[1], **options(host)) as pruned:
        with attach(model, prefix=pruned.prefix, tensors=["hook_in"]) as tape:
            model(x)
        keep, found = pruned.masks[1], tape["blocks.1.attention"]
        assert keep.sum(1).tolist() == [N // 2] * 2
        assert torch.equal(found.isnan(), ~keep)
        assert not tape["blocks.0.attention"].isnan().any()
        assert not tape["blocks.2.attention"].isnan().any()


def test_attention_of_a_pruned_block_is_that_of_the_block_on_its_rows_alone() -> None:
    model, x = timm_model("vit_tiny_patch16_224", SIZE), pictures()
    with torch.no_grad(), prune(model, "norm", [0.25], locations=[1]) as pruned:
        with attach(model, class_attention=True) as tape:
            ((before, _),) = trace(model, x, pruned.blocks[1:2])
        keep, block = pruned.masks[1], pruned.blocks[1]
    for index in range(2):
        rows = before[index, torch.cat([torch.tensor([True]), keep[index]])][None]
        qkv = block.attn.qkv(block.norm1(rows)).unflatten(2, (3, block.attn.num_heads, -1))
        query, key, _ = qkv.permute(2, 0, 3, 1, 4)
        weights = (query @ key.transpose(2, 3) * block.attn.scale).softmax(-1).mean(1)[0]
        close = partial(torch.testing.assert_close, atol=1e-5, rtol=1e-4)
        close(tape["blocks.1.attention"][index, keep[index]], weights.sum(0)[1:])
        close(tape["blocks.1.class_attention"][index, keep[index]], weights[0, 1:] * len(weights))


def test_an_edit_of_the_masks_is_what_the_blocks_use() -> None:
    model, x = HOSTS["timm ViT"](SIZE), pictures()
    first = torch.arange(N).expand(2, -1) < 9
    with prune(model, "random", [0.5]) as pruned:
        pruned.probes[1].register_forward_hook(lambda *_: first)
        ((before, after),) = trace(model, x, [pruned.blocks[1]])
        changed = (before != after).any(dim=2)
        pruned.probes[1].register_forward_hook(lambda *_: first & torch.tensor([[True], [False]]))
        with pytest.raises(HostError, match="run the pictures one by one"):
            out(model, x)
    assert torch.equal(changed[:, 1:], first) and changed[:, 0].all()


def test_norm_keeps_the_largest_and_centre_the_middle() -> None:
    model, x = HOSTS["timm ViT"](SIZE), pictures()
    with prune(model, "norm", [0.5, 0.5]) as pruned:
        steps = trace(model, x, pruned.blocks[1:2])
        norm = steps[0][0][:, 1:].norm(dim=2)
        keep = pruned.masks[1]
    assert all(norm[i][keep[i]].min() >= norm[i][~keep[i]].max() for i in range(2))
    with prune(model, "centre", [4 / N]) as pruned:
        out(model, x)
    assert pruned.masks[2][0].unflatten(0, (6, 6))[2:4, 2:4].all()


def test_attention_is_the_class_token_s_row_averaged_over_heads() -> None:
    model, x = timm_model("vit_small_patch14_reg4_dinov2", SIZE, patch_size=16), pictures()
    with prune(model, "attention", [0.5]) as pruned:
        ((before, _),) = trace(model, x, pruned.blocks[2:])
    block = pruned.blocks[2]
    qkv = block.attn.qkv(block.norm1(before)).unflatten(2, (3, block.attn.num_heads, -1))
    query, key, _ = qkv.permute(2, 0, 3, 1, 4)
    row = (query @ key.transpose(2, 3)).mean(1)[:, 0, 5:]
    keep = pruned.masks[2]
    assert all(row[i][keep[i]].min() >= row[i][~keep[i]].max() for i in range(2))


def test_gradients_flow_through_rows_that_were_left_out() -> None:
    model, x = HOSTS["timm ViT"](SIZE), pictures().requires_grad_()
    with prune(model, "random", [0.3, 0.3, 0.3]):
        model.forward_features(x)[:, 1:].square().sum().backward()
    assert torch.isfinite(x.grad).all() and (x.grad.abs().sum(dim=(1, 2, 3)) > 0).all()


@pytest.mark.parametrize(
    ("host", "message"),
    [
        ("timm EVA", "given 'rope' beside its tokens"),
        ("timm SAM", "has windows|has rel_pos|expected tokens"),
    ],
)
def test_blocks_that_know_places_are_refused(host: str, message: str) -> None:
    model = HOSTS[host](SIZE)
    with pytest.raises(HostError, match=message), prune(model, "random", [0.5, 0.5]):
        out(model, pictures())
    assert not hasattr(model, PLACE)


def test_what_cannot_be_asked_is_said_in_a_sentence() -> None:
    model = HOSTS["timm ViT"](SIZE)
    with pytest.raises(ValueError, match="unknown selection 'rando'; near names: random"):
        prune(model, "rando", [0.5])
    with pytest.raises(ValueError, match=r"at most 3 keep ratios .*found 4"):
        prune(model, "random", [0.5] * 4)
    for ratios in (0.5, "half", None):
        with pytest.raises(ValueError, match=r"keep ratios: expected a list, .*found"):
            prune(model, "norm", ratios)
    with pytest.raises(ValueError, match=r"locations: expected a list, .*found 3"):
        prune(model, "norm", [0.5], locations=3)
    with pytest.raises(HostError, match="say how many tokens come before"):
        prune(HOSTS["torchvision ViT"](SIZE), "random", [0.5])
    without = timm_model("vit_tiny_patch16_224", SIZE, class_token=False, global_pool="avg")
    with pytest.raises(HostError, match="tells of no class token in front"):
        prune(without, "attention", [0.5])
    with prune(model, "random", [0.5]), pytest.raises(HostError, match="pruned already"):
        prune(model, "random", [0.5])
    with (
        pytest.raises(HostError, match="is not timm's Block"),
        prune(hugging("ViT", SIZE), "attention", [0.5]),
    ):
        pass
    shared = awake(timm_model("vit_tiny_patch16_224", SIZE))
    shared.blocks[2] = shared.blocks[1]
    with pytest.raises(HostError, match="runs several times"):
        prune(
            shared, "random", [0.5], blocks=[shared.blocks[0], shared.blocks[1], shared.blocks[2]]
        )


def test_a_rate_curve_has_a_line_for_every_selection() -> None:
    model, x = HOSTS["timm ViT"](SIZE), pictures()
    whole = out(model, x)
    curve = rate_curve(model, lambda: float((out(model, x) - whole).norm()), bases=(1.0, 0.5))
    assert list(curve.selection) == ["none", "random", "random", "norm", "norm", "centre", "centre"]
    assert (curve.value[curve.base == 1.0] == 0).all() and (curve.value[curve.base < 1] > 0).all()
    assert falling(0.7, 12) == pytest.approx([0.7] * 3 + [0.49] * 3 + [0.343] * 3)
    assert curve.keep_ratio.min() == pytest.approx((1 + 0.5 + 0.25) / 3)
