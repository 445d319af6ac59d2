"""Models that show little are recorded where they are told of, and refused in a sentence where not."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from support.hosts import Unfolding, timm_model

from svit.probing.adapters.host import HostError
from svit.probing.attach import attach


def test_a_model_without_a_patch_embedding_is_recorded_from_its_first_forward_by_a_told_grid() -> (
    None
):
    model, pictures = Unfolding().eval(), torch.randn(2, 3, 64, 96)
    with torch.no_grad(), attach(model, grid=(4, 6)) as tape:
        output = model(pictures)
        first = tape.measured()
        assert tape.calls == 1 and tape.patch == 16 and tape.keep().all()
        model(pictures)
        again = tape.measured()
    with torch.no_grad(), attach(model, grid=(4, 6), prefix=0, tokens="raster") as tape:
        assert torch.equal(model(pictures), output)
    assert {*first} == {*again} == {*tape.measures} and {"update", "norm"} <= {*first}
    for name, values in tape.measured().items():
        np.testing.assert_array_equal(first[name], values)
        np.testing.assert_array_equal(again[name], values)
    assert not any(one._forward_hooks or one._forward_pre_hooks for one in model.modules())


def test_attention_that_a_block_reads_twice_is_left_out_unless_it_is_demanded() -> None:
    model, pictures = timm_model("vit_tiny_patch16_224", (64, 64)), torch.randn(1, 3, 64, 64)
    model.blocks[1].norm2.register_forward_hook(lambda m, i, x: x + 0 * (x @ x.mT).softmax(-1) @ x)
    model.blocks[1].norm2.register_forward_hook(lambda m, i, x: x + 0 * (x @ x.mT).softmax(-1) @ x)
    refused = pytest.raises(HostError, match="block 2 attends")
    with torch.no_grad(), attach(model, attention=True), refused:
        model(pictures)
    with torch.no_grad(), attach(model) as tape:
        model(pictures)
    assert {*tape.measures} == {"update", "norm"}


def test_a_convolution_that_cuts_no_patches_is_named_and_the_grid_asked_for() -> None:
    model = Unfolding(unused=True).eval()
    refused = pytest.raises(HostError, match=r"Conv2d\(3, 32.* did not run before the first block")
    with torch.no_grad(), attach(model), refused:
        model(torch.randn(2, 3, 64, 96))
    assert not any(one._forward_hooks or one._forward_pre_hooks for one in model.modules())


@pytest.mark.parametrize("grid", [(8, 12), (2, 3)])
def test_a_grid_of_too_many_or_too_few_tokens_is_said_not_to_fit(grid: tuple[int, int]) -> None:
    model = Unfolding(side=8).eval() if grid == (2, 3) else Unfolding().eval()
    refused = pytest.raises(HostError, match=f"grid does not fit: {grid[0]}x{grid[1]} are")
    with torch.no_grad(), attach(model, grid=grid), refused:
        model(torch.randn(2, 3, 64, 96))


def test_a_model_that_is_called_without_pictures_is_refused_in_a_sentence() -> None:
    model = Unfolding().eval()
    refused = pytest.raises(HostError, match="called without pictures")
    with torch.no_grad(), attach(model, grid=(4, 6)), refused:
        model(torch.randn(3, 64, 96))
