"""How detections are scored: an option of `svit evaluate` and `svit compare`."""

from __future__ import annotations

import argparse

from svit.cli.options import kinds
from svit.evaluation.average_precision import COUNTED


def add_counted(parser: argparse.ArgumentParser) -> None:
    """Adds --max-detections."""
    parser.add_argument(
        "--max-detections",
        type=kinds.count,
        default=COUNTED,
        metavar="N",
        help=f"an image and class that AP counts (default {COUNTED}, COCO's); the detector finds at most "
        "detector.max_detections",
    )
