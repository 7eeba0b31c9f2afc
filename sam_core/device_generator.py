"""Automatic masks of many images on one device: crops of several images in a batch, as little as possible on the host.

    images -> crops, resized by threads -> encode a batch of crops -> groups of prompts over its crops
           -> predicted IoU -> draw -> stability, crop border, area -> NMS in the crop -> RLE -> the rest by threads

The masks, their order and every rejection are those of `MaskGenerator`; `device_batch` works on one batch, and
`device_pipeline` on several at a time.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import chain, islice
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from sam_core.ahead import ahead
from sam_core.device_batch import Answer, BatchWorker, CropInput
from sam_core.device_copies import for_device
from sam_core.device_pipeline import DevicePipeline
from sam_core.device_settings import DeviceSettings, batch_sizes
from sam_core.geometry import check_image, frame_of, points_to_input, resized_crop
from sam_core.masks.assemble import assemble
from sam_core.masks.batch import Generation
from sam_core.masks.candidates import Ledger
from sam_core.masks.crops import Crop, crop_plan
from sam_core.model.sam import Sam
from sam_core.recipes import Recipe

Item = TypeVar("Item")


class DeviceGenerator:
    """Generates the masks of images, several at a time; keeps nothing between calls but the sizes of its batches.

    sam       the model, on the device where it is to run; with bfloat16 its matrices are rounded to that
    recipe    what is asked of the model and which of its masks are kept
    settings  see DeviceSettings; `auto` is resolved for the device of the model
    threads   of the host, that prepare crops and finish images
    """

    def __init__(
        self, sam: Sam, recipe: Recipe, settings: DeviceSettings | None = None, *, threads: int | None = None
    ) -> None:
        self.settings = (settings or DeviceSettings()).resolve(sam.device.type)
        self.recipe = recipe
        self.sizes = batch_sizes(sam.config, self.settings, parameters=sum(p.numel() for p in sam.parameters()))
        self._image_size, self._device = sam.config.image_size, sam.device
        self._worker = BatchWorker(sam, recipe, self.settings)
        self._threads = threads or torch.get_num_threads()

    @property
    def images_at_once(self) -> int:
        """Images of one window each that are in work together, for one batch is encoded while another is decoded, and
        one more: a good number to have loaded ahead."""
        return 2 * self.sizes.crops + 1

    def generate(self, image: NDArray[np.uint8]) -> Generation:
        """All masks of a uint8 RGB image [H, W, 3], the best first. Raises ValueError for any other array."""
        return next(self.generate_many([image]))

    def generate_many(self, images: Iterable[NDArray[np.uint8]]) -> Iterator[Generation]:
        """The masks of each image, in order. Raises what went wrong with an image when it is its turn."""
        for result in self.attempt_many(images):
            if isinstance(result, Exception):
                raise result
            yield result

    def attempt_many(self, images: Iterable[NDArray[np.uint8]]) -> Iterator[Generation | Exception]:
        """The masks of each image, in order, or why there are none: no image costs another its masks.

        When a batch fails, its images are worked on again, each by itself. Images are taken from the iterable as they
        are needed, some ahead of the results.
        """
        yield from self._attempted(images, DevicePipeline(self._worker, self.sizes))

    def _attempted(
        self, images: Iterable[NDArray[np.uint8]], pipeline: DevicePipeline
    ) -> Iterator[Generation | Exception]:
        """As `attempt_many`."""
        with ThreadPoolExecutor(self._threads, thread_name_prefix="host") as pool:
            begun: deque[_ImageWork] = deque()
            prepared = ahead(pool, self._prepare, self._crops(images, begun), window=2 * self.sizes.crops)
            for batch in _batches(prepared, lambda: pipeline.sizes.crops):
                _work(batch, pipeline)
                self.sizes = pipeline.sizes
                _finish(begun, pool)
                yield from self._results(begun, pipeline, wait=len(begun) > 4 * self.sizes.crops)
            pipeline.drain()
            self.sizes = pipeline.sizes
            _finish(begun, pool)
            yield from self._results(begun, pipeline, wait=True)

    def _crops(self, images: Iterable[NDArray[np.uint8]], begun: deque[_ImageWork]) -> Iterator[_CropTask]:
        for image in images:
            work = _ImageWork(image, self.recipe)
            begun.append(work)
            for number, crop in enumerate(work.crops):
                yield _CropTask(work, number, crop)

    def _prepare(self, task: _CropTask) -> _PreparedCrop:
        """The pixels of a crop as the model takes them, in memory from which they can be copied."""
        image = task.work.image
        try:
            frame = frame_of((image.shape[0], image.shape[1]), image_size=self._image_size, crop_box=task.crop.box)
            clicks = points_to_input(torch.from_numpy(task.crop.points), frame).numpy()
            pixels = for_device(resized_crop(image, frame), self._device)
            return _PreparedCrop(task, CropInput(frame, task.crop.points, clicks, pixels))
        except Exception as error:
            task.work.error, task.work.alone = error, True
            return _PreparedCrop(task, None)

    def _results(
        self, begun: deque[_ImageWork], pipeline: DevicePipeline, *, wait: bool
    ) -> Iterator[Generation | Exception]:
        """The results of the images at the head of the queue that are finished, or, with `wait`, about to be."""
        while begun and begun[0].future is not None and (wait or begun[0].future.done()):
            work = begun.popleft()
            try:
                assert work.future is not None
                yield work.future.result()
            except Exception as error:
                yield error if work.alone else self._alone(work.image, pipeline)

    def _alone(self, image: NDArray[np.uint8], pipeline: DevicePipeline) -> Generation | Exception:
        """The result of an image whose batch failed, once the device does nothing else."""
        pipeline.drain()
        return next(self._attempted([image], pipeline))


class _ImageWork:
    """One image on its way: the candidates of its crops as far as they are known, or its error."""

    def __init__(self, image: NDArray[np.uint8], recipe: Recipe) -> None:
        self.image = image
        self.recipe = recipe
        self.error: Exception | None = None
        self.alone = False  # whether no other image can have caused the error
        self.future: Future[Generation] | None = None
        self._parts: dict[int, Answer] = {}
        self.crops: tuple[Crop, ...] = ()
        try:
            check_image(image)
            self.crops = crop_plan((image.shape[0], image.shape[1]), recipe)
        except ValueError as error:
            self.error, self.alone = error, True

    def add(self, number: int, answer: Answer) -> None:
        self._parts[number] = answer

    @property
    def complete(self) -> bool:
        return self.error is not None or len(self._parts) == len(self.crops)

    def finish(self) -> Generation:
        """NMS across crops and what else the host does. Raises the image's error if it has one."""
        if self.error is not None:
            raise self.error
        ledger = Ledger()
        parts = [self._parts[number] for number in range(len(self.crops))]
        for part in parts:
            ledger.add(part.ledger)
        with ledger.timed("rle"):
            encoded = [part.encoded() for part in parts]
        return assemble(encoded, (self.image.shape[0], self.image.shape[1]), self.recipe, ledger)


