"""The live session: edits compose and do what their names say, and leave nothing behind."""

from __future__ import annotations

import io
import math
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from support.scenes import nano

from svit.data.images import prepare
from svit.data.reading import ImageError
from svit.data.shapes import CLASSES
from svit.detectors import build_detector
from svit.detectors.base import Detector
from svit.live.pictures import Picture, drawn, recorded, uploaded
from svit.live.session import Latency, Outcome, Session, median_interval
from svit.live.workplace import Busy, Workplace, checkpoints, new_run
from svit.probing.apply_edits import applied
from svit.probing.edits import (
    Brush,
    Edit,
    EditError,
    KeepBox,
    KeepRatio,
    NoReactivation,
    Remove,
    Shift,
    tokens_in,
)
from svit.probing.equal_counts import Control
from svit.probing.recorder import record
from svit.probing.transplants import Transplant
from svit.runs.run import RunError, open_run
from svit.weights import checkpoint
from svit.weights.safe_read import CheckpointError

PICTURE = drawn(7, size=64)  # 16 tokens
WIDE = Picture(np.zeros((64, 96, 3), np.uint8), 1, "nothing")
GATED = list(range(3, 12))
tokens = st.tuples(st.integers(0, 3), st.integers(0, 3))
layers = st.lists(st.integers(0, 11), min_size=1, max_size=4, unique=True).map(tuple)
brushes = st.builds(
    Brush,
    layers,
    st.none() | st.lists(tokens, min_size=1, max_size=5, unique=True).map(tuple),
    st.booleans(),
)
edits = st.lists(
    brushes
    | st.builds(Shift, st.floats(-1, 1))
    | st.builds(Control, st.sampled_from(["random", "shuffle"]), st.integers(0, 3))
    | st.builds(KeepRatio, st.floats(0.1, 0.9))
    | st.just(NoReactivation()),
    max_size=3,
)
few = settings(max_examples=10)


def detector(method: str = "svit", seed: int = 0, **options) -> Detector:
    """Twelve blocks over 16 tokens, with heads so small that they cost next to nothing."""
    config = nano(method, **options)
    torch.manual_seed(seed)
    small = {"fpn_dim": 16, "box_head_dim": 16, "mask_head_dim": 8}
    small |= {"rpn_pre_nms_test": 20, "rpn_post_nms_test": 10}
    return build_detector(replace(config, detector=replace(config.detector, **small))).eval()


@pytest.fixture(scope="module")
def session() -> Session:
    return Session(detector(inference="threshold", keep_ratios=[0.7] * 3 + [0.49] * 6))


@pytest.fixture(scope="module")
def plain(session: Session) -> Outcome:
    return session.run(PICTURE)


def hooks(session: Session) -> int:
    parts = session.detector.modules()
    return sum(len(part._forward_hooks) + len(part._forward_pre_hooks) for part in parts)


def same(first: Outcome, second: Outcome) -> bool:
    names = ("boxes_xyxy", "scores", "labels", "masks")
    found = (getattr(one.detections, name) for name in names for one in (first, second))
    return (first.trace.keep == second.trace.keep).all() and all(
        np.array_equal(a, b) for a, b in zip(found, found, strict=True)
    )


def test_no_edits_are_the_plain_forward_bit_for_bit(session: Session, plain: Outcome) -> None:
    sample = prepare(PICTURE.pixels, session.detector.config.data, PICTURE.image_id)
    with record(session.detector) as tape:
        expected = session.detector.predict([sample])[0]
    assert (tape.keep()[0] == plain.trace.keep).all()
    for name in ("boxes_xyxy", "scores", "labels", "masks"):
        assert np.array_equal(getattr(expected, name), getattr(plain.detections, name))
    backbone, images = session.detector.backbone, torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        maps = backbone(images)
        with applied(session.detector, [sample], ()):
            again = backbone(images)
    assert all(torch.equal(maps[name], again[name]) for name in maps)


@few
@given(chain=edits, layers=layers, place=st.lists(tokens, min_size=1, unique=True).map(tuple))
def test_tokens_turned_on_last_are_on(
    session: Session, chain: list[Edit], layers: tuple, place: tuple
) -> None:
    keep = session.run(PICTURE, (*chain, Brush(layers, place, on=True))).trace.keep
    assert all(keep[layer][row, column] for layer in layers for row, column in place)


