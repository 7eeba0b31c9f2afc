"""README and the pages of `docs/`: their commands are commands, their links lead somewhere, what they name exists."""

from __future__ import annotations

import importlib.util
import re
import shlex
from pathlib import Path
from pkgutil import resolve_name

import pytest

from tests.cluster.reduce_crd import ROOT
from tests.cluster.test_cluster import shell_lines
from workflows.cli import parse

PAGES = [ROOT / "README.md", ROOT / "cluster" / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
COMMAND = re.compile(r"(?:^|[ /])sam-engine (.*)$")
SYNOPSIS = ("...", "[")


def commands(page: Path) -> list[list[str]]:
    """The words behind `sam-engine` in each of a page's commands, but for those that show what may be left out."""
    found = (COMMAND.search(line) for line in shell_lines(page))
    lines = (shlex.split(match[1], comments=True) for match in found if match)
    return [[word for word in words if word != "&"] for words in lines if not _is_synopsis(words)]


def _is_synopsis(words: list[str]) -> bool:
    return any(sign in word for word in words for sign in SYNOPSIS)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_commands_are_commands(page: Path) -> None:
    for words in commands(page):
        parse(words)  # raises, with the line that a user would get


def test_there_are_commands_to_look_at() -> None:
    assert sum(len(commands(page)) for page in PAGES) > 50


def heading_links(page: Path) -> set[str]:
    """What GitHub calls the headings of a page in links."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_links_lead_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\((?!https?:)([^)]+)\)", page.read_text()):
        file, _, heading = link.partition("#")
        target = page.parent / file if file else page
        assert target.exists(), link
        assert not heading or heading in heading_links(target), link


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_modules_files_and_names_are_there(page: Path) -> None:
    text = page.read_text()
    for module in re.findall(r"python3? -m\s(tests[\w.]+)", text):
        assert importlib.util.find_spec(module), module
    for path in re.findall(r"`((?:workflows|sam_core|schemas|tests|cluster|docs|notebooks)/[\w./-]+)`", text):
        assert (ROOT / path).exists(), path
    for name in re.findall(r"`((?:workflows|sam_core|schemas)\.[\w.]+)", text):
        resolve_name(name)
