"""Image embeddings ahead of time, so that nobody waits for the encoder: every image of a data set once, by one model.

A row of work is a chunk of images; each image becomes one file under a fixed name, by one atomic put. Resuming is
listing those files, and doing an image again writes the same name, so nothing is lost or doubled by a kill. Which
images there are and which are done lies in tables on disk: memory does not grow with their number. On a CPU each thread
takes images of its own, so that no number depends on how many there are.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from typing import Any

import numpy as np
from duckdb import DuckDBPyConnection
from numpy.typing import NDArray

from sam_core.ahead import ahead
from schemas.layout import embedding_key
from workflows.annotate.commands import EmbedConfig
from workflows.devices import choose_device
from workflows.embeddings import embed_image, embedded_images, stale_embeddings
from workflows.failures import one_line, tell_left_out
from workflows.image_limits import byte_limit
from workflows.images import ImageError
from workflows.models import Model, find_model, register_model
from workflows.originals import StoredImage, read_pixels
from workflows.progress import Progress
from workflows.runs import require_here
from workflows.scratch import open_scratch
from workflows.sizes import tell_unread
from workflows.sql import connect
from workflows.storage import Store, open_store
from workflows.uris import UriReader

IMAGES_PER_CHUNK = 16
_READERS = _WRITERS = 4
_IMAGES_AT_ONCE = 8192
_READABLE = "SELECT image_id, uris FROM images WHERE height IS NOT NULL"
_COUNT = "SELECT count(*), count(*) FILTER (NOT done) FROM readable"
_MISSING = "SELECT image_id, uris FROM readable WHERE NOT done ORDER BY image_id"


@dataclass(frozen=True, slots=True)
class EmbedJob:
    """What every worker is told."""

    dataset: str
    model: Model
    device: str
    threads: int
    max_pixels: int


def embed(config: EmbedConfig) -> int:
    """The subcommand: exit status 0, or 1 when some images cannot be read, or have not been."""
    store, model = open_store(config.dataset), find_model(config.model)
    with open_scratch() as tables, closing(connect(config.dataset)) as catalog:
        unread = tell_unread(catalog)
        _note_images(tables, catalog, embedded_images(store, model.model_id))
        ((images, missing),) = tables.execute(_COUNT).fetchall()
        register_model(store, model, datetime.now(UTC))
        failures = _work(config, store, model, tables, missing) if missing else []
    tell_left_out(failures)
    print(f"{store.root}: {images - len(failures):,} of {images:,} images embedded by {model.model_id}")
    _settle_stale(store, model, prune=config.prune)
    return 1 if failures or unread else 0


def _note_images(tables: DuckDBPyConnection, catalog: DuckDBPyConnection, embedded: Iterator[str]) -> None:
    """Fills the table `readable`: the images that have pixels, each once, and whether they are embedded."""
    tables.execute("CREATE TABLE embedded (image_id TEXT)")
    while page := list(islice(embedded, _IMAGES_AT_ONCE)):
        tables.execute("INSERT INTO embedded SELECT unnest(?)", [page])
    tables.register("images", catalog.sql(_READABLE).to_arrow_reader(_IMAGES_AT_ONCE))
    tables.execute("CREATE TABLE readable AS SELECT *, image_id IN (FROM embedded) AS done FROM images")
    tables.unregister("images")


def _rows(tables: DuckDBPyConnection) -> Iterator[dict[str, list[Any]]]:
    """The images without an embedding as rows of work, in the order of their ids."""
    for batch in tables.sql(_MISSING).to_arrow_reader(_IMAGES_AT_ONCE):
        for start in range(0, len(batch), IMAGES_PER_CHUNK):
            chunk = batch.slice(start, IMAGES_PER_CHUNK)
            yield {"image_ids": chunk["image_id"].to_pylist(), "uris": chunk["uris"].to_pylist()}


class EmbedWorker:
    """Embeds chunks of images; the model is loaded once."""

    def __init__(self, job: EmbedJob) -> None:
        from sam_core.lanes import keep_freed_memory
        from sam_core.model.cpu_encoder import cpu_encoder

        self._job = job
        self._store = open_store(job.dataset)
        self._sam = job.model.load(device=job.device).sam
        self._encoder = None if job.device == "cuda" else cpu_encoder(self._sam)
        keep_freed_memory()
        self._reader = UriReader(max_bytes=byte_limit(job.max_pixels))

    def __call__(self, row: dict[str, list[Any]]) -> dict[str, object]:
        """A row of work: image ids and URIs in; how many were embedded and what went wrong out, or a `failure`."""
        chunk = [StoredImage(image, tuple(uris)) for image, uris in zip(row["image_ids"], row["uris"], strict=True)]
        try:
            require_here(self._store)
            failures = list(self._embed(chunk))
        except (OSError, ValueError) as error:
            return {"failure": one_line(error)}
        return {"images": len(chunk), "failures": failures}

    def _embed(self, chunk: list[StoredImage]) -> Iterator[str]:
        """Write the embeddings of a chunk; one line for every image that has no pixels. No lane waits for a store."""
        from sam_core.lanes import open_lanes

        with (
            ThreadPoolExecutor(_READERS) as readers,
            open_lanes(self._sam.device, self._job.threads) as lanes,
            ThreadPoolExecutor(_WRITERS) as writers,
        ):
            loaded = ahead(readers, self._load, chunk, window=_READERS)
            # What is asked of a GPU is done at once: ask for one, or all of it is before the first is written.
            window = 1 if self._job.device == "cuda" else self._job.threads + 1
            encoded = ahead(lanes, self._encode, loaded, window=window)
            yield from filter(None, ahead(writers, self._put, encoded, window=_WRITERS))

    def _load(self, image: StoredImage) -> tuple[StoredImage, NDArray[np.uint8] | str]:
        """The pixels of an image, or why it has none."""
        try:
            return image, read_pixels(self._reader, image, max_pixels=self._job.max_pixels)
        except ImageError as error:
            return image, str(error)

    def _encode(self, loaded: tuple[StoredImage, NDArray[np.uint8] | str]) -> tuple[StoredImage, bytes | str]:
        image, pixels = loaded
        if isinstance(pixels, str):
            return image, pixels
        return image, embed_image(self._sam, self._job.model, image.image_id, pixels, encoder=self._encoder)

    def _put(self, encoded: tuple[StoredImage, bytes | str]) -> str | None:
        image, data = encoded
        if isinstance(data, str):
            return data
        self._store.put(embedding_key(self._job.model.model_id, image.image_id), data)
        return None


def _work(config: EmbedConfig, store: Store, model: Model, tables: DuckDBPyConnection, missing: int) -> list[str]:
    """Embed the missing images on the cluster; one line for every image that cannot be."""
    from workflows.ray_session import choose_pool, map_actors, start_ray

    start_ray()
    device = choose_device(config.device)
    pool = choose_pool(workers=config.workers, threads=config.threads, on_gpu=device == "cuda")
    job = EmbedJob(store.root, model, device, pool.threads, config.max_pixels)
    failures: list[str] = []
    with Progress("embedding", missing) as progress:
        for done in map_actors(EmbedWorker, job, _rows(tables), pool):
            failures += done["failures"]
            progress.add(images=done["images"], errors=len(done["failures"]))
    return failures


def _settle_stale(store: Store, model: Model, *, prune: bool) -> None:
    """Say, or with `prune` delete, what other models left behind."""
    stale = stale_embeddings(store, model.model_id)
    if not stale:
        return
    if not prune:
        print(f"{len(stale):,} embeddings of other models are stale; --prune deletes them")
        return
    for key in stale:
        store.delete(key)
    print(f"{len(stale):,} stale embeddings of other models deleted")
