"""Any model with transformer blocks is recorded as it is: its maps lie where its pictures do."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from support import tiny_detectors
from support.hosts import (
    HOSTS,
    SQUARE,
    Grouped,
    Merging,
    Pruning,
    hugging,
    sam,
    timm_model,
    torchvision_vit,
    ungrouped,
)
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from svit.data.samples import Sample
from svit.probing.adapters.host import HostError
from svit.probing.attach import attach
from svit.probing.recorder import RecordingError, record
from svit.pruning.base import TokenProbe

MARKS = {"detectron2 ViTDet": pytest.mark.detectron2}
SIZES = {"landscape": (64, 96), "portrait": (96, 64)}


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def hook_count(model: nn.Module) -> int:
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())


def tensors(output: object) -> list[torch.Tensor]:
    if isinstance(output, torch.Tensor):
        return [output]
    items = output.values() if isinstance(output, dict) else output
    return [one for one in items if isinstance(one, torch.Tensor)]


def model_for(host: str, size: tuple[int, int]) -> tuple[nn.Module, tuple[int, int]]:
    """A model and the size of its padded pictures."""
    return HOSTS[host](size), ((max(size),) * 2 if host in SQUARE else size)


@pytest.mark.parametrize("shape", SIZES)
@pytest.mark.parametrize("host", [pytest.param(name, marks=MARKS.get(name, ())) for name in HOSTS])
def test_outputs_stay_and_a_planted_patch_is_found_where_it_lies(host: str, shape: str) -> None:
    size = SIZES[shape]
    model, padded = model_for(host, size)
    empty, bright = torch.zeros(2, 2, 3, *padded)
    places = [(1, 2), (2, 1)]  # another place in each picture of the batch
    for picture, (row, column) in zip(bright, places):
        picture[:, row * 16 : row * 16 + 16, column * 16 : column * 16 + 16] = 2
    with torch.no_grad():
        before = tensors(model(bright))
        with attach(model) as tape:
            during = tensors(model(bright))
            bright_norm = {name: one[0].clone() for name, one in tape.measures.items()}
            samples = [Sample(i, torch.zeros(3, *size), size) for i in range(2)]
            traces = tape.traces(samples)
            model(empty)
            change = (bright_norm["norm"] - tape["blocks.0.norm"]).abs()
    assert all(torch.equal(one, other) for one, other in zip(before, during, strict=True))
    assert hook_count(model) == 0
    grid = (padded[0] // 16, padded[1] // 16)
    assert tape.grid_hw == grid and tape.patch == 16 and tape.layers == 3
    assert change.argmax(1).tolist() == [row * grid[1] + column for row, column in places]
    for trace in traces:
        assert trace.grid.valid_hw == (size[0] // 16, size[1] // 16) and trace.keep.all()
        assert {*trace.measures} == {"update", "norm", "attention"}
        assert all(np.isfinite(values).all() for values in trace.measures.values())


@pytest.mark.detectron2
def test_a_whole_detector_of_detectron2_is_recorded_through_its_own_config() -> None:
    from detectron2 import model_zoo
    from detectron2.config import LazyConfig, instantiate

    file = Path(model_zoo.__file__).parent / "configs" / "common" / "models" / "mask_rcnn_vitdet.py"
    config = LazyConfig.load(str(file)).model
    small = {"img_size": 128, "embed_dim": 48, "depth": 3, "num_heads": 3}
    config.backbone.net.update(window_size=3, window_block_indexes=[0, 2], **small)
    config.backbone.square_pad = 128
    model = instantiate(config).eval()
    pictures = torch.zeros(2, 3, 96, 64)
    pictures[1, :, 16:32, 32:48] = 255
    with torch.no_grad():
        before = model([{"image": one} for one in pictures])
        with attach(model) as tape:
            during = model([{"image": one} for one in pictures])
    for one, other in zip(before, during, strict=True):
        assert torch.equal(one["instances"].scores, other["instances"].scores)
        assert torch.equal(one["instances"].pred_boxes.tensor, other["instances"].pred_boxes.tensor)
    assert tape.grid_hw == (8, 8) and hook_count(model) == 0
    assert {*tape.measures} == {"update", "norm", "attention"}
    plain, bright = tape["blocks.0.norm"]
    assert (bright - plain).abs().argmax() == 1 * 8 + 2


def test_update_and_norm_are_those_of_the_blocks_input_and_output() -> None:
    model, pictures = timm_model("vit_tiny_patch16_224", (64, 96)), torch.randn(2, 3, 64, 96)
    seen = []
    handle = model.blocks[1].register_forward_hook(lambda *call: seen.append(call[1:]))
    with torch.no_grad(), attach(model, tensors=["hook_in", "hook_out"]) as tape:
        model(pictures)
    handle.remove()
    (((old,), new),) = seen
    old, new = old[:, 1:], new[:, 1:]
    update = (new - old).norm(dim=-1) / old.norm(dim=-1)
    torch.testing.assert_close(tape["blocks.1.update"], update)
    torch.testing.assert_close(tape["blocks.1.norm"], new.norm(dim=-1))
    assert torch.equal(tape["blocks.1.hook_in"], old) and torch.equal(
        tape["blocks.1.hook_out"], new
    )
    assert "blocks.2.token_keep" in tape.names()
    with pytest.raises(KeyError, match="blocks.9.update"):
        tape["blocks.9.update"]


@pytest.mark.parametrize(
    "build", [lambda **kind: hugging("ViT", (64, 96), **kind), lambda **kind: sam((64, 64), **kind)]
)
def test_attention_of_fused_kernels_is_what_the_eager_model_says(build: Callable) -> None:
    """Relative positions and windows included: the model's own weights are the reference."""
    model = build(attn_implementation="sdpa")
    eager = build(attn_implementation="eager")
    eager.load_state_dict(model.state_dict())
    vit = model.config.model_type == "vit"
    pictures = torch.randn(2, 3, *((64, 96) if vit else (64, 64)))
    told = []
    for module in eager.modules():
        if type(module).__name__ in ("ViTAttention", "SamVisionAttention"):
            module.register_forward_hook(lambda m, inputs, output: told.append(output[1]))
    with torch.no_grad(), attach(model) as tape:
        model(pictures)
    with torch.no_grad():
        eager(pictures)
    for layer in range(3):
        got = told[layer].reshape(-1, 3, *told[layer].shape[-2:]).mean(1).sum(1)
        if vit:
            got = got[:, 1:]
        elif layer != 1:  # windows of 2x2 on 4x4 tokens
            got = got.view(2, 2, 2, 2, 2).transpose(2, 3).reshape(2, 16)
        torch.testing.assert_close(tape[f"blocks.{layer}.attention"], got, rtol=1e-4, atol=1e-5)


