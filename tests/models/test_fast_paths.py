"""Every optimisation against its plain form: same numbers, same gradients, and nothing remembered too long.

The plain forms stand here where the code no longer spells them out.
"""

from __future__ import annotations

import copy
import pickle
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from svit.core.presets import PRESETS
from svit.models import build_backbone
from svit.models.adapter import (
    ConvFeedForward,
    Injector,
    SpatialPrior,
    as_image,
    geometry,
    interpolation,
    resize,
)
from svit.models.deform_attn import DeformableAttention, cell_table, gather_and_mix, sample_and_mix
from svit.models.layers import doubled
from svit.models.size_cache import SizeCache
from svit.pruning.base import run_gathered

CLOSE = {"atol": 1e-5, "rtol": 1e-5}


def backbone(preset: str = "svit-adapter-nano", **changes):
    torch.manual_seed(0)
    config = PRESETS[preset]
    small = {"embed_dim": 24, "prior_dim": 4, **changes}
    return build_backbone(replace(config.backbone, **small), config.pruning).eval()


def trained(module: torch.nn.Module) -> torch.nn.Module:
    """The module with parameters and statistics that are no longer neutral."""
    noise = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for value in module.state_dict().values():
            if value.is_floating_point():
                value += 0.3 * (torch.rand(value.shape, generator=noise) - 0.5)
    return module


# deformable attention


@settings(max_examples=30, deadline=None)
@given(
    shapes=st.lists(st.tuples(st.integers(2, 7), st.integers(2, 7)), min_size=1, max_size=3),
    batch=st.integers(1, 3),
    spread=st.sampled_from([0.0, 1.0, 30.0]),
    seed=st.integers(0, 1000),
)
def test_gathering_rows_equals_sampling_points(shapes, batch, spread, seed) -> None:
    torch.manual_seed(seed)
    heads, points, channels, queries = 2, 3, 5, 4
    value = torch.randn(batch, sum(h * w for h, w in shapes), heads, channels)
    size = torch.tensor([(w, h) for h, w in shapes]).float()[:, None]
    # whole numbers hit cell centres, the others lie anywhere, far outside as well
    at = (spread * torch.randn(batch, queries, heads, len(shapes), points, 2)).round(decimals=1)
    weights = torch.rand(at.shape[:-1])
    plain = sample_and_mix(value, shapes, (at + 0.5) / size, weights)
    x, y = (at[..., axis].flatten(2) for axis in (0, 1))
    table = cell_table(shapes, heads, points, value.device)
    fast = gather_and_mix(value, table, x, y, weights.flatten(2))
    torch.testing.assert_close(fast, plain, atol=1e-4 if spread > 1 else 1e-5, rtol=1e-4)


@pytest.mark.parametrize("shapes", [[(5, 4)], [(8, 6), (4, 3), (2, 2)]])
@pytest.mark.parametrize("batch", [1, 2])
def test_deformable_attention_is_the_same_with_and_without_gradient(shapes, batch) -> None:
    torch.manual_seed(0)
    attention = trained(DeformableAttention(24, len(shapes), 4, 3, 0.5))
    query = torch.randn(batch, 9, 24)
    features = torch.randn(batch, sum(h * w for h, w in shapes), 24)
    plain = attention(query, torch.rand(9, 2, generator=torch.manual_seed(1)), features, shapes)
    with torch.no_grad():
        fast = attention(query, torch.rand(9, 2, generator=torch.manual_seed(1)), features, shapes)
    assert plain.requires_grad and not fast.requires_grad
    torch.testing.assert_close(fast, plain, **CLOSE)


def test_a_level_of_a_single_row_has_no_second_corner_and_takes_the_plain_form() -> None:
    attention = trained(DeformableAttention(24, 1, 4, 3, 0.5))
    query, features, reference = torch.randn(1, 3, 24), torch.randn(1, 4, 24), torch.rand(3, 2)
    plain = attention(query, reference, features, [(1, 4)])
    with torch.no_grad():
        torch.testing.assert_close(attention(query, reference, features, [(1, 4)]), plain)


