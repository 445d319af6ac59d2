"""The `svit` command: its table of verbs, its errors, and the small verbs that need no other test file."""

from __future__ import annotations

import argparse
import importlib
import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from PIL import Image

from svit.cli import app, presets
from svit.cli import main as cli
from svit.cli.main import HUNG_UP, VERBS, Verb, main
from svit.core.config import ConfigError
from svit.core.presets import PRESETS, load_config

ROOT = Path(__file__).resolve().parents[2]


class OurError(RuntimeError):
    """An error class that a module of the workbench declares."""


OurError.__module__ = "svit.somewhere"


@pytest.fixture
def verb(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], int]], None]:
    """Adds the verb `act`, which does what it is given: one row of the table and one module."""

    def add(action: Callable[[], int]) -> None:
        module = ModuleType("acting")
        module.add_arguments = lambda parser: parser.add_argument("--times", type=int, default=1)
        module.run = lambda args: action()
        monkeypatch.setitem(sys.modules, "acting", module)
        monkeypatch.setitem(VERBS, "act", Verb("acting", "do it"))

    return add


def failing(error: BaseException) -> Callable[[], int]:
    def action() -> int:
        raise error

    return action


@pytest.mark.parametrize("name", VERBS)
def test_every_verb_explains_itself(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main([name, "--help"])
    assert stop.value.code == 0
    text = capsys.readouterr().out
    assert f"usage: svit {name}" in text and VERBS[name].summary[1:] in " ".join(text.split())


def commands(text: str) -> list[list[str]]:
    """The `svit ...` lines of a text, without `svit` and without what explains them."""
    lines = [line.strip().split("   ")[0].split() for line in text.splitlines()]
    return [words[1:] for words in lines if words[:1] == ["svit"] and "VERB" not in words]


README = (ROOT / "README.md").read_text(encoding="utf-8")
TAUGHT = [*commands(cli.EXAMPLES), *commands(README)]


@pytest.mark.parametrize("words", TAUGHT, ids=" ".join)
def test_every_command_that_help_and_readme_teach_is_accepted(words: list[str]) -> None:
    module = importlib.import_module(VERBS[words[0]].module)
    assert cli._parser(words[0], module.add_arguments).parse_args(words).verb == words[0]


def test_what_the_readme_names_exists() -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]+)\)", README)
    missing = [link for link in links if not (ROOT / link).exists()]
    goals = set(re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert not missing and set(re.findall(r"make ([a-z-]+)", README)) <= goals


def test_the_python_of_the_readme_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (96, 64), (90, 120, 60)).save("photo.jpg")
    names: dict[str, Any] = {}
    exec(compile(code, "README.md", "exec"), names)
    assert names["usage"].max() <= 12 and len(names["detections"]) >= 0


