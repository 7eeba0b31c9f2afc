"""The generator's rules, each on hand-made logits in the place of the decoder's."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from sam_core import prompting
from sam_core.generator import MaskGenerator
from sam_core.masks import rle
from sam_core.masks.batch import Generation, MaskBatch, Reason
from sam_core.model.sam import Sam
from sam_core.predict import ImageEmbedding, Prompts
from sam_core.presets import at_image_size, vit_test
from sam_core.recipes import Recipe, SmallMaskRule, reference

SIDE = 256  # of the model input, px; logits are [64, 64]
FEW_POINTS = replace(reference(), points_per_side=2)


@pytest.fixture(scope="module")
def sam() -> Sam:
    return Sam(at_image_size(vit_test(), SIDE)).eval()


def painted(monkeypatch: pytest.MonkeyPatch, masks: list[tuple[float, np.ndarray]]) -> None:
    """Decoding yields these (predicted IoU, logits [64, 64]) in turn, three per prompt, then masks of no trust."""
    queue = iter(masks)

    def decode(sam: Sam, embedding: ImageEmbedding, prompts: Prompts, *, multimask: bool) -> MaskBatch:
        assert multimask
        drawn = [next(queue, (0.0, np.zeros((64, 64)))) for _ in range(3 * len(prompts))]
        iou, logits = zip(*drawn, strict=True)
        return MaskBatch(
            torch.tensor(np.array(logits), dtype=torch.float32).unflatten(0, (-1, 3)),
            torch.tensor(iou).unflatten(0, (-1, 3)),
            embedding.frames[0],
        )

    monkeypatch.setattr(prompting, "decode", decode)


def rectangle(rows: slice, columns: slice, *, inside: float = 9.0) -> np.ndarray:
    """Logits of a rectangle, in low-resolution pixels; on a square image of SIDE px each of them covers 4 x 4 px."""
    logits = np.full((64, 64), -9.0)
    logits[rows, columns] = inside
    return logits


def generate(sam: Sam, recipe: Recipe, *, side: int = SIDE) -> Generation:
    return MaskGenerator(sam, recipe, exact_reference=True).generate(np.zeros((side, side, 3), np.uint8))


def reasons(generation: Generation) -> dict[str, int]:
    """Rejections by reason, without those of predicted IoU, which the untrusted fill-up masks share."""
    counts = generation.rejections.counts()
    return {reason.value: n for reason, n in counts.items() if n and reason is not Reason.IOU}


def test_a_good_mask_is_kept_with_all_that_is_known_of_it(sam: Sam, monkeypatch: pytest.MonkeyPatch) -> None:
    painted(monkeypatch, [(0.1, rectangle(slice(64), slice(64))), (0.9, rectangle(slice(10, 20), slice(30, 50)))])
    generation = generate(sam, FEW_POINTS)
    masks = generation.masks
    assert len(masks) == 1
    assert masks.boxes.tolist() == [[120, 40, 80, 40]]
    assert masks.areas.tolist() == [rle.area(masks.rle[0])]
    assert 80 * 40 - 16 <= masks.areas[0] <= 80 * 40
    assert masks.predicted_iou.tolist() == [np.float32(0.9)]
    assert masks.stability_score[0] > 0.95
    assert masks.points.tolist() == [[64.0, 64.0]]
    assert masks.crop_boxes.tolist() == [[0, 0, 256, 256]]
    assert generation.candidates == 4 * 3
    assert generation.rejections.counts()[Reason.IOU] == 11


def test_predicted_iou(sam: Sam, monkeypatch: pytest.MonkeyPatch) -> None:
    mask = rectangle(slice(10, 20), slice(30, 50))
    painted(monkeypatch, [(0.88, mask), (0.8801, mask)])
    generation = generate(sam, FEW_POINTS)
    assert generation.masks.predicted_iou.tolist() == [np.float32(0.8801)]
    first = generation.rejections
    assert (first.output[0], first.predicted_iou[0]) == (0, np.float32(0.88))
    assert np.isnan(first.stability_score).all()


def test_stability(sam: Sam, monkeypatch: pytest.MonkeyPatch) -> None:
    """A faint mask loses most of its area at +1."""
    painted(monkeypatch, [(0.9, rectangle(slice(10, 20), slice(30, 50), inside=0.9)), (0.9, np.full((64, 64), -9.0))])
    generation = generate(sam, FEW_POINTS)
    assert len(generation.masks) == 0
    assert reasons(generation) == {"stability": 2}
    assert generation.rejections.stability_score[-2:].tolist() == [0.0, 0.0]


def test_box_at_crop_edge(sam: Sam, monkeypatch: pytest.MonkeyPatch) -> None:
    """Twelve untrusted masks of the whole image, then one in the first crop that reaches its right border."""
    nothing = (0.0, np.zeros((64, 64)))
    cut, uncut = rectangle(slice(10, 40), slice(30, 64)), rectangle(slice(10, 40), slice(0, 34))
    painted(monkeypatch, [nothing] * 12 + [(0.9, cut), (0.9, uncut)])
    generation = generate(sam, replace(FEW_POINTS, crop_layers=1))
    assert reasons(generation) == {"box_at_crop_edge": 1}
    assert generation.masks.boxes[0, 0] == 0
    assert generation.masks.crop_boxes[0].tolist() == [0, 0, 172, 172]


def test_area(sam: Sam, monkeypatch: pytest.MonkeyPatch) -> None:
    everything = (0.9, rectangle(slice(64), slice(64)))
    painted(monkeypatch, [everything])
    assert reasons(generate(sam, replace(FEW_POINTS, full_image_fraction=0.95))) == {"area": 1}
    painted(monkeypatch, [everything])
    assert generate(sam, FEW_POINTS).masks.areas.tolist() == [SIDE * SIDE]


def test_nms_in_crop_keeps_the_most_confident(sam: Sam, monkeypatch: pytest.MonkeyPatch) -> None:
    near = [(0.90, rectangle(slice(10, 30), slice(10, 30))), (0.95, rectangle(slice(10, 30), slice(10, 31)))]
    apart = [(0.92, rectangle(slice(40, 60), slice(10, 30)))]
    painted(monkeypatch, near + apart)
    generation = generate(sam, FEW_POINTS)
    assert generation.masks.predicted_iou.tolist() == np.float32([0.95, 0.92]).tolist()
    assert reasons(generation) == {"nms_in_crop": 1}


def test_nms_across_crops_prefers_the_smaller_crop(sam: Sam, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same 40 x 40 px at (40, 40): found in the whole image, and less confidently in the first crop of 172 px."""
    nothing = (0.0, np.zeros((64, 64)))
    whole = (0.99, rectangle(slice(10, 20), slice(10, 20)))
    crop = (0.90, rectangle(slice(15, 30), slice(15, 30)))
    painted(monkeypatch, [whole] + [nothing] * 11 + [crop])
    generation = generate(sam, replace(FEW_POINTS, crop_layers=1))
    assert generation.masks.predicted_iou.tolist() == [np.float32(0.90)]
    assert reasons(generation) == {"nms_across_crops": 1}
    assert generation.rejections.predicted_iou[-1] == np.float32(0.99)