def test_a_point_that_is_no_number_stays_none_and_addresses_no_memory() -> None:
    attention, features = DeformableAttention(24, 1, 4, 3, 0.5), torch.randn(1, 20, 24)
    query = torch.randn(1, 3, 24)
    query[0, 1] = float("nan")
    with torch.no_grad():
        mixed = attention(query, torch.rand(3, 2), features, [(5, 4)])
    assert mixed[0, 1].isnan().all() and mixed[0, [0, 2]].isfinite().all()


def test_half_precision_gives_the_same_attention_with_and_without_gradient() -> None:
    attention = trained(DeformableAttention(24, 1, 4, 3, 0.5))
    query, features, reference = torch.randn(2, 9, 24), torch.randn(2, 20, 24), torch.rand(9, 2)
    with torch.autocast("cpu", torch.bfloat16):
        plain = attention(query, reference, features, [(5, 4)])
        with torch.no_grad():
            fast = attention(query, reference, features, [(5, 4)])
    assert fast.dtype == plain.dtype
    torch.testing.assert_close(fast, plain, atol=0.05, rtol=0.05)  # bfloat16 keeps 8 bits


# the adapter's convolutions and maps


def plain_prior(prior: SpatialPrior, images: torch.Tensor):
    """Convolutions in torch's own order of channels."""
    c1 = prior.stem(images.contiguous())
    c2 = prior.conv2(c1)
    c3 = prior.conv3(c2)
    c4 = prior.conv4(c3)
    pairs = ((prior.fc2, c2), (prior.fc3, c3), (prior.fc4, c4))
    return prior.fc1(c1), [fc(c).flatten(2).transpose(1, 2) for fc, c in pairs]


def plain_feed_forward(part: ConvFeedForward, prior: torch.Tensor, shapes) -> torch.Tensor:
    levels = part.fc1(prior).transpose(1, 2).split([h * w for h, w in shapes], dim=2)
    images = [part.dwconv.dwconv(x.unflatten(2, s).contiguous()) for x, s in zip(levels, shapes)]
    mixed = torch.cat([image.flatten(2) for image in images], dim=2).transpose(1, 2)
    return part.fc2(F.gelu(mixed))


def gradients(outputs: list[torch.Tensor], module: torch.nn.Module, inputs: torch.Tensor):
    total = sum((value * value).mean() for value in outputs)
    return torch.autograd.grad(total, [inputs, *module.parameters()])


@pytest.mark.parametrize("training", [True, False])
def test_the_channels_last_prior_equals_the_plain_one_with_its_gradients(training: bool) -> None:
    prior = trained(SpatialPrior(4, 12)).train(training)
    images = torch.randn(2, 3, 64, 96, requires_grad=True)
    found = []
    for forward in (prior, lambda x: plain_prior(prior, x)):
        c1, tokens = forward(images)
        found.append(([c1, *tokens], gradients([c1, *tokens], prior, images)))
    for fast, plain in zip(*found):
        for a, b in zip(fast, plain):
            torch.testing.assert_close(a, b, **CLOSE)


def test_the_depthwise_convolution_equals_the_plain_one_with_its_gradients() -> None:
    shapes = [(8, 12), (4, 6), (2, 3)]
    part, prior = trained(ConvFeedForward(12, 6)), torch.randn(2, 126, 12, requires_grad=True)
    fast, plain = part(prior, shapes), plain_feed_forward(part, prior, shapes)
    torch.testing.assert_close(fast, plain, **CLOSE)
    for a, b in zip(gradients([fast], part, prior), gradients([plain], part, prior)):
        torch.testing.assert_close(a, b, **CLOSE)


def test_doubling_equals_the_transposed_convolution_with_its_gradients() -> None:
    up = torch.nn.ConvTranspose2d(6, 6, 2, stride=2)
    image = torch.randn(2, 6, 3, 5, requires_grad=True)
    torch.testing.assert_close(doubled(up, image), up(image), **CLOSE)
    for a, b in zip(gradients([doubled(up, image)], up, image), gradients([up(image)], up, image)):
        torch.testing.assert_close(a, b, **CLOSE)


