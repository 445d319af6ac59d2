"""Merges: laws of group maps, and a block that runs on carriers (methods.md 13.1)."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from svit.core.catalogue import METHODS
from svit.core.config import BackboneConfig
from svit.models.vit import Block
from svit.pruning.merging import Carriers, MergingMethod

N, DIM = 12, 8
CONFIG = BackboneConfig(embed_dim=DIM, heads=2, depth=4, drop_path=0.0)


@st.composite
def batches(draw: st.DrawFn, images: int = 2) -> tuple[Tensor, Tensor]:
    """Group maps of a batch and the carriers in use, at least one an image."""
    groups, keeps = [], []
    for _ in range(images):
        carriers = draw(st.lists(st.integers(0, N - 1), min_size=1, unique=True))
        group = [n if n in carriers else draw(st.sampled_from(carriers)) for n in range(N)]
        pruned = draw(st.sets(st.sampled_from(carriers), max_size=len(carriers) - 1))
        groups.append(group)
        keeps.append([n in carriers and n not in pruned for n in range(N)])
    return torch.tensor(groups), torch.tensor(keeps)


def tokens(batch: int = 2, seed: int = 0) -> Tensor:
    return torch.randn(batch, N, DIM, generator=torch.Generator().manual_seed(seed))


@given(batches())
def test_merging_what_was_unmerged_changes_nothing(maps) -> None:
    carriers, x = Carriers.of(*maps), tokens()
    rows = carriers.average(x)
    whole = carriers.spread(rows, x)
    torch.testing.assert_close(carriers.average(whole), rows)
    torch.testing.assert_close(carriers.spread(carriers.average(whole), whole), whole)


@given(batches())
def test_sizes_sum_to_the_tokens_that_are_not_pruned(maps) -> None:
    carriers = Carriers.of(*maps)
    present = carriers.kept.present
    sizes = carriers.size if present is None else carriers.size * present
    assert torch.equal(sizes.sum(dim=1).long(), carriers.carried.sum(dim=1))
    everything = Carriers.of(maps[0], maps[0] == torch.arange(N))
    assert everything.carried.all()


@given(batches(), st.data())
def test_nested_maps_compose(maps, data) -> None:
    """Merging rows once more is merging tokens by the composed map: means weighted by sizes are means."""
    group, x = maps[0], tokens()
    first = Carriers.of(group, group == torch.arange(N))
    rows = min(int((group[b] == torch.arange(N)).sum()) for b in range(2))
    into = torch.arange(first.rows).expand(2, -1).clone()
    into[:, 0] = data.draw(st.integers(0, rows - 1))
    into[:, into[0, 0]] = into[0, 0]
    composed = first.joined(into)
    assert torch.equal(composed.gather(1, group), composed)  # coarser, and made of whole groups
    second = Carriers.of(composed, composed == torch.arange(N))
    means, sizes = first.average(x), first.size
    for image in range(2):
        for row, index in enumerate(second.kept.rows[image, :, 0][: second.rows]):
            members = [r for r in range(first.rows) if _row_of(first, image, r, into) == int(index)]
            present = first.kept.present
            members = [r for r in members if present is None or present[image, r]]
            if second.kept.present is not None and not second.kept.present[image, row]:
                continue
            weight = sizes[image, members]
            expected = (means[image, members] * weight[:, None]).sum(dim=0) / weight.sum()
            torch.testing.assert_close(second.average(x)[image, row], expected)


def _row_of(carriers: Carriers, image: int, row: int, into: Tensor) -> int:
    return int(carriers.kept.rows[image, into[image, row], 0])


@given(batches())
def test_a_batch_merges_as_its_images_one_by_one(maps) -> None:
    together, x = Carriers.of(*maps), tokens()
    for image in range(2):
        alone = Carriers.of(maps[0][image, None], maps[1][image, None])
        rows = alone.average(x[image, None])
        assert torch.equal(together.average(x)[image, : alone.rows], rows[0])
        bias, own = together.key_bias(True), alone.key_bias(True)
        if own is not None:
            assert torch.equal(bias[image, : alone.rows], own[0])
        if bias is not None:
            assert bias[image, alone.rows :].eq(float("-inf")).all()


class Halves(MergingMethod):
    """Merges tokens 2k and 2k+1 in block 2, fours in block 3."""

    def __init__(self, dim: int, depth: int, heads: int, *, proportional: bool = True) -> None:
        super().__init__(dim, depth, heads, proportional=proportional)
        self.locations, self.keep_ratios = [1, 2], [0.5, 0.25]
        self.traits = METHODS["dense"].traits

    def decide(self, layer, key, rows, source, state) -> Tensor:
        width = 2 * layer
        return (torch.arange(N) // width * width).expand(len(rows), -1)


@pytest.fixture(scope="module")
def blocks() -> list[Block]:
    torch.manual_seed(1)
    made = [Block(replace(CONFIG), 0.0).eval() for _ in range(4)]
    for block in made:
        nn.init.normal_(block.attn.qkv.weight, std=0.4)
    return made


def run(method: MergingMethod, x: Tensor, blocks, *hooks) -> tuple[Tensor, list[Tensor], list]:
    masks, groups = [], []
    handles = [probe.register_forward_hook(hook) for probe, hook in hooks]
    for probe in method.probes:
        handles.append(probe.register_forward_hook(lambda p, i, out: masks.append(out)))
    for probe in method.merge_probes:
        handles.append(probe.register_forward_hook(lambda p, i, out: groups.append(out)))
    state = method.begin(x, None)
    with torch.no_grad():
        for layer, block in enumerate(blocks):
            x = method(layer, block, x, state)
    for handle in handles:
        handle.remove()
    return x, masks, groups


def test_a_block_computes_carriers_and_every_token_gets_the_value_of_its_own(blocks) -> None:
    """Written out for one image: attention on what entered, the mean of pairs, the MLP on it."""
    method, x = Halves(DIM, 4, 2).eval(), tokens(1)
    out, masks, groups = run(method, x, blocks)
    assert [int(mask.sum()) for mask in masks] == [12, 6, 3, 3]
    assert [group[0, 3] for group in groups] == [3, 2, 0, 0]
    with torch.no_grad():
        y = blocks[0](x)
        y = blocks[1].attend(y).unflatten(1, (6, 2)).mean(dim=2)
        y = blocks[1].feed_forward(y)
        bias = torch.full((1, 6), 2.0).log()
        mixed = blocks[2].attn.mix(*blocks[2].attn.project(blocks[2].norm1(y)), bias)
        y = (y + mixed).unflatten(1, (3, 2)).mean(dim=2)
        y = blocks[2].feed_forward(y)
        mixed = blocks[3].attn.mix(*blocks[3].attn.project(blocks[3].norm1(y)), 2 * bias[:, :3])
        y = blocks[3].feed_forward(y + mixed).repeat_interleave(4, dim=1)
    torch.testing.assert_close(out, y)


def test_proportional_attention_weighs_a_carrier_as_the_equal_tokens_it_carries(blocks) -> None:
    """Where members are equal, merging them changes nothing: the law behind log(size)."""
    x = tokens(1)[:, ::2].repeat_interleave(2, dim=1)
    for proportional in (True, False):
        method = Halves(DIM, 4, 2, proportional=proportional).eval()
        method.locations = [1]
        out, _, _ = run(method, x, blocks)
        dense = x
        with torch.no_grad():
            for block in blocks:
                dense = block(dense)
        assert torch.allclose(
            out, dense, atol=1e-5
        )  # all sizes are equal, so that log(size) cancels
    uneven = x.clone()
    uneven[:, :6] = x[:, :1]  # six equal tokens: one group of six, three of two
    group = torch.tensor([[0] * 6 + [6, 6, 8, 8, 10, 10]])
    carriers = Carriers.of(group, group == torch.arange(N))
    with torch.no_grad():
        block = blocks[0]
        rows, bias = carriers.average(uneven), carriers.key_bias(True)
        merged = rows + block.attn.mix(*block.attn.project(block.norm1(rows)), bias)
        plain = rows + block.attn.mix(*block.attn.project(block.norm1(rows)))
        dense = block.attend(uneven)
    torch.testing.assert_close(carriers.spread(merged, uneven), dense)
    assert not torch.allclose(carriers.spread(plain, uneven), dense, atol=1e-3)


def test_without_a_merge_blocks_are_dense_bit_for_bit(blocks) -> None:
    method, x = Halves(DIM, 4, 2).eval(), tokens()
    method.locations = []
    out, masks, _ = run(method, x, blocks)
    with torch.no_grad():
        for block in blocks:
            x = block(x)
    assert torch.equal(out, x) and all(mask.all() for mask in masks)


def test_a_token_turned_on_leaves_its_group_and_takes_part_from_that_block_on(blocks) -> None:
    method, x = Halves(DIM, 4, 2).eval(), tokens()
    on = [(p, lambda p, i, out: out | (torch.arange(N) == 5)) for p in method.probes]
    plain, _, _ = run(method, x, blocks)
    out, masks, _ = run(method, x, blocks, *on)
    assert [int(mask[0].sum()) for mask in masks] == [12, 7, 4, 4]
    assert not torch.allclose(out[:, 5], plain[:, 5]) and torch.equal(out[:, 6], out[:, 4])
    late, masks, _ = run(
        method, x, blocks, on[3]
    )  # it has its carrier's value by then, and shares its weight
    assert masks[3][0].nonzero().flatten().tolist() == [0, 4, 5, 8]
    torch.testing.assert_close(late, plain)


def test_a_carrier_turned_off_is_pruned_with_those_it_carries(blocks) -> None:
    method, x = Halves(DIM, 4, 2).eval(), tokens()
    off = (method.probes[2], lambda p, i, out: out & (torch.arange(N) != 4))
    maps = []
    hook = method.register_forward_hook(lambda m, i, out: maps.append(out))
    _, masks, _ = run(method, x, blocks, off)
    hook.remove()
    assert masks[3][0].nonzero().flatten().tolist() == [0, 8]  # it stays away
    assert torch.equal(maps[3][:, 4:8], maps[2][:, 4:8])  # block 4 leaves all four as they were
    assert not torch.equal(maps[3][:, :4], maps[2][:, :4])


def test_edited_groups_are_what_the_block_uses(blocks) -> None:
    method, x = Halves(DIM, 4, 2).eval(), tokens()
    method.locations = []
    wanted = torch.tensor([[0, 0, 0, *range(3, N)], [*range(N - 1), 3]])
    out, masks, groups = run(
        method, x, blocks, *((probe, lambda p, i, o: wanted) for probe in method.merge_probes)
    )
    assert torch.equal(masks[0], wanted == torch.arange(N)) and torch.equal(groups[0], wanted)
    assert torch.equal(out[0, 0], out[0, 2]) and torch.equal(out[1, 11], out[1, 3])
    for image in range(2):
        own = wanted[image, None]
        alone, _, _ = run(
            method,
            x[image, None],
            blocks,
            *((probe, lambda p, i, o, own=own: own) for probe in method.merge_probes),
        )
        torch.testing.assert_close(alone[0], out[image])


@pytest.mark.parametrize("wrong", [[[N, *range(1, N)]], [[1, 2, 2, *range(3, N)]]])
def test_groups_whose_carriers_do_not_carry_themselves_are_refused(wrong, blocks) -> None:
    method, x = Halves(DIM, 4, 2).eval(), tokens(1)
    edit = (method.merge_probes[1], lambda p, i, out: torch.tensor(wrong))
    with pytest.raises(ValueError, match="groups of block 2: expected the index of a carrier"):
        run(method, x, blocks, edit)


def test_an_image_with_nothing_left_passes_unchanged_beside_another(blocks) -> None:
    method, x = Halves(DIM, 4, 2).eval(), tokens()
    off = lambda p, i, out: out & torch.tensor([[False], [True]])  # noqa: E731
    edits = [(probe, off) for probe in method.probes]
    out, _, _ = run(method, x, blocks, *edits)
    assert torch.isfinite(out).all()
    none = [(probe, lambda p, i, out: torch.zeros_like(out)) for probe in method.probes]
    untouched, masks, _ = run(method, x, blocks, *none)
    assert torch.isfinite(untouched).all() and not masks[3].any()