class _CropTask(NamedTuple):
    """A crop of an image that was begun."""

    work: _ImageWork
    number: int
    crop: Crop


class _PreparedCrop(NamedTuple):
    """A crop with its pixels at the size of the model; without, if its image has an error."""

    task: _CropTask
    input: CropInput | None


def _work(batch: list[_PreparedCrop], pipeline: DevicePipeline) -> None:
    """Adds a batch to the pipeline, whose answers become candidates of its images, or their error."""
    sound = [(each.task, each.input) for each in batch if each.input and each.task.work.error is None]

    def done(answers: list[Answer] | Exception) -> None:
        if isinstance(answers, Exception):  # of one of the images: which, shows when each is repeated by itself
            for task, _ in sound:
                task.work.error = answers
                task.work.alone = all(other.work is task.work for other, _ in sound)
            return
        for (task, _), answer in zip(sound, answers, strict=True):
            task.work.add(task.number, answer)

    if sound:
        pipeline.add([prepared for _, prepared in sound], done)


def _finish(begun: deque[_ImageWork], pool: ThreadPoolExecutor) -> None:
    """Hand images whose crops are all done to the threads."""
    for work in begun:
        if work.complete and work.future is None:
            work.future = pool.submit(work.finish)


def _batches(items: Iterable[Item], size: Callable[[], int]) -> Iterator[list[Item]]:
    """Lists of as many items as `size` says when each is begun; the last may be shorter."""
    rest = iter(items)
    for first in rest:
        yield list(chain([first], islice(rest, size() - 1)))
