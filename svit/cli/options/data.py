"""Options about pictures and classes, for every verb that reads them."""

from __future__ import annotations

import argparse

from svit.cli.options import kinds
from svit.data.reading import EXIF_POLICIES


def add_exif(parser: argparse.ArgumentParser | argparse._ArgumentGroup) -> None:
    """`--exif`, for every verb that reads pictures: what to do about the orientation that cameras note."""
    parser.add_argument(
        "--exif",
        choices=EXIF_POLICIES,
        default="auto",
        help="turn pictures as their EXIF orientation says (on), never (off), or as the annotated size "
        "wants it (auto, the default)",
    )


def add_class_map(parser: argparse.ArgumentParser | argparse._ArgumentGroup) -> None:
    """`--class-map`, for every verb that brings data and weights together (`svit.data.classes`)."""
    parser.add_argument(
        "--class-map",
        metavar="FILE|A=B,...",
        help="classes of the data that the weights call by another name: the data's name first; a file "
        "has a pair a line",
    )


def add_thumbnail(parser: argparse.ArgumentParser) -> None:
    """`--thumbnail`, for every verb that writes a run with pictures."""
    parser.add_argument(
        "--thumbnail",
        type=kinds.count_or_none,
        default=640,
        metavar="SIDE",
        help="stored pictures; 0 for none",
    )
