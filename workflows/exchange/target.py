"""Where an export goes: a folder or S3 prefix that holds one export, which is begun, gone on with, or begun anew."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from workflows.storage import Store, open_store

RECORD_KEY = "export.record"
"""What was exported, as JSON. Not called .json, which readers of SA-1B would take for masks."""
_DELETING = "deleting"
"""The record while files are deleted: what is half deleted is no export that could be gone on with."""


@dataclass(frozen=True, slots=True)
class Target:
    """The place of an export, its record, and a folder of this machine for files that are too large for memory."""

    store: Store
    scratch: Path
    record: bytes

    def require_ours(self) -> None:
        """Raises ValueError when another command has begun another export there since: files of both would be mixed."""
        try:
            held = self.store.get(RECORD_KEY)
        except FileNotFoundError:
            held = b""
        if held != self.record:
            raise ValueError(f"{self.store.root} was begun anew by another command meanwhile; this export stops")

    def put(self, key: str, data: bytes) -> None:
        """Write an object. Raises ValueError as `require_ours`."""
        self.require_ours()
        self.store.put(key, data)

    def put_file(self, key: str, path: Path) -> None:
        """Write an object from a local file, which is then removed. Raises ValueError as `require_ours`."""
        self.require_ours()
        self.store.put_file(key, path)
        path.unlink()


def open_target(
    out: str, scratch: Path, asked: Mapping[str, object], owned: re.Pattern[str], *, overwrite: bool
) -> Target:
    """The place of an export, with its record.

    Args:
        asked: what decides about the content; an export that was begun with something else is not gone on with.
        owned: keys that an export of any format may have written; nothing else is deleted.

    Raises ValueError (one line) when the place holds another export, or files that no export wrote.
    """
    store = open_store(out)
    text = json.dumps(dict(asked), indent=2, sort_keys=True) + "\n"
    begun = store.exists(RECORD_KEY)
    if not begun and next(iter(store.list()), None) is not None:
        begun = store.exists(RECORD_KEY)  # what is there may be of a command that began just now, its record first
        if not begun:
            instead = "nothing there is overwritten" if overwrite else "choose another place"
            raise ValueError(f"{store.root} is not empty and holds no export; {instead}")
    if begun and overwrite:
        _clear(store, owned)
        store.put(RECORD_KEY, text.encode())
    held = store.put_if_absent(RECORD_KEY, text.encode())
    if held != text.encode():
        raise ValueError(
            f"{store.root} holds another export ({_difference(held, asked)}); "
            "--overwrite begins anew, or choose another place"
        )
    return Target(store, scratch, held)


def _clear(store: Store, owned: re.Pattern[str]) -> None:
    """Remove an earlier export but for a record, so that a deletion that is broken off can be repeated."""
    store.put(RECORD_KEY, json.dumps({_DELETING: True}).encode())
    for entry in store.list():
        if owned.fullmatch(entry.key):
            store.delete(entry.key)


def _difference(held: bytes, asked: Mapping[str, object]) -> str:
    try:
        before = json.loads(held)
        if before.get(_DELETING):
            return "which an --overwrite was deleting"
        names = [name for name in asked if before.get(name) != asked[name]]
    except (ValueError, AttributeError):
        return "its record cannot be read"
    others = [name for name in names if name != "committed"]  # which files count follows from what else is asked for
    return f"of another {', '.join(others)}" if others else "the data set has changed since"
