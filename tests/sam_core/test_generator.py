"""The generator beside the released one on a photograph, and on images with nothing in them.

Random weights draw much the same mask for every click. Where many different masks are needed, `clicked_regions` takes
the decoder's place in both generators: masks around the click whose outlines follow the image embedding.
"""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools import mask as coco
from skimage.data import chelsea
from torch import Tensor

from sam_core import generator, prompting
from sam_core.generator import MaskGenerator
from sam_core.geometry import points_to_input
from sam_core.masks.batch import Generation, MaskBatch, Reason
from sam_core.model.checkpoint import load_model
from sam_core.model.image_encoder import ImageFeatures
from sam_core.model.sam import Sam
from sam_core.predict import ImageEmbedding, Prompts, encode
from sam_core.presets import at_image_size, vit_test
from sam_core.recipes import Recipe, edges, reference, sa1b
from tests.released import released_generator, released_sam
from tests.sam_core.test_generator_rules import FEW_POINTS, SIDE, reasons


@pytest.fixture(scope="module")
def released() -> Any:
    """Random weights with predicted IoUs spread around the threshold of the recipes."""
    sam = released_sam(at_image_size(vit_test(), SIDE), seed=0)
    scores = sam.mask_decoder.iou_prediction_head.layers[-1]
    scores.weight.data *= 0.05
    scores.bias.data.fill_(0.88)
    return sam


@pytest.fixture(scope="module")
def sam(released: Any) -> Sam:
    ours = Sam(at_image_size(vit_test(), SIDE)).eval()
    ours.load_state_dict(released.state_dict(), strict=False)
    return ours


@pytest.fixture(scope="module")
def photograph() -> np.ndarray:
    return chelsea()[40:220, 80:320]


# The released generator


def clicked_regions(points: Tensor, embedding: Tensor) -> tuple[Tensor, Tensor]:
    """Logits [N, 3, 64, 64] of regions around clicks [N, 1, 2] (xy, model input), some with a speck, and scores [N, 3].

    Size, outline and sharpness vary with the embedding [1, C, h, w], so crops show other masks than the whole image.
    """
    texture = torch.nn.functional.interpolate(embedding[:, :3], (64, 64), mode="bilinear").sin()
    x, y = points[:, 0, :, None, None, None].float().unbind(1)
    wave = torch.sin(x / 23 + torch.arange(3)[:, None, None]) * torch.cos(y / 31)
    region = torch.tensor([18.0, 35.0, 60.0])[:, None, None] * (1 + 0.3 * texture) - distance_to(x, y)
    speck = 5.0 * (wave > 0) - distance_to(x + 75, y)
    sharpness = 2.5 + 2 * torch.sin(x / 17 + y / 11)
    return sharpness * torch.maximum(region, speck), (0.88 + 0.1 * wave)[..., 0, 0]


def distance_to(x: Tensor, y: Tensor) -> Tensor:
    """Distance (px of the model input) of each low-resolution pixel to points whose x and y are [N, 1, 1, 1]."""
    centre = (torch.arange(64) + 0.5) * SIDE / 64
    return torch.hypot(centre - x, centre[:, None] - y)


@pytest.fixture
def regions_around_clicks(monkeypatch: pytest.MonkeyPatch, sam: Sam, released: Any) -> None:
    """Both generators decode with `clicked_regions`, from bit-identical embeddings; everything else is theirs."""
    from segment_anything import SamPredictor

    def predict_torch(predictor: Any, points: Tensor, labels: Tensor, **_: Any) -> tuple[Tensor, Tensor, Tensor]:
        logits, iou = clicked_regions(points, predictor.features)
        full = predictor.model.postprocess_masks(logits, predictor.input_size, predictor.original_size)
        return full, iou, logits

    def decode(sam: Sam, embedding: ImageEmbedding, prompts: Prompts, *, multimask: bool) -> MaskBatch:
        assert prompts.points is not None
        (frame,) = embedding.frames
        return MaskBatch(*clicked_regions(points_to_input(prompts.points, frame), embedding.features.embedding), frame)

    monkeypatch.setattr(sam.image_encoder, "forward", lambda inputs: ImageFeatures(released.image_encoder(inputs)))
    monkeypatch.setattr(SamPredictor, "predict_torch", predict_torch)
    monkeypatch.setattr(prompting, "decode", decode)


