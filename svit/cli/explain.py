"""`svit explain`: which tokens a detection, or a missed object, needs (docs/attribution.md)."""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd
import torch
from tqdm import tqdm

from svit.cli.options import kinds
from svit.cli.options.devices import device
from svit.core.attribution import MASKS, MODES, ORDERS, Explanation, summary
from svit.core.ranges import SHARE, Range
from svit.core.statistics import probability, with_ends
from svit.core.types import ImageId
from svit.live.explaining import Asked, found_objects, session_of, weights_of
from svit.live.workplace import checkpoints
from svit.probing.attribution.explain import planned
from svit.probing.attribution.options import ALLOWED, AttributionError, Options
from svit.runs.attributions import Decided
from svit.runs.frames import videos_of
from svit.runs.run import Run, open_run
from svit.system.files import prepare_folder, write_text
from svit.system.text import blocks, counted, shown, table

DRAWS = 1000  # of the images
FEW = 10  # images: with fewer, their draws say little of others
BLOCK = kinds.number(Range(1, 9999, whole=True))
EXAMPLES = """\
examples:
  svit explain runs/mine --image 79841 --detection 1
  svit explain runs/mine --image 79841 --object 3 --blocks 4,5,6
  svit explain runs/mine --objects 100 --orders gates,random,picture-centre --searches 0
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `svit explain`."""
    parser.epilog = EXAMPLES
    add = parser.add_argument
    add("run", type=Path, metavar="RUN", help="a recorded run of a model of this workbench")
    what = parser.add_argument_group("what is explained: one of these")
    what.add_argument("--image", metavar="ID", help="an image, with --detection or --object")
    what.add_argument("--detection", type=kinds.count, metavar="N", help="from 1, by falling score")
    what.add_argument("--object", type=kinds.count, metavar="N", help="annotated, from 1")
    what.add_argument(
        "--objects", type=kinds.count, metavar="COUNT", help="the first that it finds"
    )
    what.add_argument("--missed", action="store_true", help="of --objects those that it misses")
    what.add_argument(
        "--each", type=kinds.count, metavar="N", help="of --objects at most N of an image"
    )
    model = parser.add_argument_group("model and pictures")
    model.add_argument("--weights", type=Path, help="default: the run's own, found by their name")
    about = "of the original pictures (default: found, or as the run stores them)"
    model.add_argument("--image-root", type=Path, metavar="DIR", help=about)
    model.add_argument("--device", type=device, default="cpu", help="cpu, cuda or cuda:N")
    model.add_argument("--threads", type=kinds.at_once, help="default: torch's choice")
    how = parser.add_argument_group("how; every number has its default from docs/attribution.md")
    plain = Options()
    how.add_argument("--orders", type=kinds.listed(), default=ORDERS, help=", ".join(ORDERS))
    how.add_argument("--blocks", type=kinds.listed(BLOCK), help="from 1: 4,5,6 (default: gated)")
    how.add_argument(
        "--masks", choices=MASKS, help="default: own of what is found, all of the rest"
    )
    how.add_argument(
        "--score", type=kinds.number(SHARE), default=plain.least, help="from it on found (0.5)"
    )
    for name in ("steps", "draws", "searches", "budget", "batch"):
        kind = kinds.number(ALLOWED[name])
        how.add_argument(f"--{name}", type=kind, default=getattr(plain, name))
    how.add_argument("--seed", type=kinds.seed, default=0)
    how.add_argument("--no-forced", action="store_true", help="leave giving back by block out")
    add("--out", type=kinds.place, metavar="DIR", help="also write areas.csv and summary.md here")


