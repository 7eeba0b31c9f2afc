"""Images that are read to be noted: one row of the images table each, many at once, here or on the cluster."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import chain, islice
from typing import Any

import pyarrow as pa

from schemas.ids import content_hash, image_id_of_hash, unreadable_image_id
from schemas.tables import as_stored
from workflows.failures import is_of_the_machine
from workflows.image_limits import byte_limit
from workflows.images import ImageError, read_header
from workflows.progress import Progress
from workflows.uris import UriReader

IMAGES_PER_PART = 2048
_READERS = 16


def image_rows(listed: Sequence[dict[str, Any]], *, max_pixels: int) -> list[dict[str, Any]]:
    """`image_row` of each, in order."""
    reader = UriReader(max_bytes=byte_limit(max_pixels))
    with ThreadPoolExecutor(_READERS) as readers:
        return list(readers.map(partial(image_row, reader, max_pixels), listed))


def image_row(reader: UriReader, max_pixels: int, listed: dict[str, Any]) -> dict[str, Any]:
    """One row of schemas.tables.IMAGES. A file that cannot be read still gets its row, under a stand-in id.

    Raises OSError when the store or the machine, not the file, is at fault.
    """
    row = listed | {"ingested_at": now()}
    try:
        data = reader.read(listed["uri"])
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


def show(total: int, parts: Iterable[pa.Table]) -> int:
    """Do the work, whose parts say how many `images` and `errors` they had, and show how far it has got; the errors."""
    errors = 0
    with Progress("reading", total) as progress:
        for part in parts:
            for row in part.to_pylist():
                progress.add(images=row["images"], errors=row["errors"])
                errors += row["errors"]
    return errors


def now() -> datetime:
    """The time as the tables hold it."""
    return as_stored(datetime.now(UTC))


def after(said: datetime | None) -> datetime:
    """`now`; where the machine that wrote what was `said` is ahead of this one's clock, just after that. What is said
    later counts, whichever clocks tell it."""
    moment = now()
    return moment if said is None else max(moment, said + timedelta(microseconds=1))
