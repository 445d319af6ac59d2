"""Tokens given back, an object's and as many at random."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from support.scenes import detector

from svit.core.types import TokenGrid
from svit.data.images import prepare
from svit.probing.apply_edits import applied
from svit.probing.edits import EditError, tokens_in
from svit.probing.forced import GiveBack
from svit.probing.recorder import record

BOX, OTHER = (5.0, 5.0, 30.0, 20.0), (32.0, 32.0, 64.0, 64.0)
DRAWS, LAYERS = 2, (4, 5, 8)


def masks_of(model, give_back: GiveBack | None, rows: int):
    """The traces of copies of a picture."""
    pixels = np.random.default_rng(3).integers(0, 255, (64, 64, 3), np.uint8)
    samples = [prepare(pixels, model.config.data, 1)] * rows
    edits = () if give_back is None else (give_back,)
    with torch.no_grad(), applied(model, samples, edits), record(model) as tape:
        model.predict(samples)
    return tape.traces(samples)


def flat(trace) -> np.ndarray:
    return trace.keep.reshape(trace.layers, -1)


def test_a_box_gets_its_tokens_and_each_draw_as_many_at_random():
    model = detector()
    back = GiveBack([BOX, OTHER], LAYERS, DRAWS, range(6))
    traces = masks_of(model, back, 6)
    plain = masks_of(model, None, 1)[0]
    added = torch.stack([back.added[layer] for layer in LAYERS])
    assert (added.view(len(LAYERS), 2, 3) == added.view(len(LAYERS), 2, 3)[:, :, :1]).all()
    assert added[0, 0] > 0
    for row, box in ((0, BOX), (3, OTHER)):
        own = [line * 4 + column for line, column in tokens_in(traces[row].grid, box)]
        assert flat(traces[row])[list(LAYERS)][:, own].all()
        for trace in traces[row : row + 3]:  # the first block decides on what it did without
            assert not (flat(plain)[4] & ~flat(trace)[4]).any()
            assert flat(trace)[4].sum() == flat(plain)[4].sum() + added[0, row]
    assert (flat(traces[1])[4] != flat(traces[2])[4]).any()


def test_what_is_lost_to_a_block_is_not_drawn_for_it():
    model = detector("evit")
    traces = masks_of(model, GiveBack([BOX], tuple(range(3, 12)), 4, range(5)), 5)
    for trace in traces[1:]:
        keep = flat(trace)
        assert not (keep[4:] & ~keep[3:-1]).any()


def test_draws_depend_on_their_seeds_alone():
    model = detector()
    one, other = (
        masks_of(model, GiveBack([BOX], LAYERS, 2, seeds), 3) for seeds in ([0, 1, 2],) * 2
    )
    assert all((a.keep == b.keep).all() for a, b in zip(one, other, strict=True))


def test_rows_that_do_not_fit_and_blocks_that_are_not_there_are_refused():
    model = detector()
    with pytest.raises(EditError, match="expected 3 rows and seeds, 3 an object; found 2 and 3"):
        masks_of(model, GiveBack([BOX], LAYERS, 2, range(3)), 2)
    with pytest.raises(EditError, match="blocks 1 to 12"):
        masks_of(model, GiveBack([BOX], (12,), 2, range(3)), 3)


def test_it_says_what_it_does():
    assert GiveBack([BOX], LAYERS, 2, range(3)).sentence == (
        "tokens of 1 object on in blocks 5–6, 9, beside 2 random draws each"
    )
    assert tokens_in(TokenGrid((64, 64), (64, 64), (4, 4)), BOX)[0] == (0, 0)