def test_attention_is_the_same_fused_and_not_and_tells_of_the_class_token() -> None:
    fused, plain = (timm_model("vit_tiny_patch16_224", (64, 96)) for _ in range(2))
    plain.load_state_dict(fused.state_dict())
    for block in plain.blocks:
        block.attn.fused_attn = False
    weights = []
    plain.blocks[0].attn.attn_drop.register_forward_hook(lambda *call: weights.append(call[2]))
    found = []
    for model in (fused, plain):
        with torch.no_grad(), attach(model, class_attention=True) as tape:
            model(torch.linspace(-1, 1, 3 * 64 * 96).view(1, 3, 64, 96))
        found.append(tape.measured())
    for name in ("attention", "class_attention"):
        np.testing.assert_allclose(found[0][name], found[1][name], rtol=1e-4)
    (mean,) = (one.mean(1) for one in weights)
    np.testing.assert_allclose(found[1]["attention"][0, 0].ravel(), mean[0].sum(0)[1:], rtol=1e-4)
    np.testing.assert_allclose(
        found[1]["class_attention"][0, 0].ravel(), mean[0, 0, 1:] * 25, rtol=1e-4
    )


def test_attention_is_read_in_every_mode_of_autograd_and_a_log_softmax_is_none() -> None:
    model, pictures = timm_model("vit_tiny_patch16_224", (64, 64)), torch.randn(1, 3, 64, 64)
    for block in model.blocks:
        block.norm2.register_forward_hook(
            lambda m, i, tokens: tokens + tokens @ tokens.mT.log_softmax(-1) @ tokens * 0
        )
    found = []
    for fused in (True, False):
        for block in model.blocks:
            block.attn.fused_attn = fused
        for mode in (torch.no_grad(), torch.inference_mode(), torch.enable_grad()):
            with mode, attach(model) as tape:
                model(pictures)
            found.append(tape.measured()["attention"])
    with attach(model) as tape:
        model(pictures).sum().backward()
    for other in [*found, tape.measured()["attention"]]:
        np.testing.assert_allclose(other, found[0], rtol=1e-4)


