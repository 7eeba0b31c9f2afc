"""List a source, read every image that is new once, and note it by its content in the data set.

Where the source states content hashes nothing is read: the worker that later reads an image checks them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import partial
from itertools import chain, islice
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from schemas.ids import content_hash, image_id_of_hash, unreadable_image_id
from schemas.layout import images_key
from schemas.parquet import to_parquet_bytes
from schemas.tables import IMAGES
from schemas.validate import check_images
from workflows.commands import IngestConfig
from workflows.failures import is_of_the_machine
from workflows.images import ImageError, byte_limit, read_header
from workflows.listing import Listing
from workflows.metadata import add_metadata
from workflows.progress import Progress
from workflows.runs import open_dataset
from workflows.sources import ImageRef, UriReader, list_images
from workflows.storage import Store, StoreError, open_store

IMAGES_PER_PART = 2048
STATED_PER_PART = 32_768
_READERS = 16


def ingest_command(config: IngestConfig) -> int:
    """The subcommand: exit status 0, or 1 when some of the images cannot be read."""
    references = list_images(config.source, image_folder=config.image_folder)
    if config.metadata:
        references = add_metadata(references, config.metadata)
    store = open_store(config.dataset)
    open_dataset(store)
    with ingest(references, store, max_pixels=config.max_pixels) as listing:
        places, distinct, unreadable = listing.counts()
    print(f"{store.root}: {distinct:,} images at {places:,} places, {unreadable:,} unreadable")
    return 1 if unreadable else 0


def ingest(references: Iterable[ImageRef], store: Store, *, max_pixels: int) -> Listing:
    """Note every image of a source in the data set; the listing, which knows them all and is to be closed.

    Files whose place and stamp are known are not read again, so an interrupted ingest goes on where it stopped.
    """
    listing = Listing(references)
    listing.look_up(store)
    if stated := listing.count_new(stated=True):
        _show(stated, map(partial(note_stated, store), listing.new(STATED_PER_PART, stated=True)))
    if unread := listing.count_new(stated=False):
        work = partial(ingest_chunk, store.root, max_pixels)
        _show(unread, on_each(work, listing.new(IMAGES_PER_PART, stated=False)))
    if stated or unread:
        listing.look_up(store)
    return listing


def note_stated(store: Store, chunk: pa.Table) -> pa.Table:
    """Write images whose content hash the source states as one part of the images table, without reading them."""
    columns = {name: chunk[name] for name in chunk.column_names}
    columns["image_id"] = pc.utf8_slice_codeunits(chunk["content_sha256"], 0, len(unreadable_image_id("")))
    columns["ingested_at"] = pa.repeat(pa.scalar(_now(), IMAGES.field("ingested_at").type), len(chunk))
    rows = [columns.get(field.name, pa.nulls(len(chunk), field.type)) for field in IMAGES]
    return _put_part(store, pa.table(rows, schema=IMAGES))


def ingest_chunk(root: str, max_pixels: int, chunk: pa.Table) -> pa.Table:
    """Read the images of a piece of the listing and write them as one part of the images table; how many there were."""
    reader = UriReader(max_bytes=byte_limit(max_pixels))
    with ThreadPoolExecutor(_READERS) as readers:
        rows = list(readers.map(partial(image_row, reader, max_pixels), chunk.to_pylist()))
    return _put_part(open_store(root), pa.Table.from_pylist(rows, schema=IMAGES))


def _put_part(store: Store, table: pa.Table) -> pa.Table:
    """Write one part; how many images and unreadable ones it has. Its name comes from the listing, so doing a chunk
    again replaces its part."""
    check_images(table)
    digest = hashlib.sha256()
    for name in ("uri", "stamp", "metadata"):
        digest.update("\0".join(text or "" for text in table[name].to_pylist()).encode() + b"\0\0")
    store.put(images_key(digest.hexdigest()[:16]), to_parquet_bytes(table))
    return pa.table({"images": [len(table)], "errors": [table["content_sha256"].null_count]})


def image_row(reader: UriReader, max_pixels: int, listed: dict[str, Any]) -> dict[str, Any]:
    """One row of schemas.tables.IMAGES. A file that cannot be read still gets its row, under a stand-in id.

    Raises OSError when the store or the machine, not the file, is at fault.
    """
    row = listed | {"ingested_at": _now()}
    try:
        data = reader.read(listed["uri"])
    except StoreError:
        raise
    except OSError as error:
        if is_of_the_machine(error):
            raise
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


def on_each(function: Callable[[pa.Table], pa.Table], chunks: Iterator[pa.Table]) -> Iterable[pa.Table]:
    """The function's answers on pieces of a table; on the cluster unless one piece makes it useless."""
    first = list(islice(chunks, 2))
    if len(first) == 1:
        return map(function, first)
    from workflows.ray_session import map_chunks, start_ray

    start_ray()
    return map_chunks(function, chain(first, chunks))


def _show(total: int, parts: Iterable[pa.Table]) -> None:
    """Do the work and show how far it has got."""
    with Progress("reading", total) as progress:
        for part in parts:
            for row in part.to_pylist():
                progress.add(images=row["images"], errors=row["errors"])


def _now() -> datetime:
    """The time as the tables hold it: UTC without a zone."""
    return datetime.now(UTC).replace(tzinfo=None)