def assert_same_masks(ours: Generation, theirs: list[dict[str, Any]]) -> None:
    """The same masks in the same order; released boxes count from first to last pixel."""
    masks = ours.masks
    assert [packed.decode() for packed in masks.rle] == [mask["segmentation"]["counts"] for mask in theirs]
    assert (masks.boxes - [0, 0, 1, 1]).tolist() == [mask["bbox"] for mask in theirs]
    assert masks.areas.tolist() == [mask["area"] for mask in theirs]
    assert np.allclose(masks.predicted_iou, [mask["predicted_iou"] for mask in theirs], rtol=0, atol=1e-6)
    assert masks.stability_score.tolist() == [mask["stability_score"] for mask in theirs]
    assert np.allclose(masks.points, [mask["point_coords"][0] for mask in theirs], rtol=0, atol=1e-4)
    assert masks.crop_boxes.tolist() == [mask["crop_box"] for mask in theirs]


@pytest.mark.usefixtures("regions_around_clicks")
def test_reference_recipe_keeps_the_masks_of_the_released_generator(
    sam: Sam, released: Any, photograph: np.ndarray
) -> None:
    ours = MaskGenerator(sam, reference(), exact_reference=True).generate(photograph)
    assert_same_masks(ours, released_generator(released, reference()).generate(photograph))
    assert len(ours.masks) >= 24
    assert ours.candidates == 3 * 1024
    assert all(reasons(ours)[reason] >= 24 for reason in ("stability", "nms_in_crop"))


@pytest.mark.usefixtures("regions_around_clicks")
def test_crops_and_cleaning_keep_the_masks_of_the_released_generator(
    sam: Sam, released: Any, photograph: np.ndarray
) -> None:
    recipe = Recipe(points_per_side=16, crop_layers=1, crop_points_downscale=2, min_region_area=100)
    ours = MaskGenerator(sam, recipe, exact_reference=True).generate(photograph)
    assert_same_masks(ours, released_generator(released, recipe).generate(photograph))
    assert len(ours.masks) >= 24
    assert ours.candidates == 3 * (256 + 4 * 64)
    assert set(reasons(ours)) == {"stability", "box_at_crop_edge", "nms_in_crop", "nms_across_crops", "small_region"}


@pytest.mark.parametrize("exact_reference", [True, False], ids=["plain", "fast"])
def test_random_weights_keep_the_masks_of_the_released_generator(
    sam: Sam, released: Any, photograph: np.ndarray, exact_reference: bool
) -> None:
    """Model and generator together, at thresholds where the scores of these weights lie.

    Boxes of random masks span the image, so NMS is off; logits agree to 1e-5, so a pixel near zero may differ.
    """
    everything = replace(edges(), points_per_side=8, stability_offset=0.01, nms_iou=1.0)
    scores = MaskGenerator(sam, everything).generate(photograph).masks
    recipe = replace(
        everything,
        min_predicted_iou=in_a_gap(scores.predicted_iou, 0.3),
        min_stability_score=in_a_gap(scores.stability_score, 0.5),
    )
    ours = MaskGenerator(sam, recipe, exact_reference=exact_reference).generate(photograph)
    theirs = released_generator(released, recipe).generate(photograph)
    assert len(ours.masks) == len(theirs) >= 12
    assert np.allclose(ours.masks.points, [mask["point_coords"][0] for mask in theirs], rtol=0, atol=1e-4)
    assert np.allclose(ours.masks.predicted_iou, [mask["predicted_iou"] for mask in theirs], rtol=0, atol=1e-4)
    for packed, mask in zip(ours.masks.rle, theirs, strict=True):
        assert coco.iou([{"size": [180, 240], "counts": packed}], [mask["segmentation"]], [0])[0, 0] > 0.999
    assert ours.rejections.counts()[Reason.IOU] >= 12
    assert reasons(ours)["stability"] >= 12


