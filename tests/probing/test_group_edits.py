"""Editing works on groups as on masks: written, lent, permuted, taken back; refused where nothing merges."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from support.tiny_detectors import SETTINGS, samples, varied
from torch import Tensor

from svit.core.presets import load_config
from svit.core.types import TokenTrace
from svit.detectors import build_detector
from svit.detectors.base import Detector
from svit.probing.apply_edits import applied, decide
from svit.probing.edits import Brush, EditError, NoReactivation, Remove
from svit.probing.equal_counts import Control
from svit.probing.interventions import INTERVENTIONS, intervene
from svit.probing.recorder import RecordingError, edit, record
from svit.probing.transplants import Transplant

PAIR = samples((64, 96, 1), (48, 80, 1))  # one with padding


def model(row: str = "tome") -> Detector:
    """A tiny detector of a row that decides in blocks 2 and 3."""
    tiny = [one for one in SETTINGS if not one.startswith("pruning")]
    if row != "vit":
        tiny += ["pruning.options.keep_ratios=[0.7,0.4]", "pruning.options.locations=[1,2]"]
    torch.manual_seed(0)
    config = load_config(f"{row}-plain-nano", [*tiny, "framework=torchvision"])
    return varied(build_detector(config)).eval()


@pytest.fixture(scope="module")
def tome() -> Detector:
    return model()


def traces(
    detector: Detector, edits=(), lender: Detector | None = None, seen=PAIR
) -> list[TokenTrace]:
    with torch.no_grad(), record(detector) as tape, applied(detector, seen, edits, lender=lender):
        detector.predict(seen)
    return tape.traces(seen)


def sizes(group: np.ndarray) -> list[int]:
    return sorted(np.unique(group, return_counts=True)[1].tolist())


def test_groups_written_by_hand_are_those_that_are_used_and_recorded(tome: Detector) -> None:
    def pairs(layer: int, group: Tensor) -> Tensor:
        own = torch.arange(group.shape[1])
        return (own // 2 * 2 if layer else own).expand_as(group)

    with torch.no_grad(), record(tome) as tape, edit(tome, groups=pairs):
        tome.predict(PAIR)
    for trace in tape.traces(PAIR):
        assert (
            (trace.keep.reshape(4, -1)[1:, ::2]).all()
            and not trace.keep.reshape(4, -1)[1:, 1::2].any()
        )
        assert (trace.carried == ~trace.keep).all()
    again = traces(tome)
    with torch.no_grad(), record(tome) as tape:
        tome.predict(PAIR)
    assert all((a.group == b.group).all() for a, b in zip(tape.traces(PAIR), again))


def test_a_model_that_merges_nothing_takes_no_groups() -> None:
    dense = model("vit")
    with (
        pytest.raises(
            RecordingError, match="groups are edited where tokens merge, and Dense merges none"
        ),
        edit(dense, groups=lambda layer, group: group),
    ):
        pass


@pytest.mark.parametrize("kind", ["random", "shuffle"])
def test_controls_move_groups_with_sizes_nesting_and_their_carriers(
    tome: Detector, kind: str
) -> None:
    for before, after in zip(traces(tome), traces(tome, (Control(kind),))):
        assert not (before.group == after.group).all()
        flat = after.group.reshape(4, -1)
        for layer in range(4):
            assert sizes(before.group[layer]) == sizes(after.group[layer])
            assert before.keep[layer].sum() == after.keep[layer].sum()
            valid = before.grid.valid_mask()
            assert before.keep[layer][valid].sum() == after.keep[layer][valid].sum()
            if layer:
                assert (flat[layer][flat[layer - 1]] == flat[layer]).all()
        assert (after.keep | after.carried).all()


@pytest.mark.parametrize("kind", ["oracle", "centre"])
def test_carriers_elsewhere_get_the_tokens_that_are_nearest(tome: Detector, kind: str) -> None:
    for before, after in zip(traces(tome), traces(tome, (Control(kind),))):
        assert (before.keep.sum(axis=(1, 2)) == after.keep.sum(axis=(1, 2))).all()
        assert (after.keep | after.carried).all()
        layer, columns = 3, after.grid.grid_hw[1]
        kept = np.flatnonzero(after.keep[layer])
        for token, carrier in enumerate(after.group[layer].ravel()):
            apart = [
                np.hypot(token // columns - k // columns, token % columns - k % columns)
                for k in kept
            ]
            mine = np.hypot(
                token // columns - carrier // columns, token % columns - carrier % columns
            )
            assert mine == pytest.approx(min(apart))


def test_a_control_in_some_blocks_leaves_the_others_as_they_decide(tome: Detector) -> None:
    changed = traces(tome, (Control("shuffle", layers=(3,)),))
    for before, after in zip(traces(tome), changed):
        assert (before.group[:3] == after.group[:3]).all()
        assert not (before.group[3] == after.group[3]).all()


def test_learned_masks_lent_to_oneself_change_nothing(tome: Detector) -> None:
    with torch.no_grad():
        plain = tome.predict(PAIR)
        with applied(tome, PAIR, (Control("learned"),)):
            lent = tome.predict(PAIR)
    for one, other in zip(plain, lent):
        np.testing.assert_allclose(one.boxes_xyxy, other.boxes_xyxy, atol=1e-3)


@pytest.mark.parametrize("name", [one for one in INTERVENTIONS if one != "invert"])
def test_every_intervention_runs_on_merges(tome: Detector, name: str) -> None:
    with torch.no_grad(), record(tome) as tape, intervene(tome, name, PAIR):
        tome.predict(PAIR)
    kept = [trace.keep.sum(axis=(1, 2)).tolist() for trace in tape.traces(PAIR)]
    expected = {"on": [24, 24, 24, 24], "off": [24, 0, 0, 0]}.get(name, [24, 17, 10, 10])
    assert kept == [expected] * 2


def test_a_brushed_token_leaves_its_group_and_what_its_carrier_loses_is_pruned(
    tome: Detector,
) -> None:
    (plain,) = traces(tome, seen=PAIR[:1])
    token = np.flatnonzero(plain.carried[3])[0]
    carrier = plain.group[3].ravel()[token]
    place = lambda index: ((int(index // 6), int(index % 6)),)  # noqa: E731
    (on,) = traces(tome, (Brush((3,), place(token), True),), seen=PAIR[:1])
    assert on.keep[3].ravel()[token] and on.group[3].ravel()[token] == token
    (off,) = traces(tome, (Brush((3,), place(carrier), False),), seen=PAIR[:1])
    members = plain.group[3].ravel() == carrier
    gone = ~(off.keep | off.carried)[3].ravel()
    assert (gone == members).all()


def test_without_reactivation_merged_tokens_stay_in_the_map_and_so_they_do_when_pruned_ones_go(
    tome: Detector,
) -> None:
    plain = decide(tome, PAIR, [1, 2])
    for edits in ((NoReactivation(),), (Remove(),)):
        found = decide(tome, PAIR, [1, 2], edits)
        assert all(torch.equal(found.keep[layer], plain.keep[layer]) for layer in range(4))
    maps = []
    hook = tome.backbone.method.register_forward_hook(lambda m, i, out: maps.append(out))
    decide(tome, PAIR, [1, 2], (Remove(),))
    hook.remove()
    assert all(one.abs().sum(dim=2).all() for one in maps)  # nothing is zeroed: all are carried


def test_a_recorded_trace_lends_its_groups_and_another_its_masks_alone(tome: Detector) -> None:
    (mine,) = traces(tome, seen=PAIR[:1])
    other = model("merge-near")
    (taken,) = traces(other, (Transplant(mine, "it"),), seen=PAIR[:1])
    assert (taken.group == mine.group).all() and (taken.keep == mine.keep).all()
    (pruned,) = traces(model("random"), seen=PAIR[:1])
    (taken,) = traces(tome, (Transplant(pruned, "it"),), seen=PAIR[:1])
    assert taken.group is None and (taken.keep == pruned.keep).all()
    keys = {Transplant(one, "it").key for one in (mine, pruned)}
    assert len(keys) == 2


def test_groups_are_not_lent_to_a_model_that_merges_nothing(tome: Detector) -> None:
    (mine,) = traces(tome, seen=PAIR[:1])
    plain = model("random")
    with pytest.raises(EditError, match="it merges tokens and this model merges none"):
        traces(plain, (Transplant(mine, "it"),), seen=PAIR[:1])
    with pytest.raises(EditError, match="merges tokens and this model merges none"):
        traces(plain, (Control("learned"),), lender=tome)
    lent = traces(tome, (Control("learned"),), lender=plain)
    assert all(one.group is None for one in lent)
