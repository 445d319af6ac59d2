"""The options that say how a detector is run over images."""

from __future__ import annotations

import argparse
from typing import Any

from svit.cli.options import kinds
from svit.evaluation.passes import DTYPES, PassOptions


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds --batch, --workers and --dtype, which `chosen` reads with --limit."""
    about = "images a forward at most (default 1); only images that pad to one size go together"
    parser.add_argument("--batch", type=kinds.count, default=1, help=about)
    parser.add_argument(
        "--workers", type=kinds.at_once_or_none, default=0, help="processes that read images ahead"
    )
    add_dtype(parser)


def chosen(args: argparse.Namespace, **others: Any) -> PassOptions:
    """What the options say, with the other fields of `PassOptions` as they are given here."""
    own = {name: getattr(args, name) for name in ("batch", "limit", "workers", "dtype")}
    return PassOptions(**own, **others)


def add_dtype(parser: argparse.ArgumentParser) -> None:
    """Adds the option that `svit.evaluation.passes.computing` takes."""
    about = "number type, by autocast (default float32): float16 of the backbone alone, bfloat16 of all "
    about += "but gates, boxes and scores"
    parser.add_argument("--dtype", choices=DTYPES, default="float32", help=about)