def test_two_recordings_at_once_tell_alike_and_a_counter_counts_the_model_alone() -> None:
    model, pictures = timm_model("vit_tiny_patch16_224", (64, 64)), torch.randn(2, 3, 64, 64)
    with torch.no_grad(), FlopCounterMode(display=False) as alone:
        model(pictures)
    with (
        torch.no_grad(),
        FlopCounterMode(display=False) as beside,
        attach(model) as first,
        attach(model, class_attention=True) as second,
    ):
        model(pictures)
    assert first.measured().keys() == {"update", "norm", "attention"}
    for name, values in first.measured().items():
        np.testing.assert_array_equal(values, second.measured()[name])
    assert beside.get_total_flops() == alone.get_total_flops()


def test_a_recording_in_another_thread_goes_on_while_patches_are_planted() -> None:
    """As of two sessions of one app: what a thread tries out is no concern of the others."""
    unknown, known = torchvision_vit((64, 64)), torchvision_vit((64, 64))
    pictures, seen = torch.randn(2, 3, 64, 64), []

    def elsewhere() -> None:
        with torch.no_grad(), attach(known, tokens="raster", prefix=1) as tape:
            known(pictures)
            seen.append(len(tape.masks))

    def beside(*_: object) -> None:
        other = threading.Thread(target=elsewhere)
        other.start()
        other.join()

    unknown.register_forward_pre_hook(beside)
    with torch.no_grad(), attach(unknown) as tape:
        unknown(pictures)
    assert len(seen) > 1 and set(seen) == {len(tape.masks)}


def test_two_recordings_of_a_model_that_nobody_knows_need_one_to_be_told_how_tokens_lie() -> None:
    model, pictures = torchvision_vit((64, 64)), torch.randn(2, 3, 64, 64)
    with torch.no_grad(), attach(model) as first:
        with attach(model), pytest.raises(HostError, match="another recording of this model"):
            model(pictures)
        with attach(model, tokens="raster", prefix=1) as second:
            model(pictures)
        assert first.prefix == second.prefix == 1 and first.calls == second.calls == 1
        for name, values in first.measured().items():
            np.testing.assert_array_equal(values, second.measured()[name])
    assert hook_count(model) == 0


def test_a_forward_that_fails_leaves_nothing_behind_and_the_next_one_is_recorded() -> None:
    model, pictures = timm_model("vit_tiny_patch16_224", (64, 64)), torch.randn(1, 3, 64, 64)
    stop = model.blocks[1].attn.register_forward_pre_hook(lambda *call: 1 / 0)
    with torch.no_grad(), attach(model) as tape:
        with pytest.raises(ZeroDivisionError):
            model(pictures)
        torch.randn(3, 5, 5).softmax(-1)
        stop.remove()
        model(pictures)
    assert tape.keep().all() and hook_count(model) == 0


def test_padding_of_windows_neither_asks_nor_receives() -> None:
    """5x5 tokens in windows of 2x2: the corner token is alone with padding."""
    model = sam((80, 80))
    for block in model.vision_encoder.layers:
        nn.init.zeros_(block.attn.qkv.weight)
    with torch.no_grad(), attach(model) as tape:
        model(torch.randn(1, 3, 80, 80))
    attention = tape["blocks.0.attention"].view(5, 5)
    torch.testing.assert_close(attention[:4, :4], torch.ones(4, 4))  # all look alike
    torch.testing.assert_close(attention[4, 4], torch.tensor(0.25))


def some_kept() -> torch.Tensor:
    """Ten tokens of 4x6 in each of two pictures, others in each."""
    keep = torch.zeros(2, 24, dtype=torch.bool)
    keep[0, 5:15] = keep[1, 1:20:2] = True
    return keep


def test_tokens_that_a_probe_says_are_dropped_are_gone_from_every_map() -> None:
    """The model of another with our probes in it is recorded without posing as one of ours."""
    keep = some_kept()
    model = Pruning((64, 96), keep, [TokenProbe(1), TokenProbe(2)])
    with torch.no_grad(), attach(model) as tape:
        model(torch.randn(2, 3, 64, 96))
    found = tape.keep().reshape(2, 3, 24)
    assert found[:, 0].all() and (found[:, 1:] == keep[:, None].numpy()).all()
    for values in tape.measured().values():
        assert (np.isnan(values.reshape(2, 3, 24)) == ~found).all()


def test_a_model_that_drops_tokens_silently_is_refused_until_told_by_mask_or_index() -> None:
    keep, pictures = some_kept(), torch.randn(2, 3, 64, 96)
    model = Pruning((64, 96), keep, [])
    refused = pytest.raises(
        HostError, match="block 2 has 10 tokens .* the model does not say which"
    )
    with torch.no_grad(), attach(model), refused:
        model(pictures)
    maps = []
    for told in (keep, keep.nonzero()[:, 1].view(2, 10)):
        with torch.no_grad(), attach(model, kept={1: told, 2: told}.get) as tape:
            model(pictures)
        maps.append(tape.measured()["norm"])
    np.testing.assert_array_equal(*maps)
    refused = pytest.raises(HostError, match=r"the model says \(2, 9\)")
    with torch.no_grad(), attach(model, kept={1: keep[:, :9]}.get), refused:
        model(pictures)


