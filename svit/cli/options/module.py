"""The options that name a model that is not ours: `--module package:function`."""

from __future__ import annotations

import argparse
import importlib
import sys
from pathlib import Path

import torch
from torch import nn

from svit.cli.options import kinds
from svit.core.config import DataConfig
from svit.core.ranges import ANY, POSITIVE
from svit.evaluation.record_module import Watching, picture_config
from svit.probing.adapters.find import host_of

# options of our own models: their names in the parser, and what they are where nobody gave them
_OURS = {
    "model": None,
    "weights": None,
    "random_weights": None,
    "framework": "auto",
    "set": [],
    "class_map": None,
    "inference": None,
    "no_scores": False,
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds --module and what goes with it."""
    group = parser.add_argument_group("a model that is not ours (docs/any-model.md)")
    add = group.add_argument
    add(
        "--module",
        metavar="PACKAGE:FUNCTION",
        help="a function that gives any torch module with transformer blocks",
    )
    add("--blocks", metavar="PATTERN", help='names of its blocks, as "backbone.blocks.*"')
    add("--prefix", type=kinds.count_or_none, metavar="N", help="class and register tokens")
    add(
        "--grid",
        type=grid,
        metavar="ROWSxCOLUMNS|PIXELS",
        help="tokens of every picture, as 14x14, or the side of a token (default: the patch embedding's)",
    )
    add("--no-attention", action="store_true", help="leave attention received out")
    add("--class-attention", action="store_true", help="record the class token's attention")
    add(
        "--count",
        action="store_true",
        help="have torch count multiply-adds, in forwards of their own",
    )
    add("--short-side", type=kinds.count, metavar="PIXELS", help="pictures fit into (default 800")
    add(
        "--long-side",
        type=kinds.count,
        metavar="PIXELS",
        help="... x 1333), unless it takes one size",
    )
    add(
        "--mean",
        nargs=3,
        type=kinds.number(ANY),
        metavar="V",
        help="of RGB, 0..255 (default the model's, or ImageNet's)",
    )
    add("--std", nargs=3, type=kinds.number(POSITIVE), metavar="V", help="likewise")


def grid(text: str) -> tuple[int, int] | int:
    """Rows and columns of tokens, or the side of a token in pixels."""
    try:
        sides = tuple(map(int, text.lower().split("x")))
    except ValueError:
        sides = ()
    if len(sides) not in (1, 2) or min(sides) < 1:
        raise argparse.ArgumentTypeError(
            f"expected rows and columns, as 14x14, or pixels of a token's side, as 16; found {text!r}"
        )
    return sides if len(sides) == 2 else sides[0]


def check(args: argparse.Namespace) -> None:
    """Refuses options of our models beside --module, and options of --module without it.

    Raises:
        ValueError: it names them.
    """
    ours = [name for name, plain in _OURS.items() if getattr(args, name) != plain]
    names = ("blocks", "prefix", "grid", "no_attention", "class_attention", "count")
    theirs = [
        name for name in (*names, "short_side", "long_side", "mean", "std") if getattr(args, name)
    ]
    ours, theirs = (ours, []) if args.module else ([], theirs)
    if wrong := ours or theirs:
        how = "cannot go with --module, which brings its own model" if ours else "go with --module"
        raise ValueError(f"{kinds.flags(wrong)} {how}")


def load(args: argparse.Namespace, device: torch.device) -> nn.Module:
    """What the function of --module gives, in evaluation mode on the device.

    Raises:
        ValueError: no such function, or it gives no torch module.
    """
    place, colon, name = args.module.partition(":")
    if not (place and colon and name):
        raise ValueError(f"--module: expected PACKAGE:FUNCTION, found {args.module!r}")
    here = str(Path.cwd())
    if here not in sys.path:  # the command's own place stands there instead
        sys.path.insert(0, here)
    try:
        function = getattr(importlib.import_module(place), name)
    except ModuleNotFoundError as error:
        raise ValueError(
            f"--module: {error}; it is looked for in {here} and among what is installed"
        ) from error
    except AttributeError as error:
        raise ValueError(f"--module: {error}") from error
    if args.threads:
        torch.set_num_threads(args.threads)
    model = function()
    if not isinstance(model, nn.Module):
        raise ValueError(
            f"--module: {args.module} gave {type(model).__name__}, expected a torch module"
        )
    return model.to(device).eval()


def guessed(args: argparse.Namespace, model: nn.Module) -> str:
    """A sentence where neither the model nor the user tells how pictures are normalised; else empty."""
    if args.mean or args.std or host_of(model, args.blocks or "auto").mean_rgb is not None:
        return ""
    return (
        f"{args.module} does not tell how its pictures are normalised: ImageNet's mean and deviation are "
        "taken (Hugging Face's ViT wants --mean 127.5 127.5 127.5 --std 127.5 127.5 127.5)"
    )


def watching(args: argparse.Namespace) -> Watching:
    """What of it is recorded."""
    return Watching(
        blocks=args.blocks or "auto",
        prefix="auto" if args.prefix is None else args.prefix,
        grid=args.grid or "auto",
        attention=False if args.no_attention else None,
        class_attention=args.class_attention,
        count=args.count,
    )


def pictures(args: argparse.Namespace, model: nn.Module) -> DataConfig:
    """How pictures reach it.

    Raises:
        ValueError: a size was asked for, and the model takes another one alone.
    """
    asked = {
        "short_side": args.short_side,
        "long_side": args.long_side,
        "mean_rgb": args.mean and tuple(args.mean),
        "std_rgb": args.std and tuple(args.std),
    }
    asked = {name: value for name, value in asked.items() if value is not None}
    host = host_of(model, args.blocks or "auto")
    if host.input_hw is not None and {"short_side", "long_side"} & set(asked):
        size = "x".join(map(str, host.input_hw))
        raise ValueError(
            f"the model takes pictures of {size} alone: leave --short-side and --long-side out"
        )
    found = picture_config(host, DataConfig())
    return DataConfig(**{**vars(found), **asked})
