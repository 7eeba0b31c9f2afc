"""Prediction on a photograph against `SamPredictor` of the released code, original sizes and crops included."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from sam_core.model.sam import Sam
from sam_core.predict import ImageEmbedding, Prompts, decode, encode
from sam_core.presets import SamConfig, at_image_size, vit_n, vit_test
from tests.sam_core.model.reference import assert_close, prompts_of_every_kind, same_models

KINDS = tuple(prompts_of_every_kind(vit_test(), n=1))


def config_of_256_px() -> SamConfig:
    """Large enough that resizing and padding are real work."""
    config = at_image_size(vit_test(), 256)
    return replace(config, image_encoder=replace(config.image_encoder, window_size=7))


def prompts_in_image(kind: str, shape: tuple[int, ...], *, n: int) -> Prompts:
    """Random prompts of this kind in the original frame."""
    low = config_of_256_px().low_res_size
    prompts = prompts_of_every_kind(vit_test(), n=n)[kind]
    scale = torch.tensor([shape[1], shape[0]]) / 64
    return Prompts(
        points=None if prompts.points is None else prompts.points * scale,
        labels=prompts.labels,
        boxes=None if prompts.boxes is None else prompts.boxes * scale.repeat(2),
        mask_logits=None if prompts.mask_logits is None else torch.randn(n, 1, low, low) * 8,
    )


def released_predictor(released, image):
    from segment_anything import SamPredictor

    predictor = SamPredictor(released)
    predictor.set_image(image)
    return predictor


def released_prediction(predictor, prompts, *, multimask):
    """Upscaled logits, predicted IoU and low-resolution logits for prompts in the frame of the predictor's image."""
    transform, size = predictor.transform, predictor.original_size
    return predictor.predict_torch(
        None if prompts.points is None else transform.apply_coords_torch(prompts.points, size),
        prompts.labels,
        None if prompts.boxes is None else transform.apply_boxes_torch(prompts.boxes, size),
        prompts.mask_logits,
        multimask_output=multimask,
        return_logits=True,
    )


def views(photo):
    """The photograph lying, standing, square, and smaller than the model input."""
    return {
        "landscape": photo,
        "portrait": np.ascontiguousarray(photo.transpose(1, 0, 2)),
        "square": np.ascontiguousarray(photo[:, 50:350]),
        "small": np.ascontiguousarray(photo[100:140, 100:190]),
    }


@pytest.mark.parametrize("view", ["landscape", "portrait", "square", "small"])
@pytest.mark.parametrize("kind", KINDS)
def test_masks_of_a_photograph_are_the_released_ones(photo, kind, view):
    released, ours = same_models(config_of_256_px())
    image = views(photo)[view]
    prompts = prompts_in_image(kind, image.shape, n=3)
    masks, iou, low_res = released_prediction(released_predictor(released, image), prompts, multimask=True)
    batch = decode(ours, encode(ours, [image]), prompts)
    assert batch.frame.crop_size == image.shape[:2]
    assert_close(batch.logits, low_res)
    assert_close(batch.iou, iou)
    near_the_threshold = masks.abs() < 1e-4
    assert ((batch.masks() == (masks > 0)) | near_the_threshold).all()
    assert near_the_threshold.float().mean() < 1e-3


@pytest.mark.parametrize("kind", ["click", "box, points and mask"])
def test_a_crop_is_predicted_as_if_it_were_an_image(photo, kind):
    released, ours = same_models(config_of_256_px())
    x0, y0, x1, y1 = box = (40, 30, 240, 290)
    crop = np.ascontiguousarray(photo[y0:y1, x0:x1])
    inside = prompts_in_image(kind, crop.shape, n=2)
    corner = torch.tensor([x0, y0])
    in_original = Prompts(
        inside.points + corner,
        inside.labels,
        None if inside.boxes is None else inside.boxes + corner.repeat(2),
        inside.mask_logits,
    )
    _, iou, low_res = released_prediction(released_predictor(released, crop), inside, multimask=False)
    batch = decode(ours, encode(ours, [photo], crop_boxes=[box]), in_original, multimask=False)
    assert batch.masks().shape == (2, 1, 260, 200)
    assert_close(batch.logits, low_res)
    assert_close(batch.iou, iou)


