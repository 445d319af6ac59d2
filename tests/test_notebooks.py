"""The tutorial: each notebook runs in a fresh kernel from a strange folder and shows what is committed."""

from __future__ import annotations

import re
import resource
from collections.abc import Iterator
from pathlib import Path

import pytest

nbformat = pytest.importorskip("nbformat", reason="nbformat is not installed (dev extra)")
pytest.importorskip("nbclient", reason="nbclient is not installed (dev extra)")
pytest.importorskip("ipykernel", reason="ipykernel is not installed (dev extra)")

from notebooks import execute  # noqa: E402

PROJECT = Path(__file__).resolve().parents[1]
FOLDER = execute.FOLDER
PATHS = sorted(FOLDER.glob("*.ipynb"))
SECONDS = 120  # of one processor; they take up to a third of it, more on a busy machine
BYTES = 1_200_000

each = pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)


def read(path: Path):
    return nbformat.read(path, as_version=4)


def code_cells(notebook) -> list:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def kinds(notebook) -> list[list[str]]:
    """What each code cell shows: the richest kind of each output."""
    order = ("image/png", "text/html", "text/plain")
    return [
        [
            next(kind for kind in order if kind in output["data"])
            if "data" in output
            else output.get("name", output.output_type)  # stdout, stderr or error
            for output in cell.outputs
        ]
        for cell in code_cells(notebook)
    ]


def texts(notebook) -> Iterator[str]:
    """All texts of all outputs."""
    for cell in code_cells(notebook):
        for output in cell.outputs:
            yield output.get("text", "")
            yield from (v for k, v in output.get("data", {}).items() if k.startswith("text/"))


def foreign_paths(notebook) -> list[str]:
    """Absolute paths, on whatever system, in what the cells show."""
    found = (
        re.findall(r"(?<![\w.<])(?:/[\w.-]+){2,}|[A-Z]:\\\S+", text) for text in texts(notebook)
    )
    return [path for some in found for path in some]


def check_outputs(notebook) -> None:
    shown = kinds(notebook)
    assert not {"stderr", "error"} & {kind for one in shown for kind in one}
    for cell, one in zip(code_cells(notebook), shown, strict=True):
        if re.search(r"^(fig, |fig = |show\()", cell.source, re.MULTILINE):
            assert "image/png" in one, cell.source
    assert not foreign_paths(notebook)


def files(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


def processor_seconds() -> float:
    """Of all processes that this one has started and waited for."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def test_the_six_notebooks_are_there_and_their_links_lead_somewhere() -> None:
    assert [path.name[:2] for path in PATHS] == ["01", "02", "03", "04", "05", "06"]
    for path in [*PATHS, FOLDER / "README.md"]:
        prose = path.read_text(encoding="utf-8")
        if path.suffix == ".ipynb":
            prose = "\n".join(c.source for c in read(path).cells if c.cell_type == "markdown")
        links = re.findall(r"\]\((?!https?:)([^)#]+)", prose)
        assert links and all((FOLDER / link).exists() for link in links), path.name


@each
def test_a_fresh_kernel_shows_what_is_committed_and_leaves_nothing_behind(
    path: Path, tmp_path: Path
) -> None:
    elsewhere, temporary = tmp_path / "elsewhere", tmp_path / "temporary"
    elsewhere.mkdir(), temporary.mkdir()
    before = files(FOLDER) | files(PROJECT / "demo")
    start = processor_seconds()
    environment = {"PYTHONPATH": str(PROJECT), "TMPDIR": str(temporary)}
    notebook = execute.executed(path, elsewhere, **environment)
    assert processor_seconds() - start < SECONDS
    check_outputs(notebook)
    assert kinds(notebook) == kinds(read(path)), "execute it again, as notebooks/README.md says"
    assert not list(elsewhere.iterdir())
    assert files(FOLDER) | files(PROJECT / "demo") == before


@each
def test_what_is_committed_was_run_from_the_top_and_is_clean(path: Path) -> None:
    notebook = read(path)
    assert path.stat().st_size < BYTES
    cells = code_cells(notebook)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert not any(cell.metadata for cell in notebook.cells)  # such as times of a run
    assert set(notebook.metadata) == {"kernelspec", "language_info"}
    assert notebook.metadata["language_info"] == {"name": "python"}
    check_outputs(notebook)


@each
def test_every_cell_of_code_shows_something_or_is_followed_by_prose(path: Path) -> None:
    notebook = read(path)
    first, *rest = notebook.cells
    assert first.cell_type == "markdown" and first.source.startswith("# ")
    for cell, following in zip(notebook.cells, [*rest, None], strict=True):
        assert cell.source.strip()
        if cell.cell_type == "code" and not cell.outputs:
            assert following is not None and following.cell_type == "markdown", cell.source


def test_the_method_of_the_fourth_notebook_has_at_most_forty_lines() -> None:
    (method,) = [c.source for c in code_cells(read(PATHS[3])) if c.source.startswith("class ")]
    assert len(method.strip().splitlines()) <= 40


def test_a_model_of_ones_own_takes_ten_lines_in_the_fifth_notebook() -> None:
    (cell,) = [c.source for c in code_cells(read(PATHS[4])) if "import timm" in c.source]
    assert len([line for line in cell.splitlines() if line]) <= 10


def test_the_second_notebook_needs_no_torch() -> None:
    source = "\n".join(cell.source for cell in code_cells(read(PATHS[1])))
    assert 'assert "torch" not in sys.modules' in source
    assert not re.search(r"^\s*(import|from) torch", source, re.MULTILINE)


def test_a_path_in_an_output_would_be_found() -> None:
    output = nbformat.v4.new_output("stream", name="stdout", text="wrote /home/me/figures/a.png\n")
    cell = nbformat.v4.new_code_cell("1", outputs=[output])
    assert foreign_paths(nbformat.v4.new_notebook(cells=[cell])) == ["/home/me/figures/a.png"]
    output["text"] = "3 / 4 of it, and/or a </td> of 1/2/3"
    assert not foreign_paths(nbformat.v4.new_notebook(cells=[cell]))


def test_the_command_tells_its_usage(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        execute.main(["--help"])
    assert stopped.value.code == 0 and "NOTEBOOK" in capsys.readouterr().out.upper()
