"""Objects of recorded runs are explained once, kept, and refused with a remedy where that cannot be."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image
from support import runs
from support.explanations import explanation
from support.scenes import SVIT, detector, shapes

from svit.cli.explain import again, left_out, report
from svit.cli.main import main
from svit.core.attribution import Hit
from svit.core.presets import changed
from svit.data.folder import ImageFiles
from svit.data.reading import ImageError
from svit.detectors import build_detector
from svit.evaluation.passes import PassOptions
from svit.evaluation.provenance import of_run
from svit.evaluation.record import record_run
from svit.live.explaining import (
    Asked,
    explained,
    found_objects,
    pace,
    session_of,
    things_of,
    weights_of,
)
from svit.live.pictures import Picture, recorded
from svit.live.session import Session
from svit.probing.attribution.explain import planned
from svit.probing.attribution.options import AttributionError, Options
from svit.runs.attributions import Decided, read_attributions
from svit.runs.run import Run, RunWriter, open_run
from svit.weights import checkpoint

QUICK = Options(orders=("gates", "random"), steps=2, draws=1, searches=0, forced=False, batch=4)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shapes, weights and a run of them."""
    folder = tmp_path_factory.mktemp("world")
    model, images = detector(**SVIT), shapes(folder / "shapes")
    checkpoint.save(folder / "model.safetensors", model)
    options = PassOptions(limit=2, progress=False)
    record_run(model, images, folder / "run", options, weights="model.safetensors")
    return folder


@pytest.fixture
def run(world: Path, tmp_path: Path) -> Run:
    """A copy of the run."""
    for path in sorted((world / "run").iterdir()):
        (tmp_path / "run").mkdir(exist_ok=True)
        (tmp_path / "run" / path.name).write_bytes(path.read_bytes())
    return open_run(tmp_path / "run")


@pytest.fixture(scope="module")
def session(world: Path):
    return session_of(open_run(world / "run"), world / "model.safetensors")


def test_a_detection_is_explained_once_and_read_the_second_time(run: Run, session) -> None:
    asked, image_id, told = Asked(run, session, QUICK), run.image_ids[0], []
    (first,) = asked.explain(image_id, "detection", [1], told.append)
    forwards = sum(told)
    (again,) = asked.explain(image_id, "detection", [1], told.append)
    assert forwards > 0 and sum(told) == forwards
    assert again.own == first.own and asked.missing(image_id, "detection", [1, 2]) == [2]
    ((_, kept),) = read_attributions(run.path)
    assert kept.number == 1 and kept.source == "detection"