def test_images_of_different_sizes_share_a_batch(photo):
    sam = Sam(vit_test()).eval()
    images = [photo, np.ascontiguousarray(photo.transpose(1, 0, 2)), photo]
    boxes = [(0, 0, 451, 300), (0, 0, 300, 451), (10, 20, 60, 90)]
    together = encode(sam, images, crop_boxes=boxes)
    prompts = prompts_in_image("click", (90, 60), n=2)
    for i, (image, box) in enumerate(zip(images, boxes, strict=True)):
        alone = encode(sam, [image], crop_boxes=[box])
        assert together.frames[i] == alone.frames[0]
        expected, actual = decode(sam, alone, prompts), decode(sam, together, prompts, image=i)
        assert_close(actual.logits, expected.logits, tolerance=1e-5)
        assert_close(actual.iou, expected.iou, tolerance=1e-5)


def test_prediction_records_no_gradients_and_leaves_no_trace(photo):
    sam = Sam(vit_test()).eval()
    embedding = encode(sam, [photo])
    prompts = Prompts(boxes=torch.tensor([[10.0, 20.0, 200.0, 250.0]]))
    first = decode(sam, embedding, prompts)
    encode(sam, [photo[::2]])
    assert torch.equal(decode(sam, embedding, prompts).logits, first.logits)
    assert not embedding.features.embedding.requires_grad
    assert not first.logits.requires_grad


def test_vit_n_predicts_on_crops_with_fine_features(photo):
    sam = Sam(at_image_size(vit_n(), 128)).eval()
    embedding = encode(sam, [photo, photo], crop_boxes=[(0, 0, 451, 300), (0, 0, 100, 100)])
    batch = decode(sam, embedding, Prompts(torch.tensor([[[50.0, 50.0]]]), torch.tensor([[1]])), image=1)
    assert batch.masks().shape == (1, 3, 100, 100)


def test_images_that_cannot_be_encoded_are_refused(photo):
    sam = Sam(vit_test())
    with pytest.raises(ValueError, match="no image to encode"):
        encode(sam, [])
    with pytest.raises(ValueError, match="2 images need as many crop boxes, not 1"):
        encode(sam, [photo, photo], crop_boxes=[(0, 0, 10, 10)])
    with pytest.raises(ValueError, match="does not lie in an image"):
        encode(sam, [photo], crop_boxes=[(0, 0, 10_000, 10)])
    with pytest.raises(ValueError, match="expected a uint8 RGB image"):
        encode(sam, [photo[..., 0]])


@pytest.mark.parametrize(
    ("prompts", "complaint"),
    [
        (Prompts(torch.zeros(1, 1, 2), torch.tensor([[2]])), "labels of points are 1"),
        (Prompts(torch.zeros(1, 1, 2), torch.tensor([[0.5]])), "labels of points are 1"),
        (Prompts(torch.full((1, 1, 2), torch.nan), torch.tensor([[1]])), "must be finite"),
        (Prompts(boxes=torch.tensor([[0, 0, torch.inf, 1]])), "must be finite"),
        (Prompts(boxes=torch.tensor([[9.0, 0, 4, 5]])), "x0, y0, x1, y1"),
        (Prompts(mask_logits=torch.zeros(1, 1, 32, 32)), r"mask logits for this model are 16x16, not \[32, 32\]"),
    ],
)
def test_prompts_that_do_not_fit_the_model_are_refused(photo, prompts, complaint):
    sam = Sam(vit_test())
    with pytest.raises(ValueError, match=complaint):
        decode(sam, encode(sam, [photo]), prompts)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16])
def test_mask_logits_may_be_of_any_floating_type(photo, dtype):
    sam = Sam(vit_test())
    embedding = encode(sam, [photo])
    logits = torch.linspace(-4, 4, 256).reshape(1, 1, 16, 16).to(dtype)
    given = decode(sam, embedding, Prompts(mask_logits=logits))
    assert torch.equal(given.logits, decode(sam, embedding, Prompts(mask_logits=logits.float())).logits)


def test_a_crop_box_may_be_a_list_or_a_row_of_an_array(photo):
    sam, boxes = Sam(vit_test()), [(1, 2, 31, 42)]
    frames = encode(sam, [photo], crop_boxes=boxes).frames
    for other in (np.array(boxes), [list(boxes[0])]):
        assert encode(sam, [photo], crop_boxes=other).frames == frames


@pytest.mark.parametrize("image", [-1, 1])
def test_an_image_outside_the_embedding_is_refused(photo, image):
    sam = Sam(vit_test())
    with pytest.raises(ValueError, match=f"there is no image {image} in an embedding of 1"):
        decode(sam, encode(sam, [photo]), Prompts(boxes=torch.zeros(1, 4)), image=image)


def test_an_embedding_has_a_frame_per_image(photo):
    embedding = encode(Sam(vit_test()), [photo, photo])
    with pytest.raises(ValueError, match="2 embedded images have 1 frames"):
        ImageEmbedding(embedding.features, embedding.frames[:1])
