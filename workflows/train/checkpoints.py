"""The state of a training run in a store: whole or absent, the last two kept, any size.

A checkpoint is cut into pieces that every object store takes in one put; the document that counts and hashes them is
written last and is the commit.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from schemas.ids import content_hash
from schemas.layout import (
    checkpoint_key,
    checkpoint_part_key,
    parse_checkpoint_key,
)
from workflows.storage import Store
from workflows.train.loop import MachineError
from workflows.train.state import from_bytes, to_bytes

PART_BYTES = 1 << 30
KEPT = 2


def save(store: Store, run_id: str, tensors: dict[str, Any]) -> None:
    """Write a checkpoint, then remove those before the last two."""
    step, data = tensors["step"], to_bytes(tensors)
    starts = range(0, len(data), PART_BYTES)
    for number, start in enumerate(starts):  # one at a time: all of them would be ten gigabytes more of ViT-H
        store.put(checkpoint_part_key(run_id, step, number), data[start : start + PART_BYTES])
    whole = {"step": step, "parts": len(starts), "bytes": len(data), "sha256": content_hash(data)}
    store.put(checkpoint_key(run_id, step), json.dumps(whole).encode())
    remove_old(store, run_id)


def steps(store: Store, run_id: str) -> list[int]:
    """The steps of all whole checkpoints, in order."""
    return _whole(run_id, _files(store, run_id))


def load_latest(store: Store, run_id: str) -> dict[str, Any] | None:
    """The newest checkpoint; None when there is none. Raises MachineError (one line) when it is damaged."""
    known = steps(store, run_id)
    if not known:
        return None
    key = checkpoint_key(run_id, known[-1])
    whole = json.loads(store.get(key))
    try:
        data = b"".join(store.get(checkpoint_part_key(run_id, known[-1], part)) for part in range(whole["parts"]))
    except FileNotFoundError:
        data = b""
    if content_hash(data) != whole["sha256"]:
        raise MachineError(f"{store.root}/{key}: damaged; delete its folder, and training goes on from the one before")
    return from_bytes(data)


def remove_old(store: Store, run_id: str) -> None:
    """Delete all before the last checkpoints, their commits first; also what is left of one where a command was killed
    between its pieces, of ViT-H ten gigabytes that nothing names any more."""
    files = _files(store, run_id)
    first = _whole(run_id, files)[-KEPT:][0]
    old = [(key != checkpoint_key(run_id, step), key) for step, key in files if step < first]
    for _, key in sorted(old):
        store.delete(key)


def _whole(run_id: str, files: Iterable[tuple[int, str]]) -> list[int]:
    """The steps whose commit is among the files, in order."""
    return sorted(step for step, key in files if key == checkpoint_key(run_id, step))


def _files(store: Store, run_id: str) -> list[tuple[int, str]]:
    """Step and key of every file of a checkpoint, whole or not."""
    folder = checkpoint_key(run_id, 0).partition("/checkpoint-")[0]
    found = ((parse_checkpoint_key(entry.key), entry.key) for entry in store.list(folder))
    return [(step, key) for step, key in found if step is not None]
