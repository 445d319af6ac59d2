"""`svit presets`: the named configurations as a table, or one of them as YAML to start a file from."""

from __future__ import annotations

import argparse

from omegaconf import OmegaConf

from svit.config import PRESETS, Config, load_config, to_dict

HEADINGS = ("preset", "neck", "dim", "depth", "heads", "pruning", "classes", "short side")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", nargs="?", help="print this preset (or YAML file) with every key")
    parser.add_argument(
        "overrides",
        nargs="*",
        metavar="KEY=VALUE",
        help="as backbone.drop_path=0.2; later ones win",
    )


def run(args: argparse.Namespace) -> int:
    print(table() if args.name is None else as_yaml(args.name, args.overrides))
    return 0


def as_yaml(name: str, overrides: list[str]) -> str:
    """Every key of a preset after its overrides; the text is a configuration file.

    Raises:
        ConfigError: unknown preset or key, or a value of the wrong kind.
    """
    return OmegaConf.to_yaml(to_dict(load_config(name, overrides))).rstrip()


def table() -> str:
    """All presets, one a line, in aligned columns."""
    rows = [HEADINGS, *(_row(config) for config in PRESETS.values())]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADINGS))]
    return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)


def _row(config: Config) -> tuple[str, ...]:
    backbone = config.backbone
    sizes = (backbone.embed_dim, backbone.depth, backbone.heads)
    ends = (config.pruning.method, config.detector.classes, config.data.short_side)
    return (config.name, backbone.neck, *map(str, sizes), *map(str, ends))
