"""The kind of an option that names a device."""

from __future__ import annotations

import argparse

import torch


def device(text: str) -> str:
    """cpu, cuda or cuda:N of this machine."""
    try:
        kind = torch.device(text).type
    except RuntimeError:
        kind = ""
    if kind not in ("cpu", "cuda"):
        raise argparse.ArgumentTypeError(f"expected cpu, cuda or cuda:N, found {text!r}")
    if kind == "cpu":
        return kind  # the one there is, by whatever number
    there = torch.cuda.device_count()
    if (torch.device(text).index or 0) >= there:
        raise argparse.ArgumentTypeError(f"{text!r}: this machine has {there} CUDA devices")
    return text
