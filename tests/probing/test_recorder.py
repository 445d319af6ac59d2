"""The only door: probes are read and written by hooks that leave no trace."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from svit.core.config import PruningConfig
from svit.core.presets import PRESETS
from svit.data.samples import Sample, pad_batch
from svit.models import build_backbone
from svit.probing.recorder import RecordingError, edit, record
from svit.pruning.base import TokenProbe


def backbone(method: str = "svit", neck: str = "pyramid", **options):
    torch.manual_seed(0)
    config = replace(PRESETS["svit-plain-nano"].backbone, neck=neck, embed_dim=24, prior_dim=4)
    if method == "svit":
        options.setdefault("keep_ratios", [0.5] * 9)
    return build_backbone(config, PruningConfig(method, options)).eval()


def samples(*sizes: tuple[int, int]) -> list[Sample]:
    torch.manual_seed(1)
    return [Sample(i, torch.randn(3, h, w), (2 * h, 2 * w)) for i, (h, w) in enumerate(sizes)]


def hook_count(model: torch.nn.Module) -> int:
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())


@pytest.mark.parametrize("neck", ["pyramid", "adapter"])
def test_recording_changes_no_output_and_leaves_no_hook(neck: str) -> None:
    model, batch = backbone(neck=neck), pad_batch(samples((64, 96)))
    with torch.no_grad():
        before = model(batch)
        with record(model):
            during = model(batch)
    assert all(torch.equal(before[name], during[name]) for name in before)
    assert hook_count(model) == 0


def test_hooks_are_gone_after_an_exception() -> None:
    model = backbone()
    with (
        pytest.raises(ZeroDivisionError),
        record(model),
        edit(model, masks=lambda layer, keep: keep),
    ):
        raise ZeroDivisionError
    assert hook_count(model) == 0


def test_a_dense_model_records_that_it_uses_everything() -> None:
    model = backbone("dense")
    with torch.no_grad(), record(model) as tape:
        model(pad_batch(samples((32, 64))))
    assert tape.keep().shape == (1, 12, 2, 4) and tape.keep().all()
    assert tape.log_odds() is None


def test_traces_carry_the_geometry_of_each_image_in_a_padded_batch() -> None:
    model, items = backbone(), samples((40, 64), (64, 50))
    with torch.no_grad(), record(model) as tape:
        model(pad_batch(items))
    first, second = tape.traces(items)
    assert first.grid.grid_hw == second.grid.grid_hw == (4, 4)
    assert first.grid.valid_hw == (3, 4) and second.grid.valid_hw == (4, 4)
    assert first.grid.image_hw == (80, 128) and (first.image_id, second.image_id) == (0, 1)


def test_masks_agree_with_the_sign_of_the_scores() -> None:
    model, items = backbone(inference="threshold"), samples((64, 64))
    with torch.no_grad(), record(model) as tape:
        model(pad_batch(items))
    (trace,) = tape.traces(items)
    assert ((trace.scores[3:] > 0) == trace.keep[3:]).all()
    assert torch.isnan(torch.tensor(trace.scores[:3])).all()


def test_an_edited_mask_is_what_the_block_uses_and_what_is_recorded() -> None:
    model, batch = backbone(), pad_batch(samples((64, 64)))

    def nothing_in_block_five(layer: int, keep: torch.Tensor) -> torch.Tensor:
        return torch.zeros_like(keep) if layer == 4 else keep

    with torch.no_grad(), edit(model, masks=nothing_in_block_five), record(model) as tape:
        model(batch)
    assert not tape.keep()[0, 4].any()


@pytest.mark.parametrize("method", ["dense", "svit", "dynamicvit", "tome"])
def test_an_edit_may_write_over_the_mask_it_is_given(method: str) -> None:
    """A block that keeps everything took the same tensor for no answer, and ran on all tokens."""
    model, images, found = backbone(method), torch.randn(2, 3, 64, 96), []

    def off(keep: torch.Tensor) -> torch.Tensor:
        keep[:, ::2] = False
        return keep

    for change in (lambda layer, keep: off(keep), lambda layer, keep: off(keep.clone())):
        with torch.no_grad(), edit(model, masks=change), record(model) as tape:
            found.append((model(images), tape.keep()))
    (maps, masks), (others, same) = found
    assert (masks == same).all() and not masks[:, :, :, ::2].any()
    torch.testing.assert_close(maps, others)


def test_forcing_all_masks_on_equals_the_dense_model() -> None:
    sparse, dense, batch = backbone(), backbone("dense"), pad_batch(samples((64, 64)))
    dense.load_state_dict(
        {k: v for k, v in sparse.state_dict().items() if not k.startswith("method.")}, strict=False
    )
    with torch.no_grad(), edit(sparse, masks=lambda layer, keep: torch.ones_like(keep)):
        ours = sparse(batch)
    with torch.no_grad():
        theirs = dense(batch)
    assert all(torch.allclose(ours[name], theirs[name], atol=1e-5) for name in ours)


def test_a_dense_model_can_be_pruned_by_an_edit() -> None:
    model, batch = backbone("dense"), pad_batch(samples((64, 64)))
    with torch.no_grad():
        dense = model(batch)
        with edit(model, masks=lambda layer, keep: torch.zeros_like(keep)):
            skipped = model(batch)
    assert not torch.allclose(dense["c4"], skipped["c4"])


def test_subtracting_from_the_scores_moves_the_threshold() -> None:
    model, batch = backbone(inference="threshold"), pad_batch(samples((64, 64)))
    counts = []
    for shift in (-5.0, 0.0, 5.0):
        with (
            torch.no_grad(),
            edit(model, scores=lambda layer, s, d=shift: s - d),
            record(model) as tape,
        ):
            model(batch)
        counts.append(tape.keep()[0, 3:].sum())
    assert counts[0] == 9 * 16 and counts[2] == 0 and counts[0] > counts[1] > counts[2]


def test_a_probe_that_fires_twice_in_one_forward_is_an_error() -> None:
    model = backbone()
    with record(model), pytest.raises(RecordingError, match="block 1 fired twice"):
        for _ in range(2):
            model.method.probes[0](torch.ones(1, 4, dtype=torch.bool))


def test_an_edit_of_the_wrong_shape_is_named() -> None:
    model, batch = backbone(), pad_batch(samples((64, 64)))
    wrong = edit(model, masks=lambda layer, keep: keep[:, :3])
    with (
        torch.no_grad(),
        wrong,
        pytest.raises(RecordingError, match="block 1 must return torch.bool"),
    ):
        model(batch)


def test_reading_an_empty_tape_says_what_to_do() -> None:
    with record(backbone()) as tape, pytest.raises(RecordingError, match="run a whole forward"):
        tape.keep()


def test_a_model_without_a_backbone_is_refused() -> None:
    with pytest.raises(RecordingError, match="found 0"), record(torch.nn.Linear(2, 2)):
        pass


def test_a_compiled_model_is_neither_recorded_nor_edited() -> None:
    """A compiled method calls the hooks of a few blocks alone: an edit changed three of twelve."""
    part = backbone()
    part.method.compile(backend="eager")
    for model in (torch.compile(backbone(), backend="eager"), part):
        for door in (record(model), edit(model, masks=lambda layer, keep: ~keep)):
            with pytest.raises(RecordingError, match="compiled, and calls hooks of a few"), door:
                pass


def test_every_block_has_exactly_one_token_probe() -> None:
    probes = [m.layer for m in backbone().modules() if type(m) is TokenProbe]
    assert probes == list(range(12))
