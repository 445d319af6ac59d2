"""The floors of the house: a module imports only from floors below its own; half of it never sees torch.

Proved twice: from the imports written in the files (`ast`, at any depth of a file), and in fresh interpreters
that really import. The last tests plant violations and see them found: the check can fail.
"""

from __future__ import annotations

import ast
import csv
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
LIST = ROOT / "docs" / "floors.csv"


def floors_of(text: str) -> dict[str, int]:
    """Package -> floor, from the one list of them. Its README picture: `python tests/test_floors.py`."""
    return {row["package"]: int(row["floor"]) for row in csv.DictReader(text.splitlines())}


FLOORS = floors_of(LIST.read_text(encoding="utf-8"))
HEAVY = frozenset({"torch", "torchvision", "timm", "safetensors", "jaxtyping", "detectron2"})
TORCH_FREE = (  # with all they import
    *("svit", "svit.core.*", "svit.runs.*", "analysis", "analysis.*", "app"),
    *("svit.cli.presets", "svit.cli.app", "svit.cli.doctor", "svit.cli.dataset", "svit.cli.main"),
    *("svit.exchange", "svit.exchange.*", "svit.cli.exchange", "svit.cli.exchange.*"),
)
# importer -> the one module of the torch side it may open, when its page is opened
DOORS = {"analysis.pages.live": "svit.live.workplace"}
# the face offers every floor's names and opens a room when one is asked for
FACE, MAIN = "svit", "svit.__main__"
NAMED_ONCE = {  # package -> the only files that may name it
    "detectron2": ("svit.detectors.detectron2_*", "svit.detectors.configs.*"),
    "torchvision.models.detection": ("svit.detectors.torchvision_rcnn", "svit.detectors.anchors"),
    "rerun": ("svit.exchange.rerun_file",),
    "streamlit": ("app", "analysis.pages.*", "svit.cli.app"),
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


def package_of(name: str, floors: dict[str, int]) -> str | None:
    """The nearest listed package a module stands in."""
    while name and name not in floors:
        name = name.rpartition(".")[0]
    return name or None


def _listed(name: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _within(name: str, package: str) -> bool:
    return name == package or name.startswith(package + ".")


def violations(root: Path, floors: dict[str, int]) -> list[str]:
    """Every broken rule in the tree below `root`, in words."""
    known = modules(root)
    edges = {name: set(imports(name, path, known)) for name, path in known.items()}
    found = [
        f"{name} stands in no listed room: give its package a row"
        for name in known
        if _homeless(name, known[name], floors)
    ]
    for name, targets in edges.items():
        for target in targets:
            found += _broken(name, target, known, floors)
        if _listed(name, TORCH_FREE):
            found += _heavy_paths([name], edges)
    return sorted([*found, *_circles(edges, known)])


def _homeless(name: str, path: Path, floors: dict[str, int]) -> bool:
    """Whether a module stands below no room: in `svit` there is but the face, in `analysis` commands."""
    own = name if path.name == "__init__.py" else name.rpartition(".")[0] or name
    room = package_of(own, floors)
    strangers = room == FACE and name not in (FACE, MAIN)
    return room is None or strangers or (room == "analysis" and own != "analysis")


def _circles(edges: dict[str, set[str]], known: dict[str, Path]) -> Iterator[str]:
    """Packages that import each other, at any depth; a package and what lies below it are two."""
    between: dict[str, set[str]] = {}
    for name, targets in edges.items():
        here = _package(name, known)
        inner = {_package(target, known) for target in targets if target in known}
        between.setdefault(here, set()).update(inner - {here, FACE})
    for package in between:
        others, seen = list(between[package]), set()
        while others:
            other = others.pop()
            if other == package:
                yield f"{package} imports itself through other packages"
                break
            if other not in seen:
                seen.add(other)
                others += between.get(other, ())


def _package(name: str, known: dict[str, Path]) -> str:
    return name if known[name].name == "__init__.py" else name.rpartition(".")[0] or name


def _broken(
    name: str, target: str, known: dict[str, Path], floors: dict[str, int]
) -> Iterator[str]:
    here, there = package_of(name, floors), package_of(target, floors)
    if target in known and FACE not in (name, target) and None not in (here, there):
        if here != there and floors[here] <= floors[there]:
            yield f"{name} (floor {floors[here]}) imports {target} (floor {floors[there]})"
        if target.startswith("analysis") and name.startswith("svit"):
            yield f"{name} imports {target}: the workbench's library knows no analysis"
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


def picture(text: str) -> str:
    """The floors as the README draws them, the highest first: what loads torch right, the rest left."""
    rows = list(csv.DictReader(text.splitlines()))
    lines = []
    for level in sorted({int(row["floor"]) for row in rows}, reverse=True):
        names = [row["package"] for row in rows if int(row["floor"]) == level]
        free = [n for n in names if n.split(".")[0] in ("analysis", "app")]
        lines.append(
            f"{level}  {', '.join(free):<34}| {', '.join(n for n in names if n not in free)}"
        )
    return "\n".join(line.rstrip() for line in lines)


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
    assert violations(ROOT, FLOORS) == []


def test_there_are_at_most_ten_floors() -> None:
    assert sorted(set(FLOORS.values())) == list(range(10))


def test_the_readme_draws_the_floors_that_are_enforced() -> None:
    assert picture(LIST.read_text(encoding="utf-8")) in (ROOT / "README.md").read_text(
        encoding="utf-8"
    )


def test_only_the_command_line_reads_options() -> None:
    known = modules(ROOT)
    readers = [name for name, path in known.items() if "argparse" in imports(name, path, known)]
    assert [one for one in readers if _within(one, "svit") and not _within(one, "svit.cli")] == []


def test_no_room_is_crowded() -> None:
    rooms = Counter(path.parent for path in modules(ROOT).values() if path.name != "__init__.py")
    assert {str(room.relative_to(ROOT)): n for room, n in rooms.items() if n > 16} == {}


def test_the_check_sees_the_whole_house() -> None:
    known = modules(ROOT)
    assert {"svit.core.types", "svit.pruning.methods.svit", "svit.models.vit"} <= set(known)
    edges = {
        (name, target) for name, path in known.items() for target in imports(name, path, known)
    }
    assert ("svit.probing.recorder", "svit.pruning.base") in edges


def test_the_torch_free_half_loads_neither_torch_nor_streamlit() -> None:
    scripts = ("app", "analysis.pages", "analysis.pages.*")  # run, not imported
    names = [n for n in modules(ROOT) if _listed(n, TORCH_FREE) and not _listed(n, scripts)]
    assert loaded_by(*names) == set()


def test_the_app_and_its_recorded_pages_load_no_torch(tmp_path: Path) -> None:
    code = f"""
import sys
from pathlib import Path
from streamlit.testing.v1 import AppTest
sys.path.insert(0, "tests")
from support import runs
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
    code = "import sys; from svit.cli.main import _parser; _parser(); print(*sys.modules)"
    assert not set(fresh(code).split()) & (HEAVY | {"streamlit", "numpy", "pandas"})


def test_models_and_the_default_detector_load_torch_but_no_detectron2() -> None:
    loaded = loaded_by("svit.models", "svit.probing.recorder", "svit.detectors.torchvision_rcnn")
    assert "torch" in loaded and "detectron2" not in loaded


PLANTED = {
    "svit/core/types.py": (
        "from svit.runs.run import open_run",
        "svit.core.types (floor 0) imports svit.runs.run",
    ),
    "svit/runs/run.py": (
        "def f():\n    import torch.nn",
        "svit.runs.run is torch-free but reaches torch.nn",
    ),
    "svit/core/config.py": ("from .. import models", "svit.core.config "),
    "svit/models/vit.py": (
        "from ..detectors import base",
        "svit.detectors imports itself through other packages",
        "svit.models imports itself through other packages",
        "svit.models.vit (floor 2) imports",
    ),
    "svit/models/pyramid.py": ("import detectron2.layers", "svit.models.pyramid names detectron2"),
    "svit/evaluation/evaluate.py": (
        "from torchvision.models import detection",
        "svit.evaluation.evaluate names torchvision.models.detection",
    ),
    "svit/training/train.py": (
        "from analysis.numbers import usage",
        "svit.training.train imports analysis.numbers.usage: the workbench's library",
    ),
    "analysis/figures/figures.py": (
        "from svit.live import workplace",
        "analysis.figures.figures (floor 5) imports svit.live.workplace (floor 6)",
        "analysis.figures.figures is torch-free but reaches svit.live.workplace -> ",
    ),
    "analysis/numbers/usage.py": ("import streamlit", "analysis.numbers.usage names streamlit"),
    "analysis/pages/image.py": (
        "import svit.live.workplace",
        "analysis.pages.image is torch-free but reaches svit.live.workplace -> ",
    ),
    "svit/novelty.py": ("", "svit.novelty stands in no listed room"),
    "svit/new_room/thing.py": ("", "svit.new_room.thing stands in no listed room"),
    "analysis/pages/parts/shell.py": (
        "from analysis.pages.parts.image import stage",
        "analysis.pages.parts imports itself through other packages",
        "analysis.pages.parts.image imports itself through other packages",
    ),
}
ABSENT = ("svit/novelty.py", "svit/new_room/thing.py")
INNOCENT = {
    "svit/__init__.py": "",
    "svit/models/__init__.py": "from svit.models.vit import ViT",
    "svit/detectors/__init__.py": "",
    "svit/detectors/base.py": "from svit.models import vit",
    "svit/probing/recorder.py": "import torch",
    "svit/live/workplace.py": "from svit.probing import recorder",
    "analysis/__init__.py": "",
    "analysis/pages/parts/image/stage.py": "from analysis.pages.parts import shell",
    "analysis/pages/live.py": "def page():\n    from svit.live import workplace",
}


def _plant(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


def test_an_innocent_tree_breaks_no_rule(tmp_path: Path) -> None:
    _plant(tmp_path, {**dict.fromkeys(set(PLANTED) - set(ABSENT), ""), **INNOCENT})
    assert violations(tmp_path, FLOORS) == []


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_violation_is_found(name: str, tmp_path: Path) -> None:
    text, *sentences = PLANTED[name]
    others = dict.fromkeys(set(PLANTED) - set(ABSENT), "")
    _plant(tmp_path, {**others, **INNOCENT, name: text})
    found = violations(tmp_path, FLOORS)
    assert len(found) == len(sentences), found
    assert all(item.startswith(start) for item, start in zip(found, sentences)), found


if __name__ == "__main__":
    print(picture(LIST.read_text(encoding="utf-8")))