class InPlace(nn.Module):
    """A ViT that writes over its tokens and over one mask of those that it keeps, block by block."""

    def __init__(self, probed: bool) -> None:
        super().__init__()
        self.vit, self.mask = timm_model("vit_tiny_patch16_224", (64, 96)), torch.ones(2, 24) > 0
        self.probes = nn.ModuleList(TokenProbe(layer) for layer in range(3) if probed)
        for block in self.vit.blocks:
            block.forward = lambda tokens, block=block: tokens.add_(block.attn(block.norm1(tokens)))

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        tokens = self.vit._pos_embed(self.vit.patch_embed(pictures))
        self.mask.fill_(True)
        for layer, block in enumerate(self.vit.blocks):
            if self.probes:
                self.probes[layer](self.mask)
            tokens = block(tokens)
            self.mask[:, -1 - layer] = False
            tokens = tokens[:, :-1]
        return tokens


@pytest.mark.parametrize("probed", [True, False])
def test_what_was_recorded_stays_when_the_model_writes_over_it(probed: bool) -> None:
    model, tensors = InPlace(probed), ("hook_in", "hook_out")
    kept = None if probed else lambda layer: model.mask
    with torch.no_grad(), attach(model, kept=kept, tensors=tensors) as tape:
        model(torch.randn(2, 3, 64, 96))
    assert tape.keep().reshape(2, 3, 24).sum(axis=2).tolist() == [[24, 23, 22]] * 2
    for layer in range(3):
        before, after = (tape[f"blocks.{layer}.{name}"] for name in tensors)
        change = (after - before).norm(dim=-1) / before.norm(dim=-1)
        torch.testing.assert_close(change, tape[f"blocks.{layer}.update"], equal_nan=True)


def test_a_model_patched_by_tome_tells_which_tokens_a_row_carries() -> None:
    model = Merging((64, 96))
    with torch.no_grad(), attach(model) as tape:
        model(torch.randn(2, 3, 64, 96))
    keep = tape.keep().reshape(2, 3, 24)
    assert keep.sum(-1).tolist() == [[24, 23, 22]] * 2  # what a block is given
    assert not keep[:, 1, 23].any() and not keep[:, 2, 22:].any()
    assert tape.carriers().reshape(2, 3, 24)[0, 2, [0, 21, 22, 23]].tolist() == [0, 21, 0, 0]
    norm = tape.measured()["norm"].reshape(2, 3, 24)
    assert (norm[:, 0, 0] == norm[:, 0, 23]).all() and (norm[:, 1, 0] == norm[:, 1, 22]).all()
    assert not np.isnan(tape.measured()["update"]).any()
    with pytest.raises(HostError, match="trace_source=True"), attach(Merging((64, 96), False)):
        pass


def test_tokens_in_an_order_unknown_here_are_refused_until_it_is_told() -> None:
    pictures = torch.randn(2, 3, 64, 96)
    for fold, sentence in ((False, "not enter the blocks in raster order"), (True, "groups of 4")):
        model = Grouped(fold).eval()
        refused = pytest.raises(HostError, match=sentence)
        with torch.no_grad(), attach(model, attention=False), refused:
            model(pictures)
        bright = torch.zeros(2, 3, 64, 96)
        bright[:, :, 16:32, 32:48] = 2
        options = {"tokens": ungrouped, "attention": False, "tensors": ["hook_in"]}
        with torch.no_grad(), attach(model, **options) as tape:
            model(torch.zeros(2, 3, 64, 96))
            empty = tape["blocks.0.hook_in"].clone()
            model(bright)
        change = (tape["blocks.0.hook_in"] - empty).norm(dim=-1)
        assert change.argmax(1).tolist() == [8, 8]


def test_blocks_are_called_from_anywhere_and_shared_ones_as_often_as_they_are_listed() -> None:
    model = torchvision_vit((64, 64))
    blocks = [f"encoder.layers.encoder_layer_{i}" for i in (0, 1, 1)]
    model.encoder.layers = nn.Sequential(*(model.get_submodule(name) for name in blocks))
    pictures = torch.randn(1, 3, 64, 64)
    listed = [model.encoder.layers[i] for i in (0, 1, 1)]
    with torch.no_grad(), attach(model, listed, prefix=1) as tape:
        model(pictures)
    assert tape.layers == 3 and tape.keep().shape == (1, 3, 4, 4)
    again = pytest.raises(HostError, match="block 2 ran 2 times in one forward")
    with torch.no_grad(), attach(model, listed[:2], prefix=1), again:
        model(pictures)


