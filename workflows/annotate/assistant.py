"""The model behind the app: pixels and embeddings of the data set's images, masks for prompts, masks of everything."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache, partial

import numpy as np
import torch
from numpy.typing import NDArray

from sam_core.export_onnx import OnnxDecoder, export_decoder
from sam_core.generator import MaskGenerator
from sam_core.masks import rle
from sam_core.masks.batch import MaskRecords
from sam_core.predict import ImageEmbedding
from sam_core.recipes import recipe, recommended_recipe
from sam_core.windows import Box, is_window
from workflows.annotate.contract import Prompt
from workflows.annotate.decoder import Answer, Decoder, require_inside
from workflows.annotate.text_reader import TextReader
from workflows.browser_pictures import for_browser
from workflows.embeddings import EmbeddingLabel, embed_image, expected_label, stored_embedding, unpack
from workflows.image_limits import byte_limit
from workflows.images import UNREADABLE, ImageError, read_header
from workflows.models import Model
from workflows.originals import StoredImage, pixels_of, read_original
from workflows.storage import Store
from workflows.text.clips import open_clip
from workflows.uris import UriReader

EMBEDDINGS_KEPT = 16
WINDOWS_KEPT = 128
PICTURES_KEPT = 2


@dataclass(frozen=True, slots=True)
class AnnotatedImage:
    """An image of the task; height and width are px of the upright image."""

    stored: StoredImage
    height: int
    width: int

    @property
    def size(self) -> tuple[int, int]:
        return self.height, self.width


class Assistant:
    """Everything that needs the model or the pixels. Safe in any thread; the model does one thing at a time.

    some: images of the task. Where none of them is there any more, a picture that is not raises OSError, no ImageError:
        a disk that is not mounted, or a right that was withdrawn, is no reason to leave one image out after the other.
    """

    def __init__(
        self,
        store: Store,
        model: Model,
        some: Sequence[StoredImage],
        *,
        threads: int,
        max_pixels: int,
        clip: str | None = None,
    ) -> None:
        torch.set_num_threads(threads)
        self._some = some
        self.model, self._store, self._threads, self._max_pixels = model, store, threads, max_pixels
        loaded = model.load()
        self._sam = loaded.sam
        self._reads = TextReader(loaded.sam, open_clip(clip, loaded)) if clip else None
        self.graphs: OnnxDecoder = export_decoder(self._sam)
        self._decoder = Decoder(self.graphs, threads=threads)
        self._reader = UriReader(max_bytes=byte_limit(max_pixels))
        self._lock = threading.Lock()
        # A picture of 50 MP takes 0.6 GB, and half of it stays with the thread (glibc): one does it for all.
        self._unpacking = ThreadPoolExecutor(1, thread_name_prefix="unpacking")
        # Of what was asked for last, some is kept.
        self._last_files = lru_cache(maxsize=PICTURES_KEPT)(self._original)
        self._last_pixels = lru_cache(maxsize=PICTURES_KEPT)(self._pixels)
        self._last_windows = lru_cache(maxsize=WINDOWS_KEPT)(self._embed)
        self._last_embeddings = lru_cache(maxsize=EMBEDDINGS_KEPT)(self._embedding)

    @property
    def takes_text(self) -> bool:
        """Whether prompts may have a text."""
        return self._reads is not None

    @property
    def image_size(self) -> int:
        """Side of the model input, px."""
        return self._sam.config.image_size

    @property
    def low_res_size(self) -> int:
        """Side of the logits, px."""
        return self._sam.config.low_res_size

    def picture(self, image: AnnotatedImage) -> tuple[bytes, str]:
        """The upright picture in a format that browsers show, and its media type. Raises ImageError, OSError."""
        data = self._original(image)
        header = read_header(data, max_pixels=self._max_pixels)
        return self._unpacking.submit(for_browser, data, header, max_pixels=self._max_pixels).result()

    def embedding_file(self, image: AnnotatedImage, window: Box | None = None) -> bytes:
        """The embedding of an image, computed and stored first if it is missing or stale, or of a window of it. Raises
        ValueError for a window that is no tile of the image, ImageError, OSError."""
        return self._file(image, self._label(image, window))

    def decode(self, image: AnnotatedImage, prompt: Prompt) -> Answer:
        """What the model says to a prompt. Raises ValueError for an empty prompt, a mask that does not fit, a window
        that is no tile of the image, or one that shows only a part of the prompt."""
        if not prompt.points and prompt.box is None and prompt.text is None:
            raise ValueError("a prompt needs points, a box or a text")
        mask = rle.decode(prompt.mask.encode(), image.size) if prompt.mask else None
        label = self._label(image, prompt.window)
        require_inside(prompt, mask, label.frame)
        if prompt.text is None:
            return self._decoder.answer(self._last_embeddings(image, label), prompt, mask)
        if self._reads is None:
            raise ValueError("this server has no text prompts: start `sam-engine annotate` with --clip FOLDER")
        embedding = self._last_embeddings(image, label)
        with self._lock:
            return self._reads.answer(embedding, prompt, mask)

    def automatic(self, image: AnnotatedImage, recipe_name: str) -> MaskRecords:
        """Every mask of an image. Raises ImageError, OSError."""
        name = recommended_recipe(self.model.name) if recipe_name == "auto" else recipe_name
        data = self._last_files(image)
        with self._lock:
            pixels = self._last_pixels(image, data)
            return MaskGenerator(self._sam, recipe(name), threads=self._threads).generate(pixels).masks

    def _original(self, image: AnnotatedImage) -> bytes:
        with self._blaming_none_for_all():
            return read_original(self._reader, image.stored.uris, image.stored.image_id)

    def _pixels(self, image: AnnotatedImage, data: bytes) -> NDArray[np.uint8]:
        return self._unpacking.submit(pixels_of, image.stored, data, max_pixels=self._max_pixels).result()

    @contextmanager
    def _blaming_none_for_all(self) -> Iterator[None]:
        """Raises OSError for a picture that is not there where no other is."""
        try:
            yield
        except ImageError as error:
            places = (uri for image in self._some for uri in image.uris)
            if error.kind != UNREADABLE or any(map(self._reader.may_be_read, places)):
                raise
            raise OSError(f"{error} (nor is any other picture of this task there, so none is skipped)") from error

    def _label(self, image: AnnotatedImage, window: Box | None) -> EmbeddingLabel:
        """What an embedding must say. Raises ValueError for a window that is no tile: those are too many to keep."""
        if window is not None and not is_window(image.size, window):
            shown, (height, width) = ",".join(map(str, window)), image.size
            raise ValueError(f"window {shown} is not a tile of an image of {width}x{height} px (sam_core.windows)")
        return expected_label(self.model, self.image_size, image.stored.image_id, image.size, window)

    def _file(self, image: AnnotatedImage, label: EmbeddingLabel) -> bytes:
        """An image's file is stored, those of the windows looked at last are kept here."""
        if label.window is not None:
            return self._last_windows(image, label)
        return stored_embedding(self._store, self.model.model_id, label, partial(self._embed, image, label))

    def _embed(self, image: AnnotatedImage, label: EmbeddingLabel) -> bytes:
        data = self._last_files(image)  # a store that is slow keeps nobody else waiting
        with self._lock:
            pixels = self._last_pixels(image, data)
            return embed_image(self._sam, self.model, label.image_id, pixels, label.window)

    def _embedding(self, image: AnnotatedImage, label: EmbeddingLabel) -> ImageEmbedding:
        return unpack(self._file(image, label), label)