@few
@given(chain=edits)
def test_without_reactivation_masks_only_shrink(session: Session, chain: list[Edit]) -> None:
    keep = session.run(PICTURE, (*chain, NoReactivation())).trace.keep
    assert not (keep[1:] & ~keep[:-1]).any()


@few
@given(chain=edits, kind=st.sampled_from(["random", "shuffle"]), seed=st.integers(0, 5))
def test_controls_keep_the_counts_of_the_edits_before(
    session: Session, chain: list[Edit], kind: str, seed: int
) -> None:
    counts = session.run(PICTURE, chain).trace.keep.sum(axis=(1, 2))
    moved = session.run(PICTURE, (*chain, Control(kind, seed))).trace.keep.sum(axis=(1, 2))
    assert moved.tolist() == counts.tolist()


@few
@given(chain=edits)
def test_a_session_is_as_before_after_any_edits(
    session: Session, plain: Outcome, chain: list[Edit]
) -> None:
    session.run(PICTURE, chain)
    assert hooks(session) == 0 and same(session.run(PICTURE), plain)


def test_a_shift_moves_the_threshold(session: Session, plain: Outcome) -> None:
    scores = plain.trace.scores[3].astype(np.float32)
    keep = session.run(PICTURE, (Shift(0.05),)).trace.keep[3]
    assert (keep == (scores > 0.05)).mean() > 0.9  # float16 scores, so ties may differ
    assert session.run(PICTURE, (Shift(50.0),)).trace.keep[GATED].sum() == 0
    assert session.run(PICTURE, (Shift(-50.0),)).trace.keep.all()


@pytest.mark.parametrize("base", [0.25, 0.5, 0.75])
def test_a_keep_ratio_follows_the_schedule(session: Session, base: float) -> None:
    ratios = session.run(PICTURE, (KeepRatio(base),)).trace.keep.mean(axis=(1, 2))
    expected = [1.0] * 3 + [base] * 3 + [base**2] * 6  # targets .7 and .49 = .7 squared
    assert ratios == pytest.approx(expected, abs=1 / 32 + 1e-9)  # half a token of 16


@pytest.mark.parametrize(
    ("method", "options"),
    [
        ("dynamicvit", {}),
        (
            "svit",
            {"inherit": True, "keep_ratios": [0.7, 0.49, 0.343], "inference": "threshold"},
        ),
    ],
)
def test_a_keep_ratio_of_a_method_that_inherits_shrinks(method: str, options: dict) -> None:
    model = Session(detector(method, **options))
    keep = model.run(PICTURE, (KeepRatio(0.5),)).trace.keep
    assert keep.sum(axis=(1, 2)).tolist() == [16] * 3 + [8] * 3 + [4] * 3 + [2] * 3
    assert not (keep[1:] & ~keep[:-1]).any()
    noise = np.random.default_rng(0).integers(0, 255, (64, 72, 3)).astype(np.uint8)
    padded = model.run(Picture(noise, 1, "four of 24 tokens are padding"), (KeepRatio(0.8),)).trace
    assert not padded.keep[3:, :, 5].all() and not (padded.keep[1:] & ~padded.keep[:-1]).any()


def test_a_box_keeps_every_token_that_shows_a_part_of_it(session: Session, plain: Outcome) -> None:
    box = (16.0, 10.0, 33.0, 32.0)  # pixels of a 64-pixel picture with tokens of 16
    assert tokens_in(plain.trace.grid, box) == ((0, 1), (0, 2), (1, 1), (1, 2))
    keep = session.run(PICTURE, (Shift(50.0), KeepBox(box, (4, 5)))).trace.keep
    assert [int(keep[layer].sum()) for layer in (3, 4, 5, 6)] == [0, 4, 4, 0]
    assert keep[4][:2, 1:3].all()


def last_map(session: Session, edits: tuple[Edit, ...]) -> torch.Tensor:
    """The token map (N, C) behind the last block."""
    maps: list[torch.Tensor] = []
    sample = prepare(PICTURE.pixels, session.detector.config.data, PICTURE.image_id)
    with applied(session.detector, [sample], edits):
        watch = session.detector.backbone.method.register_forward_hook(
            lambda *call: maps.append(call[2])
        )
        session.detector.predict([sample])
        watch.remove()
    return maps[-1][0]


