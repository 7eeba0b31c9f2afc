"""The click protocol against a version that takes one mask at a time and searches every pixel; and its rules."""

from dataclasses import astuple

import numpy as np
import numpy.typing as npt
import pytest
import torch
from pycocotools import mask as coco

from sam_core import geometry
from sam_core.masks.batch import MaskBatch
from sam_core.masks.packed import PackedMasks
from sam_core.metrics import single_point
from sam_core.metrics.single_point import Sample, evaluate_clicks, join, score_sample, summarise
from sam_core.model.sam import Sam
from sam_core.predict import ImageEmbedding, Prompts, decode, encode
from sam_core.presets import vit_test
from tests.sam_core.metrics.test_clicks import slow_deepest

Mask = npt.NDArray[np.bool_]


@pytest.fixture(scope="module")
def sam() -> Sam:
    torch.manual_seed(3)
    return Sam(vit_test()).eval()


def sample(seed: int, masks: int = 3) -> Sample:
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 256, (22, 30, 3), np.uint8)
    truth = np.zeros((masks, 22, 30), np.bool_)
    for mask in truth:
        top, left, height, width = rng.integers(0, 10), rng.integers(0, 15), rng.integers(5, 12), rng.integers(5, 15)
        mask[top : top + height, left : left + width] = True
    return Sample(image, PackedMasks.of(truth))


def coco_iou(one: Mask, other: Mask) -> float:
    rle = [coco.encode(np.asfortranarray(mask.astype(np.uint8))) for mask in (one, other)]
    return float(coco.iou(rle[:1], rle[1:], [0])[0, 0])


def slow_click(prediction: Mask, truth: Mask) -> tuple[float, float, int]:
    misses, surplus = slow_deepest(truth & ~prediction), slow_deepest(prediction & ~truth)
    x, y, depth = max(misses, surplus, key=lambda place: place[2])
    return x, y, int(truth[y, x]) if depth else -1


def slow_scores(sam: Sam, embedding: ImageEmbedding, truth: Mask, last: int) -> list[tuple[float, float]]:
    """Most confident and oracle IoU after each click."""
    clicks = [slow_click(np.zeros_like(truth), truth)]
    logits, scores = None, []
    for count in range(1, last + 1):
        points = torch.tensor([[click[:2] for click in clicks]], dtype=torch.float32)
        prompts = Prompts(points=points, labels=torch.tensor([[c[2] for c in clicks]]), mask_logits=logits)
        three = decode(sam, embedding, prompts, multimask=True)
        given = three if count == 1 else decode(sam, embedding, prompts, multimask=False)
        best = int(given.iou[0].argmax())
        prediction = given.masks()[0, best].numpy()
        candidates = [coco_iou(mask, truth) for mask in [*three.masks()[0].numpy(), *given.masks()[0].numpy()]]
        scores.append((coco_iou(prediction, truth), max(candidates)))
        clicks.append(slow_click(prediction, truth))
        logits = given.logits[:, best : best + 1]
    return scores


@pytest.mark.parametrize("seed", range(3))
def test_agrees_with_one_mask_at_a_time(sam: Sam, seed: int) -> None:
    example = sample(seed)
    found = score_sample(sam, example, clicks=(1, 2, 4), prompts_per_batch=2)
    with torch.inference_mode():
        embedding = encode(sam, [example.image])
        expected = np.array([slow_scores(sam, embedding, mask, last=4) for mask in example.masks])
    np.testing.assert_allclose(found.chosen, expected[:, [0, 1, 3], 0], atol=1e-6)
    np.testing.assert_allclose(found.oracle, expected[:, [0, 1, 3], 1], atol=1e-6)


def test_box_scores_are_those_of_tight_boxes(sam: Sam) -> None:
    example = sample(5, masks=1)
    rows, columns = np.nonzero(example.masks.dense()[0])
    box = torch.tensor([[columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]], dtype=torch.float32)
    batch = decode(sam, encode(sam, [example.image]), Prompts(boxes=box))
    ious = [coco_iou(mask, example.masks.dense()[0]) for mask in batch.masks()[0].numpy()]
    found = score_sample(sam, example, clicks=(1,))
    assert found.box[0] == pytest.approx(ious[int(batch.iou.argmax())])
    assert found.box_oracle[0] == pytest.approx(max(ious))


