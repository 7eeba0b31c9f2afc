"""List a source, read every image that is new once, and note it by its content in the data set."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import astuple
from datetime import UTC, datetime
from functools import partial
from itertools import islice
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from schemas.ids import content_hash, image_id_of_hash, unreadable_image_id
from schemas.layout import IMAGES_PREFIX, images_key, parse_images_key
from schemas.parquet import to_parquet_bytes
from schemas.tables import IMAGES
from schemas.validate import check_images
from workflows.commands import IngestConfig
from workflows.images import ImageError, byte_limit, read_header
from workflows.metadata import add_metadata
from workflows.progress import Progress
from workflows.runs import open_dataset
from workflows.sources import ImageRef, UriReader, list_images
from workflows.storage import Store, StoreError, open_store

IMAGES_PER_PART = 2048
_READERS = 16
_ROWS_AT_ONCE = 8192
_LISTING = pa.schema([(name, pa.string()) for name in ("uri", "stamp", "licence", "metadata")])

# New to the data set: other places, other versions of a place, images that could not be read when they were last tried,
# and images about which the source says something else than before.
_NEW = """
SELECT listing.* FROM listing ANTI JOIN known
    ON known.uri = listing.uri
    AND known.stamp IS NOT DISTINCT FROM listing.stamp
    AND known.readable
    AND (listing.metadata IS NULL OR known.metadata IS NOT DISTINCT FROM listing.metadata)
"""
_IDS = """
SELECT known.image_id, listing.uri, known.readable FROM listing JOIN known
    ON known.uri = listing.uri AND known.stamp IS NOT DISTINCT FROM listing.stamp
QUALIFY row_number() OVER (PARTITION BY listing.uri, listing.stamp ORDER BY known.readable DESC) = 1
"""


def ingest_command(config: IngestConfig) -> int:
    """The subcommand: exit status 0, or 1 when some of the images cannot be read."""
    references = list_images(config.source, image_folder=config.image_folder)
    if config.metadata:
        references = add_metadata(references, config.metadata)
    store = open_store(config.dataset)
    open_dataset(store)
    images = ingest(references, store, max_pixels=config.max_pixels)
    unreadable = sum(not row["readable"] for row in images.select(["readable"]).to_pylist())
    distinct = pc.count_distinct(images["image_id"]).as_py()
    print(f"{store.root}: {distinct:,} images at {len(images):,} places, {unreadable:,} unreadable")
    return 1 if unreadable else 0


def ingest(references: Iterable[ImageRef], store: Store, *, max_pixels: int) -> pa.Table:
    """Note every image of a source in the data set; image_id, uri and readable of all of them.

    Files whose place and stamp are known are not read again, so an interrupted ingest goes on where it stopped.
    """
    listing = _listing(references)
    new = _join(_NEW, listing, _known(store))
    if len(new):
        rows = _on_each(partial(ingest_chunk, store.root, max_pixels), new)
        with Progress("reading", len(new)) as progress:
            for row in rows:
                progress.add(images=row["images"], errors=row["errors"])
    return _join(_IDS, listing, _known(store))


def ingest_chunk(root: str, max_pixels: int, chunk: pa.Table) -> pa.Table:
    """Read the images of a piece of the listing and write them as one part of the images table; how many there were.

    The part's name comes from the listing, so doing a chunk again replaces its part.
    """
    reader = UriReader(max_bytes=byte_limit(max_pixels))
    with ThreadPoolExecutor(_READERS) as readers:
        rows = list(readers.map(partial(_image_row, reader, max_pixels), chunk.to_pylist()))
    table = pa.Table.from_pylist(rows, schema=IMAGES)
    check_images(table)
    name = hashlib.sha256(repr([(row["uri"], row["stamp"], row["metadata"]) for row in rows]).encode()).hexdigest()[:16]
    open_store(root).put(images_key(name), to_parquet_bytes(table))
    return pa.table({"images": [len(table)], "errors": [table["content_sha256"].null_count]})


def _image_row(reader: UriReader, max_pixels: int, listed: dict[str, Any]) -> dict[str, Any]:
    """One row of schemas.tables.IMAGES. A file that cannot be read still gets its row, under a stand-in id."""
    row = listed | {"ingested_at": datetime.now(UTC).replace(tzinfo=None)}
    try:
        data = reader.read(listed["uri"])
    except StoreError:
        raise
    except OSError:
        return row | {"image_id": unreadable_image_id(listed["uri"])}
    digest = content_hash(data)
    row |= {"image_id": image_id_of_hash(digest), "content_sha256": digest, "bytes": len(data)}
    try:
        header = read_header(data, max_pixels=max_pixels)
    except ImageError:
        return row
    return row | {
        "format": header.format,
        "height": header.height,
        "width": header.width,
        "exif_orientation": header.orientation,
    }


def _listing(references: Iterable[ImageRef]) -> pa.Table:
    """The source as a table, each place once, in chunks that come and go as the source is listed."""
    iterator = iter(references)
    batches = []
    while page := [[text or None for text in astuple(item)] for item in islice(iterator, _ROWS_AT_ONCE)]:
        columns = [pa.array(column, pa.string()) for column in zip(*page, strict=True)]
        batches.append(pa.RecordBatch.from_arrays(columns, schema=_LISTING))
    return pa.Table.from_batches(batches, _LISTING)


def _known(store: Store) -> pa.Table:
    """What the images table holds, as far as it matters for finding what is new."""
    columns = ["image_id", "uri", "stamp", "content_sha256", "metadata"]
    keys = [entry.key for entry in store.list(IMAGES_PREFIX) if parse_images_key(entry.key)]
    empty = pa.schema([IMAGES.field(name) for name in columns]).empty_table()
    with ThreadPoolExecutor(_READERS) as readers:
        tables = readers.map(lambda key: pq.read_table(pa.BufferReader(store.get(key)), columns=columns), keys)
        table = pa.concat_tables([empty, *tables])
    readable = pc.is_valid(table["content_sha256"])
    return table.drop_columns("content_sha256").append_column("readable", readable)


def _join(query: str, listing: pa.Table, known: pa.Table) -> pa.Table:
    with duckdb.connect() as connection:
        connection.register("listing", listing)
        connection.register("known", known)
        return connection.sql(query).to_arrow_table()


def _on_each(function: Callable[[pa.Table], pa.Table], new: pa.Table) -> Iterable[dict[str, Any]]:
    """The rows of the function's answers on pieces of a table; on the cluster unless one piece makes it useless."""
    chunks = [new.slice(start, IMAGES_PER_PART) for start in range(0, len(new), IMAGES_PER_PART)]
    if len(chunks) == 1:
        return (row for chunk in chunks for row in function(chunk).to_pylist())
    from workflows.ray_session import map_chunks, start_ray

    start_ray()
    return map_chunks(function, chunks)