def speckled() -> np.ndarray:
    """A rectangle with a small part of 8 x 8 px beside it."""
    logits = rectangle(slice(10, 30), slice(10, 30))
    logits[40:42, 40:42] = 9.0
    return logits


def test_small_parts_are_removed_and_boxes_follow(sam: Sam, monkeypatch: pytest.MonkeyPatch) -> None:
    painted(monkeypatch, [(0.9, speckled())])
    generation = generate(sam, replace(FEW_POINTS, min_region_area=100))
    assert generation.masks.boxes.tolist() == [[40, 40, 80, 80]]
    assert rle.area(generation.masks.rle[0]) == generation.masks.areas[0] <= 80 * 80


def test_of_masks_alike_after_cleaning_the_untouched_stays(sam: Sam, monkeypatch: pytest.MonkeyPatch) -> None:
    painted(monkeypatch, [(0.95, speckled()), (0.90, rectangle(slice(10, 30), slice(10, 30)))])
    generation = generate(sam, replace(FEW_POINTS, min_region_area=100))
    assert generation.masks.predicted_iou.tolist() == [np.float32(0.90)]
    assert reasons(generation) == {"small_region": 1}


def test_masks_count_as_alike_after_cleaning_by_the_larger_of_both_thresholds(
    sam: Sam, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in the released code; the boxes of these have an IoU of 0.5."""
    painted(
        monkeypatch,
        [(0.95, rectangle(slice(10, 30), slice(10, 30))), (0.90, rectangle(slice(10, 20), slice(10, 30)))],
    )
    generation = generate(sam, replace(FEW_POINTS, min_region_area=100, nms_iou=0.7, crop_nms_iou=0.3))
    assert len(generation.masks) == 2


@pytest.mark.parametrize(("rule", "kept"), [(SmallMaskRule.KEEP_LARGEST, 1), (SmallMaskRule.DROP, 0)])
def test_a_mask_of_small_parts_only(sam: Sam, monkeypatch: pytest.MonkeyPatch, rule: SmallMaskRule, kept: int) -> None:
    painted(monkeypatch, [(0.9, rectangle(slice(10, 12), slice(10, 12)))])
    recipe = replace(FEW_POINTS, min_stability_score=0.5, min_region_area=100, small_masks=rule)
    generation = generate(sam, recipe)
    assert len(generation.masks) == kept
    assert reasons(generation) == ({} if kept else {"small_region": 1})
