"""Many images on a device against the generator that takes one at a time: the same masks, rejections and order."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from sam_core import device_pipeline
from sam_core.device_batch import BatchWorker, CropInput
from sam_core.device_generator import DeviceGenerator
from sam_core.device_settings import BatchSizes, DeviceSettings
from sam_core.generator import MaskGenerator
from sam_core.masks.batch import Generation
from sam_core.model.checkpoint import load_model
from sam_core.model.sam import Sam
from sam_core.recipes import Recipe, SmallMaskRule

FLOAT = DeviceSettings(dtype="float32")
ONE_WINDOW = Recipe(points_per_side=7, min_predicted_iou=0.2, min_stability_score=0.5)
WINDOWS = replace(
    ONE_WINDOW,
    points_per_side=6,
    stability_offset=0.9,  # at 1.0 a pixel of a mask lies on the threshold within the rounding of logits
    crop_layers=1,
    crop_points_downscale=2,
    min_region_area=60,
    small_masks=SmallMaskRule.DROP,
    full_image_fraction=0.95,
)


@pytest.fixture(scope="module")
def sam() -> Sam:
    """The model in the box: real masks, and fine features that each crop has of its own."""
    return load_model("vit_n").sam


@pytest.fixture(scope="module")
def images() -> list[np.ndarray]:
    from skimage.data import chelsea, coffee

    return [chelsea()[40:220, 80:320], coffee()[:200, :300], chelsea()[:90]]


def rejected(generation: Generation) -> list[tuple[float, ...]]:
    """Rejections in an order of their own: batches are others, and so is the order of what they reject."""
    gone = generation.rejections
    rows = [gone.crop_boxes, gone.points, gone.output[:, None], gone.reason[:, None]]
    return sorted(map(tuple, np.concatenate(rows, axis=1).tolist()))


def assert_same(ours: Generation, theirs: Generation) -> None:
    assert ours.masks.rle == theirs.masks.rle
    assert ours.masks.boxes.tolist() == theirs.masks.boxes.tolist()
    assert ours.masks.areas.tolist() == theirs.masks.areas.tolist()
    assert ours.masks.points.tolist() == theirs.masks.points.tolist()
    assert ours.masks.crop_boxes.tolist() == theirs.masks.crop_boxes.tolist()
    assert np.allclose(ours.masks.predicted_iou, theirs.masks.predicted_iou, rtol=0, atol=1e-5)
    # A ratio of numbers of pixels: products are summed in another order, and a pixel at a threshold may fall beside it.
    apart = np.abs(ours.masks.stability_score - theirs.masks.stability_score)
    assert (apart > 1e-6).sum() <= 1
    assert (apart <= 1.5 / ours.masks.areas).all()
    assert rejected(ours) == rejected(theirs)
    assert ours.candidates == theirs.candidates


@pytest.mark.parametrize("recipe", [ONE_WINDOW, WINDOWS], ids=["one window", "windows"])
def test_keeps_the_masks_of_the_other_generator(sam: Sam, images: list[np.ndarray], recipe: Recipe) -> None:
    device = DeviceGenerator(sam, recipe, FLOAT, threads=2)
    device.sizes = BatchSizes(crops=4, prompts=40)  # batches that mix crops and images, and a last one that is not full
    found = list(device.generate_many(iter(images)))
    for ours, image in zip(found, images, strict=True):
        assert_same(ours, MaskGenerator(sam, recipe).generate(image))
    assert sum(len(each.masks) for each in found) >= 6


def test_kernels_keep_the_masks_of_the_other_generator(tiny_checkpoint: Path) -> None:
    """The decoder's work on images in Triton, from a batch of prompts to masks; in the interpreter if need be."""
    pytest.importorskip("triton")
    sam = load_model(tiny_checkpoint).sam
    sam = sam.cuda() if torch.cuda.is_available() else sam
    image = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)
    asked = Recipe(points_per_side=3, min_predicted_iou=0.0, min_stability_score=0.0, nms_iou=1.0)
    device = DeviceGenerator(sam, asked, DeviceSettings(dtype="float32", decoder="triton"))
    found = device.generate(image)
    assert_same(found, MaskGenerator(sam, asked).generate(image))
    assert len(found.masks) > 3


def test_batch_sizes_change_nothing(sam: Sam, images: list[np.ndarray]) -> None:
    device = DeviceGenerator(sam, WINDOWS, FLOAT)
    first = device.generate(images[0])
    device.sizes = BatchSizes(crops=1, prompts=16)
    assert_same(device.generate(images[0]), first)


def test_bfloat16_finds_much_the_same(images: list[np.ndarray]) -> None:
    sam = load_model("vit_n").sam
    reference = MaskGenerator(sam, ONE_WINDOW).generate(images[0])
    ours = DeviceGenerator(sam, ONE_WINDOW, DeviceSettings(dtype="bfloat16")).generate(images[0])
    assert sam.mask_decoder.transformer.layers[0].mlp.lin1.weight.dtype == torch.bfloat16
    assert abs(len(ours.masks) - len(reference.masks)) <= 2
    assert ours.candidates == reference.candidates


