"""Stored image embeddings: one file per image and model, which annotators stream and nobody computes twice.

Embeddings of windows travel as such files too, and are not stored: there would be dozens for each image.

A file is safetensors: a JSON header that a browser reads in three lines, and float16 tensors. Its key names the model
by its hash, and its header repeats that hash whole, so that no embedding is taken for one of other weights.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from sam_core.geometry import Frame, frame_of
from sam_core.model.image_encoder import ImageFeatures
from sam_core.model.sam import Sam
from sam_core.predict import ImageEmbedding, encode
from sam_core.windows import Box
from schemas.layout import EMBEDDINGS_PREFIX, embedding_key
from workflows.models import Model
from workflows.storage import Store

FORMAT = "1"


class StaleEmbeddingError(ValueError):
    """A stored embedding that is damaged, or of another model or image than its place says."""


@dataclass(frozen=True, slots=True)
class EmbeddingLabel:
    """What the header of a file says: whose embedding it is, and where its window lies in image and model input.

    frame: of the upright image; its crop box is the window, the whole image as a rule.
    """

    model_sha256: str
    image_id: str
    frame: Frame

    @property
    def window(self) -> Box | None:
        """None for the whole image."""
        return None if self.frame.whole_image else self.frame.crop_box

    def fields(self) -> dict[str, str]:
        """As safetensors metadata, which is text only."""
        return {
            "format": FORMAT,
            "model_sha256": self.model_sha256,
            "image_id": self.image_id,
            "height": str(self.frame.original_size[0]),
            "width": str(self.frame.original_size[1]),
            "input_height": str(self.frame.input_size[0]),
            "input_width": str(self.frame.input_size[1]),
            "image_size": str(self.frame.image_size),
        } | ({"window": " ".join(map(str, self.window))} if self.window else {})


def embed_image(
    sam: Sam,
    model: Model,
    image_id: str,
    pixels: NDArray[np.uint8],
    window: Box | None = None,
    encoder: Callable[[Tensor], ImageFeatures] | None = None,
) -> bytes:
    """The file of one image, uint8 RGB [H, W, 3], or of a window of it: tensors `embedding` [1, C, h, w] and `fine_0`,
    `fine_1` if any. encoder: as for `predict.encode`."""
    encoded = encode(sam, [pixels], crop_boxes=None if window is None else [window], encoder=encoder)
    return pack(encoded.features, EmbeddingLabel(model.sha256, image_id, encoded.frames[0]))


def pack(features: ImageFeatures, label: EmbeddingLabel) -> bytes:
    """The bytes of a file; equal for equal features but for the order of fields in the header, which is drawn."""
    tensors = {"embedding": features.embedding} | {f"fine_{level}": fine for level, fine in enumerate(features.fine)}
    halves = {name: tensor.detach().to("cpu", torch.float16).contiguous() for name, tensor in tensors.items()}
    return save(halves, label.fields())


def unpack(data: bytes, label: EmbeddingLabel) -> ImageEmbedding:
    """The embedding of a file, float32, when it is the one that `label` describes.

    Raises:
        StaleEmbeddingError: it is damaged, or of another model, image or size.
    """
    check(data, label)
    try:
        tensors = {name: tensor.float() for name, tensor in load(data).items()}
    except SafetensorError as error:
        raise StaleEmbeddingError(f"stored embedding of {label.image_id} is damaged: {error}") from error
    fine = tuple(tensors[name] for name in sorted(tensors) if name.startswith("fine_"))
    return ImageEmbedding(ImageFeatures(tensors["embedding"], fine), (label.frame,))


def check(data: bytes, label: EmbeddingLabel) -> None:
    """Raise StaleEmbeddingError unless the file is whole and its header is `label`; the numbers are not looked at."""
    found = _metadata(data)
    wrong = [name for name, value in label.fields().items() if found.get(name) != value]
    if wrong:
        raise StaleEmbeddingError(f"stored embedding of {label.image_id} is of another {' and '.join(wrong)}")


def expected_label(
    model: Model, image_size: int, image_id: str, size: tuple[int, int], window: Box | None = None
) -> EmbeddingLabel:
    """What the file of an image, or of a window of it, by a model must say; size is (height, width), px."""
    return EmbeddingLabel(model.sha256, image_id, frame_of(size, image_size=image_size, crop_box=window))


def stored_embedding(store: Store, model_id: str, label: EmbeddingLabel, make: Callable[[], bytes]) -> bytes:
    """The file of the whole image that `label` describes, made and stored first where it is missing or stale. Raises
    StoreError, and whatever `make` does."""
    assert label.window is None, "windows are not stored"
    key = embedding_key(model_id, label.image_id)
    try:
        data = store.get(key)
        check(data, label)
        return data
    except (FileNotFoundError, StaleEmbeddingError):
        data = make()
    store.put(key, data)
    return data


def embedded_images(store: Store, model_id: str) -> Iterator[str]:
    """Images whose embedding by this model lies in the data set."""
    for entry in store.list(f"{EMBEDDINGS_PREFIX}model={model_id}"):
        image = entry.key.rpartition("/")[2].removesuffix(".safetensors")
        if embedding_key(model_id, image) == entry.key:
            yield image


def stale_embeddings(store: Store, model_id: str) -> list[str]:
    """Keys of embeddings that other models made."""
    mine = f"{EMBEDDINGS_PREFIX}model={model_id}/"
    return [entry.key for entry in store.list(EMBEDDINGS_PREFIX.rstrip("/")) if not entry.key.startswith(mine)]


def _metadata(data: bytes) -> dict[str, str]:
    """The text fields of a safetensors header. Raises StaleEmbeddingError where the file is longer or shorter."""
    try:
        start = 8 + int.from_bytes(data[:8], "little")
        header = json.loads(data[8:start])
        fields = dict(header.pop("__metadata__"))
        end = start + max(tensor["data_offsets"][1] for tensor in header.values())
    except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise StaleEmbeddingError("stored embedding has no readable header") from error
    if len(data) != end:
        raise StaleEmbeddingError(f"stored embedding has {len(data):,} bytes, its header says {end:,}")
    return fields
