"""A COCO instances JSON, as anybody writes it or as `sam-engine export` does with what is known of each mask."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator

from schemas import coco
from schemas.ids import content_hash
from schemas.tables import Stage
from workflows.exchange.readers import IncomingImage, IncomingMask, merged
from workflows.sources import list_images
from workflows.uris import ImageRef


class CocoSource:
    """The whole document is in memory, as with every reader of COCO: its text only while it is read.

    Raises ValueError (one line) when it is no such document, or names pictures outside of the image folder.
    """

    kind = "coco"
    lost = ()

    def __init__(self, name: str, data: bytes, *, image_folder: str | None, crowds: bool) -> None:
        self.name, self.digest = name, content_hash(data)
        self._folder, self._crowds = image_folder, crowds
        document = coco.from_json(data, where=name)
        self._images = {image.id: image for image in document.images}
        self._categories = {category.id: category.name for category in document.categories}
        self._masks: dict[int, list[coco.Annotation]] = defaultdict(list)
        for annotation in document.annotations:
            if annotation.image_id not in self._images:
                raise ValueError(
                    f"{name}: annotation {annotation.id} is of image {annotation.image_id}, which is not there"
                )
            self._masks[annotation.image_id].append(annotation)
        self.automatic = any(found.origin.stage == Stage.AUTOMATIC for found in document.annotations)
        self._ids: dict[str, set[int]] = defaultdict(set)

    def references(self) -> Iterator[ImageRef]:
        """Raises ValueError where the document has other pictures by now, or other numbers for them."""
        self._ids.clear()
        for reference in list_images(self.name, image_folder=self._folder):
            number = int(json.loads(reference.metadata)["id"])
            if number not in self._images or not reference.uri.endswith(f"/{self._images[number].file_name}"):
                raise ValueError(f"{self.name} has changed while it was read; run the same command again")
            self._ids[reference.uri].add(number)
            yield reference

    def load(self, uri: str) -> IncomingImage:
        """Documents that were put together may name a picture twice."""
        return merged([self._of(self._images[number]) for number in sorted(self._ids[uri])])

    def _of(self, image: coco.Image) -> IncomingImage:
        masks: list[IncomingMask] = []
        refused: list[str] = []
        is_all = True
        for annotation in self._masks[image.id]:
            if annotation.iscrowd and not self._crowds:
                is_all = False
                continue
            try:
                rle = coco.rle_of(annotation.segmentation, height=image.height, width=image.width)
            except ValueError as error:
                refused.append(f"annotation {annotation.id} of {image.file_name}: {error}")
                continue
            masks.append(IncomingMask(str(annotation.id), rle, annotation.origin, self._details(annotation)))
        return IncomingImage(image.height, image.width, tuple(masks), tuple(refused), is_all)

    def _details(self, annotation: coco.Annotation) -> dict[str, object]:
        known = {"category": self._categories.get(annotation.category_id), "mask_id": annotation.origin.mask_id}
        said = known | {"iscrowd": int(annotation.iscrowd)}
        return {"id": annotation.id, **{name: value for name, value in said.items() if value}}
