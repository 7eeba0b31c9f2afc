"""Sample n of a run: a pure function of the run's seed and n, whoever makes it, whenever.

That makes the position of the sampler one number, a resumed run the same as an undisturbed one, and the batch of two
workers that of one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from sam_core.masks import rle
from sam_core.training.framing import Mask, draw_framing, frame_image, photo_batch
from sam_core.training.presets import TrainConfig
from sam_core.training.sampling import scene_sample
from sam_core.training.targets import TrainBatch, merge
from schemas import sa1b
from schemas.ids import image_id as id_of_bytes
from workflows.images import decode
from workflows.labels import decode_labels
from workflows.sources import UriReader
from workflows.train.cutouts import CutOutPictures
from workflows.train.sources import Source, place_of

TRIES = 50
"""Images drawn until one has a mask that can be used."""


@dataclass(frozen=True, slots=True)
class PhotoReader:
    """Reads the picture and the masks of an index row."""

    uris: UriReader

    def picture(self, entry: dict[str, Any], source: Source) -> NDArray[np.uint8]:
        gone = "is not there any more"
        for uri in entry["uris"]:
            try:
                data = self.uris.read(uri)
                if entry["image_id"] in (None, id_of_bytes(data)):
                    return decode(data)
                gone = "is another picture than it was"
            except FileNotFoundError:
                continue
            except ValueError as error:
                raise ValueError(f"{uri}: {error}") from error
        raise ValueError(
            f"{source.name}: {entry['uris'][0]} {gone}; if the images moved, run "
            f"`sam-engine ingest NEW_PLACE {place_of(source.name)}`"
        )

    def masks(self, entry: dict[str, Any], image: NDArray[np.uint8]) -> list[Callable[[], Mask]]:
        size, uri = image.shape[:2], entry["uris"][0]
        if entry["masks_uri"] is None:
            _require_size(uri, size, (entry["height"], entry["width"]))
            return [_reader_of(counts, size) for counts in entry["rles"]]
        data = self.uris.read(entry["masks_uri"])
        if entry["masks_uri"].endswith(".json"):
            document = sa1b.from_json(data, where=entry["masks_uri"])
            _require_size(uri, size, (document.image.height, document.image.width))
            return [_reader_of(found.segmentation.counts.encode(), size) for found in document.annotations]
        labels = decode_labels(data, entry["masks_uri"])
        _require_size(uri, size, labels.shape)
        return [_label_of(labels, value) for value in np.unique(labels) if value]


class Sampler:
    """Samples of a mixture of sources; small pieces of state are caches only. Can be pickled."""

    def __init__(self, sources: tuple[Source, ...], config: TrainConfig) -> None:
        self._sources, self._config = sources, config
        self._shares = _shares(sources)
        self._reader = PhotoReader(UriReader())
        self._cutouts = {
            source.name: CutOutPictures(source.name, source.index, self._reader.uris)
            for source in sources
            if source.procedural and source.index is not None
        }

    def __reduce__(self) -> tuple[Any, ...]:
        return Sampler, (self._sources, self._config)

    def batch(self, numbers: range) -> TrainBatch:
        """The samples of these numbers, in order. Raises ValueError or OSError, one line that says which image."""
        return merge([self.sample(number) for number in numbers])

    def sample(self, number: int) -> TrainBatch:
        """One image with at least one mask (with none at all where the run needs none)."""
        rng = np.random.default_rng([self._config.seed, number])
        for _ in range(TRIES):
            source, row = self._draw(rng)
            made = self._scene(source, rng, number) if source.procedural else self._photograph(source, row, rng, number)
            if made is not None:
                return made
        raise ValueError(
            f"{TRIES} images in a row had no mask between {self._config.min_area} px and "
            f"{self._config.max_mask_share:.0%} of the image; the last was {self._name(source, row)}"
        )

    def describe(self, number: int) -> str:
        """What sample n was drawn from first, for messages."""
        return self._name(*self._draw(np.random.default_rng([self._config.seed, number])))

    def _draw(self, rng: np.random.Generator) -> tuple[Source, int]:
        source = self._sources[int(rng.choice(len(self._sources), p=self._shares))]
        return source, 0 if source.procedural else int(rng.integers(len(source)))

    @staticmethod
    def _name(source: Source, row: int) -> str:
        return source.name if source.procedural else str(source.index["uris"][row].as_py()[0])

    def _scene(self, source: Source, rng: np.random.Generator, number: int) -> TrainBatch | None:
        made = scene_sample(self._config, rng, number=number, cutouts=self._cutouts.get(source.name))
        return made if len(made.masks) or self._config.aim == "distill" else None

    def _photograph(self, source: Source, row: int, rng: np.random.Generator, number: int) -> TrainBatch | None:
        assert source.index is not None
        entry = source.index.slice(row, 1).to_pylist()[0]
        image = self._reader.picture(entry, source)
        if self._config.aim == "distill":
            return _bare_batch(image, self._config, rng, number)
        texts = None if entry["vectors"] is None else [_vectors(draws) for draws in entry["vectors"]]
        return photo_batch(image, self._reader.masks(entry, image), self._config, rng, number, texts=texts)


def photographs(source: Source) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.bool_]]]:
    """Every image of a source with all its masks, uint8 [H, W, 3] and bool [N, H, W], in order."""
    if source.procedural or source.index is None:
        raise ValueError(f"{source.name}: procedural scenes have no end; validate on images")
    reader = PhotoReader(UriReader())
    for row in range(len(source)):
        entry = source.index.slice(row, 1).to_pylist()[0]
        image = reader.picture(entry, source)
        masks = [mask for read in reader.masks(entry, image) if (mask := read()).any()]
        if masks:
            yield image, np.stack(masks)


def numbers_of(step: int, images: int, *, rank: int, workers: int, part: int, parts: int) -> range:
    """The numbers of the images of one worker in one of the parts that a step is taken in.

    Parts and workers cut a step's images into equal runs; together they are step * images to (step + 1) * images - 1.
    """
    size = images // (workers * parts)
    first = step * images + (part * workers + rank) * size
    return range(first, first + size)


def _shares(sources: tuple[Source, ...]) -> NDArray[np.float64]:
    """Probability of each source: weight times images; procedural ones count as many as all others together."""
    images = sum(map(len, sources)) or 1
    sizes = np.array([source.weight * (images if source.procedural else len(source)) for source in sources])
    return sizes / sizes.sum()


def _bare_batch(image: NDArray[np.uint8], config: TrainConfig, rng: np.random.Generator, number: int) -> TrainBatch:
    """An image without masks."""
    side = config.image_size
    framing = draw_framing(*image.shape[:2], config, rng)
    return TrainBatch(
        images=torch.from_numpy(frame_image(image, framing, side))[None],
        sizes=torch.tensor([framing.size]),
        masks=torch.zeros(0, side, side, dtype=torch.bool),
        image_of=torch.zeros(0, dtype=torch.int64),
        numbers=torch.tensor([number]),
    )


def _require_size(uri: str, image: tuple[int, ...], masks: tuple[int, ...]) -> None:
    if tuple(image) != tuple(masks):
        raise ValueError(
            f"{uri}: masks of {masks[1]}x{masks[0]} px for an image of {image[1]}x{image[0]} px; they belong to another"
        )


def _vectors(draws: list[bytes]) -> NDArray[np.float16]:
    """Embeddings [D, W] of a mask's crops, as the table has them."""
    return np.stack([np.frombuffer(vector, "<f2") for vector in draws])


def _reader_of(counts: bytes, size: tuple[int, ...]) -> Callable[[], Mask]:
    return lambda: rle.decode(counts, (size[0], size[1]))


def _label_of(labels: NDArray[Any], value: int) -> Callable[[], Mask]:
    return lambda: labels == value