def test_a_forward_with_several_calls_of_the_blocks_gives_no_trace() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.vit = timm_model("vit_tiny_patch16_224", (64, 64))

        def forward(self, pictures: torch.Tensor) -> torch.Tensor:
            return self.vit(pictures) + self.vit(pictures.flip(-1))

    model, sample = Twice(), Sample(0, torch.zeros(3, 64, 64), (64, 64))
    with torch.no_grad(), attach(model) as tape:
        model(torch.randn(1, 3, 64, 64))
        with pytest.raises(RecordingError, match="entered the model 2 times in one forward"):
            tape.traces([sample])
        model.vit(torch.randn(1, 3, 64, 64))
        model.vit(torch.randn(1, 3, 64, 64))
        assert tape.traces([sample])[0].keep.all()


def test_a_grid_may_be_given_and_must_fit() -> None:
    model = timm_model("vit_tiny_patch16_224", (64, 96))
    pictures = torch.randn(1, 3, 64, 96)
    for grid in ((4, 6), lambda pictures: (pictures.shape[-2] // 16, pictures.shape[-1] // 16)):
        with torch.no_grad(), attach(model, grid=grid) as tape:
            model(pictures)
        assert tape.grid_hw == (4, 6) and tape.patch == 16
    for grid, sentence in (((2, 3), "block 1 has 24 tokens"), ((4, 4), "into squares")):
        refused = pytest.raises(HostError, match=sentence)
        with torch.no_grad(), attach(model, grid=grid), refused:
            model(pictures)
    refused = pytest.raises(HostError, match="behind a prefix of 2, the grid 4x6")
    with torch.no_grad(), attach(model, prefix=2), refused:
        model(pictures)


def test_no_blocks_two_candidates_and_names_that_are_none_are_named() -> None:
    with (
        pytest.raises(HostError, match="no transformer blocks found in Linear"),
        attach(nn.Linear(2, 2)),
    ):
        pass
    pair = nn.ModuleDict({name: timm_model("vit_tiny_patch16_224", (64, 64)) for name in "ab"})
    several = r"several lists of blocks found: a.blocks.\* \(3 blocks\), b.blocks.\* \(3 blocks\)"
    with pytest.raises(HostError, match=several), attach(pair):
        pass
    with attach(pair, "b.blocks.*") as tape, torch.no_grad():
        pair["b"](torch.randn(1, 3, 64, 64))
    assert tape.keep().all()
    with pytest.raises(HostError, match="names no modules"), attach(pair, "c.blocks.*"):
        pass


def test_traced_and_compiled_models_are_refused() -> None:
    model = timm_model("vit_tiny_patch16_224", (64, 64))
    traced = torch.jit.trace(model, torch.randn(1, 3, 64, 64), check_trace=False)
    compiled = torch.compile(model)
    for other, what in ((traced, "traced"), (compiled, "compiled")):
        with pytest.raises(HostError, match=f"is {what}: hooks see nothing"), attach(other):
            pass


def test_attention_that_shows_no_q_and_k_is_told_and_the_rest_is_recorded_without() -> None:
    model, pictures = timm_model("vit_tiny_patch16_224", (64, 64)), torch.randn(1, 3, 64, 64)
    model.blocks[1].attn.forward = lambda tokens, **_: tokens.flip(1)
    refused = pytest.raises(HostError, match="attention of block 2 cannot be read.*attention=False")
    with torch.no_grad(), attach(model, attention=True), refused:
        model(pictures)
    assert hook_count(model) == 0
    for asked in (False, None):
        with torch.no_grad(), attach(model, attention=asked) as tape:
            model(pictures)
        assert {*tape.measures} == {"update", "norm"}
        assert tape.measured()["norm"].shape == (1, 3, 4, 4)
    model = sam((64, 64))
    with (
        pytest.raises(HostError, match="tells of no class token"),
        attach(model, class_attention=True),
    ):
        pass


def test_our_own_detector_may_be_attached_and_tells_what_record_tells() -> None:
    model = tiny_detectors.build("torchvision").backbone.eval()
    pictures = torch.randn(1, 3, 64, 96)
    with torch.no_grad(), record(model) as ours:
        model(pictures)
    with torch.no_grad(), attach(model, attention=False) as tape:
        model(pictures)
    assert (tape.keep() == ours.keep()).all()