def test_removed_tokens_are_zero_behind_the_block_and_preserved_ones_are_not(
    session: Session,
) -> None:
    off = Brush((11,), ((0, 0),), on=False)
    assert (last_map(session, (off, Remove()))[0] == 0).all()
    assert (last_map(session, (off,))[0] != 0).any()
    keep = session.run(PICTURE, (Remove(),)).trace.keep
    assert not (keep[1:] & ~keep[:-1]).any()  # what is gone never comes back


def test_transplanted_masks_are_used_as_they_are(session: Session) -> None:
    lender = Session(detector("random", keep_ratios=[0.5] * 9))
    masks = lender.run(PICTURE).trace
    taken = session.run(PICTURE, (Transplant(masks, "random"),))
    assert (taken.trace.keep == masks.keep).all()
    part = session.run(PICTURE, (Transplant(masks, "random", (6,)),)).trace.keep
    assert (part[6] == masks.keep[6]).all() and taken.sentences == ["masks of random"]


def test_edits_compose_from_left_to_right(session: Session) -> None:
    on, off = Brush((5,), None, on=True), Brush((5,), None, on=False)
    assert session.run(PICTURE, (off, on)).trace.keep[5].all()
    assert not session.run(PICTURE, (on, off)).trace.keep[5].any()


@pytest.mark.parametrize(
    ("edit", "sentence"),
    [
        (Brush((12,), None, on=True), "blocks 1 to 12"),
        (Brush((3,), ((4, 0),), on=True), "outside of 4 x 4"),
        (KeepRatio(0.0), r"in \(0, 1\]"),
        (Control("sorted"), "one of learned, random, shuffle"),
        (Transplant(Session(detector()).run(WIDE).trace, "it"), "equal grids only"),
    ],
)
def test_an_edit_that_does_not_fit_says_why_and_changes_nothing(
    session: Session, plain: Outcome, edit: Edit, sentence: str
) -> None:
    with pytest.raises(EditError, match=sentence):
        session.run(PICTURE, (edit,))
    assert hooks(session) == 0 and same(session.run(PICTURE), plain)


@pytest.mark.parametrize("method", ["dense", "evit", "ats"])
def test_models_without_gates_refuse_the_rate_dial(method: str) -> None:
    model = Session(detector(method))
    for edit in (Shift(0.5), KeepRatio(0.5)):
        with pytest.raises(EditError):
            model.run(PICTURE, (edit,))
    assert hooks(model) == 0
    assert model.run(PICTURE, (Brush((4,), None, on=False),)).trace.keep[4].sum() == 0


class Broken(Edit):
    def masks(self, layer, keep, forward):
        raise OSError("a fault in the middle of a forward")


def test_hooks_are_gone_after_an_exception(session: Session, plain: Outcome) -> None:
    session.detector.train()
    with pytest.raises(OSError):
        session.run(PICTURE, (Remove(), Broken()))
    assert hooks(session) == 0 and session.detector.training
    session.detector.eval()
    assert same(session.run(PICTURE), plain)


def test_a_job_that_takes_too_long_is_given_up(session: Session, plain: Outcome) -> None:
    with pytest.raises(TimeoutError, match="longer than it may"):
        session.run(PICTURE, timeout_s=-1)
    with pytest.raises(TimeoutError):
        session.race(PICTURE, plain, rounds=10**6, timeout_s=0.3)
    assert hooks(session) == 0 and same(session.run(PICTURE), plain)


def test_two_sessions_at_once_do_not_mix(session: Session, plain: Outcome) -> None:
    other = Session(detector(seed=1))
    jobs = [(session, ()), (session, (Brush((5,), None, on=False),)), (other, ())] * 4
    expected = [plain, session.run(PICTURE, jobs[1][1]), other.run(PICTURE)] * 4
    with ThreadPoolExecutor(len(jobs)) as pool:
        found = list(pool.map(lambda job: job[0].run(PICTURE, job[1]), jobs))
    assert all(same(a, b) for a, b in zip(found, expected, strict=True))


