"""Merge the saves of annotators: a data set that thousands of saves went into is asked as fast as one of few files.

Nothing waits for it and nothing depends on it. Of several servers at one data set that merge the same saves one
settles what counts; the others take their files back, or are passed over by whoever reads (`schemas.mergers`).
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime

import pyarrow as pa

from sam_core.ahead import ahead
from schemas.ids import content_hash
from schemas.layout import (
    SAVES_PREFIX,
    SavesTable,
    SessionKey,
    is_import,
    merged_key,
    merger_key,
    parse_merger_key,
    parse_session_key,
    session_key,
)
from schemas.mergers import as_document, counted, ranges_of
from schemas.parquet import to_parquet_bytes
from schemas.records import MergerRecord, from_json, to_json
from workflows.failures import one_line
from workflows.storage import Store
from workflows.stored_tables import get_table

FEWEST, MOST = 1_000, 4_000
"""Files that a merger is worth, as each costs a query a third of a millisecond or a request; and that one takes, as the
server reads a merged file for the masks of an image."""
MOST_BYTES = 64 << 20
"""In memory, after which a merger takes no more."""
SECONDS_BETWEEN = 3600.0
_READERS = 16
_Part = tuple[SessionKey, pa.Table]
"""A file that somebody saved, and its rows."""
_WORTH_TELLING = 5_000
"""Files that take some seconds to read."""


def list_saves(store: Store) -> list[str]:
    """Every file that saves and mergers left, whether it counts or not."""
    return [entry.key for entry in store.list(SAVES_PREFIX.rstrip("/"))]


def saved_keys(store: Store, listed: Sequence[str] | None = None) -> list[str]:
    """The files of annotations and events that count, of those that were listed, or are there. Raises ValueError where
    a merger is damaged."""
    listed = list_saves(store) if listed is None else listed
    return counted(listed, _mergers(store, listed)).keys


def merge_saves(store: Store, *, fewest: int = FEWEST, most: int = MOST) -> int:
    """Merge the saves that nobody has merged yet, where they are many; how many files were merged.

    Raises ValueError, which names the file, when one is damaged, and OSError.
    """
    listed = list_saves(store)
    mergers = _mergers(store, listed)
    parts = map(parse_session_key, counted(listed, mergers).keys)
    left = [part for part in parts if part and not is_import(part.session)]  # imports write large files, and anew
    left.sort(key=lambda part: (part.session, part.part))
    if len(left) >= max(fewest, _WORTH_TELLING):
        print(f"merging {len(left):,} saved files", file=sys.stderr, flush=True)
    number, merged = max((parse_merger_key(key) or 0 for key in mergers), default=0), 0
    with ThreadPoolExecutor(_READERS) as readers:
        tables = ahead(readers, lambda part: get_table(store, session_key(part)), left, window=4 * _READERS)
        read = zip(left, tables, strict=True)
        while len(left) - merged >= fewest:
            number += 1
            some = _some(read, most)
            if not _merge(store, number, some):
                break
            merged += len(some)
    return merged


@contextmanager
def merging(store: Store) -> Iterator[None]:
    """Merges now and then beside what is done here; a store that fails is asked again the next time."""
    over = threading.Event()

    def merge_until_over() -> None:
        while not over.wait(SECONDS_BETWEEN):
            try:
                merge_saves(store)
            except (ValueError, OSError) as error:
                print(f"sam-engine: saves are not merged: {one_line(error)}", file=sys.stderr, flush=True)

    threading.Thread(target=merge_until_over, daemon=True).start()
    try:
        yield
    finally:
        over.set()


def _some(read: Iterator[_Part], most: int) -> list[_Part]:
    """The next ones, so many or so large that a merger takes no more."""
    some: list[_Part] = []
    size = 0
    for part in read:
        some.append(part)
        size += part[1].nbytes
        if len(some) == most or size >= MOST_BYTES:
            break
    return some


def _merge(store: Store, number: int, some: Sequence[_Part]) -> bool:
    """Write the merger of that number; False where somebody else has, and then that one counts."""
    record = MergerRecord(
        created_at=datetime.now(UTC),
        masks=_joined(store, "masks", some),
        events=_joined(store, "events", some),
        parts=as_document(ranges_of(part for part, _ in some)),
    )
    mine = to_json(record).encode()
    held = store.put_if_absent(merger_key(number), mine)
    if held == mine:
        return True
    theirs = from_json(MergerRecord, held, where=merger_key(number))
    for key in (record.masks, record.events):
        if key and key not in (theirs.masks, theirs.events):
            store.delete(key)
    return False


def _joined(store: Store, table: SavesTable, some: Sequence[_Part]) -> str | None:
    """Put one file in the place of many of a table; its key, and none where there are no such parts."""
    tables = [rows for part, rows in some if part.table == table]
    if not tables:
        return None
    data = to_parquet_bytes(pa.concat_tables(tables))
    key = merged_key(table, content_hash(data))
    store.put(key, data)
    return key


def _mergers(store: Store, listed: Sequence[str]) -> dict[str, MergerRecord]:
    keys = [key for key in listed if parse_merger_key(key)]
    with ThreadPoolExecutor(_READERS) as readers:
        read = readers.map(lambda key: from_json(MergerRecord, store.get(key), where=f"{store.root}/{key}"), keys)
        return dict(zip(keys, read, strict=True))
