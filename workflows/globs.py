"""Names that match a pattern on a disk, as a shell expands it, and the folders that nobody may look into.

Python's own glob passes folders that may not be listed as if they were empty: their images would be lost unseen.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, MutableSequence, Sequence
from fnmatch import fnmatchcase
from glob import has_magic

_ANY_DEPTH = "**"
_NO_FOLDER = {errno.ENOENT, errno.ENOTDIR, errno.ELOOP}
"""Of what is a file, has gone, or is a link that leads to itself."""


def matches(pattern: str, denied: MutableSequence[str] | None) -> Iterator[str]:
    """Names of a pattern, some twice where it has `**` twice; one whose last part has no sign may not be there.

    `**` enters folders, but no links, which could circle; what is hidden matches where the pattern writes the dot.

    Folders that may not be listed are left out and noted in `denied`; without it, and where it is the folder before the
    first sign of the pattern, they raise PermissionError.
    """
    fixed, wild = split(pattern)
    folder = fixed or ("/" if pattern.startswith("/") else ".")
    _entries(folder, "*", None)
    parts = [part for part in wild.split("/") if part]
    yield from _below(folder, [*parts, "*"] if parts[-1] == _ANY_DEPTH else parts, denied)


def split(pattern: str) -> tuple[str, str]:
    """The folders before the first sign of a pattern, and the rest."""
    before = pattern[: min(pattern.index(sign) for sign in "*?[" if sign in pattern)]
    fixed = before.rpartition("/")[0]
    return fixed, pattern[len(fixed) :].lstrip("/")


def _below(folder: str, parts: Sequence[str], denied: MutableSequence[str] | None) -> Iterator[str]:
    part, rest = parts[0], parts[1:]
    if part == _ANY_DEPTH:
        yield from _below(folder, rest, denied)
        inner = [entry.path for entry in _entries(folder, "*", denied) if entry.is_dir(follow_symlinks=False)]
        rest = parts
    elif has_magic(part):
        entries = _entries(folder, part, denied)
        inner = [entry.path for entry in entries if not (rest and entry.is_file(follow_symlinks=False))]
    else:
        inner = [f"{folder.rstrip('/')}/{part}"]
    for path in inner:
        if rest:
            yield from _below(path, rest, denied)
        else:
            yield path


def _entries(folder: str, part: str, denied: MutableSequence[str] | None) -> list[os.DirEntry[str]]:
    """What lies in a folder under such names, sorted; nothing where it is no folder, or has gone."""
    try:
        with os.scandir(folder) as entries:
            found = [entry for entry in entries if fnmatchcase(entry.name, part)]
    except PermissionError:
        if denied is None:
            raise
        if folder not in denied:
            denied.append(folder)
        return []
    except OSError as error:
        if error.errno in _NO_FOLDER:
            return []
        raise
    hidden = part.startswith(".")
    return sorted((entry for entry in found if hidden or not entry.name.startswith(".")), key=lambda entry: entry.name)
