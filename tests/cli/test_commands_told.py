"""Commands that documents, pages and messages tell are ones that the parser takes."""

from __future__ import annotations

import argparse
import ast
import importlib
import re
import shlex
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from svit.cli import main as cli
from svit.cli.main import VERBS

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = [
    ROOT / "README.md",  # the changelog tells of options that are gone
    *ROOT.glob("docs/*.md"),
    *ROOT.glob("demo/**/README.md"),
    *ROOT.glob("results/**/*.md"),
]
SOURCES = [*ROOT.glob("analysis/**/*.py"), *ROOT.glob("svit/**/*.py")]
COMMAND = re.compile(rf"\bsvit ({'|'.join(VERBS)})\b([^`\n;|)]*)")
SHORTENED = re.compile(r"\.\.\.|…|\$|VERB|--help")  # not meant to be pasted as it stands


@cache
def parser(verb: str) -> argparse.ArgumentParser:
    return cli._parser(verb, importlib.import_module(VERBS[verb].module).add_arguments)


@cache
def options(verb: str) -> frozenset[str]:
    """Every option of a verb, of its own verbs (as `svit dataset nuclei`) as well."""
    found, waiting = {"--help"}, [parser(verb)]
    while waiting:
        for action in waiting.pop()._actions:
            found.update(action.option_strings)
            if isinstance(action, argparse._SubParsersAction):
                waiting.extend(action.choices.values())
    return frozenset(found)


def texts(source: Path) -> Iterator[str]:
    """The strings of a module; what an f-string fills in reads `X`."""
    tree = ast.parse(source.read_text(encoding="utf-8"))
    filled = [node for node in ast.walk(tree) if isinstance(node, ast.JoinedStr)]
    pieces = {id(part) for node in filled for part in node.values}
    for node in filled:
        yield "".join(part.value if isinstance(part, ast.Constant) else "X" for part in node.values)
    for node in ast.walk(tree):
        if id(node) in pieces:
            continue
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def told(text: str) -> list[tuple[str, str]]:
    """Verb and rest of every `svit VERB ...` of a text."""
    text = text.replace("\\\n", "")
    text = re.sub(r"`[^`\n]*\n[^`\n]*`", lambda broken: broken.group().replace("\n", " "), text)
    return [(found.group(1), found.group(2)) for found in COMMAND.finditer(text)]


def unknown_options(text: str) -> list[str]:
    return [
        f"svit {verb} {word}"
        for verb, rest in told(text)
        for word in re.findall(r"(?<![\w-])--[a-z][a-z0-9-]*", rest)
        if word not in options(verb)
    ]


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_option_that_a_document_names_exists(path: Path) -> None:
    assert unknown_options(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("package", ["analysis", "svit"])
def test_every_option_that_pages_and_messages_name_exists(package: str) -> None:
    sources = [path for path in SOURCES if path.relative_to(ROOT).parts[0] == package]
    assert {
        path.name: wrong
        for path in sources
        if (wrong := [name for text in texts(path) for name in unknown_options(text)])
    } == {}


def whole() -> list[str]:
    """Commands that pages and messages tell whole: strings that are nothing but the command."""
    found = {
        text
        for path in SOURCES
        for text in texts(path)
        if re.fullmatch(r"svit (\w+) [^\n]*", text)
        and text.split()[1] in VERBS
        and " --" in text
        and not SHORTENED.search(text)
    }
    return sorted(found)


def fenced() -> list[str]:
    """Commands in the shell blocks of the documents."""
    blocks = [
        block
        for path in DOCUMENTS
        for block in re.findall(r"```(?:sh|bash)\n(.*?)```", path.read_text("utf-8"), re.S)
    ]
    lines = [line for block in blocks for line in block.replace("\\\n", "").splitlines()]
    return sorted(
        {
            line.strip()
            for line in lines
            if line.strip().split(" ")[:1] == ["svit"] and not SHORTENED.search(line)
        }
    )


@pytest.mark.parametrize("command", [*whole(), *fenced()])
def test_a_command_told_whole_is_accepted(command: str) -> None:
    words = shlex.split(command, comments=True)[1:]
    assert parser(words[0]).parse_args(words).verb == words[0]


def test_an_option_that_no_verb_has_is_found() -> None:
    assert unknown_options("try `svit evaluate --weights FILE\n--no-such 3`") == [
        "svit evaluate --no-such"
    ]
