"""Methods with state over frames: what is computed, what is reused, and when all is forgotten."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from svit.core.config import BackboneConfig
from svit.core.types import Detections, FrameId, TokenGrid
from svit.models.vit import Block
from svit.pruning import build_method
from svit.pruning.methods.videos.previous_frame import nearness
from svit.pruning.streams import StreamError, StreamMethod, forget

DIM, HEADS, DEPTH, GRID = 24, 3, 4, (5, 8)
N = GRID[0] * GRID[1]
RATIO = [0.25] * DEPTH
STREAMS = {
    "changegate": {"keep_ratios": RATIO},
    "changegate threshold": {"keep_ratios": RATIO, "inference": "threshold", "threshold": 0.05},
    "previousframe": {"keep_ratios": RATIO},
}
FOUND = Detections(
    np.float32([[16, 16, 40, 40], [100, 60, 128, 80]]), np.float32([0.9, 0.3]), np.array([0, 1])
)
PICTURE = TokenGrid((80, 128), (80, 128), GRID, 16)


@pytest.fixture(scope="module")
def blocks() -> list[Block]:
    torch.manual_seed(1)
    config = BackboneConfig(embed_dim=DIM, heads=HEADS, depth=DEPTH, drop_path=0.0)
    made = [Block(config, 0.0).eval() for _ in range(DEPTH)]
    for block in made:  # attention far from uniform: who sees whom matters
        torch.nn.init.normal_(block.attn.qkv.weight, std=0.4)
    return made


def method(name: str, **options) -> StreamMethod:
    return build_method(name.split()[0], DIM, DEPTH, HEADS, {**STREAMS[name], **options}).eval()


def picture(seed: int = 0) -> Tensor:
    return torch.randn(1, N, DIM, generator=torch.Generator().manual_seed(seed))


def moved(before: Tensor, places: list[int], by: float = 1.0) -> Tensor:
    after = before.clone()
    after[:, places] += by
    return after


@torch.no_grad()
def show(
    pruner: StreamMethod,
    x: Tensor,
    blocks: list[Block],
    frame: FrameId | None,
    change: Callable[[int, Tensor], Tensor] | None = None,
    grid_hw: tuple[int, int] = GRID,
) -> tuple[Tensor, list[Tensor]]:
    """The final map and the mask of each block; detections follow the forward as in a detector."""
    masks, hooks = [], []
    for probe in pruner.probes:
        if change:
            hooks.append(probe.register_forward_hook(lambda p, i, out: change(p.layer, out)))
        hooks.append(probe.register_forward_hook(lambda p, i, out: masks.append(out.clone())))
    state = pruner.begin(x, torch.zeros(1, 1, DIM))
    state.grid_hw, state.frames = grid_hw, None if frame is None else [frame]
    for layer, block in enumerate(blocks):
        x = pruner(layer, block, x, state)
    for hook in hooks:
        hook.remove()
    if frame is not None:
        pruner.notice(FOUND, PICTURE)
    return x, masks


@torch.no_grad()
def dense(x: Tensor, blocks: list[Block]) -> Tensor:
    for block in blocks:
        x = block(x)
    return x


@pytest.mark.parametrize("name", STREAMS)
def test_the_first_frame_and_pictures_alone_are_the_dense_model_bit_for_bit(name, blocks) -> None:
    pruner = method(name)
    for frame in (None, FrameId("a", 0), None, FrameId("b", 7)):
        out, masks = show(pruner, picture(), blocks, frame)
        assert torch.equal(out, dense(picture(), blocks)) and all(mask.all() for mask in masks)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("changegate", {"keep_ratios": [1.0] * DEPTH}),
        ("changegate threshold", {"threshold": 0.0}),
        ("previousframe", {"keep_ratios": [1.0] * DEPTH}),
    ],
)
def test_where_every_token_is_computed_every_frame_is_the_dense_model_bit_for_bit(
    name, options, blocks
) -> None:
    pruner = method(name, **options)
    for number in range(3):
        out, masks = show(pruner, picture(number), blocks, FrameId(1, number))
        assert torch.equal(out, dense(picture(number), blocks)) and all(m.all() for m in masks)


@pytest.mark.parametrize("name", ["changegate", "changegate threshold"])
def test_a_still_video_computes_nothing_after_its_first_frame_and_gives_its_output(
    name, blocks
) -> None:
    pruner = method(name)
    first, _ = show(pruner, picture(), blocks, FrameId(1, 0))
    for number in (1, 2):
        out, masks = show(pruner, picture(), blocks, FrameId(1, number))
        assert torch.equal(out, first) and not any(mask.any() for mask in masks)


def test_a_still_video_gives_the_first_frame_s_output_whatever_is_computed_again(blocks) -> None:
    pruner = method("previousframe")
    first, _ = show(pruner, picture(), blocks, FrameId(1, 0))
    out, masks = show(pruner, picture(), blocks, FrameId(1, 1))
    assert [int(mask.sum()) for mask in masks] == [N // 4] * DEPTH
    torch.testing.assert_close(out, first, atol=1e-5, rtol=1e-5)


@settings(max_examples=25, deadline=None)
@given(places=st.sets(st.integers(0, N - 1), min_size=1, max_size=N // 4))
def test_exactly_the_tokens_that_changed_are_computed_again(places: set[int]) -> None:
    torch.manual_seed(1)
    config = BackboneConfig(embed_dim=DIM, heads=HEADS, depth=DEPTH, drop_path=0.0)
    made = [Block(config, 0.0).eval() for _ in range(DEPTH)]
    for name in ("changegate", "changegate threshold"):
        pruner = method(name)
        show(pruner, picture(), made, FrameId(1, 0))
        after = moved(picture(), sorted(places), 2.0)
        _, masks = show(pruner, after, made, FrameId(1, 1))
        assert set(masks[0][0].nonzero().flatten().tolist()) == places
        assert all(set(m[0].nonzero().flatten().tolist()) <= places for m in masks)


def test_the_largest_changes_come_first_and_what_waits_is_not_forgotten(blocks) -> None:
    """Changes are counted from the frame in which a token was last computed, not from the last frame."""
    pruner, x = method("changegate", keep_ratios=[1 / N] * DEPTH), picture()
    show(pruner, x, blocks, FrameId(1, 0))
    seen = []
    x = moved(moved(x, [3], 9.0), [5], 1.0)
    for number in (1, 2, 3):
        _, masks = show(pruner, x, blocks, FrameId(1, number))
        seen.append(masks[0][0].nonzero().flatten().tolist())
    assert seen == [[3], [5], []]


def test_computed_tokens_see_all_others_as_they_were_stored(blocks) -> None:
    """A block by itself: rows of the chosen tokens equal attention over their own new keys and old others."""
    pruner, before, chosen = method("changegate"), picture(0), [1, 4, 30]
    after = moved(before, chosen)
    show(pruner, before, blocks[:1], FrameId(1, 0))
    out, masks = show(pruner, after, blocks[:1], FrameId(1, 1))
    assert masks[0][0].nonzero().flatten().tolist() == chosen
    expected, old = dense(after, blocks[:1]), dense(before, blocks[:1])
    torch.testing.assert_close(out[:, chosen], expected[:, chosen], atol=1e-5, rtol=1e-5)
    rest = [place for place in range(N) if place not in chosen]
    assert torch.equal(out[:, rest], old[:, rest])
    assert not torch.allclose(expected[:, rest], old[:, rest])  # what reuse costs


@pytest.mark.parametrize("name", STREAMS)
def test_an_edit_that_keeps_other_tokens_reuses_alike(name, blocks) -> None:
    """A control has the ability of the method: what it does not keep has its stored output."""
    pruner, other = method(name), torch.arange(N).remainder(4) == 1
    show(pruner, picture(0), blocks[:1], FrameId(1, 0))
    out, masks = show(
        pruner, picture(1), blocks[:1], FrameId(1, 1), lambda layer, keep: other.expand_as(keep)
    )
    assert torch.equal(masks[0][0], other)
    assert torch.equal(out[:, ~other], dense(picture(0), blocks[:1])[:, ~other])
    assert not torch.equal(out[:, other], dense(picture(0), blocks[:1])[:, other])


def test_a_token_that_was_never_computed_passes_and_is_no_key(blocks) -> None:
    pruner, known = method("changegate"), torch.arange(N) < 10
    only = lambda layer, keep: known.expand_as(keep)  # noqa: E731
    out, _ = show(pruner, picture(), blocks[:1], FrameId(1, 0), only)
    assert torch.equal(out[:, 10:], picture()[:, 10:])
    torch.testing.assert_close(out[:, :10], dense(picture()[:, :10], blocks[:1]))
    nothing = lambda layer, keep: torch.zeros_like(keep)  # noqa: E731
    later, _ = show(pruner, picture(1), blocks[:1], FrameId(1, 1), nothing)
    assert torch.equal(later[:, :10], out[:, :10]) and torch.equal(
        later[:, 10:], picture(1)[:, 10:]
    )


@pytest.mark.parametrize("name", STREAMS)
def test_another_video_begins_anew(name, blocks) -> None:
    pruner = method(name)
    for video, number in (("a", 0), ("a", 1), ("b", 0)):
        x = moved(picture(), [3, 4] if number else [])
        out, masks = show(pruner, x, blocks, FrameId(video, number))
        if number == 0:
            assert all(mask.all() for mask in masks)
            assert torch.equal(out, dense(picture(), blocks))
        else:
            assert 0 < masks[0].sum() < N


@pytest.mark.parametrize("number", [0, 3])
def test_frames_that_do_not_follow_are_refused(number: int, blocks) -> None:
    pruner = method("changegate")
    for earlier in (1, 3):  # one may be missing, as a broken file's
        show(pruner, picture(), blocks, FrameId(7, earlier))
    with pytest.raises(StreamError, match=f"video 7: frame {number} came after frame 3.*forget"):
        show(pruner, picture(), blocks, FrameId(7, number))
    forget(pruner)
    _, masks = show(pruner, picture(), blocks, FrameId(7, number))
    assert all(mask.all() for mask in masks)


def test_frames_of_another_size_and_several_at_once_are_refused(blocks) -> None:
    pruner = method("changegate")
    show(pruner, picture(), blocks, FrameId(7, 0))
    with pytest.raises(StreamError, match="frame 1 has 8 x 5 tokens and those before it 5 x 8"):
        show(pruner, picture(), blocks, FrameId(7, 1), grid_hw=GRID[::-1])
    state = pruner.begin(picture().expand(2, -1, -1), torch.zeros(1, 1, DIM))
    state.frames = [FrameId(7, 2), FrameId(7, 3)]
    with pytest.raises(StreamError, match="one frame at a time, found 2 in a batch"):
        pruner(0, blocks[0], picture().expand(2, -1, -1), state)


def test_forwards_apart_go_on_with_a_stream_of_their_own(blocks) -> None:
    pruner, seen = method("changegate"), []
    for number in range(3):
        with pruner.apart("beside"):
            aside, masks = show(pruner, picture(0), blocks, FrameId(1, number))
        seen.append(sum(int(mask.sum()) for mask in masks))
        main, _ = show(pruner, picture(number), blocks, FrameId(1, number))
    assert seen == [DEPTH * N, 0, 0]
    assert not torch.equal(aside, main)


def test_nothing_that_is_carried_along_is_a_weight_and_training_carries_nothing(blocks) -> None:
    pruner = method("changegate").train()
    state = pruner.begin(picture(), torch.zeros(1, 1, DIM))
    state.grid_hw, state.frames = GRID, [FrameId(1, 0)]
    pruner(0, blocks[0], picture(), state)
    assert pruner.stream.frame is None and not pruner.state_dict()


def test_tokens_of_the_previous_frame_s_boxes_come_first_then_those_nearest(blocks) -> None:
    pruner = method("previousframe", keep_ratios=[0.1] * DEPTH)
    show(pruner, picture(0), blocks, FrameId(1, 0))
    _, masks = show(pruner, picture(1), blocks, FrameId(1, 1))
    rows, columns = masks[0].reshape(GRID).nonzero().T
    assert rows.tolist() == [1, 1, 2, 2] and columns.tolist() == [1, 2, 1, 2]  # 16..40 of 16 pixels


def test_nearness_falls_by_half_over_the_reach_and_by_score() -> None:
    near = nearness(FOUND, PICTURE, 2.0)
    assert near[1, 1] == near[2, 1] == pytest.approx(0.9)
    # the middle of the token in column 4 lies 4.5 - 2.5 tokens from the box's right side
    assert near[1, 4] == pytest.approx(0.45)
    assert near[4, 7] == pytest.approx(0.3)
    assert nearness(FOUND[:0], PICTURE, 2.0) is None


def test_a_frame_after_one_without_detections_is_computed_whole(blocks) -> None:
    pruner = method("previousframe")
    show(pruner, picture(0), blocks, FrameId(1, 0))
    pruner.notice(FOUND[:0], PICTURE)
    _, masks = show(pruner, picture(1), blocks, FrameId(1, 1))
    assert all(mask.all() for mask in masks)


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("changegate", {"threshold": -0.1}, "threshold: expected a number from 0"),
        ("changegate", {"inference": "sample"}, "inference: expected one of topk, threshold"),
        ("previousframe", {"reach": 0.0}, "reach: expected a number above 0"),
    ],
)
def test_wrong_options_are_refused(name, options, words) -> None:
    with pytest.raises(ValueError, match=words):
        method(name, **options)
