"""Automatic masks of a whole image: prompt a grid of points in every crop, keep what the recipe trusts.

    crop plan -> encode crop -> ask points -> predicted IoU -> draw -> stability, crop border, area -> NMS in the crop
              -> RLE -> NMS across crops -> small parts and holes -> NMS again

Every candidate ends as a mask or as a rejection with its reason. Steps and their order are those of the released
`automatic_mask_generator.py`, but that nothing is drawn or encoded before it must be; each step is a pure function.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain, islice

import numpy as np
import torch
from numpy.typing import NDArray

from sam_core.ahead import begun, early
from sam_core.geometry import Frame, check_image
from sam_core.lanes import keep_freed_memory, open_lanes
from sam_core.masks import kernels, plain
from sam_core.masks.assemble import assemble
from sam_core.masks.batch import Generation, Reason
from sam_core.masks.candidates import KEPT, Candidates, Ledger, Measures, concatenate, decoded
from sam_core.masks.crops import Crop, crop_plan
from sam_core.masks.nms import nms
from sam_core.masks.select import judge_measures, judge_predicted_iou
from sam_core.model.cpu_encoder import cpu_encoder
from sam_core.model.sam import Sam
from sam_core.predict import encode
from sam_core.prompting import AbsorbedPrompter, PlainPrompter, Points, Prompter
from sam_core.recipes import Recipe

PLAIN_BATCH = 64
"""Prompts decoded at a time by the released code."""
CPU_BATCH = 86
"""The same on a CPU at most: twelve even batches of a grid of 32 x 32, some for each of many lanes."""
IMAGE_BYTES = 25 << 20
"""What the images of a batch of prompts may occupy on a CPU, in each lane. Memory in blocks near 32 MB is given back to
the system by glibc, whatever `lanes.keep_freed_memory` says, and cleared before it is used again."""


@dataclass(frozen=True, slots=True)
class _ImageWork:
    """An image [H, W, 3] and where it is looked at."""

    image: NDArray[np.uint8]
    crops: Sequence[Crop]


@dataclass(frozen=True, slots=True)
class _EncodedCrop:
    """A crop that can be prompted, and the account of encoding it."""

    plan: Crop
    prompter: Prompter
    frame: Frame
    ledger: Ledger


@dataclass(frozen=True, slots=True)
class _AskedCrop:
    """A crop whose prompts are under way; none are if it could not be encoded."""

    encoded: Future[_EncodedCrop]
    answers: Sequence[Future[tuple[Candidates, Ledger]]]


class MaskGenerator:
    """Generates the masks of one image after another; keeps nothing between images but what padding becomes.

    sam               the model, on the device where it is to run
    recipe            what is asked of the model and which of its masks are kept
    exact_reference   run the plain path, step by step as the released code, instead of the fast one
    points_per_batch  prompts decoded at a time, a matter of memory and speed; chosen for the device if not given
    threads           cores to use on a CPU; as many as torch uses if not given. The masks do not depend on it.
    dtype             bfloat16 runs the model under autocast, float32 as it is
    """

    def __init__(
        self,
        sam: Sam,
        recipe: Recipe,
        *,
        exact_reference: bool = False,
        points_per_batch: int | None = None,
        threads: int | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        if not isinstance(sam, torch.nn.Module) or not isinstance(recipe, Recipe):
            raise ValueError(
                "a generator takes a model and a recipe, such as load_model(NAME).sam and draft(), not "
                f"{type(sam).__name__} and {type(recipe).__name__}"
            )
        for name, value in (("points_per_batch", points_per_batch), ("threads", threads)):
            if value is not None and value < 1:
                raise ValueError(f"{name} is {value}; it must be at least 1")
        fast_on_cpu = not exact_reference and sam.device.type == "cpu"
        if fast_on_cpu:
            keep_freed_memory()
        self.sam = sam
        self.recipe = recipe
        self.points_per_batch = points_per_batch or (_batch_on_cpu(sam) if fast_on_cpu else PLAIN_BATCH)
        self._encoder = cpu_encoder(sam) if fast_on_cpu else sam.image_encoder
        self._prompter: Callable[..., Prompter] = PlainPrompter if exact_reference else AbsorbedPrompter
        self._measure: Callable[..., Measures] = kernels.measure if fast_on_cpu else plain.measure
        self._threads = threads or torch.get_num_threads()
        self._dtype = dtype

    @property
    def images_at_once(self) -> int:
        """One, though the next one is begun meanwhile."""
        return 1

    def generate(self, image: NDArray[np.uint8]) -> Generation:
        """All masks of a uint8 RGB image [H, W, 3], the best first. Raises ValueError for any other array."""
        check_image(image)
        [result] = self.attempt_many([image])
        if isinstance(result, Exception):
            raise result
        return result

    def attempt_many(self, images: Iterable[NDArray[np.uint8]]) -> Iterator[Generation | Exception]:
        """The masks of each image, uint8 RGB [H, W, 3], in order, or why there are none: no image costs another its.

        While the masks of one crop are put together the next one is prompted and the one after it encoded, be they of
        other images: no lane waits.
        """
        with open_lanes(self.sam.device, self._threads) as lanes:
            coming = deque[_ImageWork]()
            encoded = begun(lanes, lambda each: self._encode(*each), self._crops(images, coming), window=2)
            asked = early((self._ask(crop, lanes) for crop in encoded), 1)
            for first in asked:
                work = coming.popleft()
                own = chain([first], islice(asked, len(work.crops) - 1))
                result = self._attempt(work, own)
                deque(own, maxlen=0)  # the other crops, after a failure
                yield result

    def _crops(
        self, images: Iterable[NDArray[np.uint8]], coming: deque[_ImageWork]
    ) -> Iterator[tuple[NDArray[np.uint8], Crop]]:
        """Every crop of every image; an image whose crops are about to follow is appended to `coming`."""
        for image in images:
            work = _ImageWork(image, _crops_of(image, self.recipe))
            coming.append(work)
            yield from ((image, crop) for crop in work.crops)

    def _attempt(self, work: _ImageWork, asked: Iterable[_AskedCrop]) -> Generation | Exception:
        """The masks of an image whose crops are asked, or why there are none."""
        ledger = Ledger()
        try:
            parts = [self._masks_of_crop(crop, ledger) for crop in asked]
            return assemble(parts, (work.image.shape[0], work.image.shape[1]), self.recipe, ledger)
        except Exception as error:
            return error

    def _encode(self, image: NDArray[np.uint8], crop: Crop) -> _EncodedCrop:
        ledger = Ledger()
        with self._precision(), ledger.timed("encode"):
            embedding = encode(self.sam, [image], crop_boxes=[crop.box], encoder=self._encoder)
            return _EncodedCrop(crop, self._prompter(self.sam, embedding), embedding.frames[0], ledger)

    def _ask(self, crop: Future[_EncodedCrop], lanes: Executor) -> _AskedCrop:
        """Begins the prompts of a crop as soon as it is encoded."""
        if crop.exception():
            return _AskedCrop(crop, ())
        encoded = crop.result()
        points, size = encoded.plan.points, self.points_per_batch
        batches = [points[start : start + size] for start in range(0, len(points), size)]
        return _AskedCrop(crop, [lanes.submit(self._masks_of_points, encoded, batch) for batch in batches])

    def _masks_of_crop(self, asked: _AskedCrop, ledger: Ledger) -> Candidates:
        """Candidates of one crop after NMS as run lengths, the most confident first."""
        ledger.add(asked.encoded.result().ledger)
        answers = [answer.result() for answer in asked.answers]
        for _, account in answers:
            ledger.add(account)
        candidates = concatenate([found for found, _ in answers])
        with ledger.timed("nms"):
            keep = nms(candidates.boxes, candidates.predicted_iou, threshold=self.recipe.nms_iou)
        candidates = ledger.survivors(candidates, keep, Reason.NMS_IN_CROP)
        with ledger.timed("rle"):
            return candidates.encoded()

    def _masks_of_points(self, encoded: _EncodedCrop, points: Points) -> tuple[Candidates, Ledger]:
        """Candidates of a batch of point prompts that pass every rule on a single mask, and the account of the rest."""
        frame, ledger = encoded.frame, Ledger()
        with self._precision(), ledger.timed("decode"):
            answer = encoded.prompter.ask(points)
            candidates = decoded(points, answer.iou, frame.crop_box)
            verdicts = judge_predicted_iou(candidates, self.recipe)
            logits = answer.draw((verdicts == KEPT).reshape(answer.iou.shape)).float()
        with torch.inference_mode(), ledger.timed("select"):
            measures = self._measure(logits, frame, offset=self.recipe.stability_offset)
            candidates = ledger.settle(candidates, verdicts).measured(measures)
            candidates = ledger.settle(candidates, judge_measures(candidates, frame, self.recipe))
        return candidates, ledger

    @contextmanager
    def _precision(self) -> Iterator[None]:
        """The arithmetic of the model; torch wants it set in every thread."""
        autocast = torch.autocast(self.sam.device.type, self._dtype, enabled=self._dtype != torch.float32)
        with torch.inference_mode(), autocast:
            yield


def _crops_of(image: NDArray[np.uint8], recipe: Recipe) -> Sequence[Crop]:
    """The crop plan of an image; of what is no image one crop, whose encoding says what it is instead."""
    try:
        check_image(image)
    except ValueError:
        return crop_plan((1, 1), recipe)[:1]
    return crop_plan((image.shape[0], image.shape[1]), recipe)


def _batch_on_cpu(sam: Sam) -> int:
    """As many prompts as share what weights and calls cost, and no more than there is memory for."""
    positions, channels = sam.config.image_encoder.grid**2, sam.config.mask_decoder.transformer_dim
    return max(1, min(CPU_BATCH, IMAGE_BYTES // (4 * positions * channels)))
