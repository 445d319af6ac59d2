"""The options that say how many processes run, under detectron2's names."""

from __future__ import annotations

import argparse

from svit.cli.options import kinds
from svit.cli.options.devices import device
from svit.system.processes import Layout


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options that `layout` reads."""
    group = parser.add_argument_group("processes (or start the command with torchrun)")
    group.add_argument(
        "--num-gpus",
        "--processes",
        dest="processes",
        type=kinds.at_once,
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


def add_training_arguments(parser: argparse.ArgumentParser) -> None:
    """`--workers` and `--device` of a verb that trains, and the options of `add_arguments`."""
    parser.add_argument(
        "--workers", type=kinds.at_once_or_none, default=0, help="reading processes (default 0)"
    )
    parser.add_argument(
        "--device", type=device, help="cpu or cuda (default: cuda where there is one)"
    )
    add_arguments(parser)


def layout(args: argparse.Namespace) -> Layout:
    """The processes that the options ask for."""
    return Layout(args.processes, args.num_machines, args.machine_rank, args.dist_url)