def test_an_interrupted_job_goes_on_with_what_is_left(run: Run, session) -> None:
    asked, image_id = Asked(run, session, QUICK), run.image_ids[0]
    asked.explain(image_id, "annotation", [1])

    def stop(done: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        asked.explain(image_id, "annotation", [1, 2], stop)
    assert asked.missing(image_id, "annotation", [1, 2]) == [2]
    asked.explain(image_id, "annotation", [1, 2])
    assert asked.missing(image_id, "annotation", [1, 2]) == []


def test_the_original_picture_decides_as_it_was_recorded(world: Path, run: Run, session) -> None:
    asked = Asked(run, session, QUICK, world / "shapes" / "val2017")
    picture = asked.picture(run.image_ids[0])
    found = session.run(picture)
    assert (found.trace.keep == run.trace(run.image_ids[0]).keep).all()


def test_a_run_with_other_settings_than_its_weights_hold_is_explained_with_its_own(
    world: Path, tmp_path: Path
) -> None:
    changes = ("data.short_side=48", "data.long_side=48", "detector.score_threshold=0.01")
    found = checkpoint.read_foreign(world / "model.safetensors")
    model = build_detector(changed(found.config, [*changes, "framework=torchvision"]))
    checkpoint.load_into(model, found)
    images = shapes(world / "shapes")
    images.config = model.config.data
    record_run(model.eval(), images, tmp_path / "run", PassOptions(limit=1, progress=False))
    run = open_run(tmp_path / "run")
    session = session_of(run, world / "model.safetensors")
    picture = Asked(run, session, QUICK, world / "shapes" / "val2017").picture(run.image_ids[0])
    found = session.run(picture)
    assert (found.trace.keep == run.trace(run.image_ids[0]).keep).all()
    assert len(found.detections) == len(run.detections(run.image_ids[0]))
    own = Session.load(world / "model.safetensors")
    said = own.other_settings(recorded(run, run.image_ids[0]))
    assert sorted(line.partition(":")[0] for line in said) == sorted(
        change.partition("=")[0] for change in changes
    )
    thing = things_of(picture.target)[0]
    with_record = replace(picture, record=recorded(run, run.image_ids[0]).record)
    assert explained(own, with_record, thing, run)[1] is None


@pytest.mark.parametrize(
    ("method", "said"), [("tome", "merges tokens"), ("previousframe", "over the frames of a video")]
)
def test_a_run_of_a_method_that_its_weights_do_not_name_is_not_explained_as_theirs(
    method: str, said: str, tmp_path: Path
) -> None:
    dense = detector("dense")
    checkpoint.save(tmp_path / "model.safetensors", dense)
    model = detector(method)
    model.load_canonical(dense.canonical_state_dict())
    facts = {**runs.PROVENANCE, **of_run(model, "data", intervention="learned")}
    run = runs.write_run(tmp_path / "run", provenance=facts)
    with pytest.raises(AttributionError, match=said):
        session = session_of(run, tmp_path / "model.safetensors")
        planned(session.detector, QUICK)


def test_a_picture_is_turned_for_an_explanation_as_it_was_for_the_run(
    world: Path, tmp_path: Path, session
) -> None:
    exif = Image.Exif()
    exif[0x0112] = 3  # half a turn: no size tells
    with Image.open(next((world / "shapes" / "val2017").iterdir())) as upright:
        upright.save(tmp_path / "a.png", exif=exif)
    for policy in ("off", "on"):
        images = ImageFiles([tmp_path / "a.png"], session.detector.config.data, exif=policy)
        out = tmp_path / policy
        record_run(session.detector, images, out, PassOptions(progress=False))
        run = open_run(out)
        for picture in (
            Asked(run, session, QUICK, tmp_path).picture("a.png"),
            recorded(run, "a.png", [tmp_path]),
        ):
            assert (picture.pixels == images.image(0)).all(), policy
        assert recorded(run, "a.png", [tmp_path]).record.exact
    Image.fromarray(255 - images.image(0)).save(tmp_path / "a.png")
    with pytest.raises(ImageError, match="is not the picture that .* holds as image 'a.png'"):
        Asked(run, session, QUICK, tmp_path).picture("a.png")


def test_a_detection_without_a_mask_is_asked_about_where_its_box_lies(tmp_path: Path) -> None:
    made = runs.parts(1)
    found = replace(made["detections"], coded=None)
    with RunWriter(tmp_path / "boxes", runs.PROVENANCE) as writer:
        writer.add(**{**made, "detections": found})
    asked = Asked(open_run(tmp_path / "boxes"), None, QUICK)
    whole, half = made["image"], made["image"][::2, ::2]
    (same,) = asked.things(Picture(whole, 1, ""), "detection", [1])
    (scaled,) = asked.things(Picture(half, 1, ""), "detection", [1])
    assert same.box_xyxy == tuple(found.boxes_xyxy[0].tolist())
    sides = [half.shape[1] / whole.shape[1], half.shape[0] / whole.shape[0]] * 2
    assert scaled.box_xyxy == pytest.approx(found.boxes_xyxy[0] * sides, abs=1e-3)


def test_what_is_not_there_is_refused_with_what_is(run: Run, session, tmp_path: Path) -> None:
    asked, image_id = Asked(run, session, QUICK), run.image_ids[0]
    with pytest.raises(AttributionError, match="no detection 77"):
        asked.explain(image_id, "detection", [77])
    with pytest.raises(AttributionError, match="has no image 12345; its 2 images begin with"):
        asked.explain(12345, "detection", [1])
    lacking = Asked(run, session, QUICK, tmp_path)
    with pytest.raises(ImageError, match="is not there.*pictures that the run stores"):
        lacking.explain(image_id, "detection", [1])
    name = run.images["file_name"][0]
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (9, 9)).save(tmp_path / name)
    with pytest.raises(ImageError, match="another picture"):
        lacking.explain(image_id, "detection", [1])


def test_runs_without_pictures_weights_or_own_masks_are_refused(
    world: Path, tmp_path: Path, session
) -> None:
    foreign = runs.write_foreign(tmp_path / "foreign")
    with pytest.raises(AttributionError, match="not recorded by a detector of this workbench"):
        weights_of(foreign, [])
    own = open_run(world / "run")
    with pytest.raises(AttributionError, match="model.safetensors.*--weights FILE"):
        weights_of(own, [Path("other.safetensors")])
    checkpoint.save(tmp_path / "other.safetensors", detector(seed=1, **SVIT))
    with pytest.raises(AttributionError, match="holds other weights"):
        session_of(own, tmp_path / "other.safetensors")
    blind = runs.write_run(tmp_path / "blind", picture_side=0)
    with pytest.raises(ImageError, match="stores no pictures"):
        Asked(blind, session, QUICK).explain(3, "detection", [1])
    bare, options = detector(**SVIT), PassOptions(limit=1, progress=False)
    shuffled = tmp_path / "shuffled"
    changed = replace(options, intervention="shuffle")
    record_run(bare, shapes(world / "shapes"), shuffled, changed)
    with pytest.raises(AttributionError, match="changed masks"):
        session_of(open_run(shuffled), world / "model.safetensors")
    half = tmp_path / "half"
    record_run(bare, shapes(world / "shapes"), half, replace(options, dtype="bfloat16"))
    with pytest.raises(AttributionError, match="recorded in bfloat16, .* again without --dtype"):
        session_of(open_run(half), world / "model.safetensors")