def test_the_channels_of_a_token_lie_together_in_every_block() -> None:
    model, seen = backbone(), []
    for block in model.blocks:
        block.norm1.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].stride()[2]))
    model(torch.randn(2, 3, 64, 96))
    assert set(seen) == {1}


@pytest.mark.parametrize("factor", [4.0, 2.0, 0.5])
@pytest.mark.parametrize("hw", [(4, 6), (2, 10)])
def test_resizing_by_matrices_equals_bilinear_interpolation(factor: float, hw) -> None:
    image = torch.randn(2, 5, *hw, requires_grad=True)
    plain = F.interpolate(image, scale_factor=factor, mode="bilinear", align_corners=False)
    matrices = [interpolation(side, factor, image.device) for side in hw]
    fast = resize(image, (matrices[0], matrices[1]))
    torch.testing.assert_close(fast, plain, **CLOSE)
    pull = torch.randn(plain.shape)
    slow, quick = (torch.autograd.grad((x * pull).sum(), image)[0] for x in (plain, fast))
    torch.testing.assert_close(quick, slow, **CLOSE)


def test_tokens_become_an_image_without_a_copy() -> None:
    tokens = torch.randn(1, 12, 5)
    image = as_image(tokens, (3, 4))
    assert image.data_ptr() == tokens.data_ptr()
    assert image.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(image[0, :, 1, 2], tokens[0, 6])


def test_the_injector_adds_the_scaled_attention() -> None:
    injector = trained(Injector(PRESETS["svit-adapter-nano"].backbone))
    where = geometry((4, 4), torch.device("cpu"))
    tokens, prior = torch.randn(2, 16, 96), torch.randn(2, 84, 96)
    attended = injector.attn(
        injector.query_norm(tokens), where.token_reference, injector.feat_norm(prior), where.prior
    )
    plain = tokens + injector.gamma * attended
    torch.testing.assert_close(injector(tokens, prior, where), plain, **CLOSE)


@pytest.mark.parametrize("preset", ["vit-adapter-nano", "svit-adapter-nano"])
def test_a_whole_backbone_is_the_same_with_and_without_gradient(preset: str) -> None:
    model = trained(backbone(preset))
    images = torch.randn(2, 3, 64, 96)
    slow = model(images)
    with torch.no_grad():
        fast = model(images)
    for name, plain in slow.items():
        torch.testing.assert_close(fast[name], plain, atol=1e-4, rtol=1e-4)  # over 12 blocks


def test_a_backbone_in_half_precision_stays_close_to_full_precision() -> None:
    model, images = trained(backbone("vit-adapter-nano")), torch.randn(2, 3, 64, 96)
    with torch.no_grad():
        full = model(images)
        with torch.autocast("cpu", torch.bfloat16):
            half = model(images)
    for name, plain in full.items():
        error = (half[name] - plain).abs().mean() / plain.abs().mean()
        assert error < 0.03, (name, error)  # bfloat16 keeps 8 bits


# batch normalisation


def test_at_inference_no_batch_norm_of_the_prior_runs_and_its_maps_are_the_same() -> None:
    model, images = trained(backbone()).spm, torch.randn(1, 3, 64, 64)
    plain = [part.detach() for part in _flat(model(images))]
    norms = [part for part in model.modules() if isinstance(part, torch.nn.BatchNorm2d)]
    for norm in norms:
        norm.forward = None  # would fail if it were called
    with torch.no_grad():
        folded = _flat(model(images))
    for one, other in zip(folded, plain, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)


def test_in_training_batch_norms_see_the_batch() -> None:
    model = trained(backbone()).spm.train()
    seen = [
        int(norm.num_batches_tracked) for norm in model.modules() if hasattr(norm, "running_var")
    ]
    with torch.no_grad():
        model(torch.randn(2, 3, 64, 64))
    now = [
        int(norm.num_batches_tracked) for norm in model.modules() if hasattr(norm, "running_var")
    ]
    assert [one + 1 for one in seen] == now


