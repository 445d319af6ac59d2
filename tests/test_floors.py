"""The floors of the house: a module imports only from floors below its own; half of it never sees torch.

Proved twice: from the imports written in the files (`ast`, at any depth of a file), and in fresh interpreters
that really import. The last tests plant violations and see them found: the check can fail.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

# floor -> modules. Fractions order rooms that share a floor of the plan. A new module needs a place here.
FLOORS: dict[float, tuple[str, ...]] = {
    0: ("svit", "svit.types", "svit.method_table", "analysis"),
    0.1: ("svit.config",),
    0.3: (
        "svit.markdown",
        "svit.runfiles",
    ),
    0.4: ("svit.masks",),
    0.6: ("svit.compute", "svit.shards"),
    0.8: ("svit.run_writer",),
    1: ("svit.store", "svit.pruning", "svit.pruning.*", "svit.weightfiles", "svit.foreign"),
    1.5: ("svit.average_precision", "svit.launch", "svit.journal"),
    1.8: ("analysis.coverage", "analysis.evaluations", "analysis.curves"),
    1.9: ("analysis.speeds", "analysis.labels", "analysis.worth"),
    2: ("analysis.metrics", "svit.models", "svit.models.*", "svit.data", "svit.data.*"),
    2.3: (
        *("analysis.census", "analysis.lifetimes", "analysis.matching", "analysis.objects"),
        *(
            "svit.conversion",
            "svit.recorder",
            "svit.feed",
            "svit.timing",
            "svit.roofline",
            "svit.pictures",
        ),
    ),
    2.6: ("analysis.agreement", "analysis.budget", "analysis.measurements", "svit.checkpoint"),
    2.8: ("analysis.image_list",),
    2.9: ("analysis.comparison", "analysis.drilldown"),
    2.95: ("analysis.biography",),
    3: (
        *("analysis.figures", "analysis.averages", "analysis.claims"),
        *("svit.detectors", "svit.detectors.*"),
    ),
    3.3: (
        "analysis.changes",
        *("analysis.insight_figures", "analysis.products", "analysis.tables"),
        *("svit.intervene", "svit.provenance", "svit.optimise", "svit.snapshots", "svit.loading"),
    ),
    3.4: ("analysis.layer_figures", "analysis.samples", "analysis.token_maps"),
    3.6: (
        *("analysis.gallery", "analysis.insights", "analysis.paper", "analysis.sheet"),
        *("analysis.curve_figures", "analysis.given", "analysis.pairs"),
        *("svit.calibrate", "svit.inference"),
    ),
    3.7: ("analysis.speed_figures", "analysis.worth_figures"),
    4: ("analysis.render", "analysis.rates", "svit.recording", "svit.edits"),
    4.2: ("analysis.definitions",),
    4.3: (
        "svit.compare_plan",
        "svit.summary",
        "svit.variants",
        "svit.benchmark_report",
        "svit.whatif",
    ),
    4.4: ("svit.series",),
    4.6: ("svit.evaluate", "svit.benchmark", "svit.session"),
    4.8: ("svit.trainer",),
    5: ("svit.train", "svit.live", "svit.convert", "svit.datasets", "svit.presets", "svit.serve"),
    5.3: ("svit.compare_row",),
    5.4: ("svit.compare_pace",),
    5.5: ("svit.demo", "svit.doctor", "svit.compare"),
    6: ("app", "analysis.pages", "analysis.pages.*", "svit.cli"),
    7: ("svit.__main__",),
}

HEAVY = frozenset({"torch", "torchvision", "timm", "safetensors", "jaxtyping", "detectron2"})
TORCH_FREE = (  # with all they import
    *("svit.types", "svit.config", "svit.compute", "svit.store", "analysis", "analysis.*", "app"),
    *("svit.presets", "svit.serve", "svit.doctor", "svit.datasets", "svit.cli", "svit.__main__"),
)
# importer -> the one module of the torch side it may open, when its page is opened
DOORS = {"analysis.pages.live": "svit.live"}
NAMED_ONCE = {  # package -> the only files that may name it
    "detectron2": ("svit.detectors.detectron2_rcnn",),
    "torchvision.models.detection": ("svit.detectors.torchvision_rcnn",),
    "streamlit": ("app", "analysis.pages.*", "svit.serve"),
}


def modules(root: Path) -> dict[str, Path]:
    """Dotted name -> file of every module of the project."""
    files = [*root.glob("svit/**/*.py"), *root.glob("analysis/**/*.py"), *root.glob("app.py")]
    return {_dotted(path.relative_to(root)): path for path in files}


def _dotted(path: Path) -> str:
    parts = path.with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(name: str, path: Path, known: dict[str, Path]) -> Iterator[str]:
    """Dotted names a file imports, wherever in it; `from a import b` is a.b where that is a module."""
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"), str(path))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1]
            base = ".".join([*above, *filter(None, [node.module])]) if node.level else node.module
            for alias in node.names:
                inner = f"{base}.{alias.name}"
                yield inner if inner in known or inner in NAMED_ONCE else base


def floor(name: str) -> float | None:
    return next((level for level, names in FLOORS.items() if _listed(name, names)), None)


def _listed(name: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _within(name: str, package: str) -> bool:
    return name == package or name.startswith(package + ".")


def violations(root: Path) -> list[str]:
    """Every broken rule in the tree below `root`, in words."""
    known = modules(root)
    edges = {name: set(imports(name, path, known)) for name, path in known.items()}
    found = [f"{name} has no floor: give it one in FLOORS" for name in known if floor(name) is None]
    for name, targets in edges.items():
        for target in targets:
            found += _broken(name, target, known)
        if _listed(name, TORCH_FREE):
            found += _heavy_paths([name], edges)
    return sorted(found)


def _broken(name: str, target: str, known: dict[str, Path]) -> Iterator[str]:
    if target in known and not _below(name, target):
        yield f"{name} (floor {floor(name)}) imports {target} (floor {floor(target)})"
    for package, owners in NAMED_ONCE.items():
        if _within(target, package) and not _listed(name, owners):
            yield f"{name} names {package}, which only {' and '.join(owners)} may"


def _heavy_paths(path: list[str], edges: dict[str, set[str]]) -> Iterator[str]:
    """Chains of imports from a torch-free module to a heavy package; importing a.b runs a, too."""
    parents = {path[-1].rpartition(".")[0]} & edges.keys()
    for target in edges[path[-1]] | parents:
        if target.split(".")[0] in HEAVY:
            yield f"{path[0]} is torch-free but reaches {' -> '.join([*path[1:], target])}"
        elif target in edges and target not in path and DOORS.get(path[-1]) != target:
            yield from _heavy_paths([*path, target], edges)


def _below(name: str, target: str) -> bool:
    """Lower floors, and neighbours inside one room such as svit.models or svit.data with its packages."""
    here, there = floor(name), floor(target)
    if here is None or there is None:
        return True  # reported as having no floor
    rooms = [pattern.removesuffix(".*") for pattern in FLOORS[here] if pattern.endswith(".*")]
    return there < here or any(_within(name, room) and _within(target, room) for room in rooms)


def fresh(code: str) -> str:
    """Standard output of a new interpreter that sees this checkout."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def loaded_by(*names: str) -> set[str]:
    """Which heavy packages, and streamlit, importing these modules loads."""
    watched = sorted(HEAVY | {"streamlit"})
    code = f"import sys, {', '.join(names)}; print(*[n for n in {watched} if n in sys.modules])"
    return set(fresh(code).split())


