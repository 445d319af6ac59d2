"""`svit convert`: weights of any known origin become a checkpoint of this workbench, with a report."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch

from svit.core.config import load_config
from svit.detectors import build_detector
from svit.weights.checkpoint import (
    convert_file,
    load_weights,
    origin,
    refuse_to_replace,
    save,
)
from svit.weights.conversion import Report

SEED = 0  # of the parts that a file lacks


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", type=Path, help="released weights: .pth, .pt or .safetensors")
    parser.add_argument("destination", type=Path, help="the checkpoint to write: .safetensors")
    parser.add_argument(
        "--preset",
        help="a preset or YAML file: check that the weights fit this model and store its settings; "
        "parts that such files never hold keep their initial values (default: settings are guessed)",
    )
    parser.add_argument(
        "overrides",
        nargs="*",
        metavar="KEY=VALUE",
        help="changes to the preset, right after DESTINATION, as detector.classes=8",
    )
    parser.add_argument("--half", action="store_true", help="store float16: half the size")


def run(args: argparse.Namespace) -> int:
    if args.overrides and args.preset is None:
        raise ValueError("KEY=VALUE changes a preset: name one with --preset")
    if args.preset is None:
        report = convert_file(args.source, args.destination, half=args.half)
    else:
        report = convert_as(
            args.preset, args.source, args.destination, overrides=args.overrides, half=args.half
        )
    print(report)
    print(f"written: {args.destination}")
    return 0


def convert_as(
    preset: str,
    source: Path,
    destination: Path,
    *,
    overrides: Sequence[str] = (),
    half: bool = False,
) -> Report:
    """Writes the weights as a checkpoint of one model, after loading them into it.

    What the file lacks is drawn from `SEED`: the same file gives the same bytes every time.

    Raises:
        ConfigError: unknown preset or key.
        CheckpointError: the weights do not fit the model, or a file cannot be read or written.
    """
    with torch.random.fork_rng(devices=[]):  # the caller's random numbers stay as they were
        torch.manual_seed(SEED)
        detector = build_detector(load_config(preset, overrides))
    report = load_weights(detector, source, complete=False)
    extra = origin(report, source, detector.canonical_state_dict(), half)
    refuse_to_replace(destination, detector.config, extra)
    save(destination, detector, extra, half=half)
    return report
