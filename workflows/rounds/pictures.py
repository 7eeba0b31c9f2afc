"""The images of an engine: those of the data set by id, with their embeddings, and those with true masks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

import duckdb
import numpy as np
import pyarrow.compute as pc
from numpy.typing import NDArray

from sam_core.masks import rle
from sam_core.masks.packed import PackedMasks
from sam_core.model.sam import Sam
from sam_core.predict import ImageEmbedding, encode
from sam_core.windows import Box
from schemas.ids import content_hash
from schemas.ids import image_id as id_of_bytes
from schemas.parquet import to_plain_parquet
from workflows.embeddings import embed_image, expected_label, stored_embedding, unpack
from workflows.evaluate.truth import open_set, read_file, read_masks, require_size
from workflows.image_limits import MAX_PIXELS
from workflows.images import ImageError, decode
from workflows.models import Model
from workflows.originals import StoredImage, read_pixels
from workflows.storage import Store
from workflows.uris import UriReader

Pixels = NDArray[np.uint8]
_WINDOWS_KEPT = 64
_SIZES = "SELECT image_id, uris, height, width FROM images WHERE height IS NOT NULL"


@dataclass(frozen=True, slots=True)
class TrueImage:
    """An image, uint8 RGB [H, W, 3], with its true masks, none empty."""

    image_id: str
    image: Pixels
    masks: PackedMasks


class Truth:
    """Images with true masks: any set that evaluations read. Raises ValueError or OSError, one line.

    empty: also images of which the set says that there is nothing on them.
    """

    def __init__(self, place: str, *, empty: bool = False) -> None:
        rows = open_set(place).rows
        least = 0 if empty else 1
        told = pc.greater_equal(pc.fill_null(pc.list_value_length(rows["annotations"]), -1), least)
        self._rows = rows.filter(pc.or_(pc.is_valid(rows["truth_uri"]), told))
        self.name = place
        self._reader = UriReader()
        self._ids: dict[int, str] = {}  # by row, of those that were looked for: in a bucket each is a download
        if not len(self._rows):
            raise ValueError(f"{place}: no image with true masks")

    def __len__(self) -> int:
        return len(self._rows)

    @cached_property
    def sha256(self) -> str:
        """Changes when an image or its true masks do; of files, by their size and time, or not at all in a bucket."""
        return content_hash(to_plain_parquet(self._rows))

    def first(self, count: int) -> Iterator[TrueImage]:
        """The first images, in the order of the set."""
        return (self.read(row) for row in range(min(count, len(self))))

    def find(self, images: Mapping[str, int]) -> dict[str, int]:
        """Rows by image_id of those of these images, given with their bytes, that the set holds.

        Images are the same when their bytes are, wherever they lie; only files of such a size are read.
        """
        sizes = set(images.values())
        for row in range(len(self)):
            if row not in self._ids and self._reader.size(self._uris(row)[0]) in {None, *sizes}:
                self._ids[row] = id_of_bytes(self._data(row))
        found = {image: row for row, image in sorted(self._ids.items())}
        return {image: found[image] for image in images if image in found}

    def uris(self, count: int) -> list[str]:
        """Where the first images lie."""
        return [self._uris(row)[0] for row in range(min(count, len(self)))]

    def read(self, row: int) -> TrueImage:
        """An image by its place in the set. Raises ValueError or OSError when it or its masks cannot be read."""
        data, planned = self._data(row), self._rows.slice(row, 1).to_pylist()[0]
        try:
            image, masks = decode(data), read_masks(planned, self._reader)
            require_size(image, masks)
        except ValueError as error:
            raise ValueError(f"{planned['uris'][0]}: {error}") from error
        seen = [place for place, counts in enumerate(masks.rles) if rle.area(counts) and not masks.crowd[place]]
        return TrueImage(id_of_bytes(data), image, masks.packed.at(seen))

    def _uris(self, row: int) -> list[str]:
        uris: list[str] = self._rows["uris"][row].as_py()
        return uris

    def _data(self, row: int) -> bytes:
        return read_file({name: self._rows[name][row].as_py() for name in ("uris", "picture")}, self._reader)


class Desk:
    """One model and the images of a data set: what an annotator's assistant needs, without a server.

    Embeddings of images go through the data set's store as the app's do, so that what is seen does not depend on who
    came first.
    """

    def __init__(self, store: Store, model: Model, connection: duckdb.DuckDBPyConnection) -> None:
        self.model, self._store = model, store
        self.sam: Sam = model.load().sam
        found = connection.execute(_SIZES).fetchall()
        self.sizes = {image: (height, width) for image, _, height, width in found}
        self._uris = {image: tuple(uris) for image, uris, _, _ in found}
        self._reader = UriReader()
        self._read = lru_cache(maxsize=1)(self.pixels)
        self._seen = lru_cache(maxsize=_WINDOWS_KEPT)(self._look)

    def pixels(self, image_id: str) -> Pixels:
        """uint8 RGB [H, W, 3]. Raises ImageError, StoreError."""
        return read_pixels(self._reader, StoredImage(image_id, self._uris[image_id]), max_pixels=MAX_PIXELS)

    def readable(self, image_ids: Iterable[str]) -> tuple[list[str], list[ImageError]]:
        """Those of the images whose embedding is stored or can be made, and why each of the others is none."""
        found, left_out = [], []
        for image_id in image_ids:
            try:
                self.embedding(image_id)
                found.append(image_id)
            except ImageError as error:
                left_out.append(error)
        return found, left_out

    def embedding(self, image_id: str, window: Box | None = None) -> ImageEmbedding:
        """Of an image, stored first if missing or stale, or of a window of it. Raises ImageError, StoreError."""
        label = expected_label(self.model, self.sam.config.image_size, image_id, self.sizes[image_id], window)
        if label.window is not None:
            return self._seen(image_id, label.window)

        def make() -> bytes:
            return embed_image(self.sam, self.model, image_id, self._read(image_id))

        return unpack(stored_embedding(self._store, self.model.model_id, label, make), label)

    def _look(self, image_id: str, window: Box) -> ImageEmbedding:
        return encode(self.sam, [self._read(image_id)], crop_boxes=[window])


def require_some(what: str, count: int, gone: Sequence[str]) -> None:
    """Raises OSError where all of so many images are gone or refused, each with a line: then a disk is not mounted, or
    access was withdrawn, as a rule, and that may pass."""
    if count and len(gone) == count:
        raise OSError(f"none of the {count} {what} can be read: {gone[0]}")