def test_latency_compares_rounds_and_admits_noise() -> None:
    def measured(before: list[float], after: list[float]) -> Latency:
        rows = [
            {"variant": name, "round": turn, "wall_s": wall}
            for name, walls in (("before", before), ("after", after))
            for turn, wall in enumerate(walls)
        ]
        return Latency(pd.DataFrame(rows), "cpu")

    slow = [2.0, 2.2, 2.1, 2.0, 2.4, 2.3]
    faster = measured(slow, [wall / 2 for wall in slow])
    assert faster.speedup == (2.0, 2.0, 2.0) and faster.verdict.startswith("2.00x as fast")
    assert faster.seconds("after")[1] == pytest.approx(1.075)
    assert "beyond the noise" in measured(slow, slow[::-1]).verdict


@pytest.mark.parametrize(("count", "place"), [(6, 1), (8, 1), (9, 2), (20, 6)])
def test_the_interval_of_a_median_has_the_tabled_ranks(count: int, place: int) -> None:
    # ranks of the sign test's interval, e.g. Conover, Practical Nonparametric Statistics, Table A3
    assert median_interval(range(1, count + 1)) == (place, count + 1 - place)
    with pytest.raises(ValueError, match="at least 6"):
        median_interval([1.0] * 5)


def test_a_race_measures_both_sides_in_every_round(session: Session, plain: Outcome) -> None:
    times = session.race(PICTURE, session.run(PICTURE, (Remove(),)), rounds=6).times
    assert times.groupby("variant").size().to_dict() == {"after": 6, "before": 6}
    assert hooks(session) == 0


def test_fewer_tokens_cost_fewer_macs(session: Session, plain: Outcome) -> None:
    nothing, everything = (session.run(PICTURE, (Shift(by),)).macs for by in (50.0, -50.0))
    assert nothing["blocks"] < plain.macs["blocks"] < everything["blocks"]
    assert nothing["blocks"] == pytest.approx(everything["blocks"] * 3 / 12)  # three without a gate
    assert nothing["patch_embed"] == everything["patch_embed"]


def test_a_kept_result_is_a_run_that_names_its_edits(
    session: Session, plain: Outcome, tmp_path: Path
) -> None:
    outcome = session.run(PICTURE, (Shift(0.5), NoReactivation()))
    run = open_run(session.keep(outcome, PICTURE, tmp_path / "run", "scene.png"))
    assert (run.trace(7).keep == outcome.trace.keep).all() and len(run.target(7)) >= 1
    assert run.provenance["edits"] == ["thresholds moved by +0.50 log-odds", "no reactivation"]
    assert "no reactivation" in run.describe() and run.class_names[0] == "circle"
    again = recorded(run, 7)
    assert (again.pixels == PICTURE.pixels).all() and again.record.exact, "stored losslessly"
    assert len(again.target) == len(PICTURE.target)
    assert again.record.weights_sha256 == session.weights_sha256
    with pytest.raises(RunError, match="choose another name"):
        session.keep(plain, PICTURE, tmp_path / "run")
    plain_run = open_run(session.keep(plain, PICTURE, tmp_path / "plain"))
    assert plain_run.provenance["intervention"] == "learned"


def test_new_runs_lie_right_below_their_folder(tmp_path: Path) -> None:
    assert new_run(tmp_path, "what-if_2.a") == tmp_path / "what-if_2.a"
    (tmp_path / "taken").mkdir()
    (tmp_path / "link").symlink_to("/nowhere")
    for name in ("..", "a/b", "", "taken", "link", ".hidden", "a" * 81, "ä"):
        with pytest.raises(ValueError):
            new_run(tmp_path, name)


def png(height: int, width: int) -> bytes:
    stream = io.BytesIO()
    Image.new("1", (width, height)).save(stream, "PNG")
    return stream.getvalue()


def test_uploads_are_judged_by_their_bytes() -> None:
    picture = uploaded(png(20, 30))
    assert picture.pixels.shape == (20, 30, 3) and picture.target is None
    assert uploaded(png(1000, 2666)).pixels.shape == (500, 1333, 3)  # models see no more
    assert picture.image_id == uploaded(png(20, 30)).image_id
    with pytest.raises(ImageError, match="not a picture"):
        uploaded(b"GIF or not, this is text")
    with pytest.raises(ImageError, match="damaged or truncated"):
        uploaded(png(200, 200)[:-30])
    bomb = png(9000, 9000)  # 81 million pixels in a few kilobytes
    assert len(bomb) < 50_000
    with pytest.raises(ImageError, match="at most 25000000 pixels"):
        uploaded(bomb)
    with pytest.raises(ImageError, match="at most 20 MB"):
        uploaded(bytes(20 * 2**20 + 1))


