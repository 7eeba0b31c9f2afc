"""The images of an engine: those of the data set by id, with their embeddings, and those with true masks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import Any

import duckdb
import numpy as np
from numpy.typing import NDArray

from sam_core.model.checkpoint import load_model
from sam_core.model.sam import Sam
from sam_core.predict import ImageEmbedding, encode
from schemas.ids import image_id as id_of_bytes
from schemas.layout import embedding_key
from workflows.embed import StoredImage, read_pixels
from workflows.embeddings import StaleEmbeddingError, embed_image, expected_label, unpack
from workflows.images import MAX_PIXELS
from workflows.models import Model
from workflows.sources import UriReader
from workflows.storage import Store
from workflows.train.samples import PhotoReader
from workflows.train.sources import Source, open_sources

Pixels = NDArray[np.uint8]
Masks = NDArray[np.bool_]
_SIZES = "SELECT image_id, uri, height, width FROM images WHERE height IS NOT NULL"


@dataclass(frozen=True, slots=True)
class TrueImage:
    """An image, uint8 RGB [H, W, 3], with its true masks bool [N, H, W], none empty."""

    image_id: str
    image: Pixels
    masks: Masks


class Truth:
    """Images with true masks: any source that training reads. Raises ValueError or OSError, one line."""

    def __init__(self, source: str) -> None:
        (self._source,) = open_sources((source,), need_masks=True)
        if self._source.index is None:
            raise ValueError(f"{source}: true masks lie in files; procedural scenes have none")
        self._reader = UriReader()

    def __len__(self) -> int:
        return len(self._source)

    def first(self, count: int) -> Iterator[TrueImage]:
        """The first images, in the order of the source."""
        return (self._read(row) for row in islice(range(len(self)), count))

    def of(self, image_id: str) -> TrueImage:
        """The image of that content. Raises ValueError when the source has none."""
        if image_id not in self._rows:
            raise ValueError(f"{self._source.name} has no true masks of image {image_id}, which is to be annotated")
        return self._read(self._rows[image_id])

    @cached_property
    def _rows(self) -> dict[str, int]:
        return {self._id(row): row for row in range(len(self))}

    @property
    def image_ids(self) -> set[str]:
        """Every image of the source."""
        return set(self._rows)

    def uris(self, count: int) -> list[str]:
        """Where the first images lie."""
        return [_entry(self._source, row)["uris"][0] for row in range(min(count, len(self)))]

    def _id(self, row: int) -> str:
        return id_of_bytes(self._reader.read(_entry(self._source, row)["uris"][0]))

    def _read(self, row: int) -> TrueImage:
        entry, reader = _entry(self._source, row), PhotoReader(self._reader)
        image = reader.picture(entry["uris"], self._source)
        masks = [mask for read in reader.masks(entry, image) if (mask := read()).any()]
        return TrueImage(self._id(row), image, np.array(masks, np.bool_).reshape(-1, *image.shape[:2]))


class Desk:
    """One model and the images of a data set: what an annotator's assistant needs, without a server.

    Embeddings go through the data set's store as the app's do, so that what is seen does not depend on who came first.
    """

    def __init__(self, store: Store, model: Model, connection: duckdb.DuckDBPyConnection) -> None:
        self.model, self._store = model, store
        self.sam: Sam = load_model(model.path).sam
        found = connection.execute(_SIZES).fetchall()
        self.sizes = {image: (height, width) for image, _, height, width in found}
        self._uris = {image: uri for image, uri, _, _ in found}
        self._reader = UriReader()

    def pixels(self, image_id: str) -> Pixels:
        """uint8 RGB [H, W, 3]. Raises ImageError, StoreError."""
        return read_pixels(self._reader, StoredImage(image_id, self._uris[image_id]), max_pixels=MAX_PIXELS)

    def embed(self, image: Pixels) -> ImageEmbedding:
        """The embedding of an image that need not be of the data set."""
        return encode(self.sam, [image])

    def embedding(self, image_id: str) -> ImageEmbedding:
        """The stored embedding, made and stored first where it is missing or stale. Raises ImageError, StoreError."""
        key = embedding_key(self.model.model_id, image_id)
        label = expected_label(self.model, self.sam.config.image_size, image_id, self.sizes[image_id])
        try:
            return unpack(self._store.get(key), label)
        except (FileNotFoundError, StaleEmbeddingError):
            data = embed_image(self.sam, self.model, image_id, self.pixels(image_id))
        self._store.put(key, data)
        return unpack(data, label)


def _entry(source: Source, row: int) -> dict[str, Any]:
    """A row of the index."""
    assert source.index is not None
    entry: dict[str, Any] = source.index.slice(row, 1).to_pylist()[0]
    return entry
