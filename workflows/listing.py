"""A source beside what the data set knows of it: which of its images are new, and the names of those that are not."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import fields
from datetime import datetime
from itertools import islice
from operator import attrgetter

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sam_core.ahead import ahead
from schemas.layout import IMAGES_PREFIX, parse_images_key
from schemas.parquet import from_plain_parquet
from workflows.scratch import open_scratch
from workflows.storage import S3_SCHEME, Entry, Store, local_path
from workflows.uris import ImageRef

_READERS = 16
_ROWS_PER_PAGE = 8192
_ROWS_AT_ONCE = 65_536
_TEXT = ("uri", "stamp", "licence", "metadata", "content_sha256")
_LISTED = pa.schema([*((name, pa.string()) for name in _TEXT), ("bytes", pa.int64())])
_KNOWN = ["image_id", "uri", "stamp", "content_sha256", "metadata", "licence", "ingested_at"]

_TABLES = """
CREATE TABLE listing (
    uri TEXT, stamp TEXT, licence TEXT, metadata TEXT, content_sha256 TEXT, bytes BIGINT
);
CREATE TABLE known (
    image_id TEXT, uri TEXT, stamp TEXT, readable BOOLEAN, metadata TEXT, licence TEXT, ingested_at TIMESTAMP
);
CREATE TABLE allowed (licence TEXT);
"""
# New to the data set: other places, other versions of a place, images that could not be read when they were last tried,
# and images about which the source says something else than before: than was ever said, or than what was said last. The
# last word is looked for only where several were said, which is rare: for every place it would take four times as long.
_SAME_PLACE = "{0}.uri = {1}.uri AND {0}.stamp IS NOT DISTINCT FROM {1}.stamp"
_SAME_WORD = """
(listing.metadata IS NULL OR {0}.metadata IS NOT DISTINCT FROM listing.metadata)
AND (listing.licence IS NULL OR {0}.licence IS NOT DISTINCT FROM listing.licence)
"""
_NEW = f"""
WITH disputed AS (
    SELECT DISTINCT known.uri FROM listing JOIN known ON {_SAME_PLACE.format("known", "listing")}
    WHERE known.metadata <> listing.metadata OR known.licence <> listing.licence
),
latest AS (
    SELECT uri, stamp, arg_max(metadata, ingested_at) AS metadata, arg_max(licence, ingested_at) AS licence
    FROM known SEMI JOIN disputed USING (uri) GROUP BY uri, stamp
),
overruled AS (
    SELECT uri, stamp FROM latest
    ANTI JOIN listing ON {_SAME_PLACE.format("latest", "listing")} AND {_SAME_WORD.format("latest")}
),
standing AS (FROM known ANTI JOIN overruled ON {_SAME_PLACE.format("known", "overruled")})
SELECT listing.* FROM listing ANTI JOIN standing
    ON {_SAME_PLACE.format("standing", "listing")} AND standing.readable AND {_SAME_WORD.format("standing")}
