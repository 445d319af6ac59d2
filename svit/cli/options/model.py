"""The options that name a model, and the detector they become."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch

from svit.cli.options import kinds
from svit.cli.options.devices import device
from svit.core.config import Config
from svit.core.presets import changed, load_config
from svit.detectors import build_detector
from svit.detectors.base import Detector
from svit.weights import checkpoint
from svit.weights.conversion import Converted
from svit.weights.loading import other_settings, tell_guesses


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options that `load_model` reads."""
    group = parser.add_argument_group("model")
    group.add_argument("--model", help="preset or YAML file; default: the settings in the weights")
    group.add_argument(
        "--weights", type=Path, help="checkpoint, or released weights of any known kind"
    )
    group.add_argument(
        "--random-weights",
        type=kinds.seed,
        metavar="SEED",
        help="run the preset untrained, for trials",
    )
    group.add_argument("--framework", default="auto", help="auto, torchvision or detectron2")
    group.add_argument(
        "--set",
        nargs="+",
        action="extend",
        default=[],
        metavar="KEY=VALUE",
        help="changes to these settings",
    )
    group.add_argument(
        "--device", type=device, default="cpu", help="cpu, cuda or cuda:N (default cpu)"
    )
    group.add_argument(
        "--threads", type=kinds.at_once, help="threads a process (default: torch's choice)"
    )


def load_model(args: argparse.Namespace, device: torch.device) -> Detector:
    """The detector that the options name, in evaluation mode.

    Raises:
        ValueError: no weights, or options that contradict each other.
        ConfigError, CheckpointError: the preset or the weights do not fit.
    """
    if args.threads:
        torch.set_num_threads(args.threads)
    if (args.weights is None) == (args.random_weights is None):
        raise ValueError(
            "give --weights FILE: a checkpoint of `svit train`, or released weights (links in the "
            "README); or --random-weights SEED to run a preset untrained"
        )
    return _built(args).to(device).eval()


def _built(args: argparse.Namespace) -> Detector:
    changes = [*args.set, f"framework={args.framework}"]
    if args.weights is None:
        if args.model is None:
            raise ValueError("--random-weights needs --model PRESET")
        torch.manual_seed(args.random_weights)
        return build_detector(load_config(args.model, changes))
    found = checkpoint.read_foreign(args.weights)
    if args.model is None:
        config = changed(found.config, changes)
    else:
        config = load_config(args.model, changes)
        _tell_other_settings(found, config, args)
    detector = build_detector(config)
    checkpoint.load_into(detector, found)
    if args.model is None:
        tell_guesses(detector, found.report)
    return detector


def _tell_other_settings(found: Converted, config: Config, args: argparse.Namespace) -> None:
    """What our own files were saved with and the preset does otherwise: weights whose thresholds were
    calibrated, say, under a preset that does not use them. What `--set` names was meant."""
    if found.report.kind != "ours":
        return
    meant = {change.partition("=")[0] for change in args.set}
    others = other_settings(found.config, config)
    lines = [line for name, line in others.items() if name not in meant]
    if lines:
        print(
            f"{args.weights.name} was saved with other settings than {args.model} has (there: in the "
            "file, now: in use); without --model the file's own are used:\n  " + "\n  ".join(lines),
            file=sys.stderr,
        )


def weights_name(args: argparse.Namespace) -> str:
    """What to call the weights in provenance; their hash is what identifies them."""
    return f"random {args.random_weights}" if args.weights is None else args.weights.name
