"""How alike pruned tokens are to kept ones."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from support.scenes import detector, shapes

from svit.evaluation.passes import PassOptions
from svit.evaluation.redundancy import measured, redundancy
from svit.probing.edits import EditError


def flags(*places: int) -> torch.Tensor:
    found = torch.zeros(9, dtype=torch.bool)
    found[list(places)] = True
    return found


def test_measures_by_hand_on_nine_tokens():
    rows = torch.zeros(9, 2)
    rows[:] = torch.tensor([1.0, 0.0])
    rows[0] = torch.tensor([0.0, 2.0])  # pruned, a corner
    rows[1] = torch.tensor([3.0, 4.0])  # kept, beside it: cosine .8
    rows[8] = torch.tensor([0.0, 1.0])  # kept, far away: cosine 1
    found = measured(rows, ~flags(0), ~flags(5), (3, 3))
    assert (found["pruned"], found["alone"]) == (1, 0)
    assert found["near"] == pytest.approx(0.8) and found["best"] == pytest.approx(1)
    assert found["lost"] == pytest.approx(0.25)  # of (0, 2), when it becomes (0, 1.5)


def test_a_token_without_kept_neighbours_stands_alone():
    found = measured(torch.rand(9, 4), flags(8), ~flags(4), (3, 3))
    assert (found["pruned"], found["alone"]) == (7, 5)
    nothing = measured(torch.rand(9, 4), flags(), ~flags(), (3, 3))
    assert nothing["alone"] == 9 and np.isnan(nothing["best"])
    assert np.isnan(measured(torch.rand(9, 4), ~flags(), ~flags(), (3, 3))["lost"])


@pytest.mark.parametrize(
    ("method", "done", "options"),
    [("dynamicvit", "removes pruned tokens", {"retain": "remove"}), ("tome", "merges tokens", {})],
)
def test_tokens_that_are_no_longer_in_the_map_are_not_compared(tmp_path, method, done, options):
    with pytest.raises(EditError, match=done):
        redundancy(detector(method, **options), shapes(tmp_path), PassOptions(limit=1))


def test_own_and_shuffled_masks_prune_alike_on_the_same_rows(tmp_path):
    table = redundancy(detector(), shapes(tmp_path), PassOptions(limit=1))
    assert table["block"].unique().tolist() == list(range(4, 13))
    own, shuffled = (table[table["masks"] == name] for name in ("own", "shuffled"))
    assert own["pruned"].tolist() == shuffled["pruned"].tolist() and (own["pruned"] > 0).all()
    assert own["near"].between(-1, 1).all() and (own["best"] >= own["near"] - 1e-6).all()
    assert not np.allclose(own["near"], shuffled["near"])
