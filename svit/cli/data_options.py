"""Options about pictures and classes that several verbs share."""

from __future__ import annotations

import argparse

from svit.data.reading import EXIF_POLICIES


def add_exif(parser: argparse.ArgumentParser | argparse._ArgumentGroup) -> None:
    """`--exif`: what to do about the orientation that cameras note."""
    parser.add_argument(
        "--exif",
        choices=EXIF_POLICIES,
        default="auto",
        help="turn pictures as their EXIF orientation says (on), never (off), or as the annotated size "
        "wants it (auto, the default)",
    )