def test_a_bad_image_costs_no_other(sam: Sam, images: list[np.ndarray]) -> None:
    grey = np.zeros((4, 4), np.uint8)
    results = list(DeviceGenerator(sam, ONE_WINDOW, FLOAT).attempt_many([images[0], grey, images[1]]))
    assert isinstance(results[1], ValueError)
    assert [isinstance(each, Generation) for each in results] == [True, False, True]
    with pytest.raises(ValueError, match="expected a uint8 RGB image"):
        list(DeviceGenerator(sam, ONE_WINDOW, FLOAT).generate_many([grey]))


def test_when_a_batch_fails_its_images_are_repeated_one_by_one(
    sam: Sam, images: list[np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    encoded, poison = BatchWorker._encoded, images[1].shape[:2]

    def fails(self: BatchWorker, batch: list[CropInput], sizes: BatchSizes) -> object:
        if any(crop.frame.original_size == poison for crop in batch):
            raise RuntimeError("device-side assert")
        return encoded(self, batch, sizes)

    expected = DeviceGenerator(sam, ONE_WINDOW, FLOAT).generate(images[0])
    monkeypatch.setattr(BatchWorker, "_encoded", fails)
    results = list(DeviceGenerator(sam, ONE_WINDOW, FLOAT).attempt_many(images))
    assert isinstance(results[1], RuntimeError)
    assert isinstance(results[0], Generation)
    assert isinstance(results[2], Generation)
    assert_same(results[0], expected)


def test_out_of_memory_halves_the_batch_and_says_so(
    sam: Sam, images: list[np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    device = DeviceGenerator(sam, ONE_WINDOW, FLOAT)
    expected = list(device.generate_many(images))
    encode = device._worker._encode

    def small_memory(pixels: Tensor, sizes: Tensor) -> object:
        if len(pixels) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return encode(pixels, sizes)

    monkeypatch.setattr(device._worker, "_encode", small_memory)
    said: list[str] = []
    monkeypatch.setattr(device_pipeline._log, "warning", lambda words, *values: said.append(words % values))
    device.sizes = BatchSizes(crops=3, prompts=64)
    for ours, theirs in zip(device.generate_many(images), expected, strict=True):
        assert_same(ours, theirs)
    assert device.sizes == BatchSizes(crops=1, prompts=32)
    assert said == ["out of memory on the device: going on with batches of 1 crops and 32 prompts"]


def test_out_of_memory_at_the_smallest_batch_is_the_images_error(
    sam: Sam, images: list[np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    device = DeviceGenerator(sam, ONE_WINDOW, FLOAT)

    def no_memory(*_: object) -> object:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(device._worker, "_encode", no_memory)
    assert all(isinstance(each, torch.OutOfMemoryError) for each in device.attempt_many(images[:2]))


def test_images_are_taken_as_they_are_needed(sam: Sam, images: list[np.ndarray]) -> None:
    taken = 0

    def endless() -> Iterator[np.ndarray]:
        nonlocal taken
        while True:
            taken += 1
            yield images[2]

    device = DeviceGenerator(sam, replace(ONE_WINDOW, points_per_side=2), FLOAT)
    device.sizes = BatchSizes(crops=2, prompts=16)
    results = device.generate_many(endless())
    for _ in range(6):
        next(results)
    assert taken <= 6 + 2 * 2 + 2 + 4 * 2
    results.close()


def test_nothing_survives(sam: Sam, images: list[np.ndarray]) -> None:
    for recipe in (ONE_WINDOW, WINDOWS):
        strict = replace(recipe, min_predicted_iou=1.0)
        generation = DeviceGenerator(sam, strict, FLOAT).generate(images[0])
        assert len(generation.masks) == 0
        assert generation.candidates == len(generation.rejections) > 0


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("recipe", [ONE_WINDOW, WINDOWS], ids=["one window", "windows"])
def test_on_a_gpu(images: list[np.ndarray], recipe: Recipe) -> None:
    """Kernels, streams and compiled forms together: in float32 the masks of the CPU but for some near a threshold."""
    expected = [MaskGenerator(load_model("vit_n").sam, recipe).generate(image) for image in images]
    device = DeviceGenerator(load_model("vit_n", device="cuda").sam, recipe, FLOAT, threads=2)
    device.sizes = BatchSizes(crops=2, prompts=64)
    found = list(device.generate_many(images * 3))
    for ours, theirs in zip(found, expected * 3, strict=True):
        assert ours.candidates == theirs.candidates
        assert len(set(ours.masks.rle) & set(theirs.masks.rle)) >= 0.9 * len(theirs.masks)
