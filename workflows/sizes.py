"""Sizes of images that were noted without being read, since their source states content hashes.

After a run, images with masks have the size that their masks state; of the others, few as a rule, the file is read. The
command `ingest` reads all of its source's.
"""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import partial

import duckdb
import pyarrow as pa

from schemas.ids import content_hash
from schemas.layout import images_key
from schemas.parquet import to_parquet_bytes
from schemas.tables import IMAGES
from schemas.validate import check_images
from workflows.image_limits import byte_limit
from workflows.image_rows import IMAGES_PER_PART, image_row, image_rows, now, on_each, show
from workflows.listing import Listing
from workflows.runs import require_here
from workflows.sql import connect
from workflows.storage import Store, open_store
from workflows.uris import UriReader

_ROWS_PER_PART = 32_768
_READERS = 16
_UNSIZED = """
SELECT images.image_id, uri, content_sha256, seen.height, seen.width
FROM (FROM images WHERE height IS NULL AND content_sha256 IS NOT NULL) AS images
SEMI JOIN (FROM outcomes WHERE run_id = $run AND status = 'ok') AS done ON done.image_id = images.image_id
LEFT JOIN (
    SELECT image_id, any_value(height) AS height, any_value(width) AS width
    FROM masks WHERE run_id = $run GROUP BY image_id
) AS seen ON seen.image_id = images.image_id
ORDER BY images.image_id
"""
_UNOPENED = """
SELECT count(*) FROM (FROM images WHERE height IS NULL AND content_sha256 IS NOT NULL)
SEMI JOIN wanted USING (image_id) ANTI JOIN unread_images USING (image_id)
"""


def read_unread(store: Store, listing: Listing, *, max_pixels: int) -> int:
    """Read those images of a source that nobody has read yet, and note their sizes; how many of them are not there, or
    are other than what the source states, and so have none.

    Raises OSError when a store or the machine is at fault.
    """
    if not listing.states_hashes():
        return 0
    with closing(connect(store.root)) as connection:
        connection.register("wanted", listing.images())
        connection.execute("CREATE TEMP TABLE unread AS FROM unread_images SEMI JOIN wanted USING (image_id)")
        count = connection.table("unread").shape[0]
        if not count:
            return 0
        batches = connection.sql("FROM unread ORDER BY image_id").to_arrow_reader(IMAGES_PER_PART)
        chunks = (pa.Table.from_batches([batch]) for batch in batches)
        return show(count, on_each(partial(read_chunk, store.root, max_pixels), chunks))


def count_unopened(store: Store, listing: Listing) -> int:
    """How many images of a source were read and have no size all the same: text, damaged files, too many pixels."""
    with closing(connect(store.root)) as connection:
        connection.register("wanted", listing.images())
        ((count,),) = connection.execute(_UNOPENED).fetchall()
    return int(count)


def read_chunk(root: str, max_pixels: int, chunk: pa.Table) -> pa.Table:
    """Read images (columns uri, content_sha256) and note the sizes of those that are still what their hash says."""
    store = open_store(root)
    require_here(store)
    rows = image_rows(chunk.select(["uri"]).to_pylist(), max_pixels=max_pixels)
    stated = chunk["content_sha256"].to_pylist()
    same = [row for row, sha256 in zip(rows, stated, strict=True) if row.get("content_sha256") == sha256]
    if same:
        _put(store, same)
    return pa.table({"images": [len(rows)], "errors": [len(rows) - len(same)]})


def tell_unread(connection: duckdb.DuckDBPyConnection) -> int:
    """How many images a command cannot work on because nobody has read them yet; said on standard error."""
    ((count,),) = connection.execute("SELECT count(*) FROM unread_images").fetchall()
    if count:
        print(
            f"left out: {count:,} images that were noted by hash and have no size yet; "
            "`sam-engine ingest SOURCE DATASET` reads them",
            file=sys.stderr,
        )
    return int(count)


def note_sizes(store: Store, run_id: str, *, max_pixels: int) -> int:
    """Note how large the images are that a run has finished and of which no size is known; how many that were.

    The parts of the images table that it writes are named by the images in them, so that doing it again is no harm.
    """
    reader = UriReader(max_bytes=byte_limit(max_pixels))
    count = 0
    with closing(connect(store.root)) as connection, ThreadPoolExecutor(_READERS) as readers:
        unsized = connection.execute(_UNSIZED, {"run": run_id})
        while rows := unsized.fetchmany(_ROWS_PER_PART):
            sized = [row for row in readers.map(lambda row: _sized(reader, max_pixels, *row), rows) if row]
            if sized:
                _put(store, sized)
            count += len(sized)
    return count


def _sized(
    reader: UriReader, max_pixels: int, image_id: str, uri: str, sha256: str, height: int | None, width: int | None
) -> dict[str, object] | None:
    """A row of IMAGES; none where the file is gone or has changed since the run saw it. Raises StoreError."""
    if height is None:
        read = image_row(reader, max_pixels, {"uri": uri})
        return read if read.get("content_sha256") == sha256 else None
    row: dict[str, object] = {"image_id": image_id, "uri": uri, "content_sha256": sha256}
    return row | {"height": height, "width": width, "ingested_at": now()}


def _put(store: Store, rows: list[dict[str, object]]) -> None:
    table = pa.Table.from_pylist(rows, schema=IMAGES)
    check_images(table)
    name = content_hash("".join(["sizes", *table["image_id"].to_pylist()]).encode())[:16]
    store.put(images_key(name), to_parquet_bytes(table))
