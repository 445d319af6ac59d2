"""The `svit` command: one table of verbs, each a module with `add_arguments(parser)` and `run(args)`.

A module is imported when its verb is called, so `svit --help` needs neither torch nor a second.
"""

from __future__ import annotations

import argparse
import importlib
import os
import select
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

from svit.core.version import __version__
from svit.system.allocator import keep_freed_memory
from svit.system.signals import INTERRUPTED, interrupting

HUNG_UP = 128 + 13  # exit code that a shell tells of a program whose reader has gone (SIGPIPE)
DESCRIPTION = "SViT workbench: see, measure and understand token pruning in detectors."
EXAMPLES = """\
examples:
  svit demo                                         the bundled models, from data to pictures
  svit doctor                                       what is installed, what to do about the rest
  svit record --model svit-adapter-t --weights svit_t.pth --images photos/ --out runs/mine
  svit app --runs runs                              look at it in the browser
  svit VERB --help                                  every option of a verb
"""


@dataclass(frozen=True)
class Verb:
    """Where a verb lives and what it is for.

    Attributes:
        module: has `add_arguments(parser) -> None` and `run(args) -> int` (the exit code).
        summary: one line for `svit --help`.
    """

    module: str
    summary: str


VERBS: dict[str, Verb] = {
    "demo": Verb("svit.cli.demo", "run the bundled models on fresh scenes and write pictures"),
    "app": Verb("svit.cli.app", "serve the app on this computer"),
    "doctor": Verb(
        "svit.cli.doctor", "tell what is installed, what works and the fix for the rest"
    ),
    "presets": Verb("svit.cli.presets", "list the model presets, or print one as YAML"),
    "record": Verb("svit.cli.record", "record which tokens every layer uses, into a run folder"),
    "evaluate": Verb("svit.cli.evaluate", "measure box and mask AP on a COCO data set"),
    "explain": Verb("svit.cli.explain", "find which tokens a detection needs, by taking them away"),
    "benchmark": Verb("svit.cli.benchmark", "measure speed: models side by side, stage by stage"),
    "train": Verb("svit.cli.train", "train a detector, dense or pruned"),
    "compare": Verb("svit.cli.compare", "finetune and measure every method of the paper alike"),
    "calibrate": Verb("svit.cli.calibrate", "fit the gates' thresholds on training images"),
    "convert": Verb(
        "svit.cli.convert", "turn released weights into a checkpoint of this workbench"
    ),
    "import": Verb(
        "svit.cli.exchange.import_lists", "make a run of kept or merged tokens that others list"
    ),
    "export": Verb("svit.cli.exchange.export", "write a run for FiftyOne, COCO's tools or Rerun"),
    "check": Verb("svit.cli.check", "read recorded runs whole and name what is damaged"),
    "dataset": Verb("svit.cli.dataset", "write the synthetic shapes, or check a COCO json"),
}
SERVERS = ("app",)  # long idle, and not to sit on memory meanwhile


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one verb. Returns: its exit code; 2 after an error of the input, 130 after SIGINT
    (Ctrl-C) or SIGTERM: what was done is saved; 141 where nobody reads its output any more."""
    words = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in words
    words = [word for word in words if word != "--debug"]
    try:
        with interrupting():
            return _run(words)
    except KeyboardInterrupt:
        print("svit: interrupted", file=sys.stderr)
        return INTERRUPTED
    except Exception as error:
        if isinstance(error, BrokenPipeError) and (gone := _hung_up()):
            for descriptor in gone:  # what is left to be written goes nowhere, without a word
                os.dup2(os.open(os.devnull, os.O_WRONLY), descriptor)
            return HUNG_UP
        if debug or not _is_for_the_user(error):
            raise
        print(f"svit: error: {_sentence(error)}", file=sys.stderr)
        return 2


def _hung_up() -> list[int]:
    """Our outputs that nobody reads any more, as behind `svit presets | head -1`: their file descriptors."""
    asked = select.poll()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):  # one that is no file
            asked.register(stream.fileno(), 0)
    return [descriptor for descriptor, _ in asked.poll(0)]


def _run(words: list[str]) -> int:
    name = next((word for word in words if not word.startswith("-")), None)
    if name not in VERBS:
        _parser().parse_args(words)  # --help, --version, or argparse's own error with the choices
        _parser().print_help(sys.stderr)
        return 2
    module = importlib.import_module(VERBS[name].module)
    parser = _parser(name, module.add_arguments)
    if name not in SERVERS:
        keep_freed_memory()
    code = int(module.run(parser.parse_args(words)))
    sys.stdout.flush()  # here, where a reader that has gone is expected
    return code


def _parser(
    chosen: str | None = None,
    add_arguments: Callable[[argparse.ArgumentParser], None] | None = None,
) -> argparse.ArgumentParser:
    """The whole command's parser; only the chosen verb gets its arguments."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(
        prog="svit", description=DESCRIPTION, epilog=EXAMPLES, formatter_class=raw
    )
    parser.add_argument("--version", action="version", version=f"svit {__version__}")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    verbs = parser.add_subparsers(dest="verb", metavar="VERB [options]", title="verbs")
    for name, verb in VERBS.items():
        text = verb.summary[0].upper() + verb.summary[1:] + "."
        child = verbs.add_parser(name, help=verb.summary, description=text, formatter_class=raw)
        if name == chosen and add_arguments is not None:
            add_arguments(child)
    return parser


def _is_for_the_user(error: Exception) -> bool:
    """Errors that tell of the input or the machine; any other is a fault of ours, shown in full."""
    ours = type(error).__module__.split(".")[0] in ("svit", "analysis")
    return ours or isinstance(error, (ValueError, OSError, ModuleNotFoundError))


def _sentence(error: Exception) -> str:
    if isinstance(error, ModuleNotFoundError):
        return f"{error}; `svit doctor` tells what is missing and how to install it"
    if isinstance(error, OSError) and error.filename:
        return f"{error.filename}: {error.strerror}"
    return str(error) or type(error).__name__
