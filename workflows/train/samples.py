"""Sample n of a run: a pure function of the run's seed, n and what can be read, whoever makes it, whenever.

That makes the position of the sampler one number, a resumed run the same as an undisturbed one, and the batch of two
workers that of one. Where the first image that n draws cannot be read, the next one that it draws stands in.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from sam_core.masks.packed import PackedMasks
from sam_core.scenes.textures import BANKS_KEPT
from sam_core.training.config import TrainConfig
from sam_core.training.framing import draw_framing, frame_image, photo_batch
from sam_core.training.sampling import scene_sample
from sam_core.training.targets import TrainBatch, merge
from workflows.train.cutouts import CutOutPictures
from workflows.train.left_out import LeftOut, UnreadableError, too_many
from workflows.train.photos import PhotoReader
from workflows.train.sources import Source
from workflows.uris import UriReader

TRIES = 50
"""Images drawn until one can be read and has a mask that can be used."""
Photograph = tuple[NDArray[np.uint8], PackedMasks]
"""An image and all of its masks."""
Tell = Callable[[UnreadableError], None]
"""Hears what cannot be read."""


class Sampler:
    """Samples of a mixture of sources; small pieces of state are caches only. Can be pickled."""

    def __init__(self, sources: tuple[Source, ...], config: TrainConfig) -> None:
        self._sources, self._config = sources, config
        self._shares = _shares(sources)
        self._reader, self._left_out = PhotoReader(UriReader()), LeftOut()
        self._cutouts = {
            source.name: CutOutPictures(source.name, source.index, self._reader.uris, self._left_out)
            for source in sources
            if source.procedural and source.index is not None
        }

    def __reduce__(self) -> tuple[Any, ...]:
        return Sampler, (self._sources, self._config)

    def batch(self, numbers: range) -> TrainBatch:
        """The samples of these numbers, in order. Raises ValueError or OSError, one line that says which image."""
        return merge([self.sample(number) for number in numbers])

    def sample(self, number: int) -> TrainBatch:
        """One image with at least one mask (with none at all where the run needs none).

        Raises ValueError when none of TRIES images could be used, OSError where that may pass.
        """
        rng = np.random.default_rng([self._config.seed, number])
        for _ in range(TRIES):
            source, row = self._draw(rng)
            made, failure = self._attempt(source, row, rng, number)
            if made is not None:
                return made
        if failure:
            raise too_many(f"{TRIES} images in a row could not be used; the last was {failure}", failure)
        raise ValueError(
            f"{TRIES} images in a row had no mask between {self._config.min_area} px and "
            f"{self._config.max_mask_share:.0%} of the image; the last was {self._name(source, row)}"
        )

    def take_left_out(self) -> dict[str, str]:
        """The pictures that could not be read since this was last asked, by their places, each with the reason."""
        return self._left_out.take()

    def describe(self, number: int) -> str:
        """What sample n was drawn from first, for messages."""
        return self._name(*self._draw(np.random.default_rng([self._config.seed, number])))

    def _draw(self, rng: np.random.Generator) -> tuple[Source, int]:
        source = self._sources[int(rng.choice(len(self._sources), p=self._shares))]
        return source, 0 if source.procedural else int(rng.integers(len(source)))

    @staticmethod
    def _name(source: Source, row: int) -> str:
        if source.procedural or source.index is None:
            return source.name
        return str(source.index["uris"][row].as_py()[0])

    def _attempt(
        self, source: Source, row: int, rng: np.random.Generator, number: int
    ) -> tuple[TrainBatch | None, UnreadableError | None]:
        """A sample of what was drawn, or none where nothing of it can be used, and why where it cannot be read."""
        if source.procedural:
            return self._scene(source, rng, number), None
        made, failure = None, None
        try:
            made = self._photograph(source, row, rng, number)
        except UnreadableError as error:
            failure = error
        self._left_out.note(source.name, failure)
        return made, failure

    def _scene(self, source: Source, rng: np.random.Generator, number: int) -> TrainBatch | None:
        bank = number // self._config.images % BANKS_KEPT  # one for all scenes of a step, in turn, and none made twice
        made = scene_sample(self._config, rng, number=number, bank_seed=bank, cutouts=self._cutouts.get(source.name))
        return made if len(made.masks) or self._config.aim == "distill" else None

    def _photograph(self, source: Source, row: int, rng: np.random.Generator, number: int) -> TrainBatch | None:
        assert source.index is not None
        entry = source.index.slice(row, 1).to_pylist()[0]
        image = self._reader.picture(entry)
        if self._config.aim == "distill":
            return _bare_batch(image, self._config, rng, number)
        texts = None if entry["vectors"] is None else [_vectors(draws) for draws in entry["vectors"]]
        return photo_batch(image, self._reader.masks(entry, image), self._config, rng, number, texts=texts)


def photographs(source: Source, tell: Tell) -> Iterator[Photograph]:
    """Every image of a source, uint8 [H, W, 3], with all its masks, in order; what cannot be read is told and left
    out. Raises OSError where its store fails."""
    if source.procedural or source.index is None:
        raise ValueError(f"{source.name}: procedural scenes have no end; validate on images")
    reader = PhotoReader(UriReader())
    for row in range(len(source)):
        entry = source.index.slice(row, 1).to_pylist()[0]
        try:
            image = reader.picture(entry)
            masks = reader.packed(entry, image)
        except UnreadableError as error:
            tell(error)
            continue
        if len(masks):
            yield image, masks


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
    return np.asarray(sizes / sizes.sum())


def _bare_batch(image: NDArray[np.uint8], config: TrainConfig, rng: np.random.Generator, number: int) -> TrainBatch:
    """An image without masks."""
    side = config.image_size
    framing = draw_framing(image.shape[0], image.shape[1], config, rng)
    return TrainBatch(
        images=torch.from_numpy(frame_image(image, framing, side))[None],
        sizes=torch.tensor([framing.size]),
        masks=torch.zeros(0, side, side, dtype=torch.bool),
        image_of=torch.zeros(0, dtype=torch.int64),
        numbers=torch.tensor([number]),
    )


def _vectors(draws: list[bytes]) -> NDArray[np.float16]:
    """Embeddings [D, W] of a mask's crops, as the table has them."""
    return np.stack([np.frombuffer(vector, "<f2") for vector in draws])