def test_what_is_asked_on_a_page_is_kept_where_the_picture_gives_the_masks_again(
    world: Path, run: Run, session, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("svit.live.explaining.Options", lambda: QUICK)
    image_id = run.image_ids[0]
    original = Asked(run, session, QUICK, world / "shapes" / "val2017").picture(image_id)
    thing = things_of(original.target)[0]
    forwards, seconds = pace(session, original)
    told: list[int] = []
    found, path = explained(session, original, thing, run, told.append)
    assert path is not None and path.is_relative_to(run.path) and sum(told) <= forwards
    again, same = explained(session, original, thing, run, told.append)
    assert same == path and again.own == found.own and seconds > 0
    darker = replace(original, pixels=original.pixels // 4)
    assert explained(session, darker, thing, run)[1] is None
    assert explained(session, original, thing)[1] is None


def test_objects_are_chosen_in_recorded_order(run: Run) -> None:
    missed = found_objects(run, 3, missed=True)
    assert sum(map(len, missed.values())) <= 3 and set(missed) <= set(run.image_ids)
    with pytest.raises(AttributionError, match="holds no annotated object that it finds"):
        found_objects(run, 3, least=1.0)


def test_no_image_gives_more_objects_than_asked_for(run: Run) -> None:
    every = found_objects(run, 100, least=0.0)
    assert max(map(len, every.values())) > 1
    one_each = found_objects(run, 100, least=0.0, each=1)
    assert one_each == {image_id: numbers[:1] for image_id, numbers in every.items()}


def test_what_came_out_of_few_images_claims_no_more_than_its_draws() -> None:
    many = [explanation(place) for place in range(2)]
    told = report(many)
    assert (
        "2 objects in 2 images; intervals of 95 % over 1,000 draws of these 2 images, too few"
        in told
    )
    assert "| >0.999 |" in told and "| 1.000 |" not in told
    films = {0: "a", 1: "b", 2: "b"}
    of_frames = report([explanation(place) for place in range(3)], films)
    assert (
        "3 objects in 3 images; intervals of 95 % over 1,000 draws of these 2 videos" in of_frames
    )
    alone = report(many, dict.fromkeys(range(2), "a"))
    assert "frames of one video, which tells no interval" in alone and "[" not in alone
    assert left_out(many, ("gates", "usage")).startswith("Left out: usage (of 2 objects): in these")
    assert left_out(many, ("gates",)) == ""
    shares = [Decided(1.0, True), Decided(0.9996, True), Decided(0.5, False)]
    assert again(shares) == (
        "Recorded decisions made again: 99.9 % on the original picture of 2 images (at least 99.9 % of "
        "each); 50.0 % on the stored picture."
    )


def test_what_own_masks_miss_is_not_told_as_missed_for_another_reason_than_pruning() -> None:
    one = explanation(sets=False)
    lost = replace(one, full=Hit(), own=Hit(), curves=one.curves[:0])
    own, given = (report([replace(lost, masks=masks)]) for masks in ("own", "all"))
    assert "--masks all asks whether all tokens bring it back" in own
    assert "not why" not in own and "with any tokens" not in own
    assert "All tokens there do not bring it back, so pruning there is not why" in given


def test_the_command_explains_and_says_what_came_out(
    world: Path, run: Run, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    words = ["explain", str(run.path), "--weights", str(world / "model.safetensors")]
    words += ["--image-root", str(world / "shapes" / "val2017")]
    quick = ["--orders", "gates,random", "--steps", "2", "--draws", "1", "--searches", "1"]
    quick += ["--budget", "4", "--no-forced", "--score", "0.01"]
    one = [*words, "--image", str(run.image_ids[0]), "--detection", "1", *quick]
    assert main(one) == 0
    said = capsys.readouterr()
    assert "at most" in said.err and "forwards" in said.err
    assert "Recorded decisions made again: 100.0 % on the original picture." in said.out
    assert "of 1 random set as large" in said.out
    assert "detection 1 of image" in said.out and "smallest set" in said.out
    out = tmp_path / "out"
    assert main([*words, "--objects", "2", "--missed", *quick, "--out", str(out)]) == 0
    assert (out / "areas.csv").is_file() and (out / "summary.md").is_file()
    assert "Recorded decisions made again: 100.0 %" in (out / "summary.md").read_text()
    capsys.readouterr()
    assert main([*words, "--image", str(run.image_ids[0]), "--detection", "99", *quick]) == 2
    refused = capsys.readouterr().err
    assert "there is no detection 99" in refused and "at most" not in refused
    assert "crowds" not in refused
    assert main(words) == 2 and "say what to explain" in capsys.readouterr().err
