"""`svit convert`: weights of any known origin become a checkpoint of this workbench, with a report."""

from __future__ import annotations

import argparse
from pathlib import Path

from svit.core.presets import load_config
from svit.weights.converting import convert_file


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `svit convert`."""
    parser.add_argument("source", type=Path, help="released weights: .pth, .pt or .safetensors")
    parser.add_argument(
        "destination",
        type=Path,
        help="the checkpoint to write: .safetensors; .pth for detectron2; or a folder as "
        "svit.from_pretrained reads it",
    )
    parser.add_argument(
        "--preset",
        help="a preset or YAML file: the weights must fit this model, whose settings are stored (default: "
        "settings are guessed)",
    )
    parser.add_argument(
        "overrides",
        nargs="*",
        metavar="KEY=VALUE",
        help="changes to the preset, right after DESTINATION, as detector.classes=8",
    )
    parser.add_argument("--half", action="store_true", help="store float16: half the size")
    parser.add_argument(
        "--ema", action="store_true", help="take the averaged copy of a file that holds both"
    )
    parser.add_argument(
        "--partial",
        action="store_true",
        help="also write what lacks parts of a detector; with --preset they get initial values",
    )
    parser.add_argument("--force", action="store_true", help="replace what is there")


def run(args: argparse.Namespace) -> int:
    """`svit convert`. Returns: the exit code.

    Raises:
        ValueError: changes without a preset that they change.
        CheckpointError: the source cannot be read, or is no model of ours.
    """
    if args.overrides and args.preset is None:
        raise ValueError("KEY=VALUE changes a preset: name one with --preset")
    report = convert_file(
        args.source,
        args.destination,
        config=args.preset and load_config(args.preset, args.overrides),
        half=args.half,
        ema=args.ema,
        partial=args.partial,
        force=args.force,
    )
    print(report)
    print(f"written: {args.destination}")
    return 0
