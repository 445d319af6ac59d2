"""The options that say how many processes run, under detectron2's names."""

from __future__ import annotations

import argparse

from svit.cli.options import kinds
from svit.system.processes import Layout


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options that `layout` reads."""
    group = parser.add_argument_group("processes (or start the command with torchrun)")
    group.add_argument(
        "--num-gpus",
        "--processes",
        dest="processes",
        type=kinds.count,
        default=1,
        metavar="N",
        help="processes on this machine, one a GPU; on CPU the cores are shared out among them",
    )
    group.add_argument("--num-machines", type=kinds.count, default=1, metavar="N")
    group.add_argument(
        "--machine-rank", type=kinds.count_or_none, default=0, metavar="K", help="0 .. machines - 1"
    )
    group.add_argument(
        "--dist-url",
        default="auto",
        metavar="tcp://HOST:PORT",
        help="where machine 0 listens; auto serves one machine",
    )


def layout(args: argparse.Namespace) -> Layout:
    """The processes that the options ask for."""
    return Layout(args.processes, args.num_machines, args.machine_rank, args.dist_url)