def run(args: argparse.Namespace) -> int:
    """`svit explain`. Returns: the exit code."""
    if args.threads:
        torch.set_num_threads(args.threads)
    opened = open_run(args.run)
    source, wanted = _wanted(args, opened)
    weights = args.weights or weights_of(opened, checkpoints([args.run.resolve().parent]))
    session = session_of(opened, weights, args.device)
    asked = Asked(opened, session, _options(args), args.image_root)
    explained = _explained(asked, source, wanted)
    told = {one.image_id: asked.kept.decided(one) for one in explained}
    videos = videos_of(opened.frames, opened.image_ids)
    parts = [again(list(told.values())), left_out(explained, args.orders)]
    parts.append(report(explained, videos))
    text = "\n\n".join(part for part in parts if part)
    print(shown(text))
    if args.out:
        prepare_folder(args.out)
        areas = pd.concat(
            one.areas().assign(image_id=one.image_id, source=one.source, number=one.number)
            for one in explained
        )
        write_text(args.out / "areas.csv", areas.to_csv(index=False, lineterminator="\n"))
        write_text(args.out / "summary.md", text + "\n")
    print(f"kept: {asked.kept.folder}")
    return 0


def _wanted(args: argparse.Namespace, run: Run) -> tuple[str, dict[ImageId, list[int]]]:
    """The source, and the numbers of each image."""
    one = args.detection is not None, args.object is not None
    if args.objects is not None and args.image is None and not any(one):
        return "annotation", found_objects(run, args.objects, args.score, args.missed, args.each)
    of_many = args.objects is not None or args.missed or args.each is not None
    if args.image is None or sum(one) != 1 or of_many:
        raise AttributionError(
            "say what to explain: --image ID with --detection N or --object N, or --objects COUNT "
            "(with --missed those that are not found, with --each N at most so many of an image)"
        )
    names = dict(zip(run.images["file_name"], run.image_ids, strict=True))
    names |= {str(image_id): image_id for image_id in run.image_ids}
    image_id = names.get(args.image, args.image)
    if args.detection is not None:
        return "detection", {image_id: [args.detection]}
    return "annotation", {image_id: [args.object]}


def _options(args: argparse.Namespace) -> Options:
    return Options(
        orders=args.orders,
        layers=None if args.blocks is None else tuple(block - 1 for block in args.blocks),
        masks=args.masks,
        steps=args.steps,
        draws=args.draws,
        searches=args.searches,
        budget=args.budget,
        forced=not args.no_forced,
        least=args.score,
        seed=args.seed,
        batch=args.batch,
    )


def _explained(asked: Asked, source: str, wanted: dict[ImageId, list[int]]) -> list[Explanation]:
    """All answers, with a bar over the forwards; an interrupted job goes on with the next picture."""
    left = {one: asked.missing(one, source, numbers) for one, numbers in wanted.items()}
    left = {one: numbers for one, numbers in left.items() if numbers}
    detector = asked.session.detector
    total = sum(planned(detector, asked.options, len(numbers)) for numbers in left.values())
    if left:
        first, numbers = next(iter(left.items()))
        picture = asked.picture(first)
        asked.things(picture, source, numbers)  # refused before it is told how long it takes
        seconds = total * asked.session.pace(picture, asked.options)
        things = counted(sum(map(len, left.values())), "objects")
        told = f"{things} in {counted(len(left), 'images')}: at most {total} forwards, about {seconds:.0f} s"
        print(f"{told}; Ctrl-C keeps what is done", file=sys.stderr)
    found = []
    with tqdm(total=total, unit="forward", disable=not left) as bar:
        for image_id, numbers in wanted.items():
            found += asked.explain(image_id, source, numbers, bar.update)
    return found


def again(decided: Sequence[Decided]) -> str:
    """Which share of the recorded decisions was made again, on which pictures."""
    words = {
        True: "the original picture",
        False: "the stored picture",
        None: "a picture that is not told",
    }
    parts = []
    for original, name in words.items():
        shares = [one.agreement for one in decided if one.original is original]
        if len(shares) == 1:
            parts.append(f"{_percent(shares[0])} on {name}")
        elif shares:
            mean, least = sum(shares) / len(shares), min(shares)
            images = f"of {len(shares)} images (at least {_percent(least)} of each)"
            parts.append(f"{_percent(mean)} on {name} {images}")
    return f"Recorded decisions made again: {'; '.join(parts)}."


def _percent(share: float) -> str:
    """Rounded down, so that 100 % are all."""
    return f"{math.floor(1000 * share) / 10:.1f} %"


