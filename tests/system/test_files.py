"""The file kit: whole files, leftovers of the dead, locks, claims by facts, and words that name the fix."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from support.trainings import forked

from svit.system import files
from svit.system.claims import claim, differences
from svit.system.files import FileError, Lock


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_failing_write_leaves_the_old_file_and_no_part(tmp_path: Path) -> None:
    files.write_text(tmp_path / "a", "old")
    with pytest.raises(ZeroDivisionError), files.replacing(tmp_path / "a") as part:
        part.write_text("half")
        1 / 0  # noqa: B018
    assert (tmp_path / "a").read_text() == "old" and names(tmp_path) == ["a"]


def test_a_file_has_the_rights_that_any_new_file_has(tmp_path: Path) -> None:
    files.write_text(tmp_path / "ours", "")
    (tmp_path / "plain").write_text("")
    assert (tmp_path / "ours").stat().st_mode == (tmp_path / "plain").stat().st_mode


def _write_slowly(path: Path, word: str) -> None:
    for _ in range(40):
        with files.replacing(path) as part, part.open("w") as file:
            for _ in range(200):
                file.write(word)
                file.flush()


def test_two_that_write_the_same_file_take_turns(tmp_path: Path) -> None:
    command = "import sys; sys.path.insert(0, 'tests'); from pathlib import Path\n"
    command += (
        "from system.test_files import _write_slowly; _write_slowly(Path(sys.argv[1]), sys.argv[2])"
    )
    root = Path(__file__).resolve().parents[2]
    words = [[sys.executable, "-c", command, str(tmp_path / "a"), word] for word in ("x", "yy")]
    writers = [subprocess.Popen(one, cwd=root) for one in words]
    assert [writer.wait(120) for writer in writers] == [0, 0]
    assert (tmp_path / "a").read_text() in ("x" * 200, "yy" * 200) and names(tmp_path) == ["a"]


def test_leftovers_of_the_dead_go_and_parts_of_the_living_stay(tmp_path: Path) -> None:
    def die() -> None:
        with files.replacing(tmp_path / "dead"):
            os.kill(os.getpid(), signal.SIGKILL)

    assert forked(die) == -signal.SIGKILL and names(tmp_path) == [".dead.svit-part"]
    (tmp_path / ".hidden").write_text("of somebody else")
    with files.replacing(tmp_path / "alive") as part:
        files.prepare_folder(tmp_path)
        assert names(tmp_path) == [".alive.svit-part", ".hidden"]
        part.write_text("whole")
    assert names(tmp_path) == [".hidden", "alive"]


def test_a_folder_without_room_is_refused_with_the_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=3 * 2**20)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    files.prepare_folder(tmp_path / "new", 3 * 2**20)
    with pytest.raises(FileError, match="new needs 4 MiB and 3 MiB are free; free some space"):
        files.prepare_folder(tmp_path / "new", 4 * 2**20)


@pytest.mark.parametrize(
    ("number", "fix"),
    [
        (errno.ENOSPC, "No space left on device; make room or choose another folder. Go on."),
        (errno.EROFS, "Read-only file system; choose another folder, one that can be written"),
        (errno.EACCES, "Permission denied; choose another folder, one that can be written"),
    ],
)
def test_an_error_of_the_system_comes_with_its_own_fix(
    tmp_path: Path, number: int, fix: str
) -> None:
    with pytest.raises(FileError) as error, files.explained(tmp_path, otherwise="Go on."):
        raise OSError(number, os.strerror(number))
    assert str(error.value).startswith(f"cannot write into {tmp_path}: ") and fix in str(
        error.value
    )


def test_a_file_where_a_folder_should_be_is_named_as_one(tmp_path: Path) -> None:
    (tmp_path / "results").write_text("")
    for below in ("", "deep/er"):
        with pytest.raises(FileError) as error:
            files.prepare_folder(tmp_path / "results" / below)
        assert f"{tmp_path}/results is a file, not a folder; choose another" in str(error.value)
        assert "make room" not in str(error.value)


@pytest.mark.parametrize("content", [b"{", b"\xff\xfe\x00", b"", b"[" * 100_000, b"[1]", b"null"])
def test_a_damaged_json_is_named_with_what_to_do(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "head.json").write_bytes(content)
    with pytest.raises(FileError, match=r"head\.json.*: record anew"):
        files.read_json(tmp_path / "head.json", "record anew")


WORKER = """
    import os, signal, sys, time
    from pathlib import Path
    from svit.system.files import Lock
    Lock(Path(sys.argv[1]) / ".lock")
    heard, said = os.pipe()
    if os.fork() == 0:
        os.write(said, b"begun")
        time.sleep(60)
    os.read(heard, 5)
    print("ready", flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_worker_that_outlives_its_killed_parent_does_not_hold_the_lock(tmp_path: Path) -> None:
    command = [sys.executable, "-c", textwrap.dedent(WORKER), str(tmp_path)]
    parent = subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True)
    try:
        assert parent.stdout.readline() == b"ready\n" and parent.wait(60) == -signal.SIGKILL
        with Lock(tmp_path / ".lock"):
            assert str(os.getpid()) in (tmp_path / ".lock").read_text()
    finally:
        os.killpg(parent.pid, signal.SIGKILL)
        parent.stdout.close()
    assert names(tmp_path) == []


def test_facts_are_claimed_once_and_others_are_named_side_by_side(tmp_path: Path) -> None:
    facts = {"seed": 1, "config": {"rate": 0.1, "layers": (1, 2)}}
    for _ in range(2):
        claim(tmp_path / "plan.json", facts, what="plan")
    with pytest.raises(FileError) as error:
        claim(tmp_path / "plan.json", {"seed": 2, "config": {"rate": 0.1}}, what="plan")
    assert "seed: 1 there, 2 now" in str(error.value)
    assert "config.layers: [1, 2] there, nothing now" in str(error.value)
    assert "rate" not in str(error.value)


def test_a_folder_of_somebody_else_is_not_claimed(tmp_path: Path) -> None:
    (tmp_path / ".DS_Store").write_text("hidden files are nobody's work")
    (tmp_path / "failed.txt").write_text("ours")
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(FileError, match=r"holds thesis\.tex and no plan\.json, so it is no plan"):
        claim(tmp_path / "plan.json", {}, what="plan", harmless={"failed.txt"})
    (tmp_path / "thesis.tex").unlink()
    claim(tmp_path / "plan.json", {}, what="plan", harmless={"failed.txt"})


def test_an_absent_fact_is_not_an_empty_one() -> None:
    assert differences({"a": {}}, {"a": None}) == ["a: {} there, None now"]
    assert differences({}, {"a": "absent"}) == ["a: nothing there, 'absent' now"]
    assert differences({"a": {"b": 1}}, {"a": {"b": 1}}) == []
