"""Who serves a stage and round now. Two servers at once hand out the same images, as each knows its own people alone:
whoever starts the second one is told."""

from __future__ import annotations

import json
import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime

from schemas.layout import serving_key
from schemas.tables import Stage
from workflows.processes import identity, is_alive_here
from workflows.storage import Store


@contextmanager
def serving(store: Store, stage: Stage, round: int | None) -> Iterator[None]:
    """Note in the data set that this process serves, while it does; where another one does, say so on standard error.

    Of a server on another machine that left its mark nobody knows whether it was killed; it is said once.
    """
    key = serving_key(stage, round)
    if other := _other(store, key):
        print(f"sam-engine: {other}", file=sys.stderr, flush=True)
    mine = json.dumps({"who": identity(os.getpid()), "since": f"{datetime.now(UTC):%Y-%m-%d %H:%M}"}).encode()
    store.put(key, mine)
    try:
        yield
    finally:
        with suppress(OSError):  # a store that is away keeps nobody here
            if store.get(key) == mine:
                store.delete(key)


def _other(store: Store, key: str) -> str:
    """What to say of a server whose mark is there; nothing where that one was killed on this machine, or its mark is
    cut off."""
    try:
        left = json.loads(store.get(key))
        who, here = left["who"], left["who"]["host"] == socket.gethostname()
        if here and not is_alive_here(who):
            return ""
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return ""
    unless = "" if here else ", unless it was killed"
    return (
        f"process {who['process']} on {who['host']} serves this stage and round since {left['since']} UTC{unless}. Two "
        "servers hand out the same images, and neither sees what is drawn at the other: end one of them, or give each "
        "its own --images"
    )