def left_out(explained: Sequence[Explanation], orders: Sequence[str]) -> str:
    """Which orders the model gives nothing for in some objects; empty for none."""
    parts = []
    curves = [one for one in explained if len(one.curves)]
    for order in orders:
        if lacking := sum(order not in set(one.curves["order"]) for one in curves):
            parts.append(f"{order} (of {counted(lacking, 'objects')})")
    if not parts:
        return ""
    why = "in these blocks the model has no such number, or the same one of all tokens"
    return f"Left out: {', '.join(parts)}: {why}."


def report(explained: list[Explanation], videos: Mapping[ImageId, ImageId] | None = None) -> str:
    """What came out, in words and tables; `videos` as of `svit.core.attribution.summary`."""
    parts = [_sentences(one) for one in explained] if len(explained) <= 3 else []
    curves = [one for one in explained if len(one.curves)]
    if lost := len(explained) - len(curves):
        parts.append(
            f"{counted(lost, 'objects')} not found before any token is taken away: no curves."
        )
    if curves:
        parts.append(_areas(curves, videos))
    return "\n\n".join(parts)


def _areas(curves: list[Explanation], videos: Mapping[ImageId, ImageId] | None) -> str:
    """Areas of every order; with intervals from two images (or videos) on."""
    frame = summary(curves, DRAWS, videos)
    unit = "images" if videos is None else "videos"
    units = len({one.image_id if videos is None else videos[one.image_id] for one in curves})
    if units < 2:
        means = frame.pivot(index="order", columns="mode", values="area")
        rows = [
            [order, *(f"{means.loc[order, mode]:.1f}" for mode in MODES)]
            for order in dict.fromkeys(frame["order"])
        ]
        found = table(["order", *(f"{mode}, area in points" for mode in MODES)], rows)
        told = "All are frames of one video, which tells no interval.\n\n"
        return (told if videos is not None and len(curves) > 1 else "") + found
    head = ["mode", "order", "area, points", "first order minus this", "P(first > this)"]
    rows = []
    for row in frame.itertuples():
        cells = [row.mode, row.order, with_ends(row.area, row.low, row.high)]
        known = hasattr(row, "minus") and row.minus == row.minus
        apart = with_ends(row.minus, row.minus_low, row.minus_high, "+.1f") if known else ""
        rows.append([*cells, apart, probability(row.above, DRAWS) if known else ""])
    first = frame.iloc[0]
    images = int(frame["images"].max())
    things = f"{counted(int(first['objects']), 'objects')} in {counted(images, 'images')}"
    few = ", too few to tell what others would give" * (units < FEW)
    told = (
        f"{things}; intervals of 95 % over {DRAWS:,} draws of these {units} {unit}{few}. Deletion: small "
        "areas, insertion: large ones tell that an order knows the tokens that are needed."
    )
    return f"{told}\n\n{table(head, rows)}"


def _sentences(one: Explanation) -> str:
    name = f"{one.source} {one.number} of image {one.image_id}"
    told = [
        f"{name}: score {one.own.score:.2f} (IoU {one.own.iou:.2f}) as the model decides, "
        f"{one.full.score:.2f} with {one.masks} masks, {one.none.score:.2f} without tokens in "
        f"{blocks(one.layers)}."
    ]
    if not one.full.score:
        told.append(
            "It is not found with the model's own masks; --masks all asks whether all tokens bring it back."
            if one.masks == "own"
            else "All tokens there do not bring it back, so pruning there is not why it is missed."
        )
    if one.sets:
        best = one.sets[0]
        random = one.beside[one.beside["kind"] == "random"]
        share, (same, chance) = best.uses / one.uses, one.stability
        enough = int(random["enough"].sum()) if len(random) else 0
        told.append(
            f"The smallest set that suffices has {counted(len(best.tokens), 'tokens')} ({share:.0%} of the "
            f"uses): score {best.score:.2f}, IoU {best.iou:.2f}; of {counted(len(random), 'random sets')} as "
            f"large {enough} suffice{'s' * (enough == 1)}."
        )
        if len(one.sets) > 1:
            told.append(
                f"The sets of {len(one.sets)} searches overlap by {same:.2f} (random parts of what they "
                f"began with: {chance:.2f})."
            )
    return " ".join(told)
