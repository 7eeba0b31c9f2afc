"""The picture and the masks of an index row, read when a sample is made."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from sam_core.masks import rle
from sam_core.masks.packed import PackedMasks
from sam_core.training.framing import Mask
from schemas import sa1b
from workflows.images import decode
from workflows.labels import decode_labels
from workflows.originals import read_original
from workflows.train.left_out import blamed_on
from workflows.uris import UriReader


@dataclass(frozen=True, slots=True)
class PhotoReader:
    """Reads what an index row names. Raises UnreadableError, and OSError where the picture is not at fault."""

    uris: UriReader

    def picture(self, entry: dict[str, Any]) -> NDArray[np.uint8]:
        """uint8 RGB [H, W, 3], from the first place that has the picture."""
        with blamed_on(entry["uris"][0]):
            return decode(read_original(self.uris, entry["uris"], entry["image_id"]))

    def masks(self, entry: dict[str, Any], image: NDArray[np.uint8]) -> list[Callable[[], Mask]]:
        """Each gives one mask, bool [H, W], of the image uint8 [H, W, 3]; what they raise is as above."""
        uri = entry["uris"][0]
        with blamed_on(uri):
            found = self._found(entry, image.shape[:2])
            if isinstance(found, list):
                return [_reader_of(counts, image.shape[:2], uri) for counts in found]
            return [_label_of(found, value) for value in np.unique(found) if value]

    def packed(self, entry: dict[str, Any], image: NDArray[np.uint8]) -> PackedMasks:
        """All masks with pixels; what it raises is as above."""
        size = (image.shape[0], image.shape[1])
        with blamed_on(entry["uris"][0]):
            found = self._found(entry, size)
            rles = found if isinstance(found, list) else list(rle.encode_labels(found).values())
            rle.decompress_all(rles, size)
            return PackedMasks(size, tuple(counts for counts in rles if rle.area(counts)))

    def _found(self, entry: dict[str, Any], size: tuple[int, ...]) -> list[bytes] | NDArray[np.integer]:
        """COCO compressed counts, or labels [H, W]."""
        if entry["masks_uri"] is None:
            _require_size(size, (entry["height"], entry["width"]))
            rles: list[bytes] = entry["rles"]
            return rles
        data = self.uris.read(entry["masks_uri"])
        if entry["masks_uri"].endswith(".json"):
            document = sa1b.from_json(data, where=entry["masks_uri"])
            _require_size(size, (document.image.height, document.image.width))
            return sa1b.rles_of(document, where=entry["masks_uri"])
        labels = decode_labels(data, entry["masks_uri"])
        _require_size(size, labels.shape)
        return labels


def _require_size(image: tuple[int, ...], masks: tuple[int, ...]) -> None:
    if tuple(image) != tuple(masks):
        raise ValueError(
            f"masks of {masks[1]}x{masks[0]} px for an image of {image[1]}x{image[0]} px; they belong to another"
        )


def _reader_of(counts: bytes, size: tuple[int, ...], uri: str) -> Callable[[], Mask]:
    def read() -> Mask:
        with blamed_on(uri):
            columns = rle.decode(counts, (size[0], size[1])).T
        # By rows, as OpenCV wants them: numpy takes seven times as long for that, at every resize.
        rows: Mask = cv2.transpose(columns.view(np.uint8)).view(np.bool_)
        return rows

    return read


def _label_of(labels: NDArray[Any], value: int) -> Callable[[], Mask]:
    return lambda: labels == value
