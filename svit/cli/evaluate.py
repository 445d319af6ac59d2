"""`svit evaluate`: AP, realised keep ratios and compute of a detector on a COCO data set.

Several inference modes, interventions and seeds make one table (`svit.evaluation.evaluation_table`).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from tqdm.contrib.logging import logging_redirect_tqdm

from svit.cli.options import classifier as classifier_options
from svit.cli.options import kinds
from svit.cli.options import model as model_options
from svit.cli.options import passes as pass_options
from svit.cli.options import processes as process_options
from svit.cli.options.data import add_class_map, add_exif
from svit.cli.options.model import load_model, weights_name
from svit.cli.options.scoring import add_counted
from svit.core.ranges import SHARE, Range
from svit.data.classes import read_class_map
from svit.data.coco import CocoDataset, CocoFiles, find_coco
from svit.data.samples import count_marked, marks_of
from svit.detectors.base import Detector
from svit.evaluation.average_precision import EVALUATORS
from svit.evaluation.evaluate import Scoring, evaluate
from svit.evaluation.evaluation_table import Choice, choices, report
from svit.evaluation.passes import PassOptions, computing, inference_mode
from svit.evaluation.rescue import Question, asked_layers, rescue
from svit.evaluation.summary import Summary
from svit.evaluation.summary_tables import FITTED_HERE, fitted_here_told
from svit.evaluation.summary_tables import notes as notes_of
from svit.probing.calibrate import (
    CALIBRATED_FILES,
    calibrate,
    decides_by_fitted,
    fitted_places,
)
from svit.probing.interventions import INTERVENTIONS, intervened_layers, intervention
from svit.runs.frames import videos_of
from svit.runs.rescue import read_rescue
from svit.runs.run import open_run
from svit.system.files import write_text
from svit.system.processes import Ranks, joined, launch
from svit.system.text import shown
from svit.weights.loading import load_coco, load_detector, notes

TABLE = "table.md"
LEARNED = ("learned",)
NO_MODE = (None,)  # of --inference: as the model decides by itself
BLOCK = Range(0, 9999, whole=True)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `svit evaluate`."""
    model_options.add_arguments(parser)
    _add_data(parser)
    _add_masks(parser)
    _add_results(parser)
    classifier_options.add_arguments(parser)
    _add_rescue(parser)
    process_options.add_arguments(parser)


def _add_data(parser: argparse.ArgumentParser) -> None:
    data = parser.add_argument_group("data: a json with its images, or COCO's folders")
    data.add_argument("--dataset", type=Path, metavar="JSON", help="instance annotations")
    data.add_argument("--image-root", type=Path, help="folder of the images of --dataset")
    data.add_argument("--data-root", type=Path, help="folder with annotations/ and the splits")
    data.add_argument("--split", default="val2017", help="of --data-root (default val2017)")
    about = "only the first images; of --class-folder as many, evenly spaced"
    data.add_argument("--limit", type=kinds.count, help=about)
    add_exif(data)
    add_class_map(data)


def _add_masks(parser: argparse.ArgumentParser) -> None:
    masks = parser.add_argument_group("masks; lists are separated by commas and make one table")
    masks.add_argument(
        "--inference",
        type=kinds.listed(),
        default=NO_MODE,
        help="sample, threshold, calibrated, topk (default: the model's)",
    )
    masks.add_argument(
        "--intervene", type=kinds.listed(), default=LEARNED, help=", ".join(INTERVENTIONS)
    )
    masks.add_argument(
        "--blocks", help="gated blocks to intervene in, from 1: 4,5 or 4-6 (default: all of them)"
    )
    masks.add_argument(
        "--masks-from", type=Path, metavar="FILE", help="model that decides the masks"
    )
    masks.add_argument(
        "--seed",
        type=kinds.listed(kinds.seed),
        default=(0,),
        help="of sampled, random and shuffled masks",
    )
    masks.add_argument(
        "--calibrate-on",
        metavar="SPLIT",
        help="fit the thresholds of `calibrated` on 200 images of this split of --data-root first",
    )


