"""`svit doctor` on this machine, on planted broken libraries, and against the files that name our needs."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from svit.cli import doctor
from svit.cli.doctor import DETECTRON2_FAULTS, TIERS, TORCH_FAULTS, Fault, Finding

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # comes with pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def findings() -> dict[str, Finding]:
    return {item.name: item for item in doctor.examine()}


@pytest.fixture
def planted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Puts a package of one line before the real one, for the interpreters the doctor starts."""

    def plant(name: str, text: str) -> None:
        path = tmp_path.joinpath(*name.split("."))
        path.mkdir(parents=True)
        (path / "__init__.py").write_text(text, encoding="utf-8")
        monkeypatch.setenv("PYTHONPATH", str(tmp_path))

    return plant


def distribution(folder: Path, name: str, version: str, needs: tuple[str, ...] = ()) -> None:
    """The metadata of an installed distribution, without the distribution."""
    info = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir()
    lines = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}"]
    lines += [f"Requires-Dist: {need}" for need in needs]
    (info / "METADATA").write_text("\n".join(lines) + "\n", encoding="utf-8")


def test_this_environment_is_fine(findings: dict[str, Finding]) -> None:
    assert {name: findings[name].state for name in doctor.NEEDED} == {
        "viewer": "ok",
        "analysis": "ok",
        "pairing": "ok",
    }, doctor.text(list(findings.values()))


def test_the_report_names_the_framework_and_every_version(findings: dict[str, Finding]) -> None:
    import torch

    assert f"torch {torch.__version__}" in findings["pairing"].detail
    assert "auto" in findings["framework"].detail and findings["framework"].state == "note"
    assert findings["detectron2"].state in ("ok", "absent")


def test_the_report_is_text_or_json_and_the_exit_code_tells_the_needed_tiers(
    findings: dict[str, Finding],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    found = list(findings.values())
    monkeypatch.setattr(doctor, "examine", lambda: found)
    assert doctor.run(argparse.Namespace(json=True)) == 0
    assert [row["name"] for row in json.loads(capsys.readouterr().out)] == list(findings)
    found[0] = Finding("viewer", "broken", "not installed: altair", "python -m pip install altair")
    assert doctor.run(argparse.Namespace(json=False)) == 1
    assert "fix: python -m pip install altair" in capsys.readouterr().out


def test_a_torchvision_of_another_build_is_recognised(planted) -> None:
    planted("torch", "")
    planted("torchvision", "raise RuntimeError('operator torchvision::nms does not exist')")
    pairing, device = doctor._torch()
    assert pairing.state == "broken" and "different builds" in pairing.detail
    assert "torch torchvision" in pairing.remedy and "unknown" in device.detail


BROKEN_DETECTRON2 = [  # what importing it raises, the state to report, a part of the remedy
    ("ModuleNotFoundError(\"No module named 'detectron2'\")", "absent", "--no-build-isolation"),
    ("ImportError('_C.so: undefined symbol: _ZN2at')", "broken", "--force-reinstall"),
    ("AttributeError(\"module 'numpy' has no attribute 'bool'\")", "broken", "git+https"),
    ("OSError('nobody met this before')", "broken", ""),
]


@pytest.mark.parametrize(("error", "state", "remedy"), BROKEN_DETECTRON2)
def test_a_broken_detectron2_is_told_with_its_remedy(
    error: str, state: str, remedy: str, planted
) -> None:
    planted("detectron2", f"raise {error}")
    finding = doctor._detectron2()
    assert finding.state == state and remedy in finding.remedy
    assert bool(finding.remedy) == bool(remedy)


def test_a_detectron2_without_pkg_resources_works_but_for_its_model_zoo(planted) -> None:
    planted("detectron2", "__version__ = '0.6'")
    for part in ("config", "modeling", "structures"):
        planted(f"detectron2.{part}", "")
    error = "ModuleNotFoundError(\"No module named 'pkg_resources'\")"
    planted("detectron2.model_zoo", f"raise {error}")
    finding = doctor._detectron2()
    assert finding.state == "ok" and "model_zoo" in finding.detail
    assert "setuptools<82" in finding.remedy


def test_needs_that_are_not_met_are_named_with_what_to_type(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    distribution(tmp_path, "planted-tool", "1.0", ("planted-part<0.1.10,>=0.1.7", "planted-gone"))
    distribution(tmp_path, "planted-part", "0.1.10")
    monkeypatch.syspath_prepend(tmp_path)
    detail, remedy = doctor._explain(doctor._outside_bounds("planted-tool"))
    assert "planted-part 0.1.10, needed <0.1.10,>=0.1.7" in detail
    assert "planted-gone is not installed" in detail
    assert remedy == "python -m pip install 'planted-part<0.1.10,>=0.1.7' 'planted-gone'"


def test_extras_that_were_not_asked_for_are_not_needed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    needs = ("planted-absent; extra == 'dev'", "planted-other; python_version < '3'")
    distribution(tmp_path, "planted-tool", "1.0", needs)
    monkeypatch.syspath_prepend(tmp_path)
    assert doctor._outside_bounds("planted-tool") == []


@pytest.mark.parametrize("fault", [*TORCH_FAULTS, *DETECTRON2_FAULTS], ids=lambda f: f.message)
def test_every_known_failure_has_a_meaning_and_a_remedy(fault: Fault) -> None:
    faults = TORCH_FAULTS if fault in TORCH_FAULTS else DETECTRON2_FAULTS
    finding = doctor.diagnose("part", f"ImportError: {fault.message} in some file", faults)
    assert finding.state == "broken" and fault.meaning in finding.detail
    assert finding.remedy.startswith("python -m pip install")


def test_an_unknown_failure_is_passed_on_as_it_is() -> None:
    finding = doctor.diagnose("part", "OSError: libfoo.so", DETECTRON2_FAULTS)
    assert finding == Finding("part", "broken", "OSError: libfoo.so")


def test_a_missing_package_breaks_its_tier(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(TIERS, "viewer", ("numpy", "no-such-package"))
    finding = doctor._tier("viewer")
    assert finding.state == "broken" and "no-such-package" in finding.detail
    assert "requirements.txt" in finding.remedy


def requirements() -> list[str]:
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def test_every_requirement_has_a_lower_bound_and_a_reason() -> None:
    for line in requirements():
        need, _, reason = line.partition("#")
        assert reason.strip() and ">=" in need, line


def test_requirements_the_package_and_the_doctor_name_the_same_needs() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    tiers = {"viewer": project["dependencies"], **project["optional-dependencies"]}
    declared = [Requirement(line) for tier in TIERS for line in tiers[tier]]
    assert [Requirement(line.partition("#")[0]) for line in requirements()] == declared
    for tier, names in TIERS.items():
        assert tuple(Requirement(line).name for line in tiers[tier]) == names


def test_every_need_has_a_tested_version_within_its_bounds() -> None:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    tested = {canonicalize_name(line.partition("==")[0]): line.partition("==")[2] for line in lines}
    for need in (Requirement(line.partition("#")[0]) for line in requirements()):
        assert need.specifier.contains(tested[canonicalize_name(need.name)]), need