def test_the_help_lists_every_verb_and_imports_none(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    text = capsys.readouterr().out
    assert all(f"{name} " in text and verb.summary in text for name, verb in VERBS.items())


def test_without_a_verb_the_help_goes_to_stderr_and_the_command_fails(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main([]) == 2
    captured = capsys.readouterr()
    assert "svit doctor" in captured.err and not captured.out


def test_an_unknown_verb_is_answered_with_the_choices(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["trian"])
    assert stop.value.code == 2 and "train" in capsys.readouterr().err


def test_one_row_adds_a_verb(verb, capsys: pytest.CaptureFixture[str]) -> None:
    verb(lambda: 7)
    assert main(["act", "--times", "3"]) == 7
    with pytest.raises(SystemExit):
        main(["--help"])
    assert "do it" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (ConfigError("backbone.depth: expected a multiple of 4"), "backbone.depth: expected"),
        (OurError("runs/a is half-written"), "runs/a is half-written"),
        (FileNotFoundError(2, "No such file or directory", "a.json"), "a.json: No such file"),
        (ModuleNotFoundError("No module named 'timm'"), "`svit doctor` tells what is missing"),
        (ValueError(), "ValueError"),
    ],
)
def test_an_error_of_the_input_is_one_line_and_exit_code_two(
    error: Exception, sentence: str, verb, capsys: pytest.CaptureFixture[str]
) -> None:
    verb(failing(error))
    assert main(["act"]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and lines[0].startswith("svit: error: ") and sentence in lines[0]


@pytest.mark.parametrize("words", [["act", "--debug"], ["--debug", "act"]])
def test_debug_shows_the_traceback(words: list[str], verb) -> None:
    verb(failing(ConfigError("no")))
    with pytest.raises(ConfigError):
        main(words)


@pytest.mark.parametrize("error", [KeyError("a"), RuntimeError("cuda"), AssertionError()])
def test_a_fault_of_ours_keeps_its_traceback(error: Exception, verb) -> None:
    verb(failing(error))
    with pytest.raises(type(error)):
        main(["act"])


def test_an_interrupt_is_exit_code_130(verb, capsys: pytest.CaptureFixture[str]) -> None:
    verb(failing(KeyboardInterrupt()))
    assert main(["act"]) == 130
    assert capsys.readouterr().err == "svit: interrupted\n"


def test_a_reader_that_has_gone_is_no_error() -> None:
    command = f"{sys.executable} -m svit presets | true"
    done = subprocess.run(command, shell=True, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0 and done.stderr == ""


def test_work_that_a_reader_that_has_gone_cut_short_does_not_pass_for_done() -> None:
    command = [sys.executable, "-m", "svit", "presets"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as ran:
        ran.stdout.close()
        assert ran.stderr.read() == b"" and ran.wait() == HUNG_UP


def test_a_pipe_that_breaks_elsewhere_is_an_error(verb, capsys: pytest.CaptureFixture[str]) -> None:
    verb(failing(BrokenPipeError(32, "Broken pipe")))
    assert main(["act"]) == 2
    assert capsys.readouterr().err == "svit: error: [Errno 32] Broken pipe\n"


def test_presets_lists_every_preset(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["presets"]) == 0
    lines = capsys.readouterr().out.splitlines()
    named = [line.split()[0] for line in lines[1:] if line and not line.startswith("#")]
    assert sorted(named) == sorted(PRESETS) and len(set(named)) == len(named)
    (mine,) = (line for line in lines if line.startswith("svit-fixed-inherit-plain-nano "))
    assert mine.split()[1:5] == ["gate", "no", "yes", "no"]  # paper Table 3, last row


def test_a_printed_preset_is_a_file_that_loads_as_the_same_configuration(tmp_path: Path) -> None:
    overrides = ["backbone.drop_path=0.3", "pruning.options.bias=1.5"]
    path = tmp_path / "mine.yaml"
    path.write_text(presets.as_yaml("svit-adapter-s", overrides), encoding="utf-8")
    assert load_config(str(path)) == load_config("svit-adapter-s", overrides)


def test_an_unknown_preset_is_answered_with_near_names(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["presets", "svit-adaptor-t"]) == 2
    assert "svit-adapter-t" in capsys.readouterr().err


def test_the_app_is_started_with_streamlit_and_the_folders_of_runs(tmp_path: Path) -> None:
    words = app.command(8600, [tmp_path])
    assert words[:2] == ["streamlit", "run"] and Path(words[2]).is_file()
    assert words[3:] == ["--server.port", "8600", "--", "--runs", str(tmp_path)]
    assert app.command(8600, [ROOT / "demo" / "runs"])[-1] == str(Path("demo", "runs"))
    assert app.command(8600, [tmp_path], [tmp_path])[-2:] == ["--pictures", str(tmp_path)]


def test_the_process_of_svit_app_becomes_the_server_and_shows_the_runs_that_lie_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = []
    (tmp_path / "runs").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["svit"])
    monkeypatch.setattr("streamlit.web.cli.main", lambda: begun.append(list(sys.argv)))
    app.run(argparse.Namespace(port=8600, runs=None, pictures=[]))
    assert begun[0][-2:] == [str(tmp_path / "runs"), str(Path("demo", "runs"))]
    assert Path.cwd() == ROOT


def test_a_folder_of_runs_that_is_not_there_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["app", "--runs", str(tmp_path / "nowhere")]) == 2
    assert "nowhere" in capsys.readouterr().err


def test_written_shapes_pass_the_check_and_a_broken_json_does_not(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    counts = ["--train", "2", "--val", "1", "--seed", "3"]
    assert main(["dataset", "shapes", "--out", str(tmp_path), *counts]) == 0
    annotations = sorted((tmp_path / "annotations").glob("*.json"))
    assert len(annotations) == 2
    assert all(main(["dataset", "check", str(path)]) == 0 for path in annotations)

    content = json.loads(annotations[0].read_text(encoding="utf-8"))
    content["annotations"][0]["image_id"] = 10**9
    annotations[0].write_text(json.dumps(content), encoding="utf-8")
    capsys.readouterr()
    assert main(["dataset", "check", str(annotations[0])]) == 1
    assert "unknown image" in capsys.readouterr().out


def test_annotated_photographs_pass_the_check(coco_tiny: Path) -> None:
    annotations = coco_tiny / "annotations" / "instances_val2017.json"
    words = ["dataset", "check", str(annotations), "--image-root", str(coco_tiny / "val2017")]
    assert main(words) == 0


def test_a_repaired_json_is_written_and_passes(tmp_path: Path) -> None:
    assert main(["dataset", "shapes", "--out", str(tmp_path), "--train", "1", "--val", "1"]) == 0
    source, fixed = tmp_path / "annotations" / "instances_val2017.json", tmp_path / "fixed.json"
    content = json.loads(source.read_text(encoding="utf-8"))
    for annotation in content["annotations"]:
        del annotation["iscrowd"]
    source.write_text(json.dumps(content), encoding="utf-8")
    assert main(["dataset", "check", str(source), "--repair", str(fixed)]) == 0
    assert main(["dataset", "check", str(source), "--repair", str(fixed)]) == 0  # the same again
    before = source.read_bytes()
    assert main(["dataset", "check", str(source), "--repair", str(source)]) == 2
    assert source.read_bytes() == before
    repaired = json.loads(fixed.read_text(encoding="utf-8"))
    assert all(annotation["iscrowd"] == 0 for annotation in repaired["annotations"])


def test_converted_weights_fit_the_preset_they_were_converted_for(tmp_path: Path) -> None:
    from svit.detectors import build_detector
    from svit.weights.checkpoint import read, save

    dense, sparse = tmp_path / "dense.safetensors", tmp_path / "sparse.safetensors"
    detector = build_detector(load_config("vit-plain-nano"))
    save(dense, detector)
    assert main(["convert", str(dense), str(sparse), "--preset", "vit-plain-nano", "--half"]) == 0
    converted = read(sparse)
    assert converted.config.name == "vit-plain-nano"
    assert set(converted.state) == set(detector.canonical_state_dict())


def test_converting_a_file_twice_gives_the_same_bytes_and_draws_nothing_of_the_caller(
    tmp_path: Path,
) -> None:
    """Gates that a dense file lacks are made up, and safetensors shuffles what stands in a header."""
    import torch

    from svit.detectors import build_detector
    from svit.weights.checkpoint import read, save

    body = ["framework=torchvision", "backbone.embed_dim=12", "backbone.heads=2"]
    save(tmp_path / "dense.safetensors", build_detector(load_config("vit-plain-nano", body)))
    files = [tmp_path / f"sparse-{number}.safetensors" for number in range(4)]
    for number, file in enumerate(files):
        torch.manual_seed(number)
        words = ["convert", str(tmp_path / "dense.safetensors"), str(file), *body]
        assert main([*words, "--preset", "svit-plain-nano"]) == 2  # gates are missing
        assert main([*words, "--preset", "svit-plain-nano", "--partial"]) == 0
        drawn = torch.rand(1)
        torch.manual_seed(number)
        assert torch.equal(drawn, torch.rand(1))
    assert len({file.read_bytes() for file in files}) == 1
    assert read(files[0]).extra["source"] == "dense.safetensors"


def test_weights_of_another_model_are_refused_and_nothing_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from svit.detectors import build_detector
    from svit.weights.checkpoint import save

    source, out = tmp_path / "plain.safetensors", tmp_path / "out.safetensors"
    save(source, build_detector(load_config("vit-plain-nano")))
    assert main(["convert", str(source), str(out), "--preset", "vit-adapter-nano"]) == 2
    assert "does not fit" in capsys.readouterr().err and not out.exists()


def test_overrides_without_a_preset_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["convert", "a.pth", "b.safetensors", "detector.classes=8"]) == 2
    assert "--preset" in capsys.readouterr().err


def test_the_module_runs_like_the_command() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "svit", "--version"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0 and done.stdout.startswith("svit ")
    assert isinstance(cli._parser(), argparse.ArgumentParser)