def _add_results(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", type=kinds.place, required=True, help="folder for the results")
    parser.add_argument(
        "--record", type=kinds.place, metavar="RUN", help="also record a run, resumable"
    )
    pass_options.add_arguments(parser)
    parser.add_argument("--evaluator", default="pycocotools", choices=EVALUATORS)
    add_counted(parser)
    parser.add_argument(
        "--draws", type=kinds.draws, default=1000, help="of the bootstrap (default 1000)"
    )
    parser.add_argument(
        "--crowding",
        action="store_true",
        help="also compare images with more objects than the median image with the rest",
    )
    parser.add_argument(
        "--boundary",
        action="store_true",
        help="also give the AP of mask boundaries; takes milliseconds a mask",
    )


def _add_rescue(parser: argparse.ArgumentParser) -> None:
    about = "missed objects, asked beside --record: do they come back when their tokens are kept?"
    group = parser.add_argument_group(about)
    group.add_argument(
        "--rescue",
        type=kinds.count,
        nargs="?",
        const=Question.draws,
        metavar="DRAWS",
        help=f"run the model again on each, and on DRAWS draws of as many random tokens ({Question.draws})",
    )
    group.add_argument(
        "--rescue-score",
        type=kinds.number(SHARE),
        default=Question.score,
        help=f"objects that no detection with this score finds are missed (default {Question.score})",
    )
    group.add_argument(
        "--rescue-blocks",
        help="blocks in which tokens are kept, from 1: 4,5 or 4-6 (default: gated)",
    )


def run(args: argparse.Namespace) -> int:
    """`svit evaluate`. Returns: the exit code, 1 where images could not be read."""
    classifier_options.check(args)
    if args.class_folder is not None:
        return classifier_options.run(args)
    return launch(_run, args, process_options.layout(args))


def _run(args: argparse.Namespace) -> int:
    with joined(args.device) as ranks, logging_redirect_tqdm():
        detector = load_model(args, ranks.device)
        dataset = _opened(_files(args), args, detector, ranks)
        lender = _lender(args, ranks.device)
        marks = _calibrate(args, detector, ranks)
        options = pass_options.chosen(
            args,
            layers=_layers(args, lender or detector),
            masks_from=lender,
            progress=ranks.is_first,
        )
        wanted = _choices(args, lender or detector)
        question = _question(args, lender or detector)
        for choice in wanted:  # an impossible one is told now, not after hours of the others
            _check(choice, detector, options)
        seen = _seen(args, lender or detector, dataset, wanted, marks)
        if seen and ranks.is_first:
            count, of = max(seen.values()), len(range(len(dataset))[: args.limit])
            print(fitted_here_told(count, of), file=sys.stderr)
        work = (detector, dataset, options, question, ranks)
        summaries = [
            _evaluate(args, choice, len(wanted) > 1, seen.get(choice), *work) for choice in wanted
        ]
    if not ranks.is_first:
        return 0
    text = report(summaries)
    print(shown(text))  # first: a full disk must not cost the answer
    write_text(args.out / TABLE, text)
    return _say_errors(summaries[0])


def _calibrate(args: argparse.Namespace, detector: Detector, ranks: Ranks) -> list[str] | None:
    """Fits what `--calibrate-on` asks for. Returns: marks of the pictures it was fitted on."""
    if args.calibrate_on is None:
        return None
    if args.data_root is None:
        raise ValueError("--calibrate-on names a split of --data-root DIR, which is missing")
    method = detector.backbone.method
    mode = method.fits.mode if method.fits else ""
    if mode and mode not in {one or method.inference for one in args.inference}:
        raise ValueError(
            f"--calibrate-on fits what gates decide by in the inference mode {mode}, and no line of the "
            f"table is of it: add --inference {mode}"
        )
    files = find_coco(args.calibrate_on, args.data_root)
    data = _opened(files, args, detector, ranks)
    with computing(ranks.device, args.dtype):  # in the numbers that the masks are decided in
        calibrate(detector, data)
    return marks_of(data, fitted_places(data))


def _seen(
    args: argparse.Namespace,
    chooser: Detector,
    dataset: CocoDataset,
    wanted: Sequence[Choice],
    marks: list[str] | None,
) -> dict[Choice, int]:
    """Lines that decide by what was fitted on images they are evaluated on, and on how many.

    Args:
        marks: of the pictures that were fitted on now; without, the weights tell.
    """
    method = chooser.backbone.method
    deciding = [one for one in wanted if decides_by_fitted(method, one.inference)]
    if not deciding:
        return {}
    if marks is None or args.masks_from is not None:
        marks = notes(args.masks_from or args.weights).get(CALIBRATED_FILES, [])
    count = count_marked(dataset, range(len(dataset))[: args.limit], marks)
    return dict.fromkeys(deciding, count) if count else {}


def _choices(args: argparse.Namespace, chooser: Detector) -> list[Choice]:
    """The lines of the table.

    Args:
        chooser: the model that decides the masks.

    Raises:
        ValueError: an unknown intervention.
    """
    own = chooser.backbone.method.inference
    return choices(own, args.inference, args.intervene, args.seed)


def _check(choice: Choice, detector: Detector, options: PassOptions) -> None:
    """Raises ValueError for an inference mode that the model lacks, or masks that it cannot have."""
    intervention(choice.intervene, options.masks_from or detector, options.layers)
    with inference_mode(detector, choice.inference, choice.seed):
        pass


def _layers(args: argparse.Namespace, chooser: Detector) -> tuple[int, ...] | None:
    """The zero-based blocks that `--blocks` names, or None.

    Raises:
        ValueError: not numbers, blocks where no gate of the chooser decides, or nothing to do there.
    """
    if args.blocks is None:
        return None
    if args.intervene == LEARNED and args.masks_from is None:
        raise ValueError(
            "--blocks goes with --intervene or --masks-from: nothing else changes masks"
        )
    return intervened_layers(chooser, _blocks("--blocks", args.blocks))


def _blocks(option: str, text: str) -> list[int]:
    """The zero-based blocks of "4,5" or "4-6"."""
    ends = [part.partition("-") for part in text.split(",")]
    try:
        spans = [(BLOCK.parse(first), BLOCK.parse(last or first)) for first, _, last in ends]
    except ValueError:
        raise ValueError(
            f"{option}: expected numbers from 1 like 4,5 or 4-6, found {text!r}"
        ) from None
    return [block - 1 for first, last in spans for block in range(first, last + 1)]


def _question(args: argparse.Namespace, chooser: Detector) -> Question | None:
    """What `--rescue` asks; refused here, before hours of evaluation."""
    if args.rescue is None:
        return None
    if args.record is None:
        raise ValueError("--rescue keeps its answers beside a run: name one with --record RUN")
    layers = None
    if args.rescue_blocks is not None:
        layers = tuple(_blocks("--rescue-blocks", args.rescue_blocks))
    question = Question(args.rescue, layers, args.rescue_score)
    asked_layers(chooser, question)
    return question


def _evaluate(
    args: argparse.Namespace,
    choice: Choice,
    several: bool,
    seen: int | None,
    detector: Detector,
    dataset: CocoDataset,
    options: PassOptions,
    question: Question | None,
    ranks: Ranks,
) -> Summary | None:
    """One line of the table; of several, each has its own folder.

    Args:
        seen: how many of its images thresholds were fitted on.
    """
    below = choice.name if several else ""
    record = None if args.record is None else args.record / below
    if choice.intervene == "learned" and options.masks_from is None:
        options = replace(options, layers=None)  # nothing changes them
    options = replace(
        options, inference=choice.inference, intervention=choice.intervene, seed=choice.seed
    )
    summary = evaluate(
        detector,
        dataset,
        args.out / below,
        options,
        Scoring(
            args.evaluator, args.draws, record, args.crowding, args.boundary, args.max_detections
        ),
        ranks=ranks,
        weights=weights_name(args),
        **({"calibrated_on": args.calibrate_on} if args.calibrate_on else {}),
        **({FITTED_HERE: seen} if seen else {}),
    )
    if question is not None:
        _rescue(detector, dataset, record, question, options, ranks)
    return summary


def _rescue(
    detector: Detector,
    dataset: CocoDataset,
    record: Path,
    question: Question,
    options: PassOptions,
    ranks: Ranks,
) -> None:
    own = rescue(detector, dataset, record, question, options, ranks=ranks)
    ranks.total(0)  # the others have written theirs
    if ranks.is_first:
        answers, run = read_rescue(record, own.facts["blocks"]), open_run(record)
        told = answers.sentence(run.image_ids, videos_of(run.frames, run.image_ids))
        print(f"{record}: {told}", file=sys.stderr)


def _files(args: argparse.Namespace) -> CocoFiles:
    """Raises ValueError when neither or both ways of naming the data are used."""
    if args.dataset is None and args.image_root is None:
        return find_coco(args.split, args.data_root)
    if None in (args.dataset, args.image_root) or args.data_root is not None:
        raise ValueError("--dataset JSON goes with --image-root DIR, and not with --data-root")
    return CocoFiles(args.dataset, args.image_root)


def _opened(
    files: CocoFiles, args: argparse.Namespace, detector: Detector, ranks: Ranks
) -> CocoDataset:
    classes = read_class_map(args.class_map)
    return load_coco(files, detector, exif=args.exif, class_map=classes, tell=ranks.is_first)


def _lender(args: argparse.Namespace, device: torch.device) -> Detector | None:
    """The model of `--masks-from`, or None.

    Raises:
        ValueError: an inference mode was asked for, which would be that of the other model.
    """
    if args.masks_from is None:
        return None
    if args.inference != NO_MODE:
        raise ValueError(
            "--inference is of the model that is evaluated, and --masks-from FILE decides in its place, as "
            "its settings say: leave --inference out"
        )
    return load_detector(args.masks_from, args.framework).to(device).eval()


def _say_errors(summary: Summary) -> int:
    """Tells of images that could not be read. Returns: the exit code."""
    if not summary.errors:
        return 0
    print("\n".join(notes_of(summary)), file=sys.stderr)
    return 1