WHERE (content_sha256 IS NOT NULL) = {{stated}}
"""
_IMAGES = """
SELECT arg_max(known.image_id, known.readable) AS image_id, listing.uri, bool_or(known.readable) AS readable
FROM listing JOIN known ON known.uri = listing.uri AND known.stamp IS NOT DISTINCT FROM listing.stamp
GROUP BY listing.uri, listing.stamp
"""
# The newest word of each place of the source's images; other places of the same images have their say, too.
_STATED = """
SELECT image_id, uri, arg_max(licence, ingested_at) AS licence FROM known
WHERE image_id IN (SELECT image_id FROM known SEMI JOIN listing USING (uri)) GROUP BY image_id, uri
"""
_ALLOWED = f"""
SELECT * FROM ({_IMAGES}) SEMI JOIN (
    SELECT image_id FROM ({_STATED}) WHERE licence IS NOT NULL
    GROUP BY image_id HAVING bool_and(licence IN (SELECT licence FROM allowed))
) USING (image_id)
"""


class Listing:
    """All images of a source, in a database on disk: memory does not grow with their number. A context manager."""

    def __init__(self, references: Iterable[ImageRef]) -> None:
        self._open = ExitStack()
        self._tables = self._open.enter_context(open_scratch())
        self._tables.execute(_TABLES)
        self._parts: set[Entry] = set()
        self._append("listing", _pages(references))

    def __enter__(self) -> Listing:
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def look_up(self, store: Store) -> None:
        """Take in the parts of the images table that were written since the last look."""
        parts = {entry for entry in store.list(IMAGES_PREFIX) if parse_images_key(entry.key)}
        fresh = sorted(parts - self._parts)
        with ThreadPoolExecutor(_READERS) as readers:
            self._append("known", ahead(readers, lambda part: _read_known(store, part.key), fresh, window=_READERS))
        self._parts.update(fresh)

    def new(self, rows: int, *, stated: bool) -> Iterator[pa.Table]:
        """The images that the data set does not know yet, so many at once: those whose content hash the source states,
        or the others; columns of the listing."""
        reader = self._tables.cursor().sql(_NEW.format(stated=stated)).to_arrow_reader(rows)
        for batch in reader:
            _, first = np.unique(batch["uri"].to_numpy(zero_copy_only=False), return_index=True)
            yield pa.Table.from_batches([batch]).take(first).cast(_LISTED)  # each place once, in the order of names

    def count_new(self, *, stated: bool) -> int:
        """How many images `new` gives."""
        query = f"SELECT count(*) FROM ({_NEW.format(stated=stated)})"
        ((number,),) = self._tables.execute(query).fetchall()
        return int(number)

    def last_word(self) -> datetime | None:
        """When the data set was last told anything of the source's places, by the clock of whoever told it."""
        query = "SELECT max(ingested_at) FROM known SEMI JOIN listing USING (uri)"
        ((moment,),) = self._tables.execute(query).fetchall()
        return moment  # type: ignore[no-any-return]

    def seen_here(self) -> str | None:
        """A file on a disk of this machine; None where the source has none, or the first one that it names is away."""
        query = "SELECT uri FROM listing WHERE NOT starts_with(uri, ?) LIMIT 1"
        found = self._tables.execute(query, [S3_SCHEME]).fetchone()
        return found[0] if found and local_path(found[0]).is_file() else None

    def states_hashes(self) -> bool:
        """Whether the source states the content hash of any image, so that nobody has read that one."""
        found = self._tables.execute("FROM listing WHERE content_sha256 IS NOT NULL LIMIT 1").fetchone()
        return found is not None

    def images(self) -> pa.RecordBatchReader:
        """image_id, uri and readable of every image of the source that the data set knows."""
        return self._tables.cursor().sql(_IMAGES).to_arrow_reader(_ROWS_PER_PAGE)

    def licences(self) -> list[str | None]:
        """Every licence that a place of an image of the source is stated to have."""
        return [licence for (licence,) in self._tables.execute(f"SELECT DISTINCT licence FROM ({_STATED})").fetchall()]

    def allowed_images(self, licences: Sequence[str]) -> pa.RecordBatchReader:
        """As `images`, of those images alone whose stated licences, at least one, are all among these."""
        self._tables.execute("DELETE FROM allowed")
        self._tables.execute("INSERT INTO allowed SELECT unnest(?)", [list(licences)])
        return self._tables.cursor().sql(_ALLOWED).to_arrow_reader(_ROWS_PER_PAGE)

    def counts(self) -> tuple[int, int, int]:
        """Places, distinct images and unreadable places of the source."""
        query = f"SELECT count(*), count(DISTINCT image_id), count(*) FILTER (NOT readable) FROM ({_IMAGES})"
        ((places, images, unreadable),) = self._tables.execute(query).fetchall()
        return places, images, unreadable

    def count_others(self, images: pa.RecordBatchReader) -> int:
        """How many of these images (a column image_id) the source does not have, or not any more."""
        with self._tables.cursor() as cursor:
            cursor.register("others", images)
            query = f"SELECT count(*) FROM others ANTI JOIN ({_IMAGES}) USING (image_id)"
            ((number,),) = cursor.execute(query).fetchall()
        return int(number)

    def _append(self, table: str, pages: Iterable[pa.Table]) -> None:
        """Add rows to a table: many at once, as every insert waits for the disk, and not all in one transaction, which
        would keep every page in memory to its end."""
        for rows in _together(pages):
            self._tables.register("incoming", rows)
            self._tables.execute(f"INSERT INTO {table} SELECT * FROM incoming")
            self._tables.unregister("incoming")


def _pages(references: Iterable[ImageRef]) -> Iterator[pa.Table]:
    """The source as tables, which come and go as it is listed."""
    iterator = iter(references)
    cells = attrgetter(*(field.name for field in fields(ImageRef)))  # astuple would copy every cell
    while page := [cells(item) for item in islice(iterator, _ROWS_PER_PAGE)]:
        columns = zip(*page, strict=True)
        yield pa.table([pa.array([cell or None for cell in column]) for column in columns], schema=_LISTED)


def _read_known(store: Store, key: str) -> pa.Table:
    """A part of the images table, as far as it matters for finding what is new."""
    table = from_plain_parquet(store.get(key), _KNOWN)
    return table.set_column(3, "readable", pc.is_valid(table["content_sha256"]))


def _together(pages: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """The same rows in tables of ROWS_AT_ONCE or somewhat more."""
    waiting: list[pa.Table] = []
    for page in pages:
        waiting.append(page)
        if sum(map(len, waiting)) >= _ROWS_AT_ONCE:
            yield pa.concat_tables(waiting)
            waiting = []
    if waiting:
        yield pa.concat_tables(waiting)