def test_previous_logits_and_every_click_are_prompts_of_the_next(sam: Sam, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[Prompts, bool, MaskBatch]] = []

    def spied(sam: Sam, embedding: ImageEmbedding, prompts: Prompts, *, multimask: bool) -> MaskBatch:
        seen.append((prompts, multimask, decode(sam, embedding, prompts, multimask=multimask)))
        return seen[-1][2]

    monkeypatch.setattr(single_point, "decode", spied)
    example = sample(1, masks=2)
    score_sample(sam, example, clicks=(1, 3))
    (box, *_), (first, first_multi, answer), (second, second_multi, _), (third, *_), (wide, wide_multi, _) = seen
    assert box.boxes is not None
    assert (first.mask_logits, first_multi, second_multi, wide_multi) == (None, True, False, True)
    assert wide is third
    assert third.points is not None
    assert third.points.shape == (2, 3, 2)
    assert first.points is not None
    torch.testing.assert_close(third.points[:, :1], first.points)
    each = torch.arange(2)
    torch.testing.assert_close(second.mask_logits, answer.logits[each, answer.iou.argmax(1)][:, None])


def test_summary_is_the_mean_over_masks_of_all_images(sam: Sam) -> None:
    examples = [sample(0, masks=1), sample(1, masks=4)]
    scores = join([score_sample(sam, example, clicks=(1, 2)) for example in examples])
    found = evaluate_clicks(sam, examples, clicks=(1, 2))
    assert found == summarise(scores, (1, 2))
    assert (found.masks, found.clicks) == (5, (1, 2))
    assert found.miou == pytest.approx(scores.chosen.mean(0).tolist())
    assert found.iou_correlation == pytest.approx(
        np.corrcoef(scores.first_predicted.ravel(), scores.first_real.ravel())[0, 1]
    )
    assert found.iou_bias == pytest.approx((scores.first_predicted - scores.first_real).mean())
    assert all(oracle >= chosen for oracle, chosen in zip(found.oracle_miou, found.miou, strict=True))


def test_selected_scores_keep_their_rows(sam: Sam) -> None:
    scores = score_sample(sam, sample(2, masks=4), clicks=(1,))
    kept = scores.select(np.array([True, False, True, False]))
    assert len(kept) == 2
    for column, original in zip(astuple(kept), astuple(scores), strict=True):
        np.testing.assert_array_equal(column, original[::2])


def test_the_model_keeps_its_mode(sam: Sam) -> None:
    sam.train()
    evaluate_clicks(sam, [sample(0)], clicks=(1,))
    assert sam.training
    sam.eval()
    evaluate_clicks(sam, [sample(0)], clicks=(1,))
    assert not sam.training


def test_refusals(sam: Sam) -> None:
    example = sample(0)
    nothing = Sample(example.image, example.masks[:0])
    with pytest.raises(ValueError, match="no masks to evaluate"):
        evaluate_clicks(sam, [nothing])
    empty = np.stack([example.masks.dense()[0], ~np.ones((22, 30), np.bool_)])
    with pytest.raises(ValueError, match="mask 1 of 2 is empty"):
        evaluate_clicks(sam, [Sample(example.image, PackedMasks.of(empty))])
    for counts in ((), (0, 1), (3, 1), (1, 1)):
        with pytest.raises(ValueError, match="increase from at least 1"):
            evaluate_clicks(sam, [example], clicks=counts)
    with pytest.raises(ValueError, match=r"masks of \(30, 22\) px \(h, w\) for an image of \(22, 30\) px"):
        Sample(example.image, PackedMasks.of(example.masks.dense().transpose(0, 2, 1)))
    with pytest.raises(ValueError, match="not uint8"):
        Sample(example.image, PackedMasks.of(example.masks.dense().astype(np.uint8)))


def test_of_a_large_picture_fewer_masks_are_held_at_full_size(sam: Sam, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def decoded(*about: object, multimask: bool) -> MaskBatch:
        batch = decode(*about, multimask=multimask)  # type: ignore[arg-type]
        asked.append(len(batch))
        return batch

    monkeypatch.setattr(single_point, "decode", decoded)
    monkeypatch.setattr(geometry, "PIXELS_AT_ONCE", 2 * 22 * 30)
    score_sample(sam, sample(0), clicks=(1,))
    assert asked == [2, 2, 1, 1]  # boxes and clicks of two masks, then of the third
