"""What a model does to rows, pictures or numbers that would be told wrongly is refused in a sentence."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from support.hosts import Merging, Pruning, awake, timm_model
from support.scenes import detector
from torch import Tensor, nn

from svit.data.samples import Sample
from svit.probing.adapters.host import HostError
from svit.probing.attach import attach
from svit.probing.prune import prune
from svit.probing.recorder import RecordingError, record
from svit.probing.rows import of_source

SIZE = (64, 96)


def pictures(batch: int = 1) -> Tensor:
    return torch.randn(batch, 3, *SIZE, generator=torch.Generator().manual_seed(1))


def vit(size: tuple[int, int] = SIZE) -> nn.Module:
    return timm_model("vit_tiny_patch16_224", size)


def test_masks_of_a_pruned_model_are_not_told_of_other_blocks_where_only_some_are_named() -> None:
    model = vit()
    with prune(model, "random", [0.5], locations=[1]):
        with pytest.raises(HostError, match="count blocks up to 3, and 2 are named"):
            attach(model, ["blocks.1", "blocks.2"]).__enter__()
        with torch.no_grad(), attach(model, "blocks.*") as tape:
            model(pictures())
    assert [int(tape[f"blocks.{layer}.token_keep"].sum()) for layer in range(3)] == [24, 12, 24]


class Registers(Merging):
    """ToMe on a ViT with registers, of which it knows nothing: the first of them joins the last row."""

    def __init__(self) -> None:
        super().__init__(SIZE)
        self.vit = timm_model("vit_small_patch14_reg4_dinov2", SIZE, patch_size=16)
        for block in self.vit.blocks:
            block.forward = lambda tokens, block=block: self._merged(block, tokens)

    def _merged(self, block: nn.Module, tokens: Tensor) -> Tensor:
        tokens = block.attn(block.norm1(tokens)) + tokens
        rows = tokens.shape[1]
        merge = torch.eye(rows)[[0, *range(2, rows)]].expand(len(tokens), -1, -1).clone()
        merge[:, -1, 1] = 1
        told = self._tome_info["source"]
        self._tome_info["source"] = merge if told is None else merge @ told
        return merge @ tokens / merge.sum(-1, keepdim=True)


def test_registers_that_merge_with_tokens_of_the_picture_are_not_taken_for_tokens() -> None:
    model = Registers()
    refused = pytest.raises(HostError, match="of the 5 tokens before those of the picture some")
    with torch.no_grad(), attach(model), refused:
        model(pictures())


def test_a_token_that_is_told_of_two_rows_is_refused() -> None:
    keep = torch.zeros(1, 24, dtype=torch.bool)
    keep[:, 4:8] = True
    model, twice = Pruning(SIZE, keep, []), torch.tensor([[4, 5, 5, 6]])
    refused = pytest.raises(HostError, match="name a token twice in one picture")
    with torch.no_grad(), attach(model, kept={1: twice, 2: twice}.get), refused:
        model(pictures())


@pytest.mark.parametrize(
    "source", [torch.full((1, 2, 4), 0.5), torch.tensor([[[1.0, 1, 1, 1], [0, 0, 0, 0]]])]
)
def test_a_soft_merge_and_a_row_without_tokens_are_refused(source: Tensor) -> None:
    with pytest.raises(HostError, match="a token in several rows or a row without"):
        of_source(source)


class Within(nn.Module):
    """A ViT that changes its pictures first."""

    def __init__(self, change: Callable[[Tensor], Tensor], size: tuple[int, int]) -> None:
        super().__init__()
        self.change, self.vit = change, vit(size)

    def forward(self, given: Tensor) -> Tensor:
        return self.vit(self.change(given))


def test_tokens_of_pictures_that_the_model_enlarges_are_not_laid_over_its_upper_left_corner() -> (
    None
):
    sample, double = Sample(0, pictures()[0], SIZE), (128, 192)
    large = Within(lambda x: nn.functional.interpolate(x, double, mode="bilinear"), double)
    with torch.no_grad(), attach(large) as tape:
        large(pictures())
        with pytest.raises(RecordingError, match="resizes its pictures"):
            tape.traces([sample])
        large.vit(torch.randn(1, 3, *double))  # by itself it is given pictures of this size
        whole = Sample(0, torch.zeros(3, *double), double)
        assert tape.traces([whole])[0].grid.valid_hw == (8, 12)
    padding = Within(lambda x: nn.functional.pad(x - 0.5, (0, 96, 0, 64)), double)
    with torch.no_grad(), attach(padding) as tape:
        padding(pictures())
        assert tape.traces([sample])[0].grid.valid_hw == (4, 6)


class Listing(Within):
    """A detector's habit: pictures come as a list, are made as high as wide and padded to a batch."""

    def forward(self, given: list[dict[str, Tensor]]) -> Tensor:
        batch = torch.zeros(len(given), 3, 128, 192)
        for row, one in zip(batch, given, strict=True):
            new = self.change(one["image"])
            row[:, : new.shape[1], : new.shape[2]] = new
        return self.vit(batch)


def test_pictures_of_a_list_that_are_enlarged_one_by_one_are_told_from_those_that_are_padded() -> (
    None
):
    whole, small = Sample(0, torch.rand(3, 128, 192), (128, 192)), Sample(1, pictures()[0], SIZE)
    given = [{"image": one.image, "height": one.image_hw[0]} for one in (whole, small)]
    enlarging = Listing(lambda x: nn.functional.interpolate(x[None], (128, 192))[0], (128, 192))
    with torch.no_grad(), attach(enlarging) as tape:
        enlarging(given)
        with pytest.raises(RecordingError, match="resizes its pictures"):
            tape.traces([whole, small])
    padding = Listing(lambda x: x, (128, 192))
    with torch.no_grad(), attach(padding) as tape:
        padding(given)
        assert [one.grid.valid_hw for one in tape.traces([whole, small])] == [(8, 12), (4, 6)]


