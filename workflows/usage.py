"""What tyro says of a wrong command line, in one line: it draws a box with as much help text as fits a screen."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager

_RULE = re.compile(r"[─-]{8,}")
_NOT_OF_TYPE = re.compile(r"no type matching (?:\{None\}\|)?(\S+) could be instantiated from \['(.*?)'\]")
_NO_NUMBER = re.compile(r"(?:invalid literal for (int)\(\) with base 10|could not convert string to (float)): '(.*)'")
_OPTION = re.compile(r"--[a-z0-9][a-z0-9.-]*")
_MISPLACED = re.compile(r"(\S+) \(applied to ")


@contextmanager
def unwrapped() -> Iterator[None]:
    """A screen so wide that nothing is broken over lines, and no path in two."""
    before = os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = "10000"
    try:
        yield
    finally:
        if before is None:
            del os.environ["COLUMNS"]
        else:
            os.environ["COLUMNS"] = before


def usage_line(box: str, command: str) -> str:
    """The box as one line that ends with where to look; `command` is what was called, such as `sam-engine train`."""
    first, *others = _sections(box)
    if " ".join(first).startswith("Unrecognized "):
        return f"{_unknown(' '.join(first), others, command)}; see `{command} --help`"
    return f"{_said(first)}; see `{command} --help`"


def _sections(box: str) -> list[list[str]]:
    """The lines of the box without its frame and title, cut where a rule is drawn."""
    sections: list[list[str]] = [[]]
    for line in box.splitlines():
        text = line.strip("│ ")
        if _RULE.fullmatch(text):
            sections.append([])
        elif text and text[0] not in "╭╰":
            sections[-1].append(text)
    return sections if "╭" in box else sections[1:]  # without UTF-8 the title is a section of its own


def _missing(text: str) -> Iterator[str]:
    """What each missing argument is for; options by their name, as others have none that people type."""
    for argument in filter(None, text.split(" (required)")):
        word, _, meaning = argument.strip().partition(" ")
        yield argument.strip() if word.startswith("--") else meaning.rstrip(".")


def _unknown(text: str, similar: list[list[str]], command: str) -> str:
    """What the command does not know, and the options of its own that are like it; tyro calls `misplaced` what another
    command has by that very name."""
    words = _MISPLACED.findall(text) or [text.partition(": ")[2]]
    meant = sorted({option for section in similar if (option := _own(section, command))})
    return f"unknown: {', '.join(words)}" + (f"; did you mean {', '.join(meant)}?" if meant else "")


def _own(similar: list[str], command: str) -> str | None:
    """The first option in a section that is the command's; other commands' stand there, too."""
    option = None
    for line in similar:
        if found := _OPTION.match(line):
            option = found[0]
        elif line.startswith(f"in {command} "):
            return option
    return None


def _said(first: list[str]) -> str:
    text = " ".join(first).rstrip(".")
    if text.startswith("Missing from "):
        return f"missing: {'; '.join(_missing(text.partition(': ')[2]))}"
    text = re.sub(r"^Error parsing (--\S+): ", r"\1: ", text)
    text = re.sub(r"^Error parsing [\w.-]+: ", "", text)
    if found := _NOT_OF_TYPE.search(text):
        return f"{text[: found.start()]}{found[2]!r} is not {found[1]}"
    if found := _NO_NUMBER.search(text):
        return f"{text[: found.start()]}{found[3]!r} is not {'INT' if found[1] else 'FLOAT'}"
    return text[:1].lower() + text[1:]
