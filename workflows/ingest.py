"""List a source, read every image that is new once, and note it by its content in the data set.

Where the source states content hashes an image is noted without reading it: the worker that does checks the hash. Its
size is known after a run, or after the command `ingest`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from datetime import datetime
from functools import partial

import pyarrow as pa
import pyarrow.compute as pc

from schemas.ids import unreadable_image_id
from schemas.layout import images_key
from schemas.parquet import to_parquet_bytes
from schemas.tables import IMAGES
from schemas.validate import check_images
from workflows.commands import IngestConfig
from workflows.failures import tell_denied
from workflows.image_rows import IMAGES_PER_PART, after, image_rows, on_each, show
from workflows.listing import Listing
from workflows.metadata import MetadataTable
from workflows.runs import open_dataset, require_here
from workflows.sizes import count_unopened, read_unread
from workflows.sources import list_images
from workflows.storage import Store, open_store
from workflows.uris import ImageRef

STATED_PER_PART = 32_768


def ingest_command(config: IngestConfig) -> int:
    """The subcommand: exit status 0, or 1 when some of the images cannot be read, or folders not be listed."""
    denied: list[str] = []
    references = list_images(config.source, image_folder=config.image_folder, denied=denied)
    said = MetadataTable(config.metadata) if config.metadata else None
    if said:
        references = said.add_to(references)
    store = open_store(config.dataset)
    open_dataset(store)
    with ingest(references, store, max_pixels=config.max_pixels) as listing:
        places, distinct, unreadable = listing.counts()
        other = read_unread(store, listing, max_pixels=config.max_pixels)
        unopened = count_unopened(store, listing)
    print(f"{store.root}: {distinct:,} images at {places:,} places, {unreadable:,} unreadable")
    if said:
        print(said.usage())
    if other:
        print(f"{other:,} images cannot be read, or are not what the hash in {config.source} says: they have no size")
    if unopened:
        print(f"{unopened:,} images cannot be opened, and have no size; `sam-engine generate` tells why of each")
    tell_denied(denied)
    return 1 if unreadable or other or unopened or denied else 0


def ingest(references: Iterable[ImageRef], store: Store, *, max_pixels: int) -> Listing:
    """Note every image of a source in the data set; the listing, which knows them all and is to be closed.

    Files whose place and stamp are known are not read again, so an interrupted ingest goes on where it stopped.
    """
    listing = Listing(references)
    listing.look_up(store)
    stated, unread = (listing.count_new(stated=known) for known in (True, False))
    said = listing.last_word() if stated or unread else None
    if stated:
        show(stated, map(partial(note_stated, store, said), listing.new(STATED_PER_PART, stated=True)))
    if unread:
        work = partial(ingest_chunk, store.root, max_pixels, said)
        show(unread, on_each(work, listing.new(IMAGES_PER_PART, stated=False)))
    if stated or unread:
        listing.look_up(store)
    return listing


def note_stated(store: Store, said: datetime | None, chunk: pa.Table) -> pa.Table:
    """Write images whose content hash the source states as one part of the images table, without reading them; rows are
    dated after what was `said` before."""
    columns = {name: chunk[name] for name in chunk.column_names}
    columns["image_id"] = pc.utf8_slice_codeunits(chunk["content_sha256"], 0, len(unreadable_image_id("")))
    columns["ingested_at"] = pa.repeat(pa.scalar(after(said), IMAGES.field("ingested_at").type), len(chunk))
    rows = [columns.get(field.name, pa.nulls(len(chunk), field.type)) for field in IMAGES]
    return _put_part(store, pa.table(rows, schema=IMAGES))


def ingest_chunk(root: str, max_pixels: int, said: datetime | None, chunk: pa.Table) -> pa.Table:
    """Read the images of a piece of the listing and write them as one part of the images table, dated after what was
    `said` before; how many there were."""
    store = open_store(root)
    require_here(store)
    rows = [row | {"ingested_at": after(said)} for row in image_rows(chunk.to_pylist(), max_pixels=max_pixels)]
    return _put_part(store, pa.Table.from_pylist(rows, schema=IMAGES))


def _put_part(store: Store, table: pa.Table) -> pa.Table:
    """Write one part; how many images and unreadable ones it has. Its name comes from all that it says, so doing a
    chunk again replaces its part, and no part replaces one that says something else."""
    check_images(table)
    digest = hashlib.sha256()
    for name in ("image_id", "uri", "stamp", "metadata", "licence"):
        digest.update("\0".join(text or "" for text in table[name].to_pylist()).encode() + b"\0\0")
    store.put(images_key(digest.hexdigest()[:16]), to_parquet_bytes(table))
    return pa.table({"images": [len(table)], "errors": [table["content_sha256"].null_count]})