class HeadsFirst(nn.Module):
    """A block whose attention lies as (heads, pictures, tokens, tokens)."""

    def __init__(self, fused: bool) -> None:
        super().__init__()
        self.fused, self.qkv, self.attn_out = fused, nn.Linear(48, 144), nn.Linear(48, 48)

    def forward(self, tokens: Tensor) -> Tensor:
        query, key, value = self.qkv(tokens).unflatten(2, (3, 3, 16)).permute(2, 3, 0, 1, 4)
        if self.fused:
            mixed = nn.functional.scaled_dot_product_attention(query, key, value)
        else:
            mixed = (query @ key.mT / 4).softmax(-1) @ value
        return tokens + self.attn_out(mixed.permute(1, 2, 0, 3).flatten(2))


@pytest.mark.parametrize("fused", [True, False])
def test_attention_with_heads_before_pictures_does_not_mix_them(fused: bool) -> None:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed = nn.Conv2d(3, 48, 16, 16)
            self.blocks = nn.ModuleList(HeadsFirst(fused) for _ in range(2))

        def forward(self, given: Tensor) -> Tensor:
            tokens = self.embed(given).flatten(2).mT
            for block in self.blocks:
                tokens = block(tokens)
            return tokens

    model = Model().eval()
    with torch.no_grad(), attach(model, "blocks.*") as tape:
        model(pictures(2))
        assert {*tape.measures} == {"update", "norm"}
        model(pictures(1))
        assert "attention" in tape.measures
    refused = pytest.raises(HostError, match="block 1 attends in maps of 3x2 for 2 groups")
    with torch.no_grad(), attach(model, "blocks.*", attention=True), refused:
        model(pictures(2))


class Padded(nn.Module):
    """A model whose last four tokens are padding: they neither ask nor are asked."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Conv2d(3, 48, 16, 16)
        self.blocks = nn.ModuleList(PaddedBlock() for _ in range(2))

    def forward(self, given: Tensor) -> Tensor:
        tokens = self.embed(given).flatten(2).mT
        there = torch.ones(tokens.shape[:2], dtype=torch.bool)
        there[:, -4:] = False
        for block in self.blocks:
            tokens = block(tokens, there[:, None, :, None] & there[:, None, None])
        return tokens


class PaddedBlock(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.attn_out = nn.Linear(48, 144), nn.Linear(48, 48)

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        query, key, value = self.qkv(tokens).unflatten(2, (3, 3, 16)).permute(2, 0, 3, 1, 4)
        mixed = nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        return tokens + self.attn_out(mixed.transpose(1, 2).flatten(2))


def test_padding_that_sees_nothing_does_not_make_the_attention_of_all_tokens_unknown() -> None:
    model = Padded().eval()
    with torch.no_grad(), attach(model, "blocks.*") as tape:
        model(pictures())
    received = tape["blocks.0.attention"][0]
    assert received.isfinite().all() and (received[-4:] == 0).all()
    assert received.sum() == pytest.approx(20)  # of 20 tokens that ask


def test_what_a_forward_uses_up_is_there_after_patches_were_planted() -> None:
    """As the seeds of masks that are drawn: the first forward would else be another one."""
    sampling, sample = detector(inference="sample"), Sample(1, pictures()[0], SIZE)
    with record(sampling) as tape:
        sampling.predict([sample])
    with attach(sampling.backbone, attention=False) as other:
        sampling.predict([sample])
    assert (other.keep() == tape.keep()).all()


def test_numbers_that_are_none_are_not_recorded_as_the_largest_change() -> None:
    model, sample = vit(), Sample("a", pictures()[0], SIZE)
    spoil = model.blocks[1].mlp.register_forward_hook(lambda m, i, out: out * float("nan"))
    with torch.no_grad(), attach(model, attention=False) as tape:
        model(pictures())
        assert tape["blocks.1.update"].isnan().all()
        with pytest.raises(RecordingError, match="'a': block 2 gives numbers that are not finite"):
            tape.traces([sample])
        spoil.remove()
        model(pictures())
        assert tape.traces([sample])[0].keep.all()


def test_a_row_of_zeros_that_stays_one_did_not_change() -> None:
    model = vit()
    for block in model.blocks:
        block.forward = lambda tokens: tokens * 1
    model.norm_pre.register_forward_hook(lambda m, i, out: out * 0)
    with torch.no_grad(), attach(model, attention=False) as tape:
        model(pictures())
    assert (tape["blocks.1.update"] == 0).all()


@pytest.mark.parametrize("kind", ["ResPostBlock", "EvaBlock", "DiffAttention"])
def test_attention_of_blocks_that_only_look_like_timm_s_is_not_read_wrongly(kind: str) -> None:
    from timm.models import eva, vision_transformer

    small = {"img_size": SIZE, "embed_dim": 48, "depth": 3, "num_heads": 3, "num_classes": 0}
    if kind == "EvaBlock":
        model = eva.Eva(**small)
    elif kind == "DiffAttention":
        layers = pytest.importorskip("timm.layers.diff_attention", reason="came with timm 1.0.23")
        model = vision_transformer.VisionTransformer(**small)
        for block in model.blocks:
            block.attn = layers.DiffAttention(48, num_heads=3)
    else:
        block = vision_transformer.ResPostBlock
        model = vision_transformer.VisionTransformer(**small, block_fn=block)
    with pytest.raises(HostError, match="block 3 is not timm's Block"):
        prune(awake(model), "attention", [0.5])