def in_a_gap(scores: np.ndarray, share: float) -> float:
    """About the quantile of scores, in the middle of the widest gap around it: one pixel moves a stability by 2e-4."""
    around = np.sort(scores)[int(share * len(scores)) - 8 :][:16]
    widest = int(np.diff(around).argmax())
    return float(around[widest : widest + 2].mean())


# Properties


@pytest.mark.usefixtures("regions_around_clicks")
def test_batch_size_changes_nothing(sam: Sam, photograph: np.ndarray) -> None:
    recipe = replace(reference(), points_per_side=12)
    one, other = (
        MaskGenerator(sam, recipe, exact_reference=True, points_per_batch=n).generate(photograph) for n in (144, 7)
    )
    assert one.masks.rle == other.masks.rle
    assert one.rejections.counts() == other.rejections.counts()


def test_the_fast_path_keeps_the_masks_of_the_plain_one(sam: Sam, photograph: np.ndarray) -> None:
    """With crops and several threads; the thresholds lie where the scores of random weights do."""
    recipe = replace(
        edges(), points_per_side=8, crop_layers=1, crop_edge_tolerance=0, stability_offset=0.01, nms_iou=1.0
    )
    recipe = replace(recipe, min_predicted_iou=0.88, min_stability_score=0.5, crop_nms_iou=1.0)
    plain = MaskGenerator(sam, recipe, exact_reference=True).generate(photograph)
    fast = MaskGenerator(sam, recipe, points_per_batch=5, threads=2).generate(photograph)
    assert len(plain.masks) == len(fast.masks) > 10
    assert plain.rejections.counts() == fast.rejections.counts()
    assert np.array_equal(plain.masks.points, fast.masks.points)
    for ours, reference_rle in zip(fast.masks.rle, plain.masks.rle, strict=True):
        size = list(fast.masks.size)
        pair = [{"size": size, "counts": ours}], [{"size": size, "counts": reference_rle}]
        assert coco.iou(*pair, [0])[0, 0] >= 0.999


@pytest.mark.usefixtures("regions_around_clicks")
def test_steps_are_timed(sam: Sam, photograph: np.ndarray) -> None:
    recipe = replace(FEW_POINTS, min_region_area=10)
    seconds = MaskGenerator(sam, recipe, exact_reference=True).generate(photograph).seconds
    assert min(seconds.encode, seconds.decode, seconds.select, seconds.nms, seconds.regions, seconds.rle) > 0


@pytest.mark.parametrize("recipe", [reference(), edges(), sa1b()], ids=["reference", "edges", "sa1b"])
@pytest.mark.parametrize("size", [(1, 1), (2, 900), (40, 30)])
def test_small_and_narrow_images(sam: Sam, recipe: Recipe, size: tuple[int, int]) -> None:
    recipe = replace(recipe, points_per_side=4, min_predicted_iou=recipe.min_predicted_iou / 2)
    generation = MaskGenerator(sam, recipe).generate(np.full((*size, 3), 128, np.uint8))
    height, width = size
    boxes = generation.masks.boxes
    assert (boxes[:, :2] >= 0).all()
    assert (boxes[:, 2:] >= 1).all()
    assert (boxes[:, :2] + boxes[:, 2:] <= (width, height)).all()
    assert generation.masks.size == size
    assert generation.candidates == len(generation.masks) + len(generation.rejections) >= 3 * 16


def test_nothing_survives(sam: Sam, photograph: np.ndarray) -> None:
    for recipe in (FEW_POINTS, replace(sa1b(), points_per_side=4)):
        generation = MaskGenerator(sam, replace(recipe, min_predicted_iou=1.0)).generate(photograph)
        assert len(generation.masks) == 0
        assert generation.candidates == len(generation.rejections)


@pytest.mark.parametrize(
    "image",
    [
        *(
            np.zeros((4, 4), np.uint8),
            np.zeros((4, 4, 4), np.uint8),
            np.zeros((4, 4, 3)),
            np.zeros((0, 4, 3), np.uint8),
        ),
        *(Image.new("RGB", (4, 4)), "photo.jpg", None),
    ],
    ids=["grey", "alpha", "float", "no rows", "pillow", "path", "nothing"],
)
def test_refuses_what_is_no_such_array(sam: Sam, image: Any) -> None:
    refusal = r"expected a uint8 RGB image \[height, width, 3\]"
    with pytest.raises(ValueError, match=refusal):
        MaskGenerator(sam, reference()).generate(image)
    with pytest.raises(ValueError, match=refusal):
        encode(sam, [image])


