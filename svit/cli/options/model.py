"""The options that name a model, and the detector they become."""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from svit.cli.options import kinds
from svit.cli.options.devices import device
from svit.core.presets import load_config
from svit.detectors import build_detector
from svit.detectors.base import Detector
from svit.weights import checkpoint
from svit.weights.loading import load_detector


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
        "--set", nargs="+", default=[], metavar="KEY=VALUE", help="changes to the preset"
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
    if args.set and args.model is None:
        raise ValueError("KEY=VALUE changes a preset: name one with --model")
    return _built(args).to(device).eval()


def _built(args: argparse.Namespace) -> Detector:
    framework = [f"framework={args.framework}"]
    if args.weights is None:
        if args.model is None:
            raise ValueError("--random-weights needs --model PRESET")
        torch.manual_seed(args.random_weights)
        return build_detector(load_config(args.model, [*args.set, *framework]))
    if args.model is None:
        return load_detector(args.weights, args.framework)
    detector = build_detector(load_config(args.model, [*args.set, *framework]))
    checkpoint.load_weights(detector, args.weights)
    return detector


def weights_name(args: argparse.Namespace) -> str:
    """What to call the weights in provenance; their hash is what identifies them."""
    return f"random {args.random_weights}" if args.weights is None else args.weights.name
