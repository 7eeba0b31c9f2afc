"""SA-1B: a folder or S3 prefix of JSON documents, each beside its picture, or of pictures that lie elsewhere."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from pathlib import PurePosixPath

from schemas import coco, sa1b
from schemas.tables import Stage
from workflows.exchange.readers import IncomingImage, IncomingMask
from workflows.exchange.readers.names import PictureFolder
from workflows.failures import is_of_the_machine, one_line
from workflows.sources import list_images
from workflows.storage import open_store
from workflows.uris import ImageRef, UriReader

_MOST_BYTES = 1 << 30


class Sa1bSource:
    """Nothing is kept of the documents but their names: each is read when its picture's turn comes, and where pictures
    lie elsewhere once before, for the name that it has for its own.

    Raises ValueError (one line) when there is no document.
    """

    kind = "sa1b"
    automatic = True

    def __init__(self, folder: str, elsewhere: PictureFolder | None = None) -> None:
        store = open_store(folder)
        self.name, self._elsewhere = store.root, elsewhere
        self._place_of: dict[str, str] = {}
        digest, self._documents = hashlib.sha256(self.name.encode()), set[str]()
        for entry in store.list():
            if entry.key.endswith(".json"):
                self._documents.add(entry.key.removesuffix(".json"))
                digest.update(f"\0{entry.key}\0{entry.stamp}".encode())
        if not self._documents:
            raise ValueError(f"{self.name}: no *.json here; SA-1B has one beside each picture")
        self.digest = digest.hexdigest()
        self.lost: list[str] = []
        self._reader = UriReader(max_bytes=_MOST_BYTES)

    def references(self) -> Iterator[ImageRef]:
        """Pictures that have a document."""
        return self._beside() if self._elsewhere is None else self._named(self._elsewhere)

    def _beside(self) -> Iterator[ImageRef]:
        alone = self._documents.copy()
        for reference in self._pictures():
            name = reference.uri.removeprefix(f"{self.name}/").rpartition(".")[0]
            if name in self._documents:
                alone.discard(name)
                yield reference
        self.lost = [f"{self.name}/{name}.json: no picture beside it" for name in sorted(alone)]

    def _pictures(self) -> Iterator[ImageRef]:
        try:
            return list_images(self.name)
        except ValueError as error:
            raise ValueError(f"{error}; --image-folder says where the pictures of its documents lie") from error

    def _named(self, pictures: PictureFolder) -> Iterator[ImageRef]:
        for name in sorted(self._documents):
            try:
                reference = self._find(f"{self.name}/{name}.json", str(PurePosixPath(name).parent), pictures)
            except (ValueError, OSError) as error:
                if is_of_the_machine(error):
                    raise
                self.lost.append(one_line(error))
            else:
                yield reference

    def _find(self, place: str, folder: str, pictures: PictureFolder) -> ImageRef:
        """The picture of a document, whose name for it counts from the folder that it lies in."""
        file_name = self._document(place).image.file_name
        try:
            reference = pictures.find(str(PurePosixPath(folder) / file_name))
        except ValueError as error:
            raise ValueError(f"{place}: {error}") from error
        if (other := self._place_of.setdefault(reference.uri, place)) != place:
            raise ValueError(f"{place}: {other} is of the same picture")
        return reference

    def _document(self, place: str) -> sa1b.Document:
        return sa1b.from_json(self._reader.read(place), where=place)

    def load(self, uri: str) -> IncomingImage:
        place = self._place_of.get(uri, f"{uri.rpartition('.')[0]}.json")
        document = self._document(place)
        if self._elsewhere is None and document.image.file_name != PurePosixPath(uri).name:
            raise ValueError(f"{place}: file_name is {document.image.file_name[:100]!r}, the picture beside it another")
        size = (document.image.height, document.image.width)
        masks: list[IncomingMask] = []
        refused: list[str] = []
        for found in document.annotations:
            segmentation = coco.CompressedRle(found.segmentation.size, found.segmentation.counts)
            try:
                rle = coco.rle_of(segmentation, height=size[0], width=size[1])
            except ValueError as error:
                refused.append(f"{place}: annotation {found.id}: {error}")
                continue
            origin = coco.Origin(
                stage=Stage.AUTOMATIC,
                predicted_iou=found.predicted_iou,
                stability_score=found.stability_score,
                point_coords=found.point_coords,
                crop_box=found.crop_box,
            )
            masks.append(IncomingMask(str(found.id), rle, origin, {"id": found.id}))
        return IncomingImage(*size, tuple(masks), tuple(refused), is_all=True)


def is_document(data: bytes) -> bool:
    """Whether the bytes begin as a document does, which is of one image where COCO's has `images`."""
    return re.match(rb'\s*\{\s*"image"\s*:', data) is not None