def test_truth_counts_only_where_its_classes_are_the_models(session: Session) -> None:
    assert session.truth(PICTURE) is PICTURE.target  # eight classes and no names of its own
    named = Session(session.detector, class_names=[f"class {number}" for number in range(8)])
    assert named.truth(PICTURE) is None and named.names(PICTURE)[0] == "class 0"
    other_way = Session(session.detector, class_names=CLASSES[::-1])
    expected = [len(CLASSES) - 1 - label for label in PICTURE.target.labels]
    assert other_way.truth(PICTURE).labels.tolist() == expected


@pytest.fixture(scope="module")
def shelf(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("shelf")
    for seed in (0, 1):
        checkpoint.save(folder / f"{seed}.safetensors", detector(seed=seed))
    return folder


def test_a_workplace_holds_one_model(shelf: Path) -> None:
    place, (first, second) = Workplace(), sorted(shelf.glob("*"))
    with place.session(first) as one:
        assert place.holds(first) and not place.holds(second)
    with place.session(first) as again:
        assert again is one
    with place.session(second):
        assert place.holds(second) and not place.holds(first)


def test_viewers_who_share_a_workplace_get_their_own_model_and_edits(shelf: Path) -> None:
    place, off = Workplace(wait_s=60), (Brush((5,), None, on=False),)
    alone = {path: Session.load(path) for path in sorted(shelf.glob("*"))}
    jobs = [(path, edits) for edits in ((), off) for path in alone]
    expected = {job: alone[job[0]].run(PICTURE, job[1]) for job in jobs}

    def work(job: tuple[Path, tuple[Edit, ...]]) -> Outcome:
        with place.session(job[0]) as one:
            return one.run(PICTURE, job[1])

    with ThreadPoolExecutor(len(jobs)) as pool:
        found = list(pool.map(work, jobs))
    assert all(same(one, expected[job]) for job, one in zip(jobs, found, strict=True))
    assert not same(expected[jobs[0]], expected[jobs[1]])  # another model finds something else


def test_a_second_job_waits_then_hears_why(shelf: Path) -> None:
    place, path = Workplace(wait_s=0.05), shelf / "0.safetensors"
    with place.session(path):
        told: list[Exception] = []

        def second() -> None:
            try:
                with place.session(path):
                    pass
            except Busy as error:
                told.append(error)

        thread = threading.Thread(target=second)
        thread.start()
        thread.join()
    assert "another session" in str(told[0])
    with place.session(path) as model:
        assert model.about.startswith("0.safetensors (svit-plain-nano) · svit, mode topk")


def test_a_workplace_survives_a_broken_file(shelf: Path, tmp_path: Path) -> None:
    place, broken = Workplace(wait_s=0.05), tmp_path / "broken.safetensors"
    broken.write_bytes(b"no weights")
    for _ in range(2):
        with pytest.raises(CheckpointError), place.session(broken):
            pass
    with place.session(shelf / "0.safetensors"):
        pass


def test_checkpoints_are_found_below_the_folders_and_not_through_links(
    shelf: Path, tmp_path: Path
) -> None:
    (tmp_path / "deep" / "er").mkdir(parents=True)
    inside = tmp_path / "deep" / "er" / "mine.safetensors"
    inside.write_bytes(b"")
    (tmp_path / "link.safetensors").symlink_to(shelf / "0.safetensors")
    found = checkpoints([tmp_path])
    assert inside in found and not any(path.name == "link.safetensors" for path in found)
    assert {"svit-plain-nano", "vit-plain-nano"} <= {path.stem for path in found}


def test_a_deadline_passes_between_blocks(session: Session) -> None:
    sample = prepare(PICTURE.pixels, session.detector.config.data, 7)
    late = time.monotonic() - 1
    with pytest.raises(TimeoutError), applied(session.detector, [sample], (), deadline=late):
        session.detector.predict([sample])
    assert math.isfinite(late) and hooks(session) == 0