def _flat(levels: tuple[torch.Tensor, list[torch.Tensor]]) -> list[torch.Tensor]:
    return [levels[0], *levels[1]]


# what is remembered


def test_positions_are_remembered_only_without_gradient_and_until_they_change() -> None:
    model = backbone("vit-plain-nano")
    with torch.no_grad():
        first = model.positions((4, 6))
        assert model.positions((4, 6)) is first
    assert model.positions((4, 6)).requires_grad
    with torch.no_grad():
        model.pos_embed += 1
        torch.testing.assert_close(model.positions((4, 6)), first + 1)
        model.load_state_dict({**model.state_dict(), "pos_embed": model.pos_embed * 0})
        assert not model.positions((4, 6)).any()
        assert model.double().positions((4, 6)).dtype == torch.float64


def test_positions_follow_changes_that_torch_does_not_count() -> None:
    """The optimiser of trainings is fused; evaluations between its steps saw positions of the first one."""
    model = backbone("vit-plain-nano")
    optimiser = torch.optim.AdamW([model.pos_embed], lr=0.1, fused=True)
    for change in ("step", "data"):
        with torch.no_grad():
            model.positions((4, 6))
        counted = model.pos_embed._version
        if change == "step":
            model.pos_embed.grad = torch.ones_like(model.pos_embed)
            optimiser.step()
        else:
            model.pos_embed.data.mul_(2)
        with torch.no_grad():
            assert torch.equal(model.positions((4, 6)), model._resized((4, 6))), change
        assert change == "step" or model.pos_embed._version == counted


def test_what_inference_mode_left_behind_does_not_break_training() -> None:
    model = trained(backbone())
    images = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        expected = model(images)["c4"]
    found = model.train()(images)["c4"]
    found.sum().backward()
    assert model.pos_embed.grad is not None and found.shape == expected.shape


def test_caches_are_in_no_state_dict_and_copies_start_empty() -> None:
    model = backbone()
    names = set(model.state_dict())
    with torch.no_grad():
        model(torch.randn(1, 3, 64, 64))
    assert set(model.state_dict()) == names
    assert len(model._positions) == len(model._geometries) == 1
    assert len(copy.deepcopy(model)._geometries) == 0
    assert len(pickle.loads(pickle.dumps(model._positions))) == 0


def test_the_oldest_result_leaves_first() -> None:
    made: list[int] = []
    recent: SizeCache[int] = SizeCache(limit=2)
    for key in (1, 2, 1, 3, 2, 1):
        assert recent.get(key, lambda key=key: made.append(key) or 10 * key) == 10 * key
    assert made == [1, 2, 3, 1] and len(recent) == 2


# gathering


def test_a_block_that_keeps_everything_is_the_block_itself() -> None:
    model = backbone()
    tokens = torch.randn(1, 12, 24)
    keep = torch.ones(1, 12, dtype=torch.bool)
    assert torch.equal(run_gathered(model.blocks[0], tokens, keep), model.blocks[0](tokens))


@pytest.mark.parametrize("preserve", [True, False])
def test_gathering_never_writes_into_the_callers_tokens(preserve: bool) -> None:
    block, tokens = backbone().blocks[0], torch.randn(1, 12, 24, requires_grad=True)
    keep = torch.arange(12)[None] % 3 > 0
    before = tokens.detach().clone()
    after = run_gathered(block, tokens, keep, preserve=preserve)
    assert torch.equal(tokens, before)
    plain = torch.where(keep[0, :, None], 0.0, before if preserve else 0.0 * before)
    plain[:, keep[0]] = block(tokens[:, keep[0]])
    torch.testing.assert_close(after, plain, **CLOSE)
    pull = torch.randn(after.shape)
    fast = torch.autograd.grad((after * pull).sum(), tokens)[0]
    replaced = tokens * (preserve * ~keep[0, :, None])
    slow_sum = (plain * pull)[:, keep[0]].sum() + (replaced * pull)[:, ~keep[0]].sum()
    torch.testing.assert_close(fast, torch.autograd.grad(slow_sum, tokens)[0], **CLOSE)