def test_refuses_one_image_where_a_list_is_asked_for(sam: Sam) -> None:
    with pytest.raises(ValueError, match=r"expected a uint8 RGB image \[height, width, 3\], got uint8 \[4, 3\]"):
        encode(sam, np.zeros((4, 4, 3), np.uint8))


def test_refuses_what_is_no_model_or_no_recipe(sam: Sam) -> None:
    """What comes of a `.sam` or of brackets that were forgotten."""
    for model, recipe in ((load_model("vit_n"), reference()), (sam, reference), (sam, "reference")):
        with pytest.raises(ValueError, match=r"load_model\(NAME\)\.sam and draft\(\), not (LoadedModel|Sam) and"):
            MaskGenerator(model, recipe)  # type: ignore[arg-type]


def test_refuses_empty_batches(sam: Sam) -> None:
    with pytest.raises(ValueError, match="points_per_batch is 0"):
        MaskGenerator(sam, reference(), points_per_batch=0)


# One image after another


@pytest.mark.parametrize("exact_reference", [False, True], ids=["fast", "plain"])
@pytest.mark.parametrize("recipe", [reference(), sa1b()], ids=["one window", "crops"])
def test_many_images_are_each_as_if_alone(
    sam: Sam, photograph: np.ndarray, recipe: Recipe, exact_reference: bool
) -> None:
    images = [photograph[:100], photograph[50:, :90], photograph[:, 100:]]
    generator = MaskGenerator(sam, replace(recipe, points_per_side=4), exact_reference=exact_reference, threads=2)
    for found, image in zip(generator.attempt_many(images), images, strict=True):
        assert isinstance(found, Generation)
        alone = generator.generate(image)
        assert found.masks.rle == alone.masks.rle
        assert found.masks.predicted_iou.tolist() == alone.masks.predicted_iou.tolist()
        assert found.candidates == alone.candidates


def test_an_image_that_fails_costs_no_other_its_masks(sam: Sam, photograph: np.ndarray) -> None:
    damaged = photograph[:100, :, :2]
    generator = MaskGenerator(sam, replace(sa1b(), points_per_side=4), threads=2)
    first, failed, last = generator.attempt_many([photograph, damaged, photograph])
    assert isinstance(first, Generation)
    assert isinstance(last, Generation)
    assert isinstance(failed, Exception)
    assert first.masks.rle == last.masks.rle


@pytest.mark.parametrize("other", [Image.new("RGB", (9, 9)), None, np.zeros((0, 9, 3), np.uint8)])
def test_what_is_no_image_costs_no_other_its_masks(sam: Sam, photograph: np.ndarray, other: Any) -> None:
    generator = MaskGenerator(sam, replace(sa1b(), points_per_side=4), threads=2)
    first, failed, last = generator.attempt_many([photograph[:60], other, photograph[:60]])
    assert isinstance(first, Generation)
    assert isinstance(last, Generation)
    assert isinstance(failed, ValueError)
    assert "expected a uint8 RGB image" in str(failed)


def test_two_images_are_begun_before_one_is_finished(sam: Sam, photograph: np.ndarray) -> None:
    taken: list[int] = []
    images = (taken.append(number) or photograph[:60, :60] for number in range(4))
    results = MaskGenerator(sam, FEW_POINTS, threads=2).attempt_many(images)
    next(results)
    assert taken == [0, 1, 2]
    next(results)
    assert taken == [0, 1, 2, 3]


def test_the_fast_path_alone_asks_for_another_encoder(sam: Sam, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []
    monkeypatch.setattr(generator, "cpu_encoder", lambda model: asked.append(model) or model.image_encoder)
    MaskGenerator(sam, reference(), exact_reference=True)
    assert asked == []
    MaskGenerator(sam, reference())
    assert asked == [sam]
