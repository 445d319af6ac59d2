"""`svit doctor`: what is installed, what works, and the exact fix for what does not.

Everything that may crash on import (torch, torchvision, detectron2) is tried in a fresh interpreter. The
known failures and their remedies come from the projects' public issue threads, named in the tables.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import textwrap
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path

from svit.core.version import __version__
from svit.system.home import home
from svit.system.text import counted

INSTALL = "python -m pip install"
DETECTRON2 = "'git+https://github.com/facebookresearch/detectron2.git'"
BUILD = f"{INSTALL} setuptools wheel ninja && {INSTALL} --no-build-isolation {DETECTRON2}"
REBUILD = f"{INSTALL} --force-reinstall --no-deps --no-build-isolation {DETECTRON2}"
CHROMIUMS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")

# what must be installed for the viewer (recorded runs, figures, app) and for models
TIERS = {
    "viewer": (
        *("numpy", "pandas", "pyarrow", "pillow", "pycocotools", "matplotlib"),
        *("altair", "streamlit", "omegaconf", "packaging", "jinja2"),
    ),
    "analysis": ("torch", "torchvision", "timm", "jaxtyping", "safetensors", "tqdm"),
}
NEEDED = ("viewer", "analysis", "pairing")


@dataclass(frozen=True)
class Finding:
    """One line of the report.

    Attributes:
        state: ok; absent (an optional part that is not there); broken; note (for information).
        remedy: what to type; empty when there is nothing to do.
    """

    name: str
    state: str
    detail: str
    remedy: str = ""


@dataclass(frozen=True)
class Fault:
    """A failure that others met before: a piece of its message, what it means, what to type."""

    message: str
    meaning: str
    remedy: str


_TWO_BUILDS = "torch and torchvision come from different builds"
_SAME_BUILD = f"{INSTALL} --force-reinstall torch torchvision  # both, from one index"
TORCH_FAULTS = (
    Fault("torchvision::nms does not exist", _TWO_BUILDS, _SAME_BUILD),
    Fault("undefined symbol", _TWO_BUILDS, _SAME_BUILD),
    Fault("No module named", "not installed", f"{INSTALL} -r requirements.txt"),
)

_OTHER_TORCH = "built against another torch than the installed one; build it again"
_OLD_TAG = "the v0.6 tag is older than this Pillow and NumPy; build the main branch"
_ZOO = f"{INSTALL} 'setuptools<82'  # only for detectron2.model_zoo"
DETECTRON2_FAULTS = (
    Fault("No module named 'detectron2'", "not installed; torchvision's Mask R-CNN runs", BUILD),
    Fault("No module named 'torch'", "needs torch", f"{INSTALL} -r requirements.txt"),
    Fault(
        "No module named 'pkg_resources'", "setuptools 82 dropped pkg_resources", _ZOO
    ),  # detectron2#5494
    Fault(
        "cannot import name 'packaging' from 'pkg_resources'",  # detectron2 PR#5310
        "this setuptools is newer than an old torch expects",
        f"{INSTALL} --upgrade torch torchvision  # or 'setuptools==69.5.1'",
    ),
    Fault("undefined symbol", _OTHER_TORCH, REBUILD),
    Fault("cannot import name '_C'", _OTHER_TORCH, REBUILD),
    Fault("has no attribute 'LINEAR'", _OLD_TAG, REBUILD),  # detectron2#5010
    Fault("has no attribute 'bool'", _OLD_TAG, REBUILD),
)

_TORCH_PROBE = """
import json, os, torch, torchvision
boxes = torch.tensor([[0.0, 0.0, 1.0, 1.0], [0.0, 0.0, 1.0, 1.0]])
assert len(torchvision.ops.nms(boxes, torch.ones(2), 0.5)) == 1
names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
print(json.dumps({"torch": torch.__version__, "torchvision": torchvision.__version__,
    "gpus": names, "cuda": torch.version.cuda, "threads": torch.get_num_threads(),
    "cores": os.cpu_count()}))
"""
_DETECTRON2_PROBE = """
import detectron2, detectron2.config, detectron2.modeling, detectron2.structures
try:
    import detectron2.model_zoo
except ImportError as error:
    print("model_zoo:", error)
else:
    print(detectron2.__version__)