def test_every_import_leads_to_a_lower_floor() -> None:
    assert violations(ROOT) == []


def test_the_check_sees_the_whole_house() -> None:
    known = modules(ROOT)
    assert {"svit.types", "svit.pruning.svit", "svit.models.vit", "svit.cli"} <= set(known)
    edges = {
        (name, target) for name, path in known.items() for target in imports(name, path, known)
    }
    assert ("svit.recorder", "svit.pruning.base") in edges


def test_the_torch_free_half_loads_neither_torch_nor_streamlit() -> None:
    scripts = ("app", "analysis.pages.*", "svit.__main__")  # run, not imported
    names = [n for n in modules(ROOT) if _listed(n, TORCH_FREE) and not _listed(n, scripts)]
    assert loaded_by(*names) == set()


def test_the_app_and_its_recorded_pages_load_no_torch(tmp_path: Path) -> None:
    code = f"""
import sys
from pathlib import Path
from streamlit.testing.v1 import AppTest
sys.path.insert(0, "tests")
import runs
runs.write_run(Path({str(tmp_path / "run")!r}))
sys.argv = ["app.py", "--runs", {str(tmp_path)!r}]
app = AppTest.from_file("app.py", default_timeout=120).run()
for name in ("image", "compare", "dataset", "rates"):
    page = Path("analysis/pages") / f"{{name}}.py"
    if page.exists():
        app = app.switch_page(page.as_posix()).run()
        assert not app.exception, (page, app.exception)
print(*[name for name in {sorted(HEAVY)} if name in sys.modules])
"""
    assert fresh(code).split() == []