"""
_FRAMEWORK_PROBE = """
from svit.detectors import resolve_framework
print(resolve_framework("auto")[1])
"""
_PRODUCTS_PROBE = """
from svit.system.products import told
print(told())
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `svit doctor`."""
    parser.add_argument("--json", action="store_true", help="print the findings as JSON")


def run(args: argparse.Namespace) -> int:
    """`svit doctor`. Returns: the exit code, 1 where something that every user needs is missing."""
    findings = examine()
    rows = [asdict(item) for item in findings]
    print(json.dumps(rows, indent=2) if args.json else text(findings))
    fine = all(item.state == "ok" for item in findings if item.name in NEEDED)
    return 0 if fine else 1


def examine() -> list[Finding]:
    """All findings, the needed ones first. It takes a few seconds: libraries are really imported."""
    pairing, device = _torch()
    return [
        *(_tier(name) for name in TIERS),
        pairing,
        _detectron2(),
        _framework(),
        device,
        _products(),
        _browser(),
        _recordings(),
    ]


def text(findings: list[Finding]) -> str:
    """The report for a terminal."""
    python = platform.python_version()
    lines = [f"svit {__version__}, Python {python}, {platform.platform()}", ""]
    for item in findings:
        head = f"{item.state:7} {item.name:11} "
        indent = " " * len(head)
        lines += textwrap.wrap(item.detail, 100, initial_indent=head, subsequent_indent=indent)
        if item.remedy:  # one line however long, ready to copy
            lines.append(f"{indent}fix: {item.remedy}")
    return "\n".join(lines)


def diagnose(name: str, message: str, faults: tuple[Fault, ...]) -> Finding:
    """What a failed import means. An unknown message is passed on as it is, without a remedy."""
    for fault in faults:
        if fault.message in message:
            return Finding(name, "broken", f"{fault.meaning} ({message})", fault.remedy)
    return Finding(name, "broken", message)


def _tier(name: str) -> Finding:
    found = {package: _version(package) for package in TIERS[name]}
    missing = [package for package, version in found.items() if version is None]
    if missing:
        remedy = f"{INSTALL} -r requirements.txt"
        return Finding(name, "broken", f"not installed: {', '.join(missing)}", remedy)
    wrong = [item for item in _outside_bounds("svit-workbench") if item[0] in found]
    detail = ", ".join(f"{package} {version}" for package, version in found.items())
    if wrong:
        return Finding(name, "broken", *_explain(wrong))
    return Finding(name, "ok", detail)


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _outside_bounds(distribution: str) -> list[tuple[str, str | None, str]]:
    """Needs of an installed distribution that are not met: (package, installed version, bounds).

    A workbench that runs from its folder without being installed declares no needs.
    """
    from packaging.requirements import Requirement

    if _version(distribution) is None:
        return []
    needs = [Requirement(line) for line in metadata.requires(distribution) or ()]
    extras = ({"extra": ""}, {"extra": "analysis"})
    needs = [n for n in needs if n.marker is None or any(map(n.marker.evaluate, extras))]
    rows = [(need.name, _version(need.name), need.specifier) for need in needs]
    return [
        (name, version, str(bounds))
        for name, version, bounds in rows
        if version is None or not bounds.contains(version, prereleases=True)
    ]


def _explain(wrong: list[tuple[str, str | None, str]]) -> tuple[str, str]:
    """Detail and remedy for needs that are not met."""
    detail = "; ".join(
        f"{name} {version or 'is not installed'}, needed {bounds or 'in any version'}"
        for name, version, bounds in wrong
    )
    return detail, f"{INSTALL} " + " ".join(f"'{name}{bounds}'" for name, _, bounds in wrong)


def _probe(code: str) -> tuple[bool, str]:
    """Runs code in a fresh interpreter. Returns: whether it ended well, and its last line."""
    command = [sys.executable, "-W", "ignore", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True)
    fine = done.returncode == 0
    lines = (done.stdout if fine else done.stderr).strip().splitlines()
    return fine, lines[-1] if lines else f"Python ended with code {done.returncode}"


def _torch() -> tuple[Finding, Finding]:
    """Whether torch and torchvision fit together, and the device they would use."""
    fine, line = _probe(_TORCH_PROBE)
    if not fine:
        unknown = Finding("device", "note", "unknown: torch and torchvision do not work together")
        return diagnose("pairing", line, TORCH_FAULTS), unknown
    facts = json.loads(line)
    pair = f"torch {facts['torch']} and torchvision {facts['torchvision']} run nms together"
    threads, cores = (counted(facts[name], name) for name in ("threads", "cores"))
    device = f"CPU, {threads} on {cores}; no CUDA device"
    if facts["gpus"]:
        device = f"CUDA {facts['cuda']}: {', '.join(facts['gpus'])}"
    return Finding("pairing", "ok", pair), Finding("device", "note", device)


def _detectron2() -> Finding:
    fine, line = _probe(_DETECTRON2_PROBE)
    if not fine:
        finding = diagnose("detectron2", line, DETECTRON2_FAULTS)
        state = "absent" if "No module named 'detectron2'" in line else "broken"
        return Finding("detectron2", state, finding.detail, finding.remedy)
    wrong = _outside_bounds("detectron2")
    if wrong:  # iopath 0.1.10, omegaconf 2.4: detectron2 PR#5427, PR#5057
        return Finding("detectron2", "broken", *_explain(wrong))
    if line.startswith("model_zoo:"):
        zoo = diagnose("detectron2", line, DETECTRON2_FAULTS)
        return Finding("detectron2", "ok", f"works but for its model_zoo: {zoo.detail}", zoo.remedy)
    return Finding("detectron2", "ok", f"detectron2 {line}")


def _products() -> Finding:
    """Which library multiplies here, and how fast both are."""
    fine, line = _probe(_PRODUCTS_PROBE)
    return Finding("products", "note" if fine else "broken", line)


def _framework() -> Finding:
    fine, line = _probe(_FRAMEWORK_PROBE)
    return Finding("framework", "note" if fine else "broken", line)


def _browser() -> Finding:
    path = os.environ.get("SVIT_CHROMIUM") or next(filter(None, map(shutil.which, CHROMIUMS)), None)
    if path is None:
        detail = "no Chromium: the app's browser tests are skipped (SVIT_CHROMIUM may name one)"
        return Finding("browser", "note", detail)
    return Finding("browser", "note", f"{path}, for the app's browser tests")


def _recordings() -> Finding:
    files = [*(home() / "demo").rglob("run.json"), *Path("runs").rglob("run.json")]
    folders = sorted(path.parent for path in files)
    if not folders:
        return Finding("runs", "note", f"no recorded run in {Path('runs').resolve()}", "svit demo")
    names = ", ".join(os.path.relpath(folder) for folder in folders)
    return Finding("runs", "note", f"{len(folders)} recorded: {names}")