def test_the_command_loads_no_torch_before_a_verb_is_chosen() -> None:
    code = "import sys; from svit.cli import _parser; _parser(); print(*sys.modules)"
    assert not set(fresh(code).split()) & (HEAVY | {"streamlit", "numpy", "pandas"})


def test_models_and_the_default_detector_load_torch_but_no_detectron2() -> None:
    loaded = loaded_by("svit.models", "svit.recorder", "svit.detectors.torchvision_rcnn")
    assert "torch" in loaded and "detectron2" not in loaded


PLANTED = {
    "svit/types.py": ("from svit.store import open_run", "svit.types (floor 0) imports svit.store"),
    "svit/store.py": (
        "def f():\n    import torch.nn",
        "svit.store is torch-free but reaches torch.nn",
    ),
    "svit/config.py": ("from . import models", "svit.config "),
    "svit/models/vit.py": ("from ..detectors import base", "svit.models.vit (floor 2) imports"),
    "svit/models/pyramid.py": ("import detectron2.layers", "svit.models.pyramid names detectron2"),
    "svit/evaluate.py": (
        "from torchvision.models import detection",
        "svit.evaluate names torchvision.models.detection",
    ),
    "analysis/figures.py": (
        "from svit import recorder",
        "analysis.figures is torch-free but reaches svit.recorder -> torch",
    ),
    "analysis/metrics.py": ("import streamlit", "analysis.metrics names streamlit"),
    "analysis/pages/image.py": (
        "import svit.live",
        "analysis.pages.image is torch-free but reaches svit.live -> ",
    ),
    "svit/novelty.py": ("", "svit.novelty has no floor"),
}
INNOCENT = {
    "svit/__init__.py": "",
    "svit/models/__init__.py": "from svit.models.vit import ViT",
    "svit/detectors/__init__.py": "",
    "svit/detectors/base.py": "from svit.models import vit",
    "svit/recorder.py": "import torch",
    "svit/live.py": "from svit import recorder",
    "analysis/__init__.py": "",
    "analysis/pages/live.py": "def page():\n    from svit import live",
}


def _plant(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


def test_an_innocent_tree_breaks_no_rule(tmp_path: Path) -> None:
    _plant(tmp_path, {**{name: "" for name in PLANTED if name != "svit/novelty.py"}, **INNOCENT})
    assert violations(tmp_path) == []


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_violation_is_found(name: str, tmp_path: Path) -> None:
    text, sentence = PLANTED[name]
    others = {file: "" for file in PLANTED if file != "svit/novelty.py"}
    _plant(tmp_path, {**others, **INNOCENT, name: text})
    found = violations(tmp_path)
    assert found and all(item.startswith(sentence) for item in found), found
